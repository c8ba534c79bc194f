//! The client's side of the protocol: what every request to a CA has in common.
//!
//! A [`Session`] knows the directory, keeps the nonces, signs requests, sends them again where that
//! is safe, and turns what comes back into a [`Reply`] or an [`Error`]. The resources
//! are built upon it; a program that speaks an extension of its own can use it directly.

mod freshness;
mod limits;
mod link;
mod nonce;
mod nonces;
mod pace;
mod reply;
mod retries;
mod retry_after;
mod told;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_LANGUAGE, CONTENT_TYPE, LOCATION, USER_AGENT};
use http::{HeaderValue, Method, Request};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use self::nonce::Nonce;
use self::nonces::Nonces;
pub(crate) use self::pace::Pace;
pub use self::reply::Reply;
pub(crate) use self::retries::{Failure, Retries};
use crate::error::{ConfigurationError, Error, NetworkFault, Operation, ReplyFault};
use crate::jose::{Jws, KeyReference, Signer, SigningError};
use crate::protocol::{Directory, ProblemType, Resource, Url};
use crate::transport::{ResponseLimit, Transport};

/// A CA, as one client sees it: its directory, and the nonces that it handed out.
///
/// Clones share both.
#[derive(Clone)]
pub struct Session {
    shared: Arc<Shared>,
}

struct Shared {
    transport: Arc<dyn Transport>,
    directory_url: Url,
    options: SessionOptions,
    directory: Mutex<Option<CachedDirectory>>,
    nonces: Nonces,
    other_hosts: Mutex<BTreeSet<String>>,
    /// For signed requests; never closed.
    turns: Semaphore,
}

struct CachedDirectory {
    directory: Arc<Directory>,
    fresh_until: Instant,
}

impl Session {
    /// A session with the CA that has its directory at this URL. Nothing is sent yet.
    pub fn new(transport: Arc<dyn Transport>, directory_url: Url, options: SessionOptions) -> Self {
        Self {
            shared: Arc::new(Shared {
                transport,
                directory_url,
                options,
                directory: Mutex::default(),
                nonces: Nonces::new(),
                other_hosts: Mutex::default(),
                turns: Semaphore::new(limits::UNDER_WAY),
            }),
        }
    }

    /// The directory's URL.
    pub fn directory_url(&self) -> &Url {
        &self.shared.directory_url
    }

    /// The directory (RFC 8555 §7.1.1), fetched where none is known or the known one is old.
    ///
    /// It is fresh for an hour, or longer where the CA says so.
    pub async fn directory(&self) -> Result<Arc<Directory>, Error> {
        let now = Instant::now();
        let cached = lock(&self.shared.directory)
            .as_ref()
            .filter(|cached| now < cached.fresh_until)
            .map(|cached| cached.directory.clone());
        match cached {
            Some(directory) => Ok(directory),
            // Rare, and larger than most of what waits for a directory.
            None => Box::pin(self.fetch_directory()).await,
        }
    }

    async fn fetch_directory(&self) -> Result<Arc<Directory>, Error> {
        let asked = Instant::now();
        let reply = self.get(Operation::Directory, self.directory_url()).await?;
        let directory = Arc::new(self.read_directory(&reply)?);
        *lock(&self.shared.directory) = Some(CachedDirectory {
            directory: directory.clone(),
            fresh_until: asked + freshness::lifetime(reply.headers()),
        });
        Ok(directory)
    }

    /// The URL of a resource that the directory lists.
    pub async fn resource(&self, resource: Resource) -> Result<Url, Error> {
        let directory = self.directory().await?;
        directory
            .url(resource)
            .cloned()
            .ok_or(Error::Unsupported(resource))
    }

    /// Sends a GET, unsigned, and follows a few redirects.
    pub async fn get(&self, operation: Operation, url: &Url) -> Result<Reply, Error> {
        let mut target = url.clone();
        for _ in 0..=limits::REDIRECTS {
            let reply = self
                .unsigned(Method::GET, operation, &target, Kind::Acme)
                .await?;
            if !reply.status().is_redirection() {
                return Ok(reply);
            }
            target = reply.location()?;
        }
        Err(Error::reply(operation, url, ReplyFault::Redirect(None)))
    }

