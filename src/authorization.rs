use std::sync::Arc;

use crate::account::Account;
use crate::challenge::Challenge;
use crate::error::{ChallengeNotOffered, Error, FailedAuthorization, Operation};
use crate::protocol::{
    self, AuthorizationStatus, ChallengeStatus, ChallengeType, Identifier, Problem, Url,
};

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
        let state = Arc::new(reply.json()?);
        Ok(Self {
            account,
            url,
            state,
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
        let Some(challenge) = self
            .state
            .challenges
            .iter()
            .find(|offered| offered.kind == kind)
        else {
            return Err(Error::ChallengeNotOffered(Box::new(ChallengeNotOffered {
                identifier: self.identifier(),
                wanted: kind,
                offered: self.offered(),
            })));
        };
        Challenge::new(
            self.account.clone(),
            self.url.clone(),
            self.identifier(),
            challenge.clone(),
        )
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
            challenge_type: challenge.map(|challenge| challenge.kind.clone()),
            problem: challenge.and_then(|challenge| challenge.error.clone()),
            authorization: self.url.clone(),
        })
    }

    /// What the CA complains of while it still tries (RFC 8555 §8.2).
    pub(crate) fn complaint(&self) -> Option<Problem> {
        let error = self
            .state
            .challenges
            .iter()
            .find_map(|challenge| challenge.error.clone())?;
        Some(error.for_identifier(self.identifier()))
    }
}
