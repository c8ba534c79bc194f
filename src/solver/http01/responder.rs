use std::convert::Infallible;
use std::future::{self, Ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use tower_service::Service;
use tracing::debug;

use super::live_tokens::LiveTokens;
use crate::error::BoxError;
use crate::jose::KeyAuthorization;
use crate::protocol::{ChallengeType, Identifier, Token};
use crate::solver::{ChallengeSolver, Presentation};

/// Solves http-01 (RFC 8555 §8.3) in an HTTP server that the program runs on port 80 anyway.
///
/// Clones share the live tokens: one clone goes to the issuance as its solver, another into the
/// server. There it answers requests in one of three ways, whichever suits:
///
/// * as a [`tower_service::Service`] at the route [`ROUTE`](Self::ROUTE);
/// * by [`answer`](Self::answer), from an [`http::Request`] to an [`http::Response`];
/// * by [`respond`](Self::respond), from a request's path to a key authorization.
///
/// Only tokens of challenges that are being presented are answered (§11.3 tells what comes of a
/// server that answers any). A request is answered whatever its `Host`: the CA asks for each name
/// that it validates, and may put a port or an IP address there.
///
/// CAs follow redirects, also to HTTPS. So the server may redirect all of its requests, these
/// included, as long as the responder answers at the target.
///
/// ```
/// use axum::Router;
/// use axum::routing::get;
/// use certwright::solver::Http01Responder;
///
/// let responder = Http01Responder::default();
/// let app: Router = Router::new()
///     .route("/", get(async || "Welcome"))
///     .route_service(Http01Responder::ROUTE, responder.clone());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Http01Responder {
    live: Arc<LiveTokens>,
}

impl Http01Responder {
    /// What the path of each request from the CA begins with (RFC 8555 §8.3).
    pub const PATH_PREFIX: &str = "/.well-known/acme-challenge/";

    /// The route for this service in axum, and in other routers with the same notation.
    ///
    /// The request must arrive with its path whole: routers that cut a prefix off, as axum's
    /// `nest_service` does, make every request one for an unknown path.
    pub const ROUTE: &str = "/.well-known/acme-challenge/{token}";

    /// The key authorization to send in response to a GET request for this path, if any.
    ///
    /// The path is that of the request's URL, without query. The response has status 200 and the
    /// key authorization as its whole body; its `Content-Type` is `application/octet-stream`
    /// (RFC 8555 §8.3).
    ///
    /// `None` stands for a path that is not below [`PATH_PREFIX`](Self::PATH_PREFIX), or whose
    /// token is not live: the server goes on as it does for any other request.
    ///
    /// ```
    /// # use certwright::solver::Http01Responder;
    /// let responder = Http01Responder::default();
    /// assert!(responder.respond("/index.html").is_none());
    /// ```
    pub fn respond(&self, path: &str) -> Option<KeyAuthorization> {
        let token = Token::parse(path.strip_prefix(Self::PATH_PREFIX)?).ok()?;
        let key_authorization = self.live.key_authorization(&token);
        debug!(%token, live = key_authorization.is_some(), "key authorization asked for");
        key_authorization
    }

