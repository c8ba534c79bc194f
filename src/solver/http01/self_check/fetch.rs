use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;

use http::header::{ACCEPT, CONNECTION, HOST, LOCATION, USER_AGENT};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::fault::SelfCheckFault;
use super::target::Target;
use crate::solver::unverified_tls::unverified;

/// What a server answered, where that leads on.
pub(super) enum Reply {
    /// With status 200, so many octets.
    Body(Vec<u8>),
    /// A redirect of a kind that CAs follow: its `Location`.
    Redirect(Vec<u8>),
}

/// Makes one request, of one address. It has no limit of time, and tells how far it has come.
pub(super) async fn fetch(
    target: &Target,
    address: SocketAddr,
    user_agent: &HeaderValue,
    limit: usize,
    phase: &mut &'static str,
) -> Result<Reply, SelfCheckFault> {
    let stream = TcpStream::connect(address).await.map_err(|error| {
        match address.is_ipv6() && lacks_route(&error) {
            true => SelfCheckFault::NoRoute(error),
            false => SelfCheckFault::Connect(error),
        }
    })?;
    // Without it, the exchange may only be somewhat slower.
    let _ = stream.set_nodelay(true);

    if !target.is_https() {
        *phase = "waiting for the reply";
        return exchange(stream, target, user_agent, limit).await;
    }
    *phase = "in the TLS handshake";
    let config = unverified().ok_or(SelfCheckFault::NoCryptoProvider)?;
    let config = config.map_err(|error| SelfCheckFault::Tls(io::Error::other(error)))?;
    let name = match target.address() {
        Some(address) => ServerName::IpAddress(address.into()),
        None => ServerName::try_from(target.host().trim_end_matches('.').to_owned())
            .map_err(|error| SelfCheckFault::Tls(io::Error::other(error)))?,
    };
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(SelfCheckFault::Tls)?;
    *phase = "waiting for the reply";
    exchange(stream, target, user_agent, limit).await
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    target: &Target,
    user_agent: &HeaderValue,
    limit: usize,
) -> Result<Reply, SelfCheckFault> {
    let request = Request::get(target.path_and_query())
        .header(HOST, target.authority())
        // There are servers that take a request without `Accept` for one of a robot.
        .header(ACCEPT, "*/*")
        .header(USER_AGENT, user_agent)
        .header(CONNECTION, "close")
        .body(String::new())
        .map_err(|error| SelfCheckFault::Http(error.into()))?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEADER_LIMIT)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| SelfCheckFault::Http(error.into()))?;

    let mut exchange = pin!(async {
        let response = sender.send_request(request).await;
        read(
            response.map_err(|error| SelfCheckFault::Http(error.into()))?,
            limit,
        )
        .await
    });
    let mut connection = pin!(connection);
    tokio::select! {
        reply = &mut exchange => reply,
        // The server has closed; what came before that can still be read.
        _ = &mut connection => exchange.await,
    }
}

async fn read(mut response: Response<Incoming>, limit: usize) -> Result<Reply, SelfCheckFault> {
    let status = response.status();
    let location = response.headers().get(LOCATION);
    match (status, location) {
        (StatusCode::OK, _) => {}
        (
            StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT,
            Some(location),
        ) => return Ok(Reply::Redirect(location.as_bytes().to_vec())),
        (_, Some(_)) if status.is_redirection() => {
            return Err(SelfCheckFault::RedirectStatus(status));
        }
        _ => return Err(SelfCheckFault::Status(status)),
    }

    let mut body = Vec::new();
    while let Some(frame) =
        poll_fn(|context| Pin::new(response.body_mut()).poll_frame(context)).await
    {
        let frame = frame.map_err(|error| SelfCheckFault::Http(error.into()))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let left = limit.saturating_sub(body.len());
        body.extend(data.iter().take(left));
        if body.len() >= limit {
            let start = String::from_utf8_lossy(&body).into_owned();
            return Err(SelfCheckFault::TooLarge { limit, start });
        }
    }
    Ok(Reply::Body(body))
}

/// Whether this host can't send to the address at all, so that nothing is known about it.
fn lacks_route(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::Unsupported
    )
}

const HEADER_LIMIT: usize = 64 * 1_024;
