use std::sync::Arc;

use super::{Account, payload};
use crate::error::{ConfigurationError, Error, Operation};
use crate::protocol;
use crate::session::SignedRequest;

/// Changes an account's contacts, or agrees to terms of service that have changed (RFC 8555 §7.3.2,
/// §7.3.3).
///
/// Only what is set here is sent; all else stays as it is.
#[derive(Clone, Debug)]
#[must_use = "nothing is sent before `send`"]
pub struct AccountUpdate {
    account: Account,
    request: protocol::AccountUpdate,
}

impl AccountUpdate {
    pub(super) fn new(account: Account) -> Self {
        Self {
            account,
            request: protocol::AccountUpdate::default(),
        }
    }

    /// Adds a URL to the contacts that take the place of those that the account has, such as
    /// `mailto:ops@example.com`.
    pub fn contact(mut self, url: impl Into<String>) -> Self {
        let contacts = self.request.contact.get_or_insert_default();
        contacts.push(url.into());
        self
    }

    /// Removes all contacts, those that were added here before included.
    pub fn clear_contacts(mut self) -> Self {
        self.request.contact = Some(Vec::new());
        self
    }

    /// Agrees to the CA's terms of service as they are now. An
    /// [`Error::UserActionRequired`] says where they are.
    pub fn agree_to_terms(mut self) -> Self {
        self.request.terms_of_service_agreed = true;
        self
    }

    /// Sends the update, and returns the account as it is now. CAs may leave out what they don't keep:
    /// Let's Encrypt never returns contacts.
    ///
    /// Where nothing is set, nothing is sent, and the error is
    /// [`ConfigurationError::NothingToUpdate`]. When the reply is lost, the request is sent again: a
    /// second time it changes nothing.
    pub async fn send(self) -> Result<Arc<protocol::Account>, Error> {
        if self.request == protocol::AccountUpdate::default() {
            return Err(ConfigurationError::NothingToUpdate.into());
        }
        let account = &self.account;
        let payload = payload(&self.request)?;
        let request = SignedRequest {
            repeat: true,
            ..account.request(Operation::UpdateAccount, account.url(), payload)
        };
        let reply = account.post(&request).await?;
        Ok(account.keep(reply.json()?))
    }
}
