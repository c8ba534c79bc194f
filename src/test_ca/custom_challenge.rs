use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::ca::Ca;
use super::route::Route;
use crate::jose::Thumbprint;
use crate::protocol::{Challenge, ChallengeType, Identifier, Problem, ProblemType, Url};

/// A type of challenge that the CA offers beside its own, or in the place of one of them, and that
/// the test validates.
///
/// ```
/// use certwright::protocol::{ChallengeType, Problem, ProblemType};
/// use certwright::test_ca::{CustomChallenge, TestCa};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let attestation = CustomChallenge::new(ChallengeType::DeviceAttest01, |attempt| {
///     match attempt.response.contains_key("attObj") {
///         true => Ok(()),
///         false => Err(Problem::new(ProblemType::BadAttestationStatement, "it has no attObj").into()),
///     }
/// });
/// let ca = TestCa::builder().challenge(attestation).start().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct CustomChallenge {
    kind: ChallengeType,
    has_token: bool,
    members: Map<String, Value>,
    validator: Arc<Validator>,
}

type Validator = dyn Fn(&ChallengeAttempt) -> Result<(), Box<Problem>> + Send + Sync;

impl CustomChallenge {
    /// A type of challenge, and what decides whether a client has solved it.
    ///
    /// It is offered for each identifier that [its type can validate](ChallengeType::can_validate),
    /// with a token. The validator must not block for long. A panic of it is the problem
    /// `serverInternal`.
    pub fn new(
        kind: ChallengeType,
        validator: impl Fn(&ChallengeAttempt) -> Result<(), Box<Problem>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            kind,
            has_token: true,
            members: Map::new(),
            validator: Arc::new(validator),
        }
    }

    /// Offers it without a token, as dns-persist-01 is.
    pub fn without_token(mut self) -> Self {
        self.has_token = false;
        self
    }

    /// Offers it with this member more.
    pub fn member(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.members.insert(name.into(), value.into());
        self
    }

    pub(super) fn kind(&self) -> &ChallengeType {
        &self.kind
    }

    /// Whether the client has to send an empty object, as for those types that prove control
    /// elsewhere.
    pub(super) fn takes_members(&self) -> bool {
        !matches!(
            self.kind,
            ChallengeType::Http01
                | ChallengeType::TlsAlpn01
                | ChallengeType::Dns01
                | ChallengeType::DnsAccount01
                | ChallengeType::DnsPersist01
        )
    }

    /// The challenge as it is offered.
    pub(super) fn offer(&self, url: Url, token: String) -> Challenge {
        let token = self.has_token.then_some(token);
        let mut challenge = Challenge::pending(self.kind.clone(), url, token);
        challenge.other = self.members.clone();
        challenge
    }

    fn validate(&self, attempt: &ChallengeAttempt) -> Result<(), Box<Problem>> {
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.validator)(attempt)));
        outcome.unwrap_or_else(|_| {
            Err(Problem::new(ProblemType::ServerInternal, "the test's validator panicked").into())
        })
    }
}

impl fmt::Debug for CustomChallenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CustomChallenge")
            .field("kind", &self.kind)
            .field("has_token", &self.has_token)
            .field("members", &self.members)
            .finish_non_exhaustive()
    }
}

/// A client's answer to a challenge of a [type of the test's own](CustomChallenge).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChallengeAttempt {
    /// The identifier, a wildcard with its `*.`.
    pub identifier: Identifier,
    /// The challenge as it was offered.
    pub challenge: Challenge,
    /// The account's URL.
    pub account: Url,
    /// The thumbprint of the account's key.
    pub thumbprint: Thumbprint,
    /// What the client sent to say that it is ready (RFC 8555 §7.5.1).
    pub response: Map<String, Value>,
}

/// Validates one challenge, and notes how that ended.
pub(super) async fn run(
    ca: Arc<Ca>,
    id: u64,
    custom: CustomChallenge,
    response: Map<String, Value>,
) {
    let outcome = match ca.custom_attempt(id, response) {
        Some(attempt) => custom.validate(&attempt).map_err(|problem| *problem),
        // Replies may wait for an outcome, so there has to be one.
        None => Err(Problem::new(
            ProblemType::ServerInternal,
            "the challenge has lost its authorization or its account",
        )),
    };
    ca.state().conclude(id, outcome);
    ca.announce_validation();
}

impl Ca {
    pub(super) fn custom_challenge(&self, kind: &ChallengeType) -> Option<CustomChallenge> {
        let settings = self.settings();
        let mut customs = settings.custom_challenges.iter();
        customs.find(|custom| custom.kind == *kind).cloned()
    }

    fn custom_attempt(&self, id: u64, response: Map<String, Value>) -> Option<ChallengeAttempt> {
        let state = self.state();
        let challenge = state.challenges.get(id)?;
        let authorization = state.authorizations.get(challenge.authorization)?;
        let account = state.accounts.get(authorization.account)?;
        Some(ChallengeAttempt {
            identifier: authorization.object.identifier(),
            challenge: challenge.object.clone(),
            account: self.url(Route::Account(authorization.account)).ok()?,
            thumbprint: account.key.thumbprint(),
            response,
        })
    }
}
