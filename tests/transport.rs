//! The transport over hyper and rustls, against sockets that behave well, badly or not at all.

#![cfg(all(feature = "http-01", feature = "hyper", feature = "test-ca"))]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod support;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use certwright::error::{ConfigurationError, Operation};
use certwright::jose::AccountKey;
use certwright::solver::Http01Server;
use certwright::test_ca::{LoggedRequest, ResourceKind, TestCa};
use certwright::transport::{
    HyperTransport, HyperTransportBuilder, Transport, TransportError, TransportFault,
};
use certwright::x509::CertificateKey;
use certwright::{Client, Error};
use http::{Method, Request, Response, StatusCode, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use self::support::pki;

#[tokio::test]
async fn speaks_http2_unless_told_otherwise() {
    let ca = TestCa::start().await.unwrap();
    for (builder, version) in [
        (trusting(&ca), Version::HTTP_2),
        (trusting(&ca).http1_only(), Version::HTTP_11),
    ] {
        let transport = builder.build().unwrap();
        let response = get(&transport, &ca.directory_url()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(ca.requests().last().unwrap().version, version);
    }
}

#[tokio::test]
async fn speaks_over_ipv6() {
    let Ok(ca) = TestCa::builder()
        .bind("[::1]:0".parse().unwrap())
        .start()
        .await
    else {
        return; // There is no IPv6 here.
    };
    let transport = trusting(&ca).build().unwrap();
    let response = get(&transport, &ca.directory_url()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn introduces_itself_on_every_request() {
    let solver = Http01Server::bind("127.0.0.1:0").await.unwrap();
    let port = solver.local_addrs()[0].port();
    let ca = TestCa::builder().http01_port(port).start().await.unwrap();
    let client = Client::builder(ca.directory_url().as_str())
        .add_root_pem(ca.root_pem())
        .product("example-server/1.2 (+https://example.com)")
        .accept_language("de, en;q=0.5")
        .build()
        .await
        .unwrap();
    let account = client.new_account(AccountKey::generate().unwrap());
    let account = account.agree_to_terms().create().await.unwrap();
    let issuance = account.issue(["example.test", "www.example.test"]);
    issuance.solver(solver).await.unwrap();

    let own = concat!("certwright/", env!("CARGO_PKG_VERSION"));
    let agent = format!("example-server/1.2 (+https://example.com) {own}");
    let requests = ca.requests();
    for request in &requests {
        assert_eq!(request.user_agent.as_deref(), Some(agent.as_str()));
        assert_eq!(request.accept_language.as_deref(), Some("de, en;q=0.5"));
        // RFC 8555 §6.2: exactly this, and only where there is a JWS.
        let posted = (request.method == Method::POST).then_some("application/jose+json");
        assert_eq!(request.content_type.as_deref(), posted, "{request:?}");
    }
    let has = |method: Method, kind| {
        let mut matching = requests.iter().filter(|r| r.method == method);
        matching.any(|request| request.kind == kind)
    };
    assert!(has(Method::GET, ResourceKind::Directory));
    assert!(has(Method::HEAD, ResourceKind::NewNonce));
    for kind in [
        ResourceKind::NewAccount,
        ResourceKind::NewOrder,
        ResourceKind::Authorization,
        ResourceKind::Challenge,
        ResourceKind::Order,
        ResourceKind::Finalize,
        ResourceKind::Certificate,
    ] {
        assert!(has(Method::POST, kind), "{kind:?}");
    }
}

#[tokio::test]
async fn follows_no_redirect() {
    let (address, accepted) = replying(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let response = get(&plain(), &format!("http://{address}/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(response.headers()["location"], "/elsewhere");
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn refuses_servers_that_it_can_not_authenticate() {
    let ca = TestCa::start().await.unwrap();
    let other = TestCa::start().await.unwrap();
    let another_name = Proxy::start(ca.address()).await.url();
    let url = ca.directory_url();
    for (builder, url, reason) in [
        // A root that is not the platform's, nor the one that was added; a name that is not the
        // server's.
        (HyperTransport::builder(), url.as_str(), "UnknownIssuer"),
        (trusting(&other).without_platform_roots(), url.as_str(), ""),
        (
            trusting(&ca).proxy(&another_name),
            "https://ca.example/directory",
            "not valid for name \"ca.example\"",
        ),
    ] {
        let transport = match builder.build() {
            Ok(transport) => transport,
            // A machine without roots.
            Err(Error::Configuration(ConfigurationError::Tls(_))) => continue,
            Err(error) => panic!("{error}"),
        };
        let error = get(&transport, url).await.unwrap_err();
        assert_eq!(error.fault(), TransportFault::Untrusted);
        assert_told(&error, &["invalid peer certificate", reason]);
    }
    assert_eq!(ca.requests().len(), 0);
}

#[tokio::test]
async fn trusts_only_the_roots_that_were_added() {
    let error = HyperTransport::builder().without_platform_roots().build();
    assert!(matches!(
        error,
        Err(Error::Configuration(ConfigurationError::NoRoots))
    ));

    let (ca, other) = (
        TestCa::start().await.unwrap(),
        TestCa::start().await.unwrap(),
    );
    let both = format!("{}\r\n{}", other.root_pem(), ca.root_pem());
    for builder in [
        trusting(&ca).without_platform_roots(),
        trusting(&other).add_root_pem(ca.root_pem()),
        HyperTransport::builder().add_root_pem(&both),
    ] {
        let transport = builder.build().unwrap();
        get(&transport, &ca.directory_url()).await.unwrap();
    }
}

#[tokio::test]
async fn refuses_roots_that_are_none() {
    let key = CertificateKey::generate().unwrap().to_pkcs8_pem().unwrap();
    let garbage = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n";
    for pem in ["", "<html></html>", key.as_str(), garbage] {
        for builder in [
            HyperTransport::builder(),
            HyperTransport::builder().without_platform_roots(),
        ] {
            let error = builder.add_root_pem(pem).build().unwrap_err();
            assert!(
                matches!(
                    error,
                    Error::Configuration(ConfigurationError::Root(_) | ConfigurationError::Tls(_))
                ),
                "{error}"
            );
            assert!(!error.to_string().contains(key.as_str()));
        }
    }
}

#[tokio::test]
async fn speaks_tls_by_the_callers_configuration() {
    let ca = TestCa::start().await.unwrap();
    let mut config = pki::trusting(ca.root_pem());
    config.alpn_protocols = vec![b"http/1.0".to_vec(), b"h3".to_vec()];

    let builder = HyperTransport::builder().tls_config(config);
    for (builder, version) in [
        (builder.clone(), Version::HTTP_2),
        (builder.http1_only(), Version::HTTP_11),
    ] {
        get(&builder.build().unwrap(), &ca.directory_url())
            .await
            .unwrap();
        assert_eq!(ca.requests().last().unwrap().version, version);
    }
}

#[tokio::test]
async fn says_that_nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = get(&plain(), &format!("https://{address}/"))
        .await
        .unwrap_err();
    assert_eq!(error.fault(), TransportFault::Connect);
    assert_told(&error, &["refused"]);
}

#[tokio::test]
async fn waits_for_a_handshake_no_longer_than_for_a_connection() {
    let (address, _) = silent().await;
    let limit = Duration::from_millis(300);
    let transport = HyperTransport::builder()
        .connect_timeout(limit)
        .build()
        .unwrap();
    let start = Instant::now();
    let error = get(&transport, &format!("https://{address}/"))
        .await
        .unwrap_err();
    assert!(start.elapsed() >= limit);
    assert_eq!(error.fault(), TransportFault::Connect);
    assert_told(&error, &["not connected within 0.3 s"]);
}

#[tokio::test]
async fn waits_for_a_response_as_long_as_it_was_told() {
    let limit = Duration::from_millis(300);
    let (nothing, _) = silent().await;
    let stalled = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nthe first part";
    let stalled = serve(move |mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(stalled.as_bytes()).await.unwrap();
        read_to_end(&mut stream).await;
    })
    .await;
    for address in [nothing, stalled] {
        let transport = HyperTransport::builder()
            .request_timeout(limit)
            .build()
            .unwrap();
        let start = Instant::now();
        let error = get(&transport, &format!("http://{address}/"))
            .await
            .unwrap_err();
        assert!(start.elapsed() >= limit);
        assert_eq!(error.fault(), TransportFault::Timeout(limit));
        assert_told(&error, &["no response came within 0.3 s"]);
    }
}

#[tokio::test]
async fn takes_any_time_and_size_as_a_limit() {
    let (address, _) = replying("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let url = format!("http://{address}/");
    let endless = HyperTransport::builder()
        .connect_timeout(Duration::MAX)
        .request_timeout(Duration::MAX)
        .response_limit(usize::MAX)
        .build()
        .unwrap();
    get(&endless, &url).await.unwrap();

    let nothing = HyperTransport::builder()
        .connect_timeout(Duration::ZERO)
        .request_timeout(Duration::ZERO)
        .response_limit(0)
        .build()
        .unwrap();
    // Timers tick in milliseconds, which is long enough for a reply from near by.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    get(&nothing, &url).await.unwrap_err();
}

#[tokio::test]
async fn takes_a_body_of_the_limit_and_no_larger_one() {
    let limit = "0123456789".len();
    let transport = HyperTransport::builder()
        .response_limit(limit)
        .build()
        .unwrap();
    for (framing, larger) in [
        ("Content-Length: 10\r\n\r\n0123456789", false),
        ("Content-Length: 11\r\n\r\n0123456789a", true),
        (
            "Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n",
            false,
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n6\r\n56789a\r\n0\r\n\r\n",
            true,
        ),
        ("Connection: close\r\n\r\n0123456789", false),
        ("Connection: close\r\n\r\n0123456789a", true),
    ] {
        let (address, _) = replying(format!("HTTP/1.1 200 OK\r\n{framing}")).await;
        let result = get(&transport, &format!("http://{address}/")).await;
        match larger {
            false => assert_eq!(result.unwrap().body(), "0123456789", "{framing}"),
            true => assert_eq!(
                result.unwrap_err().fault(),
                TransportFault::TooLarge(limit),
                "{framing}"
            ),
        }
    }

    // The length of what a HEAD would have brought is no body.
    let (address, _) = replying("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n").await;
    let head = Request::head(format!("http://{address}/"));
    let response = transport.send(head.body(Bytes::new()).unwrap()).await;
    assert_eq!(response.unwrap().body(), "");
}

#[tokio::test]
async fn leaves_the_rest_of_a_large_body_unread() {
    for framing in [Framing::Chunked, Framing::Length] {
        let (address, mut written) = flooding(framing).await;
        let error = get(&plain(), &format!("http://{address}/"))
            .await
            .unwrap_err();
        assert_eq!(error.fault(), TransportFault::TooLarge(1 << 20));
        assert_told(&error, &["larger than 1048576 octets"]);

        // Besides what was read, the buffers of both sockets took some.
        let written = written.next().await;
        assert!(written < FLOOD / 2, "{written} octets were taken");
    }
}

#[tokio::test]
async fn a_directory_that_is_too_large_is_asked_for_once() {
    let (address, mut written) = flooding(Framing::Chunked).await;
    let error = Client::builder(format!("http://{address}/directory").as_str())
        .allow_loopback_http()
        .build()
        .await
        .unwrap_err();
    let Error::Network(fault) = &error else {
        panic!("{error}");
    };
    assert_eq!(fault.operation, Operation::Directory);
    assert_eq!(fault.source.fault(), TransportFault::TooLarge(1 << 20));
    written.next().await;
    assert_eq!(written.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_is_no_response_is_an_error() {
    let many = format!(
        "HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n",
        "X-Header: value\r\n".repeat(1_000)
    );
    let long = format!(
        "HTTP/1.1 200 OK\r\nX-Header: {}\r\nContent-Length: 0\r\n\r\n",
        "x".repeat(1 << 20)
    );
    for response in [
        "",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "\x15\x03\x01\x00\x02\x02\x46",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"newNonce\":",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n0123",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n0123",
        "HTTP/1.1 999999 OK\r\n\r\n",
        &many,
        &long,
    ] {
        let (address, _) = replying(response).await;
        let start = &response[..response.len().min(60)];
        let error = get(&plain(), &format!("http://{address}/")).await;
        let error = error.expect_err(start);
        match response.len() > 10_000 {
            true => assert_eq!(error.fault(), TransportFault::HeaderTooLarge, "{start}"),
            false => {
                assert_eq!(error.fault(), TransportFault::Interrupted, "{start}");
                assert_told(&error, &["the connection broke before", ": "]);
            }
        }
    }
}

#[tokio::test]
async fn keeps_connections() {
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = accepted.clone();
    let address = serve(move |mut stream| {
        count.fetch_add(1, Ordering::SeqCst);
        async move {
            while !read_head(&mut stream).await.is_empty() {
                let response = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
                stream.write_all(response.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let transport = plain();
    for _ in 0..10 {
        get(&transport.clone(), &format!("http://{address}/"))
            .await
            .unwrap();
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_kept_connection_may_end_between_two_requests() {
    let (closed, mut closings) = tokio::sync::mpsc::channel(1);
    let address = serve(move |mut stream| {
        let closed = closed.clone();
        async move {
            read_head(&mut stream).await;
            let response = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
            stream.write_all(response.as_bytes()).await.unwrap();
            drop(stream);
            closed.send(()).await.unwrap();
        }
    })
    .await;
    let transport = plain();
    for _ in 0..20 {
        get(&transport, &format!("http://{address}/"))
            .await
            .unwrap();
        closings.recv().await.unwrap();
    }
}

#[tokio::test]
async fn a_connection_that_died_in_silence_is_replaced() {
    let ca = TestCa::start().await.unwrap();
    let target = ca.address();
    let dead = Arc::new(AtomicBool::new(false));
    let relay = serve({
        let dead = dead.clone();
        move |mut stream| {
            let dead = dead.clone();
            async move {
                let mut server = TcpStream::connect(target).await.unwrap();
                let (mut from_client, mut to_client) = stream.split();
                let (mut from_server, mut to_server) = server.split();
                tokio::join!(
                    forward(&mut from_client, &mut to_server, &dead),
                    forward(&mut from_server, &mut to_client, &dead),
                );
            }
        }
    })
    .await;
    let url = format!("https://{relay}/directory");
    let transport = trusting(&ca)
        .request_timeout(Duration::from_secs(4))
        .build()
        .unwrap();
    get(&transport, &url).await.unwrap();

    dead.store(true, Ordering::SeqCst);
    let error = get(&transport, &url).await.unwrap_err();
    assert_eq!(error.fault(), TransportFault::Interrupted, "{error}");
    // Connections that are made from now on live.
    dead.store(false, Ordering::SeqCst);
    get(&transport, &url).await.unwrap();
    assert_eq!(ca.count(ResourceKind::Directory), 2);
}

#[tokio::test]
async fn goes_through_a_proxy() {
    let ca = TestCa::start().await.unwrap();
    let proxy = Proxy::start(ca.address()).await;
    for (user, authorization) in [
        ("", None),
        (
            "Aladdin:open%20sesame@",
            Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        ),
    ] {
        for builder in [trusting(&ca), trusting(&ca).http1_only()] {
            let transport = builder
                .proxy(&format!("http://{user}{}", proxy.address))
                .build()
                .unwrap();
            for (url, target) in [
                (ca.directory_url(), ca.address().to_string()),
                (
                    "https://localhost/directory".into(),
                    "localhost:443".to_owned(),
                ),
                (
                    "https://[::1]:14000/directory".into(),
                    "[::1]:14000".to_owned(),
                ),
            ] {
                get(&transport, &url).await.unwrap();
                let head = proxy.heads.lock().unwrap().pop().unwrap();
                let start = format!("CONNECT {target} HTTP/1.1\r\n");
                assert!(head.starts_with(&start), "{head}");
                assert_eq!(header(&head, "host"), Some(target.as_str()), "{head}");
                assert_eq!(header(&head, "proxy-authorization"), authorization);
            }
        }
    }
}

#[tokio::test]
async fn names_the_authority_that_the_url_names() {
    let ca = TestCa::start().await.unwrap();
    let proxy = Proxy::start(ca.address()).await.url();
    for builder in [trusting(&ca), trusting(&ca).http1_only()] {
        let transport = builder.proxy(&proxy).build().unwrap();
        for url in [
            "https://localhost/directory",
            "https://localhost:443/directory",
            "https://localhost:14000/directory",
        ] {
            get(&transport, url).await.unwrap();
            let LoggedRequest { url: seen, .. } = ca.requests().pop().unwrap();
            assert_eq!(seen, url);
        }
    }
}

#[tokio::test]
async fn says_why_a_proxy_opens_no_tunnel() {
    for (response, reason) in [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n",
            "refused to connect to ca.example:443: 407 Proxy Authentication Required",
        ),
        (
            "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\n<html>",
            "refused to connect to ca.example:443: 502 Bad Gateway",
        ),
        (
            "HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\n\r\n",
            "refused to connect to ca.example:443: 302 Found",
        ),
        ("SSH-2.0-OpenSSH_9.2\r\n", "did not answer CONNECT"),
        ("", "did not answer CONNECT"),
        (
            "HTTP/1.1 200 OK\r\n\r\n220 smtp.example ESMTP\r\n",
            "sent data of its own",
        ),
    ] {
        let (address, _) = replying(response).await;
        let transport = HyperTransport::builder()
            .proxy(&format!("http://user:{SECRET}@{address}"))
            .build()
            .unwrap();
        let error = get(&transport, "https://ca.example/directory")
            .await
            .unwrap_err();
        assert_eq!(error.fault(), TransportFault::Connect);
        assert_told(
            &error,
            &[&format!("the proxy at http://{address}/"), reason],
        );
    }

    let (address, _) = silent().await;
    let transport = HyperTransport::builder()
        .connect_timeout(Duration::from_millis(300))
        .proxy(&format!("http://user:{SECRET}@{address}"))
        .build()
        .unwrap();
    let error = get(&transport, "https://ca.example/directory")
        .await
        .unwrap_err();
    assert_eq!(error.fault(), TransportFault::Connect);
    assert_told(&error, &["not connected within 0.3 s"]);
}

#[test]
fn tells_no_secret() {
    for url in [
        format!("http://user:{SECRET}@proxy.example:3128"),
        format!("ftp://user:{SECRET}@proxy.example:3128"),
        format!("http://user:{SECRET}@proxy.example:port"),
        format!("{SECRET}@proxy"),
    ] {
        let builder = HyperTransport::builder().proxy(&url);
        let mut text = format!("{builder:?} {builder:#?}");
        match builder.build() {
            Ok(transport) => text.push_str(&format!("{transport:?} {transport:#?}")),
            Err(error) => {
                let expected = matches!(error, Error::Configuration(ConfigurationError::Proxy));
                assert!(expected, "{error}");
                text.push_str(&format!("{error} {error:?}"));
            }
        }
        assert!(!text.contains(SECRET), "{text}");
    }
}

fn trusting(ca: &TestCa) -> HyperTransportBuilder {
    HyperTransport::builder().add_root_pem(ca.root_pem())
}

/// As it is by default.
fn plain() -> HyperTransport {
    HyperTransport::builder().build().unwrap()
}

async fn get(transport: &HyperTransport, url: &str) -> Result<Response<Bytes>, TransportError> {
    let request = Request::get(url).header("user-agent", "certwright-tests");
    let response = transport.send(request.body(Bytes::new()).unwrap());
    timeout(PATIENCE, response)
        .await
        .expect("the transport should have given up")
}

/// Checks the text of an error for all of these, and for nothing that must not be told.
fn assert_told(error: &TransportError, words: &[&str]) {
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
    assert!(!text.contains(SECRET), "{text}");
    assert!(!format!("{error:?}").contains(SECRET), "{error:?}");
}

/// Serves each connection to a new port of 127.0.0.1.
async fn serve<F>(mut serve: impl FnMut(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// A server that answers the first request of each connection with this text, and then ends it.
async fn replying(response: impl Into<String>) -> (SocketAddr, Arc<AtomicUsize>) {
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = accepted.clone();
    let response: Arc<str> = response.into().into();
    let address = serve(move |mut stream| {
        count.fetch_add(1, Ordering::SeqCst);
        let response = response.clone();
        async move {
            read_head(&mut stream).await;
            // The client may be gone before all of it is written.
            let _ = stream.write_all(response.as_bytes()).await;
            let _ = stream.shutdown().await;
            read_to_end(&mut stream).await;
        }
    })
    .await;
    (address, accepted)
}

/// A server that takes connections, and never says anything.
async fn silent() -> (SocketAddr, Arc<AtomicUsize>) {
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = accepted.clone();
    let address = serve(move |mut stream| {
        count.fetch_add(1, Ordering::SeqCst);
        async move { read_to_end(&mut stream).await }
    })
    .await;
    (address, accepted)
}

#[derive(Clone, Copy)]
enum Framing {
    Chunked,
    Length,
}

/// How much of the flood each connection took, in the order in which they ended.
struct Written {
    octets: tokio::sync::mpsc::UnboundedReceiver<usize>,
    connections: Arc<AtomicUsize>,
}

impl Written {
    async fn next(&mut self) -> usize {
        let octets = timeout(PATIENCE, self.octets.recv());
        octets
            .await
            .expect("the connection should have ended")
            .unwrap()
    }
}

/// A server that answers with a body of [`FLOOD`] octets.
async fn flooding(framing: Framing) -> (SocketAddr, Written) {
    let (count, octets) = tokio::sync::mpsc::unbounded_channel();
    let connections = Arc::new(AtomicUsize::new(0));
    let accepted = connections.clone();
    let address = serve(move |mut stream| {
        accepted.fetch_add(1, Ordering::SeqCst);
        let count = count.clone();
        async move {
            read_head(&mut stream).await;
            let (header, chunk) = match framing {
                Framing::Chunked => (
                    "Transfer-Encoding: chunked".to_owned(),
                    format!("8000\r\n{}\r\n", "x".repeat(0x8000)),
                ),
                Framing::Length => (format!("Content-Length: {FLOOD}"), "x".repeat(0x8000)),
            };
            let head = format!("HTTP/1.1 200 OK\r\n{header}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut written = 0;
            while written < FLOOD && stream.write_all(chunk.as_bytes()).await.is_ok() {
                written += 0x8000;
            }
            count.send(written).unwrap();
        }
    })
    .await;
    let written = Written {
        octets,
        connections,
    };
    (address, written)
}

/// Copies until one side ends, and nothing from the moment on at which the connection is dead.
async fn forward(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    dead: &AtomicBool,
) {
    let mut buffer = [0; 4096];
    let mut died = false;
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        died |= dead.load(Ordering::SeqCst);
        if !died && to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

/// An HTTP proxy that keeps what it was asked, and connects to one server whatever that was.
struct Proxy {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    async fn start(server: SocketAddr) -> Self {
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = heads.clone();
        let address = serve(move |mut stream| {
            let seen = seen.clone();
            async move {
                let head = read_head(&mut stream).await;
                seen.lock().unwrap().push(head);
                let mut server = TcpStream::connect(server).await.unwrap();
                let opened = "HTTP/1.1 200 Connection established\r\n\r\n";
                stream.write_all(opened.as_bytes()).await.unwrap();
                // The connection ends when the client has had enough.
                let _ = copy_bidirectional(&mut stream, &mut server).await;
            }
        })
        .await;
        Self { address, heads }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// A request up to the empty line; nothing where the connection ends before.
async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(octet) => head.push(octet),
            Err(_) => return String::new(),
        }
    }
    String::from_utf8(head).unwrap()
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

/// Until the client ends the connection.
async fn read_to_end(stream: &mut TcpStream) {
    let _ = tokio::io::copy(stream, &mut tokio::io::sink()).await;
}

const FLOOD: usize = 100 << 20;

/// Far more than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

const SECRET: &str = "correct-horse-battery-staple";
