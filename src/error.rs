//! What can go wrong, told so that a person or a program knows what to do next.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::time::{Duration, SystemTime};

use thiserror::Error;

use crate::jose::{InvalidKey, SigningError};
use crate::protocol::{
    AccountStatus, AuthorizationStatus, ChallengeType, Extension, Identifier, InvalidIdentifier,
    InvalidToken, InvalidUrl, Problem, ProblemType, Resource, Url, format_timestamp, printable,
};
use crate::transport::{TransportError, TransportFault};
use crate::x509::{InvalidCertificate, InvalidChain, InvalidCrl, InvalidCsr};

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
///     match error {
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
    /// Whether, and when, it helps to try the whole operation again.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Network(fault) if !fault.is_transient() => Retry::Never,
            Self::Certificate(_)
            | Self::Crl(_)
            | Self::Network(_)
            | Self::Signing(_)
            | Self::Solver(_)
            | Self::TimedOut(_) => Retry::Later,
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
    ///     eprintln!("{identifier}: {problem}");
    /// }
    /// # }
    /// ```
    pub fn by_identifier(&self) -> Vec<(&Identifier, &Problem)> {
        if let Self::ValidationFailed(failure) = self {
            let failures = failure.failures.iter();
            return failures
                .filter_map(|failed| Some((&failed.identifier, failed.problem.as_ref()?)))
                .collect();
        }
        self.problem()
            .map(Problem::by_identifier)
            .unwrap_or_default()
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

/// What certwright was doing, for errors and logs.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Operation {
    /// Fetching the directory (RFC 8555 §7.1.1).
    Directory,
    /// Getting a nonce (§7.2).
    NewNonce,
    /// Creating an account (§7.3).
    NewAccount,
    /// Finding the account that a key has (§7.3.1).
    FindAccount,
    /// Reading an account (§7.3.2).
    Account,
    /// Changing an account's contacts, or agreeing to terms (§7.3.2, §7.3.3).
    UpdateAccount,
    /// Giving an account another key (§7.3.5).
    KeyChange,
    /// Deactivating an account (§7.3.6).
    DeactivateAccount,
    /// Reading the list of an account's orders (§7.1.2.1).
    Orders,
    /// Creating an order (§7.4).
    NewOrder,
    /// Reading an order.
    Order,
    /// Ending an order that renews by itself (RFC 8739 §3.1.2).
    Cancellation,
    /// Reading what others let the account order (RFC 9115 §2.3.1).
    Delegation,
    /// Creating an authorization before any order (§7.4.1).
    NewAuthorization,
    /// Giving an authorization up (§7.5.2).
    Deactivation,
    /// Reading an authorization (§7.5).
    Authorization,
    /// Telling the CA that a challenge is ready (§7.5.1).
    Challenge,
    /// Sending the CSR (§7.4).
    Finalize,
    /// Downloading the certificate (§7.4.2).
    Certificate,
    /// Revoking a certificate (§7.6).
    Revocation,
    /// Reading renewal information (RFC 9773 §4.1).
    RenewalInfo,
    /// Fetching the list of revoked certificates (RFC 5280 §5).
    Crl,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Directory => "fetching the directory",
            Self::NewNonce => "getting a nonce",
            Self::NewAccount => "creating the account",
            Self::FindAccount => "finding the account",
            Self::Account => "reading the account",
            Self::UpdateAccount => "updating the account",
            Self::KeyChange => "changing the account's key",
            Self::DeactivateAccount => "deactivating the account",
            Self::Orders => "listing the account's orders",
            Self::NewOrder => "creating the order",
            Self::Order => "reading the order",
            Self::Cancellation => "canceling the order",
            Self::Delegation => "reading the delegations",
            Self::NewAuthorization => "creating an authorization",
            Self::Deactivation => "deactivating an authorization",
            Self::Authorization => "reading an authorization",
            Self::Challenge => "answering a challenge",
            Self::Finalize => "finalizing the order",
            Self::Certificate => "downloading the certificate",
            Self::Revocation => "revoking the certificate",
            Self::RenewalInfo => "reading the renewal information",
            Self::Crl => "fetching the CRL",
        })
    }
}

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

