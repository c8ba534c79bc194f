use crate::account::Account;
use crate::authorization::Authorization;
use crate::error::{Error, Operation};
use crate::jose::KeyAuthorization;
use crate::protocol::{
    self, ChallengeResponse, ChallengeStatus, ChallengeType, Identifier, ProblemType, Token, Url,
};
use crate::session::SignedRequest;

/// A challenge: one way to prove control of an identifier (RFC 8555 §7.1.5, §8).
#[derive(Clone, Debug)]
pub struct Challenge {
    account: Account,
    authorization: Url,
    identifier: Identifier,
    state: protocol::Challenge,
    answer: Option<(Token, KeyAuthorization)>,
}

impl Challenge {
    pub(crate) fn new(
        account: Account,
        authorization: Url,
        identifier: Identifier,
        state: protocol::Challenge,
    ) -> Result<Self, Error> {
        let token = state
            .token()
            .map_err(|error| Error::reply(Operation::Authorization, &authorization, error))?;
        let answer = token.map(|token| {
            let key_authorization = KeyAuthorization::new(&token, account.thumbprint());
            (token, key_authorization)
        });
        Ok(Self {
            account,
            authorization,
            identifier,
            state,
            answer,
        })
    }

    /// The challenge's type.
    pub fn kind(&self) -> &ChallengeType {
        &self.state.kind
    }

    /// The challenge's URL.
    pub fn url(&self) -> &Url {
        &self.state.url
    }

    /// The identifier to prove control of, a wildcard with its `*.`.
    pub fn identifier(&self) -> &Identifier {
        &self.identifier
    }

    /// The account that the challenge is for.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// The challenge as the CA sent it.
    pub fn state(&self) -> &protocol::Challenge {
        &self.state
    }

    /// The token, of challenges that have one.
    pub fn token(&self) -> Option<&Token> {
        self.answer.as_ref().map(|(token, _)| token)
    }

    /// The key authorization (§8.1), of challenges that have a token.
    pub fn key_authorization(&self) -> Option<&KeyAuthorization> {
        self.answer
            .as_ref()
            .map(|(_, key_authorization)| key_authorization)
    }

    /// Tells the CA that the answer can be seen (§7.5.1). Validation then starts, and may come
    /// several times and from several places: leave the answer where it is until the order's fate
    /// is known.
    ///
    /// Returns the challenge as the CA sees it then. To wait for the outcome, look at the order:
    /// [`Order::wait_ready`](crate::Order::wait_ready).
    ///
    /// When the reply is lost, the request is sent again. Where the CA then refuses it, as it has
    /// begun already, the authorization tells how the challenge stands.
    pub async fn ready(&self) -> Result<protocol::Challenge, Error> {
        self.ready_with(&ChallengeResponse::empty()).await
    }

    /// Like [`ready`](Self::ready), with what the challenge's type asks for, such as the attestation
    /// of device-attest-01.
    ///
    /// ```no_run
    /// # async fn example(authorization: certwright::Authorization) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::collections::BTreeMap;
    ///
    /// use certwright::protocol::{ChallengeResponse, ChallengeType};
    ///
    /// let challenge = authorization.challenge(ChallengeType::DeviceAttest01)?;
    /// let attestation = BTreeMap::from([("attObj", "o2NmbXRkc3RlcA")]);
    /// challenge.ready_with(&ChallengeResponse::new(&attestation)?).await?;
    /// # Ok(()) }
    /// ```
    pub async fn ready_with(
        &self,
        response: &ChallengeResponse,
    ) -> Result<protocol::Challenge, Error> {
        tell_ready(&self.account, &self.authorization, self.url(), response).await
    }
}

/// See [`Challenge::ready_with`].
pub(crate) async fn tell_ready(
    account: &Account,
    authorization: &Url,
    challenge: &Url,
    response: &ChallengeResponse,
) -> Result<protocol::Challenge, Error> {
    let payload = response.as_str().as_bytes().to_vec();
    let request = SignedRequest {
        repeat: true,
        ..account.request(Operation::Challenge, challenge, payload)
    };
    let error = match account.post(&request).await {
        Ok(reply) => return reply.json(),
        Err(error) => error,
    };
    let begun = error.is(&ProblemType::Malformed) || error.is(&ProblemType::Conflict);
    if !begun {
        return Err(error);
    }

    let fetching = Authorization::fetch(account.clone(), authorization.clone());
    let authorization = Box::pin(fetching).await?;
    let challenges = &authorization.state().challenges;
    challenges
        .iter()
        .find(|told| told.url == *challenge)
        .filter(|told| told.status != ChallengeStatus::Pending)
        .cloned()
        .ok_or(error)
}
