use std::sync::Arc;

use crate::account::{Account, payload};
use crate::challenge::Challenge;
use crate::error::{
    AuthorizationPending, ChallengeNotOffered, Error, FailedAuthorization, Operation,
};
use crate::protocol::{
    self, AuthorizationStatus, ChallengeStatus, ChallengeType, Extension, Identifier,
    IdentifierFault, InvalidIdentifier, NewAuthorization, Problem, Resource, Url,
};
use crate::session::{Reply, SignedRequest};

/// An authorization: the CA's question whether the account controls an identifier, and the answer
/// once there is one (RFC 8555 §7.1.4).
#[derive(Clone, Debug)]
pub struct Authorization {
    account: Account,
    url: Url,
    state: Arc<protocol::Authorization>,
}

impl Authorization {
    pub(crate) async fn fetch(account: Account, url: Url) -> Result<Self, Error> {
        let reply = account.read(Operation::Authorization, &url).await?;
        Self::read(account, url, &reply)
    }

    fn read(account: Account, url: Url, reply: &Reply) -> Result<Self, Error> {
        Ok(Self {
            account,
            url,
            state: Arc::new(reply.json()?),
        })
    }

    /// The authorization's URL.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The identifier, as the order named it: a wildcard with its `*.`.
    pub fn identifier(&self) -> Identifier {
        self.state.identifier()
    }

    /// The authorization's status when it was read.
    pub fn status(&self) -> &AuthorizationStatus {
        &self.state.status
    }

    /// The authorization as the CA sent it.
    pub fn state(&self) -> &Arc<protocol::Authorization> {
        &self.state
    }

    /// Reads the authorization anew.
    pub async fn refresh(&self) -> Result<Self, Error> {
        Self::fetch(self.account.clone(), self.url.clone()).await
    }

    /// The types of challenge that the CA offers, in its order, which means nothing.
    pub fn offered(&self) -> Vec<ChallengeType> {
        self.state
            .challenges
            .iter()
            .map(|challenge| challenge.kind.clone())
            .collect()
    }

    /// The challenge of this type.
    ///
    /// Fails where the CA does not offer it, or where its token breaks the rules of §8.1.
    pub fn challenge(&self, kind: ChallengeType) -> Result<Challenge, Error> {
        Challenge::new(
            self.account.clone(),
            self.url.clone(),
            self.identifier(),
            self.offer(&kind)?.clone(),
        )
    }

    /// The challenge of this type, as the CA sent it.
    pub(crate) fn offer(&self, kind: &ChallengeType) -> Result<&protocol::Challenge, Error> {
        let mut challenges = self.state.challenges.iter();
        let challenge = challenges.find(|offered| offered.kind == *kind);
        challenge.ok_or_else(|| {
            Error::ChallengeNotOffered(Box::new(ChallengeNotOffered {
                identifier: self.identifier(),
                wanted: kind.clone(),
                offered: self.offered(),
            }))
        })
    }

    /// Gives the authorization up (§7.5.2): the account then has to prove control anew, and an order
    /// that builds upon it is of no use any more. Returns the authorization as the CA has it then.
    ///
    /// Only a valid one is given up, lest it harm: a pending one is refused here, before the CA is
    /// asked; see [`deactivate_pending`](Self::deactivate_pending). Those that are in another state
    /// are of no use already, and left alone.
    pub async fn deactivate(&self) -> Result<Self, Error> {
        match self.status() {
            AuthorizationStatus::Valid => self.send_deactivation().await,
            AuthorizationStatus::Pending => Err(Error::AuthorizationPending(Box::new(
                AuthorizationPending {
                    identifier: self.identifier(),
                    authorization: self.url.clone(),
                },
            ))),
            _ => Ok(self.clone()),
        }
    }

    /// Gives the authorization up though it may be pending.
    ///
    /// Let's Encrypt counts each pending authorization that is deactivated as a failed validation,
    /// of which five are allowed in an hour for one identifier. Left alone, it expires by itself.
    pub async fn deactivate_pending(&self) -> Result<Self, Error> {
        match self.status() {
            AuthorizationStatus::Valid | AuthorizationStatus::Pending => {
                self.send_deactivation().await
            }
            _ => Ok(self.clone()),
        }
    }