/// The CA's certificate chain is not what was asked for.
#[derive(Clone, Debug, Error)]
#[error("the certificate at {url} is not what was asked for: {fault}")]
#[non_exhaustive]
pub struct BadCertificate {
    /// Where the chain came from.
    pub url: Url,
    /// What is wrong with it.
    #[source]
    pub fault: InvalidChain,
}

/// The CA's list of revoked certificates says nothing of the certificate.
#[derive(Clone, Debug, Error)]
#[error("the CRL at {url} can't be used: {fault}")]
#[non_exhaustive]
pub struct BadCrl {
    /// Where the list came from.
    pub url: Url,
    /// What is wrong with it.
    #[source]
    pub fault: InvalidCrl,
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

/// The client or its transport can't be set up as asked.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ConfigurationError {
    /// The account's key can't be exported, as a signer holds it elsewhere.
    #[error("the account's key is not held in memory, so it can't be stored with the account")]
    KeyNotExportable,
    /// A fingerprint is not 32 octets in hexadecimal.
    #[error("the fingerprint is not a SHA-256 in hexadecimal")]
    Fingerprint,
    /// No rustls crypto provider is there to speak TLS by.
    #[error(
        "TLS has no crypto provider: enable the feature `aws-lc-rs` or `ring`, or install a rustls \
         CryptoProvider"
    )]
    NoCryptoProvider,
    /// An update of the account that changes nothing was asked for.
    #[error("there is nothing to update: set contacts, clear them, or agree to the terms")]
    NothingToUpdate,
    /// Platform roots are off and none was added.
    #[error("there is no root certificate to trust: add one, or trust the platform's")]
    NoRoots,
    /// No transport was given, and certwright was built without one.
    #[error("there is no transport: give one, or enable the feature `hyper`")]
    NoTransport,
    /// The user agent's product can't stand in a header.
    #[error("the product for the User-Agent header holds characters that no header may have")]
    Product,
    /// The account's credentials are for another directory than the client's.
    #[error("the account belongs to the directory {0}, not to that of this client")]
    OtherDirectory(Url),
    /// The proxy's URL is none.
    #[error("the proxy's URL is not of the form http://[user:password@]host[:port]")]
    Proxy,
    /// A reason for a revocation that RFC 5280 does not name, so that every CA refuses it.
    #[error("{0} is not a code that a revocation may give as its reason (RFC 5280 §5.3.1)")]
    RevocationReason(u8),
    /// A root certificate can't be read.
    #[error("the PEM of the root certificates can't be used: {0}")]
    Root(#[source] InvalidChain),
    /// rustls refuses the configuration.
    #[error("TLS can't be set up: {0}")]
    Tls(#[source] rustls::Error),
    /// A URL given by the caller is none.
    #[error(transparent)]
    Url(InvalidUrl),
    /// An order that renews by itself has a validity for each certificate (RFC 8739 §3.1.1).
    #[error("an order that renews by itself takes no notBefore and no notAfter (RFC 8739 §3.1.1)")]
    ValidityOfAutoRenewal,
}

/// The CA does not offer a chain such as was required. The certificate is issued all the same.
#[derive(Clone, Debug, Error)]
#[error("the CA does not offer {wanted} for {certificate}, but {offered} others")]
#[non_exhaustive]
pub struct NoChain {
    /// The certificate, from which the other chains can be had by
    /// [`Account::certificate`](crate::Account::certificate).
    pub certificate: Url,
    /// The chain that was required, in words.
    pub wanted: String,
    /// How many chains the CA offers.
    pub offered: usize,
}

/// The account's key was not changed, or it is not known whether it was.
#[derive(Debug, Error)]
#[error("the key of the account {account} {fault}")]
#[non_exhaustive]
pub struct KeyChangeFailure {
    /// The account.
    pub account: Url,
    /// Why not.
    #[source]
    pub fault: KeyChangeFault,
}

/// Why an account's key was not changed (RFC 8555 §7.3.5).
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyChangeFault {
    /// The new key is the key of another account already. The old key is still in force.
    #[error(
        "was not changed, so the old key is still in force: the new one is that of {}",
        .0.as_ref().map_or("another account".to_owned(), |url| format!("the account {url}"))
    )]
    KeyInUse(Option<Url>),
    /// The new key is the one that the account has. Nothing was sent.
    #[error("was not changed: the new key is the one that it has")]
    SameKey,
    /// The CA said that it had changed the key, yet it has not. The old key is still in force.
    #[error("was not changed, though the CA said so: the old key is still in force")]
    Unchanged,
    /// No answer came, and asking which of the keys is in force failed too: keep both.
    ///
    /// [`Client::find_account`](crate::Client::find_account), with the new key and then with the
    /// old, finds the account by the one that is.
    #[error("may have been changed or not, so keep both the old and the new one: {0}")]
    Unsettled(#[source] Box<Error>),
}

