//! An ACME CA inside the process, for tests.
//!
//! A [`TestCa`] is a whole CA on a loopback port: https with HTTP/1.1 and HTTP/2, every request
//! checked as strictly as Let's Encrypt does it, http-01 and tls-alpn-01 challenges validated by
//! real connections, and certificates that verify against its [root](TestCa::root_pem). It is for
//! the tests of certwright, and of any program that obtains certificates by ACME, through certwright
//! or not. It needs no installation, no container and no fixed port, and any number of them run side
//! by side.
//!
//! Nothing here is fit for certificates that anybody shall trust: keys are made at start and
//! forgotten at the end.
//!
//! # Testing a program
//!
//! A program under test needs three settings: the URL of the directory, the root certificate to
//! trust, and the port where it answers http-01 challenges, which is where the CA is told to look
//! (for tls-alpn-01 it is [`TestCaBuilder::tls_alpn01_port`]).
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use certwright::test_ca::{ResourceKind, TestCa};
//!
//! # async fn run_program(_directory: &str, _root: &str) {}
//! // The port at which the program under test answers http-01 challenges.
//! let http_port = 8080;
//! let ca = TestCa::builder().http01_port(http_port).start().await?;
//!
//! run_program(&ca.directory_url(), ca.root_pem()).await;
//!
//! // What the CA saw tells how the program behaved.
//! let refused = ca.requests().into_iter().filter(|request| request.problem.is_some());
//! assert_eq!(refused.count(), 0);
//! assert!(ca.count(ResourceKind::NewAccount) <= 1);
//! # Ok(())
//! # }
//! ```
//!
//! Every DNS name has the address 127.0.0.1 for the CA, so names such as `www.example.com` can be
//! ordered without any DNS server. [`TestCaBuilder::resolve`] gives single names other loopback
//! addresses. An order for the IP address 127.0.0.1 works too. Wildcards can be ordered but not
//! had: they take dns-01, and this CA has no resolver.
//!
//! # Exact counts of requests
//!
//! In its default settings the CA leaves nothing to chance: an order for *n* identifiers takes a
//! perfect client 2*n* + 4 requests, not counting those for a nonce and an account. The client
//! never finds a validation unfinished when it asks ([`Validation::BeforeNextLook`]), and finalize
//! issues at once ([`Issuance::AtOnce`]). To have a client wait and poll, choose other values. To
//! see whether it works side by side, give the CA some [latency](TestCaBuilder::latency) and look
//! at [`TestCa::max_in_flight`].
//!
//! # What goes wrong in life
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use certwright::test_ca::{BadChain, Issuance, RetryAfter, TestCa};
//!
//! let ca = TestCa::builder()
//!     // Half of all nonces are refused, the same ones in each run.
//!     .reject_nonces(0.5)
//!     .seed(7)
//!     // Issuing takes a while, and the client is told to come back in 2 seconds.
//!     .issuance(Issuance::AfterLooks(2))
//!     .retry_after(RetryAfter::Date(Duration::from_secs(2)))
//!     .block("forbidden.example")
//!     .start()
//!     .await?;
//!
//! // All of it can be changed while the CA runs.
//! ca.reject_nonces(0.0);
//! ca.set_bad_chain(BadChain::OtherKey);
//! # Ok(())
//! # }
//! ```
//!
//! Any request can be made to fail, before the CA acts or after; see [`Fault`]. What the CA has made
//! of it all is told by [`TestCa::accounts`], [`TestCa::orders`] and others.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use certwright::test_ca::{Fault, ResourceKind, TestCa};
//!
//! let ca = TestCa::start().await?;
//! // The CA finalizes the first order, but the connection is reset before its reply.
//! ca.inject(Fault::Reset.on(ResourceKind::Finalize).nth(1).after_acting());
//! # Ok(())
//! # }
//! ```
//!
//! # What only some CAs do
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::{Duration, SystemTime};
//!
//! use certwright::jose::MacKey;
//! use certwright::test_ca::{RateLimit, ResourceKind, TestCa};
//!
//! let day = Duration::from_secs(24 * 3_600);
//! let ca = TestCa::builder()
//!     // Accounts need an external account binding.
//!     .external_account("kid-1", MacKey::parse("c2VjcmV0")?)
//!     .profile("shortlived", "Six days", 6 * day)
//!     .alternate_chains(2)
//!     // Orders may renew by themselves for a year: every minute, if they want to.
//!     .auto_renewal(Duration::from_secs(60), 365 * day)
//!     .crl(true)
//!     .start()
//!     .await?;
//!
//! // In the middle of a test, all certificates are to be renewed since yesterday, ...
//! let now = SystemTime::now();
//! ca.set_renewal_window(None, now - day..now, "https://ca.example/incident");
//! // ... the terms of service change, ...
//! ca.set_terms_of_service("https://ca.example/terms/2");
//! // ... and one order more is all that there will be today.
//! let limit = RateLimit::Per { requests: 1, period: day };
//! ca.set_rate_limit(ResourceKind::NewOrder, limit);
//! # Ok(())
//! # }
//! ```
//!
//! # As a program
//!
//! `cargo run --example test_ca --features test-ca` runs the CA for clients outside of the process.
//!
//! # What it has
//!
//! All of RFC 8555, of its challenges dns-01 where it has a resolver (with the feature `dns-01`, and
//! so are dns-account-01 and dns-persist-01); tls-alpn-01 (RFC 8737); challenges that the test
//! [validates by itself](CustomChallenge); IP identifiers (RFC 8738), renewal
//! information (RFC 9773), profiles (draft-ietf-acme-profiles), subdomains (RFC 9444), certificates
//! that renew by themselves (RFC 8739) and revocation lists (RFC 5280). Nothing expires but
//! certificates, their renewal, and rate limits.

