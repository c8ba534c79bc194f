use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use rustls::ServerConfig;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use thiserror::Error;
use tracing::debug;

use super::live_certificates::LiveCertificates;
use crate::error::BoxError;
use crate::protocol::{ChallengeType, Identifier};
use crate::provider::crypto_provider;
use crate::solver::{ChallengeSolver, Presentation};

/// Solves tls-alpn-01 (RFC 8737) in a rustls server that the program runs on port 443 anyway.
///
/// It stands before the server's own certificates. A client that offers the protocol `acme-tls/1`
/// and no other gets the certificate of the challenge that is being presented for the name it asks
/// for, or a failed handshake if there is none; every other client gets what the server's own
/// resolver says, as ever. Neither ever sees the other's certificate.
///
/// Clones share the live challenges: one clone goes to the issuance as its solver, another into the
/// server. There are two ways to put it in:
///
/// * [`install`](Self::install) changes the server's configuration, and is all there is to do for a
///   server that lists its protocols (ALPN), as those for HTTP/2 do. A connection for which
///   [`is_challenge`](Self::is_challenge) says yes once the handshake is over has no more to say,
///   and is to be closed;
/// * [`challenge_config`](Self::challenge_config) is a configuration of its own for the connections
///   of the CA, by which the server goes on where [`is_asked_by`](Self::is_asked_by) says yes of a
///   client's first message. The server's own configuration stays as it is. It takes a server that
///   looks at that message before it answers, by [`rustls::server::Acceptor`] or by what wraps it,
///   such as `LazyConfigAcceptor` of tokio-rustls.
///
/// A server that has no certificate of its own yet needs a resolver that says so by answering
/// `None`: handshakes of users fail then, and those of the CA succeed. `examples/tls_alpn01.rs` is
/// such a server.
///
/// The CA connects to port 443 of the name or address that it validates, over IPv6 first where the
/// name has an AAAA record. What stands in front of the server may forward connections, but must not
/// end TLS itself.
///
/// ```
/// use std::sync::Arc;
///
/// use certwright::solver::TlsAlpn01Resolver;
/// use rustls::ServerConfig;
/// use rustls::server::ResolvesServerCertUsingSni;
///
/// # #[cfg(feature = "aws-lc-rs")]
/// # let builder = ServerConfig::builder_with_provider(
/// #     rustls::crypto::aws_lc_rs::default_provider().into());
/// # #[cfg(not(feature = "aws-lc-rs"))]
/// # let builder = ServerConfig::builder_with_provider(
/// #     rustls::crypto::ring::default_provider().into());
/// # let builder = builder.with_safe_default_protocol_versions()?;
/// // As the server is set up without the solver; the builder is `ServerConfig::builder()`.
/// let mut config = builder
///     .with_no_client_auth()
///     .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
/// config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
///
/// let solver = TlsAlpn01Resolver::install(&mut config)?;
/// assert!(config.alpn_protocols.iter().any(|name| name == b"acme-tls/1"));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct TlsAlpn01Resolver {
    live: Arc<LiveCertificates>,
    /// Never this type itself, which has no way to be put here but through a caller's own wrapping.
    own: Arc<dyn ResolvesServerCert>,
}

impl TlsAlpn01Resolver {
    /// The name of the protocol in ALPN (RFC 8737 §6.2).
    pub const PROTOCOL: &[u8] = b"acme-tls/1";

    /// Stands before the certificates of a server.
    ///
    /// What it makes goes into [`ServerConfig::cert_resolver`], where
    /// [`install`](Self::install) puts it by itself. There `acme-tls/1` must be among the
    /// protocols as well.
    pub fn new(own: Arc<dyn ResolvesServerCert>) -> Self {
        Self {
            live: Arc::default(),
            own,
        }
    }

    /// Puts a new resolver before the certificates of a server's configuration, and `acme-tls/1`
    /// behind its protocols. What comes back is the solver.
    ///
    /// # Errors
    ///
    /// Fails, and changes nothing, if the configuration lists no protocols. Then the server takes
    /// clients whatever they offer, and would refuse all that offer any once `acme-tls/1` stood on
    /// the list alone. Either list what the server speaks, such as `http/1.1`, first; or leave the
    /// configuration alone, and use [`challenge_config`](Self::challenge_config).
    pub fn install(config: &mut ServerConfig) -> Result<Self, TlsAlpn01SetupError> {
        if config.alpn_protocols.is_empty() {
            return Err(TlsAlpn01SetupError::NoProtocols);
        }
        let resolver = Self::new(Arc::clone(&config.cert_resolver));
        config.cert_resolver = Arc::new(resolver.clone());
        if !config
            .alpn_protocols
            .iter()
            .any(|name| name == Self::PROTOCOL)
        {
            config.alpn_protocols.push(Self::PROTOCOL.to_vec());
        }
        Ok(resolver)
    }