/// No response came from the CA.
#[derive(Debug, Error)]
#[error("{operation} at {url} failed: {source}")]
#[non_exhaustive]
pub struct NetworkFault {
    /// What certwright was doing.
    pub operation: Operation,
    /// The URL of the request.
    pub url: Url,
    /// What went wrong.
    pub source: TransportError,
}

impl NetworkFault {
    pub(crate) fn new(operation: Operation, url: &Url, source: TransportError) -> Self {
        Self {
            operation,
            url: url.clone(),
            source,
        }
    }

    /// Whether the request may have reached the CA, and changed something there.
    pub(crate) fn may_have_arrived(&self) -> bool {
        !matches!(self.source.fault(), TransportFault::Connect)
    }

    /// Whether the same request may bring another result.
    pub(crate) fn is_transient(&self) -> bool {
        !matches!(
            self.source.fault(),
            TransportFault::TooLarge(_) | TransportFault::Untrusted
        )
    }
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
    pub status: crate::protocol::OrderStatus,
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

/// The CA has paused the account for an identifier: validation failed too often, for too long.
///
/// Let's Encrypt does so for names whose renewal has failed for months.
#[derive(Clone, Debug, Error)]
#[error("{refusal}; no waiting helps, a person must visit {page}")]
#[non_exhaustive]
pub struct Paused {
    /// What the CA answered.
    pub refusal: Refusal,
    /// The page to visit. For a person: certwright never fetches it.
    pub page: Url,
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

/// The CA refused a request, or failed at it.
#[derive(Clone, Debug, Error)]
#[error("{operation} at {url} was refused with status {status}{}", self.told())]
#[non_exhaustive]
pub struct Refusal {
    /// What certwright was doing.
    pub operation: Operation,
    /// The URL of the request.
    pub url: Url,
    /// The HTTP status.
    pub status: u16,
    /// What the CA said. Of kind [`ProblemType::Blank`] where the body was no problem document.
    pub problem: Problem,
    /// The time from which trying again can help, where the CA named one (§6.6).
    pub retry_at: Option<SystemTime>,
    /// The terms of service to agree to, where the reply links to them (§7.3.3). For a person to
    /// read: it may be of any scheme, and certwright never fetches it.
    pub terms_of_service: Option<String>,
    /// Pages that explain the refusal, such as the documentation of a rate limit (§6.6).
    pub help: Vec<Url>,
    /// The resource that stands in the way, where the CA names it: the account that has a key
    /// already (§7.3.5).
    pub location: Option<Url>,
    /// The start of a body that was no problem document, such as a gateway's HTML page.
    pub excerpt: Option<String>,
}

impl Refusal {
    /// Whether trying again helps. The problem's type decides, then the status: CAs send one type
    /// with different statuses.
    fn retry(&self) -> Retry {
        let transient = match may_pass(&self.problem) {
            Some(may_pass) => may_pass,
            None => matches!(self.status, 408 | 425) || self.status >= 500,
        };
        match self.retry_at {
            _ if self.problem.kind == ProblemType::UserActionRequired => Retry::Never,
            Some(time) => Retry::At(time),
            None if transient => Retry::Later,
            None => Retry::Never,
        }
    }

