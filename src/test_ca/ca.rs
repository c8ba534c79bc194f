use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, Method, StatusCode, header};
use serde_json::{Map, Value};
use tokio::sync::watch;

use super::faults::{Faults, Plan};
use super::issuer::Issuer;
use super::log::{Arrival, Log};
use super::nonces::Nonces;
use super::random::Random;
use super::reply::{Refusal, Reply};
use super::request::{self, Post};
use super::route::Route;
use super::settings::Settings;
use super::state::State;
use super::tasks::Tasks;
use crate::protocol::{InvalidUrl, Url};

/// The CA itself, without the sockets it is reached by.
#[derive(Debug)]
pub(super) struct Ca {
    pub(super) issuer: Issuer,
    pub(super) log: Log,
    pub(super) random: Random,
    pub(super) tasks: Tasks,
    base: String,
    faults: Mutex<Faults>,
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
        faults: Faults,
        settings: Settings,
    ) -> Self {
        Self {
            issuer,
            log: Log::new(),
            random,
            tasks: Tasks::new(),
            base,
            faults: Mutex::new(faults),
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

    pub(super) fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.faults)
    }

    pub(super) fn nonces(&self) -> MutexGuard<'_, Nonces> {
        lock(&self.nonces)
    }

    pub(super) fn settings(&self) -> MutexGuard<'_, Settings> {
        lock(&self.settings)
    }

    pub(super) fn latency(&self) -> Duration {
        self.settings().latency
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
        plan: &Plan,
    ) -> Reply {
        let route = Route::parse(parts.uri.path_and_query().map_or("", |path| path.as_str()));
        if let Some(route) = &route
            && let Err(refusal) = self.check_busy(route.kind())
        {
            return Reply::from(refusal);
        }
        let mut reply = match plan.refusal(false) {
            Some(refusal) => {
                note(parts, body, arrival);
                Err(refusal)
            }
            None => {
                self.dispatch(route.as_ref(), parts, body, url, arrival, plan)
                    .await
            }
        };
        if let Some(refusal) = plan.refusal(true) {
            reply = Err(refusal);
        }
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
        route: Option<&Route>,
        parts: &Parts,
        body: Option<Bytes>,
        url: &str,
        arrival: &Arrival<'_>,
        plan: &Plan,
    ) -> Result<Reply, Refusal> {
        // §6.1: clients MUST send one.
        if !parts.headers.contains_key(header::USER_AGENT) {
            return Err(Refusal::malformed("there is no `User-Agent` header"));
        }
        let route = route.ok_or_else(Refusal::not_found)?;
        let allowed = route.methods();
        if !allowed.contains(&parts.method) {
            let allowed: Vec<_> = allowed.iter().map(Method::as_str).collect();
            let detail = format!("the method {} is not allowed", parts.method);
            return Err(Refusal::malformed(detail)
                .status(StatusCode::METHOD_NOT_ALLOWED)
                .header(header::ALLOW, allowed.join(", ")));
        }
        if parts.method != Method::POST {
            self.check_rate_limit(route.kind())?;
            return self.get(route, &parts.method);
        }

        let body = body.ok_or_else(|| Refusal::unauthorized("the request's body is too large"))?;
        let post = Post {
            url,
            headers: &parts.headers,
            body,
            arrival,
            refuses_nonce: plan.refuses_nonce(),
        };
        if *route == Route::NewAccount {
            let (key, payload) = self.verify_by_key(&post)?;
            self.check_rate_limit(route.kind())?;
            return self.new_account(key, &payload);
        }
        if *route == Route::RevokeCert {
            let (signer, payload) = self.verify(&post)?;
            self.check_rate_limit(route.kind())?;
            return self.revoke(&signer, &payload);
        }

        let (account, payload) = self.verify_by_account(&post)?;
        self.check_rate_limit(route.kind())?;
        if route.needs_agreement() {
            self.check_agreement(account)?;
        }
        match *route {
            Route::Directory => payload.expect_empty().and_then(|()| self.directory()),
            Route::NewNonce => {
                payload.expect_empty()?;
                Ok(Reply::empty(StatusCode::NO_CONTENT))
            }
            Route::Agreement
            | Route::NewAccount
            | Route::RenewalInfo
            | Route::RenewalInfoOf(_)
            | Route::RevokeCert => Err(Refusal::not_found()),
            Route::Account(id) => self.account(account, id, &payload),
            Route::Orders { owner, after } => self.orders(account, owner, after, &payload),
            Route::NewAuthz => self.new_authz(account, &payload),
            Route::NewOrder => self.new_order(account, &payload),
            Route::Order(id) => self.order(account, id, &payload).await,
            Route::Finalize(id) => self.finalize(account, id, &payload, plan.stays_processing()),
            Route::Authorization(id) => self.authorization(account, id, &payload).await,
            Route::Challenge(id) => {
                self.challenge(account, id, &payload, plan.fails_challenge())
                    .await
            }
            Route::Certificate { id, chain } => {
                self.certificate(account, id, chain, &payload, plan.bad_chain())
            }
            Route::StarCertificate(order) => {
                payload.expect_empty()?;
                self.star_certificate(Some(account), order)
            }
            Route::KeyChange => self.change_key(account, url, &payload),
        }
    }

    /// What is had by plain GET, which is not much (§6.3).
    fn get(&self, route: &Route, method: &Method) -> Result<Reply, Refusal> {
        match route {
            Route::Directory => self.directory(),
            Route::NewNonce if method == Method::HEAD => Ok(Reply::empty(StatusCode::OK)),
            Route::NewNonce => Ok(Reply::empty(StatusCode::NO_CONTENT)),
            Route::Agreement => Ok(self.agreement_page()),
            Route::RenewalInfoOf(id) => self.renewal_info(id),
            Route::StarCertificate(order) => self.star_certificate(None, *order),
            _ => Err(Refusal::not_found()),
        }
    }
}

/// Notes in the log what a POST says that nobody acts on.
pub(super) fn note(parts: &Parts, body: Option<Bytes>, arrival: &Arrival<'_>) {
    let Some(body) = body.filter(|_| parts.method == Method::POST) else {
        return;
    };
    let post = Post {
        url: "",
        headers: &parts.headers,
        body,
        arrival,
        refuses_nonce: false,
    };
    // What is wrong with it does not matter.
    let _ = request::read(&post);
}

/// Whether a request is for a new status and nothing else: `{"status": "deactivated"}`.
pub(super) fn asks_for(request: &Map<String, Value>, status: &str) -> bool {
    request.len() == 1 && request.get("status").is_some_and(|s| s == status)
}

/// A test that panics while it holds a lock has failed, and what it leaves behind does not matter.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const REPLAY_NONCE: HeaderName = HeaderName::from_static("replay-nonce");
