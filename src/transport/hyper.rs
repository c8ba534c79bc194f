use std::error::Error as StdError;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fmt, io};

use async_trait::async_trait;
use base64ct::{Base64, Encoding};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower_service::Service;

use super::{Transport, TransportError, TransportFault};
use crate::error::{BoxError, ConfigurationError};
use crate::provider::crypto_provider;
use crate::x509::CertificateChain;

/// The transport over hyper and rustls: HTTP/1.1 and HTTP/2, whichever the server prefers.
///
/// Clones share connections.
#[derive(Clone)]
pub struct HyperTransport {
    client: Client<Connector, Full<Bytes>>,
    request_timeout: Duration,
    response_limit: usize,
}

impl HyperTransport {
    /// A transport that is set up step by step.
    ///
    /// ```
    /// use std::time::Duration;
    /// use certwright::transport::HyperTransport;
    ///
    /// let transport = HyperTransport::builder()
    ///     .request_timeout(Duration::from_secs(20))
    ///     .build()?;
    /// # Ok::<_, certwright::Error>(())
    /// ```
    pub fn builder() -> HyperTransportBuilder {
        HyperTransportBuilder::default()
    }
}

#[async_trait]
impl Transport for HyperTransport {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TransportError> {
        let exchange = async {
            let response = self
                .client
                .request(request.map(Full::new))
                .await
                .map_err(|error| {
                    let fault = match error.is_connect() {
                        true => TransportFault::Connect,
                        false => TransportFault::Interrupted,
                    };
                    TransportError::new(fault, error)
                })?;
            let (parts, body) = response.into_parts();
            match Limited::new(body, self.response_limit).collect().await {
                Ok(body) => Ok(Response::from_parts(parts, body.to_bytes())),
                Err(error) if error.is::<LengthLimitError>() => {
                    Err(TransportFault::TooLarge(self.response_limit).into())
                }
                Err(error) => Err(TransportError::new(TransportFault::Interrupted, error)),
            }
        };
        timeout(self.request_timeout, exchange)
            .await
            .unwrap_or_else(|_| Err(TransportFault::Timeout(self.request_timeout).into()))
    }
}

impl fmt::Debug for HyperTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HyperTransport")
            .field("request_timeout", &self.request_timeout)
            .field("response_limit", &self.response_limit)
            .finish_non_exhaustive()
    }
}

/// Sets up a [`HyperTransport`].
#[derive(Clone)]
pub struct HyperTransportBuilder {
    roots: Vec<CertificateDer<'static>>,
    platform_roots: bool,
    tls: Option<ClientConfig>,
    http2: bool,
    proxy: Option<Proxy>,
    connect_timeout: Duration,
    request_timeout: Duration,
    response_limit: usize,
    fault: Option<ConfigurationError>,
}

impl HyperTransportBuilder {
    /// Trusts the roots in this PEM too, for a CA of one's own.
    #[must_use]
    pub fn add_root_pem(mut self, pem: &str) -> Self {
        match CertificateChain::roots_from_pem(pem) {
            Ok(roots) => self.roots.extend(roots),
            Err(fault) => self.fault = Some(ConfigurationError::Root(fault)),
        }
        self
    }

    /// Trusts no other roots than those that were added. By default the platform's are trusted too.
    #[must_use]
    pub fn without_platform_roots(mut self) -> Self {
        self.platform_roots = false;
        self
    }

    /// Speaks TLS by this configuration, which then decides on roots, versions and client
    /// authentication. Its ALPN protocols are replaced.
    #[must_use]
    pub fn tls_config(mut self, config: ClientConfig) -> Self {
        self.tls = Some(config);
        self
    }

    /// Speaks HTTP/1.1 only. By default HTTP/2 is spoken with servers that have it.
    #[must_use]
    pub fn http1_only(mut self) -> Self {
        self.http2 = false;
        self
    }

    /// Goes through this HTTP proxy, such as `http://proxy.example:3128`, by `CONNECT`. User
    /// information in the URL is sent to the proxy as basic authentication.
    ///
    /// By default no proxy is used, and no environment variable is read.
    #[must_use]
    pub fn proxy(mut self, url: &str) -> Self {
        match Proxy::parse(url) {
            Ok(proxy) => self.proxy = Some(proxy),
            Err(fault) => self.fault = Some(fault),
        }
        self
    }

    /// How long a connection may take, TLS handshake included. Default: 10 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a request may take, from its start to the last octet of the response. Default: 60 s.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// How large the body of a response may be, in octets. Default: 1 MiB.
    #[must_use]
    pub fn response_limit(mut self, octets: usize) -> Self {
        self.response_limit = octets;
        self
    }

