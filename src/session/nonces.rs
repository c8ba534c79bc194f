use std::future::pending;
use std::sync::Mutex;

use http::Method;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::debug;

use super::nonce::{Nonce, NoncePool};
use super::{Kind, Session, limits, lock};
use crate::error::{Error, NetworkFault, Operation, ReplyFault};
use crate::protocol::{Resource, Url};
use crate::transport::TransportFault;

/// The nonces of a session: those that it has, and the requests for more (RFC 8555 §7.2).
///
/// A request that finds none takes the first that comes with any reply, in the order in which
/// requests came. newNonce is asked in tasks of their own, for as many as wait in vain, so many at
/// once: nobody's turn depends on a future that somebody else may drop, or keep and not poll.
pub(super) struct Nonces {
    state: Mutex<State>,
    /// A permit for each nonce in the pool and for each failure, if not for more. Never closed.
    arrived: Semaphore,
}

#[derive(Default)]
struct State {
    pool: NoncePool,
    /// Why newNonce failed, for requests that wait.
    failures: Vec<Error>,
    waiting: usize,
    fetching: usize,
}

impl Nonces {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::default(),
            arrived: Semaphore::new(0),
        }
    }

    fn put(&self, nonce: Nonce) {
        // The permit comes after the nonce, so that whoever has one finds a nonce.
        lock(&self.state).pool.put(nonce, Instant::now());
        self.arrived.add_permits(1);
    }

    /// A nonce that nobody waits for.
    fn take(&self) -> Option<Nonce> {
        loop {
            let permit = self.arrived.try_acquire().ok()?;
            let mut state = lock(&self.state);
            let nonce = state.pool.take(Instant::now());
            // The permit of a failure is for whoever is about to wait for it.
            if nonce.is_none() && !state.failures.is_empty() {
                return None;
            }
            permit.forget();
            if nonce.is_some() {
                return nonce;
            }
        }
    }

    /// Waits for the next nonce or failure. `None` where the nonce was too old.
    async fn next(&self) -> Option<Result<Nonce, Error>> {
        match self.arrived.acquire().await {
            Ok(permit) => permit.forget(),
            Err(_) => return pending().await,
        }
        let mut state = lock(&self.state);
        match state.pool.take(Instant::now()) {
            Some(nonce) => Some(Ok(nonce)),
            None => state.failures.pop().map(Err),
        }
    }
}

impl State {
    /// How many nonces are there, or will be soon, and what will be told in the place of one.
    fn expected(&self) -> usize {
        self.pool.usable(Instant::now()) + self.failures.len() + self.fetching
    }
}

impl Session {
    /// A nonce from the pool, else the first that comes.
    pub(super) async fn nonce(&self) -> Result<Nonce, Error> {
        match self.shared.nonces.take() {
            Some(nonce) => Ok(nonce),
            // Rare, and larger than all else that a request has to keep.
            None => Box::pin(self.wait_for_nonce()).await,
        }
    }

    pub(super) fn keep(&self, nonce: Option<Nonce>) {
        if let Some(nonce) = nonce {
            self.shared.nonces.put(nonce);
        }
    }

    /// Has nonces come for so many requests, as far as there are none yet, and as far as may be asked
    /// for at once.
    pub(crate) async fn prepare_nonces(&self, requests: usize) -> Result<(), Error> {
        let url = self.resource(Resource::NewNonce).await?;
        if let Ok(runtime) = Handle::try_current() {
            self.fetch_nonces(&runtime, &url, requests);
        }
        Ok(())
    }

    async fn wait_for_nonce(&self) -> Result<Nonce, Error> {
        let url = self.resource(Resource::NewNonce).await?;
        // With a transport that needs no tokio, a request may be sent from anywhere.
        let Ok(runtime) = Handle::try_current() else {
            return self.new_nonce(&url).await;
        };
        let nonces = &self.shared.nonces;
        let _waiting = Waiting::new(nonces);
        loop {
            self.fetch_nonces(&runtime, &url, 0);
            if let Some(result) = nonces.next().await {
                return result;
            }
        }
    }

    /// Asks for as many nonces as are lacking for those who wait and so many requests more.
    fn fetch_nonces(&self, runtime: &Handle, url: &Url, requests: usize) {
        let lacking = {
            let mut state = lock(&self.shared.nonces.state);
            let lacking = (state.waiting + requests).saturating_sub(state.expected());
            let lacking = lacking.min(limits::NEW_NONCES.saturating_sub(state.fetching));
            state.fetching += lacking;
            lacking
        };
        for _ in 0..lacking {
            let fetch = Fetch {
                session: self.clone(),
                url: url.clone(),
                result: None,
            };
            runtime.spawn(async move {
                let result = fetch.session.new_nonce(&fetch.url).await;
                fetch.end(result);
            });
        }
    }

    /// A nonce that the CA has just made.
    pub(super) async fn new_nonce(&self, url: &Url) -> Result<Nonce, Error> {
        // Some servers have answered only one of the two with a nonce.
        for method in [Method::HEAD, Method::GET] {
            let reply = self
                .unsigned(method, Operation::NewNonce, url, Kind::Acme)
                .await?;
            if let Some(nonce) = Nonce::from_headers(reply.headers()) {
                return Ok(nonce);
            }
        }
        let fault = ReplyFault::MissingHeader("Replay-Nonce");
        Err(Error::reply(Operation::NewNonce, url, fault))
    }
}

/// A request that waits.
struct Waiting<'a>(&'a Nonces);

impl<'a> Waiting<'a> {
    fn new(nonces: &'a Nonces) -> Self {
        lock(&nonces.state).waiting += 1;
        Self(nonces)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.waiting -= 1;
        // What was for this one must not fail a request to come.
        let waiting = state.waiting;
        state.failures.truncate(waiting);
    }
}

/// A request to newNonce. It ends when this is dropped, however that comes about.
struct Fetch {
    session: Session,
    url: Url,
    result: Option<Result<Nonce, Error>>,
}

impl Fetch {
    fn end(mut self, result: Result<Nonce, Error>) {
        self.result = Some(result);
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        let nonces = &self.session.shared.nonces;
        let result = self.result.take().unwrap_or_else(|| {
            // The task was ended from outside, or by a panic of the transport's.
            let source = TransportFault::Interrupted.into();
            let fault = NetworkFault::new(Operation::NewNonce, &self.url, source);
            Err(Error::Network(Box::new(fault)))
        });
        {
            let mut state = lock(&nonces.state);
            state.fetching -= 1;
            match result {
                Ok(nonce) => state.pool.put(nonce, Instant::now()),
                // As many are told as wait in vain.
                Err(error) if state.failures.len() < state.waiting => state.failures.push(error),
                Err(error) => {
                    debug!(%error, "no nonce came for requests to come");
                    return;
                }
            }
        }
        nonces.arrived.add_permits(1);
        if let Ok(runtime) = Handle::try_current() {
            self.session.fetch_nonces(&runtime, &self.url, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::error::ConfigurationError;

    #[test]
    fn a_failure_stays_for_the_request_that_waits() {
        let nonces = Nonces::new();
        let _waiting = Waiting::new(&nonces);
        let failure = ConfigurationError::NoRoots.into();
        lock(&nonces.state).failures.push(failure);
        nonces.arrived.add_permits(1);
        // Another request comes before the one that waits has got as far.
        assert_eq!(nonces.take(), None);
        let next = nonces.next().now_or_never();
        assert!(matches!(next, Some(Some(Err(_)))));
        assert_eq!(nonces.take(), None);
    }
}
