//! What one request and one certificate cost in computation, without any network.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use certwright::error::Operation;
use certwright::issuance::Issued;
use certwright::jose::{AccountKey, Jwk, Jws, KeyReference, KeyType, SignatureAlgorithm, Signer};
use certwright::protocol::{Authorization, Directory, Identifiers, Order, Url};
use certwright::session::{Session, SessionOptions, SignedRequest};
use certwright::solver::Http01Server;
use certwright::test_ca::TestCa;
use certwright::transport::{Transport, TransportError};
use certwright::x509::{CertificateChain, CertificateKey, Csr};
use certwright::{BoxError, Client};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use futures_util::FutureExt;
use http::{Request, Response};
use serde_json::json;
use tokio::runtime::Runtime;

fn main() {
    divan::main();
}

/// As each request but the first of an account is signed. The payload is that of a newOrder.
#[divan::bench(args = key_types())]
fn sign_request(bencher: Bencher<'_, '_>, key_type: KeyType) {
    let key = AccountKey::generate_with(key_type).unwrap();
    let (account, url) = (url("/acct/1"), url("/new-order"));
    let payload = br#"{"identifiers":[{"type":"dns","value":"www.example.com"}]}"#;
    bencher.bench(|| sign(&key, KeyReference::Kid(&account), &url, black_box(payload)));
}

/// What the nonces cost of a session that 64 tasks share: each request takes one, and brings one. The
/// items are requests; nothing is signed, and the CA answers at once.
#[divan::bench]
fn nonces_for_64_tasks(bencher: Bencher<'_, '_>) {
    const ROUNDS: usize = 10;
    let runtime = Runtime::new().unwrap();
    let directory = Url::parse("https://ca.example/directory").unwrap();
    let session = Session::new(Arc::new(Instantly), directory, SessionOptions::default());
    let signer = Arc::new(Unsigned(
        AccountKey::generate().unwrap().public_key().clone(),
    ));
    let account = Arc::new(url("/acct/1"));
    bencher
        .counter(ItemsCount::new(64 * ROUNDS))
        .bench_local(|| {
            let tasks = (0..64).map(|_| {
                let (session, signer) = (session.clone(), Arc::clone(&signer));
                let account = Arc::clone(&account);
                runtime.spawn(async move {
                    for _ in 0..ROUNDS {
                        let request = SignedRequest {
                            operation: Operation::Order,
                            url: &account,
                            signer: &*signer,
                            key: KeyReference::Kid(&account),
                            payload: Vec::new(),
                            accept: None,
                            repeat: false,
                        };
                        session.post(&request).await.unwrap();
                    }
                })
            });
            let tasks: Vec<_> = tasks.collect();
            for task in tasks {
                runtime.block_on(task).unwrap();
            }
        });
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

/// A CA without a network: it knows a directory, and has a nonce for each request.
#[derive(Debug)]
struct Instantly;

#[async_trait::async_trait]
impl Transport for Instantly {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TransportError> {
        // As it would be where there is a network: other tasks have their turn.
        tokio::task::yield_now().await;
        let body = match request.uri().path() {
            "/directory" => json!({
                "newNonce": "https://ca.example/nonce",
                "newAccount": "https://ca.example/account",
                "newOrder": "https://ca.example/order",
            })
            .to_string(),
            _ => "{}".to_owned(),
        };
        Ok(Response::builder()
            .header(
                "replay-nonce",
                "oFvnlFP1wIhRlYS2jTaXbA9DGyRejmCefe7v4NfDGDKf",
            )
            .body(body.into())
            .unwrap())
    }
}

/// A signer that costs nothing.
#[derive(Debug)]
struct Unsigned(Jwk);

#[async_trait::async_trait]
impl Signer for Unsigned {
    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::Es256
    }

    fn public_key(&self) -> &Jwk {
        &self.0
    }

    async fn sign(&self, _: &[u8]) -> Result<Vec<u8>, BoxError> {
        Ok(vec![1; 64])
    }
}

/// Those that the crate features allow.
fn key_types() -> Vec<KeyType> {
    vec![
        KeyType::P256,
        #[cfg(feature = "p384")]
        KeyType::P384,
        #[cfg(feature = "ed25519")]
        KeyType::Ed25519,
        #[cfg(feature = "rsa")]
        KeyType::Rsa2048,
    ]
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
