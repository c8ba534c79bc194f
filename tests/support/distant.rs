//! A CA at a distance, for tests on tokio's paused clock: each request takes a second, all else
//! takes none.

use std::collections::HashSet;
use std::fmt;
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use certwright::error::Operation;
use certwright::jose::{AccountKey, Jws, KeyReference};
use certwright::protocol::{ChallengeType, Identifier, Url};
use certwright::session::SignedRequest;
use certwright::solver::{ChallengeSolver, Presentation};
use certwright::transport::{Transport, TransportError, TransportFault};
use certwright::{Account, BoxError, Client, Error};
use http::{Request, Response};
use serde_json::{Value, json};
use tokio::time::sleep;

pub const BASE: &str = "https://ca.example";
pub const ROUND_TRIP: Duration = Duration::from_secs(1);

/// A CA that knows one order, and validates and issues at once. Clones are the same CA.
#[derive(Clone, Default)]
pub struct DistantCa(Arc<State>);

#[derive(Default)]
struct State {
    names: usize,
    processing: bool,
    finalized: AtomicBool,
    refuses_orders: AtomicBool,
    is_near: AtomicBool,
    new_nonce: Mutex<Option<NewNonce>>,
    nonces: Mutex<Nonces>,
    asking: AtomicUsize,
}

type NewNonce = Box<dyn Fn(usize) -> Answer + Send>;

/// What comes of a request to newNonce, in the end.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    Nonce,
    Reset,
    Never,
}

#[derive(Clone, Default)]
pub struct Nonces {
    /// How many requests to newNonce came, and how many of them at once.
    pub asked: usize,
    pub asked_at_once: usize,
    /// How many left the CA, with whichever reply.
    pub given: usize,
    pub used: HashSet<String>,
}

impl DistantCa {
    pub fn new(names: usize, processing: bool) -> Self {
        Self(Arc::new(State {
            names,
            processing,
            ..State::default()
        }))
    }

    /// What is to come of the nth request to newNonce, counted from now on and from 0.
    pub fn on_new_nonce(&self, answer: impl Fn(usize) -> Answer + Send + 'static) {
        self.forget_asked();
        *self.0.new_nonce.lock().unwrap() = Some(Box::new(answer));
    }

    pub fn refuse_orders(&self) {
        self.0.refuses_orders.store(true, Ordering::SeqCst);
    }

    /// From now on, requests take no time.
    pub fn answer_at_once(&self) {
        self.0.is_near.store(true, Ordering::SeqCst);
    }

    /// A part of the way to the CA and back.
    async fn travel(&self, part: Duration) {
        if !self.0.is_near.load(Ordering::SeqCst) {
            sleep(part).await;
        }
    }

    pub fn nonces(&self) -> Nonces {
        self.0.nonces.lock().unwrap().clone()
    }

    /// How many requests to newNonce are under way.
    pub fn asking(&self) -> usize {
        self.0.asking.load(Ordering::SeqCst)
    }

    pub fn forget_asked(&self) {
        let mut nonces = self.0.nonces.lock().unwrap();
        nonces.asked = 0;
        nonces.asked_at_once = 0;
    }

    async fn new_nonce(&self) -> Result<(), TransportError> {
        let asking = Asking::new(&self.0.asking);
        let answer = {
            let mut nonces = self.0.nonces.lock().unwrap();
            let answer = self.0.new_nonce.lock().unwrap();
            let answer = answer.as_ref().map(|answer| answer(nonces.asked));
            nonces.asked += 1;
            nonces.asked_at_once = nonces.asked_at_once.max(asking.at_once);
            answer
        };
        self.travel(ROUND_TRIP / 2).await;
        match answer.unwrap_or(Answer::Nonce) {
            Answer::Nonce => self.travel(ROUND_TRIP / 2).await,
            Answer::Reset => return Err(TransportFault::Interrupted.into()),
            Answer::Never => pending().await,
        }
        Ok(())
    }

    /// Each nonce is one that the CA gave, and comes once.
    fn take(&self, body: &Bytes) {
        let jws: Jws = serde_json::from_slice(body).unwrap();
        let nonce = jws.header().unwrap().nonce.unwrap();
        let mut nonces = self.0.nonces.lock().unwrap();
        let number: usize = nonce.strip_prefix("nonce-").unwrap().parse().unwrap();
        assert!(number < nonces.given, "{nonce} was made up");
        assert!(nonces.used.insert(nonce), "a nonce was used twice");
    }

