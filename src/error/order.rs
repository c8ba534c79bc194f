use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use thiserror::Error;

use super::{BoxError, Operation, may_pass};
use crate::protocol::{
    AuthorizationStatus, ChallengeType, Identifier, OrderStatus, Problem, Url, format_timestamp,
    printable,
};

/// The authorization is pending, and to deactivate it may count as a failed validation.
#[derive(Clone, Debug, Error)]
#[error(
    "the authorization of {identifier} is pending: some CAs count a failed validation when it is \
     deactivated, and it expires by itself"
)]
#[non_exhaustive]
pub struct AuthorizationPending {
    /// The identifier.
    pub identifier: Identifier,
    /// The authorization.
    pub authorization: Url,
}

/// The CA does not offer the type of challenge that was asked for.
#[derive(Clone, Debug, Error)]
#[error("the CA does not offer {wanted} for {identifier}, but {}", types(.offered))]
#[non_exhaustive]
pub struct ChallengeNotOffered {
    /// The identifier.
    pub identifier: Identifier,
    /// The type that was asked for.
    pub wanted: ChallengeType,
    /// The types that the CA offers.
    pub offered: Vec<ChallengeType>,
}

/// No solver can solve a challenge that the CA offers for an identifier.
#[derive(Clone, Debug, Error)]
#[error("no solver can prove control of {identifier}: {}", self.reason())]
#[non_exhaustive]
pub struct NoSolver {
    /// The identifier.
    pub identifier: Identifier,
    /// The types of challenge that the CA offers; empty where it was not asked, as none of the
    /// solvers could have solved any.
    pub offered: Vec<ChallengeType>,
}

impl NoSolver {
    fn reason(&self) -> String {
        if !self.offered.is_empty() {
            return format!("the CA offers {}", types(&self.offered));
        }
        match &self.identifier {
            identifier if identifier.is_wildcard() => {
                "a wildcard takes a solver for dns-01 or its relatives (RFC 8555 §8.3)".to_owned()
            }
            Identifier::Ip(_) => {
                "an IP address takes a solver for http-01 or tls-alpn-01 (RFC 8738 §4)".to_owned()
            }
            _ => "none of the solvers given is for it".to_owned(),
        }
    }
}

/// The order is of no use any more.
#[derive(Clone, Debug, Error)]
#[error("the order {order} is {status}{}{}", self.expiry(), told(.problem.as_ref()))]
#[non_exhaustive]
pub struct OrderFailure {
    /// The order.
    pub order: Url,
    /// Its status.
    pub status: OrderStatus,
    /// Why, in the CA's words, where it gave any.
    pub problem: Option<Problem>,
    /// When it expired, where that is why.
    pub expired: Option<SystemTime>,
}

impl OrderFailure {
    fn expiry(&self) -> String {
        self.expired
            .map(|time| format!(", and expired at {}", format_timestamp(time)))
            .unwrap_or_default()
    }
}

/// The CA offers none of the profiles that were asked for (draft-ietf-acme-profiles).
#[derive(Clone, Debug, Error)]
#[error(
    "the CA does not offer the profile {}: it offers {}",
    printable(&.wanted.join(" or ")),
    self.offer()
)]
#[non_exhaustive]
pub struct ProfileNotOffered {
    /// The profiles that were asked for, the most wanted first.
    pub wanted: Vec<String>,
    /// The profiles that the directory lists, with a description of each.
    pub offered: BTreeMap<String, String>,
}

impl ProfileNotOffered {
    fn offer(&self) -> String {
        if self.offered.is_empty() {
            return "none".to_owned();
        }
        let names: Vec<_> = self.offered.keys().map(String::as_str).collect();
        printable(&names.join(", ")).into_owned()
    }
}

/// A solver failed before the CA was asked to validate.
#[derive(Debug, Error)]
#[error("the solver failed to {step} the answer to {challenge_type} for {identifier}: {source}")]
#[non_exhaustive]
pub struct SolverFailure {
    /// The identifier to prove control of.
    pub identifier: Identifier,
    /// The type of the challenge.
    pub challenge_type: ChallengeType,
    /// What the solver was doing.
    pub step: SolverStep,
    /// What it says.
    pub source: BoxError,
}

