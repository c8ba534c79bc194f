use std::convert::Infallible;
use std::future::pending;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::Method;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::debug;

use super::nonce::{Nonce, NoncePool};
use super::reply::Reply;
use super::{Session, limits, lock};
use crate::error::{Error, Operation, ReplyFault};
use crate::protocol::{Resource, Url};

/// The nonces of a session: those that it has, and those that it waits for (RFC 8555 §7.2).
///
/// Its semaphores are never closed. What waits for them is served in the order in which it came, and
/// one that is dropped gives what it was about to have to the next.
pub(super) struct Nonces {
    pool: Mutex<NoncePool>,
    /// A permit for each nonce in the pool.
    pooled: Semaphore,
    /// For requests to newNonce.
    turns: Semaphore,
    ahead: Mutex<Ahead>,
    /// Fewer nonces are being fetched ahead than before.
    fewer_ahead: Notify,
}

/// The nonces that are being fetched for the pool, and the requests that wait for these.
#[derive(Default)]
struct Ahead {
    fetched: usize,
    relied_on: usize,
}

impl Nonces {
    pub(super) fn new() -> Self {
        Self {
            pool: Mutex::default(),
            pooled: Semaphore::new(0),
            turns: Semaphore::new(limits::NEW_NONCES),
            ahead: Mutex::default(),
            fewer_ahead: Notify::new(),
        }
    }

    /// The nonce goes to whoever has waited longest, if any, else into the pool.
    fn put(&self, nonce: Nonce) {
        // The permit comes after the nonce, so that whoever has one finds a nonce.
        if lock(&self.pool).put(nonce, Instant::now()) {
            self.pooled.add_permits(1);
        }
    }

    fn take(&self) -> Option<Nonce> {
        loop {
            let permit = self.pooled.try_acquire().ok()?;
            if let Some(nonce) = self.redeem(permit) {
                return Some(nonce);
            }
        }
    }

    /// Waits for a nonce in the pool.
    async fn pooled(&self) -> Nonce {
        loop {
            let Ok(permit) = self.pooled.acquire().await else {
                return pending().await;
            };
            if let Some(nonce) = self.redeem(permit) {
                return nonce;
            }
        }
    }

    /// The newest nonce, unless it is too old; then it is gone all the same.
    fn redeem(&self, permit: SemaphorePermit<'_>) -> Option<Nonce> {
        permit.forget();
        lock(&self.pool).take(Instant::now())
    }

    /// Waits for as long as there is a nonce on its way that nobody else waits for.
    async fn none_to_rely_on(&self) {
        loop {
            // Made before the look, so that no change is missed.
            let fewer = self.fewer_ahead.notified();
            let Some(_relying) = self.rely() else {
                return;
            };
            fewer.await;
        }
    }

    fn rely(&self) -> Option<Relying<'_>> {
        let mut ahead = lock(&self.ahead);
        let is_one_left = ahead.relied_on < ahead.fetched;
        is_one_left.then(|| {
            ahead.relied_on += 1;
            Relying(self)
        })
    }

    /// A turn to fetch a nonce for the pool, where nobody else needs it.
    fn turn_ahead(&self) -> Option<AheadTurn<'_>> {
        let turn = self.turns.try_acquire().ok()?;
        lock(&self.ahead).fetched += 1;
        Some(AheadTurn {
            nonces: self,
            _turn: turn,
        })
    }

    /// How many nonces there are for requests to come, or will be soon.
    fn expected(&self) -> usize {
        let pooled = lock(&self.pool).usable(Instant::now());
        let ahead = lock(&self.ahead);
        pooled + ahead.fetched.saturating_sub(ahead.relied_on)
    }
}

struct Relying<'a>(&'a Nonces);

impl Drop for Relying<'_> {
    fn drop(&mut self) {
        lock(&self.0.ahead).relied_on -= 1;
    }
}

struct AheadTurn<'a> {
    nonces: &'a Nonces,
    _turn: SemaphorePermit<'a>,
}

impl Drop for AheadTurn<'_> {
    fn drop(&mut self) {
        lock(&self.nonces.ahead).fetched -= 1;
        self.nonces.fewer_ahead.notify_waiters();
    }
}

impl Session {
    /// A nonce from the pool, else the first that comes back with any reply, or a new one from the CA.
    pub(super) async fn nonce(&self) -> Result<Nonce, Error> {
        match self.shared.nonces.take() {
            Some(nonce) => Ok(nonce),
            // Rare, and larger than all else that a request has to keep.
            None => Box::pin(self.obtain_nonce(true)).await,
        }
    }

    /// A nonce that the CA has just made, as those in the pool may be no better than one refused.
    pub(super) async fn new_nonce(&self) -> Result<Nonce, Error> {
        self.obtain_nonce(false).await
    }

