use std::sync::Arc;

use super::{Account, payload};
use crate::client::Client;
use crate::error::{Error, Operation};
use crate::jose::{KeyReference, MacAlgorithm, MacKey, Signer, SigningError};
use crate::protocol::{NewAccount, ProblemType, Resource, Url};
use crate::session::{Reply, Session, SignedRequest};

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
    /// id and the MAC key that the CA handed out. By HS256, which every CA takes.
    pub fn external_account(self, key_id: impl Into<String>, key: MacKey) -> Self {
        self.external_account_with(key_id, key, MacAlgorithm::Hs256)
    }

    /// Like [`external_account`](Self::external_account), by another MAC algorithm. The CA says which
    /// it wants.
    pub fn external_account_with(
        mut self,
        key_id: impl Into<String>,
        key: MacKey,
        algorithm: MacAlgorithm,
    ) -> Self {
        self.binding = Some((key_id.into(), algorithm, key));
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

        let operation = Operation::NewAccount;
        let reply = match send(session, operation, &url, &self.signer, &self.request).await {
            Ok(reply) => reply,
            Err(error) => return Err(self.with_terms(error).await),
        };
        account(self.client, &reply, self.signer)
    }

    /// Boulder refuses a caller who has not agreed without saying where the terms are.
    async fn with_terms(&self, mut error: Error) -> Error {
        if let Error::Refused(refusal) | Error::UserActionRequired(refusal) = &mut error
            && refusal.terms_of_service.is_none()
            && !self.request.terms_of_service_agreed
            && let Ok(directory) = self.client.directory().await
        {
            refusal.terms_of_service = directory.meta.terms_of_service.clone();
        }
        error
    }
}

/// Finds the account that a key has (§7.3.1). `None` where the CA knows of none.
pub(crate) async fn find(
    client: &Client,
    signer: Arc<dyn Signer>,
) -> Result<Option<Account>, Error> {
    match look_up(client, signer).await {
        Ok(account) => Ok(Some(account)),
        Err(error) if is_unknown(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Finds the account that a key has. The CA's refusal where it knows of none.
pub(super) async fn look_up(client: &Client, signer: Arc<dyn Signer>) -> Result<Account, Error> {
    let session = client.session();
    let url = session.resource(Resource::NewAccount).await?;
    // Nothing else goes with it: some CAs refuse contacts in such a request.
    let request = NewAccount::existing();
    let reply = send(session, Operation::FindAccount, &url, &signer, &request).await?;
    account(client.clone(), &reply, signer)
}

/// Whether the CA knows of no account with the key.
pub(super) fn is_unknown(error: &Error) -> bool {
    error.is(&ProblemType::AccountDoesNotExist)
}

async fn send(
    session: &Session,
    operation: Operation,
    url: &Url,
    signer: &Arc<dyn Signer>,
    request: &NewAccount,
) -> Result<Reply, Error> {
    let request = SignedRequest {
        operation,
        url,
        signer: signer.as_ref(),
        key: KeyReference::Jwk,
        payload: payload(request)?,
        accept: None,
        repeat: true,
    };
    session.post(&request).await
}

fn account(client: Client, reply: &Reply, signer: Arc<dyn Signer>) -> Result<Account, Error> {
    let url = reply.location()?;
    // Some CAs answer with an empty body where the account exists.
    let state = reply.json().ok();
    Ok(Account::new(client, url, signer, state))
}
