use std::time::{Duration, SystemTime};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use crate::error::Error;
use crate::protocol::ProblemType;

/// When to send a request again that the network or the CA failed.
///
/// Five times in all, within some seconds. A longer outage is for whoever asked: an application
/// knows better whether to wait a minute or a day.
#[derive(Debug)]
pub(crate) struct Retries {
    pauses: ExponentialBackoff,
}

impl Retries {
    /// The longest pause that a CA may ask for. A longer one is told to the caller, in the error.
    const LONGEST_PAUSE: Duration = Duration::from_secs(30);

    /// How long to pause before the next try. `None` where another try can't help, or not soon.
    pub(crate) fn pause(&mut self, error: &Error) -> Option<Duration> {
        let asked = match error {
            Error::Network(fault) if fault.is_transient() => None,
            Error::RateLimited(refusal) => Some(refusal.retry_at?),
            Error::Refused(refusal) if refusal.problem.kind == ProblemType::ServerInternal => {
                refusal.retry_at
            }
            Error::Refused(refusal) if matches!(refusal.status, 500 | 502..=504) => {
                refusal.retry_at
            }
            _ => return None,
        };
        let own = self.next_pause()?;
        let asked = asked.map(|time| time.duration_since(SystemTime::now()).unwrap_or_default());
        Some(own.max(asked.unwrap_or_default())).filter(|&pause| pause <= Self::LONGEST_PAUSE)
    }

    /// How long to pause before the next try, where the caller knows that one can help.
    pub(crate) fn next_pause(&mut self) -> Option<Duration> {
        self.pauses.next()
    }
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            pauses: ExponentialBuilder::new()
                .with_min_delay(Duration::from_millis(250))
                .with_factor(2.0)
                .with_max_times(4)
                .with_jitter()
                .build(),
        }
    }
}
