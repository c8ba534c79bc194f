use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

/// When to look next at something that the CA is working on.
///
/// The first look is the caller's, at once. The next ones follow the CA's `Retry-After`, or pauses
/// that grow. The last one is at the deadline, whatever the CA asked for.
#[derive(Debug)]
pub(crate) struct Pace {
    deadline: Instant,
    pauses: ExponentialBackoff,
}

impl Pace {
    const FIRST_PAUSE: Duration = Duration::from_millis(100);
    const LONGEST_PAUSE: Duration = Duration::from_secs(10);

    pub(crate) fn until(deadline: Instant) -> Self {
        Self {
            deadline,
            pauses: ExponentialBuilder::new()
                .with_min_delay(Self::FIRST_PAUSE)
                .with_max_delay(Self::LONGEST_PAUSE)
                .with_factor(1.5)
                .without_max_times()
                .with_jitter()
                .build(),
        }
    }

    /// How long to pause before the next look. `None` where the last look has been taken.
    pub(crate) fn pause(
        &mut self,
        retry_after: Option<Duration>,
        now: Instant,
    ) -> Option<Duration> {
        let left = self
            .deadline
            .checked_duration_since(now)
            .filter(|left| !left.is_zero())?;
        let own = self.pauses.next().unwrap_or(Self::LONGEST_PAUSE);
        // `Retry-After: 0`, or a date in the past, must not make a busy loop.
        let asked = retry_after.map_or(own, |asked| asked.max(Self::FIRST_PAUSE));
        Some(asked.min(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn obeys_the_ca_and_looks_last_at_the_deadline() {
        let start = Instant::now();
        let mut pace = Pace::until(start + 12 * SECOND);
        assert_eq!(pace.pause(Some(5 * SECOND), start), Some(5 * SECOND));
        assert_eq!(
            pace.pause(Some(Duration::ZERO), start),
            Some(Pace::FIRST_PAUSE)
        );
        assert_eq!(pace.pause(Some(Duration::MAX), start), Some(12 * SECOND));
        let late = start + 10 * SECOND;
        assert_eq!(pace.pause(Some(5 * SECOND), late), Some(2 * SECOND));
        assert_eq!(pace.pause(Some(5 * SECOND), start + 12 * SECOND), None);
        assert_eq!(pace.pause(None, start + 13 * SECOND), None);
    }

    #[tokio::test(start_paused = true)]
    async fn grows_without_the_ca() {
        let start = Instant::now();
        let mut pace = Pace::until(start + 1000 * SECOND);
        let pauses: Vec<_> = (0..20).filter_map(|_| pace.pause(None, start)).collect();
        assert_eq!(pauses.len(), 20);
        assert!(pauses[0] <= 2 * Pace::FIRST_PAUSE);
        assert!(pauses[19] >= Pace::LONGEST_PAUSE);
        assert!(pauses.iter().all(|&pause| pause <= 2 * Pace::LONGEST_PAUSE));
    }
}
