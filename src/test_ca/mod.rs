//! An ACME CA inside the process, for tests: it validates http-01 for real, issues certificates, and
//! keeps a log of every request.

mod accounts;
mod authorizations;
mod builder;
mod ca;
mod certificates;
mod issuer;
mod log;
mod nonces;
mod orders;
mod random;
#[cfg(test)]
mod raw_client;
mod reply;
mod request;
mod route;
mod server;
mod settings;
mod state;
mod tasks;
#[cfg(test)]
mod tests;
mod validation;

pub use self::builder::{StartError, TestCaBuilder};
pub use self::log::LoggedRequest;
pub use self::route::ResourceKind;
pub use self::settings::{Issuance, RetryAfter, Validation};

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

    /// The URL of the ACME directory: all that a client needs, next to [`root_pem`](Self::root_pem).
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
