use std::time::{Duration, SystemTime};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

use super::limits;
use crate::error::Error;
use crate::protocol::ProblemType;

/// When to send a request again that the network or the CA failed.
///
/// For as long as the session's [`retry_timeout`](super::SessionOptions::retry_timeout) says, with
/// pauses that grow and are never the same, so that the clients of a CA that comes back do not come
/// back all at once. A longer outage is for whoever asked: an application knows better whether to
/// wait a minute or a day.
#[derive(Debug)]
pub(crate) struct Retries {
    pauses: ExponentialBackoff,
    /// How many more tries there are, however long each of them takes.
    sure: u8,
    deadline: Instant,
    /// No try begins after this, sure or not.
    end: Instant,
}

impl Retries {
    /// How often a request is sent again even where each try takes its time to fail, as when
    /// replies do not come.
    const SURE: u8 = 4;

    /// The longest pause of our own, and the longest that a CA may ask for when time is up. A longer
    /// one is told to the caller, in the error.
    const LONGEST_OWN: Duration = Duration::from_secs(5);
    const LONGEST_ASKED: Duration = Duration::from_secs(30);

    pub(super) fn within(timeout: Duration) -> Self {
        let now = Instant::now();
        Self {
            pauses: ExponentialBuilder::new()
                .with_min_delay(Duration::from_millis(250))
                .with_max_delay(Self::LONGEST_OWN)
                .with_factor(2.0)
                .without_max_times()
                .with_jitter()
                .build(),
            sure: if timeout.is_zero() { 0 } else { Self::SURE },
            // A time without end is cut to what the clock can count.
            deadline: now.checked_add(timeout).unwrap_or(now + DAY),
            end: now
                .checked_add(timeout.max(limits::TRYING))
                .unwrap_or(now + DAY),
        }
    }

    /// How long to pause before the next try. `None` where another try can't help, or not soon.
    pub(crate) fn pause(&mut self, error: &Error) -> Option<Duration> {
        match Failure::of(error) {
            Failure::Passing(asked) => self.fitting(asked.unwrap_or_default()),
            Failure::Lasting => None,
        }
    }

    /// How long to pause before the next try, where the caller knows that one can help.
    pub(crate) fn next_pause(&mut self) -> Option<Duration> {
        self.fitting(Duration::ZERO)
    }

    /// Whether the time is over in which any try may begin.
    pub(super) fn are_over(&self) -> bool {
        Instant::now() > self.end
    }

    fn fitting(&mut self, asked: Duration) -> Option<Duration> {
        let own = self.pauses.next().unwrap_or(Self::LONGEST_OWN);
        let pause = own.max(asked);
        let next = Instant::now().checked_add(pause)?;
        let is_in_time = next <= self.deadline;
        let is_sure = self.sure > 0 && pause <= Self::LONGEST_ASKED && next <= self.end;
        self.sure = self.sure.saturating_sub(1);
        (is_in_time || is_sure).then_some(pause)
    }
}

/// What may come of the same request, sent again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Failure {
    /// Success, perhaps; after the time that the CA asks for, where it does.
    Passing(Option<Duration>),
    /// The same failure, or not soon enough to wait for.
    Lasting,
}

impl Failure {
    pub(crate) fn of(error: &Error) -> Self {
        let asked = match error {
            Error::Network(fault) if fault.is_transient() => None,
            Error::RateLimited(refusal) if refusal.retry_at.is_some() => refusal.retry_at,
            Error::Refused(refusal) if refusal.problem.kind == ProblemType::ServerInternal => {
                refusal.retry_at
            }
            // Those from 520 on are of the CDN that some CAs stand behind.
            Error::Refused(refusal) if matches!(refusal.status, 408 | 425 | 500 | 502..=504 | 520..=527) => {
                refusal.retry_at
            }
            _ => return Self::Lasting,
        };
        let now = SystemTime::now();
        Self::Passing(asked.map(|time| time.duration_since(now).unwrap_or_default()))
    }
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The pauses of a request whose every try takes so long to fail.
    async fn pauses(timeout: Duration, each: Duration, asked: Duration) -> Vec<Duration> {
        let mut retries = Retries::within(timeout);
        let mut pauses = Vec::new();
        loop {
            sleep(each).await;
            let Some(pause) = retries.fitting(asked) else {
                return pauses;
            };
            pauses.push(pause);
            sleep(pause).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn tries_until_time_is_up_with_pauses_that_grow() {
        let pauses = pauses(60 * SECOND, Duration::ZERO, Duration::ZERO).await;
        let total: Duration = pauses.iter().sum();
        assert!(total <= 60 * SECOND && total >= 45 * SECOND, "{pauses:?}");
        assert!(pauses[0] >= SECOND / 4 && pauses[0] <= SECOND / 2);
        assert!(pauses.iter().all(|&pause| pause <= 10 * SECOND));
        assert!(pauses.len() >= 8, "{pauses:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn tries_some_times_however_long_each_takes() {
        let slow = pauses(30 * SECOND, 60 * SECOND, Duration::ZERO).await;
        assert_eq!(slow.len(), usize::from(Retries::SURE));
        let never = pauses(Duration::ZERO, Duration::ZERO, Duration::ZERO).await;
        assert!(never.is_empty());
        let endless = Retries::within(Duration::MAX);
        assert!(endless.deadline > Instant::now());
    }

    #[tokio::test(start_paused = true)]
    async fn waits_as_asked_within_bounds() {
        for (timeout, asked, expected) in [(30, 30, 4), (30, 31, 0), (120, 31, 3), (1, 2, 4)] {
            let pauses = pauses(timeout * SECOND, Duration::ZERO, asked * SECOND).await;
            assert_eq!(pauses.len(), expected, "{timeout} {asked}: {pauses:?}");
        }
        // No sum of times may overflow.
        let mut retries = Retries::within(30 * SECOND);
        assert_eq!(retries.fitting(Duration::MAX), None);
    }
}