mod accounts;
mod alternate_chains;
mod authorizations;
mod auto_renewal;
mod builder;
mod ca;
mod certificates;
mod crl;
mod custom_challenge;
mod dates;
mod directory;
#[cfg(feature = "dns-01")]
mod dns;
mod external_accounts;
mod faults;
mod inspection;
mod issuer;
mod log;
mod nonces;
mod order_lists;
mod orders;
mod policy;
mod pre_authorization;
mod profiles;
mod random;
mod rate_limits;
mod renewal_info;
mod reply;
mod request;
mod route;
mod server;
mod settings;
mod state;
mod subdomains;
mod tasks;
mod terms;
#[cfg(test)]
mod tests;
mod validation;

pub use self::builder::{StartError, TestCaBuilder};
pub use self::custom_challenge::{ChallengeAttempt, CustomChallenge};
#[cfg(feature = "dns-01")]
pub use self::dns::DnsPersist;
pub use self::faults::{Fault, Injection, PlayedFault};
pub use self::log::LoggedRequest;
pub use self::rate_limits::RateLimit;
pub use self::route::ResourceKind;
pub use self::settings::{BadChain, Issuance, RetryAfter, Validation};

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;

use self::ca::Ca;
use self::route::Route;

/// A running CA. Clones are the same CA, which stops with the last of them.
#[derive(Clone)]
pub struct TestCa(Arc<Handle>);

impl TestCa {
    /// Starts a CA that behaves as most of its kind do. See [`builder`](Self::builder) for others.
    pub async fn start() -> Result<Self, StartError> {
        Self::builder().start().await
    }

    /// A CA that behaves in another way.
    pub fn builder() -> TestCaBuilder {
        TestCaBuilder::new()
    }

    /// The URL of the ACME directory: all that a client needs, next to
    /// [`root_pem`](Self::root_pem).
    pub fn directory_url(&self) -> String {
        format!("{}{}", self.0.ca.base(), Route::Directory)
    }

