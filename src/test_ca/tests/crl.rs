use std::sync::Arc;

use der::Decode;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::{CertificateRevocationListDer, ServerName, UnixTime};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use x509_cert::Certificate;
use x509_cert::crl::CertificateList;
use x509_cert::ext::pkix::{CrlDistributionPoints, CrlReason};

use super::client::RawClient;
use super::obtain;
use crate::protocol::Base64Url;
use crate::provider::crypto_provider;
use crate::test_ca::{ResourceKind, TestCa};
use crate::x509::{CertificateChain, CertificateKey};

async fn certificate(ca: &TestCa, client: &RawClient) -> CertificateChain {
    let key = CertificateKey::generate().unwrap();
    CertificateChain::from_pem(&obtain(ca, client, &key, &["a.test"]).await).unwrap()
}

async fn revoke(client: &RawClient, chain: &CertificateChain, reason: Value) {
    let der = Base64Url::from(chain.certificates()[0].as_ref());
    let request = json!({"certificate": der, "reason": reason}).to_string();
    assert_eq!(client.post("/revoke-cert", &request).await.status, 200);
}

/// What a TLS client makes of a chain and the list.
fn verify(
    ca: &TestCa,
    chain: &CertificateChain,
    crl: CertificateRevocationListDer<'static>,
) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.root().clone()).unwrap();
    let roots = Arc::new(roots);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, crypto_provider().unwrap())
        .with_crls([crl])
        .only_check_end_entity_revocation()
        .enforce_revocation_expiration()
        .build()
        .unwrap();
    let (leaf, rest) = chain.certificates().split_first().unwrap();
    let name = ServerName::try_from("a.test").unwrap();
    verifier
        .verify_server_cert(leaf, rest, &name, &[], UnixTime::now())
        .map(drop)
}

async fn fetch(url: &str, target: &str) -> (String, Vec<u8>) {
    let address = url
        .strip_prefix("http://")
        .unwrap()
        .split('/')
        .next()
        .unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await.unwrap();
    let end = reply.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(reply[..end].to_vec()).unwrap();
    (head, reply.split_off(end + 4))
}

#[tokio::test]
async fn lists_what_is_revoked() {
    let ca = TestCa::start().await.unwrap();
    let client = RawClient::registered(&ca).await;
    let (first, second) = (
        certificate(&ca, &client).await,
        certificate(&ca, &client).await,
    );
    let parse = |ca: &TestCa| {
        <CertificateList>::from_der(&ca.crl().unwrap())
            .unwrap()
            .tbs_cert_list
    };
    assert_eq!(parse(&ca).revoked_certificates, None);
    verify(&ca, &first, ca.crl().unwrap()).unwrap();

    revoke(&client, &first, json!(4)).await;
    verify(&ca, &second, ca.crl().unwrap()).unwrap();
    let error = verify(&ca, &first, ca.crl().unwrap()).unwrap_err();
    let revoked = rustls::Error::InvalidCertificate(CertificateError::Revoked);
    assert_eq!(error, revoked);

    revoke(&client, &second, json!(null)).await;
    let entries = parse(&ca).revoked_certificates.unwrap();
    let reasons: Vec<_> = entries
        .iter()
        .map(|entry| {
            let extensions = entry.crl_entry_extensions.as_ref()?;
            let reason = extensions[0].extn_value.as_bytes();
            Some(CrlReason::from_der(reason).unwrap())
        })
        .collect();
    assert_eq!(reasons, [Some(CrlReason::Superseded), None]);

    // No place for it is in the certificates.
    let leaf = Certificate::from_der(&first.certificates()[0]).unwrap();
    let points = leaf
        .tbs_certificate()
        .get_extension::<CrlDistributionPoints>();
    assert!(points.unwrap().is_none());
    assert_eq!(ca.crl_url(), None);
}

#[tokio::test]
async fn is_had_by_http() {
    let ca = TestCa::builder().crl(true).start().await.unwrap();
    let client = RawClient::registered(&ca).await;
    let chain = certificate(&ca, &client).await;
    let url = ca.crl_url().unwrap();
    // The place that the certificate names.
    let der = chain.certificates()[0].as_ref();
    assert!(
        der.windows(url.len())
            .any(|window| window == url.as_bytes())
    );
    assert!(der.len() > url.len());

    revoke(&client, &chain, json!(1)).await;
    let (head, body) = fetch(url, "GET /intermediate.crl").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(head.contains("application/pkix-crl"), "{head}");
    verify(&ca, &chain, body.into()).unwrap_err();
    assert_eq!(ca.count(ResourceKind::Crl), 1);
    for (target, status) in [("GET /directory", "404"), ("POST /intermediate.crl", "405")] {
        let (head, _) = fetch(url, target).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    }
}