    /// The response to a request, if the request is a GET or HEAD for a live token.
    ///
    /// `None` stands for every other request, also for one whose token is not live: the server
    /// answers it as it would without the responder, most likely with its own 404.
    ///
    /// ```
    /// # use certwright::solver::Http01Responder;
    /// # fn other_routes<B>(_: http::Request<B>) -> http::Response<bytes::Bytes> {
    /// #     http::Response::default()
    /// # }
    /// fn handle<B>(
    ///     responder: &Http01Responder,
    ///     request: http::Request<B>,
    /// ) -> http::Response<bytes::Bytes> {
    ///     match responder.answer(&request) {
    ///         Some(response) => response.map(Into::into),
    ///         None => other_routes(request),
    ///     }
    /// }
    /// ```
    pub fn answer<B>(&self, request: &Request<B>) -> Option<Response<Http01Body>> {
        if !ANSWERED_METHODS.contains(request.method()) {
            return None;
        }
        let key_authorization = self.respond(request.uri().path())?;

        let body = Bytes::from(key_authorization.as_str().to_owned());
        let length = HeaderValue::from(body.len());
        let mut response = Response::new(match *request.method() {
            Method::HEAD => Http01Body::default(),
            _ => Http01Body(body),
        });
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, OCTET_STREAM);
        headers.insert(CONTENT_LENGTH, length);
        Some(response)
    }

    /// The response to any request, for a server or a route that has no other.
    pub(super) fn handle<B>(&self, request: &Request<B>) -> Response<Http01Body> {
        if let Some(response) = self.answer(request) {
            return response;
        }

        let mut response = Response::new(Http01Body::default());
        *response.status_mut() = StatusCode::NOT_FOUND;
        // `answer` would have answered the others.
        if !ANSWERED_METHODS.contains(request.method())
            && self.respond(request.uri().path()).is_some()
        {
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            response.headers_mut().insert(ALLOW, GET_HEAD);
        }
        response
    }
}

#[async_trait]
impl ChallengeSolver for Http01Responder {
    fn can_solve(&self, identifier: &Identifier, challenge_type: &ChallengeType) -> bool {
        *challenge_type == ChallengeType::Http01 && challenge_type.can_validate(identifier)
    }

    async fn present(&self, presentation: &Presentation) -> Result<(), BoxError> {
        Ok(self.live.add(presentation)?)
    }

    async fn clean_up(&self, presentation: &Presentation) -> Result<(), BoxError> {
        self.live.remove(presentation);
        Ok(())
    }
}

/// Answers as [`answer`](Http01Responder::answer) does; a path without live token gets 404, a live
/// one with a method other than GET and HEAD 405.
impl<B> Service<Request<B>> for Http01Responder {
    type Response = Response<Http01Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        future::ready(Ok(self.handle(&request)))
    }
}

/// The body of a response from [`Http01Responder`]: a key authorization, or empty.
///
/// Servers built on hyper send it as the [`Body`] that it is; for others it turns into [`Bytes`].
// A type of our own, because `Full` of http-body-util, which would do, is of a 0.x crate.
#[derive(Clone, Debug, Default)]
pub struct Http01Body(Bytes);

impl Body for Http01Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.is_end_stream() {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.0)))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}

impl From<Http01Body> for Bytes {
    fn from(body: Http01Body) -> Self {
        body.0
    }
}