    pub(super) fn keep(&self, nonce: Option<Nonce>) {
        if let Some(nonce) = nonce {
            self.shared.nonces.put(nonce);
        }
    }

    async fn obtain_nonce(&self, from_pool: bool) -> Result<Nonce, Error> {
        let url = self.resource(Resource::NewNonce).await?;
        let nonces = &self.shared.nonces;
        let patience = Instant::now() + limits::NONCE_PATIENCE;
        let mut retries = self.retries();
        loop {
            let turn = async {
                if from_pool {
                    nonces.none_to_rely_on().await;
                }
                nonces.turns.acquire().await.ok()
            };
            let turn = tokio::select! {
                biased;
                nonce = nonces.pooled(), if from_pool => return Ok(nonce),
                turn = turn => turn,
                () = sleep_until(patience) => None,
            };
            let result = self.ask_for_nonce(&url).await;
            // Others may ask during the pause.
            drop(turn);
            let error = match result {
                Ok(nonce) => return Ok(nonce),
                Err(error) => error,
            };
            let Some(pause) = retries.pause(&error) else {
                return Err(error);
            };
            debug!(%error, ?pause, "asking for a nonce again");
            tokio::select! {
                biased;
                nonce = nonces.pooled(), if from_pool => return Ok(nonce),
                () = sleep(pause) => {}
            }
        }
    }

    async fn ask_for_nonce(&self, url: &Url) -> Result<Nonce, Error> {
        self.check_target(Operation::NewNonce, url)?;
        // Some servers have answered only one of the two with a nonce.
        for method in [Method::HEAD, Method::GET] {
            let request = self.request(method, url)?.map(|()| bytes::Bytes::new());
            let reply = self.exchange(Operation::NewNonce, url, request).await;
            let reply = reply.and_then(Reply::accept)?;
            if let Some(nonce) = Nonce::from_headers(reply.headers()) {
                return Ok(nonce);
            }
        }
        let fault = ReplyFault::MissingHeader("Replay-Nonce");
        Err(Error::reply(Operation::NewNonce, url, fault))
    }

    /// Where nonces are fetched, as far as it is known without asking.
    fn new_nonce_url(&self) -> Option<Url> {
        let cached = lock(&self.shared.directory);
        let cached = cached.as_ref();
        let fresh = cached.filter(|cached| Instant::now() < cached.fresh_until)?;
        fresh.directory.url(Resource::NewNonce).cloned()
    }
}

/// Nonces that are fetched before there are requests for them, so that these need not wait.
///
/// It takes only turns that nobody waits for, and a request that finds no nonce waits for one of
/// these rather than ask for another.
pub(crate) struct NoncesAhead {
    session: Session,
    wanted: AtomicUsize,
    changed: Notify,
}

impl NoncesAhead {
    pub(crate) fn new(session: &Session) -> Self {
        Self {
            session: session.clone(),
            wanted: AtomicUsize::new(0),
            changed: Notify::new(),
        }
    }

    /// How many nonces the session should have, from now on. With 0, no more are asked for, but
    /// those that have been asked for still arrive.
    pub(crate) fn want(&self, count: usize) {
        self.wanted.store(count, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Runs a future, and beside it, for no longer, fetches the nonces that are wanted.
    pub(crate) async fn beside<F: Future + Unpin>(&self, main: F) -> F::Output {
        tokio::select! {
            biased;
            output = main => output,
            never = self.fetch() => match never {},
        }
    }

    async fn fetch(&self) -> Infallible {
        let mut fetches = FuturesUnordered::new();
        let mut wanted = 0;
        // However many others take: these find no nonce here and see for themselves.
        let mut left = 0;
        loop {
            while left > 0 && self.session.shared.nonces.expected() < wanted {
                let Some(fetch) = self.start() else {
                    break;
                };
                fetches.push(Box::pin(fetch));
                left -= 1;
            }
            tokio::select! {
                biased;
                () = self.changed.notified() => {
                    wanted = self.wanted.load(Ordering::Relaxed);
                    left = wanted;
                }
                Some(result) = fetches.next() => {
                    if let Err(error) = result {
                        debug!(%error, "no nonce is fetched ahead");
                        left = 0;
                    }
                }
            }
        }
    }

    /// `None` where all turns are taken, or the directory would have to be fetched first.
    fn start(&self) -> Option<impl Future<Output = Result<(), Error>>> {
        let url = self.session.new_nonce_url()?;
        let turn = self.session.shared.nonces.turn_ahead()?;
        Some(async move {
            let nonce = self.session.ask_for_nonce(&url).await?;
            // It is in the pool before it is no longer on its way.
            self.session.shared.nonces.put(nonce);
            drop(turn);
            Ok(())
        })
    }
}