    /// The root certificate in PEM. A client must trust it to speak to the CA; it is also the root
    /// of the certificates that the CA issues.
    pub fn root_pem(&self) -> &str {
        self.0.ca.issuer.root_pem()
    }

    /// The root certificate in DER, as rustls takes it.
    pub fn root(&self) -> &CertificateDer<'static> {
        self.0.ca.issuer.root()
    }

    /// Where the CA listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// All requests so far, in the order in which they came. At most the last 100,000.
    pub fn requests(&self) -> Vec<LoggedRequest> {
        self.0.ca.log.requests()
    }

    /// How many of [`requests`](Self::requests) are of a kind.
    pub fn count(&self, kind: ResourceKind) -> usize {
        self.0.ca.log.count(kind)
    }

    /// The most requests that the CA had in hand at once.
    pub fn max_in_flight(&self) -> usize {
        self.0.ca.log.max_in_flight()
    }

    /// Forgets all requests so far, and their [overlap](Self::max_in_flight).
    pub fn clear_requests(&self) {
        self.0.ca.log.clear();
    }

    /// See [`TestCaBuilder::reject_nonces`].
    pub fn reject_nonces(&self, share: f64) {
        self.0.ca.nonces().reject(share);
    }

    /// See [`TestCaBuilder::latency`].
    pub fn set_latency(&self, latency: Duration) {
        self.0.ca.settings().latency = latency;
    }

    /// See [`TestCaBuilder::http01_port`].
    pub fn set_http01_port(&self, port: u16) {
        self.0.ca.settings().http01_port = port;
    }

    /// See [`TestCaBuilder::tls_alpn01_port`].
    pub fn set_tls_alpn01_port(&self, port: u16) {
        self.0.ca.settings().tls_alpn01_port = port;
    }

    /// See [`TestCaBuilder::resolve`].
    pub fn resolve(&self, name: impl AsRef<str>, address: IpAddr) {
        self.0.ca.settings().resolve(name.as_ref(), address);
    }

    /// See [`TestCaBuilder::validation`].
    pub fn set_validation(&self, validation: Validation) {
        self.0.ca.settings().validation = validation;
    }

    /// See [`TestCaBuilder::issuance`].
    pub fn set_issuance(&self, issuance: Issuance) {
        self.0.ca.settings().issuance = issuance;
    }

    /// See [`TestCaBuilder::retry_after`].
    pub fn set_retry_after(&self, retry_after: impl Into<Option<RetryAfter>>) {
        self.0.ca.settings().retry_after = retry_after.into();
    }

    /// See [`TestCaBuilder::block`].
    pub fn block(&self, name: impl AsRef<str>) {
        self.0.ca.settings().block(name.as_ref());
    }

    /// See [`TestCaBuilder::reuse_authorizations`].
    pub fn reuse_authorizations(&self, reuse: bool) {
        self.0.ca.settings().reuses_authorizations = reuse;
    }

    /// See [`TestCaBuilder::bad_chain`].
    pub fn set_bad_chain(&self, bad_chain: impl Into<Option<BadChain>>) {
        self.0.ca.settings().bad_chain = bad_chain.into();
    }

    /// See [`TestCaBuilder::certificate_lifetime`].
    pub fn set_certificate_lifetime(&self, lifetime: Duration) {
        self.0.ca.settings().certificate_lifetime = lifetime;
    }

    /// Stops the CA and waits until its port is free again. Requests in hand are not answered.
    pub async fn shutdown(&self) {
        self.0.ca.tasks.shutdown().await;
    }
}

impl fmt::Debug for TestCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestCa")
            .field("address", &self.0.address)
            .finish_non_exhaustive()
    }
}

/// What the clones of a [`TestCa`] share. The CA's own tasks hold the CA, not this.
struct Handle {
    ca: Arc<Ca>,
    address: SocketAddr,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.ca.tasks.abort();
    }
}
