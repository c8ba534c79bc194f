use std::time::Duration;

use tokio::time::Instant;

/// When to look next at something that the CA is working on.
///
/// The next look follows the CA's `Retry-After`. Where it sends none, it comes after a quarter of the
/// time waited so far, so that what took the CA ten seconds is noticed within two and a half more;
/// but after [`SHORTEST_PAUSE`](Self::SHORTEST_PAUSE) at least, and [`LONGEST_PAUSE`](Self::LONGEST_PAUSE)
/// at most. The last look is at the deadline, whatever the CA asked for.
#[derive(Debug)]
pub(crate) struct Pace {
    start: Instant,
    deadline: Instant,
}

impl Pace {
    /// How long a CA has to validate, from the request that began it to the first look. A CA that
    /// has not finished when it answers is hardly quicker, and a look too early is one in vain.
    pub(crate) const VALIDATING: Duration = Duration::from_millis(50);

    /// How long a CA has to issue, from the CSR to the first look. Only this one is before its time
    /// where the CA sends `Retry-After`, which tends to be seconds even where it takes milliseconds.
    pub(crate) const ISSUING: Duration = Duration::from_millis(100);

    const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
    const LONGEST_PAUSE: Duration = Duration::from_secs(10);

    pub(crate) fn new(start: Instant, deadline: Instant) -> Self {
        Self { start, deadline }
    }

    /// How long to pause before the next look. `None` where the last look has been taken.
    pub(crate) fn pause(&self, retry_after: Option<Duration>, now: Instant) -> Option<Duration> {
        let left = self
            .deadline
            .checked_duration_since(now)
            .filter(|left| !left.is_zero())?;
        let own = now.saturating_duration_since(self.start) / 4;
        // `Retry-After: 0`, or a date in the past, must not make a busy loop.
        let pause = match retry_after {
            Some(asked) => asked.max(Self::SHORTEST_PAUSE),
            None => own.clamp(Self::SHORTEST_PAUSE, Self::LONGEST_PAUSE),
        };
        Some(pause.min(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn obeys_the_ca_and_looks_last_at_the_deadline() {
        let start = Instant::now();
        let pace = Pace::new(start, start + 12 * SECOND);
        assert_eq!(pace.pause(Some(5 * SECOND), start), Some(5 * SECOND));
        assert_eq!(
            pace.pause(Some(Duration::ZERO), start),
            Some(Pace::SHORTEST_PAUSE)
        );
        assert_eq!(pace.pause(Some(Duration::MAX), start), Some(12 * SECOND));
        let late = start + 10 * SECOND;
        assert_eq!(pace.pause(Some(5 * SECOND), late), Some(2 * SECOND));
        assert_eq!(pace.pause(Some(5 * SECOND), start + 12 * SECOND), None);
        assert_eq!(pace.pause(None, start + 13 * SECOND), None);
    }

    #[tokio::test(start_paused = true)]
    async fn takes_a_quarter_of_the_time_waited() {
        let start = Instant::now();
        let pace = Pace::new(start, start + 1_000 * SECOND);
        for (waited, expected) in [
            (0, 100),
            (399, 100),
            (400, 100),
            (500, 125),
            (20_000, 5_000),
            (40_000, 10_000),
            (400_000, 10_000),
        ] {
            let now = start + Duration::from_millis(waited);
            let pause = pace.pause(None, now);
            assert_eq!(pause, Some(Duration::from_millis(expected)), "{waited} ms");
        }
    }
}
