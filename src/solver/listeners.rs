//! Sockets that listen for the CA, and the bounds of what comes in.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time;
use tracing::{Instrument, debug, debug_span, info, warn};

use crate::protocol::ChallengeType;

/// Servers on several addresses that end together: when this is dropped, or shut down.
#[derive(Debug)]
pub(super) struct Listening {
    local_addrs: Vec<SocketAddr>,
    /// One task for each listener, which owns the tasks of its connections. Dropping a `JoinSet`
    /// aborts its tasks, so that all of them go with the last handle.
    tasks: Mutex<JoinSet<()>>,
}

impl Listening {
    /// Has `serve` serve each connection. The challenge's type is for the log.
    pub(super) fn start<S, F>(
        challenge_type: ChallengeType,
        listeners: Vec<std::net::TcpListener>,
        serve: S,
    ) -> Result<Self, ListenFault>
    where
        S: Fn(TcpStream) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        if listeners.is_empty() {
            return Err(ListenFault::NoAddress);
        }
        let mut local_addrs = Vec::new();
        let mut tasks = JoinSet::new();
        for listener in listeners {
            let address = listener.local_addr().map_err(ListenFault::Register)?;
            listener
                .set_nonblocking(true)
                .map_err(ListenFault::Register)?;
            let listener = TcpListener::from_std(listener).map_err(ListenFault::Register)?;
            local_addrs.push(address);
            let challenge_type = challenge_type.clone();
            tasks.spawn(accept_connections(challenge_type, listener, serve.clone()));
        }
        debug!(%challenge_type, ?local_addrs, "server for challenges started");
        Ok(Self {
            local_addrs,
            tasks: Mutex::new(tasks),
        })
    }

    pub(super) fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// Returns when the ports are free again.
    pub(super) async fn shut_down(&self) {
        self.tasks.lock().await.shutdown().await;
    }
}

/// Listens on every address to which the argument resolves, or on none.
pub(super) async fn bind(
    addresses: impl ToSocketAddrs,
) -> Result<Vec<std::net::TcpListener>, ListenFault> {
    let mut distinct: Vec<SocketAddr> = Vec::new();
    for address in tokio::net::lookup_host(addresses)
        .await
        .map_err(ListenFault::Resolve)?
    {
        // A host file that names an address twice is no reason to find it in use.
        if !distinct.contains(&address) {
            distinct.push(address);
        }
    }
    listen_on_each(&distinct)
}

/// Listens on a port of all interfaces: of IPv6 and IPv4, or of the one that the system has.
pub(super) fn on_port(port: u16) -> Result<Vec<std::net::TcpListener>, ListenFault> {
    let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let (missing, reason) = match listen_on_each(&[v6, v4]) {
        Err(ListenFault::Listen { address, source }) if lacks_ip_version(&source) => {
            (address, source)
        }
        result => return result,
    };

    let other = if missing.is_ipv6() { v4 } else { v6 };
    info!(%missing, %reason, "the server for challenges listens on {other} only");
    listen_on_each(&[other])
}

/// Why no server can listen. Each solver has an error of its own for it, with advice.
#[derive(Debug)]
pub(super) enum ListenFault {
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
    NoAddress,
    Register(io::Error),
    Resolve(io::Error),
}

/// What a person can do about an address that cannot be listened on, whatever the challenge.
pub(super) fn hint(address: &SocketAddr, source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AddrNotAvailable => "; no interface of this host has the address",
        io::ErrorKind::PermissionDenied if address.port() < 1024 => {
            "; ports below 1024 take a privilege (on Linux CAP_NET_BIND_SERVICE), a socket opened \
             by the service manager, or a port that is forwarded to a higher one"
        }
        _ => "",
    }
}

async fn accept_connections<S, F>(challenge_type: ChallengeType, listener: TcpListener, serve: S)
where
    S: Fn(TcpStream) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, peer)) => {
                    // Without it, the response may only be somewhat slower.
                    let _ = stream.set_nodelay(true);
                    let span = debug_span!("challenge_connection", %challenge_type, %peer);
                    connections.spawn(within_time(serve(stream)).instrument(span));
                }
                // Out of file descriptors or memory, most likely, and accepting again at once would
                // fail again at once. What holds them may let go of them, so the server stays.
                Err(error) => {
                    warn!(%challenge_type, %error, "cannot accept a connection");
                    time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

/// One deadline for the connection bounds the reading and the writing, and whatever comes between.
async fn within_time(connection: impl Future<Output = ()>) {
    if time::timeout(CONNECTION_TIMEOUT, connection).await.is_err() {
        debug!("the connection took too long");
    }
}

fn listen_on_each(addresses: &[SocketAddr]) -> Result<Vec<std::net::TcpListener>, ListenFault> {
    for _ in 1..PORT_ATTEMPTS {
        match try_listen_on_each(addresses) {
            // The port that the system chose for the first address may be taken on another; a port
            // that the caller chose stays taken.
            Err(ListenFault::Listen { address, source })
                if source.kind() == io::ErrorKind::AddrInUse && !addresses.contains(&address) => {}
            result => return result,
        }
    }
    try_listen_on_each(addresses)
}

fn try_listen_on_each(addresses: &[SocketAddr]) -> Result<Vec<std::net::TcpListener>, ListenFault> {
    let mut chosen_port = 0;
    let mut listeners = Vec::new();
    for address in addresses {
        let mut address = *address;
        let any_port = address.port() == 0;
        if any_port {
            address.set_port(chosen_port);
        }
        let (listener, port) =
            listen(address).map_err(|source| ListenFault::Listen { address, source })?;
        if any_port {
            chosen_port = port;
        }
        listeners.push(listener);
    }
    Ok(listeners)
}

fn listen(address: SocketAddr) -> io::Result<(std::net::TcpListener, u16)> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        // Else [::] takes the port of 0.0.0.0 as well, on some systems and with some settings.
        socket.set_only_v6(true)?;
    }
    // So that a restart need not wait for connections of the process before it to time out. On
    // Windows, where that is so anyway, the option would let other programs take the port over.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = std::net::TcpListener::from(socket);
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

/// Whether listening on all interfaces failed because the system has no such IP version.
///
/// It is known by what it is not, because systems differ: no such address family, no such address,
/// protocol not supported.
fn lacks_ip_version(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied
    )
}

/// Of connections that wait to be accepted; systems have a limit of their own, often lower.
const BACKLOG: i32 = 1024;

/// For each address. A CA comes with a handful for each name: one from each of its perspectives.
pub(super) const MAX_CONNECTIONS: usize = 256;

/// About as long as a CA waits for an answer.
pub(super) const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const PORT_ATTEMPTS: usize = 16;
