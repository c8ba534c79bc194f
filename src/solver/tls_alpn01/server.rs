use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::{TlsAlpn01Resolver, TlsAlpn01SetupError};
use crate::error::BoxError;
use crate::protocol::{ChallengeType, Identifier};
use crate::solver::listeners::{self, ListenFault, Listening};
use crate::solver::{ChallengeSolver, Presentation};

/// Solves tls-alpn-01 (RFC 8737) with a TLS server of its own.
///
/// The CA connects to port 443 of the name or address that it validates, over IPv6 first where the
/// name has an AAAA record. So a server that is not behind something that forwards port 443 to it
/// belongs on port 443, of both IP versions: that is [`on_port(443)`](Self::on_port). What forwards
/// must pass TLS on as it is, as a load balancer for TCP does.
///
/// A program whose users come to port 443 too has [`TlsAlpn01Resolver`] answer in its own server.
///
/// It speaks TLS 1.2 and 1.3 and the protocol `acme-tls/1` only, and closes each connection after
/// the handshake. A handshake fails for a name that is not being validated, and for every client
/// that is no CA. Slow clients and many connections are bounded.
///
/// The server runs in tasks of the tokio runtime in which it was made, and ends when its last clone
/// is dropped, or by [`shut_down`](Self::shut_down).
///
/// ```no_run
/// # async fn example() -> Result<(), certwright::solver::TlsAlpn01BindError> {
/// use certwright::solver::TlsAlpn01Server;
///
/// let solver = TlsAlpn01Server::on_port(443).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TlsAlpn01Server {
    resolver: TlsAlpn01Resolver,
    listening: Arc<Listening>,
}

impl TlsAlpn01Server {
    /// Listens on every address to which the argument resolves.
    ///
    /// `[::]:443` stands for all IPv6 interfaces only, unlike in servers that take IPv4 connections
    /// there as well: so the same address means the same on every system, and goes together with
    /// `0.0.0.0:443`. [`on_port`](Self::on_port) listens on both.
    ///
    /// With port 0 the system chooses a port, one for all of the addresses;
    /// [`local_addrs`](Self::local_addrs) tells which.
    ///
    /// # Errors
    ///
    /// Fails, and listens on none, if the argument cannot be resolved or if one of the addresses
    /// cannot be listened on; or if there is no rustls crypto provider.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), certwright::solver::TlsAlpn01BindError> {
    /// use certwright::solver::TlsAlpn01Server;
    ///
    /// // A load balancer in front forwards the connections of the CA to this port.
    /// let solver = TlsAlpn01Server::bind("127.0.0.1:0").await?;
    /// println!("listening on {:?}", solver.local_addrs());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn bind(addresses: impl ToSocketAddrs) -> Result<Self, TlsAlpn01BindError> {
        Self::serve(listeners::bind(addresses).await?)
    }

    /// Listens on a port of all interfaces, IPv4 and IPv6.
    ///
    /// Where the system lacks one of the two, the other is enough. Port 0 is as for
    /// [`bind`](Self::bind).
    ///
    /// # Errors
    ///
    /// Fails if the port cannot be listened on, of either IP version; or if there is no rustls crypto
    /// provider.
    pub async fn on_port(port: u16) -> Result<Self, TlsAlpn01BindError> {
        Self::serve(listeners::on_port(port)?)
    }

    /// Serves on sockets that listen already, such as those that systemd or another parent process
    /// opened for a program that may not open port 443 itself.
    ///
    /// # Errors
    ///
    /// Fails if there is none, or if one cannot be used: a socket that does not listen, most
    /// likely; or if there is no rustls crypto provider.
    pub async fn from_listeners(
        listeners: impl IntoIterator<Item = std::net::TcpListener>,
    ) -> Result<Self, TlsAlpn01BindError> {
        Self::serve(listeners.into_iter().collect())
    }

    /// The addresses on which it listens, in the order of the resolution; of
    /// [`on_port`](Self::on_port), IPv6 first.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        self.listening.local_addrs()
    }

    /// What answers the handshakes.
    ///
    /// It can answer in other servers, too. The server ends without regard to it.
    pub fn resolver(&self) -> &TlsAlpn01Resolver {
        &self.resolver
    }

    /// Stops the server, of all of its clones, and returns when its ports are free again.
    ///
    /// Dropping the last clone stops it as well, but a moment later.
    pub async fn shut_down(&self) {
        self.listening.shut_down().await;
    }

    fn serve(listeners: Vec<std::net::TcpListener>) -> Result<Self, TlsAlpn01BindError> {
        let resolver = TlsAlpn01Resolver::default();
        let acceptor = TlsAcceptor::from(resolver.challenge_config()?);
        let listening = Listening::start(ChallengeType::TlsAlpn01, listeners, move |stream| {
            serve_connection(stream, acceptor.clone())
        })?;
        Ok(Self {
            resolver,
            listening: Arc::new(listening),
        })
    }
}

#[async_trait]
impl ChallengeSolver for TlsAlpn01Server {
    fn can_solve(&self, identifier: &Identifier, challenge_type: &ChallengeType) -> bool {
        self.resolver.can_solve(identifier, challenge_type)
    }

    async fn present(&self, presentation: &Presentation) -> Result<(), BoxError> {
        self.resolver.present(presentation).await
    }

    async fn clean_up(&self, presentation: &Presentation) -> Result<(), BoxError> {
        self.resolver.clean_up(presentation).await
    }
}

/// Why [`TlsAlpn01Server`] could not listen.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsAlpn01BindError {
    /// An address cannot be listened on.
    #[error(
        "cannot listen on {address} for tls-alpn-01: {source}{}",
        listen_hint(address, source)
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// There is nothing to listen on.
    #[error("there is no address to listen on for tls-alpn-01")]
    NoAddress,
    /// A socket cannot be used in this runtime.
    #[error("a listening socket for tls-alpn-01 cannot be used: {0}")]
    Register(#[source] io::Error),
    /// What was given for an address cannot be resolved to any.
    #[error("cannot resolve the address to listen on for tls-alpn-01: {0}")]
    Resolve(#[source] io::Error),
    /// TLS cannot be spoken.
    #[error(transparent)]
    Setup(#[from] TlsAlpn01SetupError),
}

impl From<ListenFault> for TlsAlpn01BindError {
    fn from(fault: ListenFault) -> Self {
        match fault {
            ListenFault::Listen { address, source } => Self::Listen { address, source },
            ListenFault::NoAddress => Self::NoAddress,
            ListenFault::Register(source) => Self::Register(source),
            ListenFault::Resolve(source) => Self::Resolve(source),
        }
    }
}

fn listen_hint(address: &SocketAddr, source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            "; if this program's own TLS server listens there, let a TlsAlpn01Resolver answer in it"
        }
        _ => listeners::hint(address, source),
    }
}

async fn serve_connection(stream: TcpStream, acceptor: TlsAcceptor) {
    // RFC 8737 §3: after the handshake, nothing is exchanged.
    let outcome = match acceptor.accept(stream).await {
        Ok(mut stream) => stream.shutdown().await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => debug!("tls-alpn-01 handshake done"),
        Err(error) => debug!(%error, "tls-alpn-01 handshake failed"),
    }
}
