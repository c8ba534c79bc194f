use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, Method, StatusCode, header};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::issuer::Issuer;
use super::log::{Arrival, Log};
use super::nonces::Nonces;
use super::random::Random;
use super::reply::{Refusal, Reply};
use super::request::Post;
use super::route::Route;
use super::settings::Settings;
use super::state::State;
use super::tasks::Tasks;
use crate::protocol::{Directory, InvalidUrl, Meta, Url};

/// The CA itself, without the sockets it is reached by.
#[derive(Debug)]
pub(super) struct Ca {
    pub(super) issuer: Issuer,
    pub(super) log: Log,
    pub(super) random: Random,
    pub(super) tasks: Tasks,
    base: String,
    nonces: Mutex<Nonces>,
    settings: Mutex<Settings>,
    state: Mutex<State>,
    /// Told whenever a validation is over.
    validated: watch::Sender<()>,
}

impl Ca {
    pub(super) fn new(
        base: String,
        random: Random,
        issuer: Issuer,
        nonces: Nonces,
        settings: Settings,
    ) -> Self {
        Self {
            issuer,
            log: Log::new(),
            random,
            tasks: Tasks::new(),
            base,
            nonces: Mutex::new(nonces),
            settings: Mutex::new(settings),
            state: Mutex::default(),
            validated: watch::Sender::new(()),
        }
    }

