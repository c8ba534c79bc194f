use std::net::SocketAddr;
use std::time::Duration;

use http::{Method, Version};
use tokio::net::{TcpListener, TcpStream};

use super::client::RawClient;
use crate::protocol::ProblemType;
use crate::test_ca::{ResourceKind, StartError, TestCa};

#[tokio::test]
async fn hands_out_a_directory_and_nonces() {
    let ca = TestCa::start().await.unwrap();
    let mut client = RawClient::new(&ca);
    for version in [Version::HTTP_11, Version::HTTP_2] {
        client.version = version;
        let reply = client.request(Method::GET, "/directory");
        let reply = client.send(reply, "").await;
        assert!(!reply.headers.contains_key("replay-nonce"));
        assert!(!reply.headers.contains_key("link"));
        let directory = reply.json();
        assert_eq!(directory["newNonce"], client.url("/new-nonce").as_str());
        assert!(directory["meta"]["termsOfService"].is_string());

        for (method, status) in [(Method::HEAD, 200), (Method::GET, 204)] {
            let reply = client.send(client.request(method, "/new-nonce"), "").await;
            assert_eq!(reply.status, status);
            assert_eq!(reply.header("cache-control"), "no-store");
            assert!(!reply.header("replay-nonce").is_empty());
        }
    }
    let versions: Vec<_> = ca.requests().iter().map(|r| r.version).collect();
    assert_eq!(versions[..3], [Version::HTTP_11; 3]);
    assert_eq!(versions[3..], [Version::HTTP_2; 3]);
}

#[tokio::test]
async fn listens_on_loopback_only() {
    for address in ["0.0.0.0:0", "192.0.2.1:0", "[::]:0"] {
        let bind: SocketAddr = address.parse().unwrap();
        let error = TestCa::builder().bind(bind).start().await.unwrap_err();
        assert!(matches!(error, StartError::NotLoopback(_)), "{error}");
    }
    let ca = TestCa::start().await.unwrap();
    let taken = TestCa::builder().bind(ca.address()).start().await;
    assert!(matches!(taken, Err(StartError::Bind { .. })));

    // Its certificate is for any loopback address that it is bound to.
    let bind = SocketAddr::from(([127, 0, 0, 9], 0));
    let ca = TestCa::builder().bind(bind).start().await.unwrap();
    assert!(ca.directory_url().starts_with("https://127.0.0.9:"));
    RawClient::registered(&ca).await;
}

#[tokio::test]
async fn ends_with_its_last_handle() {
    let ca = TestCa::start().await.unwrap();
    let (address, clone) = (ca.address(), ca.clone());
    // A client that keeps its connection does not keep the CA.
    let open = TcpStream::connect(address).await.unwrap();
    drop(ca);
    TcpStream::connect(address).await.unwrap();
    drop(clone);
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    drop(open);

    let ca = TestCa::start().await.unwrap();
    let address = ca.address();
    RawClient::registered(&ca).await;
    ca.shutdown().await;
    TcpListener::bind(address).await.unwrap();
}

#[tokio::test]
async fn rejects_good_nonces() {
    let ca = TestCa::builder().reject_nonces(1.0).start().await.unwrap();
    let client = RawClient::new(&ca);
    let account = r#"{"termsOfServiceAgreed":true}"#;
    let reply = client.post("/new-account", account).await;
    assert_eq!(reply.problem(), (400, "badNonce".to_owned()));
    assert!(!reply.header("replay-nonce").is_empty());
    ca.reject_nonces(0.0);
    assert_eq!(client.post("/new-account", account).await.status, 201);
}

#[tokio::test]
async fn delays_replies_side_by_side() {
    let ca = TestCa::start().await.unwrap();
    let mut client = RawClient::new(&ca);
    client.version = Version::HTTP_2;
    let latency = Duration::from_millis(300);
    ca.set_latency(latency);
    tokio::join!(client.nonce(), client.nonce(), client.nonce());
    for request in ca.requests() {
        assert!(request.finished.unwrap() - request.started >= latency);
    }
    assert_eq!(ca.max_in_flight(), 3);
    let mut overlap: Vec<_> = ca.requests().iter().map(|r| r.in_flight).collect();
    overlap.sort_unstable();
    assert_eq!(overlap, [1, 2, 3]);

    ca.set_latency(Duration::ZERO);
    ca.clear_requests();
    client.nonce().await;
    assert_eq!(ca.max_in_flight(), 1);
    assert_eq!(ca.requests()[0].sequence, 4);
}

#[tokio::test]
async fn logs_requests() {
    let ca = TestCa::start().await.unwrap();
    let client = RawClient::registered(&ca).await;
    ca.clear_requests();
    let payload = r#"{"identifiers":[]}"#;
    client.post("/new-order", payload).await;
    client.post("/nowhere", "").await;

    let requests = ca.requests();
    let [_, order, _, nowhere] = requests.as_slice() else {
        panic!("{requests:#?}");
    };
    assert_eq!(order.kind, ResourceKind::NewOrder);
    assert_eq!(order.method, Method::POST);
    assert_eq!(order.path, "/new-order");
    assert_eq!(order.url, client.url("/new-order").as_str());
    assert_eq!(order.user_agent.as_deref(), Some("raw"));
    assert_eq!(order.accept_language, None);
    assert_eq!(order.content_type.as_deref(), Some("application/jose+json"));
    assert_eq!(
        order.kid.as_deref(),
        client.account.as_ref().map(|a| a.as_str())
    );
    assert!(order.nonce.is_some());
    assert_eq!(order.payload.as_ref().unwrap().to_string(), payload);
    assert_eq!(order.status.unwrap(), 400);
    assert_eq!(order.problem, Some(ProblemType::Malformed));
    assert!(order.finished.unwrap() >= order.started);
    assert_eq!(nowhere.kind, ResourceKind::Unknown);
    assert_eq!(nowhere.status.unwrap(), 404);
}
