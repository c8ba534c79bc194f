//! A proxy that resets connections: for a CA outside of this process, which can't be told to.

#![allow(dead_code, reason = "each program uses a part")]

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// An HTTP proxy on loopback that opens tunnels by `CONNECT`, and resets some of them.
///
/// It sees TLS, and so no requests: it counts what comes in one piece, which for a client of HTTP/1.1
/// is a request or a reply, or a part of a handshake. A piece of the client's that is not passed on is
/// a request that never arrived; one of the server's, a reply that was lost.
#[derive(Debug)]
pub(crate) struct ResetProxy {
    address: SocketAddr,
    faults: Arc<Faults>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Faults {
    seed: u64,
    before: f64,
    after: f64,
    pieces: AtomicU64,
    resets_before: AtomicU64,
    resets_after: AtomicU64,
}

impl ResetProxy {
    /// Starts a proxy that resets connections at a share of the client's pieces, and of the server's.
    ///
    /// Which ones is decided by the seed and the number of the piece among all. When a piece comes is
    /// not the proxy's choice, so no two runs are the same.
    pub(crate) async fn start(seed: u64, before: f64, after: f64) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let faults = Arc::new(Faults {
            seed,
            before,
            after,
            pieces: AtomicU64::new(0),
            resets_before: AtomicU64::new(0),
            resets_after: AtomicU64::new(0),
        });
        Ok(Self {
            address: listener.local_addr()?,
            faults: Arc::clone(&faults),
            task: tokio::spawn(async move {
                while let Ok((client, _)) = listener.accept().await {
                    let faults = Arc::clone(&faults);
                    // Its end, of whatever kind, is the end of the connection.
                    tokio::spawn(async move { tunnel(client, &faults).await.ok() });
                }
            }),
        })
    }

    /// The proxy's URL, for `HyperTransportBuilder::proxy`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many connections were reset at a piece of the client's, and at one of the server's.
    pub(crate) fn resets(&self) -> (u64, u64) {
        (
            self.faults.resets_before.load(Ordering::Relaxed),
            self.faults.resets_after.load(Ordering::Relaxed),
        )
    }
}

impl Drop for ResetProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn tunnel(mut client: TcpStream, faults: &Faults) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 8_192 {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut words = head.split(' ');
    let (Some("CONNECT"), Some(authority)) = (words.next(), words.next()) else {
        return client
            .write_all(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n")
            .await;
    };
    let mut server = TcpStream::connect(authority).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;

    let (mut from_client, mut from_server) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            length = client.read(&mut from_client) => {
                let piece = from_client.get(..length?).unwrap_or_default();
                if piece.is_empty() {
                    return Ok(());
                }
                if faults.strike(faults.before) {
                    faults.resets_before.fetch_add(1, Ordering::Relaxed);
                    return client.set_zero_linger();
                }
                server.write_all(piece).await?;
            }
            length = server.read(&mut from_server) => {
                let piece = from_server.get(..length?).unwrap_or_default();
                if piece.is_empty() {
                    return Ok(());
                }
                if faults.strike(faults.after) {
                    faults.resets_after.fetch_add(1, Ordering::Relaxed);
                    return client.set_zero_linger();
                }
                client.write_all(piece).await?;
            }
        }
    }
}

impl Faults {
    fn strike(&self, share: f64) -> bool {
        let number = self.pieces.fetch_add(1, Ordering::Relaxed);
        // SplitMix64, of which the upper 53 bits make a number in [0, 1).
        let place = self.seed.wrapping_add(number);
        let mut mixed = place.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        ((mixed >> 11) as f64 / (1_u64 << 53) as f64) < share
    }
}
