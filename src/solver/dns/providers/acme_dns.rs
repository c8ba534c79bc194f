use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::Mutex;
use tracing::debug;
use zeroize::Zeroizing;

use crate::error::BoxError;
use crate::protocol::{Url, printable};
use crate::solver::{DnsProvider, TxtRecord};
use crate::transport::{ResponseLimit, Transport, TransportError};

/// Writes TXT records at an acme-dns server, a small name server for the answers to challenges, to
/// which `_acme-challenge` is delegated by a CNAME.
///
/// Nobody with the credentials here can change anything else in the DNS. Once for each domain:
///
/// 1. [`register`](Self::register) makes an account, which has a name of its own in the server's
///    zone;
/// 2. store the account, and publish [`cname`](AcmeDnsAccount::cname) in the domain's zone.
///
/// The account for a record is the one whose name the record has, once the solver has followed the
/// CNAME; else the one that was given for the domain.
///
/// An acme-dns server keeps the two newest values of an account, as a wildcard and its apex need.
/// So an account is for one domain, and for one order at a time. Values are not removed, as the
/// server has no way to: they give way to newer ones.
///
/// Clones share the order of updates.
///
/// ```
/// # #[cfg(all(feature = "acme-dns", feature = "hyper"))]
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use certwright::solver::AcmeDns;
/// use certwright::transport::HyperTransport;
///
/// // As acme-dns clients store their accounts.
/// let accounts = std::fs::read_to_string("/etc/acme-dns.json")?;
/// let provider = AcmeDns::new(HyperTransport::builder().build()?)
///     .server("https://auth.example.org")
///     .accounts_from_json(&accounts)?;
/// # let _ = provider; Ok(()) }
/// ```
#[derive(Clone)]
pub struct AcmeDns {
    transport: Arc<dyn Transport>,
    server: Option<String>,
    plain_http: bool,
    accounts: HashMap<String, Keyed>,
}

/// An account, and the right to update at it: a server that is asked twice at once might replace
/// the same value twice.
#[derive(Clone)]
struct Keyed {
    account: AcmeDnsAccount,
    turn: Arc<Mutex<()>>,
}

impl AcmeDns {
    /// Without any account yet; requests go by this transport.
    pub fn new(transport: impl Transport) -> Self {
        Self {
            transport: Arc::new(transport),
            server: None,
            plain_http: false,
            accounts: HashMap::new(),
        }
    }

    /// The URL of the server's API, for accounts that do not say theirs, and for
    /// [`register`](Self::register).
    #[must_use]
    pub fn server(mut self, url: impl Into<String>) -> Self {
        self.server = Some(url.into());
        self
    }

    /// Whether credentials may be sent over plain http to hosts that are not loopback, for a
    /// server on a network where nobody listens. By default they may not.
    #[must_use]
    pub fn allow_plain_http(mut self, allow: bool) -> Self {
        self.plain_http = allow;
        self
    }

    /// Adds the account for a domain, which may be written with or without `*.`.
    #[must_use]
    pub fn account(mut self, domain: &str, account: AcmeDnsAccount) -> Self {
        let turn = Arc::default();
        self.accounts.insert(bare(domain), Keyed { account, turn });
        self
    }

    /// Adds accounts by domain, from JSON as lego, cert-manager and the Python and Go clients of
    /// acme-dns store them: an object of [`AcmeDnsAccount`]s, keyed by domain.
    pub fn accounts_from_json(mut self, json: &str) -> Result<Self, InvalidAcmeDnsAccounts> {
        let accounts: HashMap<String, AcmeDnsAccount> = serde_json::from_str(json)
            .map_err(|error| InvalidAcmeDnsAccounts(error.line(), error.column()))?;
        for (domain, account) in accounts {
            self = self.account(&domain, account);
        }
        Ok(self)
    }

    /// Makes a new account at the [`server`](Self::server), which answers updates from these
    /// networks only, written as `192.0.2.0/24`; from anywhere where there are none.
    ///
    /// The account is not added to `self`: store it first, as nobody can ask for it again.
    pub async fn register(&self, allow_from: &[&str]) -> Result<AcmeDnsAccount, AcmeDnsError> {
        let server = self.server.as_deref().ok_or(AcmeDnsError::NoServer)?;
        let body = match allow_from {
            [] => serde_json::json!({}),
            networks => serde_json::json!({ "allowfrom": networks }),
        };
        let body = self
            .post(server, "register", HeaderMap::new(), &body)
            .await?;
        let account: AcmeDnsAccount =
            serde_json::from_slice(&body).map_err(|error| AcmeDnsError::Malformed {
                server: server.to_owned(),
                fault: format!(
                    "no account at line {}, column {}",
                    error.line(),
                    error.column()
                ),
            })?;
        Ok(AcmeDnsAccount {
            server_url: Some(server.to_owned()),
            ..account
        })
    }