    /// Sends a GET for something that anybody may read and that bears a signature of its own, such
    /// as a CRL: http will do, as RFC 5280 §4.2.1.13 has it. Its body may have so many octets.
    ///
    /// A few redirects are followed, but from a public host only to another: what the CA, or
    /// somebody between, answers must not make this process ask a machine that only it can reach.
    pub async fn get_public(
        &self,
        operation: Operation,
        url: &Url,
        limit: usize,
    ) -> Result<Reply, Error> {
        let mut target = url.clone();
        for _ in 0..=limits::REDIRECTS {
            let kind = Kind::Public { limit };
            let reply = self.unsigned(Method::GET, operation, &target, kind).await?;
            if reply.body().len() > limit {
                return Err(reply.fault(ReplyFault::TooLarge(limit)));
            }
            if !reply.status().is_redirection() {
                return Ok(reply);
            }
            target = reply.location()?;
            if url.is_public() && !target.is_public() {
                return Err(reply.fault(ReplyFault::PrivateHost(target)));
            }
        }
        Err(Error::reply(operation, url, ReplyFault::Redirect(None)))
    }

    /// Signs a request and sends it by POST (RFC 8555 §6.2).
    ///
    /// A nonce that the CA refuses is replaced at once, by the one that came with the refusal
    /// (§6.5). Where [`SignedRequest::repeat`] allows it, the request is sent anew after a pause
    /// when the network or the CA failed.
    pub async fn post(&self, request: &SignedRequest<'_>) -> Result<Reply, Error> {
        let mut retries = None;
        loop {
            let pause = {
                // What waits for its turn has no nonce yet, and no memory for a request.
                let _turn = self.shared.turns.acquire().await;
                // In boxes, which are there only while the request is under way. All else waits for
                // this somewhere within, and would be as large, also before it has begun: a hundred
                // names times.
                let retries = retries.get_or_insert_with(|| Box::new(self.retries()));
                match Box::pin(self.post_once(request, retries)).await {
                    Ok(reply) => return Ok(reply),
                    Err(error) => pause_after(error, retries, request.repeat)?,
                }
            };
            Box::pin(sleep(pause)).await;
        }
    }

    /// The tries that a request has, from now on.
    pub(crate) fn retries(&self) -> Retries {
        Retries::within(self.shared.options.retry_timeout)
    }

    async fn post_once(
        &self,
        request: &SignedRequest<'_>,
        retries: &Retries,
    ) -> Result<Reply, Error> {
        let mut nonce = self.nonce().await?;
        let mut refused = 0;
        loop {
            let signing = Jws::sign(
                request.signer,
                request.key,
                Some(nonce.as_str()),
                request.url,
                &request.payload,
            );
            let http = self.signed_request(request, &signing.await?)?;
            let reply = self.exchange(request.operation, request.url, http).await?;
            let fresh = Nonce::from_headers(reply.headers());

            let error = match reply.accept() {
                Ok(reply) if reply.status().is_redirection() => {
                    let location = reply.headers().get(LOCATION);
                    let target = location.and_then(|target| target.to_str().ok());
                    let fault = ReplyFault::Redirect(target.map(str::to_owned));
                    return Err(Error::reply(request.operation, request.url, fault));
                }
                Ok(reply) => {
                    self.keep(fresh);
                    return Ok(reply);
                }
                Err(error) => error,
            };
            let bad_nonce = error.is(&ProblemType::BadNonce);
            if !bad_nonce || refused == limits::BAD_NONCES || retries.are_over() {
                self.keep(fresh);
                return Err(error);
            }
            refused += 1;
            nonce = match fresh {
                Some(nonce) => nonce,
                // Those in the pool may be no better.
                None => {
                    let url = self.resource(Resource::NewNonce).await?;
                    Box::pin(self.new_nonce(&url)).await?
                }
            };
        }
    }

