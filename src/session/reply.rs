use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, Response, StatusCode};
use serde::de::DeserializeOwned;

use super::link::{links, targets};
use super::retry_after::{retry_after, retry_at};
use super::told::Told;
use crate::error::{Error, Operation, Paused, Refusal, ReplyFault};
use crate::protocol::{Problem, ProblemType, Url};

/// What a CA answered, where it did not refuse.
#[derive(Clone, Debug)]
pub struct Reply {
    operation: Operation,
    url: Url,
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Reply {
    pub(super) fn new(operation: Operation, url: Url, response: Response<Bytes>) -> Self {
        let (parts, body) = response.into_parts();
        Self {
            operation,
            url,
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    /// Turns a refusal into an error. The status decides: the body may be anything.
    pub(super) fn accept(self) -> Result<Self, Error> {
        if self.status.is_success() || self.status.is_redirection() {
            return Ok(self);
        }

        let document = serde_json::from_slice::<Problem>(&self.body).ok();
        let excerpt = document.is_none().then(|| self.excerpt());
        let mut problem = document.unwrap_or_default();
        if let Some(instance) = &mut problem.instance
            && let Ok(absolute) = self.url.join(instance)
        {
            *instance = absolute.to_string();
        }
        let limited = problem.kind == ProblemType::RateLimited || self.status.as_u16() == 429;
        // Let's Encrypt answers 503 with this type when it is busy. That passes by itself.
        let busy = self.status == StatusCode::SERVICE_UNAVAILABLE;
        let now = SystemTime::now();
        let mut refusal = Refusal {
            operation: self.operation,
            status: self.status.as_u16(),
            retry_at: self.retry_after().map(|wait| retry_at(wait, now)),
            terms_of_service: self.page("terms-of-service"),
            help: self.links("help"),
            location: self.location().ok(),
            url: self.url,
            problem,
            excerpt,
        };
        if refusal.problem.kind == ProblemType::UserActionRequired {
            return Err(Error::UserActionRequired(Box::new(refusal)));
        }
        if refusal.status == StatusCode::NOT_IMPLEMENTED.as_u16() {
            return Err(Error::NotImplemented(Box::new(refusal)));
        }
        if !limited || busy {
            return Err(Error::Refused(Box::new(refusal)));
        }

        let told = Told::read(refusal.problem.detail.as_deref().unwrap_or_default());
        refusal.retry_at = refusal.retry_at.or(told.retry_at);
        if refusal.help.is_empty() {
            refusal.help.extend(told.help);
        }
        Err(match (refusal.retry_at, told.visit) {
            (None, Some(page)) => Error::Paused(Box::new(Paused { refusal, page })),
            _ => Error::RateLimited(Box::new(refusal)),
        })
    }

    /// A page for people that the reply links to: absolute where it can be, and of any scheme.
    fn page(&self, relation: &str) -> Option<String> {
        let target = targets(&self.headers, relation).next()?;
        Some(match self.url.join(target) {
            Ok(absolute) => absolute.to_string(),
            Err(_) => target.to_owned(),
        })
    }

    /// The URL that was asked.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The body as an object of the protocol.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let media_type = self.headers.get(CONTENT_TYPE);
            let media_type = media_type
                .and_then(|value| value.to_str().ok())
                .unwrap_or("none");
            self.fault(ReplyFault::Json {
                error: format!("{error} (content type: {media_type})"),
                excerpt: self.excerpt(),
            })
        })
    }

    /// The URL of the resource that the request created or found.
    pub fn location(&self) -> Result<Url, Error> {
        let value = self
            .headers
            .get(LOCATION)
            .and_then(|value| value.to_str().ok());
        let value = value.ok_or_else(|| self.fault(ReplyFault::MissingHeader("Location")))?;
        self.url.join(value).map_err(|error| self.fault(error))
    }

    /// The targets of the links with this relation (RFC 8288).
    pub fn links(&self, relation: &str) -> Vec<Url> {
        links(&self.headers, relation, &self.url)
    }

    /// How long the CA asks to wait before the next look (RFC 9110 §10.2.3).
    pub fn retry_after(&self) -> Option<Duration> {
        retry_after(&self.headers, SystemTime::now())
    }

    /// An error that says what is wrong with this reply.
    pub(crate) fn fault(&self, fault: impl Into<ReplyFault>) -> Error {
        Error::reply(self.operation, &self.url, fault)
    }

    fn excerpt(&self) -> String {
        let start = self.body.get(..200).unwrap_or(&self.body);
        String::from_utf8_lossy(start).trim().to_owned()
    }
}