    fn account_for(&self, record: &TxtRecord) -> Result<&Keyed, AcmeDnsError> {
        let by_name = self
            .accounts
            .values()
            .find(|keyed| keyed.account.full_domain() == record.name());
        let domain = match record.presentation() {
            Some(presentation) => bare(&presentation.identifier().value()),
            None => bare(
                record
                    .name()
                    .strip_prefix("_acme-challenge.")
                    .unwrap_or(record.name()),
            ),
        };
        by_name
            .or_else(|| self.accounts.get(&domain))
            .ok_or_else(|| AcmeDnsError::NoAccount {
                name: record.name().to_owned(),
                domain,
            })
    }

    async fn post(
        &self,
        server: &str,
        path: &str,
        headers: HeaderMap,
        body: &serde_json::Value,
    ) -> Result<Bytes, AcmeDnsError> {
        let bad_url = || AcmeDnsError::BadUrl {
            server: server.to_owned(),
        };
        let url = format!("{}/{path}", server.trim_end_matches('/'));
        let url = Url::parse(&url).map_err(|_| bad_url())?;
        if !(url.is_https() || self.plain_http || url.is_loopback()) {
            return Err(bad_url());
        }

        let mut request = Request::new(Bytes::from(body.to_string()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = url.uri();
        *request.headers_mut() = headers;
        let agent = concat!("certwright/", env!("CARGO_PKG_VERSION"));
        let constants = [(CONTENT_TYPE, "application/json"), (USER_AGENT, agent)];
        for (header, value) in constants {
            let value = HeaderValue::from_static(value);
            request.headers_mut().insert(header, value);
        }
        request.extensions_mut().insert(ResponseLimit(64 * 1024));
        let response =
            self.transport
                .send(request)
                .await
                .map_err(|source| AcmeDnsError::Transport {
                    server: server.to_owned(),
                    source,
                })?;
        match response.status() {
            StatusCode::OK | StatusCode::CREATED => Ok(response.into_body()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(AcmeDnsError::Forbidden {
                server: server.to_owned(),
            }),
            status => {
                #[derive(Deserialize)]
                struct Refusal {
                    error: String,
                }
                let refusal = serde_json::from_slice::<Refusal>(response.body());
                Err(AcmeDnsError::Refused {
                    server: server.to_owned(),
                    status: status.as_u16(),
                    error: refusal.map(|refusal| refusal.error).unwrap_or_default(),
                })
            }
        }
    }
}

impl fmt::Debug for AcmeDns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcmeDns")
            .field("server", &self.server)
            .field("domains", &self.accounts.keys())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl DnsProvider for AcmeDns {
    async fn add(&self, record: &TxtRecord) -> Result<(), BoxError> {
        let Keyed { account, turn } = self.account_for(record)?;
        let is_base64url = |octet: u8| octet.is_ascii_alphanumeric() || b"-_".contains(&octet);
        if record.value().len() != 43 || !record.value().bytes().all(is_base64url) {
            return Err(AcmeDnsError::Value {
                name: record.name().to_owned(),
            }
            .into());
        }
        let server = account.server_url.as_deref().or(self.server.as_deref());
        let server = server.ok_or(AcmeDnsError::NoServer)?;
        let mut headers = HeaderMap::new();
        for (header, secret) in [
            ("x-api-user", &account.username),
            ("x-api-key", &account.password),
        ] {
            let mut value =
                HeaderValue::from_str(secret).map_err(|_| AcmeDnsError::Credentials {
                    domain: account.full_domain(),
                })?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static(header), value);
        }
        let body = serde_json::json!({ "subdomain": account.subdomain, "txt": record.value() });

        let _turn = turn.lock().await;
        self.post(server, "update", headers, &body).await?;
        debug!(name = record.name(), server, "TXT record updated");
        Ok(())
    }

    /// Does nothing: acme-dns removes no values.
    async fn remove(&self, _record: &TxtRecord) -> Result<(), BoxError> {
        Ok(())
    }
}

/// An account at an acme-dns server: a name of its own, and the credentials to write there.
///
/// Its JSON is that of acme-dns clients, and has the password in it.
#[derive(Clone, Deserialize, Serialize)]
pub struct AcmeDnsAccount {
    #[serde(alias = "FullDomain")]
    fulldomain: String,
    #[serde(alias = "SubDomain")]
    subdomain: String,
    #[serde(alias = "Username")]
    username: Zeroizing<String>,
    #[serde(alias = "Password")]
    password: Zeroizing<String>,
    #[serde(alias = "ServerURL", default, skip_serializing_if = "Option::is_none")]
    server_url: Option<String>,
}

impl AcmeDnsAccount {
    /// The account's name in the server's zone, in lower case and without a dot at its end: what
    /// the CNAME leads to.
    pub fn full_domain(&self) -> String {
        bare(&self.fulldomain)
    }

    /// The record to publish in a domain's zone, once, in the form of a zone file.
    ///
    /// ```
    /// # #[cfg(feature = "acme-dns")] {
    /// # use certwright::solver::AcmeDnsAccount;
    /// let account: AcmeDnsAccount = serde_json::from_str(
    ///     r#"{"fulldomain": "d420c923.auth.example.org", "subdomain": "d420c923",
    ///         "username": "c36f50e8", "password": "htB9mR9DYgcu9bX_afHF62er"}"#,
    /// )?;
    /// assert_eq!(
    ///     account.cname("*.example.com"),
    ///     "_acme-challenge.example.com. CNAME d420c923.auth.example.org."
    /// );
    /// # }
    /// # Ok::<_, serde_json::Error>(())
    /// ```
    pub fn cname(&self, domain: &str) -> String {
        let (domain, full_domain) = (bare(domain), self.full_domain());
        format!("_acme-challenge.{domain}. CNAME {full_domain}.")
    }
}

impl fmt::Debug for AcmeDnsAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcmeDnsAccount")
            .field("fulldomain", &self.fulldomain)
            .field("server_url", &self.server_url)
            .finish_non_exhaustive()
    }
}

