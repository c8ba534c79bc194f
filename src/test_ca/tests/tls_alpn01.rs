use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::client::{RawClient, web_server};
use super::{look, place};
use crate::jose::{KeyAuthorization, Signer};
use crate::protocol::{Identifier, Token};
use crate::provider::crypto_provider;
use crate::test_ca::TestCa;
use crate::x509::AcmeCertificate;

const PROTOCOL: &[u8] = b"acme-tls/1";

/// A pending tls-alpn-01 challenge.
struct Challenge {
    url: Value,
    authorization: Value,
    identifier: Identifier,
    key_authorization: KeyAuthorization,
}

impl Challenge {
    async fn order(client: &RawClient, name: &str) -> Self {
        let order = place(client, &[name]).await;
        let authorization = order.json()["authorizations"][0].clone();
        let object = client.post_to(&authorization, "").await.json();
        let challenge = object["challenges"]
            .as_array()
            .unwrap()
            .iter()
            .find(|challenge| challenge["type"] == "tls-alpn-01")
            .unwrap();
        let token = Token::parse(challenge["token"].as_str().unwrap()).unwrap();
        let thumbprint = client.key.public_key().thumbprint();
        Self {
            url: challenge["url"].clone(),
            authorization,
            identifier: name.parse().unwrap(),
            key_authorization: KeyAuthorization::new(&token, &thumbprint),
        }
    }

    fn certificate(&self) -> AcmeCertificate {
        let now = SystemTime::now();
        AcmeCertificate::new(&self.identifier, &self.key_authorization, now).unwrap()
    }

    /// The challenge after validation. The only one that is left, as at Boulder.
    async fn respond(&self, client: &RawClient) -> Value {
        client.post_to(&self.url, "{}").await;
        let authorization = client.post_to(&self.authorization, "").await.json();
        let challenges = authorization["challenges"].as_array().unwrap();
        assert_eq!(challenges.len(), 1);
        assert_eq!(challenges[0]["type"], "tls-alpn-01");
        assert_eq!(challenges[0]["status"], authorization["status"]);
        challenges[0].clone()
    }

    async fn assert_refused(&self, client: &RawClient, kind: &str, detail: &str) {
        let challenge = self.respond(client).await;
        assert_eq!(challenge["status"], "invalid", "{detail}");
        let urn = format!("urn:ietf:params:acme:error:{kind}");
        assert_eq!(challenge["error"]["type"], urn, "{challenge}");
        let found = challenge["error"]["detail"].as_str().unwrap();
        assert!(found.contains(detail), "{detail} is not in {found}");
    }
}

/// Answers every handshake in the same way. Gives its port, and the names it was asked for.
async fn tls_server(
    address: IpAddr,
    versions: &[&'static rustls::SupportedProtocolVersion],
    protocol: Option<&[u8]>,
    certificate: &AcmeCertificate,
) -> (u16, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let provider = crypto_provider().unwrap();
    let key = certificate.key().to_private_key_der().unwrap();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let key = CertifiedKey::new(vec![certificate.der().clone()], key);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)));
    config.alpn_protocols = protocol.iter().map(|name| name.to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));

    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, names) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(stream) = acceptor.accept(stream).await {
                let name = stream.get_ref().1.server_name().unwrap_or_default();
                let _ = sender.send(name.to_owned());
            }
        }
    });
    (port, names)
}

#[tokio::test]
async fn validates_names_and_addresses() {
    let ca = TestCa::start().await.unwrap();
    let client = RawClient::registered(&ca).await;
    let books = match cfg!(feature = "idna") {
        true => "bücher.test",
        false => "xn--bcher-kva.test",
    };
    for (name, address, server_name, versions) in [
        ("a.example.test", "127.0.0.1", "a.example.test", &[&TLS13]),
        (books, "127.0.0.1", "xn--bcher-kva.test", &[&TLS12]),
        (
            "127.0.0.2",
            "127.0.0.2",
            "2.0.0.127.in-addr.arpa",
            &[&TLS13],
        ),
        (
            "::1",
            "::1",
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa",
            &[&TLS13],
        ),
    ] {
        let challenge = Challenge::order(&client, name).await;
        let certificate = challenge.certificate();
        let address = address.parse().unwrap();
        let (port, mut names) = tls_server(address, versions, Some(PROTOCOL), &certificate).await;
        ca.set_tls_alpn01_port(port);
        let found = challenge.respond(&client).await;
        assert_eq!(found["status"], "valid", "{found}");
        assert_eq!(names.recv().await.unwrap(), server_name);
    }
}

#[tokio::test]
async fn a_wildcard_is_offered_no_such_challenge() {
    let ca = TestCa::start().await.unwrap();
    let client = RawClient::registered(&ca).await;
    let order = place(&client, &["*.example.test"]).await;
    let authorization = client.post_to(&order.json()["authorizations"][0], "").await;
    let challenges = authorization.json()["challenges"].clone();
    assert_eq!(challenges.as_array().unwrap().len(), 1);
    assert_eq!(challenges[0]["type"], "dns-01");
    assert_eq!(look(&client, &order).await.json()["status"], "pending");
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
    let name = "a.example.test";
    let local = IpAddr::from([127, 0, 0, 1]);

    let challenge = Challenge::order(&client, "far.example.test").await;
    challenge
        .assert_refused(&client, "connection", "192.0.2.1 is not a loopback")
        .await;

    // Below TLS.
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let web = web_server(|_| (200, String::new(), String::new())).await;
    for (port, kind, detail) in [
        (closed, "connection", "127.0.0.1: Connection refused"),
        (
            silent.local_addr().unwrap().port(),
            "connection",
            "Timeout during read",
        ),
        (web, "connection", "127.0.0.1: "),
    ] {
        ca.set_tls_alpn01_port(port);
        let challenge = Challenge::order(&client, name).await;
        challenge.assert_refused(&client, kind, detail).await;
    }

    // In TLS: another protocol, or none.
    for (protocol, kind, detail) in [
        (Some(&b"h2"[..]), "tls", "NoApplicationProtocol"),
        (None, "unauthorized", "Cannot negotiate ALPN"),
    ] {
        let challenge = Challenge::order(&client, name).await;
        let certificate = challenge.certificate();
        let (port, _) = tls_server(local, &[&TLS13], protocol, &certificate).await;
        ca.set_tls_alpn01_port(port);
        challenge.assert_refused(&client, kind, detail).await;
    }

    // The answers to other challenges.
    let other = Challenge::order(&client, name).await;
    let other_name = Challenge::order(&client, "b.example.test").await;
    for (certificate, detail) in [
        (other.certificate(), "has the digest"),
        (
            other_name.certificate(),
            "is for b.example.test, but must be for a.example.test only",
        ),
    ] {
        let challenge = Challenge::order(&client, name).await;
        let (port, _) = tls_server(local, &[&TLS13], Some(PROTOCOL), &certificate).await;
        ca.set_tls_alpn01_port(port);
        challenge
            .assert_refused(&client, "unauthorized", detail)
            .await;
    }
}
