use std::net::IpAddr;
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::client::{RawClient, web_server};
use super::{look, place, ready, respond, solve};
use crate::jose::Signer;
use crate::test_ca::{ResourceKind, RetryAfter, TestCa, Validation};

/// The challenge of an order for one name, after the client has answered it.
async fn outcome(client: &RawClient, name: &str) -> Value {
    let order = place(client, &[name]).await;
    respond(client, &order).await;
    let authorization = order.json()["authorizations"][0].clone();
    let authorization = client.post_to(&authorization, "").await.json();
    let order = look(client, &order).await.json();
    let challenge = authorization["challenges"][0].clone();
    assert_eq!(authorization["status"], challenge["status"]);
    match challenge["status"].as_str().unwrap() {
        "valid" => assert_eq!(order["status"], "ready"),
        status => assert_eq!(order["status"], status),
    }
    challenge
}

#[tokio::test]
async fn says_what_it_found() {
    let ca = TestCa::builder()
        .validation_timeout(Duration::from_millis(300))
        .resolve("far.example.test", IpAddr::from([192, 0, 2, 1]))
        .start()
        .await
        .unwrap();
    let client = RawClient::registered(&ca).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let fixed = |status: u16, location: &'static str, body: String| {
        web_server(move |_| (status, location.to_owned(), body.clone()))
    };
    for (port, kind, detail) in [
        (closed, "connection", "Connection refused"),
        (
            silent.local_addr().unwrap().port(),
            "connection",
            "Timeout after connect",
        ),
        (
            fixed(301, "https://a.example.test/", String::new()).await,
            "connection",
            "Invalid protocol scheme",
        ),
        (
            fixed(307, "http://192.0.2.1/", String::new()).await,
            "connection",
            "not a loopback address",
        ),
        (
            fixed(308, "", String::new()).await,
            "connection",
            "Too many redirects",
        ),
        (
            fixed(404, "", String::new()).await,
            "unauthorized",
            "Invalid response from http://a.example.test",
        ),
        (fixed(204, "", String::new()).await, "unauthorized", ": 204"),
        (
            fixed(200, "", "else".into()).await,
            "unauthorized",
            r#"(got "else")"#,
        ),
        (
            fixed(200, "", "x".repeat(1_000)).await,
            "connection",
            "Error reading",
        ),
    ] {
        ca.set_http01_port(port);
        let challenge = outcome(&client, "a.example.test").await;
        assert_eq!(challenge["status"], "invalid");
        let urn = format!("urn:ietf:params:acme:error:{kind}");
        assert_eq!(challenge["error"]["type"], urn, "{challenge}");
        let found = challenge["error"]["detail"].as_str().unwrap();
        assert!(found.contains(detail), "{found}");
    }

    let challenge = outcome(&client, "far.example.test").await;
    let found = challenge["error"]["detail"].as_str().unwrap();
    assert!(found.contains("192.0.2.1 is not a loopback"), "{found}");
    let challenge = outcome(&client, "*.example.test").await;
    assert_eq!(challenge["type"], "dns-01");
    assert_eq!(challenge["error"]["type"], "urn:ietf:params:acme:error:dns");
}

#[tokio::test]
async fn follows_redirects_and_resolves() {
    let ca = TestCa::builder()
        .resolve("other.example.test", IpAddr::from([127, 0, 0, 2]))
        .start()
        .await
        .unwrap();
    let client = RawClient::registered(&ca).await;
    let thumbprint = client.key.public_key().thumbprint();
    let port = web_server(move |path| match path.split('/').next_back() {
        Some(token) if path.starts_with("/moved/") => {
            (200, String::new(), format!("{token}.{thumbprint}"))
        }
        Some(token) => (302, format!("/moved/{token}"), String::new()),
        None => (500, String::new(), String::new()),
    })
    .await;
    ca.set_http01_port(port);
    for name in ["a.example.test", "127.0.0.1"] {
        let challenge = outcome(&client, name).await;
        assert_eq!(challenge["status"], "valid", "{challenge}");
        assert!(challenge["validated"].is_string());
    }
    // Nothing listens there.
    let challenge = outcome(&client, "other.example.test").await;
    let found = challenge["error"]["detail"].as_str().unwrap();
    assert!(found.starts_with("127.0.0.2: Fetching"), "{found}");
}

#[tokio::test]
async fn keeps_the_pace_it_is_told_to() {
    let ca = TestCa::start().await.unwrap();
    let client = RawClient::registered(&ca).await;
    solve(&ca, &client).await;
    for (pace, status) in [
        (Validation::BeforeNextLook, "processing"),
        (Validation::BeforeReply, "valid"),
    ] {
        ca.set_validation(pace);
        let order = place(&client, &["a.example.test", "b.example.test"]).await;
        for reply in respond(&client, &order).await {
            assert_eq!(reply.status, StatusCode::OK);
            assert_eq!(reply.json()["status"], status);
            let links: Vec<_> = reply.headers.get_all("link").iter().collect();
            assert!(links.iter().any(|link| {
                let link = link.to_str().unwrap();
                link.contains("/authorization/") && link.ends_with(";rel=\"up\"")
            }));
        }
        assert_eq!(look(&client, &order).await.json()["status"], "ready");
    }
}

#[tokio::test]
async fn may_be_polled() {
    let ca = TestCa::builder()
        .validation(Validation::InBackground)
        .validation_timeout(Duration::from_secs(60))
        .retry_after(RetryAfter::Seconds(7))
        .start()
        .await
        .unwrap();
    let client = RawClient::registered(&ca).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    ca.set_http01_port(silent.local_addr().unwrap().port());
    let order = place(&client, &["a.example.test"]).await;
    let challenge = respond(&client, &order).await.remove(0).json();
    assert_eq!(challenge["status"], "processing");

    let url = &order.json()["authorizations"][0];
    for reply in [look(&client, &order).await, client.post_to(url, "").await] {
        assert_eq!(reply.json()["status"], "pending");
        assert_eq!(reply.header("retry-after"), "7");
    }
    assert_eq!(ca.count(ResourceKind::Challenge), 1);
}

#[tokio::test]
async fn is_done_once() {
    let ca = TestCa::start().await.unwrap();
    let (client, other) = tokio::join!(RawClient::registered(&ca), RawClient::registered(&ca));
    let order = ready(&ca, &client, &["a.example.test"]).await;
    let url = &order.json()["authorizations"][0];
    let authorization = client.post_to(url, "").await.json();
    let challenge = &authorization["challenges"][0]["url"];
    let again = client.post_to(challenge, "{}").await;
    assert_eq!(again.problem(), (400, "malformed".to_owned()));
    assert_eq!(client.post_to(challenge, "").await.status, 200);

    for url in [url, challenge, &json!(order.location())] {
        let reply = other.post_to(url, "").await;
        assert_eq!(reply.problem(), (403, "unauthorized".to_owned()), "{url}");
    }
}

#[tokio::test]
async fn is_undone_by_deactivation() {
    let ca = TestCa::start().await.unwrap();
    let client = RawClient::registered(&ca).await;
    let order = ready(&ca, &client, &["a.example.test"]).await;
    let url = &order.json()["authorizations"][0];
    let deactivate = r#"{"status":"deactivated"}"#;
    let reply = client.post_to(url, deactivate).await;
    assert_eq!(reply.json()["status"], "deactivated");
    assert_eq!(look(&client, &order).await.json()["status"], "invalid");
    let again = client.post_to(url, deactivate).await;
    assert_eq!(again.problem(), (400, "malformed".to_owned()));
}
