use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// A stream, and what breaks its connection.
pub(in crate::test_ca) fn breakable(stream: TcpStream) -> (Breakable, Arc<Breaker>) {
    let breaker = Arc::new(Breaker::default());
    let stream = Breakable {
        stream,
        breaker: breaker.clone(),
    };
    (stream, breaker)
}

/// Breaks a connection, with all requests on it.
#[derive(Debug, Default)]
pub(in crate::test_ca) struct Breaker {
    resets: AtomicBool,
    broken: Notify,
}

impl Breaker {
    /// The connection ends with a RST: what was written before may be lost, too.
    pub(in crate::test_ca) fn reset(&self) {
        self.resets.store(true, Ordering::Release);
        self.broken.notify_one();
    }

    /// The connection ends after what was written, without TLS's own end.
    pub(in crate::test_ca) fn close(&self) {
        self.broken.notify_one();
    }

    /// Waits until it is to break. Whoever has the stream drops it then.
    pub(in crate::test_ca) async fn broken(&self) {
        self.broken.notified().await;
    }
}

/// Why a request on the connection got no reply.
#[derive(Debug, Error)]
#[error("the test CA breaks the connection")]
pub(in crate::test_ca) struct Broken;

/// A TCP stream that is reset when it is dropped, where its breaker says so.
#[derive(Debug)]
pub(in crate::test_ca) struct Breakable {
    stream: TcpStream,
    breaker: Arc<Breaker>,
}

impl Drop for Breakable {
    fn drop(&mut self) {
        if !self.breaker.resets.load(Ordering::Acquire) {
            return;
        }
        // To close a socket that does not linger is to reset its connection.
        if let Err(error) = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)) {
            tracing::debug!(%error, "a connection is closed, not reset");
        }
    }
}

impl AsyncRead for Breakable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Breakable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
