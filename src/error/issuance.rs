use std::fmt::Write;

use super::Error;
use crate::solver::Leftover;

/// An issuance failed, and there is more to tell than the error that ended it.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.told())]
#[non_exhaustive]
pub struct IssuanceFailure {
    /// What ended it. Never another failure of this kind.
    #[source]
    pub cause: Error,
    /// What failed before, so that another solver was taken or another order made. The first comes
    /// first.
    pub earlier: Vec<Error>,
    /// What was presented and could not be taken away.
    pub leftovers: Vec<Leftover>,
}

impl IssuanceFailure {
    /// The latest first.
    fn told(&self) -> String {
        let mut text = self.cause.to_string();
        for error in self.earlier.iter().rev() {
            let _ = write!(text, "; before that: {error}");
        }
        for leftover in &self.leftovers {
            let _ = write!(text, "; {leftover}");
        }
        text
    }
}
