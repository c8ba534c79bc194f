use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep};
use tracing::debug;

use crate::account::{Account, payload};
use crate::authorization::Authorization;
use crate::certificate::Certificate;
use crate::error::{Error, Operation, OrderFailure, ReplyFault, Timeout, ValidationFailure};
use crate::protocol::{
    self, Finalize, Identifier, Identifiers, InvalidIdentifier, NewOrder, OrderStatus, ProblemType,
    Resource, Url,
};
use crate::session::{Pace, Reply, Retries, SignedRequest};
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
}

impl Order {
    fn new(account: Account, url: Url, state: protocol::Order) -> Self {
        Self {
            shared: Arc::new(Shared {
                account,
                url,
                state: Mutex::new(Arc::new(state)),
            }),
        }
    }

    pub(crate) async fn fetch(account: Account, url: Url) -> Result<Self, Error> {
        let reply = account.read(Operation::Order, &url).await?;
        Ok(Self::new(account, url, reply.json()?))
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

    /// Reads the order from the CA.
    pub async fn refresh(&self) -> Result<Arc<protocol::Order>, Error> {
        self.look().await.map(|(state, _)| state)
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
    /// or after growing pauses, and for the last time when the time is up. Where the order has
    /// failed, the error names each identifier that failed, and why.
    pub async fn wait_ready(&self) -> Result<(), Error> {
        self.wait_ready_within(self.account().client().wait_timeout())
            .await
    }

    /// Like [`wait_ready`](Self::wait_ready), within this time.
    pub async fn wait_ready_within(&self, timeout: Duration) -> Result<(), Error> {
        self.wait(Operation::Authorization, timeout, |status| {
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
        if !matches!(state.status, OrderStatus::Processing | OrderStatus::Valid) {
            self.send_csr(csr).await?;
        }
        if self.status() != OrderStatus::Valid {
            self.wait(Operation::Finalize, timeout, |status| {
                *status == OrderStatus::Valid
            })
            .await?;
        }
        let url =
            self.state().certificate.clone().ok_or_else(|| {
                Error::reply(Operation::Order, self.url(), ReplyFault::NoCertificate)
            })?;
        Certificate::download(self.account().clone(), url, csr).await
    }

    async fn send_csr(&self, csr: &Csr) -> Result<(), Error> {
        let body = payload(&Finalize {
            csr: csr.der().as_ref().into(),
        })?;
        let mut retries = Retries::default();
        loop {
            let state = self.state();
            let request =
                self.account()
                    .request(Operation::Finalize, &state.finalize, body.clone());
            let error = match self.account().post(request).await {
                Ok(reply) => return self.update(&reply).map(|_| ()),
                Err(error) => error,
            };

            let not_ready = error
                .problem()
                .is_some_and(|problem| problem.kind == ProblemType::OrderNotReady);
            let pause = retries.pause(&error);
            if pause.is_none() && !not_ready {
                return Err(error);
            }
            // Whatever the reply said, or would have said: the order tells whether the CA has acted.
            debug!(%error, order = %self.url(), "looking at the order before the CSR is sent again");
            match (self.refresh().await?.status.clone(), pause) {
                (OrderStatus::Processing | OrderStatus::Valid, _) => return Ok(()),
                (OrderStatus::Invalid, _) => return Err(self.failure().await),
                (OrderStatus::Ready, Some(pause)) => sleep(pause).await,
                _ => return Err(error),
            }
        }
    }

    async fn wait(
        &self,
        operation: Operation,
        timeout: Duration,
        done: impl Fn(&OrderStatus) -> bool,
    ) -> Result<(), Error> {
        let start = Instant::now();
        // A time without end is cut to what the clock can count.
        let deadline = start
            .checked_add(timeout)
            .unwrap_or(start + Duration::from_secs(86_400));
        let mut pace = Pace::until(deadline);
        loop {
            let (state, reply) = self.look().await?;
            if done(&state.status) {
                return Ok(());
            }
            if !matches!(
                state.status,
                OrderStatus::Pending | OrderStatus::Ready | OrderStatus::Processing
            ) {
                return Err(self.failure().await);
            }
            let Some(pause) = pace.pause(reply.retry_after(), Instant::now()) else {
                return Err(self.timed_out(operation, start.elapsed()).await);
            };
            sleep(pause).await;
        }
    }

    async fn look(&self) -> Result<(Arc<protocol::Order>, Reply), Error> {
        let reply = self.account().read(Operation::Order, self.url()).await?;
        Ok((self.update(&reply)?, reply))
    }

    fn update(&self, reply: &Reply) -> Result<Arc<protocol::Order>, Error> {
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
        let failures: Vec<_> = match self.authorizations().await {
            Ok(authorizations) => authorizations
                .iter()
                .filter_map(Authorization::failure)
                .collect(),
            Err(error) => {
                debug!(%error, order = %self.url(), "the authorizations can't be asked why it failed");
                Vec::new()
            }
        };
        if failures.is_empty() {
            return Error::OrderFailed(Box::new(OrderFailure {
                order: self.url().clone(),
                status: state.status.clone(),
                problem: state.error.clone(),
            }));
        }
        Error::ValidationFailed(Box::new(ValidationFailure {
            order: self.url().clone(),
            failures,
        }))
    }

    /// Some CAs leave a challenge pending that they could not validate, and say why within it.
    async fn timed_out(&self, operation: Operation, waited: Duration) -> Error {
        let status = self.status();
        let problem = match status {
            OrderStatus::Pending => self.authorizations().await.ok().and_then(|authorizations| {
                authorizations.iter().find_map(Authorization::complaint)
            }),
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

/// Creates an order (RFC 8555 §7.4).
#[derive(Clone, Debug)]
#[must_use = "nothing is sent before `create`"]
pub struct OrderBuilder {
    account: Account,
    identifiers: Result<Identifiers, InvalidIdentifier>,
    request: NewOrder,
}

impl OrderBuilder {
    pub(crate) fn new(
        account: Account,
        identifiers: Result<Identifiers, InvalidIdentifier>,
    ) -> Self {
        Self {
            account,
            identifiers,
            request: NewOrder::default(),
        }
    }

    /// Asks for a profile that the CA's directory lists (draft-ietf-acme-profiles).
    pub fn profile(mut self, profile: impl Into<String>) -> Self {
        self.request.profile = Some(profile.into());
        self
    }

    /// Asks for a certificate that is valid from this time on. Let's Encrypt refuses such orders.
    pub fn not_before(mut self, time: SystemTime) -> Self {
        self.request.not_before = Some(time);
        self
    }

    /// Asks for a certificate that is valid until this time. Let's Encrypt refuses such orders.
    pub fn not_after(mut self, time: SystemTime) -> Self {
        self.request.not_after = Some(time);
        self
    }

    /// The identifiers, as they will be sent.
    pub(crate) fn identifiers(&self) -> Result<&[Identifier], InvalidIdentifier> {
        self.identifiers.as_deref().map_err(Clone::clone)
    }

    /// Creates the order.
    ///
    /// Fails before anything is sent where a name is invalid. When the reply is lost, the request is
    /// sent again: the CA then answers with the same order, or makes another and lets the lost one
    /// expire.
    pub async fn create(self) -> Result<Order, Error> {
        let request = NewOrder {
            identifiers: self.identifiers?.to_vec(),
            ..self.request
        };
        let session = self.account.client().session();
        let url = session.resource(Resource::NewOrder).await?;
        let reply = self
            .account
            .post(SignedRequest {
                repeat: true,
                ..self
                    .account
                    .request(Operation::NewOrder, &url, payload(&request)?)
            })
            .await?;
        // The only place where the order's URL is told (CAs leave it out later).
        let order = reply.location()?;
        Ok(Order::new(self.account, order, reply.json()?))
    }
}
