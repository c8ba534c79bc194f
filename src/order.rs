mod builder;

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep, sleep_until};
use tracing::debug;

pub use self::builder::{OrderBuilder, Replacement};
use crate::account::{Account, payload};
use crate::authorization::Authorization;
use crate::certificate::Certificate;
use crate::error::{Error, Operation, OrderFailure, ReplyFault, Timeout, ValidationFailure};
use crate::protocol::{self, Finalize, OrderStatus, Problem, ProblemType, Url};
use crate::session::{Failure, Pace, Reply, SignedRequest};
use crate::x509::Csr;

/// An order for a certificate (RFC 8555 §7.1.3).
///
/// Clones are handles of the same order, and share what the CA said of it last.
#[derive(Clone)]
pub struct Order {
    shared: Arc<Shared>,
}

struct Shared {
    account: Account,
    url: Url,
    state: Mutex<Arc<protocol::Order>>,
    replacement: Replacement,
}

impl Order {
    fn new(account: Account, url: Url, state: protocol::Order, replacement: Replacement) -> Self {
        Self {
            shared: Arc::new(Shared {
                account,
                url,
                state: Mutex::new(Arc::new(state)),
                replacement,
            }),
        }
    }

    pub(crate) async fn fetch(account: Account, url: Url) -> Result<Self, Error> {
        let reply = account.read(Operation::Order, &url).await?;
        let state: protocol::Order = reply.json()?;
        let replacement = match state.replaces {
            Some(_) => Replacement::Announced,
            None => Replacement::NotAsked,
        };
        Ok(Self::new(account, url, state, replacement))
    }

    /// The order's URL: with the account, all that is needed to take it up again in another process.
    pub fn url(&self) -> &Url {
        &self.shared.url
    }

    /// The account that ordered.
    pub fn account(&self) -> &Account {
        &self.shared.account
    }

    /// The order as the CA sent it last.
    pub fn state(&self) -> Arc<protocol::Order> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The order's status, as the CA sent it last.
    pub fn status(&self) -> OrderStatus {
        self.state().status.clone()
    }

    /// What became of [`OrderBuilder::replaces`].
    pub fn replacement(&self) -> &Replacement {
        &self.shared.replacement
    }

    /// Reads the order from the CA.
    pub async fn refresh(&self) -> Result<Arc<protocol::Order>, Error> {
        self.look(true).await.map(|(state, _)| state)
    }

    /// The order's authorizations, fetched side by side (§7.5).
    pub async fn authorizations(&self) -> Result<Vec<Authorization>, Error> {
        let state = self.state();
        let mut seen = HashSet::new();
        let urls = state.authorizations.iter().filter(|&url| seen.insert(url));
        let fetches = urls
            .map(|url| Authorization::fetch(self.account().clone(), url.clone()))
            .collect();
        self.account().client().side_by_side(fetches).await
    }

    /// Waits until every authorization is valid, for as long as the client's
    /// [`wait_timeout`](crate::ClientBuilder::wait_timeout) says.
    ///
    /// Looks at the order, not at each authorization: at once, then as the CA's `Retry-After` says
    /// or after growing pauses, and for the last time when the time is up. A CA that can't be reached
    /// meanwhile, or fails, does not end the wait. Where the order has failed, the error names each identifier that failed, and why.
    pub async fn wait_ready(&self) -> Result<(), Error> {
        self.wait_ready_within(self.account().client().wait_timeout())
            .await
    }

    /// Like [`wait_ready`](Self::wait_ready), within this time.
    pub async fn wait_ready_within(&self, timeout: Duration) -> Result<(), Error> {
        self.wait_ready_from(Instant::now(), timeout).await
    }

    /// Like [`wait_ready_within`](Self::wait_ready_within), with a first look that is not at once.
    pub(crate) async fn wait_ready_from(
        &self,
        first_look: Instant,
        timeout: Duration,
    ) -> Result<(), Error> {
        self.wait(Operation::Authorization, first_look, timeout, |status| {
            matches!(
                status,
                OrderStatus::Ready | OrderStatus::Processing | OrderStatus::Valid
            )
        })
        .await
    }

