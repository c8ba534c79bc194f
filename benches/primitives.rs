//! What one request and one certificate cost in computation, without any network.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::time::SystemTime;

use certwright::Client;
use certwright::issuance::Issued;
use certwright::jose::{AccountKey, Jws, KeyReference, Signer};
use certwright::protocol::{Authorization, Directory, Identifiers, Order, Url};
use certwright::solver::Http01Server;
use certwright::test_ca::TestCa;
use certwright::x509::{CertificateChain, CertificateKey, Csr};
use divan::{Bencher, black_box};
use futures_util::FutureExt;
use serde_json::json;
use tokio::runtime::Runtime;

fn main() {
    divan::main();
}

/// As each request but the first of an account is signed. The payload is that of a newOrder.
#[divan::bench]
fn sign_request(bencher: Bencher<'_, '_>) {
    let key = AccountKey::generate().unwrap();
    let (account, url) = (url("/acct/1"), url("/new-order"));
    let payload = br#"{"identifiers":[{"type":"dns","value":"www.example.com"}]}"#;
    bencher.bench(|| sign(&key, KeyReference::Kid(&account), &url, black_box(payload)));
}

#[divan::bench]
fn verify_request(bencher: Bencher<'_, '_>) {
    let key = AccountKey::generate().unwrap();
    let jws = sign(&key, KeyReference::Jwk, &url("/new-acct"), b"{}");
    bencher.bench(|| black_box(&jws).verify(key.public_key()));
}

/// What every key authorization ends with (RFC 8555 §8.1).
#[divan::bench]
fn thumbprint(bencher: Bencher<'_, '_>) {
    let key = AccountKey::generate().unwrap();
    bencher.bench(|| black_box(key.public_key()).thumbprint());
}

#[divan::bench]
fn parse_directory(bencher: Bencher<'_, '_>) {
    let text = json!({
        "newNonce": url("/new-nonce"),
        "newAccount": url("/new-acct"),
        "newOrder": url("/new-order"),
        "renewalInfo": url("/renewal-info"),
        "revokeCert": url("/revoke-cert"),
        "keyChange": url("/key-change"),
        "vCq9XJLrdQk": "a member that no client knows",
        "meta": {
            "caaIdentities": ["ca.example"],
            "profiles": {
                "classic": "https://ca.example/docs/profiles#classic",
                "shortlived": "https://ca.example/docs/profiles#shortlived",
                "tlsserver": "https://ca.example/docs/profiles#tlsserver",
            },
            "termsOfService": "https://ca.example/documents/subscriber-agreement.pdf",
            "website": "https://ca.example",
        },
    })
    .to_string();
    bencher.bench(|| serde_json::from_str::<Directory>(black_box(&text)).unwrap());
}

/// 100 is the most that Let's Encrypt takes.
#[divan::bench(args = [1, 100])]
fn parse_order(bencher: Bencher<'_, '_>, count: usize) {
    let identifiers: Vec<_> = names(count)
        .into_iter()
        .map(|name| json!({"type": "dns", "value": name}))
        .collect();
    let authorizations: Vec<_> = (0..count)
        .map(|number| url(&format!("/authz/1/{number}")))
        .collect();
    let text = json!({
        "status": "pending",
        "expires": "2030-01-01T00:00:00Z",
        "identifiers": identifiers,
        "authorizations": authorizations,
        "finalize": url("/finalize/1/1"),
    })
    .to_string();
    bencher.bench(|| serde_json::from_str::<Order>(black_box(&text)).unwrap());
}

#[divan::bench]
fn parse_authorization(bencher: Bencher<'_, '_>) {
    let challenge = |kind: &str, number: u32| {
        json!({
            "type": kind,
            "url": url(&format!("/chall/1/1/{number}")),
            "status": "pending",
            "token": "DGyRejmCefe7v4NfDGDKfADGyRejmCefe7v4NfDGDKf",
        })
    };
    let text = json!({
        "identifier": {"type": "dns", "value": "www.example.com"},
        "status": "pending",
        "expires": "2030-01-01T00:00:00Z",
        "challenges": [
            challenge("http-01", 1),
            challenge("dns-01", 2),
            challenge("tls-alpn-01", 3),
        ],
    })
    .to_string();
    bencher.bench(|| serde_json::from_str::<Authorization>(black_box(&text)).unwrap());
}

/// The chain is that of a CA with one intermediate: one signature is verified.
#[divan::bench(args = [1, 100])]
fn parse_and_check_chain(bencher: Bencher<'_, '_>, count: usize) {
    let issued = issue(names(count));
    let identifiers = Identifiers::collect(names(count)).unwrap();
    let (pem, key) = (issued.chain().pem(), issued.key().public_key_info());
    bencher.bench(|| {
        let chain = CertificateChain::from_pem(black_box(pem)).unwrap();
        chain.check(key, &identifiers, SystemTime::now()).unwrap();
        chain
    });
}

#[divan::bench]
fn generate_certificate_key() -> CertificateKey {
    CertificateKey::generate().unwrap()
}

#[divan::bench(args = [1, 100])]
fn make_csr(bencher: Bencher<'_, '_>, count: usize) {
    let key = CertificateKey::generate().unwrap();
    let identifiers = Identifiers::collect(names(count)).unwrap();
    bencher.bench(|| Csr::new(&key, black_box(&identifiers)).unwrap());
}

fn url(path: &str) -> Url {
    Url::parse(&format!("https://acme.ca.example/acme{path}")).unwrap()
}

fn names(count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("host-{number:03}.customers.example.test"))
        .collect()
}

fn sign(key: &AccountKey, reference: KeyReference<'_>, url: &Url, payload: &[u8]) -> Jws {
    let nonce = "oFvnlFP1wIhRlYS2jTaXbA9DGyRejmCefe7v4NfDGDKf";
    Jws::sign(key, reference, Some(nonce), url, payload)
        .now_or_never()
        .expect("a key in memory signs at once")
        .unwrap()
}

fn issue(names: Vec<String>) -> Issued {
    Runtime::new().unwrap().block_on(async {
        let solver = Http01Server::bind("127.0.0.1:0").await.unwrap();
        let port = solver.local_addrs().first().unwrap().port();
        let ca = TestCa::builder().http01_port(port).start().await.unwrap();
        let client = Client::builder(ca.directory_url().as_str())
            .add_root_pem(ca.root_pem())
            .build()
            .await
            .unwrap();
        let account = client.new_account(AccountKey::generate().unwrap());
        let account = account.agree_to_terms().create().await.unwrap();
        account.issue(names).solver(solver).await.unwrap()
    })
}
