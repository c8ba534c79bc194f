use crate::error::Error;
use crate::protocol::Url;

/// The account's key was not changed, or it is not known whether it was.
#[derive(Debug, thiserror::Error)]
#[error("the key of the account {account} {fault}")]
#[non_exhaustive]
pub struct KeyChangeFailure {
    /// The account.
    pub account: Url,
    /// Why not.
    #[source]
    pub fault: KeyChangeFault,
}

/// Why an account's key was not changed (RFC 8555 §7.3.5).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyChangeFault {
    /// The new key is the key of another account already. The old key is still in force.
    #[error(
        "was not changed, so the old key is still in force: the new one is that of {}",
        .0.as_ref().map_or("another account".to_owned(), |url| format!("the account {url}"))
    )]
    KeyInUse(Option<Url>),
    /// The new key is the one that the account has. Nothing was sent.
    #[error("was not changed: the new key is the one that it has")]
    SameKey,
    /// The CA said that it had changed the key, yet it has not. The old key is still in force.
    #[error("was not changed, though the CA said so: the old key is still in force")]
    Unchanged,
    /// No answer came, and asking which of the keys is in force failed too: keep both.
    ///
    /// [`Client::find_account`](crate::Client::find_account), with the new key and then with the
    /// old, finds the account by the one that is.
    #[error("may have been changed or not, so keep both the old and the new one: {0}")]
    Unsettled(#[source] Box<Error>),
}
