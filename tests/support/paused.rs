//! A transport for tests on tokio's paused clock that speak to a real server.

use std::sync::mpsc;

use bytes::Bytes;
use certwright::transport::{HyperTransport, Transport, TransportError};
use http::{Request, Response};
use tokio::task::spawn_blocking;

/// Sends requests by sockets, while the paused clock stands still.
///
/// tokio moves a paused clock on to the next timer whenever nothing is left to do, and the octets
/// that are on their way through the kernel do not count. So every timeout of the exchange would be
/// over at once. A blocking task keeps the clock where it is; that goes for the single-threaded
/// runtime, which is the only one whose clock can be paused.
#[derive(Clone, Debug)]
pub struct Unhurried(pub HyperTransport);

#[async_trait::async_trait]
impl Transport for Unhurried {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TransportError> {
        let (over, wait) = mpsc::channel::<()>();
        let guard = spawn_blocking(move || {
            // It ends when the other end is gone, also where the request is given up.
            let _ = wait.recv();
        });
        let result = self.0.send(request).await;
        drop(over);
        guard.await.unwrap();
        result
    }
}
