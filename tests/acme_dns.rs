//! The acme-dns provider, at an HTTP server that behaves as acme-dns does.

#![cfg(all(feature = "acme-dns", feature = "hyper"))]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use certwright::BoxError;
use certwright::jose::{AccountKey, Signer};
use certwright::protocol::{Challenge, ChallengeType, Url};
use certwright::solver::{
    AcmeDns, AcmeDnsAccount, AcmeDnsError, DnsProvider, Presentation, TxtRecord,
};
use certwright::transport::HyperTransport;
use serde_json::{Value, json};
use tokio::net::TcpListener;

#[tokio::test]
async fn registers_and_keeps_the_two_newest_values() {
    let server = Server::start().await;
    let provider = server.provider();
    let account = provider.register(&[]).await.unwrap();
    let cname = account.cname("*.Example.com.");
    let name = account.full_domain();
    assert_eq!(cname, format!("_acme-challenge.example.com. CNAME {name}."));

    let provider = provider.account("example.com", account);
    let [first, second, third] = ["1", "2", "3"].map(|digit| digit.repeat(43));
    // By the name that the CNAME leads to, and by the domain.
    provider
        .add(&TxtRecord::new(&*name, &*first))
        .await
        .unwrap();
    assert_eq!(server.values(&name), ["", &*first]);
    let both = [&second, &third]
        .map(|value| TxtRecord::new("_acme-challenge.example.com", value.as_str()));
    let added = tokio::join!(provider.add(&both[0]), provider.add(&both[1]));
    added.0.unwrap();
    added.1.unwrap();
    assert_eq!(server.values(&name), [&*second, &*third]);

    // There is no way to remove a value.
    provider.remove(&both[0]).await.unwrap();
    assert_eq!(server.values(&name), [&*second, &*third]);
}