/// What a solver was doing.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum SolverStep {
    /// [`check`](crate::solver::ChallengeSolver::check)
    #[error("check")]
    Check,
    /// [`present`](crate::solver::ChallengeSolver::present)
    #[error("present")]
    Present,
    /// [`wait`](crate::solver::ChallengeSolver::wait)
    #[error("see")]
    Wait,
    /// [`response`](crate::solver::ChallengeSolver::response)
    #[error("compose")]
    Response,
    /// [`clean_up`](crate::solver::ChallengeSolver::clean_up)
    #[error("take away")]
    CleanUp,
}

/// The deadline came before the end.
#[derive(Clone, Debug, Error)]
#[error(
    "{operation} at {url} was not done after {} s{}{}",
    .waited.as_secs(),
    .status.as_deref().map(|status| format!("; the status is {}", printable(status))).unwrap_or_default(),
    told(.problem.as_ref()),
)]
#[non_exhaustive]
pub struct Timeout {
    /// What certwright was doing.
    pub operation: Operation,
    /// What it was waiting for.
    pub url: Url,
    /// How long it waited.
    pub waited: Duration,
    /// The status that it saw last.
    pub status: Option<String>,
    /// What the CA said of the delay, where it said something.
    pub problem: Option<Problem>,
}

/// The CA could not validate control of one or more identifiers.
#[derive(Clone, Debug, Error)]
#[error("{}", self.told())]
#[non_exhaustive]
pub struct ValidationFailure {
    /// The order, which is of no use any more.
    pub order: Url,
    /// The identifiers that failed.
    pub failures: Vec<FailedAuthorization>,
    /// The authorizations that the CA had not come to an end with.
    pub(crate) pending: Vec<Url>,
}

impl ValidationFailure {
    fn told(&self) -> String {
        let failures: Vec<_> = self
            .failures
            .iter()
            .map(FailedAuthorization::to_string)
            .collect();
        failures.join("; ")
    }
}

/// An identifier that the CA could not validate control of.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FailedAuthorization {
    /// The identifier.
    pub identifier: Identifier,
    /// The authorization's status. `deactivated`, `expired` and `revoked` ones were valid before.
    pub status: AuthorizationStatus,
    /// The type of the challenge that failed, where the CA tells.
    pub challenge_type: Option<ChallengeType>,
    /// Why, in the CA's words, where it gave any.
    pub problem: Option<Problem>,
    /// The authorization.
    pub authorization: Url,
}

impl FailedAuthorization {
    /// Whether a new order may go better though nobody changes anything.
    pub(super) fn may_pass(&self) -> bool {
        match &self.problem {
            Some(problem) => may_pass(problem) == Some(true),
            None => self.was_valid(),
        }
    }

    fn was_valid(&self) -> bool {
        matches!(
            self.status,
            AuthorizationStatus::Deactivated
                | AuthorizationStatus::Expired
                | AuthorizationStatus::Revoked
        )
    }
}

impl fmt::Display for FailedAuthorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.was_valid() {
            write!(
                f,
                "the authorization of {} is {}",
                self.identifier, self.status
            )?;
            return f.write_str(&told(self.problem.as_ref()));
        }
        write!(f, "the CA could not validate {}", self.identifier)?;
        if let Some(challenge_type) = &self.challenge_type {
            write!(f, " by {challenge_type}")?;
        }
        f.write_str(&told(self.problem.as_ref()))
    }
}

fn types(types: &[ChallengeType]) -> String {
    if types.is_empty() {
        return "nothing".to_owned();
    }
    let names: Vec<_> = types.iter().map(ChallengeType::to_string).collect();
    names.join(", ")
}

fn told(problem: Option<&Problem>) -> String {
    problem
        .map(|problem| format!(": {problem}"))
        .unwrap_or_default()
}
