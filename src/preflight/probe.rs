use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::PreflightFault;
use crate::dns::Dns;
use crate::protocol::Identifier;
use crate::solver::Presentation;
use crate::solver::special_address::is_special;
#[cfg(feature = "http-01")]
use crate::solver::{SelfCheck, SelfCheckError};

/// What is looked at beside the solver.
pub(super) enum Probe {
    /// The solver tells enough.
    Nothing,
    /// What the solver presented is fetched.
    #[cfg(feature = "http-01")]
    Answer(SelfCheck),
    /// Whether a port takes connections.
    Port(Port),
}

impl Probe {
    pub(super) async fn of_presented(&self, presentation: &Presentation) -> Vec<PreflightFault> {
        match self {
            Self::Nothing => Vec::new(),
            #[cfg(feature = "http-01")]
            Self::Answer(check) => match check.check(presentation).await {
                Ok(()) => Vec::new(),
                Err(SelfCheckError::Failed { failures, .. }) => failures
                    .into_iter()
                    .map(|failure| PreflightFault::Http01(Box::new(failure)))
                    .collect(),
                Err(other) => vec![PreflightFault::Wait(other.into())],
            },
            Self::Port(port) => port.at(presentation.identifier()).await,
        }
    }
}

/// A port, of all addresses that an identifier has.
pub(super) struct Port {
    pub(super) number: u16,
    pub(super) dns: Dns,
    pub(super) allow_private_addresses: bool,
}

impl Port {
    pub(super) async fn at(&self, identifier: &Identifier) -> Vec<PreflightFault> {
        let addresses = match identifier {
            Identifier::Dns(name) => match self.dns.addresses(name.base()).await {
                Ok(addresses) if addresses.is_empty() => return vec![PreflightFault::NoAddress],
                Ok(addresses) => addresses,
                Err(error) => return vec![PreflightFault::Lookup(error)],
            },
            Identifier::Ip(address) => vec![*address],
            Identifier::Other(_) => return Vec::new(),
        };
        let has_v4 = addresses.iter().any(IpAddr::is_ipv4);
        let attempts = addresses.into_iter().map(|address| async move {
            match is_special(address) && !self.allow_private_addresses {
                true => Some(PreflightFault::SpecialAddress(address)),
                false => connect(SocketAddr::new(address, self.number), has_v4).await,
            }
        });
        join_all(attempts).await.into_iter().flatten().collect()
    }
}

/// Why a port does not take connections, if it does not.
async fn connect(address: SocketAddr, has_v4: bool) -> Option<PreflightFault> {
    let source = match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(_)) => return None,
        Ok(Err(source)) => source,
        Err(_) => io::Error::from(io::ErrorKind::TimedOut),
    };
    let no_route = matches!(
        source.kind(),
        io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::Unsupported
    );
    Some(match address.is_ipv6() && no_route {
        true => PreflightFault::NotAsked { address, source },
        false => PreflightFault::Connect {
            address,
            source,
            has_v4: has_v4 && address.is_ipv6(),
        },
    })
}

/// As long as Let's Encrypt's validation waits for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
