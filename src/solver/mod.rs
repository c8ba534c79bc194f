//! Solvers: what makes the answer to a challenge visible to the CA.
//!
//! | solver | challenge | for |
//! |---|---|---|
//! | [`Http01Server`] | http-01 | a program that may listen on port 80 itself |
//! | [`Http01Responder`] | http-01 | a program whose own HTTP server is on port 80 |
//! | [`Http01Webroot`] | http-01 | a host whose web server serves files from a directory |
//! | [`Dns01`] | dns-01, dns-account-01 | wildcards; names whose servers CAs can't reach |
//! | [`DnsPersist01`] | dns-persist-01 | a TXT record that is published once and stays |
//! | [`TlsAlpn01Resolver`] | tls-alpn-01 | a program whose own rustls server is on port 443 |
//! | [`TlsAlpn01Server`] | tls-alpn-01 | a program that may listen on port 443 itself |
//!
//! [`SelfCheck`] fetches what an http-01 solver presents as the CA will, before the CA does.
//!
//! Anything else is a [`ChallengeSolver`] of the application's own.
//!
//! [`Dns01`] has its records written by one of these, or by a [`DnsProvider`] of the application's
//! own:
//!
//! | provider | feature | writes |
//! |---|---|---|
//! | [`Rfc2136`] | `rfc2136` | to a name server of one's own, by dynamic update |
//! | [`AcmeDns`] | `acme-dns` | to an acme-dns server that names are delegated to |
//! | [`DnsUpdate`] | `dns-update` | to some seventy DNS hosts, by their APIs |
//! | [`DnsProgram`] | `dns-01` | by a program as lego or certbot runs it |
//! | [`ManualDns`] | `dns-01` | by a person's hands |

mod account_context;
#[cfg(feature = "dns-01")]
mod dns;
#[cfg(feature = "http-01")]
mod http01;
mod leftover;
#[cfg(any(feature = "http-01", feature = "tls-alpn-01"))]
mod listeners;
mod presentation;
#[cfg(any(feature = "dns-01", feature = "http-01"))]
pub(crate) mod special_address;
#[cfg(feature = "tls-alpn-01")]
mod tls_alpn01;
#[cfg(any(feature = "http-01", all(feature = "dns-01", feature = "tls-alpn-01")))]
pub(crate) mod unverified_tls;

use async_trait::async_trait;

pub use self::account_context::AccountContext;
#[cfg(feature = "acme-dns")]
pub use self::dns::{AcmeDns, AcmeDnsAccount, AcmeDnsError, InvalidAcmeDnsAccounts};
#[cfg(feature = "dns-01")]
pub use self::dns::{
    Dns01, Dns01Error, DnsPersist01, DnsPersist01Error, DnsProgram, DnsProgramError, DnsProvider,
    ManualDns, ManualDnsError, ManualDnsStep, NotPropagated, Seen, ServerReport, TxtRecord,
};
#[cfg(feature = "dns-update")]
pub use self::dns::{DnsUpdate, DnsUpdateError, DnsUpdateFault};
#[cfg(feature = "rfc2136")]
pub use self::dns::{
    InvalidNameServer, InvalidTsigKey, Rfc2136, Rfc2136Error, Rfc2136Fault, TsigAlgorithm, TsigKey,
};
#[cfg(feature = "http-01")]
pub use self::http01::{
    Http01BindError, Http01Body, Http01Error, Http01Responder, Http01Server, Http01Webroot,
    RedirectFault, SelfCheck, SelfCheckError, SelfCheckFailure, SelfCheckFault, SelfChecked,
};
pub use self::leftover::Leftover;
pub use self::presentation::Presentation;
#[cfg(feature = "tls-alpn-01")]
pub use self::tls_alpn01::{
    TlsAlpn01BindError, TlsAlpn01Error, TlsAlpn01Resolver, TlsAlpn01Server, TlsAlpn01SetupError,
};
/// The crate behind [`DnsUpdate`], in the version that fits.
#[cfg(feature = "dns-update")]
pub use ::dns_update;

use crate::error::BoxError;
pub use crate::protocol::{ChallengeResponse, InvalidChallengeResponse};
use crate::protocol::{ChallengeType, Identifier};