#[tokio::test]
async fn takes_accounts_as_clients_store_them() {
    let server = Server::start().await;
    let account = server.provider().register(&["192.0.2.0/24"]).await.unwrap();
    assert_eq!(server.networks(), ["192.0.2.0/24"]);
    let stored = serde_json::to_value(&account).unwrap();
    assert_eq!(stored["server_url"], server.url);
    let old_go = json!({
        "FullDomain": stored["fulldomain"], "SubDomain": stored["subdomain"],
        "Username": stored["username"], "Password": stored["password"],
    });
    let mut python = stored.clone();
    python["allowfrom"] = json!([]);
    server.allow_all();

    let presentation = presentation("*.example.com");
    for account in [stored, old_go, python] {
        let json = json!({ "example.com": account }).to_string();
        let provider = server.provider().accounts_from_json(&json).unwrap();
        let record = TxtRecord::new("_acme-challenge.elsewhere.test", "v".repeat(43));
        let record = record.with_presentation(presentation.clone());
        provider.add(&record).await.unwrap();
    }

    let error = server
        .provider()
        .accounts_from_json(r#"{"a": {"password": "secret", "#);
    let text = error.unwrap_err().to_string();
    assert!(
        text.contains("line 1") && !text.contains("secret"),
        "{text}"
    );
}

#[tokio::test]
async fn tells_why_a_value_was_not_taken() {
    let server = Server::start().await;
    let provider = server.provider();
    let account = provider.register(&["192.0.2.0/24"]).await.unwrap();
    let secrets = serde_json::to_value(&account).unwrap();
    let name = account.full_domain();
    let provider = provider.account("example.com", account.clone());
    let good = TxtRecord::new(&*name, "v".repeat(43));

    // Not from this address.
    let error = failure(provider.add(&good).await);
    assert!(matches!(error, AcmeDnsError::Forbidden { .. }), "{error}");
    server.allow_all();
    provider.add(&good).await.unwrap();

    for value in [
        "short".to_owned(),
        "v".repeat(44),
        format!("{}+", "v".repeat(42)),
    ] {
        let error = failure(provider.add(&TxtRecord::new(&*name, value)).await);
        assert!(matches!(error, AcmeDnsError::Value { .. }), "{error}");
    }

    let error = failure(
        provider
            .add(&TxtRecord::new("a.test", "v".repeat(43)))
            .await,
    );
    let expected = "no acme-dns account for `a.test`";
    assert!(error.to_string().contains(expected), "{error}");

    let mut other = secrets.clone();
    other["password"] = json!("x".repeat(40));
    let other: AcmeDnsAccount = serde_json::from_value(other).unwrap();
    let error = failure(
        server
            .provider()
            .account("example.com", other)
            .add(&good)
            .await,
    );
    assert!(matches!(error, AcmeDnsError::Forbidden { .. }), "{error}");

    let mut other = secrets.clone();
    other["subdomain"] = json!("another");
    let other: AcmeDnsAccount = serde_json::from_value(other).unwrap();
    let error = failure(
        server
            .provider()
            .account("example.com", other)
            .add(&good)
            .await,
    );
    assert!(matches!(error, AcmeDnsError::Forbidden { .. }), "{error}");

    let error = server.provider().register(&["nonsense"]).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("400 and `invalid_allowfrom_cidr`"),
        "{error}"
    );

    let shown = format!("{provider:?} {account:?}");
    for secret in ["username", "password"] {
        assert!(
            !shown.contains(secrets[secret].as_str().unwrap()),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn sends_credentials_over_https_only() {
    let transport = HyperTransport::builder().build().unwrap();
    let provider = AcmeDns::new(transport);
    for url in [
        "http://auth.example.org",
        "auth.example.org",
        "ftp://localhost",
    ] {
        let error = provider
            .clone()
            .server(url)
            .register(&[])
            .await
            .unwrap_err();
        assert!(matches!(error, AcmeDnsError::BadUrl { .. }), "{error}");
    }
    let error = provider.register(&[]).await.unwrap_err();
    assert!(matches!(error, AcmeDnsError::NoServer), "{error}");
}

/// What acme-dns does: `POST /register` makes an account with two empty values, `POST /update`
/// replaces the older one.
struct Server {
    url: String,
    state: Shared,
}

type Shared = Arc<Mutex<Accounts>>;

#[derive(Default)]
struct Accounts {
    by_user: HashMap<String, Entry>,
}

struct Entry {
    password: String,
    subdomain: String,
    allow_from: Vec<String>,
    /// The older one first.
    values: [String; 2],
}

impl Server {
    async fn start() -> Self {
        let state = Shared::default();
        let router = Router::new()
            .route("/register", post(register))
            .route("/update", post(update))
            .with_state(state.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, state }
    }

    fn provider(&self) -> AcmeDns {
        AcmeDns::new(HyperTransport::builder().build().unwrap()).server(&self.url)
    }

    fn values(&self, full_domain: &str) -> [String; 2] {
        let state = self.state.lock().unwrap();
        let is_of = |entry: &&Entry| full_domain == format!("{}.{ZONE}", entry.subdomain);
        state.by_user.values().find(is_of).unwrap().values.clone()
    }

    fn networks(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        state
            .by_user
            .values()
            .flat_map(|entry| entry.allow_from.clone())
            .collect()
    }

    fn allow_all(&self) {
        let mut state = self.state.lock().unwrap();
        state
            .by_user
            .values_mut()
            .for_each(|entry| entry.allow_from.clear());
    }
}

async fn register(State(state): State<Shared>, body: Bytes) -> (StatusCode, String) {
    let body: Value = match serde_json::from_slice(&body) {
        Ok(body) => body,
        Err(_) => return refuse(StatusCode::BAD_REQUEST, "malformed_json_payload"),
    };
    let networks = body["allowfrom"].as_array().cloned().unwrap_or_default();
    let allow_from: Vec<_> = networks
        .iter()
        .map(|network| network.as_str().unwrap().to_owned())
        .collect();
    if allow_from.iter().any(|network| !network.contains('/')) {
        return refuse(StatusCode::BAD_REQUEST, "invalid_allowfrom_cidr");
    }
    let mut state = state.lock().unwrap();
    let number = state.by_user.len();
    let user = format!("c36f50e8-4632-44f0-83fe-e070fef2{number:04}");
    let entry = Entry {
        password: format!("htB9mR9DYgcu9bX_afHF62erXaH2TS7bg9K3{number:04}"),
        subdomain: format!("d420c923-bbd7-4056-ab64-c3ca54c9{number:04}"),
        allow_from,
        values: Default::default(),
    };
    let body = json!({
        "username": user, "password": entry.password, "subdomain": entry.subdomain,
        "fulldomain": format!("{}.{ZONE}", entry.subdomain), "allowfrom": entry.allow_from,
    });
    state.by_user.insert(user, entry);
    (StatusCode::CREATED, body.to_string())
}

async fn update(
    State(state): State<Shared>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    assert_eq!(headers[header::CONTENT_TYPE], "application/json");
    let body: Value = serde_json::from_slice(&body).unwrap();
    let text = |name| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let mut state = state.lock().unwrap();
    let Some(entry) = state.by_user.get_mut(text("x-api-user")) else {
        return refuse(StatusCode::UNAUTHORIZED, "forbidden");
    };
    // An account may write its own subdomain, from its own networks; this host is in none of them.
    if entry.password != text("x-api-key")
        || body["subdomain"] != entry.subdomain
        || !entry.allow_from.is_empty()
    {
        return refuse(StatusCode::UNAUTHORIZED, "forbidden");
    }
    let value = body["txt"].as_str().unwrap_or_default().to_owned();
    if value.len() != 43 {
        return refuse(StatusCode::BAD_REQUEST, "bad_txt");
    }
    entry.values.rotate_left(1);
    entry.values[1] = value.clone();
    (StatusCode::OK, json!({ "txt": value }).to_string())
}

fn refuse(status: StatusCode, error: &str) -> (StatusCode, String) {
    (status, json!({ "error": error }).to_string())
}

const ZONE: &str = "auth.example.org";

fn presentation(name: &str) -> Presentation {
    let challenge = Challenge::pending(
        ChallengeType::Dns01,
        Url::parse("https://ca.example/challenge/1").unwrap(),
        Some("DGyRejmCefe7v4NfDGDKfADGyRejmCef".to_owned()),
    );
    Presentation::new(
        name.parse().unwrap(),
        challenge,
        Url::parse("https://ca.example/account/1").unwrap(),
        &AccountKey::generate().unwrap().public_key().thumbprint(),
    )
    .unwrap()
}

fn failure(result: Result<(), BoxError>) -> AcmeDnsError {
    *result.unwrap_err().downcast().expect("it is of this type")
}
