//! When to renew a certificate (RFC 9773): decided without a clock, a network, or randomness.
//!
//! Whoever keeps a certificate valid feeds a [`RenewalPlan`] with the time, with random numbers and
//! with what the CA answers, and is told what to do next. A [`RetryPlan`] does the same for an
//! issuance that fails.

mod retry;

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

pub use self::retry::RetryPlan;
use crate::error::Error;
use crate::protocol::{RenewalInfo, RenewalWindow, timestamp_member};

/// What a CA says of the renewal of a certificate, and when it may be asked again (RFC 9773 §4.3).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RenewalAdvice {
    /// What it says.
    pub info: RenewalInfo,
    /// How long to wait before it is asked again: the reply's `Retry-After`, at least a minute and at
    /// most a day; six hours where the reply has none.
    pub poll_after: Duration,
}

impl RenewalAdvice {
    /// The shortest time between two questions (RFC 9773 §4.3.2 lets a client set limits).
    pub const SHORTEST_POLL: Duration = Duration::from_secs(60);

    /// The longest time between two questions.
    pub const LONGEST_POLL: Duration = Duration::from_secs(24 * 60 * 60);

    /// The time between two questions where the CA names none, and after an error that lasts
    /// (RFC 9773 §4.3.3).
    pub const USUAL_POLL: Duration = Duration::from_secs(6 * 60 * 60);

    /// What a reply says, with the wait that its `Retry-After` asks for.
    pub fn new(info: RenewalInfo, retry_after: Option<Duration>) -> Self {
        Self {
            info,
            poll_after: clamp(retry_after.unwrap_or(Self::USUAL_POLL)),
        }
    }
}

/// When to renew one certificate, and when to ask the CA about it again.
///
/// It is deterministic: the time and random numbers are arguments. It serialises, so that a program
/// that is restarted keeps the moment that was drawn: a fleet that draws anew at each start would
/// renew earlier than its CA asked for.
///
/// ```
/// use std::time::{Duration, SystemTime};
///
/// use certwright::renewal::{RenewalAction, RenewalPlan};
///
/// const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// let issued = SystemTime::UNIX_EPOCH + 20_000 * DAY;
/// let plan = RenewalPlan::new(issued, issued + 90 * DAY);
///
/// // The CA is asked at once; without an answer, a third of the lifetime is left at the renewal.
/// assert_eq!(plan.next(issued), RenewalAction::Poll);
/// assert!(!plan.should_renew(issued + 59 * DAY));
/// assert!(plan.should_renew(issued + 60 * DAY));
/// ```
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RenewalPlan {
    #[serde(with = "timestamp_member")]
    not_before: SystemTime,
    #[serde(with = "timestamp_member")]
    not_after: SystemTime,
    #[serde(with = "timestamp_member")]
    renew_at: SystemTime,
    #[serde(with = "timestamp_member")]
    poll_at: SystemTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    window: Option<RenewalWindow>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    explanation_url: Option<String>,
    #[serde(default)]
    failures: u32,
}

impl RenewalPlan {
    /// A plan for a certificate that is valid between these times, before the CA was asked.
    ///
    /// Until it answers, the certificate is renewed when a third of its lifetime is left, or half of
    /// it where that is less than ten days. This is what Let's Encrypt advises.
    pub fn new(not_before: SystemTime, not_after: SystemTime) -> Self {
        let lifetime = not_after.duration_since(not_before).unwrap_or_default();
        let left = match lifetime < Self::SHORT_LIVED {
            true => lifetime / 2,
            false => lifetime / 3,
        };
        Self {
            not_before,
            not_after,
            renew_at: not_after.checked_sub(left).unwrap_or(not_before),
            poll_at: not_before,
            window: None,
            explanation_url: None,
            failures: 0,
        }
    }

    const SHORT_LIVED: Duration = Duration::from_secs(10 * 24 * 60 * 60);

    /// Takes in the CA's answer.
    ///
    /// `random` is any number, all of them alike. Within the window it picks the moment (RFC 9773
    /// §4.2), which is kept for as long as the CA names the same window. A window that starts after
    /// the certificate has expired moves nothing.
    pub fn advise(&mut self, advice: &RenewalAdvice, now: SystemTime, random: u64) {
        let window = advice.info.suggested_window;
        if self.window != Some(window) && window.start() < self.not_after {
            self.renew_at = draw(window, random).min(self.not_after);
        }
        self.window = Some(window);
        self.explanation_url = advice.info.explanation_url.clone();
        self.failures = 0;
        self.poll_at = later(now, clamp(advice.poll_after));
    }

