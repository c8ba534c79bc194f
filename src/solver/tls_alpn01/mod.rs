//! Solvers for tls-alpn-01 (RFC 8737; for IP addresses RFC 8738 §4).

mod live_certificates;
mod resolver;
mod server;

use thiserror::Error;

use crate::x509::InvalidAcmeCertificate;

pub use self::resolver::{TlsAlpn01Resolver, TlsAlpn01SetupError};
pub use self::server::{TlsAlpn01BindError, TlsAlpn01Server};

/// Why a tls-alpn-01 solver could not present a challenge.
///
/// The solvers' [`BoxError`](crate::BoxError)s hold values of this type.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsAlpn01Error {
    /// The certificate for the challenge could not be made: its identifier can't be proved so, most
    /// likely.
    #[error(transparent)]
    Certificate(#[from] InvalidAcmeCertificate),
    /// rustls does not take the certificate's key.
    #[error("the key of the challenge's certificate can't be used: {0}")]
    Key(#[source] rustls::Error),
    /// No rustls crypto provider is there to sign by.
    #[error(
        "the challenge can't be answered in TLS: enable the feature `aws-lc-rs` or `ring`, or \
         install a rustls CryptoProvider"
    )]
    NoProvider,
    /// The challenge has no token, although tls-alpn-01 demands one (RFC 8737 §3).
    #[error("the challenge has no token (RFC 8737 §3)")]
    NoToken,
}

#[cfg(test)]
mod testing {
    use crate::jose::{AccountKey, Signer, Thumbprint};
    use crate::protocol::{Challenge, ChallengeType, Url};
    use crate::solver::Presentation;

    pub(super) const TOKEN: &str = "DGyRejmCefe7v4NfDGDKfADGyRejmCef";

    pub(super) fn thumbprint() -> Thumbprint {
        AccountKey::generate().unwrap().public_key().thumbprint()
    }

    pub(super) fn presentation(name: &str) -> Presentation {
        presentation_of(name, Some(TOKEN), &thumbprint())
    }

    pub(super) fn presentation_of(
        name: &str,
        token: Option<&str>,
        thumbprint: &Thumbprint,
    ) -> Presentation {
        let url = |path: &str| Url::parse(&format!("https://ca.example/{path}")).unwrap();
        let challenge = Challenge::pending(
            ChallengeType::TlsAlpn01,
            url("challenge/1"),
            token.map(str::to_owned),
        );
        Presentation::new(
            name.parse().unwrap(),
            challenge,
            url("account/1"),
            thumbprint,
        )
        .unwrap()
    }
}
