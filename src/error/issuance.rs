use std::fmt::Write;

use super::{BoxError, Error};
use crate::protocol::Url;
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

/// An issuance can't be taken up from a checkpoint, or its checkpoint can't be stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointFault {
    /// The checkpoint has no key, since the certificate is requested by a CSR.
    #[error(
        "the checkpoint has no key, since the certificate is requested by a CSR: resume with that CSR"
    )]
    NoKey,
    /// The checkpoint is that of another account, at this URL.
    #[error("the checkpoint is that of the account {0}: resume with that account")]
    OtherAccount(Url),
    /// The checkpoint could not be stored. The CA was not asked further.
    #[error("the checkpoint could not be stored, so the CA was not asked further: {0}")]
    Store(#[source] BoxError),
}

impl From<CheckpointFault> for Error {
    fn from(fault: CheckpointFault) -> Self {
        Self::Checkpoint(Box::new(fault))
    }
}
