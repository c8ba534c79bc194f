use std::error::Error as StdError;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::HOST;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Body;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower_service::Service;

use super::proxy::{Proxy, ProxyError};
use super::{ResponseLimit, Transport, TransportError, TransportFault};
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

impl Transport for HyperTransport {
    // As `async_trait` would have it, but without the request, which it would hold twice besides
    // hyper.
    fn send<'a, 'b>(
        &'a self,
        mut request: Request<Bytes>,
    ) -> BoxFuture<'b, Result<Response<Bytes>, TransportError>>
    where
        'a: 'b,
        Self: 'b,
    {
        if let Some(host) = host_with_own_port(request.uri()) {
            request.headers_mut().insert(HOST, host);
        }
        let limit = request.extensions().get();
        let limit = limit.map_or(self.response_limit, |&ResponseLimit(octets)| octets);
        let responding = self.client.request(request.map(Full::new));
        Box::pin(async move {
            timeout(self.request_timeout, receive(responding, limit))
                .await
                .unwrap_or_else(|_| Err(TransportFault::Timeout(self.request_timeout).into()))
        })
    }
}

/// Receives a response, whole, whose body may have so many octets.
async fn receive(
    responding: ResponseFuture,
    limit: usize,
) -> Result<Response<Bytes>, TransportError> {
    let response = responding.await.map_err(|error| {
        let fault = match error.is_connect() {
            true if is_untrusted(&error) => TransportFault::Untrusted,
            true => TransportFault::Connect,
            false if is_header_too_large(&error) => TransportFault::HeaderTooLarge,
            false => TransportFault::Interrupted,
        };
        TransportError::new(fault, error)
    })?;
    let (parts, body) = response.into_parts();
    if body.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
        return Err(TransportFault::TooLarge(limit).into());
    }
    match Limited::new(body, limit).collect().await {
        Ok(body) => Ok(Response::from_parts(parts, body.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Err(TransportFault::TooLarge(limit).into()),
        Err(error) => Err(TransportError::new(TransportFault::Interrupted, error)),
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
    /// information in the URL, percent-encoded where it must be, is sent to the proxy as basic
    /// authentication.
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
    ///
    /// An HTTP/2 connection that shows no sign of life for half of it, or 30 s, is given up before.
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
        let dialer = Dialer {
            tcp: tcp_connector(self.connect_timeout),
            proxy: self.proxy.map(Arc::new),
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
        let patience = (self.request_timeout / 4).clamp(SHORTEST_PATIENCE, LONGEST_PATIENCE);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(60))
            .http1_max_buf_size(LARGEST_HEADER)
            .http1_max_headers(MOST_FIELDS)
            .http2_max_header_list_size(LARGEST_HEADER as u32)
            // A connection can die in silence, as when a firewall forgets it. One of HTTP/1.1 ends
            // with the request that it fails, but one of HTTP/2 would be used for all requests to
            // come, until TCP gives it up after a quarter of an hour. So it is asked for a sign of
            // life, early enough that a request fails well before its own time is over.
            .http2_keep_alive_interval(patience)
            .http2_keep_alive_timeout(patience)
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

fn tcp_connector(timeout: Duration) -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    // Without it, Nagle's algorithm and delayed ACKs can hold a small POST back for some 40 ms.
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(timeout));
    tcp
}

/// hyper-rustls sets the protocols itself, and panics where there are some already.
fn without_alpn(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols.clear();
    config
}

/// The `Host` header for a URL that names its scheme's own port, which hyper would leave out.
///
/// RFC 9112 §3.2 wants the authority as the URL has it, and a CA may compare the URL that was signed
/// (RFC 8555 §6.4) to one that it builds from this header.
fn host_with_own_port(url: &Uri) -> Option<HeaderValue> {
    let port = url.port_u16()?;
    match (url.scheme_str()?, port) {
        ("http", 80) | ("https", 443) => {
            HeaderValue::try_from(format!("{}:{port}", url.host()?)).ok()
        }
        _ => None,
    }
}

/// Whether TLS failed at the server's certificate: trying again brings the same one.
fn is_untrusted(error: &(dyn StdError + 'static)) -> bool {
    if let Some(rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
        return true;
    }
    // The source of an I/O error is that of the error within, which is passed over.
    let within = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
        .map(|within| within as &(dyn StdError + 'static));
    within.or(error.source()).is_some_and(is_untrusted)
}

fn is_header_too_large(error: &(dyn StdError + 'static)) -> bool {
    let too_large = error
        .downcast_ref::<hyper::Error>()
        .is_some_and(hyper::Error::is_parse_too_large);
    too_large || error.source().is_some_and(is_header_too_large)
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

/// Opens a TCP connection to the server, or a tunnel to it through the proxy.
#[derive(Clone)]
struct Dialer {
    tcp: HttpConnector,
    proxy: Option<Arc<Proxy>>,
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let Some(proxy) = self.proxy.clone() else {
            let connecting = self.tcp.call(url);
            return Box::pin(async { Ok(connecting.await?) });
        };

        let connecting = self.tcp.call(proxy.uri().clone());
        Box::pin(async move {
            let tunnel = async { Ok(proxy.open(connecting.await?, &url).await?) };
            let tunnel: Result<_, BoxError> = tunnel.await;
            tunnel.map_err(|source| {
                let proxy = proxy.uri().clone();
                ProxyError { proxy, source }.into()
            })
        })
    }
}

/// How large the header of a response may be, in octets, and how many fields of HTTP/1.1 it may have.
const LARGEST_HEADER: usize = 64 << 10;
const MOST_FIELDS: usize = 100;

/// How long an HTTP/2 connection with requests under way may be silent before it must show a sign of
/// life, and how long that may take.
const LONGEST_PATIENCE: Duration = Duration::from_secs(15);
const SHORTEST_PATIENCE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A connector as the transport makes it, to look at the sockets.
    fn dialer(proxy: Option<&str>) -> Dialer {
        Dialer {
            tcp: tcp_connector(Duration::from_secs(10)),
            proxy: proxy.map(|url| Arc::new(Proxy::parse(url).unwrap())),
        }
    }

    #[tokio::test]
    async fn sends_small_segments_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let direct = dialer(None).call(url.parse().unwrap()).await.unwrap();
        assert!(direct.inner().nodelay().unwrap());

        let proxied = dialer(Some(&url)).call("https://ca.example/".parse().unwrap());
        let proxy = async {
            let _direct = listener.accept().await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            // The answer would be none before there is a request.
            stream.peek(&mut [0]).await.unwrap();
            stream.try_write(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            stream
        };
        let (proxied, _stream) = tokio::join!(proxied, proxy);
        assert!(proxied.unwrap().inner().nodelay().unwrap());
    }

    #[test]
    fn names_the_port_that_the_url_names() {
        for (url, host) in [
            ("https://ca.example:443/directory", Some("ca.example:443")),
            ("http://[::1]:80/", Some("[::1]:80")),
            ("https://ca.example/directory", None),
            ("https://ca.example:14000/directory", None),
            ("https://ca.example:80/", None),
        ] {
            let found = host_with_own_port(&url.parse().unwrap());
            assert_eq!(found.as_ref().map(|value| value.to_str().unwrap()), host);
        }
    }
}