    /// Takes in that the CA did not answer, or with something that is no answer.
    ///
    /// What was known before stays. After a fault of the network or the server the next question
    /// comes after a minute, then two, four and so on; after another error, which will last, after
    /// six hours, and that is the longest (RFC 9773 §4.3.3). A time that the CA names goes before.
    pub fn fail(&mut self, error: &Error, now: SystemTime) {
        let (transient, asked) = match error {
            Error::Network(_) | Error::TimedOut(_) => (true, None),
            Error::RateLimited(refusal) => (true, refusal.retry_at),
            Error::Refused(refusal) => (refusal.status >= 500, refusal.retry_at),
            _ => (false, None),
        };
        let doubled = 2_u32
            .checked_pow(self.failures)
            .and_then(|factor| RenewalAdvice::SHORTEST_POLL.checked_mul(factor))
            .filter(|&pause| transient && pause < RenewalAdvice::USUAL_POLL);
        let own = doubled.unwrap_or(RenewalAdvice::USUAL_POLL);
        let asked = asked.and_then(|time| time.duration_since(now).ok());
        self.failures = self.failures.saturating_add(1);
        self.poll_at = later(now, asked.map_or(own, clamp));
    }

    /// What to do now.
    ///
    /// A program that wakes up only now and then asks [`should_renew_by`](Self::should_renew_by)
    /// first.
    pub fn next(&self, now: SystemTime) -> RenewalAction {
        match self.poll_at() {
            _ if self.should_renew(now) => RenewalAction::Renew,
            Some(poll_at) if poll_at <= now => RenewalAction::Poll,
            Some(poll_at) => RenewalAction::Wait(poll_at.min(self.renew_at)),
            None => RenewalAction::Wait(self.renew_at),
        }
    }

    /// Whether the moment to renew has come.
    pub fn should_renew(&self, now: SystemTime) -> bool {
        self.renew_at <= now
    }

    /// Whether to renew now, given that the next chance comes only then: where the moment lies
    /// before it, there is no better time than now (RFC 9773 §4.2).
    pub fn should_renew_by(&self, now: SystemTime, next_wake: SystemTime) -> bool {
        self.should_renew(now.max(next_wake))
    }

    /// The moment to renew: drawn from the CA's window, or else by the certificate's lifetime.
    pub fn renew_at(&self) -> SystemTime {
        self.renew_at
    }

    /// When to ask the CA again. `None` where the certificate will have expired by then: it is of no
    /// interest any more (RFC 9773 §4.3).
    pub fn poll_at(&self) -> Option<SystemTime> {
        Some(self.poll_at).filter(|&poll_at| poll_at < self.not_after)
    }

    /// The window that the CA suggested last.
    pub fn window(&self) -> Option<RenewalWindow> {
        self.window
    }

    /// Where the CA says why. For a person to read, as text.
    pub fn explanation_url(&self) -> Option<&str> {
        self.explanation_url.as_deref()
    }
}

/// What to do next about a certificate's renewal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum RenewalAction {
    /// Renew the certificate.
    Renew,
    /// Ask the CA for renewal information, and tell the plan.
    Poll,
    /// Do nothing before this time.
    Wait(SystemTime),
}

/// The moment within a window, its ends included, that a random number picks.
fn draw(window: RenewalWindow, random: u64) -> SystemTime {
    let length = window.end().duration_since(window.start());
    let length = length.unwrap_or_default().as_nanos();
    // A length is below 2^94 nanoseconds, so 32 of the random bits keep the product below 2^128:
    // steps of a thousandth of a second in a window of fifty days.
    let share = u128::from(random >> 32);
    let nanoseconds = length.saturating_mul(share) / u128::from(u32::MAX);
    let offset = Duration::from_nanos(nanoseconds.try_into().unwrap_or(u64::MAX));
    later(window.start(), offset).min(window.end())
}

