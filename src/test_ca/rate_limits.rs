//! Rate limits (RFC 8555 §6.6), and a CA that has too much to do.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, SystemTime};

use http::{StatusCode, header};

use super::ca::Ca;
use super::reply::Refusal;
use super::route::ResourceKind;
use super::settings::RetryAfter;
use super::{TestCa, TestCaBuilder};
use crate::protocol::{ProblemType, format_timestamp};

impl TestCaBuilder {
    /// Limits the requests of a kind, all clients taken together. A kind has one limit, and the
    /// last one set counts. By default nothing is limited.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use certwright::test_ca::{RateLimit, ResourceKind, TestCa};
    ///
    /// let week = Duration::from_secs(7 * 24 * 3_600);
    /// let builder = TestCa::builder()
    ///     // As the limit of certificates for the same names at Let's Encrypt.
    ///     .rate_limit(ResourceKind::NewOrder, RateLimit::Per { requests: 5, period: week });
    /// ```
    pub fn rate_limit(mut self, kind: ResourceKind, limit: RateLimit) -> Self {
        self.settings.rate_limits.set(kind, limit);
        self
    }
}

impl TestCa {
    /// See [`TestCaBuilder::rate_limit`]. What came before does not count. `None` lifts the limit.
    pub fn set_rate_limit(&self, kind: ResourceKind, limit: impl Into<Option<RateLimit>>) {
        let mut settings = self.0.ca.settings();
        match limit.into() {
            Some(limit) => settings.rate_limits.set(kind, limit),
            None => settings.rate_limits.lift(kind),
        }
    }
}

/// What keeps a [`TestCa`] from doing what it is asked for.
///
/// Requests count once their signature and nonce are found to be good, whatever comes of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum RateLimit {
    /// At most so many requests in any period of this length. The next ones get `rateLimited` with
    /// the status 429, a `Retry-After`, and a `Link` to a page of help.
    Per {
        /// How many.
        requests: u32,
        /// How long.
        period: Duration,
    },
    /// At most so many requests before this moment, and any number from then on. Those above get
    /// the same as with [`Per`](Self::Per).
    Until {
        /// How many.
        requests: u32,
        /// The end of the limit.
        end: SystemTime,
    },
    /// No request at all, and no time will help: the status is 429 without a `Retry-After`, and the
    /// problem's detail names the page where a person would have to ask for more. Let's Encrypt
    /// pauses issuance in this way for names that failed validation over and over. Here, it is
    /// [`TestCa::set_rate_limit`] that ends it.
    Paused,
    /// No request at all: the CA is busy. The answer comes before the request is looked at, with
    /// the status 503 and a `Retry-After` but no nonce, as from the edge of Let's Encrypt.
    Busy(RetryAfter),
}

/// The limits, and what counts towards them.
#[derive(Clone, Debug, Default)]
pub(super) struct RateLimits(HashMap<ResourceKind, Counted>);

#[derive(Clone, Debug)]
struct Counted {
    limit: RateLimit,
    /// When the requests came that were let through.
    times: VecDeque<SystemTime>,
}

impl RateLimits {
    fn set(&mut self, kind: ResourceKind, limit: RateLimit) {
        let times = VecDeque::new();
        self.0.insert(kind, Counted { limit, times });
    }

    fn lift(&mut self, kind: ResourceKind) {
        self.0.remove(&kind);
    }

