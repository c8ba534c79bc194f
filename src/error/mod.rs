//! What can go wrong, told so that a person or a program knows what to do next.

mod account;
mod certificate;
mod configuration;
mod issuance;
mod operation;
mod order;
mod request;

use std::convert::Infallible;
use std::time::SystemTime;

use thiserror::Error;

pub use self::account::{KeyChangeFailure, KeyChangeFault};
pub use self::certificate::{BadCertificate, BadCrl, NoChain};
pub use self::configuration::ConfigurationError;
pub use self::issuance::{CheckpointFault, IssuanceFailure};
pub use self::operation::Operation;
pub use self::order::{
    AuthorizationPending, ChallengeNotOffered, FailedAuthorization, NoSolver, OrderFailure,
    ProfileNotOffered, SolverFailure, SolverStep, Timeout, ValidationFailure,
};
pub use self::request::{BadReply, NetworkFault, Paused, Refusal, ReplyFault};
use crate::jose::{InvalidKey, SigningError};
use crate::protocol::{
    Extension, Identifier, InvalidIdentifier, InvalidUrl, Problem, ProblemType, Resource, Url,
};
use crate::solver::Leftover;
use crate::x509::{InvalidCertificate, InvalidCsr};

/// Any error, as a [`Signer`](crate::jose::Signer), a
/// [`ChallengeSolver`](crate::solver::ChallengeSolver) or a
/// [`Transport`](crate::transport::Transport) gives it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What can go wrong.
///
/// One `match` tells the cases apart that ask for different reactions:
///
/// ```
/// use certwright::{Error, Retry};
///
/// fn react(error: &Error) -> String {
///     match error.cause() {
///         Error::RateLimited(refusal) => format!("slow down: {}", refusal.problem),
///         Error::Paused(paused) => format!("somebody must visit {}", paused.page),
///         Error::ValidationFailed(failure) => {
///             let names: Vec<_> = failure.failures.iter().map(|f| f.identifier.to_string()).collect();
///             format!("check port 80 and DNS of {}", names.join(", "))
///         }
///         Error::Network(fault) => format!("the network is down: {fault}"),
///         error if error.retry() == Retry::Never => format!("needs a person: {error}"),
///         error => format!("trying again later: {error}"),
///     }
/// }
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The authorization is pending, and to deactivate it may count as a failed validation.
    #[error(transparent)]
    AuthorizationPending(Box<AuthorizationPending>),

    /// The CA's certificate chain is not what was asked for. Nothing of it should be used.
    #[error(transparent)]
    Certificate(Box<BadCertificate>),

    /// A certificate can't be read, or lacks what is asked of it.
    #[error(transparent)]
    CertificateContent(#[from] InvalidCertificate),

    /// The CA does not offer the type of challenge that was asked for.
    #[error(transparent)]
    ChallengeNotOffered(Box<ChallengeNotOffered>),

    /// An issuance can't be taken up from a checkpoint, or its checkpoint can't be stored.
    #[error(transparent)]
    Checkpoint(Box<CheckpointFault>),

    /// The client or its transport can't be set up as asked.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),

    /// The CA's list of revoked certificates says nothing of the certificate.
    #[error(transparent)]
    Crl(Box<BadCrl>),

    /// The CSR can't be made, or does not fit the order.
    #[error(transparent)]
    Csr(#[from] InvalidCsr),

    /// The CA does not have an extension that was asked for: its directory's `meta` does not say so.
    #[error("the CA does not offer {0}: its directory does not say so")]
    ExtensionNotOffered(Extension),

    /// A name can't be named in a certificate.
    #[error(transparent)]
    Identifier(#[from] InvalidIdentifier),

    /// An issuance failed, and there is more to tell than the error that ended it, which
    /// [`cause`](Error::cause) gives: what was tried before, or what could not be taken away.
    #[error(transparent)]
    Issuance(Box<IssuanceFailure>),

    /// A key can't be made, read or written.
    #[error(transparent)]
    Key(#[from] InvalidKey),

    /// The account's key was not changed, or it is not known whether it was.
    #[error(transparent)]
    KeyChange(Box<KeyChangeFailure>),

    /// No response came from the CA.
    #[error(transparent)]
    Network(Box<NetworkFault>),

    /// The CA does not offer a chain such as was required.
    #[error(transparent)]
    NoChain(Box<NoChain>),

    /// The CA keeps no list of the orders of this account, as most CAs don't (RFC 8555 §7.1.2.1).
    #[error("the CA keeps no list of the orders of the account {0} (RFC 8555 §7.1.2.1)")]
    NoOrderList(Url),

    /// No solver can solve a challenge that the CA offers for an identifier.
    #[error(transparent)]
    NoSolver(Box<NoSolver>),

    /// The CA lists the resource, and answers that it has not implemented it (status 501).
    #[error("the CA lists this resource without having implemented it: {0}")]
    NotImplemented(Box<Refusal>),

    /// The order is of no use any more, and no failed authorization explains it.
    #[error(transparent)]
    OrderFailed(Box<OrderFailure>),

    /// The CA has paused the account for an identifier, until a person visits a page. No waiting
    /// helps.
    #[error(transparent)]
    Paused(Box<Paused>),

    /// The CA offers none of the profiles that were asked for.
    #[error(transparent)]
    ProfileNotOffered(Box<ProfileNotOffered>),

    /// The CA refused because a rate limit is exceeded. [`Refusal::retry_at`] is when it will have
    /// passed, where the CA says so, and [`Refusal::help`] has the page about it.
    #[error(transparent)]
    RateLimited(Box<Refusal>),

    /// The CA refused the request, or failed at it.
    #[error(transparent)]
    Refused(Box<Refusal>),

    /// The CA's reply breaks the protocol.
    #[error(transparent)]
    Reply(Box<BadReply>),

    /// The signer of the account's key failed.
    #[error(transparent)]
    Signing(#[from] SigningError),

    /// A solver failed before the CA was asked to validate.
    #[error(transparent)]
    Solver(Box<SolverFailure>),

    /// The deadline came before the end.
    #[error(transparent)]
    TimedOut(Box<Timeout>),

    /// The CA does not have what was asked of it.
    #[error("the CA does not have {0}: its directory lists no such resource")]
    Unsupported(Resource),

    /// The CA wants a person to act, before it goes on: mostly to agree to its terms of service
    /// (RFC 8555 §7.3.3).
    ///
    /// The page to visit is the problem's [`instance`](Problem::instance); the terms, where the CA
    /// links to them, are in [`Refusal::terms_of_service`]. Whoever has read them agrees by
    /// [`AccountBuilder::agree_to_terms`](crate::AccountBuilder::agree_to_terms) or
    /// [`AccountUpdate::agree_to_terms`](crate::AccountUpdate::agree_to_terms). certwright never
    /// agrees by itself.
    #[error(transparent)]
    UserActionRequired(Box<Refusal>),

    /// The CA could not validate control of one or more identifiers.
    #[error(transparent)]
    ValidationFailed(Box<ValidationFailure>),
}

impl Error {
    /// The error that tells what to do: of an [`Issuance`](Self::Issuance) that which ended it, else
    /// this one itself. An issuance's error is best matched on by this.
    pub fn cause(&self) -> &Self {
        match self {
            Self::Issuance(failure) => &failure.cause,
            error => error,
        }
    }

    /// What failed before in the same issuance, so that another solver was taken or another order
    /// made. The first comes first.
    pub fn earlier(&self) -> &[Self] {
        match self {
            Self::Issuance(failure) => &failure.earlier,
            _ => &[],
        }
    }

    /// What the issuance presented and could not take away. It can be stored, and taken away later:
    /// [`Leftover::remove`].
    pub fn leftovers(&self) -> &[Leftover] {
        match self {
            Self::Issuance(failure) => &failure.leftovers,
            _ => &[],
        }
    }

    /// Whether, and when, it helps to try the whole operation again.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Issuance(failure) => failure.cause.retry(),
            Self::Network(fault) if !fault.is_transient() => Retry::Never,
            Self::Certificate(_)
            | Self::Crl(_)
            | Self::Network(_)
            | Self::Signing(_)
            | Self::Solver(_)
            | Self::TimedOut(_) => Retry::Later,
            Self::Checkpoint(fault) => match **fault {
                CheckpointFault::Store(_) => Retry::Later,
                _ => Retry::Never,
            },
            Self::KeyChange(failure) => match &failure.fault {
                KeyChangeFault::Unsettled(error) => error.retry(),
                _ => Retry::Never,
            },
            Self::Reply(reply) => match reply.fault {
                ReplyFault::InsecureUrl(_)
                | ReplyFault::OrderList(_)
                | ReplyFault::StillActive(_)
                | ReplyFault::Token(_) => Retry::Never,
                _ => Retry::Later,
            },
            Self::RateLimited(refusal) => refusal.retry_at.map_or(Retry::Later, Retry::At),
            Self::Refused(refusal) => refusal.retry(),
            Self::ValidationFailed(failure) => {
                match failure.failures.iter().all(FailedAuthorization::may_pass) {
                    true => Retry::Later,
                    false => Retry::Never,
                }
            }
            Self::OrderFailed(failure) => match failure.problem.as_ref().and_then(may_pass) {
                Some(false) => Retry::Never,
                _ => Retry::Later,
            },
            Self::AuthorizationPending(_)
            | Self::CertificateContent(_)
            | Self::ChallengeNotOffered(_)
            | Self::Configuration(_)
            | Self::Csr(_)
            | Self::ExtensionNotOffered(_)
            | Self::Identifier(_)
            | Self::Key(_)
            | Self::NoChain(_)
            | Self::NoOrderList(_)
            | Self::NoSolver(_)
            | Self::NotImplemented(_)
            | Self::Paused(_)
            | Self::ProfileNotOffered(_)
            | Self::Unsupported(_)
            | Self::UserActionRequired(_) => Retry::Never,
        }
    }

    /// What the CA said, where it said something.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::NotImplemented(refusal)
            | Self::RateLimited(refusal)
            | Self::Refused(refusal)
            | Self::UserActionRequired(refusal) => Some(&refusal.problem),
            Self::KeyChange(failure) => match &failure.fault {
                KeyChangeFault::Unsettled(error) => error.problem(),
                _ => None,
            },
            Self::Issuance(failure) => failure.cause.problem(),
            Self::Paused(paused) => Some(&paused.refusal.problem),
            Self::OrderFailed(failure) => failure.problem.as_ref(),
            Self::ValidationFailed(failure) => failure
                .failures
                .iter()
                .find_map(|failed| failed.problem.as_ref()),
            Self::TimedOut(timeout) => timeout.problem.as_ref(),
            _ => None,
        }
    }

    /// What the CA said of single identifiers: those of an order that it refused (RFC 8555 §6.7.1),
    /// or could not validate. Empty where it did not tell them apart.
    ///
    /// ```
    /// # fn example(error: certwright::Error) {
    /// for (identifier, problem) in error.by_identifier() {
    ///     println!("{identifier} is refused for {}", problem.kind);
    /// }
    /// # }
    /// ```
    pub fn by_identifier(&self) -> Vec<(&Identifier, &Problem)> {
        if let Self::ValidationFailed(failure) = self.cause() {
            let failures = failure.failures.iter();
            return failures
                .filter_map(|failed| Some((&failed.identifier, failed.problem.as_ref()?)))
                .collect();
        }
        self.problem()
            .map(Problem::by_identifier)
            .unwrap_or_default()
    }

    /// Whether the CA gave a problem of this type.
    pub(crate) fn is(&self, kind: &ProblemType) -> bool {
        self.problem().is_some_and(|problem| problem.kind == *kind)
    }

    pub(crate) fn reply(operation: Operation, url: &Url, fault: impl Into<ReplyFault>) -> Self {
        Self::Reply(Box::new(BadReply {
            operation,
            url: url.clone(),
            fault: fault.into(),
        }))
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl From<InvalidUrl> for Error {
    fn from(error: InvalidUrl) -> Self {
        ConfigurationError::Url(error).into()
    }
}

/// Whether, and when, it helps to try again; see [`Error::retry`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Retry {
    /// From this time on, which the CA named.
    At(SystemTime),
    /// After a pause. Let's Encrypt advises 1 minute, then 10, then 100, then a day.
    Later,
    /// Not until somebody has changed something.
    Never,
}

/// Whether a problem may pass by itself. `None` where its type does not tell.
fn may_pass(problem: &Problem) -> Option<bool> {
    match problem.kind {
        ProblemType::BadNonce
        | ProblemType::Connection
        | ProblemType::Dns
        | ProblemType::RateLimited
        | ProblemType::ServerInternal
        // The state is another than it seemed: a new look brings the true one.
        | ProblemType::Conflict
        | ProblemType::OrderNotReady => Some(true),
        ProblemType::Compound => {
            let parts = &problem.subproblems;
            Some(!parts.is_empty() && parts.iter().all(|part| may_pass(part) == Some(true)))
        }
        ProblemType::Blank | ProblemType::Other(_) => None,
        _ => Some(false),
    }
}
