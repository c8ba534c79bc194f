//! A CA that answers as the test tells it, for what no real CA can be made to do.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use certwright::jose::{AccountKey, Header, Jwk, Jws};
use certwright::transport::{Transport, TransportError};
use certwright::{Account, Client};
use http::{Request, Response};
use serde_json::{Value, json};
use tokio::time::sleep;

pub const BASE: &str = "https://ca.example";

pub type Answered = Result<Response<Bytes>, TransportError>;
type Answer = Box<dyn Fn(&Asked) -> Answered + Send + Sync>;

/// A request, as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    /// The path, where it was the CA that was asked; else the whole URL.
    pub path: String,
    /// How often the path was asked before.
    pub before: usize,
    /// The protected header of a signed request.
    pub header: Option<Header>,
    /// `null` for a POST-as-GET.
    pub payload: Value,
}

impl Asked {
    /// The key that a request shows.
    pub fn key(&self) -> Jwk {
        self.header.clone().unwrap().jwk.unwrap()
    }
}

/// A CA that answers each path as it was told, and the directory, nonces and new accounts as a good
/// one would. Other hosts than the CA's are answered by whole URLs.
#[derive(Clone, Default)]
pub struct Script {
    answers: Arc<Mutex<HashMap<String, Answer>>>,
    delays: Arc<Mutex<HashMap<String, Duration>>>,
    log: Arc<Mutex<Vec<Asked>>>,
}

impl Script {
    pub fn on(
        &self,
        path: &str,
        answer: impl Fn(&Asked) -> Answered + Send + Sync + 'static,
    ) -> &Self {
        let mut answers = self.answers.lock().unwrap();
        answers.insert(path.to_owned(), Box::new(answer));
        self
    }

    /// Answers a path after some time.
    pub fn on_slow(
        &self,
        path: &str,
        delay: Duration,
        answer: impl Fn(&Asked) -> Answered + Send + Sync + 'static,
    ) -> &Self {
        let mut delays = self.delays.lock().unwrap();
        delays.insert(path.to_owned(), delay);
        self.on(path, answer)
    }

    /// Answers a path with this status and body.
    pub fn on_body(&self, path: &str, status: u16, body: impl AsRef<[u8]>) -> &Self {
        let body = Bytes::copy_from_slice(body.as_ref());
        self.on(path, move |_| Ok(raw(status, body.clone())))
    }

    /// What was asked of a path so far.
    pub fn asked(&self, path: &str) -> Vec<Asked> {
        let log = self.log.lock().unwrap();
        log.iter()
            .filter(|asked| asked.path == path)
            .cloned()
            .collect()
    }

    /// How many requests came so far.
    pub fn count(&self) -> usize {
        self.log.lock().unwrap().len()
    }

    pub async fn client(&self) -> Client {
        Client::builder(format!("{BASE}/directory").as_str())
            .transport(self.clone())
            .build()
            .await
            .unwrap()
    }

    /// The account `/account/1`, with a key of its own. Nothing is sent.
    pub async fn account(&self) -> Account {
        let url = format!("{BASE}/account/1").as_str().try_into().unwrap();
        self.client()
            .await
            .account_with(url, AccountKey::generate().unwrap())
    }
}

#[async_trait::async_trait]
impl Transport for Script {
    async fn send(&self, request: Request<Bytes>) -> Answered {
        assert!(request.headers().contains_key("user-agent"));
        let url = request.uri().to_string();
        let path = match url.starts_with(BASE) {
            true => request.uri().path().to_owned(),
            false => url,
        };
        let jws = serde_json::from_slice::<Jws>(request.body()).ok();
        let payload = jws.as_ref().map(|jws| jws.payload().unwrap());
        let asked = Asked {
            method: request.method().to_string(),
            before: self.asked(&path).len(),
            header: jws.map(|jws| jws.header().unwrap()),
            payload: payload
                .and_then(|payload| serde_json::from_slice(&payload).ok())
                .unwrap_or_default(),
            path,
        };
        self.log.lock().unwrap().push(asked.clone());

        let delay = self.delays.lock().unwrap().get(&asked.path).copied();
        if let Some(delay) = delay {
            sleep(delay).await;
        }
        let answers = self.answers.lock().unwrap();
        let mut response = match answers.get(&asked.path) {
            Some(answer) => answer(&asked)?,
            None => good(&asked.path),
        };
        let nonce = format!("nonce-{}", self.count());
        let headers = response.headers_mut();
        headers.insert("replay-nonce", nonce.parse().unwrap());
        Ok(response)
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}

fn good(path: &str) -> Response<Bytes> {
    match path {
        "/directory" => reply(
            200,
            json!({
                "newNonce": format!("{BASE}/nonce"),
                "newAccount": format!("{BASE}/new-account"),
                "newOrder": format!("{BASE}/new-order"),
                "keyChange": format!("{BASE}/key-change"),
                "revokeCert": format!("{BASE}/revoke"),
            }),
        ),
        "/nonce" | "/revoke" => reply(200, ""),
        "/new-account" => located(reply(201, json!({"status": "valid"})), "/account/1"),
        "/account/1" => reply(200, json!({"status": "valid"})),
        _ => reply(404, ""),
    }
}

pub fn reply(status: u16, body: impl Into<Value>) -> Response<Bytes> {
    raw(
        status,
        match body.into() {
            Value::String(text) => text,
            value => value.to_string(),
        },
    )
}

pub fn raw(status: u16, body: impl Into<Bytes>) -> Response<Bytes> {
    Response::builder()
        .status(status)
        .body(body.into())
        .unwrap()
}

/// A refusal with a problem of this type.
pub fn refusal(status: u16, problem: &str) -> Response<Bytes> {
    let kind = format!("urn:ietf:params:acme:error:{problem}");
    reply(status, json!({"type": kind, "detail": "no"}))
}

pub fn with_header(
    mut response: Response<Bytes>,
    name: &'static str,
    value: &str,
) -> Response<Bytes> {
    response.headers_mut().append(name, value.parse().unwrap());
    response
}

pub fn located(response: Response<Bytes>, path: &str) -> Response<Bytes> {
    with_header(response, "location", &format!("{BASE}{path}"))
}