    /// Sends the CSR, waits for the certificate, downloads and checks it (§7.4), for as long as the
    /// client's [`wait_timeout`](crate::ClientBuilder::wait_timeout) says.
    ///
    /// The CSR must name exactly the order's identifiers, for another key than the account's. An order that is `processing` or `valid`
    /// already, for it was finalized before, is not finalized again: call this with the same CSR, or
    /// one for the same key, to get the certificate.
    ///
    /// When the reply is lost, the order is looked at first, and the CSR sent again only where the CA
    /// has not got it.
    pub async fn finalize(&self, csr: &Csr) -> Result<Certificate, Error> {
        self.finalize_within(csr, self.account().client().wait_timeout())
            .await
    }

    /// Like [`finalize`](Self::finalize), within this time.
    pub async fn finalize_within(
        &self,
        csr: &Csr,
        timeout: Duration,
    ) -> Result<Certificate, Error> {
        let state = self.state();
        csr.check_identifiers(&state.identifiers)?;
        self.account().check_key(csr.public_key_info())?;
        let mut first_look = Instant::now();
        match state.status {
            OrderStatus::Processing | OrderStatus::Valid => {}
            OrderStatus::Pending | OrderStatus::Ready => {
                self.send_csr(csr).await?;
                first_look += Pace::ISSUING;
            }
            // The CA could only refuse.
            _ => return Err(self.failure().await),
        }
        if self.status() != OrderStatus::Valid {
            self.wait(Operation::Finalize, first_look, timeout, |status| {
                *status == OrderStatus::Valid
            })
            .await?;
        }
        let state = self.state();
        let url = state
            .certificate
            .as_ref()
            .or(state.star_certificate.as_ref());
        let url = url
            .cloned()
            .ok_or_else(|| Error::reply(Operation::Order, self.url(), ReplyFault::NoCertificate))?;
        Certificate::download(self.account().clone(), url, csr).await
    }

    async fn send_csr(&self, csr: &Csr) -> Result<(), Error> {
        let body = payload(&Finalize {
            csr: csr.der().as_ref().into(),
        })?;
        let state = self.state();
        let request = self
            .account()
            .request(Operation::Finalize, &state.finalize, body);
        let mut retries = self.account().client().session().retries();
        loop {
            let error = match self.account().post(&request).await {
                Ok(reply) => return self.update(&reply).map(|_| ()),
                Err(error) => error,
            };

            let not_ready = error.is(&ProblemType::OrderNotReady);
            let pause = match not_ready {
                true => retries.next_pause(),
                false => retries.pause(&error),
            };
            let Some(pause) = pause else {
                return Err(error);
            };
            // Whatever the reply said, or would have said: the order tells whether the CA has acted.
            debug!(%error, order = %self.url(), "looking at the order before the CSR is sent again");
            // A CA that is busy is left alone first.
            if !not_ready {
                sleep(pause).await;
            }
            match self.refresh().await?.status {
                OrderStatus::Processing | OrderStatus::Valid => return Ok(()),
                OrderStatus::Ready if not_ready => sleep(pause).await,
                OrderStatus::Ready => {}
                OrderStatus::Pending => return Err(error),
                _ => return Err(self.failure().await),
            }
        }
    }