    /// The scheme and authority of all URLs, without a path.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    pub(super) fn url(&self, route: Route) -> Result<Url, InvalidUrl> {
        Url::parse(&format!("{}{route}", self.base))
    }

    pub(super) fn nonces(&self) -> MutexGuard<'_, Nonces> {
        lock(&self.nonces)
    }

    pub(super) fn settings(&self) -> MutexGuard<'_, Settings> {
        lock(&self.settings)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(super) fn announce_validation(&self) {
        self.validated.send_replace(());
    }

    /// Waits for as long as the state is so, which validations change.
    pub(super) async fn wait_while(&self, pending: impl Fn(&State) -> bool) {
        let mut validated = self.validated.subscribe();
        while pending(&self.state()) {
            if validated.changed().await.is_err() {
                return;
            }
        }
    }

    /// Answers any request; `url` is the one it was sent to.
    pub(super) async fn answer(
        self: &Arc<Self>,
        parts: &Parts,
        body: Option<Bytes>,
        url: &str,
        arrival: &Arrival<'_>,
    ) -> Reply {
        let route = Route::parse(parts.uri.path_and_query().map_or("", |path| path.as_str()));
        let reply = self.dispatch(route, parts, body, url, arrival).await;
        let mut reply = reply.unwrap_or_else(Reply::from);

        // §6.5: in each reply to a POST, an error or not, and in those of newNonce.
        if parts.method == Method::POST || route == Some(Route::NewNonce) {
            reply = match self.nonces().issue(&self.random) {
                Ok(nonce) => reply.header(REPLAY_NONCE, nonce),
                Err(error) => Reply::from(Refusal::from(error)),
            };
        }
        // §7.1: on all resources but the directory.
        if route != Some(Route::Directory) {
            reply = reply.link(format!("{}{}", self.base, Route::Directory), "index");
        }
        match route {
            // §7.2: a cached nonce would be a used one.
            Some(Route::NewNonce) => reply.header(header::CACHE_CONTROL, "no-store"),
            _ => reply.header(header::CACHE_CONTROL, "public, max-age=0, no-cache"),
        }
    }

    async fn dispatch(
        self: &Arc<Self>,
        route: Option<Route>,
        parts: &Parts,
        body: Option<Bytes>,
        url: &str,
        arrival: &Arrival<'_>,
    ) -> Result<Reply, Refusal> {
        // §6.1: clients MUST send one.
        if !parts.headers.contains_key(header::USER_AGENT) {
            return Err(Refusal::malformed("there is no `User-Agent` header"));
        }
        let route = route.ok_or_else(Refusal::not_found)?;
        match (route, &parts.method) {
            (Route::Directory, &Method::GET) => return self.directory(),
            (Route::NewNonce, &Method::HEAD) => return Ok(Reply::empty(StatusCode::OK)),
            (Route::NewNonce, &Method::GET) => return Ok(Reply::empty(StatusCode::NO_CONTENT)),
            (_, &Method::POST) => {}
            // §6.3: all else is had by POST-as-GET.
            (route, method) => {
                let allowed = match route {
                    Route::Directory => "GET, POST",
                    Route::NewNonce => "GET, HEAD, POST",
                    _ => "POST",
                };
                let refusal = Refusal::malformed(format!("the method {method} is not allowed"));
                return Err(refusal
                    .status(StatusCode::METHOD_NOT_ALLOWED)
                    .header(header::ALLOW, allowed));
            }
        }

        let body = body.ok_or_else(|| Refusal::unauthorized("the request's body is too large"))?;
        let post = Post {
            url,
            headers: &parts.headers,
            body,
            arrival,
        };
        if route == Route::NewAccount {
            let (key, payload) = self.verify_by_key(&post)?;
            return self.new_account(key, &payload);
        }
        if route == Route::RevokeCert {
            let (signer, payload) = self.verify(&post)?;
            return self.revoke(&signer, &payload);
        }

        let (account, payload) = self.verify_by_account(&post)?;
        match route {
            Route::Directory => payload.expect_empty().and_then(|()| self.directory()),
            Route::NewNonce => {
                payload.expect_empty()?;
                Ok(Reply::empty(StatusCode::NO_CONTENT))
            }
            Route::NewAccount | Route::RevokeCert => Err(Refusal::not_found()),
            Route::Account(id) => self.account(account, id, &payload),
            Route::NewOrder => self.new_order(account, &payload),
            Route::Order(id) => self.order(account, id, &payload).await,
            Route::Finalize(id) => self.finalize(account, id, &payload),
            Route::Authorization(id) => self.authorization(account, id, &payload).await,
            Route::Challenge(id) => self.challenge(account, id, &payload).await,
            Route::Certificate(id) => self.certificate(account, id, &payload),
            Route::KeyChange => self.change_key(account, url, &payload),
        }
    }

    fn directory(&self) -> Result<Reply, Refusal> {
        let url = |route| self.url(route).map_err(Refusal::internal);
        // Boulder has such a member too, so that no client fails when a new one comes.
        let unknown = self.random.token::<8>()?;
        let value = json!("a client passes over what it does not know (RFC 8555 §7.1.1)");
        let directory = Directory {
            new_nonce: Some(url(Route::NewNonce)?),
            new_account: Some(url(Route::NewAccount)?),
            new_order: Some(url(Route::NewOrder)?),
            revoke_cert: Some(url(Route::RevokeCert)?),
            key_change: Some(url(Route::KeyChange)?),
            meta: Meta {
                terms_of_service: Some(TERMS_OF_SERVICE.to_owned()),
                website: Some("https://docs.rs/certwright".to_owned()),
                caa_identities: vec!["ca.example".to_owned()],
                ..Meta::default()
            },
            other: Map::from_iter([(unknown, value)]),
            ..Directory::default()
        };
        Reply::json(StatusCode::OK, &directory)
    }
}

/// What a request that only one member may be in says of it: `{"status": "deactivated"}`.
pub(super) fn asks_for_deactivation(request: &Map<String, Value>) -> bool {
    request.len() == 1 && request.get("status").is_some_and(|s| s == "deactivated")
}

/// A test that panics while it holds a lock has failed, and what it leaves behind does not matter.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an account's holder agrees to.
pub(super) const TERMS_OF_SERVICE: &str =
    "data:text/plain,Certificates%20of%20this%20CA%20are%20for%20tests.";

const REPLAY_NONCE: HeaderName = HeaderName::from_static("replay-nonce");