const ANSWERED_METHODS: [Method; 2] = [Method::GET, Method::HEAD];
const GET_HEAD: HeaderValue = HeaderValue::from_static("GET, HEAD");
const OCTET_STREAM: HeaderValue = HeaderValue::from_static("application/octet-stream");

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[tokio::test]
    async fn responds_for_live_tokens_only() {
        let responder = Http01Responder::default();
        let presentation = presentation(TOKEN, &thumbprint());
        let path = format!("/.well-known/acme-challenge/{TOKEN}");

        assert_eq!(responder.respond(&path), None);
        responder.present(&presentation).await.unwrap();
        assert_eq!(
            responder.clone().respond(&path).as_ref(),
            presentation.key_authorization()
        );
        for other in [
            String::new(),
            "/".into(),
            "/.well-known/acme-challenge".into(),
            "/.well-known/acme-challenge/".into(),
            "/.well-known/acme-challenge/pNvmJivs0WCko2suV7fhe-59oFqyYx_y".into(),
            format!("/.well-known/acme-challenge//{TOKEN}"),
            format!("/.well-known/acme-challenge/../acme-challenge/{TOKEN}"),
            format!("/.well-known/acme-challenge/{TOKEN}/"),
            format!("/.well-known/acme-challenge/{TOKEN}?query"),
            format!("/.well-known/ACME-challenge/{TOKEN}"),
            format!("/{TOKEN}"),
            TOKEN.into(),
        ] {
            assert_eq!(responder.respond(&other), None, "{other}");
        }
        responder.clean_up(&presentation).await.unwrap();
        assert_eq!(responder.respond(&path), None);
    }

    #[tokio::test]
    async fn answers_by_method_and_path() {
        let responder = Http01Responder::default();
        let presentation = presentation(TOKEN, &thumbprint());
        responder.present(&presentation).await.unwrap();
        let key_authorization = presentation.key_authorization().unwrap().as_str();
        let live = format!("/.well-known/acme-challenge/{TOKEN}");
        let absolute = format!("http://192.0.2.1:5002{live}?query");
        let dead = "/.well-known/acme-challenge/pNvmJivs0WCko2suV7fhe-59oFqyYx_y";

        for (method, uri, answered, status, body) in [
            (Method::GET, live.as_str(), true, 200, key_authorization),
            (Method::GET, absolute.as_str(), true, 200, key_authorization),
            (Method::HEAD, live.as_str(), true, 200, ""),
            (Method::POST, live.as_str(), false, 405, ""),
            (Method::OPTIONS, live.as_str(), false, 405, ""),
            (Method::GET, dead, false, 404, ""),
            (Method::POST, dead, false, 404, ""),
            (Method::GET, "/", false, 404, ""),
        ] {
            let request = Request::builder()
                .method(&method)
                .uri(uri)
                .body(())
                .unwrap();
            assert_eq!(responder.answer(&request).is_some(), answered, "{uri}");

            let response = responder.clone().call(request).await.unwrap();
            assert_eq!(response.status(), status, "{method} {uri}");
            let header = |name| response.headers().get(&name).map(|v| v.to_str().unwrap());
            let length = key_authorization.len().to_string();
            assert_eq!(header(CONTENT_LENGTH), answered.then_some(length.as_str()));
            assert_eq!(
                header(CONTENT_TYPE),
                answered.then_some("application/octet-stream")
            );
            assert_eq!(header(ALLOW), (status == 405).then_some("GET, HEAD"));
            assert_eq!(Bytes::from(response.into_body()), body);
        }
    }

    #[test]
    fn body_gives_its_bytes_once() {
        let mut body = Http01Body(Bytes::from_static(b"abc"));
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert_eq!(body.size_hint().exact(), Some(3));
        let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut context) else {
            panic!("no frame");
        };
        assert_eq!(frame.into_data().unwrap(), "abc");
        assert!(body.is_end_stream());
        assert!(matches!(
            Pin::new(&mut body).poll_frame(&mut context),
            Poll::Ready(None)
        ));
    }

    #[test]
    fn can_solve_what_the_protocol_allows() {
        let responder = Http01Responder::default();
        for (identifier, expected) in [
            ("example.com", true),
            ("192.0.2.1", true),
            ("2001:db8::1", true),
            ("*.example.com", false),
        ] {
            let identifier = identifier.parse().unwrap();
            let can_solve = |kind| responder.can_solve(&identifier, &kind);
            assert_eq!(can_solve(ChallengeType::Http01), expected, "{identifier}");
            assert!(!can_solve(ChallengeType::Dns01));
            assert!(!can_solve(ChallengeType::TlsAlpn01));
        }
    }

    #[tokio::test]
    async fn presents_many_side_by_side() {
        let responder = Http01Responder::default();
        let key = thumbprint();
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..200 {
            let responder = responder.clone();
            // Each token twice, so that every other clean_up must leave it live.
            let presentation = presentation(&numbered_token(number / 2), &key);
            tasks.spawn(async move {
                responder.present(&presentation).await.unwrap();
                tokio::task::yield_now().await;
                let path = format!(
                    "{}{}",
                    Http01Responder::PATH_PREFIX,
                    presentation.token().unwrap()
                );
                assert_eq!(
                    responder.respond(&path).as_ref(),
                    presentation.key_authorization()
                );
                responder.clean_up(&presentation).await.unwrap();
            });
        }
        while let Some(result) = tasks.join_next().await {
            result.unwrap();
        }
        assert_eq!(format!("{responder:?}"), "Http01Responder { live: {} }");
    }
}
