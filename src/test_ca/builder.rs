use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpListener;

use super::TestCa;
use super::ca::Ca;
use super::custom_challenge::CustomChallenge;
#[cfg(feature = "dns-01")]
use super::dns::DnsPersist;
use super::faults::{Faults, Injection};
use super::issuer::Issuer;
use super::nonces::Nonces;
use super::random::Random;
use super::settings::{BadChain, Issuance, RetryAfter, Settings, Validation};
use super::{Handle, crl, server};
use crate::error::BoxError;
use crate::provider::crypto_provider;

/// How a [`TestCa`] shall behave. Most of it can be changed while it runs, too.
#[derive(Clone, Debug)]
#[must_use = "nothing runs before `start`"]
pub struct TestCaBuilder {
    advertised: Option<SocketAddr>,
    pub(super) alternate_chains: usize,
    bind: SocketAddr,
    pub(super) distributes_crl: bool,
    pub(super) injections: Vec<Injection>,
    rejected_nonces: f64,
    seed: u64,
    pub(super) settings: Settings,
}

impl TestCaBuilder {
    pub(super) fn new() -> Self {
        Self {
            advertised: None,
            alternate_chains: 0,
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            distributes_crl: false,
            injections: Vec::new(),
            rejected_nonces: 0.0,
            seed: 0,
            settings: Settings::default(),
        }
    }

    /// Starts the CA.
    ///
    /// It must be called within a tokio runtime that has I/O and time enabled.
    pub async fn start(self) -> Result<TestCa, StartError> {
        if !self.bind.ip().is_loopback() {
            return Err(StartError::NotLoopback(self.bind));
        }
        let provider = crypto_provider().ok_or(StartError::NoProvider)?;
        let random = Random::new(Arc::clone(&provider));
        let mut issuer = Issuer::generate(random.clone(), self.alternate_chains)
            .map_err(StartError::Certificate)?;
        let (certificate, key) = issuer
            .tls_identity(self.bind.ip())
            .map_err(StartError::Certificate)?;
        let tls = server::tls_acceptor(provider, certificate, key)?;

        let bind = |source| StartError::Bind {
            address: self.bind,
            source,
        };
        let listener = TcpListener::bind(self.bind).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let crl_listener = match self.distributes_crl {
            true => {
                let any_port = SocketAddr::new(address.ip(), 0);
                let listener = TcpListener::bind(any_port).await.map_err(bind)?;
                let address = listener.local_addr().map_err(bind)?;
                issuer.distribute_crl(format!("http://{address}{}", crl::PATH));
                Some(listener)
            }
            false => None,
        };

        let mut nonces = Nonces::new(self.seed);
        nonces.reject(self.rejected_nonces);
        let base = format!("https://{}", self.advertised.unwrap_or(address));
        let faults = Faults::new(self.seed, self.injections);
        let ca = Arc::new(Ca::new(base, random, issuer, nonces, faults, self.settings));
        ca.tasks
            .spawn(server::run(Arc::clone(&ca), listener, Some(tls)));
        if let Some(listener) = crl_listener {
            ca.tasks.spawn(server::run(Arc::clone(&ca), listener, None));
        }
        tracing::debug!(%address, "a test CA has started");
        Ok(TestCa(Arc::new(Handle { ca, address })))
    }

    /// Where to listen. It must be a loopback address, since anybody gets certificates here. A port
    /// of 0 is one that is free.
    ///
    /// By default 127.0.0.1 and port 0.
    pub fn bind(mut self, address: SocketAddr) -> Self {
        self.bind = address;
        self
    }

    /// The address that all URLs name, for clients that reach the CA through a proxy or a forwarded
    /// port. The CA's own site has a certificate for the address of [`bind`](Self::bind), so the
    /// two differ in the port at most.
    ///
    /// By default that where the CA listens.
    pub fn advertise(mut self, address: SocketAddr) -> Self {
        self.advertised = Some(address);
        self
    }

    /// Seeds what is left to chance: the choice of the nonces that are
    /// [rejected](Self::reject_nonces), and of the requests that a
    /// [share](super::Injection::share) of faults is for. By default 0.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Answers a share of the requests with `badNonce` although their nonce is good: of 0.5, every
    /// other one; of 1, all of them. By default 0.
    pub fn reject_nonces(mut self, share: f64) -> Self {
        self.rejected_nonces = share;
        self
    }

    /// Waits this long before each reply goes out. Requests wait side by side. By default not at
    /// all.
    pub fn latency(mut self, latency: Duration) -> Self {
        self.settings.latency = latency;
        self
    }

