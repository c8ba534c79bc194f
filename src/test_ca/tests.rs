//! The CA as a client sees it.

use std::time::SystemTime;

use http::{Method, StatusCode, Version};
use serde_json::{Value, json};

use super::raw_client::{RawClient, RawReply, web_server};
use super::*;
use crate::jose::Signer;
use crate::protocol::{Base64Url, Identifiers};
use crate::x509::{CertificateChain, CertificateKey, Csr};

/// Serves the key authorization of any token.
async fn solve(ca: &TestCa, client: &RawClient) {
    let thumbprint = client.key.public_key().thumbprint();
    let port = web_server(move |path| {
        let token = path.rsplit('/').next().unwrap();
        (200, String::new(), format!("{token}.{thumbprint}\n"))
    })
    .await;
    ca.set_http01_port(port);
}

async fn order(client: &RawClient, names: &[&str]) -> RawReply {
    let identifiers: Vec<_> = Identifiers::collect(names.iter().copied())
        .unwrap()
        .to_vec();
    let request = json!({ "identifiers": identifiers });
    let reply = client.post("/new-order", &request.to_string()).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{:?}", reply.body);
    reply
}

/// Answers all challenges of an order, and looks at it then.
async fn respond(client: &RawClient, order: &RawReply) -> Value {
    for url in order.json()["authorizations"].as_array().unwrap() {
        let authorization = client.post_to(url, "").await.json();
        let challenge = client
            .post_to(&authorization["challenges"][0]["url"], "{}")
            .await;
        assert_eq!(challenge.status, StatusCode::OK, "{challenge:?}");
    }
    let location = json!(order.header("location"));
    client.post_to(&location, "").await.json()
}

fn csr(key: &CertificateKey, names: &[&str]) -> String {
    let identifiers = Identifiers::collect(names.iter().copied()).unwrap();
    let csr = Csr::new(key, &identifiers).unwrap();
    json!({ "csr": Base64Url::from(csr.der().as_ref()) }).to_string()
}

#[tokio::test]
async fn issues() {
    let ca = TestCa::start().await.unwrap();
    let mut client = RawClient::registered(&ca).await;
    client.version = Version::HTTP_2;
    solve(&ca, &client).await;

    let names = ["a.example.test", "b.example.test", "127.0.0.1"];
    let placed = order(&client, &names).await;
    let ready = respond(&client, &placed).await;
    assert_eq!(ready["status"], "ready", "{ready}");

    let key = CertificateKey::generate().unwrap();
    let finalized = client.post_to(&ready["finalize"], &csr(&key, &names)).await;
    let valid = finalized.json();
    assert_eq!(valid["status"], "valid", "{valid}");
    let download = client.post_to(&valid["certificate"], "").await;
    assert_eq!(
        download.header("content-type"),
        "application/pem-certificate-chain"
    );

    let pem = String::from_utf8(download.body.to_vec()).unwrap();
    let chain = CertificateChain::from_pem(&pem).unwrap();
    let identifiers = Identifiers::collect(names).unwrap();
    chain
        .check(key.public_key_info(), &identifiers, SystemTime::now())
        .unwrap();
    assert_eq!(chain.certificates().len(), 2);

    let kinds: Vec<_> = ca
        .requests()
        .into_iter()
        .filter(|request| request.kind != ResourceKind::NewNonce)
        .map(|request| (request.kind, request.status.unwrap().as_u16()))
        .collect();
    let mut expected = vec![
        (ResourceKind::NewAccount, 201),
        (ResourceKind::NewOrder, 201),
    ];
    for _ in names {
        expected.push((ResourceKind::Authorization, 200));
        expected.push((ResourceKind::Challenge, 200));
    }
    expected.extend([
        (ResourceKind::Order, 200),
        (ResourceKind::Finalize, 200),
        (ResourceKind::Certificate, 200),
    ]);
    assert_eq!(kinds, expected);
    assert!(ca.max_in_flight() == 1);
}

#[tokio::test]
async fn hands_out_a_directory_and_nonces() {
    let ca = TestCa::start().await.unwrap();
    let mut client = RawClient::new(&ca);
    for version in [Version::HTTP_11, Version::HTTP_2] {
        client.version = version;
        let directory = client.request(Method::GET, "/directory");
        let directory = client.send(directory, "").await.json();
        assert_eq!(directory["newNonce"], client.url("/new-nonce").as_str());

        for (method, status) in [(Method::HEAD, 200), (Method::GET, 204)] {
            let reply = client.send(client.request(method, "/new-nonce"), "").await;
            assert_eq!(reply.status, status);
            assert_eq!(reply.header("cache-control"), "no-store");
            assert!(!reply.header("replay-nonce").is_empty());
        }
    }
}
