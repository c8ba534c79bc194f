use std::sync::Arc;

use crate::jose::Thumbprint;
use crate::protocol::{Directory, Url};

/// For whom and at which CA a challenge will be solved: what a solver can know before there is an
/// order.
#[derive(Clone, Debug)]
pub struct AccountContext {
    account: Url,
    thumbprint: Thumbprint,
    directory: Arc<Directory>,
}

impl AccountContext {
    /// Brings together an account's URL, the thumbprint of its key, and the CA's directory.
    pub fn new(account: Url, thumbprint: Thumbprint, directory: Arc<Directory>) -> Self {
        Self {
            account,
            thumbprint,
            directory,
        }
    }

    /// The account's URL.
    pub fn account(&self) -> &Url {
        &self.account
    }

    /// The thumbprint of the account's key (RFC 7638).
    pub fn thumbprint(&self) -> &Thumbprint {
        &self.thumbprint
    }

    /// The CA's directory. What the CA says of itself is in its `meta`; members of drafts that
    /// certwright has no name for are in the `other` of that.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }
}
