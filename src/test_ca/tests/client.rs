//! A client that does only what a test tells it to, right or wrong.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Version, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use crate::jose::{AccountKey, Jws, KeyReference, Signer};
use crate::protocol::{Base64Url, Url};
use crate::provider::crypto_provider;
use crate::test_ca::TestCa;

pub(super) struct RawClient {
    ca: TestCa,
    pub(super) key: AccountKey,
    pub(super) account: Option<Url>,
    pub(super) version: Version,
}

impl RawClient {
    pub(super) fn new(ca: &TestCa) -> Self {
        Self {
            ca: ca.clone(),
            key: AccountKey::generate().unwrap(),
            account: None,
            version: Version::HTTP_11,
        }
    }

    /// A client with an account.
    pub(super) async fn registered(ca: &TestCa) -> Self {
        let mut client = Self::new(ca);
        let reply = client
            .post("/new-account", r#"{"termsOfServiceAgreed":true}"#)
            .await;
        assert_eq!(reply.status, StatusCode::CREATED, "{:?}", reply.body);
        client.account = Some(reply.location());
        client
    }

    pub(super) fn url(&self, path: &str) -> Url {
        Url::parse(&format!("https://{}{path}", self.ca.address())).unwrap()
    }

    pub(super) async fn nonce(&self) -> String {
        let request = self.request(Method::HEAD, "/new-nonce");
        self.send(request, "").await.header("replay-nonce")
    }

    /// A JWS as it should be.
    pub(super) async fn sign(&self, path: &str, payload: &str) -> Jws {
        let reference = match &self.account {
            Some(account) => KeyReference::Kid(account),
            None => KeyReference::Jwk,
        };
        let nonce = self.nonce().await;
        let url = self.url(path);
        Jws::sign(&self.key, reference, Some(&nonce), &url, payload.as_bytes())
            .await
            .unwrap()
    }

    /// The protected header that a JWS should have.
    pub(super) async fn header(&self, path: &str) -> Value {
        let header = self.sign(path, "").await.header().unwrap();
        serde_json::to_value(header).unwrap()
    }

    /// A JWS with any protected header, properly signed.
    pub(super) async fn sign_header(&self, header: &Value, payload: &str) -> Value {
        let protected = Base64Url::from(header.to_string().into_bytes()).to_string();
        let payload = Base64Url::from(payload.as_bytes()).to_string();
        let signed = format!("{protected}.{payload}");
        let signature = self.key.sign(signed.as_bytes()).await.unwrap();
        json!({
            "protected": protected,
            "payload": payload,
            "signature": Base64Url::from(signature),
        })
    }

    pub(super) async fn post(&self, path: &str, payload: &str) -> RawReply {
        let jws = self.sign(path, payload).await;
        self.post_jws(path, &serde_json::to_string(&jws).unwrap())
            .await
    }

    /// A POST to a URL that the CA gave.
    pub(super) async fn post_to(&self, url: &Value, payload: &str) -> RawReply {
        let path = url.as_str().unwrap().splitn(4, '/').nth(3).unwrap();
        self.post(&format!("/{path}"), payload).await
    }

    pub(super) async fn post_jws(&self, path: &str, jws: &str) -> RawReply {
        let request = self
            .request(Method::POST, path)
            .header(header::CONTENT_TYPE, "application/jose+json");
        self.send(request, jws).await
    }

    pub(super) fn request(&self, method: Method, path: &str) -> http::request::Builder {
        let uri = match self.version {
            Version::HTTP_2 => self.url(path).to_string(),
            _ => path.to_owned(),
        };
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .version(self.version)
            .header(header::USER_AGENT, "raw");
        match self.version {
            Version::HTTP_2 => request,
            _ => request.header(header::HOST, self.ca.address().to_string()),
        }
    }

    /// Sends a request over a connection of its own.
    pub(super) async fn send(&self, request: http::request::Builder, body: &str) -> RawReply {
        self.try_send(request, body).await.unwrap()
    }

    /// Like [`send`](Self::send). The error says what broke, the exchange or the body.
    pub(super) async fn try_send(
        &self,
        request: http::request::Builder,
        body: &str,
    ) -> Result<RawReply, String> {
        let request = request
            .body(Full::new(Bytes::from(body.to_owned())))
            .unwrap();
        let stream = TcpStream::connect(self.ca.address()).await.unwrap();
        let name = ServerName::from(self.ca.address().ip());
        let stream = self.connector().connect(name, stream).await.unwrap();
        let stream = TokioIo::new(stream);
        let response = match self.version {
            Version::HTTP_2 => {
                let executor = TokioExecutor::new();
                let (mut sender, connection) = http2::handshake(executor, stream).await.unwrap();
                tokio::spawn(connection);
                sender.send_request(request).await
            }
            _ => {
                let (mut sender, connection) = http1::handshake(stream).await.unwrap();
                tokio::spawn(connection);
                sender.send_request(request).await
            }
        };
        let (parts, body) = response
            .map_err(|error| format!("exchange: {error:?}"))?
            .into_parts();
        let body = body.collect().await;
        let body = body.map_err(|error| format!("body: {error:?}"))?;
        Ok(RawReply {
            status: parts.status,
            headers: parts.headers,
            body: body.to_bytes(),
        })
    }

    fn connector(&self) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.root().clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(crypto_provider().unwrap())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = match self.version {
            Version::HTTP_2 => vec![b"h2".to_vec()],
            _ => vec![b"http/1.1".to_vec()],
        };
        TlsConnector::from(Arc::new(config))
    }
}

#[derive(Debug)]
pub(super) struct RawReply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl RawReply {
    pub(super) fn header(&self, name: &str) -> String {
        let value = self.headers.get(name);
        let value = value.unwrap_or_else(|| panic!("no `{name}` in {self:?}"));
        value.to_str().unwrap().to_owned()
    }

    pub(super) fn location(&self) -> Url {
        Url::parse(&self.header("location")).unwrap()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The status, and the problem's type without its prefix.
    pub(super) fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        let urn = problem["type"].as_str().unwrap();
        let name = urn.strip_prefix("urn:ietf:params:acme:error:").unwrap();
        (self.status.as_u16(), name.to_owned())
    }
}

/// A web server that answers every path by a function: a status, a `Location`, and a body.
pub(super) async fn web_server(
    answer: impl Fn(&str) -> (u16, String, String) + Send + 'static,
) -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut octets = [0; 1_024];
                match stream.read(&mut octets).await {
                    Ok(length @ 1..) => head.extend_from_slice(&octets[..length]),
                    _ => break,
                }
            }
            let head = String::from_utf8(head).unwrap();
            let path = head.split(' ').nth(1).unwrap_or_default();
            let (status, location, body) = answer(path);
            let response = format!(
                "HTTP/1.1 {status} X\r\nLocation: {location}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(response.as_bytes()).await;
        }
    });
    port
}
