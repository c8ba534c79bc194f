use std::time::SystemTime;

use thiserror::Error;

use super::{Operation, Retry, may_pass};
use crate::protocol::{
    AccountStatus, InvalidToken, InvalidUrl, Problem, ProblemType, Resource, Url, format_timestamp,
    printable,
};
use crate::transport::{TransportError, TransportFault};

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
            TransportFault::HeaderTooLarge
                | TransportFault::TooLarge(_)
                | TransportFault::Untrusted
        )
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
    pub(super) fn retry(&self) -> Retry {
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
    /// A URL that a request would go to is at another host than the directory's, where
    /// [`pin_host`](crate::ClientBuilder::pin_host) allows none.
    #[error("{0} is not at the directory's host, to which requests are pinned")]
    OtherHost(Url),
    /// A redirect from a public host to one that is not.
    #[error("it redirects to {0}, which is not a public host")]
    PrivateHost(Url),
    /// A URL in it is none.
    #[error(transparent)]
    Url(#[from] InvalidUrl),
}
