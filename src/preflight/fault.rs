use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use thiserror::Error;

use crate::dns::DnsError;
use crate::error::BoxError;
use crate::protocol::{ChallengeType, Url, printable};
#[cfg(feature = "http-01")]
use crate::solver::SelfCheckFailure;

/// What a [`Preflight`](super::Preflight) can find.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PreflightFault {
    /// CAA allows the CA for other accounts only (RFC 8657 §3).
    #[error(
        "CAA at {} allows the CA for {} only, and not for the account {account}",
        printable(at),
        listed(allowed)
    )]
    CaaAccount {
        /// The name that has the CAA records.
        at: String,
        /// The accounts that are allowed.
        allowed: Vec<String>,
        /// The account's URL.
        account: Url,
    },
    /// CAA has a critical property that no CA knows (RFC 8659 §4.5).
    #[error(
        "CAA at {} has the critical property `{}`, which no CA knows",
        printable(at),
        printable(tag)
    )]
    CaaCritical {
        /// The name that has the CAA records.
        at: String,
        /// The property's tag.
        tag: String,
    },
    /// CAA does not allow the CA (RFC 8659 §4.2, §4.3).
    #[error(
        "CAA at {} does not allow the CA: `{tag}` is {}",
        printable(at),
        listed(values)
    )]
    CaaForbids {
        /// The name that has the CAA records.
        at: String,
        /// `issue`, or `issuewild` where that is what counts.
        tag: String,
        /// The values that are there.
        values: Vec<String>,
        /// The CA's names; empty where they are not known.
        identities: Vec<String>,
    },
    /// The lookup of CAA records failed, so a CA must not issue (RFC 8659 §3).
    #[error("CAA can't be looked up, and a CA that can't either must not issue: {0}")]
    CaaLookup(#[source] DnsError),
    /// CAA allows the CA by other types of challenge only (RFC 8657 §4).
    #[error(
        "CAA at {} allows validation by {} only, and not by {method}",
        printable(at),
        listed(allowed)
    )]
    CaaMethod {
        /// The name that has the CAA records.
        at: String,
        /// The types that are allowed.
        allowed: Vec<String>,
        /// The type of challenge.
        method: ChallengeType,
    },
    /// There are CAA records, and it is not known by which name they would allow the CA.
    #[error(
        "CAA at {} allows {}, and the CA does not say which name it goes by",
        printable(at),
        listed(values)
    )]
    CaaUnknownCa {
        /// The name that has the CAA records.
        at: String,
        /// The values that are there.
        values: Vec<String>,
    },
    /// The solver's own check failed.
    #[error("the solver finds that something is not in place: {0}")]
    Check(#[source] BoxError),
    /// The solver could not take away what it presented in the rehearsal.
    #[error("what the rehearsal presented could not be taken away: {0}")]
    CleanUp(#[source] BoxError),
    /// A port takes no connection.
    #[error("{address} takes no connection: {source}")]
    Connect {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
        /// Whether this is an IPv6 address of a name that has an IPv4 one, too.
        has_v4: bool,
    },
    /// The CA would not get the right answer to http-01 at an address.
    #[cfg(feature = "http-01")]
    #[error("{0}")]
    Http01(Box<SelfCheckFailure>),
    /// The lookup of the name's addresses failed.
    #[error("the name's addresses can't be looked up: {0}")]
    Lookup(#[source] DnsError),
    /// The name has no address.
    #[error("the name has no address")]
    NoAddress,
    /// None of the solvers can solve a challenge for the identifier.
    #[error("no solver can solve any challenge for it")]
    NoSolver,
    /// This host can't send to addresses of that kind, so that one was not asked.
    #[error("{address} can't be asked from this host: {source}")]
    NotAsked {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The solver could not present an answer in the rehearsal: no zone was found for the name, or
    /// it can't be written to.
    #[error("the solver can't present an answer: {0}")]
    Present(#[source] BoxError),
    /// An address is private, loopback, or reserved otherwise.
    #[error("{0} is private or reserved, and a public CA does not connect there")]
    SpecialAddress(IpAddr),
    /// There was not enough time.
    #[error("it was given up after {} s, {doing}", limit.as_secs_f32())]
    TimedOut {
        /// What was under way.
        doing: &'static str,
        /// The time that there was.
        limit: Duration,
    },
    /// The CA would not get the right certificate for tls-alpn-01 at an address.
    #[cfg(feature = "tls-alpn-01")]
    #[error("{address}: {fault}")]
    TlsAlpn01 {
        /// The address.
        address: SocketAddr,
        /// What is wrong there.
        fault: TlsAlpn01Fault,
    },
    /// What the solver presented in the rehearsal was not to be seen.
    #[error("the answer is not to be seen where the CA looks: {0}")]
    Wait(#[source] BoxError),
}

impl PreflightFault {
    /// Whether it never stands in the way of the certificate.
    pub(super) fn is_harmless(&self) -> bool {
        matches!(
            self,
            Self::CaaUnknownCa { .. } | Self::CleanUp(_) | Self::NotAsked { .. }
        )
    }

    /// What to change, where the fault's own text does not say.
    pub(super) fn hint(&self) -> Option<String> {
        let fixed = match self {
            Self::CaaAccount { .. } => "name this account in accounturi, or use the other account",
            Self::CaaCritical { .. } => "delete that record, or its critical flag",
            Self::CaaForbids {
                tag, identities, ..
            } => {
                return Some(match identities.as_slice() {
                    [] => format!("add a record `{tag}` with the CA's name"),
                    [identity, ..] => format!(
                        "add the record `CAA 0 {tag} \"{}\"` there, or nearer to the name",
                        printable(identity)
                    ),
                });
            }
            Self::CaaLookup(_) => {
                "have the name servers answer for CAA, with no record where there is none; where \
                 the zone is signed, see whether its signatures are valid"
            }
            Self::CaaMethod { .. } => {
                "add the type to validationmethods, or give a solver for one that is allowed"
            }
            Self::CaaUnknownCa { .. } => {
                "see the CA's documents, and give the name by Preflight::caa_identities"
            }
            Self::CleanUp(_) => {
                "it is harmless, and begins with `certwright-preflight-` where it is a token: delete \
                 it by hand"
            }
            Self::Connect { has_v4: true, .. } => {
                "serve over IPv6 too, or delete the AAAA record: CAs prefer it, and few try IPv4"
            }
            Self::Connect { .. } => {
                "start the server, forward the port to it, or open it in firewalls"
            }
            Self::Lookup(_) | Self::NoAddress => {
                "give the name an A or an AAAA record, or solve its challenges over DNS"
            }
            Self::NoSolver => {
                "give one that can: a wildcard takes a solver over DNS, an address one for http-01 \
                 or tls-alpn-01"
            }
            #[cfg(feature = "tls-alpn-01")]
            Self::TlsAlpn01 { .. } => {
                "have TLS end at this solver, or at a server that has its resolver; a proxy in front \
                 has to pass TLS through"
            }
            Self::SpecialAddress(_) => {
                "publish a public address; for a CA in this network, see \
                 Preflight::allow_private_addresses"
            }
            _ => return None,
        };
        Some(fixed.to_owned())
    }
}

/// Why an address does not answer to tls-alpn-01 (RFC 8737).
#[cfg(feature = "tls-alpn-01")]
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsAlpn01Fault {
    /// The certificate is not the one that the solver presented.
    #[error("the certificate is not that of this solver: {0}")]
    Certificate(#[source] BoxError),
    /// The TLS handshake failed.
    #[error("the TLS handshake by acme-tls/1 failed: {0}")]
    Handshake(#[source] io::Error),
    /// TLS has no crypto provider in this process.
    #[error("TLS has no crypto provider, so the certificate can't be asked for")]
    NoCryptoProvider,
    /// The server does not speak the protocol of tls-alpn-01.
    #[error("the server does not speak acme-tls/1")]
    OtherProtocol,
}

fn listed(values: &[String]) -> String {
    let mut text: Vec<_> = values
        .iter()
        .take(MOST_LISTED)
        .map(|value| format!("`{}`", printable(value)))
        .collect();
    if values.len() > MOST_LISTED {
        text.push("…".to_owned());
    }
    text.join(", ")
}

const MOST_LISTED: usize = 5;
