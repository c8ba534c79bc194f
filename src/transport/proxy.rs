use base64ct::{Base64, Encoding};
use bytes::Bytes;
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::uri::Authority;
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use thiserror::Error;
use tokio::net::TcpStream;

use crate::error::{BoxError, ConfigurationError};

/// An HTTP proxy that opens tunnels by `CONNECT` (RFC 9110 §9.3.6).
#[derive(Clone)]
pub(super) struct Proxy {
    uri: Uri,
    authorization: Option<HeaderValue>,
}

impl Proxy {
    /// Reads `http://[user:password@]host[:port]`.
    pub(super) fn parse(text: &str) -> Result<Self, ConfigurationError> {
        let refuse = || ConfigurationError::Proxy;
        let (scheme, rest) = text.trim().split_once("://").ok_or_else(refuse)?;
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(refuse());
        }
        // Not read as a URL: octets that belong escaped stand in passwords as they are.
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (credentials, authority) = match authority.rsplit_once('@') {
            Some((credentials, authority)) => (credentials, authority),
            None => ("", authority),
        };
        let authority: Authority = authority.parse().map_err(|_| refuse())?;
        let host = authority.host().to_ascii_lowercase();
        let port = authority.as_str().get(host.len()..).unwrap_or_default();
        let port = match port.strip_prefix(':') {
            Some("80" | "") => None,
            Some(port) => Some(port.parse::<u16>().map_err(|_| refuse())?),
            None if port.is_empty() => None,
            None => return Err(refuse()),
        };
        let authority = match port {
            _ if host.is_empty() => return Err(refuse()),
            Some(port) => format!("{host}:{port}"),
            None => host,
        };
        let uri = format!("http://{authority}/")
            .parse()
            .map_err(|_| refuse())?;
        let authorization = match credentials {
            "" => None,
            text => {
                let (user, password) = text.split_once(':').unwrap_or((text, ""));
                Some(basic(user, password)?)
            }
        };
        Ok(Self { uri, authorization })
    }

    /// Where the proxy is.
    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Has the proxy connect to the host and port of a URL, over a connection to the proxy.
    pub(super) async fn open(
        &self,
        connection: TokioIo<TcpStream>,
        url: &Uri,
    ) -> Result<TokioIo<TcpStream>, TunnelFault> {
        let port = match (url.port_u16(), url.scheme_str()) {
            (Some(port), _) => port,
            (None, Some("http")) => 80,
            (None, _) => 443,
        };
        let target = format!("{}:{port}", url.host().unwrap_or_default());
        let mut request = Request::connect(&target)
            .header(HOST, &target)
            .body(Empty::<Bytes>::new())?;
        if let Some(authorization) = &self.authorization {
            request
                .headers_mut()
                .insert(PROXY_AUTHORIZATION, authorization.clone());
        }

        let (mut sender, connection) = http1::handshake(connection).await?;
        let exchange = async {
            let response = sender.send_request(request).await?;
            match response.status() {
                // RFC 9110 §9.3.6: any of them means that the tunnel is open.
                status if status.is_success() => Ok(hyper::upgrade::on(response).await?),
                status => Err(TunnelFault::Refused { target, status }),
            }
        };
        let driven = async { Ok(connection.with_upgrades().await?) };
        let (tunnel, ()) = tokio::try_join!(exchange, driven)?;
        match tunnel.downcast::<TokioIo<TcpStream>>() {
            // What came already would be missing from the TLS handshake.
            Ok(parts) if parts.read_buf.is_empty() => Ok(parts.io),
            _ => Err(TunnelFault::SpokeFirst),
        }
    }
}

/// Basic authentication (RFC 7617 §2).
fn basic(user: &str, password: &str) -> Result<HeaderValue, ConfigurationError> {
    let mut plain = percent_decode_str(user).collect::<Vec<_>>();
    if plain.contains(&b':') {
        return Err(ConfigurationError::Proxy);
    }
    plain.push(b':');
    plain.extend(percent_decode_str(password));
    let encoded = format!("Basic {}", Base64::encode_string(&plain));
    let mut value = HeaderValue::try_from(encoded).map_err(|_| ConfigurationError::Proxy)?;
    value.set_sensitive(true);
    Ok(value)
}

/// A connection through a proxy could not be made.
#[derive(Debug, Error)]
#[error("the proxy at {proxy} can't be used")]
pub(super) struct ProxyError {
    pub(super) proxy: Uri,
    pub(super) source: BoxError,
}

/// Why a proxy opened no tunnel.
#[derive(Debug, Error)]
pub(super) enum TunnelFault {
    /// The target has no host, or one that can't stand in a request.
    #[error("it can't be asked to connect")]
    Target(#[from] http::Error),
    /// What came was no response, or none at all.
    #[error("it did not answer CONNECT")]
    Http(#[from] hyper::Error),
    /// It answered, but not with success.
    #[error("it refused to connect to {target}: {status}")]
    Refused { target: String, status: StatusCode },
    /// There is more behind the response, although TLS servers wait for the client.
    #[error("it sent data of its own through the tunnel")]
    SpokeFirst,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses() {
        for (text, uri, authorization) in [
            (
                "http://proxy.example:3128",
                "http://proxy.example:3128/",
                None,
            ),
            ("http://proxy.example", "http://proxy.example/", None),
            ("http://proxy.example:80/", "http://proxy.example/", None),
            ("http://[::1]:3128", "http://[::1]:3128/", None),
            ("HTTP://Proxy.example:/?a#b", "http://proxy.example/", None),
            // A password as it should not be written, and is.
            (
                "http://user:p@s^s@proxy.example",
                "http://proxy.example/",
                Some("Basic dXNlcjpwQHNecw=="),
            ),
            // RFC 7617 §2, the example and that of §2.1.
            (
                "http://Aladdin:open%20sesame@192.0.2.1:8080",
                "http://192.0.2.1:8080/",
                Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            ),
            (
                "http://test:123%C2%A3@proxy.example",
                "http://proxy.example/",
                Some("Basic dGVzdDoxMjPCow=="),
            ),
            (
                "http://user:a%3Ab%40c%25@proxy.example",
                "http://proxy.example/",
                Some("Basic dXNlcjphOmJAYyU="),
            ),
            (
                "http://user@proxy.example",
                "http://proxy.example/",
                Some("Basic dXNlcjo="),
            ),
        ] {
            let proxy = Proxy::parse(text).unwrap();
            assert_eq!(proxy.uri().to_string(), uri);
            let found = proxy
                .authorization
                .as_ref()
                .map(|value| value.to_str().unwrap());
            assert_eq!(found, authorization, "{text}");
        }
    }

    #[test]
    fn refuses() {
        for text in [
            "",
            "proxy.example:3128",
            "//proxy.example",
            "https://proxy.example:3128",
            "socks5://proxy.example:1080",
            "http://",
            "http://proxy.example:99999",
            "http://proxy.example:port",
            "http://proxy.example:1:2",
            "http://user@",
            "http://:3128",
            "http://[::1",
            "http://[::1]x",
            "http://proxy example",
            "http://a%3Ab:password@proxy.example",
        ] {
            let error = Proxy::parse(text).err();
            assert!(matches!(error, Some(ConfigurationError::Proxy)), "{text}");
        }
    }
}