    /// Makes the transport.
    ///
    /// Fails where a root or the proxy's URL can't be read, or where there is no crypto provider or
    /// no root to trust.
    pub fn build(self) -> Result<HyperTransport, crate::Error> {
        if let Some(fault) = self.fault {
            return Err(fault.into());
        }

        let tls = match self.tls {
            Some(tls) => tls,
            None => tls_config(self.roots, self.platform_roots)?,
        };
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        // Without it, Nagle's algorithm and delayed ACKs can hold a small POST back for some 40 ms.
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(self.connect_timeout));
        let dialer = match self.proxy {
            None => Dialer::Direct(tcp),
            Some(Proxy { uri, authorization }) => {
                let tunnel = Tunnel::new(uri, tcp);
                Dialer::Proxy(match authorization {
                    Some(authorization) => tunnel.with_auth(authorization),
                    None => tunnel,
                })
            }
        };

        // Whether http may be used is the session's decision.
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(without_alpn(tls))
            .https_or_http();
        let https = match self.http2 {
            true => https.enable_all_versions().wrap_connector(dialer),
            false => https.enable_http1().wrap_connector(dialer),
        };
        let connector = Connector {
            https,
            timeout: self.connect_timeout,
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(60))
            .build(connector);
        Ok(HyperTransport {
            client,
            request_timeout: self.request_timeout,
            response_limit: self.response_limit,
        })
    }
}

impl Default for HyperTransportBuilder {
    fn default() -> Self {
        Self {
            roots: Vec::new(),
            platform_roots: true,
            tls: None,
            http2: true,
            proxy: None,
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(60),
            response_limit: 1 << 20,
            fault: None,
        }
    }
}

impl fmt::Debug for HyperTransportBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HyperTransportBuilder")
            .finish_non_exhaustive()
    }
}

fn tls_config(
    roots: Vec<CertificateDer<'static>>,
    platform_roots: bool,
) -> Result<ClientConfig, ConfigurationError> {
    let provider = crypto_provider().ok_or(ConfigurationError::NoCryptoProvider)?;
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(ConfigurationError::Tls)?;
    if platform_roots {
        let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(roots, provider)
            .map_err(ConfigurationError::Tls)?;
        return Ok(builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth());
    }

    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root).map_err(ConfigurationError::Tls)?;
    }
    match store.is_empty() {
        true => Err(ConfigurationError::NoRoots),
        false => Ok(builder.with_root_certificates(store).with_no_client_auth()),
    }
}

/// hyper-rustls sets the protocols itself, and panics where there are some already.
fn without_alpn(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols.clear();
    config
}

#[derive(Clone)]
struct Proxy {
    uri: Uri,
    authorization: Option<HeaderValue>,
}

impl Proxy {
    fn parse(text: &str) -> Result<Self, ConfigurationError> {
        let refuse = || ConfigurationError::Proxy;
        let url = url::Url::parse(text).map_err(|_| refuse())?;
        let (Some(host), "http") = (url.host_str(), url.scheme()) else {
            return Err(refuse());
        };
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let uri = format!("http://{authority}/")
            .parse()
            .map_err(|_| refuse())?;
        let authorization = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => {
                let plain = format!("{user}:{}", password.unwrap_or_default());
                let encoded = format!("Basic {}", Base64::encode_string(plain.as_bytes()));
                let mut value = HeaderValue::try_from(encoded).map_err(|_| refuse())?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        Ok(Self { uri, authorization })
    }
}

/// Connects within a time, TLS handshake included: hyper's own limit ends with TCP.
#[derive(Clone)]
struct Connector {
    https: HttpsConnector<Dialer>,
    timeout: Duration,
}

type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.https.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = timeout(self.timeout, self.https.call(uri));
        let limit = self.timeout;
        Box::pin(async move {
            connecting.await.unwrap_or_else(|_| {
                let text = format!("not connected within {} s", limit.as_secs_f32());
                Err(io::Error::new(io::ErrorKind::TimedOut, text).into())
            })
        })
    }
}

#[derive(Clone)]
enum Dialer {
    Direct(HttpConnector),
    Proxy(Tunnel<HttpConnector>),
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self {
            Self::Direct(tcp) => tcp.poll_ready(context).map_err(boxed),
            Self::Proxy(tunnel) => tunnel.poll_ready(context).map_err(boxed),
        }
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        match self {
            Self::Direct(tcp) => {
                let connecting = tcp.call(uri);
                Box::pin(async { connecting.await.map_err(boxed) })
            }
            Self::Proxy(tunnel) => {
                let connecting = tunnel.call(uri);
                Box::pin(async { connecting.await.map_err(boxed) })
            }
        }
    }
}

fn boxed(error: impl StdError + Send + Sync + 'static) -> BoxError {
    error.into()
}
