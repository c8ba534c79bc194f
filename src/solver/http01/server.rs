use std::convert::Infallible;
use std::future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::{TcpStream, ToSocketAddrs};
use tracing::debug;

use super::Http01Responder;
use crate::error::BoxError;
use crate::protocol::{ChallengeType, Identifier};
use crate::solver::listeners::{self, ListenFault, Listening};
use crate::solver::{ChallengeSolver, Presentation};

/// Solves http-01 (RFC 8555 §8.3) with an HTTP server of its own.
///
/// The CA connects to port 80 of the name or address that it validates, over IPv6 first where the
/// name has an AAAA record. So a server that is not behind something that forwards port 80 to it
/// belongs on port 80, of both IP versions: that is [`on_port(80)`](Self::on_port).
///
/// It answers GET and HEAD for live tokens, each connection one request; everything else gets 404
/// or 405. Slow clients, long headers and many connections are bounded.
///
/// The server runs in tasks of the tokio runtime in which it was made, and ends when its last clone
/// is dropped, or by [`shut_down`](Self::shut_down).
///
/// ```no_run
/// # async fn example() -> Result<(), certwright::solver::Http01BindError> {
/// use certwright::solver::Http01Server;
///
/// let solver = Http01Server::on_port(80).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Http01Server {
    responder: Http01Responder,
    listening: Arc<Listening>,
}

impl Http01Server {
    /// Listens on every address to which the argument resolves.
    ///
    /// `[::]:80` stands for all IPv6 interfaces only, unlike in servers that take IPv4 connections
    /// there as well: so the same address means the same on every system, and goes together with
    /// `0.0.0.0:80`. [`on_port`](Self::on_port) listens on both.
    ///
    /// With port 0 the system chooses a port, one for all of the addresses;
    /// [`local_addrs`](Self::local_addrs) tells which.
    ///
    /// # Errors
    ///
    /// Fails, and listens on none, if the argument cannot be resolved or if one of the addresses
    /// cannot be listened on.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), certwright::solver::Http01BindError> {
    /// use certwright::solver::Http01Server;
    ///
    /// // A proxy in front forwards the requests of the CA to this port.
    /// let solver = Http01Server::bind("127.0.0.1:0").await?;
    /// println!("listening on {:?}", solver.local_addrs());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn bind(addresses: impl ToSocketAddrs) -> Result<Self, Http01BindError> {
        Ok(Self::serve(listeners::bind(addresses).await?)?)
    }

    /// Listens on a port of all interfaces, IPv4 and IPv6.
    ///
    /// Where the system lacks one of the two, the other is enough. Port 0 is as for
    /// [`bind`](Self::bind).
    ///
    /// # Errors
    ///
    /// Fails if the port cannot be listened on, of either IP version.
    pub async fn on_port(port: u16) -> Result<Self, Http01BindError> {
        Ok(Self::serve(listeners::on_port(port)?)?)
    }

    /// Serves on sockets that listen already, such as those that systemd or another parent process
    /// opened for a program that may not open port 80 itself.
    ///
    /// # Errors
    ///
    /// Fails if there is none, or if one cannot be used: a socket that does not listen, most
    /// likely.
    pub async fn from_listeners(
        listeners: impl IntoIterator<Item = std::net::TcpListener>,
    ) -> Result<Self, Http01BindError> {
        Ok(Self::serve(listeners.into_iter().collect())?)
    }

    /// The addresses on which it listens, in the order of the resolution; of
    /// [`on_port`](Self::on_port), IPv6 first.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        self.listening.local_addrs()
    }

    /// What answers the requests.
    ///
    /// It can answer in other servers, too. The server ends without regard to it.
    pub fn responder(&self) -> &Http01Responder {
        &self.responder
    }

    /// Stops the server, of all of its clones, and returns when its ports are free again.
    ///
    /// Dropping the last clone stops it as well, but a moment later.
    pub async fn shut_down(&self) {
        self.listening.shut_down().await;
    }

    fn serve(listeners: Vec<std::net::TcpListener>) -> Result<Self, ListenFault> {
        let responder = Http01Responder::default();
        let answering = responder.clone();
        let listening = Listening::start(ChallengeType::Http01, listeners, move |stream| {
            serve_connection(stream, answering.clone())
        })?;
        Ok(Self {
            responder,
            listening: Arc::new(listening),
        })
    }
}

#[async_trait]
impl ChallengeSolver for Http01Server {
    fn can_solve(&self, identifier: &Identifier, challenge_type: &ChallengeType) -> bool {
        self.responder.can_solve(identifier, challenge_type)
    }

    async fn present(&self, presentation: &Presentation) -> Result<(), BoxError> {
        self.responder.present(presentation).await
    }

    async fn clean_up(&self, presentation: &Presentation) -> Result<(), BoxError> {
        self.responder.clean_up(presentation).await
    }
}

/// Why [`Http01Server`] could not listen.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Http01BindError {
    /// An address cannot be listened on.
    #[error(
        "cannot listen on {address} for http-01: {source}{}",
        listen_hint(address, source)
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// There is nothing to listen on.
    #[error("there is no address to listen on for http-01")]
    NoAddress,
    /// A socket cannot be used in this runtime.
    #[error("a listening socket for http-01 cannot be used: {0}")]
    Register(#[source] io::Error),
    /// What was given for an address cannot be resolved to any.
    #[error("cannot resolve the address to listen on for http-01: {0}")]
    Resolve(#[source] io::Error),
}

impl From<ListenFault> for Http01BindError {
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
            "; if another web server listens there, mount an Http01Responder in it or let it serve \
             the files of an Http01Webroot"
        }
        _ => listeners::hint(address, source),
    }
}

