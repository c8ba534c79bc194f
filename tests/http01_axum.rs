//! The http-01 responder beside the routes of an axum server.

#![cfg(feature = "http-01")]
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;
use certwright::jose::{AccountKey, Signer};
use certwright::protocol::{Challenge, ChallengeType, Url};
use certwright::solver::{ChallengeSolver, Http01Responder, Presentation};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const TOKEN: &str = "DGyRejmCefe7v4NfDGDKfADGyRejmCef";

fn app(responder: Http01Responder) -> Router {
    Router::new()
        .route("/", get(async || "Welcome"))
        .route_service(Http01Responder::ROUTE, responder)
}

#[tokio::test]
async fn answers_beside_the_servers_own_routes() {
    let responder = Http01Responder::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(axum::serve(listener, app(responder.clone())).into_future());

    let live = format!("/.well-known/acme-challenge/{TOKEN}");
    let presentation = presentation();
    let key_authorization = presentation.key_authorization().unwrap().as_str();
    assert_exchange(address, "GET", &live, 404, "").await;
    responder.present(&presentation).await.unwrap();
    assert_exchange(address, "GET", &live, 200, key_authorization).await;
    assert_exchange(address, "HEAD", &live, 200, "").await;
    assert_exchange(address, "POST", &live, 405, "").await;
    assert_exchange(address, "GET", "/", 200, "Welcome").await;
    responder.clean_up(&presentation).await.unwrap();
    assert_exchange(address, "GET", &live, 404, "").await;
    server.abort();
}

fn presentation() -> Presentation {
    let challenge = Challenge::pending(
        ChallengeType::Http01,
        Url::parse("https://ca.example/challenge/1").unwrap(),
        Some(TOKEN.to_owned()),
    );
    Presentation::new(
        "example.com".parse().unwrap(),
        challenge,
        Url::parse("https://ca.example/account/1").unwrap(),
        &AccountKey::generate().unwrap().public_key().thumbprint(),
    )
    .unwrap()
}

async fn assert_exchange(address: SocketAddr, method: &str, path: &str, status: u16, body: &str) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    let start = format!("HTTP/1.1 {status} ");
    assert!(response.starts_with(&start), "{method} {path}: {response}");
    let end = format!("\r\n\r\n{body}");
    assert!(response.ends_with(&end), "{method} {path}: {response}");
}
