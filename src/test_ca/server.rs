//! The sockets: https on loopback, HTTP/1.1 and HTTP/2; and plain http for revocation lists.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::ca::{self, Ca};
use super::crl;
use super::faults::{Breakable, Breaker, Broken, Ending, ReplyBody, breakable};
use super::log::LoggedRequest;
use super::reply::Reply;
use super::route::{ResourceKind, Route};

pub(super) fn tls_acceptor(
    provider: Arc<CryptoProvider>,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Result<TlsAcceptor, rustls::Error> {
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Takes connections until it is dropped. Without TLS, what is served is the revocation list.
pub(super) async fn run(ca: Arc<Ca>, listener: TcpListener, tls: Option<TlsAcceptor>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection = connection(Arc::clone(&ca), stream, tls.clone());
                ca.tasks.spawn(connection);
            }
            Err(error) => {
                // Most likely there are too many open files, which a pause may cure.
                tracing::debug!(%error, "a connection could not be accepted");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(ca: Arc<Ca>, stream: TcpStream, tls: Option<TlsAcceptor>) {
    // Replies are small, and each would wait for the acknowledgement of the one before it.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    let (stream, breaker) = breakable(stream);
    tokio::select! {
        // First, so that nothing more goes out than had to.
        biased;
        () = breaker.broken() => tracing::debug!("a connection is broken on purpose"),
        () = serve_connection(ca, stream, tls, &breaker) => {}
    }
}

async fn serve_connection(
    ca: Arc<Ca>,
    stream: Breakable,
    tls: Option<TlsAcceptor>,
    breaker: &Arc<Breaker>,
) {
    let mut builder = auto::Builder::new(ca.tasks.clone());
    builder.http1().timer(TokioTimer::new());
    let outcome = match tls {
        Some(tls) => {
            let stream = match timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
                Err(_) => return tracing::debug!("a TLS handshake took too long"),
            };
            let service =
                service_fn(|request| serve(Arc::clone(&ca), Arc::clone(breaker), request));
            builder
                .serve_connection(TokioIo::new(stream), service)
                .await
        }
        None => {
            let service = service_fn(|request| serve_crl(Arc::clone(&ca), request));
            builder
                .serve_connection(TokioIo::new(stream), service)
                .await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(error, "a connection broke");
    }
}

async fn serve(
    ca: Arc<Ca>,
    breaker: Arc<Breaker>,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, Broken> {
    let mut description = describe(&request, "https");
    let plan = ca.faults().plan(description.kind, request.method());
    description.faults = plan.names();
    let arrival = ca.log.arrive(description);
    let (parts, body) = request.into_parts();
    let url = request_url("https", &parts.uri, &parts.headers);
    // What else than the limit can go wrong is that the client is gone, and sees no reply anyway.
    let body = Limited::new(body, MAX_BODY).collect().await.ok();
    let body = body.map(|body| body.to_bytes());

    pause(plan.delay(false)).await;
    let ending = plan.ending(false);
    let acts = ending.is_none();
    let mut reply = match ending {
        Some(ending) => {
            ca::note(&parts, body, &arrival);
            end(ending, &breaker).await?
        }
        None => ca.answer(&parts, body, &url, &arrival, &plan).await,
    };
    // After the deed: a client that gives up meanwhile has lost the reply, not the effect.
    pause(ca.latency().saturating_add(plan.delay(true))).await;
    plan.spoil(&mut reply);
    arrival.finish(reply.status(), reply.problem().cloned());
    if let Some(ending) = plan.ending(true).filter(|_| acts) {
        reply = end(ending, &breaker).await?;
    }
    if plan.cuts() && !reply.has_body() {
        breaker.close();
        return Err(Broken);
    }
    Ok(reply.into_response(plan.cuts().then_some(breaker)))
}

/// Ends a request otherwise than by the CA's own reply.
async fn end(ending: Ending, breaker: &Breaker) -> Result<Reply, Broken> {
    match ending {
        Ending::Reply(reply) => Ok(reply),
        Ending::Stall => pending().await,
        Ending::Reset => {
            breaker.reset();
            Err(Broken)
        }
    }
}

async fn serve_crl(ca: Arc<Ca>, request: Request<Incoming>) -> Result<Response<ReplyBody>, Broken> {
    let mut description = describe(&request, "http");
    description.kind = match description.path.as_str() {
        crl::PATH => ResourceKind::Crl,
        _ => ResourceKind::Unknown,
    };
    let reply = ca.answer_crl(&description.method, &description.path);
    let arrival = ca.log.arrive(description);
    pause(ca.latency()).await;
    arrival.finish(reply.status(), reply.problem().cloned());
    Ok(reply.into_response(None))
}

/// Waits; for no time at all without a timer, which would wait for the next tick of its own.
async fn pause(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

/// The URL that a request was sent to, by the authority that the client gave.
fn request_url(scheme: &str, uri: &http::Uri, headers: &http::HeaderMap) -> String {
    let host = headers.get(header::HOST);
    // HTTP/2 has the authority in the target, HTTP/1.1 in a header.
    let authority = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => host.and_then(|host| host.to_str().ok()).unwrap_or_default(),
    };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    format!("{scheme}://{authority}{path}")
}

fn describe(request: &Request<Incoming>, scheme: &str) -> LoggedRequest {
    let text = |name| {
        let value = request.headers().get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let path = request.uri().path_and_query();
    let path = path.map_or("/", |path| path.as_str()).to_owned();
    LoggedRequest {
        sequence: 0,
        method: request.method().clone(),
        url: request_url(scheme, request.uri(), request.headers()),
        kind: Route::parse(&path).map_or(ResourceKind::Unknown, |route| route.kind()),
        path,
        version: request.version(),
        user_agent: text(header::USER_AGENT),
        accept_language: text(header::ACCEPT_LANGUAGE),
        content_type: text(header::CONTENT_TYPE),
        nonce: None,
        kid: None,
        payload: None,
        in_flight: 0,
        started: Duration::ZERO,
        finished: None,
        status: None,
        problem: None,
        faults: Vec::new(),
    }
}

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// As at Boulder.
const MAX_BODY: usize = 50_000;