    /// Sends an unsigned request, again where the network or the CA fails: it changes nothing.
    async fn unsigned(
        &self,
        method: Method,
        operation: Operation,
        url: &Url,
        kind: Kind,
    ) -> Result<Reply, Error> {
        if let Kind::Acme = kind {
            self.check_target(operation, url)?;
        }
        let mut retries = self.retries();
        loop {
            let mut http = self.request(method.clone(), url)?.map(|()| Bytes::new());
            if let Kind::Public { limit } = kind {
                http.extensions_mut().insert(ResponseLimit(limit));
            }
            let result = self
                .exchange(operation, url, http)
                .await
                .and_then(Reply::accept);
            let pause = match result {
                Ok(reply) => return Ok(reply),
                Err(error) => pause_after(error, &mut retries, true)?,
            };
            sleep(pause).await;
        }
    }

    fn signed_request(
        &self,
        request: &SignedRequest<'_>,
        jws: &Jws,
    ) -> Result<Request<Bytes>, Error> {
        self.check_target(request.operation, request.url)?;
        let body = serde_json::to_vec(jws).map_err(|error| SigningError::new(error.into()))?;
        let mut http = self.request(Method::POST, request.url)?;
        let headers = http.headers_mut();
        let jose = HeaderValue::from_static("application/jose+json");
        headers.insert(CONTENT_TYPE, jose);
        if let Some(accept) = request.accept {
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
        }
        Ok(http.map(|()| body.into()))
    }

    fn request(&self, method: Method, url: &Url) -> Result<Request<()>, Error> {
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = url.uri();
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, self.shared.options.user_agent.clone());
        headers.insert(ACCEPT_LANGUAGE, self.shared.options.accept_language.clone());
        Ok(request)
    }

    // Not an `async fn`, which would hold the request besides the transport that took it.
    fn exchange<'a>(
        &'a self,
        operation: Operation,
        url: &'a Url,
        request: Request<Bytes>,
    ) -> impl Future<Output = Result<Reply, Error>> + Send + 'a {
        let method = request.method().clone();
        let sending = self.shared.transport.send(request);
        async move {
            let response = sending.await.map_err(|source| {
                debug!(%method, %url, error = %source, "no reply");
                Error::Network(Box::new(NetworkFault::new(operation, url, source)))
            })?;
            debug!(%method, %url, status = response.status().as_u16(), "reply");
            // The transport has a limit of its own; this one holds with any.
            if response.body().len() > limits::BODY {
                let fault = ReplyFault::TooLarge(limits::BODY);
                return Err(Error::reply(operation, url, fault));
            }
            Ok(Reply::new(operation, url.clone(), response))
        }
    }

    /// Whether a request may go to this URL.
    fn check_target(&self, operation: Operation, url: &Url) -> Result<(), Error> {
        let fault = self.target_fault(url);
        fault.map_or(Ok(()), |fault| Err(Error::reply(operation, url, fault)))
    }

    fn target_fault(&self, url: &Url) -> Option<ReplyFault> {
        let options = &self.shared.options;
        // RFC 8555 §6.1: every URL is https.
        let tolerated = options.loopback_http && url.is_loopback();
        if !url.is_https() && !tolerated {
            return Some(ReplyFault::InsecureUrl(url.clone()));
        }
        if url.has_host_of(self.directory_url()) {
            return None;
        }
        if options.one_host {
            return Some(ReplyFault::OtherHost(url.clone()));
        }
        self.tell_other_host(url);
        None
    }

    /// Some CAs do have several hosts, so it is no fault; yet a signed request that goes where it
    /// should not is worth a line.
    fn tell_other_host(&self, url: &Url) {
        let host = url.host();
        let mut told = lock(&self.shared.other_hosts);
        if told.len() < limits::OTHER_HOSTS && told.insert(host) {
            warn!(directory = %self.directory_url(), %url, "the CA has a resource at another host");
        }
    }

    fn read_directory(&self, reply: &Reply) -> Result<Directory, Error> {
        let directory: Directory = reply.json()?;
        let refuse = |fault| Error::reply(Operation::Directory, reply.url(), fault);
        for resource in Resource::REQUIRED {
            if directory.url(resource).is_none() {
                return Err(refuse(ReplyFault::MissingResource(resource)));
            }
        }
        for url in Resource::ALL
            .into_iter()
            .filter_map(|resource| directory.url(resource))
        {
            if let Some(fault) = self.target_fault(url) {
                return Err(refuse(fault));
            }
        }
        Ok(directory)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("directory_url", &self.shared.directory_url)
            .finish_non_exhaustive()
    }
}

