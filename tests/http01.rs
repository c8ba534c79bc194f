//! The http-01 server, asked over TCP as a CA asks it (RFC 8555 §8.3).

#![cfg(feature = "http-01")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used
)]

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use certwright::jose::{AccountKey, Signer};
use certwright::protocol::{Challenge, ChallengeType, Url};
use certwright::solver::{ChallengeSolver, Http01Server, Presentation};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const LIVE: &str = "/.well-known/acme-challenge/DGyRejmCefe7v4NfDGDKfADGyRejmCef";
const DEAD: &str = "/.well-known/acme-challenge/pNvmJivs0WCko2suV7fhe-59oFqyYx_y";

#[tokio::test]
async fn answers_get_for_a_live_token_only() {
    let server = Http01Server::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addrs()[0];
    let presentation = presentation();
    let expected = presentation.key_authorization().unwrap().as_str();

    assert_eq!(get(address, LIVE).await.status, 404);
    server.present(&presentation).await.unwrap();
    let response = get(address, LIVE).await;
    assert_eq!(response.status, 200);
    assert_eq!(response.body, expected);
    assert_eq!(
        response.header("content-type"),
        Some("application/octet-stream")
    );
    assert_eq!(
        response.header("content-length"),
        Some(&*expected.len().to_string())
    );
    for path in [DEAD, "/", "/.well-known/acme-challenge/", "/favicon.ico"] {
        let response = get(address, path).await;
        assert_eq!((response.status, &*response.body), (404, ""), "{path}");
    }
    server.clean_up(&presentation).await.unwrap();
    assert_eq!(get(address, LIVE).await.status, 404);
}

#[tokio::test]
async fn answers_any_host_and_accept_and_absolute_urls() {
    let server = Http01Server::bind("127.0.0.1:0").await.unwrap();
    let presentation = presentation();
    server.present(&presentation).await.unwrap();

    for request in [
        format!("GET {LIVE} HTTP/1.1\r\nHost: EXAMPLE.com:5002\r\nAccept: */*\r\n\r\n"),
        format!("GET {LIVE} HTTP/1.1\r\nHost: [2001:db8::1]\r\nAccept: text/html\r\n\r\n"),
        format!("GET {LIVE}?again HTTP/1.1\r\nHost: example.com\r\n\r\n"),
        format!("GET http://example.com{LIVE} HTTP/1.1\r\nHost: example.com\r\n\r\n"),
        format!("GET {LIVE} HTTP/1.0\r\n\r\n"),
    ] {
        let response = exchange(server.local_addrs()[0], request.as_bytes()).await;
        assert_eq!(response.status, 200, "{request}");
        assert_eq!(
            response.body,
            presentation.key_authorization().unwrap().as_str()
        );
    }
}

#[tokio::test]
async fn head_has_the_headers_and_other_methods_are_not_allowed() {
    let server = Http01Server::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addrs()[0];
    let presentation = presentation();
    server.present(&presentation).await.unwrap();
    let length = presentation.key_authorization().unwrap().as_str().len();

    let response = request(address, "HEAD", LIVE).await;
    assert_eq!((response.status, &*response.body), (200, ""));
    assert_eq!(
        response.header("content-length"),
        Some(&*length.to_string())
    );
    assert_eq!(request(address, "HEAD", DEAD).await.status, 404);

    let response = request(address, "POST", LIVE).await;
    assert_eq!((response.status, &*response.body), (405, ""));
    assert_eq!(response.header("allow"), Some("GET, HEAD"));
    assert_eq!(request(address, "POST", DEAD).await.status, 404);
}

#[tokio::test]
async fn listens_on_ipv4_and_ipv6() {
    let server = Http01Server::on_port(0).await.unwrap();
    let port = server.local_addrs()[0].port();
    let presentation = presentation();
    server.present(&presentation).await.unwrap();

    let v4 = SocketAddr::from(([127, 0, 0, 1], port));
    assert_eq!(get(v4, LIVE).await.status, 200);
    if !has_ipv6() {
        eprintln!("SKIPPED: the host has no ::1, so IPv6 is not tested");
        return;
    }
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    assert_eq!(get(v6, LIVE).await.status, 200);
    let expected = [
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
        SocketAddr::from(([0, 0, 0, 0], port)),
    ];
    assert_eq!(server.local_addrs(), expected);

    // Each of the two is one IP version and no more, so that they can be two servers as well.
    server.shut_down().await;
    let v6 = Http01Server::bind(expected[0]).await.unwrap();
    let v4 = Http01Server::bind(expected[1]).await.unwrap();
    assert_eq!(v6.local_addrs()[0].port(), v4.local_addrs()[0].port());
}

