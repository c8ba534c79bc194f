use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;
use thiserror::Error;

use crate::error::BoxError;
use crate::protocol::{Identifier, printable};

/// Why a [`SelfCheck`](super::SelfCheck) failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SelfCheckError {
    /// The CA would not find the right answer at each address.
    #[error(
        "the http-01 self-check of `{identifier}` failed: {}",
        Listed(failures)
    )]
    Failed {
        /// What was to be validated.
        identifier: Identifier,
        /// Each address that failed, IPv6 before IPv4.
        failures: Vec<SelfCheckFailure>,
    },
    /// The challenge has no token, although http-01 demands one (RFC 8555 §8.3).
    #[error("the challenge has no token (RFC 8555 §8.3), so there is nothing to fetch")]
    NoToken,
    /// http-01 can't validate the identifier: a wildcard, or neither name nor address.
    #[error("http-01 can't validate `{0}`, so there is nothing to fetch")]
    Unsuitable(Identifier),
}

/// What is wrong at one address.
#[derive(Debug)]
pub struct SelfCheckFailure {
    urls: Vec<String>,
    address: Option<SocketAddr>,
    fault: SelfCheckFault,
    only_v6: bool,
}

impl SelfCheckFailure {
    pub(super) fn new(
        urls: Vec<String>,
        address: Option<SocketAddr>,
        fault: SelfCheckFault,
        only_v6: bool,
    ) -> Self {
        Self {
            urls,
            address,
            fault,
            only_v6,
        }
    }

    /// The URL that was fetched.
    pub fn url(&self) -> &str {
        self.urls.last().map(String::as_str).unwrap_or_default()
    }

    /// The URLs whose redirects led to it, the first one first. Empty where there was no redirect.
    pub fn redirected_from(&self) -> &[String] {
        self.urls
            .split_last()
            .map(|(_, before)| before)
            .unwrap_or_default()
    }

    /// The address that was asked. `None` where none was found.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// What is wrong.
    pub fn fault(&self) -> &SelfCheckFault {
        &self.fault
    }
}

impl fmt::Display for SelfCheckFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(self.url()))?;
        if let Some(address) = self.address {
            write!(f, " at {address}")?;
        }
        match self.redirected_from() {
            [] => {}
            [from] => write!(f, ", redirected from {}", printable(from))?,
            [from, .., last] => write!(
                f,
                ", redirect {} from {}, by way of {}",
                self.redirected_from().len(),
                printable(from),
                printable(last)
            )?,
        }
        write!(f, ": {}", self.fault)?;
        if let Some(hint) = self.fault.hint() {
            write!(f, "; {hint}")?;
        }
        if self.only_v6 && self.fault.is_connection() {
            f.write_str(
                "; IPv4 works, and a CA may fall back to it, but few do and once only: serve over \
                 IPv6 too, or delete the AAAA record",
            )?;
        } else if self.only_v6 {
            f.write_str(
                "; the answer over IPv4 is right, but CAs prefer IPv6: serve the same over both, or \
                 delete the AAAA record",
            )?;
        }
        Ok(())
    }
}

/// What can be wrong at an address.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SelfCheckFault {
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// What came is not HTTP, or broke off.
    #[error("no whole HTTP reply came: {}", printable(&innermost(.0.as_ref())))]
    Http(#[source] BoxError),
    /// The name has no address.
    #[error("the name has no address")]
    NoAddress,
    /// A redirect leads to https, and TLS has no crypto provider in this process.
    #[error("TLS has no crypto provider, so redirects to https can't be followed")]
    NoCryptoProvider,
    /// This host can't send to IPv6 addresses, and there is no other to check.
    #[error("this host has no route there, so the address was not checked: {0}")]
    NoRoute(#[source] io::Error),
    /// A redirect to where CAs do not go.
    #[error(
        "it redirects to `{}`, where CAs do not follow: {fault}",
        printable(location)
    )]
    Redirect {
        /// The `Location` header.
        location: String,
        /// What is wrong with it.
        fault: RedirectFault,
    },
    /// A redirect to a URL that led here.
    #[error("it redirects back to {}, which led here", printable(.0))]
    RedirectLoop(String),
    /// A redirect by a status that CAs do not follow.
    #[error("it redirects by status {0}, and CAs follow 301, 302, 307 and 308 only")]
    RedirectStatus(StatusCode),
    /// The lookup of the name failed.
    #[error("the name can't be looked up: {0}")]
    Resolve(#[source] BoxError),
    /// The address is private, loopback, or reserved otherwise.
    #[error("the address is private or reserved, and a public CA does not connect there")]
    SpecialAddress,
    /// Another status than 200.
    #[error("the status is {0}, and must be 200")]
    Status(StatusCode),
    /// There was not enough time.
    #[error("the check was given up after {limit:?}, {phase}")]
    TimedOut {
        /// What was under way, as in "*waiting for the reply*".
        phase: &'static str,
        /// The time that the whole check has.
        limit: Duration,
    },
    /// The TLS handshake failed, after a redirect to https.
    #[error("the TLS handshake failed: {0}")]
    Tls(#[source] io::Error),
    /// More than ten redirects.
    #[error("it redirects once more, and CAs follow ten redirects at the most")]
    TooManyRedirects,
    /// A body that is longer than a CA reads.
    #[error(
        "the body has {limit} octets or more, and begins with `{}`",
        excerpt(start)
    )]
    TooLarge {
        /// As many octets as are too many.
        limit: usize,
        /// The beginning of the body.
        start: String,
    },
    /// Another body than the key authorization.
    #[error("the body is `{}`, and must be `{expected}`", excerpt(found))]
    WrongBody {
        /// The body.
        found: String,
        /// The key authorization.
        expected: String,
    },
}

