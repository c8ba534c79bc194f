//! A CA that answers as a test tells it to, by a transport of the test's own.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use certwright::jose::{AccountKey, Jws};
use certwright::transport::{Transport, TransportError};
use certwright::{Account, Client, Error};
use http::{Request, Response};
use serde_json::{Value, json};

pub const BASE: &str = "https://ca.example";

type Answer = Box<dyn Fn(usize) -> Result<Response<Bytes>, TransportError> + Send + Sync>;

/// Answers each URL as it was told, and everything else as a good CA would.
#[derive(Clone, Default)]
pub struct Script {
    answers: Arc<Mutex<HashMap<String, Answer>>>,
    log: Arc<Mutex<Vec<Asked>>>,
    nonces: Arc<AtomicUsize>,
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub url: String,
    /// The protected header of a signed request, else null.
    pub header: Value,
    /// The payload of a signed request, where it is JSON.
    pub payload: Value,
}

impl Script {
    /// Answers a URL by a function of how often it was asked before. A path is one of the CA's.
    pub fn on(
        &self,
        url: &str,
        answer: impl Fn(usize) -> Result<Response<Bytes>, TransportError> + Send + Sync + 'static,
    ) -> &Self {
        let mut answers = self.answers.lock().unwrap();
        answers.insert(absolute(url), Box::new(answer));
        self
    }

    /// Answers a URL with this status and body.
    pub fn on_body(&self, url: &str, status: u16, body: impl AsRef<[u8]>) -> &Self {
        let body = body.as_ref().to_vec();
        self.on(url, move |_| Ok(reply(status, &body)))
    }

    /// The requests for a URL.
    pub fn asked(&self, url: &str) -> Vec<Asked> {
        let log = self.log.lock().unwrap();
        let url = absolute(url);
        log.iter()
            .filter(|asked| asked.url == url)
            .cloned()
            .collect()
    }

    pub async fn client(&self) -> Client {
        Client::builder(format!("{BASE}/directory").as_str())
            .transport(self.clone())
            .build()
            .await
            .unwrap()
    }

    pub async fn account(&self) -> Result<Account, Error> {
        let key = AccountKey::generate().unwrap();
        self.client().await.new_account(key).create().await
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}

#[async_trait::async_trait]
impl Transport for Script {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TransportError> {
        assert!(request.headers().contains_key("user-agent"));
        let url = request.uri().to_string();
        let jws = serde_json::from_slice::<Jws>(request.body()).ok();
        let header = jws.as_ref().and_then(|jws| jws.header().ok());
        let payload = jws.as_ref().and_then(|jws| jws.payload().ok());
        let before = self.asked(&url).len();
        self.log.lock().unwrap().push(Asked {
            method: request.method().to_string(),
            url: url.clone(),
            header: serde_json::to_value(header).unwrap(),
            payload: payload
                .and_then(|payload| serde_json::from_slice(&payload).ok())
                .unwrap_or_default(),
        });

        let answers = self.answers.lock().unwrap();
        let answer = answers.get(&url).map(|answer| answer(before));
        let mut response = answer.unwrap_or_else(|| Ok(good(&url)))?;
        let nonce = self.nonces.fetch_add(1, Ordering::Relaxed);
        response = with_header(response, "replay-nonce", &format!("nonce-{nonce}"));
        Ok(response)
    }
}

pub fn reply(status: u16, body: &[u8]) -> Response<Bytes> {
    Response::builder()
        .status(status)
        .body(Bytes::copy_from_slice(body))
        .unwrap()
}

pub fn with_header(
    mut response: Response<Bytes>,
    name: &'static str,
    value: &str,
) -> Response<Bytes> {
    response.headers_mut().append(name, value.parse().unwrap());
    response
}

/// A problem document with this type.
pub fn problem(kind: &str) -> String {
    json!({ "type": format!("urn:ietf:params:acme:error:{kind}") }).to_string()
}

/// The directory, with these members besides the usual ones.
pub fn directory(members: &[(&str, &str)]) -> String {
    let mut directory = json!({
        "newNonce": format!("{BASE}/nonce"),
        "newAccount": format!("{BASE}/new-account"),
        "newOrder": format!("{BASE}/new-order"),
        "revokeCert": format!("{BASE}/revoke"),
    });
    for (name, path) in members {
        directory[name] = json!(absolute(path));
    }
    directory.to_string()
}

fn good(url: &str) -> Response<Bytes> {
    match url.strip_prefix(BASE) {
        Some("/directory") => reply(200, directory(&[]).as_bytes()),
        Some("/nonce" | "/revoke") => reply(200, b""),
        Some("/new-account") => with_header(
            reply(201, br#"{"status": "valid"}"#),
            "location",
            &absolute("/account/1"),
        ),
        _ => reply(404, b""),
    }
}

fn absolute(url: &str) -> String {
    match url.starts_with('/') {
        true => format!("{BASE}{url}"),
        false => url.to_owned(),
    }
}