#[tokio::test]
async fn serves_on_several_listeners_of_both_ip_versions() {
    let mut addresses = vec!["127.0.0.1:0", "127.0.0.2:0"];
    match has_ipv6() {
        true => addresses.push("[::1]:0"),
        false => eprintln!("SKIPPED: the host has no ::1, so IPv6 is not tested"),
    }
    let listeners = addresses
        .iter()
        .map(|address| std::net::TcpListener::bind(address).unwrap());
    let server = Http01Server::from_listeners(listeners).await.unwrap();
    let presentation = presentation();
    server.present(&presentation).await.unwrap();

    assert_eq!(server.local_addrs().len(), addresses.len());
    for &address in server.local_addrs() {
        // An address as identifier is its own `Host`, in brackets where it is of IPv6.
        let request = format!("GET {LIVE} HTTP/1.1\r\nHost: {address}\r\n\r\n");
        let response = exchange(address, request.as_bytes()).await;
        assert_eq!(response.status, 200, "{request}");
        assert_eq!(
            response.body,
            presentation.key_authorization().unwrap().as_str()
        );
    }
    server.shut_down().await;
    for address in server.local_addrs() {
        assert!(TcpStream::connect(address).await.is_err());
    }
}

#[tokio::test]
async fn ends_with_its_last_clone() {
    let server = Http01Server::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addrs()[0];
    let responder = server.responder().clone();
    let clone = server.clone();
    drop(server);
    assert_eq!(get(address, LIVE).await.status, 404);

    // One connection is under way; it ends as well.
    let mut open = TcpStream::connect(address).await.unwrap();
    open.write_all(b"GET ").await.unwrap();
    drop(clone);
    let ended = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        let _ = open.read(&mut [0]).await;
    };
    timeout(Duration::from_secs(5), ended).await.unwrap();
    drop(responder);
}

#[tokio::test]
async fn bad_clients_do_not_wedge_it() {
    let server = Http01Server::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addrs()[0];
    server.present(&presentation()).await.unwrap();

    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nX-").await.unwrap();
        slow.push(client);
    }
    assert_eq!(get(address, LIVE).await.status, 200);

    // The server may close while the rest of this is on its way, so the reply may be lost.
    let mut huge = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "GET {LIVE} HTTP/1.1\r\nX-Huge: {}\r\n\r\n",
        "x".repeat(1 << 20)
    );
    let _ = huge.write_all(head.as_bytes()).await;
    let mut response = Vec::new();
    let _ = huge.read_to_end(&mut response).await;
    assert!(!response.starts_with(b"HTTP/1.1 200"));

    for garbage in [&b"\x16\x03\x01\x02\x00\x01"[..], b"\0\0\0\0\r\n\r\n", b""] {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(garbage).await.unwrap();
        client.shutdown().await.unwrap();
        let _ = client.read_to_end(&mut Vec::new()).await;
    }
    assert_eq!(get(address, LIVE).await.status, 200);
}

/// The limit belongs to the process, so the test proper runs in one of its own.
#[cfg(target_os = "linux")]
#[test]
fn survives_running_out_of_file_descriptors() {
    let output = std::process::Command::new("sh")
        .args(["-c", "ulimit -n 64 && exec \"$0\" --ignored --exact \"$1\""])
        .arg(std::env::current_exe().unwrap())
        .arg("with_64_file_descriptors")
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}");
    assert!(stdout.contains("1 passed"), "{stdout}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
#[ignore = "run by survives_running_out_of_file_descriptors"]
async fn with_64_file_descriptors() {
    use std::fs::File;
    use std::time::Instant;

    use tokio::net::TcpSocket;

    let server = Http01Server::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addrs()[0];

    // The client has its descriptor; there is none for the server's end of the connection.
    let client = TcpSocket::new_v4().unwrap();
    let files: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    let started = Instant::now();
    let mut client = client.connect(address).await.unwrap();
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut response = String::new();
    let early = timeout(
        Duration::from_millis(20),
        client.read_to_string(&mut response),
    );
    assert!(early.await.is_err(), "{response}");

    drop(files);
    client.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.0 404"), "{response}");
    // It waited before it tried again.
    assert!(started.elapsed() > Duration::from_millis(90));
}

fn presentation() -> Presentation {
    let token = LIVE.rsplit('/').next().unwrap();
    let challenge = Challenge::pending(
        ChallengeType::Http01,
        Url::parse("https://ca.example/challenge/1").unwrap(),
        Some(token.to_owned()),
    );
    Presentation::new(
        "example.com".parse().unwrap(),
        challenge,
        Url::parse("https://ca.example/account/1").unwrap(),
        &AccountKey::generate().unwrap().public_key().thumbprint(),
    )
    .unwrap()
}

fn has_ipv6() -> bool {
    std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

async fn get(address: SocketAddr, path: &str) -> Response {
    request(address, "GET", path).await
}

async fn request(address: SocketAddr, method: &str, path: &str) -> Response {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: example.com\r\n\r\n");
    exchange(address, request.as_bytes()).await
}

/// Sends one request and reads until the server closes the connection.
async fn exchange(address: SocketAddr, request: &[u8]) -> Response {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        Response::parse(&response)
    };
    timeout(Duration::from_secs(30), exchange)
        .await
        .expect("the server answers and closes")
}

#[derive(Debug)]
struct Response {
    status: u16,
    head: String,
    body: String,
}

impl Response {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
        Self {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}