    fn answer(&self, path: &str) -> Value {
        let url = |path: &str| format!("{BASE}{path}");
        let Self(state) = self;
        let order = |status: &str| {
            json!({
                "status": status,
                "identifiers": (0..state.names)
                    .map(|name| json!({"type": "dns", "value": format!("name-{name}.example")}))
                    .collect::<Vec<_>>(),
                "authorizations": (0..state.names)
                    .map(|name| url(&format!("/authorization/{name}")))
                    .collect::<Vec<_>>(),
                "finalize": url("/finalize"),
                "certificate": url("/certificate"),
            })
        };
        let challenge = |name: &str| {
            json!({
                "type": "http-01",
                "url": url(&format!("/challenge/{name}")),
                "token": "0123456789abcdefghijkl",
            })
        };
        match path.rsplit_once('/').unwrap() {
            ("", "directory") => json!({
                "newNonce": url("/nonce"),
                "newAccount": url("/account"),
                "newOrder": url("/new-order"),
            }),
            ("", "new-order") => order("pending"),
            ("", "order") if state.finalized.load(Ordering::SeqCst) => order("valid"),
            ("", "order") => order("ready"),
            ("", "finalize") => {
                state.finalized.store(true, Ordering::SeqCst);
                order(match state.processing {
                    true => "processing",
                    false => "valid",
                })
            }
            ("/authorization", name) => json!({
                "status": "pending",
                "identifier": {"type": "dns", "value": format!("name-{name}.example")},
                "challenges": [challenge(name)],
            }),
            ("/challenge", name) => challenge(name),
            _ => Value::Null,
        }
    }
}

#[async_trait::async_trait]
impl Transport for DistantCa {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TransportError> {
        let path = request.uri().path();
        if path == "/nonce" {
            self.new_nonce().await?;
        } else {
            if !request.body().is_empty() {
                self.take(request.body());
            }
            self.travel(ROUND_TRIP).await;
        }
        let mut response = Response::builder().header("location", format!("{BASE}/order"));
        if path != "/directory" {
            let mut nonces = self.0.nonces.lock().unwrap();
            response = response.header("replay-nonce", format!("nonce-{}", nonces.given));
            nonces.given += 1;
        }
        if path == "/new-order" && self.0.refuses_orders.load(Ordering::SeqCst) {
            let problem = json!({"type": "urn:ietf:params:acme:error:rejectedIdentifier"});
            let refusal = response.status(403).body(problem.to_string().into());
            return Ok(refusal.unwrap());
        }
        Ok(response.body(self.answer(path).to_string().into()).unwrap())
    }
}

impl fmt::Debug for DistantCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DistantCa")
    }
}

struct Asking<'a> {
    asking: &'a AtomicUsize,
    at_once: usize,
}

impl<'a> Asking<'a> {
    fn new(asking: &'a AtomicUsize) -> Self {
        let at_once = asking.fetch_add(1, Ordering::SeqCst) + 1;
        Self { asking, at_once }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.asking.fetch_sub(1, Ordering::SeqCst);
    }
}

pub struct Instantly;

#[async_trait::async_trait]
impl ChallengeSolver for Instantly {
    fn can_solve(&self, identifier: &Identifier, kind: &ChallengeType) -> bool {
        *kind == ChallengeType::Http01 && kind.can_validate(identifier)
    }

    async fn present(&self, _: &Presentation) -> Result<(), BoxError> {
        Ok(())
    }

    async fn clean_up(&self, _: &Presentation) -> Result<(), BoxError> {
        Ok(())
    }
}

/// The account `/account/1` of a client that makes so many requests at once for an order. Nothing is
/// sent.
pub async fn account(ca: &DistantCa, concurrency: usize) -> Account {
    let client = Client::builder(format!("{BASE}/directory").as_str())
        .transport(ca.clone())
        .concurrency(concurrency)
        .retry_timeout(Duration::ZERO)
        .build()
        .await
        .unwrap();
    let url = Url::parse(&format!("{BASE}/account/1")).unwrap();
    client.account_with(url, AccountKey::generate().unwrap())
}

/// A signed request that the CA answers with no more than a nonce.
pub async fn request(account: &Account) -> Result<(), Error> {
    let key = AccountKey::generate().unwrap();
    let request = SignedRequest {
        operation: Operation::Account,
        url: account.url(),
        signer: &key,
        key: KeyReference::Kid(account.url()),
        payload: Vec::new(),
        accept: None,
        repeat: false,
    };
    account.client().session().post(&request).await.map(|_| ())
}
