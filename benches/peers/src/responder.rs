//! What answers the http-01 challenges of both libraries.
//!
//! A key authorization is the token and the thumbprint of the account's key (RFC 8555 §8.1), so one
//! who knows the thumbprint answers any token. The responder is thus outside of the clients, whose
//! time and memory are what is measured, and the same for both.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// The thumbprint of the account that orders now.
pub(crate) type Thumbprint = Arc<Mutex<String>>;

pub(crate) async fn run(listener: TcpListener, thumbprint: Thumbprint) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        let thumbprint = Arc::clone(&thumbprint);
        connections.spawn(async move {
            let answer = service_fn(|request| {
                let answer = answer(&request, &thumbprint);
                async { Ok::<_, Infallible>(answer) }
            });
            // The CA may hang up as it likes.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

fn answer(request: &Request<Incoming>, thumbprint: &Thumbprint) -> Response<Full<Bytes>> {
    let token = request
        .uri()
        .path()
        .strip_prefix("/.well-known/acme-challenge/");
    let (status, text) = match token {
        Some(token) => {
            let thumbprint = thumbprint.lock().unwrap_or_else(PoisonError::into_inner);
            (StatusCode::OK, format!("{token}.{thumbprint}"))
        }
        None => (StatusCode::NOT_FOUND, String::new()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
}
