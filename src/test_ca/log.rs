use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::{Method, StatusCode, Version};
use serde_json::Value;

use super::ResourceKind;
use crate::protocol::ProblemType;

/// A request that a [`TestCa`](super::TestCa) got, and what became of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LoggedRequest {
    /// The request's place among all requests since the CA's start, counted from 1.
    pub sequence: u64,
    /// The method.
    pub method: Method,
    /// The path and query.
    pub path: String,
    /// The whole URL, by the authority that the client named.
    pub url: String,
    /// What the request was for.
    pub kind: ResourceKind,
    /// The version of HTTP.
    pub version: Version,
    /// The `User-Agent` header.
    pub user_agent: Option<String>,
    /// The `Accept-Language` header.
    pub accept_language: Option<String>,
    /// The `Content-Type` header.
    pub content_type: Option<String>,
    /// The nonce that the client used.
    pub nonce: Option<String>,
    /// The account's URL, where the client signed by it.
    pub kid: Option<String>,
    /// The JWS's payload, where it is JSON. `None` for a POST-as-GET (RFC 8555 §6.3).
    pub payload: Option<Value>,
    /// How many requests the CA had in hand when this one came, itself included. A client that
    /// makes one request at a time is seen by all of these being 1.
    pub in_flight: usize,
    /// When it came, since the CA's start.
    pub started: Duration,
    /// When the reply went out, since the CA's start. `None` while the request is in hand, and for
    /// good where the client was gone before.
    pub finished: Option<Duration>,
    /// The reply's status. `None` as long as [`finished`](Self::finished) is.
    pub status: Option<StatusCode>,
    /// The type of the problem document in the reply, if it was one.
    pub problem: Option<ProblemType>,
    /// The [faults](super::Fault) that were played with it, in words. Where one of them lost the
    /// reply after the deed, [`status`](Self::status) is that of the lost reply.
    pub faults: Vec<String>,
}

/// The requests of one CA.
#[derive(Debug)]
pub(super) struct Log {
    start: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    requests: VecDeque<LoggedRequest>,
    last: u64,
    in_flight: usize,
    max_in_flight: usize,
}

impl Log {
    /// Enough for any test, and a bound for a program that runs on and on.
    const CAPACITY: usize = 100_000;

    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            inner: Mutex::default(),
        }
    }

    /// Notes that a request has come. Its sequence number, the time and the count of requests in
    /// flight are filled in here.
    pub(super) fn arrive(&self, mut request: LoggedRequest) -> Arrival<'_> {
        let mut inner = self.lock();
        inner.last += 1;
        inner.in_flight += 1;
        inner.max_in_flight = inner.max_in_flight.max(inner.in_flight);

        let sequence = inner.last;
        request.sequence = sequence;
        request.in_flight = inner.in_flight;
        request.started = self.start.elapsed();
        if inner.requests.len() == Self::CAPACITY {
            inner.requests.pop_front();
        }
        inner.requests.push_back(request);
        Arrival {
            log: self,
            sequence,
        }
    }

    pub(super) fn requests(&self) -> Vec<LoggedRequest> {
        self.lock().requests.iter().cloned().collect()
    }

    pub(super) fn count(&self, kind: ResourceKind) -> usize {
        let inner = self.lock();
        let of_kind = inner.requests.iter().filter(|request| request.kind == kind);
        of_kind.count()
    }

    pub(super) fn max_in_flight(&self) -> usize {
        self.lock().max_in_flight
    }

    pub(super) fn clear(&self) {
        let mut inner = self.lock();
        inner.requests.clear();
        inner.max_in_flight = inner.in_flight;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request in hand. It ends with this value, also where the connection breaks.
#[derive(Debug)]
pub(super) struct Arrival<'a> {
    log: &'a Log,
    sequence: u64,
}

impl Arrival<'_> {
    /// Adds to what is known of the request.
    pub(super) fn note(&self, note: impl FnOnce(&mut LoggedRequest)) {
        let mut inner = self.log.lock();
        // From the back, where a request that is in hand is most likely.
        let mut requests = inner.requests.iter_mut().rev();
        // It is gone where the log was cleared meanwhile.
        if let Some(request) = requests.find(|request| request.sequence == self.sequence) {
            note(request);
        }
    }

    /// Notes the reply, which is about to go out.
    pub(super) fn finish(self, status: StatusCode, problem: Option<ProblemType>) {
        let finished = self.log.start.elapsed();
        self.note(|request| {
            request.finished = Some(finished);
            request.status = Some(status);
            request.problem = problem;
        });
    }
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        let mut inner = self.log.lock();
        inner.in_flight = inner.in_flight.saturating_sub(1);
    }
}
