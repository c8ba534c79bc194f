use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use rustls::crypto::GetRandomFailed;
use serde::Serialize;

use super::faults::{Breaker, ReplyBody};
use crate::error::BoxError;
use crate::protocol::{Problem, ProblemType};

/// What the CA answers.
#[derive(Debug)]
pub(super) struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    problem: Option<ProblemType>,
}

impl Reply {
    pub(super) fn empty(status: StatusCode) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            problem: None,
        }
    }

    pub(super) fn json(status: StatusCode, object: &impl Serialize) -> Result<Self, Refusal> {
        let body = serde_json::to_vec(object).map_err(Refusal::internal)?;
        Ok(Self::empty(status).body("application/json", body))
    }

    pub(super) fn body(mut self, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.header(header::CONTENT_TYPE, content_type)
    }

    /// Adds a header, next to others of its name.
    pub(super) fn header(mut self, name: HeaderName, value: impl AsRef<str>) -> Self {
        match HeaderValue::from_str(value.as_ref()) {
            Ok(value) => {
                self.headers.append(name, value);
            }
            // All of our values are URLs, dates and numbers.
            Err(error) => tracing::error!(%name, %error, "a reply goes out without a header"),
        }
        self
    }

    pub(super) fn location(self, url: impl AsRef<str>) -> Self {
        self.header(header::LOCATION, url)
    }

    /// A `Link` header (RFC 8288), in the form without a space that Boulder sends.
    pub(super) fn link(self, url: impl AsRef<str>, relation: &str) -> Self {
        self.header(
            header::LINK,
            format!("<{}>;rel=\"{relation}\"", url.as_ref()),
        )
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn problem(&self) -> Option<&ProblemType> {
        self.problem.as_ref()
    }

    pub(super) fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    /// Fills the body up to a length with spaces, which JSON and PEM may end with.
    pub(super) fn fill(&mut self, octets: usize) {
        let mut body = self.body.to_vec();
        body.resize(body.len().max(octets), b' ');
        self.body = body.into();
    }

    pub(super) fn has_body(&self) -> bool {
        !self.body.is_empty()
    }

    /// The response, or with a breaker half of it.
    pub(super) fn into_response(self, cut: Option<Arc<Breaker>>) -> Response<ReplyBody> {
        let mut response = Response::new(match cut {
            Some(breaker) => ReplyBody::half(self.body, breaker),
            None => ReplyBody::whole(self.body),
        });
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        let Refusal {
            status,
            problem,
            headers,
        } = refusal;
        // A problem document is made of strings and numbers, which always serialise.
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut reply = Self::empty(status).body("application/problem+json", body);
        for (name, value) in headers {
            reply = reply.header(name, value);
        }
        reply.problem = Some(problem.kind);
        reply
    }
}

/// Why the CA does not do what it was asked for (RFC 8555 §6.7).
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    problem: Box<Problem>,
    headers: Vec<(HeaderName, String)>,
}

impl Refusal {
    /// A problem with the status that Boulder sends it with.
    pub(super) fn new(kind: ProblemType, detail: impl Into<String>) -> Self {
        let status = match kind {
            ProblemType::AutoRenewalCanceled
            | ProblemType::AutoRenewalExpired
            | ProblemType::AutoRenewalRevocationNotSupported
            | ProblemType::ExternalAccountRequired
            | ProblemType::OrderNotReady
            | ProblemType::Unauthorized
            | ProblemType::UserActionRequired => StatusCode::FORBIDDEN,
            ProblemType::AlreadyReplaced | ProblemType::Conflict => StatusCode::CONFLICT,
            ProblemType::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            ProblemType::ServerInternal => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        Self::with_problem(status, Problem::new(kind, detail))
    }

    pub(super) fn with_problem(status: StatusCode, mut problem: Problem) -> Self {
        problem.status = Some(status.as_u16());
        Self {
            status,
            problem: Box::new(problem),
            headers: Vec::new(),
        }
    }

    /// The status and the problem alone.
    pub(super) fn into_problem(self) -> (StatusCode, Problem) {
        (self.status, *self.problem)
    }

    pub(super) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(ProblemType::Malformed, detail)
    }

    pub(super) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(ProblemType::Unauthorized, detail)
    }

    pub(super) fn not_found() -> Self {
        Self::malformed("there is no such resource").status(StatusCode::NOT_FOUND)
    }

    pub(super) fn internal(error: impl Into<BoxError>) -> Self {
        let error = error.into();
        tracing::error!(%error, "the test CA failed");
        Self::new(ProblemType::ServerInternal, error.to_string())
    }

    pub(super) fn status(self, status: StatusCode) -> Self {
        Self {
            headers: self.headers,
            ..Self::with_problem(status, *self.problem)
        }
    }

    /// The page about this occurrence, for a person (RFC 9457 §3.1.5).
    pub(super) fn instance(mut self, url: Option<&str>) -> Self {
        self.problem.instance = url.map(str::to_owned);
        self
    }

    pub(super) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl From<GetRandomFailed> for Refusal {
    fn from(error: GetRandomFailed) -> Self {
        Self::internal(rustls::Error::from(error))
    }
}
