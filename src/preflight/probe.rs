use std::io;
use std::net::{IpAddr, SocketAddr};
#[cfg(feature = "tls-alpn-01")]
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
#[cfg(feature = "tls-alpn-01")]
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
#[cfg(feature = "tls-alpn-01")]
use tokio_rustls::TlsConnector;

use super::PreflightFault;
#[cfg(feature = "tls-alpn-01")]
use super::fault::TlsAlpn01Fault;
use crate::dns::Dns;
use crate::protocol::Identifier;
use crate::solver::Presentation;
use crate::solver::special_address::is_special;
#[cfg(feature = "http-01")]
use crate::solver::{SelfCheck, SelfCheckError};
#[cfg(feature = "tls-alpn-01")]
use crate::solver::{TlsAlpn01Resolver, unverified_tls::unverified};
#[cfg(feature = "tls-alpn-01")]
use crate::x509::AcmeCertificate;

/// What is looked at beside the solver.
pub(super) enum Probe {
    /// The solver tells enough.
    Nothing,
    /// What the solver presented is fetched.
    #[cfg(feature = "http-01")]
    Answer(SelfCheck),
    /// The certificate that the solver presented is asked for.
    #[cfg(feature = "tls-alpn-01")]
    Certificate(Port),
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
            #[cfg(feature = "tls-alpn-01")]
            Self::Certificate(port) => port.certificates(presentation).await,
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
    /// Whether it takes connections.
    pub(super) async fn at(&self, identifier: &Identifier) -> Vec<PreflightFault> {
        let results = self.connections(identifier).await.into_iter();
        results.filter_map(Result::err).collect()
    }

    /// Whether it has the certificate for tls-alpn-01 (RFC 8737 §3).
    #[cfg(feature = "tls-alpn-01")]
    async fn certificates(&self, presentation: &Presentation) -> Vec<PreflightFault> {
        let results = self.connections(presentation.identifier()).await;
        let questions = results.into_iter().map(|result| async move {
            match result {
                Ok((address, stream)) => certificate(stream, presentation)
                    .await
                    .err()
                    .map(|fault| PreflightFault::TlsAlpn01 { address, fault }),
                Err(fault) => Some(fault),
            }
        });
        join_all(questions).await.into_iter().flatten().collect()
    }

    /// A connection to each address, made side by side.
    async fn connections(
        &self,
        identifier: &Identifier,
    ) -> Vec<Result<(SocketAddr, TcpStream), PreflightFault>> {
        let addresses = match identifier {
            Identifier::Dns(name) => match self.dns.addresses(name.base()).await {
                Ok(addresses) if addresses.is_empty() => {
                    return vec![Err(PreflightFault::NoAddress)];
                }
                Ok(addresses) => addresses,
                Err(error) => return vec![Err(PreflightFault::Lookup(error))],
            },
            Identifier::Ip(address) => vec![*address],
            Identifier::Other(_) => return Vec::new(),
        };
        let has_v4 = addresses.iter().any(IpAddr::is_ipv4);
        let attempts = addresses.into_iter().map(|address| async move {
            if is_special(address) && !self.allow_private_addresses {
                return Err(PreflightFault::SpecialAddress(address));
            }
            let address = SocketAddr::new(address, self.number);
            Ok((address, connect(address, has_v4).await?))
        });
        join_all(attempts).await
    }
}

async fn connect(address: SocketAddr, has_v4: bool) -> Result<TcpStream, PreflightFault> {
    let source = match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => return Ok(stream),
        Ok(Err(source)) => source,
        Err(_) => io::Error::from(io::ErrorKind::TimedOut),
    };
    let no_route = matches!(
        source.kind(),
        io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::Unsupported
    );
    Err(match address.is_ipv6() && no_route {
        true => PreflightFault::NotAsked { address, source },
        false => PreflightFault::Connect {
            address,
            source,
            has_v4: has_v4 && address.is_ipv6(),
        },
    })
}

/// Asks for the certificate as the CA does.
#[cfg(feature = "tls-alpn-01")]
async fn certificate(stream: TcpStream, presentation: &Presentation) -> Result<(), TlsAlpn01Fault> {
    let identifier = presentation.identifier();
    let handshake = |error: io::Error| TlsAlpn01Fault::Handshake(error);
    let mut config = unverified()
        .ok_or(TlsAlpn01Fault::NoCryptoProvider)?
        .map_err(|error| handshake(io::Error::other(error)))?;
    config.alpn_protocols = vec![TlsAlpn01Resolver::PROTOCOL.to_vec()];
    let name = AcmeCertificate::server_name(identifier).unwrap_or_default();
    let name = ServerName::try_from(name).map_err(|error| handshake(io::Error::other(error)))?;
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let stream = match timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(result) => result.map_err(handshake)?,
        Err(_) => return Err(handshake(io::ErrorKind::TimedOut.into())),
    };
    let (_, session) = stream.get_ref();
    if session.alpn_protocol() != Some(TlsAlpn01Resolver::PROTOCOL) {
        return Err(TlsAlpn01Fault::OtherProtocol);
    }
    let certificates = session.peer_certificates().unwrap_or_default();
    match (certificates.first(), presentation.key_authorization()) {
        (Some(certificate), Some(expected)) => {
            AcmeCertificate::check(certificate, identifier, expected)
                .map_err(|error| TlsAlpn01Fault::Certificate(error.into()))
        }
        _ => Err(TlsAlpn01Fault::OtherProtocol),
    }
}

/// As long as Let's Encrypt's validation waits for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