    /// The port at which http-01 challenges are validated, in place of 80. By default 5002.
    pub fn http01_port(mut self, port: u16) -> Self {
        self.settings.http01_port = port;
        self
    }

    /// The port at which tls-alpn-01 challenges are validated, in place of 443. By default 5001.
    pub fn tls_alpn01_port(mut self, port: u16) -> Self {
        self.settings.tls_alpn01_port = port;
        self
    }

    /// The address at which a DNS name is validated: a loopback address, or else validation fails.
    ///
    /// By default every name has the address 127.0.0.1, or where there is a resolver, the one that it
    /// gives.
    pub fn resolve(mut self, name: impl AsRef<str>, address: IpAddr) -> Self {
        self.settings.resolve(name.as_ref(), address);
        self
    }

    /// The name server that the CA asks, which has to look things up for others where a name leads to
    /// another server's zone. A loopback address, or else validation fails.
    ///
    /// With one, the CA offers dns-01 and dns-account-01, and validates them. By default it has none,
    /// and offers dns-01 for wildcards only, which can but fail.
    #[cfg(feature = "dns-01")]
    pub fn resolver(mut self, address: SocketAddr) -> Self {
        self.settings.dns.resolver = Some(address);
        self
    }

    /// Offers dns-persist-01, too, in this version, where there is a [resolver](Self::resolver).
    #[cfg(feature = "dns-01")]
    pub fn dns_persist(mut self, version: DnsPersist) -> Self {
        self.settings.dns.persist = Some(version);
        self
    }

    /// When a client learns how a validation ended. By default at its next look.
    pub fn validation(mut self, validation: Validation) -> Self {
        self.settings.validation = validation;
        self
    }

    /// How long a validation may take, a day at the most. By default 5 seconds.
    pub fn validation_timeout(mut self, timeout: Duration) -> Self {
        self.settings.validation_timeout = timeout;
        self
    }

    /// When a finalized order becomes `valid`. By default at once.
    pub fn issuance(mut self, issuance: Issuance) -> Self {
        self.settings.issuance = issuance;
        self
    }

    /// The `Retry-After` of replies about orders and authorizations that are still in the works, or
    /// `None` to send none. By default 1 second.
    pub fn retry_after(mut self, retry_after: impl Into<Option<RetryAfter>>) -> Self {
        self.settings.retry_after = retry_after.into();
        self
    }

    /// Offers a type of challenge that the test validates by itself; of two of the same type, the
    /// last. One of the CA's own types takes the place of that: with a `dns-01`, wildcards can be
    /// validated.
    pub fn challenge(mut self, challenge: CustomChallenge) -> Self {
        let challenges = &mut self.settings.custom_challenges;
        challenges.retain(|other| other.kind() != challenge.kind());
        challenges.push(challenge);
        self
    }

    /// Refuses orders for a name and those below it, with `rejectedIdentifier`.
    pub fn block(mut self, name: impl AsRef<str>) -> Self {
        self.settings.block(name.as_ref());
        self
    }

    /// Whether an order takes over the account's valid authorizations, as at Let's Encrypt, so that
    /// it may be `ready` from the start. By default each order has new ones.
    pub fn reuse_authorizations(mut self, reuse: bool) -> Self {
        self.settings.reuses_authorizations = reuse;
        self
    }

    /// Has all downloads of certificates be wrong in this way, or right again for `None`.
    pub fn bad_chain(mut self, bad_chain: impl Into<Option<BadChain>>) -> Self {
        self.settings.bad_chain = bad_chain.into();
        self
    }

    /// How long certificates are valid, counted from their issuance. By default 90 days.
    pub fn certificate_lifetime(mut self, lifetime: Duration) -> Self {
        self.settings.certificate_lifetime = lifetime;
        self
    }
}

/// A [`TestCa`] could not be started.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address can't be listened on.
    #[error("can't listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The CA's own certificates could not be made.
    #[error("the CA's certificates could not be made: {0}")]
    Certificate(#[source] BoxError),
    /// No rustls crypto provider is there.
    #[error("TLS needs the feature `aws-lc-rs` or `ring`, or an installed rustls CryptoProvider")]
    NoProvider,
    /// The address could be reached from other machines.
    #[error("{0} is not a loopback address, and a test CA must not be reachable from elsewhere")]
    NotLoopback(SocketAddr),
    /// TLS could not be set up.
    #[error("TLS could not be set up: {0}")]
    Tls(#[from] rustls::Error),
}