    /// A configuration for connections of the CA and nobody else: TLS 1.2 and 1.3, `acme-tls/1`
    /// alone, no resumption.
    ///
    /// Make it once, and use it where [`is_asked_by`](Self::is_asked_by) says yes.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use certwright::solver::TlsAlpn01Resolver;
    /// use rustls::ServerConfig;
    /// use rustls::server::Accepted;
    ///
    /// fn config_for(
    ///     accepted: &Accepted,
    ///     challenges: &Arc<ServerConfig>,
    ///     own: &Arc<ServerConfig>,
    /// ) -> Arc<ServerConfig> {
    ///     match TlsAlpn01Resolver::is_asked_by(&accepted.client_hello()) {
    ///         true => challenges.clone(),
    ///         false => own.clone(),
    ///     }
    /// }
    ///
    /// let solver = TlsAlpn01Resolver::default();
    /// let challenges: Arc<ServerConfig> = solver.challenge_config()?;
    /// # Ok::<_, certwright::solver::TlsAlpn01SetupError>(())
    /// ```
    pub fn challenge_config(&self) -> Result<Arc<ServerConfig>, TlsAlpn01SetupError> {
        let provider = crypto_provider().ok_or(TlsAlpn01SetupError::NoProvider)?;
        let only_challenges = Self {
            live: Arc::clone(&self.live),
            own: Arc::new(NoCertificates),
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsAlpn01SetupError::Tls)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(only_challenges));
        config.alpn_protocols = vec![Self::PROTOCOL.to_vec()];
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Arc::new(config))
    }

    /// Whether a client's first message comes from a CA that validates: it offers `acme-tls/1`, and
    /// nothing else (RFC 8737 §3).
    pub fn is_asked_by(client_hello: &ClientHello<'_>) -> bool {
        matches!(Offer::of(client_hello), Offer::Challenge)
    }

    /// Whether a connection, its handshake done, is one of a CA that has validated.
    ///
    /// It carries no data, so the server should close it (RFC 8737 §3). The argument is what
    /// [`rustls::ServerConnection`] dereferences to: `is_challenge(&connection)` it is, and
    /// `is_challenge(stream.get_ref().1)` for a `TlsStream` of tokio-rustls.
    pub fn is_challenge(connection: &rustls::CommonState) -> bool {
        connection.alpn_protocol() == Some(Self::PROTOCOL)
    }
}

/// Before a server that has no certificates: every client that is not a CA is turned away.
impl Default for TlsAlpn01Resolver {
    fn default() -> Self {
        Self::new(Arc::new(NoCertificates))
    }
}

#[async_trait]
impl ChallengeSolver for TlsAlpn01Resolver {
    fn can_solve(&self, identifier: &Identifier, challenge_type: &ChallengeType) -> bool {
        *challenge_type == ChallengeType::TlsAlpn01 && challenge_type.can_validate(identifier)
    }

    async fn present(&self, presentation: &Presentation) -> Result<(), BoxError> {
        Ok(self.live.add(presentation, SystemTime::now())?)
    }

    async fn clean_up(&self, presentation: &Presentation) -> Result<(), BoxError> {
        self.live.remove(presentation);
        Ok(())
    }
}

impl ResolvesServerCert for TlsAlpn01Resolver {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        match Offer::of(&client_hello) {
            Offer::Other => self.own.resolve(client_hello),
            Offer::Challenge => {
                let name = client_hello.server_name()?.to_ascii_lowercase();
                let found = self.live.certified_key(&name);
                debug!(%name, live = found.is_some(), "asked for the certificate of a challenge");
                found
            }
            // The server would speak `acme-tls/1` where it has none of the others, and it is not
            // known yet whether it has. No CA offers this, and neither does any user.
            Offer::Mixed => {
                debug!("a client offers acme-tls/1 together with other protocols");
                None
            }
        }
    }
}

/// Why a server could not be set up for tls-alpn-01.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsAlpn01SetupError {
    /// The server's configuration lists no protocols.
    #[error(
        "the server's configuration has no ALPN protocols, so acme-tls/1 would shut out all \
         clients that offer any: list what the server speaks, such as http/1.1, or use \
         TlsAlpn01Resolver::challenge_config"
    )]
    NoProtocols,
    /// No rustls crypto provider is there.
    #[error("TLS needs the feature `aws-lc-rs` or `ring`, or an installed rustls CryptoProvider")]
    NoProvider,
    /// rustls refuses the configuration.
    #[error("TLS can't be set up: {0}")]
    Tls(#[source] rustls::Error),
}

/// What a client offers to speak.
enum Offer {
    /// `acme-tls/1` only, as CAs do.
    Challenge,
    /// `acme-tls/1` and something else.
    Mixed,
    /// Anything but `acme-tls/1`, or nothing.
    Other,
}

impl Offer {
    fn of(client_hello: &ClientHello<'_>) -> Self {
        let (mut challenge, mut other) = (false, false);
        for protocol in client_hello.alpn().into_iter().flatten() {
            match protocol == TlsAlpn01Resolver::PROTOCOL {
                true => challenge = true,
                false => other = true,
            }
        }
        match (challenge, other) {
            (true, false) => Self::Challenge,
            (true, true) => Self::Mixed,
            (false, _) => Self::Other,
        }
    }
}

struct NoCertificates;

impl ResolvesServerCert for NoCertificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

impl fmt::Debug for NoCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NoCertificates")
    }
}