impl SelfCheckFault {
    fn is_connection(&self) -> bool {
        matches!(
            self,
            Self::Connect(_)
                | Self::TimedOut {
                    phase: "connecting",
                    ..
                }
        )
    }

    /// What to change.
    fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Connect(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                "nothing listens there: start the server, or forward the port to it"
            }
            Self::Connect(_)
            | Self::TimedOut {
                phase: "connecting",
                ..
            } => {
                "open the port in firewalls, or correct the address record; where only this host \
                 can't reach its public address, give another by SelfCheck::resolve"
            }
            Self::NoAddress | Self::Resolve(_) => {
                "give it an A or an AAAA record; where it has one that is not seen from here, see \
                 SelfCheck::resolve"
            }
            Self::NoRoute(_) => "leave the check out on this host, or give it IPv6",
            Self::SpecialAddress => {
                "publish a public address; where that is done, this host's resolver has another: see \
                 SelfCheck::resolve; for a CA in this network, see \
                 SelfCheck::allow_private_addresses"
            }
            Self::Status(status) if *status == StatusCode::NOT_FOUND => {
                "the server there does not get its answers from this solver: route \
                 /.well-known/acme-challenge/ to it, at each server that has one of the name's \
                 addresses"
            }
            Self::Status(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                "let everybody read /.well-known/acme-challenge/"
            }
            Self::TooLarge { .. } => "the server answers with a page of its own: see its rewrites",
            Self::WrongBody { found, expected } => match expected.split_once('.') {
                Some((token, _)) if found.starts_with(&format!("{token}.")) => {
                    "another ACME client answers there, with another account's key"
                }
                _ => "another server or ACME client answers there",
            },
            _ => return None,
        })
    }
}

/// Why CAs do not follow a redirect.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum RedirectFault {
    /// The slash between name and path is missing.
    #[error("the slash between the name and the path is missing in the server's configuration")]
    MissingSlash,
    /// A name that is in no public DNS: it has no dot, or its last label begins with a digit.
    #[error("the host is not a name of the public DNS")]
    NotPublic,
    /// Another port than those of http and https.
    #[error("port {0} is neither that of http nor that of https")]
    Port(u16),
    /// Another scheme than `http` and `https`.
    #[error("the scheme is neither http nor https")]
    Scheme,
    /// An address that is private or reserved.
    #[error("the address is private or reserved")]
    SpecialAddress,
    /// Not a URL.
    #[error("it is not a URL")]
    Syntax,
    /// A URL of more than 2,000 octets.
    #[error("it is too long")]
    TooLong,
}

struct Listed<'a>(&'a [SelfCheckFailure]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, failure) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(" | ")?;
            }
            failure.fmt(f)?;
        }
        Ok(())
    }
}

/// The beginning of what a server sent.
fn excerpt(text: &str) -> String {
    let mut short: String = printable(text).chars().take(EXCERPT).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// The last cause, as hyper's own words tell little.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    match std::ptr::eq(last, error) {
        true => error.to_string(),
        false => format!("{error}: {last}"),
    }
}

const EXCERPT: usize = 160;
