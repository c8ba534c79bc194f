mod builder;
mod credentials;
mod key_change;
mod orders;
mod update;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tracing::debug;

pub use self::builder::AccountBuilder;
pub(crate) use self::builder::find;
pub use self::credentials::AccountCredentials;
pub use self::update::AccountUpdate;
use crate::client::Client;
use crate::error::{ConfigurationError, Error, Operation, ReplyFault};
use crate::jose::{KeyReference, Signer, SigningError, Thumbprint};
use crate::order::{Order, OrderBuilder};
use crate::protocol::{
    self, AccountStatus, Identifier, Identifiers, InvalidIdentifier, ProblemType, Url,
};
use crate::session::{Reply, SignedRequest};
use crate::x509::InvalidCsr;

/// An account at a CA (RFC 8555 §7.1.2), with the key that signs for it.
///
/// Clones are handles of the same account.
#[derive(Clone)]
pub struct Account {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    url: Url,
    signer: Arc<dyn Signer>,
    thumbprint: Thumbprint,
    state: Mutex<Option<Arc<protocol::Account>>>,
}

impl Account {
    pub(crate) fn new(
        client: Client,
        url: Url,
        signer: Arc<dyn Signer>,
        state: Option<protocol::Account>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                client,
                url,
                thumbprint: signer.public_key().thumbprint(),
                signer,
                state: Mutex::new(state.map(Arc::new)),
            }),
        }
    }

    /// The account's URL, by which requests name it.
    pub fn url(&self) -> &Url {
        &self.shared.url
    }

    /// The thumbprint of the account's key (§8.1).
    pub fn thumbprint(&self) -> &Thumbprint {
        &self.shared.thumbprint
    }

    /// The client that the account belongs to.
    pub fn client(&self) -> &Client {
        &self.shared.client
    }

    /// The account as the CA sent it last; `None` for a restored one that was not read yet.
    pub fn state(&self) -> Option<Arc<protocol::Account>> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Reads the account from the CA.
    pub async fn refresh(&self) -> Result<Arc<protocol::Account>, Error> {
        let reply = self.read(Operation::Account, self.url()).await?;
        Ok(self.keep(reply.json()?))
    }

    /// Begins a change of the account's contacts, or the agreement to terms that have changed
    /// (§7.3.2, §7.3.3).
    ///
    /// ```no_run
    /// # async fn example(account: certwright::Account) -> Result<(), certwright::Error> {
    /// account.update().contact("mailto:ops@example.com").send().await?;
    /// account.update().clear_contacts().send().await?;
    /// # Ok(()) }
    /// ```
    pub fn update(&self) -> AccountUpdate {
        AccountUpdate::new(self.clone())
    }

    /// Deactivates the account, for good (§7.3.6): the CA will accept nothing from it any more.
    /// Certificates that it obtained stay valid.
    ///
    /// An account that is deactivated already is a success. When the reply is lost, the request is
    /// sent again.
    pub async fn deactivate(&self) -> Result<(), Error> {
        let request = protocol::AccountUpdate::deactivation();
        let request = SignedRequest {
            repeat: true,
            ..self.request(Operation::DeactivateAccount, self.url(), payload(&request)?)
        };
        let reply = match self.post(&request).await {
            Ok(reply) => reply,
            Err(error) => return self.settle_deactivation(error).await,
        };

        let state = self.keep(reply.json()?);
        match &state.status {
            AccountStatus::Deactivated => Ok(()),
            status => Err(reply.fault(ReplyFault::StillActive(status.clone()))),
        }
    }

    /// A deactivated account is `unauthorized` to do anything (§7.3.6), which is what a second
    /// request to deactivate it meets. So is one whose request was refused for another reason. The
    /// two differ in what the account's key can do: it finds an account that is still there.
    async fn settle_deactivation(&self, error: Error) -> Result<(), Error> {
        let is_unauthorized = |error: &Error| {
            let kind = error.problem().map(|problem| &problem.kind);
            matches!(error, Error::Refused(_)) && kind == Some(&ProblemType::Unauthorized)
        };
        if !is_unauthorized(&error) {
            return Err(error);
        }

        debug!(%error, account = %self.url(), "asking whether the account is deactivated already");
        let ended = match find(self.client(), self.shared.signer.clone()).await {
            Ok(Some(found)) => found
                .state()
                .is_some_and(|state| state.status == AccountStatus::Deactivated),
            // The key is that of no account: it was changed, and the account lives on.
            Ok(None) => false,
            Err(error) => is_unauthorized(&error),
        };
        match ended {
            true => Ok(()),
            false => Err(error),
        }
    }

    /// Gives the account another key (§7.3.5), and returns the account with it. This handle, with its
    /// clones and what was made from them, is of no use afterwards.
    ///
    /// The new key is the caller's: store it beside the old one first, and forget the old one once
    /// this has succeeded. The CA is asked afterwards which account the new key finds, so a success
    /// is one.
    ///
    /// * An [`Error::KeyChange`] says why the key was not changed, and whether the old one is in
    ///   force still, or that it is not known which of them is.
    /// * Any other error means that the CA has not changed it: the old key is in force.
    ///
    /// The request is not sent again when the reply is lost. Instead the CA is asked which of the
    /// keys finds the account.
    ///
    /// ```no_run
    /// # fn store(_: &str) {}
    /// # async fn example(account: certwright::Account) -> Result<(), Box<dyn std::error::Error>> {
    /// use certwright::jose::AccountKey;
    ///
    /// let key = AccountKey::generate()?;
    /// store(&key.to_pkcs8_pem()?); // beside the old one
    /// let account = account.change_key(key).await?;
    /// store(&serde_json::to_string(&account.credentials()?)?); // in place of the old one
    /// # Ok(()) }
    /// ```
    pub async fn change_key(&self, new_key: impl Signer) -> Result<Self, Error> {
        key_change::change_key(self, Arc::new(new_key)).await
    }

    /// The URLs of the account's orders (§7.1.2.1), from all pages of the list.
    ///
    /// Few CAs keep such a list, and Let's Encrypt does not: then the error is
    /// [`Error::NoOrderList`]. Which orders are in it is the CA's choice; those that are invalid or
    /// done may be missing.
    pub async fn orders(&self) -> Result<Vec<Url>, Error> {
        orders::orders(self).await
    }

    /// What must be stored to use the account again: its URL, its directory's, and its key.
    ///
    /// Fails where the key is held by a signer that does not hand it out; then the account's URL is
    /// all there is to store, for [`Client::account_with`].
    pub fn credentials(&self) -> Result<AccountCredentials, Error> {
        let key = self
            .shared
            .signer
            .account_key()
            .ok_or(ConfigurationError::KeyNotExportable)?;
        Ok(AccountCredentials::new(
            self.client().session().directory_url().clone(),
            self.url().clone(),
            key.to_pkcs8_pem()?.to_string(),
        ))
    }

    /// Begins an order for a certificate (§7.4).
    ///
    /// ```no_run
    /// # async fn example(account: certwright::Account) -> Result<(), certwright::Error> {
    /// let order = account.new_order(["example.com", "www.example.com"]).create().await?;
    /// for authorization in order.authorizations().await? {
    ///     println!("to prove: {}", authorization.identifier());
    /// }
    /// # Ok(()) }
    /// ```
    pub fn new_order<I>(&self, identifiers: I) -> OrderBuilder
    where
        I: IntoIterator<Item: TryInto<Identifier, Error: Into<InvalidIdentifier>>>,
    {
        OrderBuilder::new(self.clone(), Identifiers::collect(identifiers))
    }

    /// Takes an order up again, by its URL.
    pub async fn order(&self, url: Url) -> Result<Order, Error> {
        Order::fetch(self.clone(), url).await
    }

    /// Refuses the account's own key as that of a certificate, given as a `SubjectPublicKeyInfo`
    /// (§11.1).
    pub(crate) fn check_key(&self, public_key_info: &[u8]) -> Result<(), InvalidCsr> {
        let own = self.shared.signer.public_key().public_key_info();
        match own.is_ok_and(|own| own == public_key_info) {
            true => Err(InvalidCsr::AccountKey),
            false => Ok(()),
        }
    }

    /// Remembers what the CA sent.
    fn keep(&self, state: protocol::Account) -> Arc<protocol::Account> {
        let state = Arc::new(state);
        let mut last = self
            .shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *last = Some(state.clone());
        state
    }

    /// Reads a resource of the account (§6.3: POST-as-GET).
    pub(crate) async fn read(&self, operation: Operation, url: &Url) -> Result<Reply, Error> {
        let request = SignedRequest {
            repeat: true,
            ..self.request(operation, url, Vec::new())
        };
        self.post(&request).await
    }

    /// A request in the account's name, which is not sent anew unless that is set.
    pub(crate) fn request<'a>(
        &'a self,
        operation: Operation,
        url: &'a Url,
        payload: Vec<u8>,
    ) -> SignedRequest<'a> {
        SignedRequest {
            operation,
            url,
            signer: self.shared.signer.as_ref(),
            key: KeyReference::Kid(self.url()),
            payload,
            accept: None,
            repeat: false,
        }
    }

    pub(crate) fn post<'a>(
        &'a self,
        request: &'a SignedRequest<'a>,
    ) -> impl Future<Output = Result<Reply, Error>> + Send + 'a {
        self.client().session().post(request)
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("url", self.url())
            .finish_non_exhaustive()
    }
}

/// A request's JSON.
pub(crate) fn payload(request: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(request).map_err(|error| SigningError::new(error.into()).into())
}