    async fn wait(
        &self,
        operation: Operation,
        first_look: Instant,
        timeout: Duration,
        done: impl Fn(&OrderStatus) -> bool,
    ) -> Result<(), Error> {
        let start = Instant::now();
        // A time without end is cut to what the clock can count.
        let deadline = start
            .checked_add(timeout)
            .unwrap_or(start + Duration::from_secs(86_400));
        let pace = Pace::new(start, deadline);
        sleep_until(first_look.min(deadline)).await;
        loop {
            // By the pace of this wait, which knows its deadline.
            let (state, reply) = match self.look(false).await {
                Ok(seen) => seen,
                // The CA works on while nobody can see it.
                Err(error) => {
                    let now = Instant::now();
                    let pause = match Failure::of(&error) {
                        // A CA that refuses to be asked before then is not asked.
                        Failure::Passing(Some(asked))
                            if asked > deadline.saturating_duration_since(now) =>
                        {
                            None
                        }
                        Failure::Passing(asked) => pace.pause(asked, now),
                        Failure::Lasting => None,
                    };
                    let Some(pause) = pause else {
                        return Err(error);
                    };
                    debug!(%error, order = %self.url(), "looking at the order again later");
                    sleep(pause).await;
                    continue;
                }
            };
            if done(&state.status) {
                return Ok(());
            }
            let hopeful = match state.status {
                // An order that the CA has given up stays as it was at some CAs.
                OrderStatus::Pending | OrderStatus::Ready => !state.has_expired(SystemTime::now()),
                OrderStatus::Processing => true,
                _ => false,
            };
            if !hopeful {
                return Err(self.failure().await);
            }
            let Some(pause) = pace.pause(reply.retry_after(), Instant::now()) else {
                return Err(self.timed_out(operation, start.elapsed()).await);
            };
            sleep(pause).await;
        }
    }

    async fn look(&self, repeat: bool) -> Result<(Arc<protocol::Order>, Reply), Error> {
        let request = self
            .account()
            .request(Operation::Order, self.url(), Vec::new());
        let request = SignedRequest { repeat, ..request };
        let reply = self.account().post(&request).await?;
        Ok((self.update(&reply)?, reply))
    }

    pub(crate) fn update(&self, reply: &Reply) -> Result<Arc<protocol::Order>, Error> {
        let state = Arc::new(reply.json::<protocol::Order>()?);
        let mut last = self
            .shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *last = state.clone();
        Ok(state)
    }

    /// Why the order failed: its authorizations tell, or else the order itself.
    async fn failure(&self) -> Error {
        let state = self.state();
        let authorizations = self.authorizations().await.unwrap_or_else(|error| {
            debug!(%error, order = %self.url(), "the authorizations can't be asked why it failed");
            Vec::new()
        });
        let failures: Vec<_> = authorizations
            .iter()
            .filter_map(Authorization::failure)
            .collect();
        if failures.is_empty() {
            return Error::OrderFailed(Box::new(OrderFailure {
                order: self.url().clone(),
                status: state.status.clone(),
                problem: state.error.as_deref().cloned(),
                expired: state
                    .expires
                    .filter(|_| state.has_expired(SystemTime::now())),
            }));
        }
        Error::ValidationFailed(Box::new(ValidationFailure {
            order: self.url().clone(),
            failures,
            pending: authorizations
                .iter()
                .filter(|authorization| authorization.is_being_validated())
                .map(|authorization| authorization.url().clone())
                .collect(),
        }))
    }

    /// Some CAs leave a challenge pending that they could not validate, and say why within it.
    async fn timed_out(&self, operation: Operation, waited: Duration) -> Error {
        let status = self.status();
        let problem = match status {
            OrderStatus::Pending => {
                let authorizations = self.authorizations().await.unwrap_or_default();
                let complaints = authorizations.iter().filter_map(Authorization::complaint);
                together(complaints.collect())
            }
            _ => None,
        };
        Error::TimedOut(Box::new(Timeout {
            operation,
            url: self.url().clone(),
            waited,
            status: Some(status.to_string()),
            problem,
        }))
    }
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Order")
            .field("url", self.url())
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

/// Several problems as one.
fn together(mut problems: Vec<Problem>) -> Option<Problem> {
    match problems.len() {
        0 | 1 => problems.pop(),
        _ => Some(
            Problem::new(ProblemType::Compound, "several identifiers have problems")
                .with_subproblems(problems),
        ),
    }
}