/// Why [`AcmeDns`] could not add a record, or make an account.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AcmeDnsError {
    /// The server's URL is none, or credentials would go over plain http.
    #[error(
        "`{}` is not the https URL of an acme-dns server; for http to another host than this one, \
         use AcmeDns::allow_plain_http",
        printable(.server)
    )]
    BadUrl {
        /// What was given.
        server: String,
    },
    /// The credentials have characters that cannot be sent.
    #[error("the credentials for `{}` are not those of an acme-dns account", printable(.domain))]
    Credentials {
        /// The account's name.
        domain: String,
    },
    /// The server does not accept the credentials, or not from this address.
    #[error(
        "the acme-dns server at {} does not accept the account, or not from this host's address: \
         see its `allowfrom`, or register again and change the CNAME",
        printable(.server)
    )]
    Forbidden {
        /// The URL.
        server: String,
    },
    /// What came from the server is not what acme-dns answers.
    #[error("the server at {} does not answer as acme-dns does: {fault}", printable(.server))]
    Malformed {
        /// The URL.
        server: String,
        /// What is wrong.
        fault: String,
    },
    /// There is no account for the name.
    #[error(
        "there is no acme-dns account for `{}`, nor one whose name is `{}`: register one, and \
         publish its CNAME",
        printable(.domain), printable(.name)
    )]
    NoAccount {
        /// The record's name.
        name: String,
        /// The domain to prove control of.
        domain: String,
    },
    /// Neither the account nor [`AcmeDns::server`] says where the server is.
    #[error("the acme-dns server's URL is not known: give it by AcmeDns::server")]
    NoServer,
    /// The server refused the request.
    #[error(
        "the acme-dns server at {} answered with status {status}{}",
        printable(.server), quoted(.error)
    )]
    Refused {
        /// The URL.
        server: String,
        /// The HTTP status.
        status: u16,
        /// What the server calls the error, such as `bad_txt`; may be empty.
        error: String,
    },
    /// The server could not be asked.
    #[error("the acme-dns server at {} cannot be asked: {source}", printable(.server))]
    Transport {
        /// The URL.
        server: String,
        /// Why.
        source: TransportError,
    },
    /// The value is not the 43 characters of a digest in base64url, which is all that acme-dns
    /// takes. Those of dns-persist-01 are not.
    #[error(
        "the value for `{}` does not have the 43 characters of base64url that acme-dns takes",
        printable(.name)
    )]
    Value {
        /// The record's name.
        name: String,
    },
}

/// The text is not the JSON of acme-dns accounts by domain: the line and column where that shows.
/// What stands there is not told, as it may be a secret.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error(
    "line {0}, column {1}: these are not acme-dns accounts by domain, each with `fulldomain`, \
     `subdomain`, `username` and `password`"
)]
pub struct InvalidAcmeDnsAccounts(usize, usize);

fn quoted(error: &str) -> String {
    match error {
        "" => String::new(),
        error => format!(" and `{}`", printable(error)),
    }
}

/// A domain in lower case, without `*.` and without a dot at its end.
fn bare(domain: &str) -> String {
    let domain = domain.strip_prefix("*.").unwrap_or(domain);
    domain.trim_end_matches('.').to_ascii_lowercase()
}