/// How a [`Session`] presents itself, and what it tolerates.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    user_agent: HeaderValue,
    accept_language: HeaderValue,
    loopback_http: bool,
    retry_timeout: Duration,
    one_host: bool,
}

impl SessionOptions {
    const OWN_PRODUCT: &str = concat!("certwright/", env!("CARGO_PKG_VERSION"));

    /// Long enough for a CA to restart, or to drop one request of six and still serve all.
    const RETRY_TIMEOUT: Duration = Duration::from_secs(30);

    /// Puts the application's product before certwright's in the `User-Agent` (RFC 8555 §6.1), such
    /// as `example-server/1.2 (+https://example.com)`.
    pub fn product(mut self, product: &str) -> Result<Self, ConfigurationError> {
        self.user_agent = HeaderValue::try_from(format!("{product} {}", Self::OWN_PRODUCT))
            .map_err(|_| ConfigurationError::Product)?;
        Ok(self)
    }

    /// The language that the CA's problem documents should be in (RFC 8555 §6.1). Default: `en`.
    pub fn accept_language(mut self, languages: &str) -> Result<Self, ConfigurationError> {
        self.accept_language =
            HeaderValue::try_from(languages).map_err(|_| ConfigurationError::Product)?;
        Ok(self)
    }

    /// Tolerates http URLs of loopback addresses, for tests. RFC 8555 §6.1 demands https.
    #[must_use]
    pub fn allow_loopback_http(mut self) -> Self {
        self.loopback_http = true;
        self
    }

    /// For how long a request that the network or the CA failed is sent again, where that is safe.
    /// Default: 30 s.
    ///
    /// The pauses in between grow from a quarter of a second to some seconds, with jitter, and are
    /// longer where the CA asks for that, by `Retry-After`, and there is time. A request is sent again
    /// four times at least where that takes no more than three minutes, and not at all where the time is
    /// zero. Whoever waits for the result may set a deadline of their own that ends it earlier.
    #[must_use]
    pub fn retry_timeout(mut self, timeout: Duration) -> Self {
        self.retry_timeout = timeout;
        self
    }

    /// Sends requests to no other host and port than those of the directory. By default they go
    /// where the CA says, and each other host is logged once, as a warning.
    ///
    /// What is public and signed by itself, such as a CRL, is fetched from anywhere.
    #[must_use]
    pub fn pin_host(mut self) -> Self {
        self.one_host = true;
        self
    }
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            user_agent: HeaderValue::from_static(Self::OWN_PRODUCT),
            accept_language: HeaderValue::from_static("en"),
            loopback_http: false,
            retry_timeout: Self::RETRY_TIMEOUT,
            one_host: false,
        }
    }
}

/// A request to be signed and sent by [`Session::post`].
#[derive(Clone, Debug)]
pub struct SignedRequest<'a> {
    /// What the request is for, as errors will say it.
    pub operation: Operation,
    /// The URL.
    pub url: &'a Url,
    /// The key.
    pub signer: &'a dyn Signer,
    /// How the request names the key.
    pub key: KeyReference<'a>,
    /// The payload: JSON, or empty for a POST-as-GET (RFC 8555 §6.3).
    pub payload: Vec<u8>,
    /// The media type to ask for.
    pub accept: Option<&'static str>,
    /// Whether the request may be sent anew when it is not known if the CA acted on it.
    pub repeat: bool,
}

/// What an unsigned request is for.
#[derive(Clone, Copy)]
enum Kind {
    /// A resource of ACME: by https only (RFC 8555 §6.1).
    Acme,
    /// Something public, with at most so many octets.
    Public { limit: usize },
}

/// A poisoned lock is no reason to fail: nothing that these guard is ever left half changed.
/// How long to pause before a request that failed is sent again; the error where it is not.
fn pause_after(error: Error, retries: &mut Retries, repeat: bool) -> Result<Duration, Error> {
    match retries.pause(&error) {
        Some(pause) if repeat => {
            debug!(%error, ?pause, "sending the request again");
            Ok(pause)
        }
        _ => Err(error),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
