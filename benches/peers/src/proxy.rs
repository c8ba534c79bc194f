//! A TCP proxy that lets each octet arrive later than it was sent.
//!
//! Each direction takes half of the round-trip time, and any number of octets may be on the way at
//! once, so that it costs no throughput. A connection of TCP takes a round trip of its own before
//! the client can send anything. The client here is connected at once, so what it sends at first is
//! held back for a round trip more.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

pub(crate) async fn run(listener: TcpListener, server: SocketAddr, rtt: Duration) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            return;
        };
        connections.spawn(async move {
            // Whatever ends it, both sides see it.
            let _ = connection(client, server, rtt).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(client: TcpStream, server: SocketAddr, rtt: Duration) -> io::Result<()> {
    let accepted = Instant::now();
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let one_way = rtt / 2;
    tokio::try_join!(
        pump(from_client, to_server, one_way, accepted + rtt),
        pump(from_server, to_client, one_way, accepted),
    )?;
    Ok(())
}

/// Hands octets on, late; none of them is sent before `sent_from`.
async fn pump(
    mut source: impl AsyncReadExt + Unpin,
    mut sink: impl AsyncWriteExt + Unpin,
    delay: Duration,
    sent_from: Instant,
) -> io::Result<()> {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(4_096);
    let reading = async move {
        let mut buffer = vec![0; 16 * 1_024];
        loop {
            let length = source.read(&mut buffer).await?;
            let due = Instant::now().max(sent_from) + delay;
            let octets = buffer.get(..length).unwrap_or_default().to_vec();
            if sender.send((due, octets)).await.is_err() || length == 0 {
                return io::Result::Ok(());
            }
        }
    };
    let writing = async move {
        while let Some((due, octets)) = receiver.recv().await {
            sleep_until(due).await;
            if octets.is_empty() {
                break;
            }
            sink.write_all(&octets).await?;
        }
        sink.shutdown().await
    };
    tokio::try_join!(reading, writing).map(|_| ())
}
