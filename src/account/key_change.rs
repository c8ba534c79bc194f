use std::sync::Arc;

use tracing::debug;

use super::builder::{is_unknown, look_up};
use super::{Account, payload};
use crate::error::{Error, KeyChangeFailure, KeyChangeFault, Operation};
use crate::jose::{KeyChange, Signer};
use crate::protocol::{Resource, Url};

/// Gives the account another key, and finds out whether that came about (RFC 8555 §7.3.5).
pub(super) async fn change_key(
    account: &Account,
    new_key: Arc<dyn Signer>,
) -> Result<Account, Error> {
    let fail = |fault| {
        Error::KeyChange(Box::new(KeyChangeFailure {
            account: account.url().clone(),
            fault,
        }))
    };
    let old_key = account.shared.signer.public_key();
    if old_key == new_key.public_key() {
        return Err(fail(KeyChangeFault::SameKey));
    }

    let session = account.client().session();
    let url = session.resource(Resource::KeyChange).await?;
    let inner = KeyChange::new(account.url().clone(), old_key.clone())
        .sign(new_key.as_ref(), &url)
        .await?;
    let request = account.request(Operation::KeyChange, &url, payload(&inner)?);
    let broken = match account.post(&request).await {
        Ok(_) => None,
        // §7.3.5: 409, and where the account is that has the key.
        Err(Error::Refused(refusal)) if refusal.status == 409 => {
            return Err(fail(KeyChangeFault::KeyInUse(refusal.location)));
        }
        Err(error) if leaves_open(&error) => Some(error),
        Err(error) => return Err(error),
    };

    // Even a success is asked about: where the new key is another account's, Pebble 2.10 says 200
    // and changes nothing.
    debug!(error = ?broken, account = %account.url(), "asking which key the account has");
    match (standing(account, new_key).await, broken) {
        (Ok(Standing::Changed(changed)), _) => Ok(changed),
        (Ok(Standing::InUse(other)), _) => Err(fail(KeyChangeFault::KeyInUse(Some(other)))),
        (Ok(Standing::Unchanged), Some(error)) => Err(error),
        (Ok(Standing::Unchanged), None) => Err(fail(KeyChangeFault::Unchanged)),
        (Err(error), _) => Err(fail(KeyChangeFault::Unsettled(error.into()))),
    }
}

/// Whether the CA may have changed the key before the connection, or the CA, broke.
fn leaves_open(error: &Error) -> bool {
    match error {
        Error::Network(fault) => {
            fault.operation == Operation::KeyChange && fault.may_have_arrived()
        }
        Error::Reply(reply) => reply.operation == Operation::KeyChange,
        Error::Refused(refusal) => {
            refusal.operation == Operation::KeyChange && refusal.status >= 500
        }
        _ => false,
    }
}

/// Which key is the account's.
enum Standing {
    /// The new one.
    Changed(Account),
    /// The old one, as the new one belongs to this account.
    InUse(Url),
    /// The old one.
    Unchanged,
}

/// Asks the CA which of the keys finds the account. An error where that stays unknown.
async fn standing(account: &Account, new_key: Arc<dyn Signer>) -> Result<Standing, Error> {
    let found = match look_up(account.client(), new_key).await {
        Ok(found) if found.url() == account.url() => return Ok(Standing::Changed(found)),
        Ok(found) => Some(found),
        Err(Error::Refused(_)) => None,
        Err(error) => return Err(error),
    };

    let old_key = account.shared.signer.clone();
    match (look_up(account.client(), old_key).await, found) {
        (Ok(_), Some(other)) => Ok(Standing::InUse(other.url().clone())),
        (Ok(_), None) => Ok(Standing::Unchanged),
        // The new key finds an account and the old one none: it is this one, by another of its URLs.
        (Err(error), Some(found)) if is_unknown(&error) => Ok(Standing::Changed(found)),
        (Err(error), _) => Err(error),
    }
}
