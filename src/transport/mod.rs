//! How requests reach a CA.
//!
//! [`Transport`] takes one HTTP request and gives one response. [`HyperTransport`] is the one that
//! certwright brings along, over hyper and rustls; a program with an HTTP client of its own can
//! implement the trait for that.

#[cfg(feature = "hyper")]
mod hyper;
#[cfg(feature = "hyper")]
mod proxy;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use thiserror::Error;

#[cfg(feature = "hyper")]
pub use self::hyper::{HyperTransport, HyperTransportBuilder};
use crate::error::BoxError;

/// Sends one request and receives the response, whole.
///
/// Implementations:
///
/// * MUST NOT follow redirects: a signed request is for one URL only (RFC 8555 §6.4);
/// * MUST limit the size of a response, its header included, and the time it may take, and SHOULD
///   limit its body to the [`ResponseLimit`] of a request that has one;
/// * MUST authenticate the server (RFC 8555 §6.1);
/// * MUST send the request's target as it is, and SHOULD decode no content encoding but what they
///   asked for themselves;
/// * SHOULD keep connections for the next request, and set `TCP_NODELAY`.
///
/// Calls overlap.
#[async_trait]
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Sends a request.
    ///
    /// Any response is a success, whatever its status.
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TransportError>;
}

/// How large the body of one response may be, in octets, where it may be larger or must be smaller
/// than a transport's own limit. It stands in the request's extensions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ResponseLimit(pub usize);

/// No response, or not a whole one, came.
#[derive(Debug, Error)]
#[error("{fault}{}", .source.as_deref().map(causes).unwrap_or_default())]
pub struct TransportError {
    fault: TransportFault,
    source: Option<BoxError>,
}

impl TransportError {
    /// An error of this kind, and what caused it.
    pub fn new(fault: TransportFault, source: impl Into<BoxError>) -> Self {
        Self {
            fault,
            source: Some(source.into()),
        }
    }

    /// What went wrong.
    pub fn fault(&self) -> TransportFault {
        self.fault
    }
}

impl From<TransportFault> for TransportError {
    fn from(fault: TransportFault) -> Self {
        Self {
            fault,
            source: None,
        }
    }
}

/// What keeps a response from coming.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum TransportFault {
    /// No connection could be made: name resolution, TCP, the proxy, or the TLS handshake failed.
    /// The server has not seen the request.
    #[error("no connection could be made")]
    Connect,
    /// The response's header has more fields or octets than any should. The server has seen the
    /// request.
    #[error("the response's header is too large")]
    HeaderTooLarge,
    /// The connection broke, or what came was no HTTP. The server may have seen the request.
    #[error("the connection broke before the whole response had come")]
    Interrupted,
    /// The response did not come in time. The server may have seen the request.
    #[error("no response came within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    /// The response is larger than the limit, in octets. The server has seen the request.
    #[error("the response is larger than {0} octets")]
    TooLarge(usize),
    /// The server's certificate is not trusted, or is for another name. The server has not seen the
    /// request.
    #[error("the server could not be authenticated")]
    Untrusted,
}

/// The causes of an error in one line: HTTP libraries hide the telling one at the end.
fn causes(error: &(dyn std::error::Error + Send + Sync + 'static)) -> String {
    let mut text = String::new();
    let mut next: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = next {
        text.push_str(&format!(": {error}"));
        next = error.source();
    }
    text
}
