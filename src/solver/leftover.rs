use std::fmt;

use serde::{Deserialize, Serialize};

use super::{ChallengeSolver, Presentation};
use crate::error::BoxError;
use crate::protocol::printable;

/// An answer to a challenge that could not be taken away, so that it may still be there to see.
///
/// It can be stored by serde, and taken away later, in another process too:
///
/// ```no_run
/// # async fn example(stored: &str, solver: impl certwright::solver::ChallengeSolver) -> Result<(), certwright::BoxError> {
/// use certwright::solver::Leftover;
///
/// let leftovers: Vec<Leftover> = serde_json::from_str(stored)?;
/// for leftover in &leftovers {
///     leftover.remove(&solver).await?;
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Leftover {
    presentation: Presentation,
    reason: String,
}

impl Leftover {
    /// An answer that a solver presented, and why it was not taken away.
    pub fn new(presentation: Presentation, reason: impl Into<String>) -> Self {
        Self {
            presentation,
            reason: reason.into(),
        }
    }

    /// What the solver was given.
    pub fn presentation(&self) -> &Presentation {
        &self.presentation
    }

    /// Why it was not taken away: what the solver said, or that it was not done in time.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Has a solver take the answer away. It must be one of those that present where the first one
    /// did: in the same zone, at the same web server.
    pub async fn remove(&self, solver: &(impl ChallengeSolver + ?Sized)) -> Result<(), BoxError> {
        solver.clean_up(&self.presentation).await
    }
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the answer to {} for {} may still be presented: {}",
            self.presentation.challenge().kind,
            self.presentation.identifier(),
            printable(&self.reason)
        )
    }
}