fn clamp(wait: Duration) -> Duration {
    wait.clamp(RenewalAdvice::SHORTEST_POLL, RenewalAdvice::LONGEST_POLL)
}

fn later(time: SystemTime, wait: Duration) -> SystemTime {
    // The waits are a day at most, so this ends where the clock does.
    time.checked_add(wait).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::error::{Operation, ReplyFault, Timeout};
    use crate::protocol::{Resource, Url};

    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn issued() -> SystemTime {
        UNIX_EPOCH + 20_000 * DAY
    }

    fn plan() -> RenewalPlan {
        RenewalPlan::new(issued(), issued() + 90 * DAY)
    }

    fn advice(start: SystemTime, end: SystemTime) -> RenewalAdvice {
        let text = serde_json::json!({
            "suggestedWindow": RenewalWindow::new(start, end).unwrap(),
            "explanationURL": "https://ca.example/why",
        });
        RenewalAdvice::new(serde_json::from_value(text).unwrap(), Some(6 * HOUR))
    }

    fn url() -> Url {
        Url::parse("https://ca.example/").unwrap()
    }

    fn passing() -> Error {
        Error::TimedOut(Box::new(Timeout {
            operation: Operation::RenewalInfo,
            url: url(),
            waited: HOUR,
            status: None,
            problem: None,
        }))
    }

    #[test]
    fn without_the_ca_goes_by_the_lifetime() {
        for (lifetime, renew_after) in [
            (90 * DAY, 60 * DAY),
            (45 * DAY, 30 * DAY),
            (10 * DAY, 10 * DAY * 2 / 3),
            (160 * HOUR, 80 * HOUR),
            (DAY, 12 * HOUR),
            (Duration::ZERO, Duration::ZERO),
        ] {
            let plan = RenewalPlan::new(issued(), issued() + lifetime);
            assert_eq!(plan.renew_at(), issued() + renew_after, "{lifetime:?}");
            assert!(plan.should_renew(issued() + renew_after));
            assert!(renew_after.is_zero() || !plan.should_renew(issued()));
        }
        // A certificate that was never valid.
        let plan = RenewalPlan::new(issued(), issued() - DAY);
        assert!(plan.should_renew(issued()));
    }

    #[test]
    fn draws_within_the_window() {
        let (start, end) = (issued() + 50 * DAY, issued() + 52 * DAY);
        for (random, expected) in [
            (0, start),
            (u64::MAX, end),
            (u64::MAX / 2, start + DAY),
            (u64::MAX / 4, start + DAY / 2),
        ] {
            let mut plan = plan();
            plan.advise(&advice(start, end), issued(), random);
            let found = plan.renew_at();
            let distance = found
                .duration_since(expected)
                .unwrap_or_else(|error| error.duration());
            assert!(distance < Duration::from_millis(1), "{random}: {found:?}");
            assert!(start <= found && found <= end);
        }
    }

    #[test]
    fn draws_evenly() {
        let window = RenewalWindow::new(issued(), issued() + Duration::from_secs(10)).unwrap();
        let mut counts = [0; 10];
        for number in 0..10_000_u64 {
            // A full-period walk over all numbers, as good as random for counting.
            let random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let offset = draw(window, random).duration_since(issued()).unwrap();
            counts[usize::try_from(offset.as_secs()).unwrap().min(9)] += 1;
        }
        assert!(
            counts.iter().all(|count| (950..1050).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn survives_windows_of_any_size() {
        let far = UNIX_EPOCH + Duration::from_secs(250_000_000_000);
        for end in [UNIX_EPOCH + Duration::from_nanos(1), far] {
            let window = RenewalWindow::new(UNIX_EPOCH, end).unwrap();
            for random in [0, 1, u64::MAX / 3, u64::MAX] {
                let moment = draw(window, random);
                assert!(UNIX_EPOCH <= moment && moment <= end);
            }
        }
    }

    #[test]
    fn keeps_the_moment_while_the_window_stays() {
        let (start, end) = (issued() + 50 * DAY, issued() + 52 * DAY);
        let mut plan = plan();
        plan.advise(&advice(start, end), issued(), 1 << 60);
        let drawn = plan.renew_at();
        plan.advise(&advice(start, end), issued() + DAY, u64::MAX);
        assert_eq!(plan.renew_at(), drawn);

        // Nor does a restart draw anew.
        let stored = serde_json::to_string(&plan).unwrap();
        let mut restored: RenewalPlan = serde_json::from_str(&stored).unwrap();
        assert_eq!(restored, plan);
        restored.advise(&advice(start, end), issued() + DAY, 0);
        assert_eq!(restored.renew_at(), drawn);

        plan.advise(&advice(start - DAY, end), issued() + DAY, 0);
        assert_eq!(plan.renew_at(), start - DAY);
    }

    #[test]
    fn renews_now_where_the_window_is_past() {
        let mut plan = plan();
        let now = issued() + 3 * DAY;
        plan.advise(&advice(now - HOUR, now - HOUR / 2), now, 1 << 63);
        assert_eq!(plan.next(now), RenewalAction::Renew);
        assert_eq!(plan.explanation_url(), Some("https://ca.example/why"));
    }

    #[test]
    fn renews_now_where_the_next_chance_is_too_late() {
        let mut plan = plan();
        let now = issued() + 3 * DAY;
        plan.advise(&advice(now + HOUR, now + 2 * HOUR), now, 0);
        assert!(!plan.should_renew(now));
        assert!(!plan.should_renew_by(now, now + HOUR / 2));
        assert!(plan.should_renew_by(now, now + DAY));
        // A wake-up that is past already means now.
        assert!(!plan.should_renew_by(now, now - DAY));
    }

    #[test]
    fn a_window_after_the_end_moves_nothing() {
        let mut plan = plan();
        let late = issued() + 91 * DAY;
        plan.advise(&advice(late, late + DAY), issued(), 0);
        assert_eq!(plan.renew_at(), issued() + 60 * DAY);
        plan.advise(&advice(issued() + 89 * DAY, late + DAY), issued(), u64::MAX);
        assert_eq!(plan.renew_at(), issued() + 90 * DAY);
    }

    #[test]
    fn polls_as_the_ca_asks_within_bounds() {
        let window = (issued() + 50 * DAY, issued() + 52 * DAY);
        for (asked, expected) in [
            (None, 6 * HOUR),
            (Some(Duration::ZERO), Duration::from_secs(60)),
            (Some(3 * HOUR), 3 * HOUR),
            (Some(Duration::MAX), DAY),
        ] {
            let mut plan = plan();
            assert_eq!(plan.next(issued()), RenewalAction::Poll);
            let info = advice(window.0, window.1).info;
            plan.advise(&RenewalAdvice::new(info, asked), issued(), 0);
            assert_eq!(plan.poll_at(), Some(issued() + expected));
            assert_eq!(
                plan.next(issued()),
                RenewalAction::Wait(issued() + expected)
            );
            assert_eq!(plan.next(issued() + expected), RenewalAction::Poll);
        }
    }

    #[test]
    fn does_not_poll_for_an_expired_certificate() {
        let mut plan = plan();
        let now = issued() + 90 * DAY - HOUR;
        plan.fail(&Error::Unsupported(Resource::RenewalInfo), now);
        assert_eq!(plan.poll_at(), None);
        assert_eq!(plan.next(now), RenewalAction::Renew);
    }

    #[test]
    fn pauses_longer_after_each_failure() {
        let mut plan = plan();
        let mut now = issued();
        let mut minutes = Vec::new();
        for _ in 0..40 {
            plan.fail(&passing(), now);
            let next = plan.poll_at().unwrap();
            minutes.push(next.duration_since(now).unwrap().as_secs() / 60);
            now = next;
        }
        assert_eq!(minutes[..10], [1, 2, 4, 8, 16, 32, 64, 128, 256, 360]);
        assert!(minutes[10..].iter().all(|&pause| pause == 360));
    }

    #[test]
    fn pauses_six_hours_after_an_error_that_lasts() {
        let lasting = Error::reply(
            Operation::RenewalInfo,
            &url(),
            ReplyFault::MissingHeader("x"),
        );
        for error in [Error::Unsupported(Resource::RenewalInfo), lasting] {
            let mut plan = plan();
            let before = plan.renew_at();
            plan.fail(&error, issued());
            assert_eq!(plan.poll_at(), Some(issued() + 6 * HOUR), "{error}");
            assert_eq!(plan.renew_at(), before);
        }
    }
}
