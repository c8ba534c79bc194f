//! Solvers: what makes the answer to a challenge visible to the CA.
//!
//! | solver | challenge | for |
//! |---|---|---|
//! | [`Http01Server`] | http-01 | a program that may listen on port 80 itself |
//! | [`Http01Responder`] | http-01 | a program whose own HTTP server is on port 80 |
//! | [`Http01Webroot`] | http-01 | a host whose web server serves files from a directory |
//!
//! Anything else is a [`ChallengeSolver`] of the application's own.

#[cfg(feature = "dns-01")]
mod dns;
#[cfg(feature = "http-01")]
mod http01;

use async_trait::async_trait;

#[cfg(feature = "acme-dns")]
pub use self::dns::{AcmeDns, AcmeDnsAccount, AcmeDnsError, InvalidAcmeDnsAccounts};
#[cfg(feature = "dns-01")]
pub use self::dns::{
    DnsProgram, DnsProgramError, DnsProvider, ManualDns, ManualDnsError, ManualDnsStep, TxtRecord,
};
#[cfg(feature = "dns-update")]
pub use self::dns::{DnsUpdate, DnsUpdateError, DnsUpdateFault};
#[cfg(feature = "rfc2136")]
pub use self::dns::{
    InvalidNameServer, InvalidTsigKey, Rfc2136, Rfc2136Error, Rfc2136Fault, TsigAlgorithm, TsigKey,
};
#[cfg(feature = "http-01")]
pub use self::http01::{
    Http01BindError, Http01Body, Http01Error, Http01Responder, Http01Server, Http01Webroot,
};
/// The crate behind [`DnsUpdate`], in the version that fits.
#[cfg(feature = "dns-update")]
pub use ::dns_update;

use crate::error::BoxError;
use crate::jose::{KeyAuthorization, Thumbprint};
use crate::protocol::{Challenge, ChallengeType, Identifier, InvalidToken, Token, Url};

/// Makes the answer to a challenge visible to the CA, and takes it away afterwards.
///
/// An issuance calls, for the challenges of one order:
///
/// 1. [`present`](Self::present) for each of them, side by side;
/// 2. once all are presented, [`wait`](Self::wait) for each of them, side by side, so that a hundred
///    names over slow DNS take one propagation time and not a hundred;
/// 3. once all waits are over, it tells the CA that the challenges are ready;
/// 4. once the order's fate is known, [`clean_up`](Self::clean_up) for each of them, side by side.
///
/// One solver may serve many orders at once, so calls for different challenges overlap, and all
/// methods must be safe to call so.
#[async_trait]
pub trait ChallengeSolver: Send + Sync + 'static {
    /// Whether this solver can solve challenges of this type for this identifier.
    ///
    /// Of the types that the CA offers for an identifier, the issuance takes one for which the
    /// answer is yes. A wildcard's identifier has its `*.` here.
    /// [`ChallengeType::can_validate`] tells what the protocol allows.
    fn can_solve(&self, identifier: &Identifier, challenge_type: &ChallengeType) -> bool;

    /// Makes the answer visible.
    ///
    /// It SHOULD be quick: what must be waited for belongs in [`wait`](Self::wait). Where it fails,
    /// or its future is dropped halfway, `clean_up` is called all the same.
    async fn present(&self, presentation: &Presentation) -> Result<(), BoxError>;

    /// Waits until the CA can see the answer, where that takes time or is worth a check.
    ///
    /// It MUST end by itself, with an error that says what is not to be seen. A failed validation
    /// costs an order, and CAs limit how many may fail: it is better to fail here.
    async fn wait(&self, _presentation: &Presentation) -> Result<(), BoxError> {
        Ok(())
    }

    /// Takes the answer away.
    ///
    /// It is called once for each call of `present`: after success, after failure of any challenge
    /// of the order, and (in a task of its own) when the caller drops the issuance. It MUST succeed
    /// where there is nothing to take away, and MUST leave alone what others have presented.
    async fn clean_up(&self, presentation: &Presentation) -> Result<(), BoxError>;
}

/// What a solver is asked to present: one challenge, and what answers it.
#[derive(Clone, Debug)]
pub struct Presentation {
    identifier: Identifier,
    challenge: Challenge,
    account: Url,
    answer: Option<(Token, KeyAuthorization)>,
}

impl Presentation {
    /// Brings together a challenge for an identifier and what the account answers.
    ///
    /// Fails where the challenge's token breaks the rules of RFC 8555 §8.1. So a solver never sees
    /// a token that it would have to check.
    pub fn new(
        identifier: Identifier,
        challenge: Challenge,
        account: Url,
        thumbprint: &Thumbprint,
    ) -> Result<Self, InvalidToken> {
        let answer = challenge.token()?.map(|token| {
            let key_authorization = KeyAuthorization::new(&token, thumbprint);
            (token, key_authorization)
        });
        Ok(Self {
            identifier,
            challenge,
            account,
            answer,
        })
    }

    /// The identifier to prove control of, a wildcard with its `*.`.
    pub fn identifier(&self) -> &Identifier {
        &self.identifier
    }

    /// The challenge as the CA sent it, for types that need more than a token.
    pub fn challenge(&self) -> &Challenge {
        &self.challenge
    }

    /// The account's URL.
    pub fn account(&self) -> &Url {
        &self.account
    }

    /// The token, of challenges that have one.
    pub fn token(&self) -> Option<&Token> {
        self.answer.as_ref().map(|(token, _)| token)
    }

    /// The key authorization (RFC 8555 §8.1), of challenges that have a token.
    pub fn key_authorization(&self) -> Option<&KeyAuthorization> {
        self.answer
            .as_ref()
            .map(|(_, key_authorization)| key_authorization)
    }
}
