//! http-01 (RFC 8555 §8.3).

use std::convert::Infallible;
use std::future::pending;
use std::net::IpAddr;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::{Attempt, connect};
use crate::protocol::{Problem, ProblemType, Url};
use crate::test_ca::ca::Ca;

pub(super) async fn validate(attempt: &Attempt, ca: &Ca) -> Result<(), Problem> {
    let port = ca.settings().http01_port;
    let mut host = attempt.identifier.value();
    if host.contains(':') {
        host = format!("[{host}]");
    }
    if port != 80 {
        host = format!("{host}:{port}");
    }
    let path = format!("/.well-known/acme-challenge/{}", attempt.token);
    let url = Url::parse(&format!("http://{host}{path}"))
        .map_err(|error| Problem::new(ProblemType::Malformed, error.to_string()))?;

    let fetch = Fetch {
        ca,
        port,
        deadline: ca.validation_deadline(),
    };
    let (address, found) = fetch.follow(url).await?;
    let expected = attempt.key_authorization.as_str();
    match found.trim_ascii_end() == expected.as_bytes() {
        true => Ok(()),
        false => Err(Problem::new(
            ProblemType::Unauthorized,
            format!(
                "{address}: The key authorization file from the server did not match this \
                 challenge. Expected {expected:?} (got {:?})",
                String::from_utf8_lossy(&found)
            ),
        )),
    }
}

/// The requests of one validation.
struct Fetch<'a> {
    ca: &'a Ca,
    port: u16,
    deadline: Instant,
}

impl Fetch<'_> {
    /// As many as Let's Encrypt follows.
    const MAX_REDIRECTS: usize = 10;

    /// Boulder reads no more, and a key authorization has 87 octets.
    const MAX_BODY: usize = 128;

    /// Gets what is at a URL, and the address it came from in the end.
    async fn follow(&self, mut url: Url) -> Result<(IpAddr, Bytes), Problem> {
        for _ in 0..=Self::MAX_REDIRECTS {
            let uri = url.uri();
            let address = self
                .ca
                .address(uri.host().unwrap_or_default())
                .map_err(|fault| connection(&url, &fault))?;
            let failed = |fault: &str| {
                let mut problem = connection(&url, fault);
                problem.detail = problem.detail.map(|detail| format!("{address}: {detail}"));
                problem
            };

            let response = self.exchange(&url, address).await.map_err(|f| failed(&f))?;
            let status = response.status();
            if !matches!(status.as_u16(), 301 | 302 | 307 | 308) {
                let invalid = |what: &str| {
                    Problem::new(
                        ProblemType::Unauthorized,
                        format!("{address}: Invalid response from {url}: {what}"),
                    )
                };
                if status != StatusCode::OK {
                    return Err(invalid(&status.as_u16().to_string()));
                }
                return Ok((address, response.into_body()));
            }

            let location = response.headers().get(header::LOCATION);
            let location = location.and_then(|value| value.to_str().ok());
            let next = location.and_then(|location| url.join(location).ok());
            url = match next {
                Some(next) if !next.is_https() => next,
                Some(_) => return Err(failed("Invalid protocol scheme in redirect target")),
                None => return Err(failed("Invalid redirect target")),
            };
        }
        Err(connection(&url, "Too many redirects"))
    }

    async fn exchange(&self, url: &Url, address: IpAddr) -> Result<Response<Bytes>, String> {
        let uri = url.uri();
        // The port that the test configured takes the place of 80.
        let port = uri.port_u16().filter(|port| *port != 80);
        let stream = connect(address, port.unwrap_or(self.port), self.deadline).await?;
        timeout_at(self.deadline, get(url, stream))
            .await
            .map_err(|_| "Timeout after connect (your server may be slow or overloaded)")?
    }
}

async fn get(url: &Url, stream: TcpStream) -> Result<Response<Bytes>, String> {
    let uri = url.uri();
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;

    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let exchange = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| format!("Error getting validation data: {error}"))?;
        read(response).await
    };
    tokio::select! {
        outcome = exchange => outcome,
        // Its end is no end of the exchange: what has come already can still be read.
        never = async { let _ = connection.await; pending::<Infallible>().await } => match never {},
    }
}

async fn read(response: Response<Incoming>) -> Result<Response<Bytes>, String> {
    let (parts, body) = response.into_parts();
    // Of any other response, the status says enough.
    if parts.status != StatusCode::OK {
        return Ok(Response::from_parts(parts, Bytes::new()));
    }
    let body = Limited::new(body, Fetch::MAX_BODY)
        .collect()
        .await
        .map_err(|error| format!("Error reading HTTP response body: {error}"))?;
    Ok(Response::from_parts(parts, body.to_bytes()))
}

fn connection(url: &Url, fault: &str) -> Problem {
    Problem::new(ProblemType::Connection, format!("Fetching {url}: {fault}"))
}

const USER_AGENT: &str = concat!("certwright-test-ca/", env!("CARGO_PKG_VERSION"));