async fn serve_connection(stream: TcpStream, responder: Http01Responder) {
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(MAX_HEADER_SIZE)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(|request| future::ready(Ok::<_, Infallible>(responder.handle(&request)))),
        );
    if let Err(error) = connection.await {
        debug!(%error, "http-01 connection failed");
    }
}

/// A CA sends a few hundred octets; proxies in between add some.
const MAX_HEADER_SIZE: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time;

    use super::super::testing::*;
    use super::*;
    use crate::solver::listeners::{CONNECTION_TIMEOUT, MAX_CONNECTIONS};

    #[tokio::test]
    async fn says_which_address_is_in_use_and_what_to_do() {
        let first = Http01Server::bind("127.0.0.1:0").await.unwrap();
        let [address] = *first.local_addrs() else {
            panic!("{first:?}");
        };
        let error = Http01Server::bind(address).await.unwrap_err();
        assert!(
            matches!(&error, Http01BindError::Listen { address: named, source }
                if *named == address && source.kind() == io::ErrorKind::AddrInUse),
            "{error:?}"
        );
        let text = error.to_string();
        for part in [
            &*address.to_string(),
            "in use",
            "Http01Responder",
            "Http01Webroot",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn hints_at_what_to_do() {
        let hint = |kind, port| {
            Http01BindError::Listen {
                address: (Ipv4Addr::UNSPECIFIED, port).into(),
                source: io::Error::from(kind),
            }
            .to_string()
        };
        let denied = io::ErrorKind::PermissionDenied;
        assert!(hint(denied, 80).contains("0.0.0.0:80"));
        assert!(hint(denied, 80).contains("CAP_NET_BIND_SERVICE"));
        assert!(!hint(denied, 8080).contains("CAP_NET_BIND_SERVICE"));
        assert!(hint(io::ErrorKind::AddrNotAvailable, 80).contains("no interface"));
    }

    #[tokio::test]
    async fn refuses_what_resolves_to_nothing() {
        let none: &[SocketAddr] = &[];
        assert!(matches!(
            Http01Server::bind(none).await,
            Err(Http01BindError::NoAddress)
        ));
        assert!(matches!(
            Http01Server::from_listeners([]).await,
            Err(Http01BindError::NoAddress)
        ));
        assert!(matches!(
            Http01Server::bind("no port").await,
            Err(Http01BindError::Resolve(_))
        ));
    }

    #[tokio::test]
    async fn listens_on_one_port_of_all_addresses() {
        // The same address twice is one.
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let other = SocketAddr::from(([127, 0, 0, 2], 0));
        let mut addresses = vec![loopback, loopback];
        // Not all systems give all of 127.0.0.0/8 to the loopback interface.
        if cfg!(target_os = "linux") {
            addresses.push(other);
        }
        let server = Http01Server::bind(&addresses[..]).await.unwrap();
        assert_eq!(server.local_addrs().len(), addresses.len() - 1);
        let port = server.local_addrs()[0].port();
        assert_ne!(port, 0);
        assert!(server.local_addrs().iter().all(|a| a.port() == port));
    }

    #[tokio::test]
    async fn shut_down_frees_the_port() {
        let server = Http01Server::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addrs()[0];
        server.shut_down().await;
        Http01Server::bind(address).await.unwrap();
        server.shut_down().await;
    }

    #[tokio::test]
    async fn serves_a_socket_that_it_is_given() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Http01Server::from_listeners([listener]).await.unwrap();
        assert_eq!(server.local_addrs(), [address]);
        let presentation = presentation(TOKEN, &thumbprint());
        server.present(&presentation).await.unwrap();

        let mut client = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET {}{TOKEN} HTTP/1.0\r\n\r\n",
            Http01Responder::PATH_PREFIX
        );
        client.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        client.read_to_string(&mut response).await.unwrap();
        let body = presentation.key_authorization().unwrap().as_str();
        assert!(response.ends_with(body), "{response}");
    }

    /// The clock is paused: it jumps to the deadline once nothing else is left to do.
    #[tokio::test(start_paused = true)]
    async fn ends_a_slow_connection() {
        let server = Http01Server::bind("127.0.0.1:0").await.unwrap();
        for sent in ["", "GET / HTTP/1.1\r\nHost: slow", "GET / HTTP"] {
            let started = time::Instant::now();
            let mut client = TcpStream::connect(server.local_addrs()[0]).await.unwrap();
            client.write_all(sent.as_bytes()).await.unwrap();
            let mut response = Vec::new();
            client.read_to_end(&mut response).await.unwrap();
            assert_eq!(response, b"", "{sent:?}");
            assert!(started.elapsed() >= CONNECTION_TIMEOUT, "{sent:?}");
        }
    }

    /// The clock is paused, as above.
    #[tokio::test(start_paused = true)]
    async fn comes_back_when_all_connections_were_taken() {
        let server = Http01Server::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addrs()[0];
        let mut idle = Vec::new();
        for _ in 0..=MAX_CONNECTIONS {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let mut response = String::new();
        client.read_to_string(&mut response).await.unwrap();
        assert!(response.starts_with("HTTP/1.0 404"), "{response}");
    }
}
