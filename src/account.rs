use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::client::Client;
use crate::error::{ConfigurationError, Error, Operation};
use crate::jose::{KeyReference, MacAlgorithm, MacKey, Signer, SigningError, Thumbprint};
use crate::order::{Order, OrderBuilder};
use crate::protocol::{
    self, Identifier, Identifiers, InvalidIdentifier, NewAccount, Resource, Url,
};
use crate::session::{Reply, SignedRequest};

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
        let state = Arc::new(reply.json::<protocol::Account>()?);
        let mut last = self
            .shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *last = Some(state.clone());
        Ok(state)
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
        Ok(AccountCredentials {
            directory: self.client().session().directory_url().clone(),
            account: self.url().clone(),
            key: key.to_pkcs8_pem()?,
        })
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

    /// Reads a resource of the account (§6.3: POST-as-GET).
    pub(crate) async fn read(&self, operation: Operation, url: &Url) -> Result<Reply, Error> {
        self.post(SignedRequest {
            repeat: true,
            ..self.request(operation, url, Vec::new())
        })
        .await
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

    pub(crate) async fn post(&self, request: SignedRequest<'_>) -> Result<Reply, Error> {
        self.client().session().post(&request).await
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("url", self.url())
            .finish_non_exhaustive()
    }
}

/// Creates an account, or finds the one that a key has (RFC 8555 §7.3).
#[derive(Debug)]
#[must_use = "nothing is sent before `create`"]
pub struct AccountBuilder {
    client: Client,
    signer: Arc<dyn Signer>,
    request: NewAccount,
    binding: Option<(String, MacAlgorithm, MacKey)>,
}

impl AccountBuilder {
    pub(crate) fn new(client: Client, signer: Arc<dyn Signer>) -> Self {
        Self {
            client,
            signer,
            request: NewAccount::default(),
            binding: None,
        }
    }

    /// Adds a URL by which the CA may reach the account's holder, such as `mailto:ops@example.com`.
    pub fn contact(mut self, url: impl Into<String>) -> Self {
        self.request.contact.push(url.into());
        self
    }

    /// Agrees to the CA's terms of service, which its directory links to.
    ///
    /// certwright never agrees by itself. Without this, a CA that has terms refuses, and the error
    /// says where they are.
    pub fn agree_to_terms(mut self) -> Self {
        self.request.terms_of_service_agreed = true;
        self
    }

    /// Binds the account to one that the caller has at the CA outside of ACME (§7.3.4), by the key
    /// id and the MAC key that the CA handed out.
    pub fn external_account(mut self, key_id: impl Into<String>, key: MacKey) -> Self {
        self.binding = Some((key_id.into(), MacAlgorithm::Hs256, key));
        self
    }

    /// Creates the account.
    ///
    /// When the reply is lost, the request is sent again: a CA has one account for a key.
    pub async fn create(mut self) -> Result<Account, Error> {
        let session = self.client.session();
        let url = session.resource(Resource::NewAccount).await?;
        if let Some((key_id, algorithm, key)) = &self.binding {
            let jws = key.bind(*algorithm, key_id, &url, self.signer.public_key())?;
            let value =
                serde_json::to_value(jws).map_err(|error| SigningError::new(error.into()))?;
            self.request.external_account_binding = Some(value);
        }

        let request = SignedRequest {
            operation: Operation::NewAccount,
            url: &url,
            signer: self.signer.as_ref(),
            key: KeyReference::Jwk,
            payload: payload(&self.request)?,
            accept: None,
            repeat: true,
        };
        let reply = match session.post(&request).await {
            Ok(reply) => reply,
            Err(error) => return Err(self.with_terms(error).await),
        };
        let account = reply.location()?;
        // Some CAs answer with an empty body where the account exists.
        let state = reply.json().ok();
        Ok(Account::new(self.client, account, self.signer, state))
    }

    /// Boulder refuses a caller who has not agreed without saying where the terms are.
    async fn with_terms(&self, mut error: Error) -> Error {
        if let Error::Refused(refusal) = &mut error
            && refusal.terms_of_service.is_none()
            && !self.request.terms_of_service_agreed
            && let Ok(directory) = self.client.directory().await
        {
            let terms = directory.meta.terms_of_service.as_deref();
            refusal.terms_of_service = terms.and_then(|terms| Url::parse(terms).ok());
        }
        error
    }
}

/// What must be stored to use an account again. Serialises to JSON with the members `directory`,
/// `account` and `key` (PKCS#8 in PEM).
///
/// It holds the account's private key: store it where only the program can read it.
///
/// ```no_run
/// # async fn example(client: certwright::Client, account: certwright::Account)
/// # -> Result<(), Box<dyn std::error::Error>> {
/// let stored = serde_json::to_string(&account.credentials()?)?;
/// // In another process:
/// let account = client.account(&serde_json::from_str(&stored)?)?;
/// # Ok(()) }
/// ```
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
pub struct AccountCredentials {
    directory: Url,
    account: Url,
    key: Zeroizing<String>,
}

impl AccountCredentials {
    /// Brings together what was stored in another form. `key` is PKCS#8 in PEM.
    pub fn new(directory: Url, account: Url, key: impl Into<String>) -> Self {
        Self {
            directory,
            account,
            key: Zeroizing::new(key.into()),
        }
    }

    /// The URL of the CA's directory.
    pub fn directory(&self) -> &Url {
        &self.directory
    }

    /// The account's URL.
    pub fn account(&self) -> &Url {
        &self.account
    }

    /// The account's key, as PKCS#8 in PEM. A secret.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Debug for AccountCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountCredentials")
            .field("directory", &self.directory)
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

/// A request's JSON.
pub(crate) fn payload(request: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(request).map_err(|error| SigningError::new(error.into()).into())
}
