use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::later;
use crate::error::{Error, Retry};
use crate::protocol::timestamp_member;

/// When to try an issuance again that has failed: a ladder of pauses that outlasts a restart.
///
/// A program keeps one for each CA and set of identifiers, beside the certificate. A client that
/// forgets its failures, or that tries again at once, runs into the CA's limits on failed validations
/// and can end up paused. The pauses are those that Let's Encrypt advises: a minute, ten minutes, a
/// hundred minutes, then a day. A later time that the CA names goes before.
///
/// Like a [`RenewalPlan`](super::RenewalPlan) it is deterministic: the time and a random number are
/// arguments.
///
/// ```
/// use std::time::{Duration, SystemTime};
///
/// use certwright::Error;
/// use certwright::protocol::Resource;
/// use certwright::renewal::RetryPlan;
///
/// let now = SystemTime::now();
/// let mut plan = RetryPlan::default();
/// assert!(plan.may_try(now));
///
/// plan.fail(&Error::Unsupported(Resource::NewOrder), now, 0);
/// assert!(!plan.may_try(now + Duration::from_secs(59)));
/// let stored = serde_json::to_string(&plan)?; // for the next start
/// # Ok::<_, serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RetryPlan {
    failures: u32,
    #[serde(with = "timestamp_member")]
    retry_at: SystemTime,
    paused: bool,
}

impl RetryPlan {
    const LADDER: [Duration; 3] = [
        Duration::from_secs(60),
        Duration::from_secs(10 * 60),
        Duration::from_secs(100 * 60),
    ];

    /// The longest pause of its own.
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    /// Takes in that an issuance has failed.
    ///
    /// `random` is any number, all of them alike. It makes a pause up to a tenth longer, so that many
    /// certificates that failed together are not tried again together.
    ///
    /// Where the CA has [paused](Error::Paused) the identifiers, nothing is tried until
    /// [`reset`](Self::reset). Other errors that need a person are tried again all the same, once a
    /// day in the end: whoever mends the cause need not know of this plan.
    pub fn fail(&mut self, error: &Error, now: SystemTime, random: u64) {
        let step = usize::try_from(self.failures).unwrap_or(usize::MAX);
        let pause = Self::LADDER.get(step).copied().unwrap_or(Self::DAY);
        // Below a tenth: the share has 32 bits.
        let share = u32::try_from(random >> 32).unwrap_or_default();
        let spread = pause.mul_f64(f64::from(share) / f64::from(u32::MAX) / 10.0);

        self.failures = self.failures.saturating_add(1);
        self.paused = matches!(error, Error::Paused(_));
        self.retry_at = later(now, pause + spread);
        if let Retry::At(time) = error.retry() {
            self.retry_at = self.retry_at.max(time);
        }
    }

    /// Takes in that an issuance has succeeded, or that a person has mended what was wrong.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Whether to try now.
    pub fn may_try(&self, now: SystemTime) -> bool {
        self.retry_at().is_some_and(|time| time <= now)
    }

    /// The time from which to try again. `None` where only a person can go on.
    pub fn retry_at(&self) -> Option<SystemTime> {
        (!self.paused).then_some(self.retry_at)
    }

    /// How often it has failed since it last succeeded.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

impl Default for RetryPlan {
    /// A plan without failures: try at once.
    fn default() -> Self {
        Self {
            failures: 0,
            retry_at: UNIX_EPOCH,
            paused: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Operation, Paused, Refusal};
    use crate::protocol::{Problem, ProblemType, Resource, Url};

    const MINUTE: Duration = Duration::from_secs(60);

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn refusal(retry_at: Option<SystemTime>) -> Refusal {
        Refusal {
            operation: Operation::NewOrder,
            url: Url::parse("https://ca.example/new-order").unwrap(),
            status: 429,
            problem: Problem::new(ProblemType::RateLimited, "too many"),
            retry_at,
            terms_of_service: None,
            help: Vec::new(),
            excerpt: None,
            location: None,
        }
    }

    #[test]
    fn climbs_the_ladder_and_starts_anew_after_success() {
        let mut plan = RetryPlan::default();
        let error = Error::Unsupported(Resource::NewOrder);
        for pause in [
            MINUTE,
            10 * MINUTE,
            100 * MINUTE,
            RetryPlan::DAY,
            RetryPlan::DAY,
        ] {
            plan.fail(&error, now(), 0);
            assert_eq!(plan.retry_at(), Some(now() + pause));
            assert!(!plan.may_try(now() + pause - Duration::from_secs(1)));
            assert!(plan.may_try(now() + pause));
        }
        assert_eq!(plan.failures(), 5);
        plan.reset();
        assert!(plan.may_try(UNIX_EPOCH));
    }

    #[test]
    fn spreads_those_that_failed_together() {
        let error = Error::Unsupported(Resource::NewOrder);
        let mut last = UNIX_EPOCH;
        for random in [0, u64::MAX / 3, u64::MAX / 2, u64::MAX] {
            let mut plan = RetryPlan::default();
            plan.fail(&error, now(), random);
            let found = plan.retry_at().unwrap();
            assert!(found > last && found <= now() + MINUTE * 11 / 10);
            last = found;
        }
    }

    #[test]
    fn obeys_the_ca() {
        let mut plan = RetryPlan::default();
        let hour = now() + 60 * MINUTE;
        plan.fail(&Error::RateLimited(Box::new(refusal(Some(hour)))), now(), 0);
        assert_eq!(plan.retry_at(), Some(hour));

        let paused = Paused {
            refusal: refusal(None),
            page: Url::parse("https://ca.example/unpause").unwrap(),
        };
        plan.fail(&Error::Paused(Box::new(paused)), now(), 0);
        assert_eq!(plan.retry_at(), None);
        assert!(!plan.may_try(now() + 365 * RetryPlan::DAY));
        plan.reset();
        assert!(plan.may_try(now()));
    }

    #[test]
    fn outlasts_a_restart() {
        let mut plan = RetryPlan::default();
        for _ in 0..3 {
            plan.fail(&Error::Unsupported(Resource::NewOrder), now(), 0);
        }
        let stored = serde_json::to_string(&plan).unwrap();
        let mut restored: RetryPlan = serde_json::from_str(&stored).unwrap();
        assert_eq!(restored, plan);
        restored.fail(&Error::Unsupported(Resource::NewOrder), now(), 0);
        assert_eq!(restored.retry_at(), Some(now() + RetryPlan::DAY));
    }
}