    async fn send_deactivation(&self) -> Result<Self, Error> {
        let status = AuthorizationStatus::Deactivated;
        let request = SignedRequest {
            repeat: true,
            ..self.account.request(
                Operation::Deactivation,
                &self.url,
                payload(&serde_json::json!({ "status": status }))?,
            )
        };
        let error = match self.account.post(&request).await {
            Ok(reply) => return Self::read(self.account.clone(), self.url.clone(), &reply),
            Err(error) => error,
        };
        if matches!(error, Error::Paused(_) | Error::RateLimited(_)) {
            return Err(error);
        }
        // Where the reply was lost, the second request finds it deactivated already.
        match self.refresh().await {
            Ok(authorization) if *authorization.status() == status => Ok(authorization),
            _ => Err(error),
        }
    }

    /// What an order that failed says of this authorization; `None` where it did not fail.
    pub(crate) fn failure(&self) -> Option<FailedAuthorization> {
        if matches!(
            self.status(),
            AuthorizationStatus::Pending | AuthorizationStatus::Valid
        ) {
            return None;
        }
        let failed = |challenge: &&protocol::Challenge| {
            challenge.error.is_some() || challenge.status == ChallengeStatus::Invalid
        };
        let challenge = self.state.challenges.iter().find(failed);
        Some(FailedAuthorization {
            identifier: self.identifier(),
            status: self.status().clone(),
            challenge_type: challenge.map(|challenge| challenge.kind.clone()),
            problem: challenge.and_then(|challenge| challenge.error.as_deref().cloned()),
            authorization: self.url.clone(),
        })
    }

    /// Whether the CA may still look for the answer to a challenge. Some leave one pending that failed.
    pub(crate) fn is_being_validated(&self) -> bool {
        *self.status() == AuthorizationStatus::Pending && self.complaint().is_none()
    }

    /// What the CA complains of while it still tries (RFC 8555 §8.2).
    pub(crate) fn complaint(&self) -> Option<Problem> {
        let mut challenges = self.state.challenges.iter();
        let error = challenges.find_map(|challenge| challenge.error.as_deref())?;
        Some(error.clone().for_identifier(self.identifier()))
    }
}

impl Account {
    /// Begins an authorization before any order (RFC 8555 §7.4.1), so that an order for the
    /// identifier finds it valid already. Few CAs offer this; Let's Encrypt does not.
    ///
    /// ```no_run
    /// # async fn example(account: certwright::Account) -> Result<(), certwright::Error> {
    /// let authorization = account.new_authorization("example.org").create().await?;
    /// println!("to prove: {}", authorization.identifier());
    /// # Ok(()) }
    /// ```
    pub fn new_authorization<I>(&self, identifier: I) -> AuthorizationBuilder
    where
        I: TryInto<Identifier, Error: Into<InvalidIdentifier>>,
    {
        AuthorizationBuilder {
            account: self.clone(),
            identifier: identifier.try_into().map_err(Into::into),
            subdomains: false,
        }
    }
}

/// Creates an authorization before any order (RFC 8555 §7.4.1).
#[derive(Clone, Debug)]
#[must_use = "nothing is sent before `create`"]
pub struct AuthorizationBuilder {
    account: Account,
    identifier: Result<Identifier, InvalidIdentifier>,
    subdomains: bool,
}

impl AuthorizationBuilder {
    /// Asks that the authorization count for all names below the identifier too (RFC 9444 §4.2).
    pub fn subdomains(mut self) -> Self {
        self.subdomains = true;
        self
    }

    /// Creates the authorization, or finds the one that the account has.
    ///
    /// Fails before anything is sent where the identifier is a wildcard, and where the CA does not
    /// offer what is asked for. When the reply is lost, the request is sent again; a stray
    /// authorization expires.
    pub async fn create(self) -> Result<Authorization, Error> {
        let identifier = self.identifier?;
        if identifier.is_wildcard() {
            let fault = IdentifierFault::WildcardBeforeOrder;
            return Err(InvalidIdentifier::new(&identifier.value(), fault).into());
        }
        let client = self.account.client();
        let url = client.session().resource(Resource::NewAuthz).await?;
        if self.subdomains {
            client.require(Extension::SubdomainAuthorization).await?;
        }

        let mut request = NewAuthorization::new(identifier);
        request.subdomain_auth_allowed = self.subdomains;
        let payload = payload(&request)?;
        let request = SignedRequest {
            repeat: true,
            ..self
                .account
                .request(Operation::NewAuthorization, &url, payload)
        };
        let reply = self.account.post(&request).await?;
        let authorization = reply.location()?;
        Authorization::read(self.account, authorization, &reply)
    }
}