    fn told(&self) -> String {
        let mut text = match &self.excerpt {
            Some(excerpt) if excerpt.is_empty() => ", with an empty body".to_owned(),
            Some(excerpt) => format!(", with a body that starts `{}`", printable(excerpt)),
            None => format!(": {}", self.problem),
        };
        if let Some(instance) = &self.problem.instance {
            text.push_str(&format!("; see {}", printable(instance)));
        }
        if let Some(terms) = &self.terms_of_service {
            text.push_str(&format!(
                "; the terms of service are at {}",
                printable(terms)
            ));
        }
        for page in &self.help {
            text.push_str(&format!("; see {page}"));
        }
        if let Some(time) = self.retry_at {
            text.push_str(&format!("; try again after {}", format_timestamp(time)));
        }
        text
    }
}

/// The CA's reply breaks the protocol.
#[derive(Clone, Debug, Error)]
#[error("{operation} at {url} brought a reply that can't be used: {fault}")]
#[non_exhaustive]
pub struct BadReply {
    /// What certwright was doing.
    pub operation: Operation,
    /// The URL of the request.
    pub url: Url,
    /// What is wrong with the reply.
    #[source]
    pub fault: ReplyFault,
}

/// What is wrong with a CA's reply.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ReplyFault {
    /// A URL that a request would go to is not https (RFC 8555 §6.1).
    #[error("{0} is not https, so no request may go there (RFC 8555 §6.1)")]
    InsecureUrl(Url),
    /// The body is not the JSON object that it should be.
    #[error("its body is not the object expected: {error}; it starts `{}`", printable(.excerpt))]
    Json {
        /// What is wrong with it.
        error: String,
        /// How it starts.
        excerpt: String,
    },
    /// The directory lacks a resource without which no certificate can be had.
    #[error("the directory does not list {0} (RFC 8555 §7.1.1)")]
    MissingResource(Resource),
    /// A header is missing that names the new resource, or the nonce.
    #[error("it lacks the header {0}")]
    MissingHeader(&'static str),
    /// The order is valid, yet names no certificate (RFC 8555 §7.1.3).
    #[error("the order is valid, yet it names no certificate")]
    NoCertificate,
    /// The list of an account's orders leads in a circle, or is longer than any real one.
    #[error("the list of orders does not end after {0} pages")]
    OrderList(usize),
    /// A redirect, which no signed request may follow (RFC 8555 §6.4).
    #[error("it redirects{}", .0.as_deref().map(|to| format!(" to {}", printable(to))).unwrap_or_default())]
    Redirect(Option<String>),
    /// The CA accepted that the account be deactivated, yet says that it is not.
    #[error("the account is not deactivated, but {0}")]
    StillActive(AccountStatus),
    /// The body is larger than it may be, in octets.
    #[error("its body is larger than {0} octets")]
    TooLarge(usize),
    /// A challenge's token could do harm.
    #[error(transparent)]
    Token(#[from] InvalidToken),
    /// A redirect from a public host to one that is not.
    #[error("it redirects to {0}, which is not a public host")]
    PrivateHost(Url),
    /// A URL in it is none.
    #[error(transparent)]
    Url(#[from] InvalidUrl),
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
    /// [`present`](crate::solver::ChallengeSolver::present)
    #[error("present")]
    Present,
    /// [`wait`](crate::solver::ChallengeSolver::wait)
    #[error("see")]
    Wait,
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
    fn may_pass(&self) -> bool {
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