    /// Counts a request, or tells why it must not be served.
    fn count(&mut self, kind: ResourceKind, now: SystemTime) -> Result<(), Exceeded> {
        let Some(Counted { limit, times }) = self.0.get_mut(&kind) else {
            return Ok(());
        };
        let (requests, end) = match *limit {
            RateLimit::Per { requests, period } => {
                // Those that are out of the period make room.
                times.retain(|time| time.checked_add(period).is_some_and(|end| end > now));
                let oldest = times.front().copied().unwrap_or(now);
                (requests, oldest.checked_add(period).unwrap_or(oldest))
            }
            RateLimit::Until { end, .. } if end <= now => return Ok(()),
            RateLimit::Until { requests, end } => (requests, end),
            RateLimit::Paused => return Err(Exceeded::Paused),
            // It was let in before the limit was set.
            RateLimit::Busy(_) => return Ok(()),
        };
        if times.len() >= usize::try_from(requests).unwrap_or(usize::MAX) {
            return Err(Exceeded::Until(end));
        }
        times.push_back(now);
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Exceeded {
    Paused,
    Until(SystemTime),
}

impl Ca {
    /// Refuses a request where the CA is busy.
    pub(super) fn check_busy(&self, kind: ResourceKind) -> Result<(), Refusal> {
        let settings = self.settings();
        let limit = settings.rate_limits.0.get(&kind);
        match limit.map(|counted| counted.limit) {
            Some(RateLimit::Busy(retry_after)) => {
                let detail = "Service busy; retry later.";
                let refusal = Refusal::new(ProblemType::RateLimited, detail);
                Err(refusal
                    .status(StatusCode::SERVICE_UNAVAILABLE)
                    .header(header::RETRY_AFTER, retry_after.value()))
            }
            _ => Ok(()),
        }
    }

    /// Counts a request towards its limit.
    pub(super) fn check_rate_limit(&self, kind: ResourceKind) -> Result<(), Refusal> {
        let now = SystemTime::now();
        let exceeded = match self.settings().rate_limits.count(kind, now) {
            Ok(()) => return Ok(()),
            Err(exceeded) => exceeded,
        };
        match exceeded {
            Exceeded::Paused => Err(Refusal::new(
                ProblemType::RateLimited,
                format!(
                    "Your account is temporarily prevented from requesting certificates. Please \
                     visit {}{UNPAUSE_PATH} to unpause.",
                    self.base()
                ),
            )),
            Exceeded::Until(end) => {
                // Rounded up, so that a client that comes back in time is served.
                let wait = end.duration_since(now).unwrap_or_default();
                let wait = wait
                    .saturating_add(Duration::from_nanos(999_999_999))
                    .as_secs();
                let end = format_timestamp(now + Duration::from_secs(wait));
                let detail = format!("too many requests of this kind, retry after {end}");
                Err(Refusal::new(ProblemType::RateLimited, detail)
                    .header(header::RETRY_AFTER, wait.to_string())
                    .header(header::LINK, format!("<{HELP}>;rel=\"help\"")))
            }
        }
    }
}

const HELP: &str = "https://docs.rs/certwright/latest/certwright/test_ca/enum.RateLimit.html";
const UNPAUSE_PATH: &str = "/unpause?jwt=test";

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: ResourceKind = ResourceKind::NewOrder;
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn counts_in_a_sliding_period() {
        let mut limits = RateLimits::default();
        let start = SystemTime::now();
        assert_eq!(limits.count(KIND, start), Ok(()));
        let (requests, period) = (2, 10 * SECOND);
        limits.set(KIND, RateLimit::Per { requests, period });
        let full = Err(Exceeded::Until(start + period));
        for (at, expected) in [
            (0, Ok(())),
            (4, Ok(())),
            (5, full),
            (9, full),
            (10, Ok(())),
            (13, Err(Exceeded::Until(start + 14 * SECOND))),
            (14, Ok(())),
        ] {
            assert_eq!(limits.count(KIND, start + at * SECOND), expected, "{at}");
        }
        assert_eq!(limits.count(ResourceKind::NewAccount, start), Ok(()));
        limits.lift(KIND);
        assert_eq!(limits.count(KIND, start), Ok(()));
    }

    #[test]
    fn ends_at_its_end() {
        let mut limits = RateLimits::default();
        let start = SystemTime::now();
        let end = start + SECOND;
        limits.set(KIND, RateLimit::Until { requests: 0, end });
        assert_eq!(limits.count(KIND, start), Err(Exceeded::Until(end)));
        assert_eq!(limits.count(KIND, end), Ok(()));
    }
}