/// Makes the answer to a challenge visible to the CA, and takes it away afterwards.
///
/// An issuance calls, for the challenges of one order:
///
/// 1. before the order is made, [`check`](Self::check) for each identifier, side by side;
/// 2. [`present`](Self::present) for each challenge, side by side;
/// 3. once all are presented, [`wait`](Self::wait) for each of them, side by side, so that a hundred
///    names over slow DNS take one propagation time and not a hundred;
/// 4. once all waits are over, [`response`](Self::response) for each of them, side by side;
/// 5. once all responses are there, it sends them to the CA, which validates;
/// 6. once the order's fate is known, [`clean_up`](Self::clean_up) for each of them, side by side.
///
/// Where a step fails before the last but one, the next solver that can solve a challenge of the same
/// authorization is taken, if there is one: the CA has not heard of the failure.
///
/// One solver may serve many orders at once, so calls for different challenges overlap, and all
/// methods must be safe to call so.
#[async_trait]
pub trait ChallengeSolver: Send + Sync + 'static {
    /// Whether this solver can solve challenges of this type for this identifier.
    ///
    /// Of the types that the CA offers for an identifier, the issuance takes one for which the
    /// answer is yes. A wildcard's identifier has its `*.` here. The issuance does not ask for what
    /// the protocol rules out ([`ChallengeType::can_validate`]), such as a wildcard over HTTP.
    fn can_solve(&self, identifier: &Identifier, challenge_type: &ChallengeType) -> bool;

    /// Checks what must be in place before there is an order. By default nothing is checked.
    ///
    /// It is called at most once for each identifier of an issuance, before anything is presented
    /// for it; and before the order is made, where this solver is the first that can solve a
    /// challenge of a [known type](ChallengeType::KNOWN) for it. For a solver whose answer has to be
    /// there beforehand, such as the record of dns-persist-01. Where it fails, this solver is not
    /// taken for the identifier; with no other left, no order is made.
    ///
    /// It MUST end by itself.
    async fn check(
        &self,
        _identifier: &Identifier,
        _account: &AccountContext,
    ) -> Result<(), BoxError> {
        Ok(())
    }

    /// Makes the answer visible.
    ///
    /// It SHOULD be quick: what must be waited for belongs in [`wait`](Self::wait). Where it fails,
    /// or its future is dropped halfway, `clean_up` is called all the same. A solver that has all
    /// of its answer in [`response`](Self::response) presents nothing.
    ///
    /// It MUST succeed where the same answer is there already: a process that was killed may have
    /// left it, and an issuance that is [resumed](crate::Account::resume) presents it again.
    async fn present(&self, presentation: &Presentation) -> Result<(), BoxError>;

    /// Waits until the CA can see the answer, where that takes time or is worth a check.
    ///
    /// It MUST end by itself, with an error that says what is not to be seen. A failed validation
    /// costs an order, and CAs limit how many may fail: it is better to fail here.
    async fn wait(&self, _presentation: &Presentation) -> Result<(), BoxError> {
        Ok(())
    }

    /// What is sent to the CA to say that the challenge is ready (RFC 8555 §7.5.1). By default `{}`,
    /// as RFC 8555's own types and the DNS types have it.
    ///
    /// Other types prove control by what is sent: device-attest-01 by an attestation, onion-csr-01 by
    /// a CSR, tkauth-01 by a token.
    async fn response(&self, _presentation: &Presentation) -> Result<ChallengeResponse, BoxError> {
        Ok(ChallengeResponse::empty())
    }

    /// Takes the answer away.
    ///
    /// It is called once for each call of `present`: after success, after failure of any challenge
    /// of the order, and (in a task of its own) when the caller drops the issuance. It SHOULD end by
    /// itself; an issuance gives it some time
    /// ([`Issuance::clean_up_timeout`](crate::issuance::Issuance::clean_up_timeout)), and then
    /// reports the answer as left behind.
    ///
    /// What was left behind may be taken away later, by another instance of the solver, perhaps in
    /// another process, with a [`Presentation`] that was stored in between: in a [`Leftover`], or in
    /// the checkpoint of an issuance that is resumed. So it MUST NOT depend on
    /// what `present` has kept in memory, where the answer itself is elsewhere. It MUST succeed
    /// where there is nothing to take away, and MUST leave alone what others have presented.
    async fn clean_up(&self, presentation: &Presentation) -> Result<(), BoxError>;
}
