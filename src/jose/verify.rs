//! Verification of signatures, by the algorithms of the TLS provider that is in the process anyway.

use rustls::pki_types::alg_id;
use thiserror::Error;

use super::ecdsa::der_signature;
use super::{EcCurve, Jwk, SignatureAlgorithm};
use crate::provider::crypto_provider;

impl Jwk {
    /// Verifies a signature, in JWS's form, by this public key.
    pub fn verify(
        &self,
        algorithm: &SignatureAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), SignatureFault> {
        let (key_id, signature_id) = match (self, algorithm) {
            (
                Self::Ec {
                    curve: EcCurve::P256,
                    ..
                },
                SignatureAlgorithm::Es256,
            ) => (alg_id::ECDSA_P256, alg_id::ECDSA_SHA256),
            (
                Self::Ec {
                    curve: EcCurve::P384,
                    ..
                },
                SignatureAlgorithm::Es384,
            ) => (alg_id::ECDSA_P384, alg_id::ECDSA_SHA384),
            (
                Self::Ec {
                    curve: EcCurve::P521,
                    ..
                },
                SignatureAlgorithm::Es512,
            ) => (alg_id::ECDSA_P521, alg_id::ECDSA_SHA512),
            (Self::Rsa { .. }, SignatureAlgorithm::Rs256) => {
                (alg_id::RSA_ENCRYPTION, alg_id::RSA_PKCS1_SHA256)
            }
            (Self::Ed25519 { .. }, SignatureAlgorithm::EdDsa) => (alg_id::ED25519, alg_id::ED25519),
            _ => return Err(SignatureFault::Unsupported),
        };
        let der = match self {
            Self::Ec { curve, .. } => {
                &der_signature(signature, *curve).map_err(|_| SignatureFault::Wrong)?
            }
            _ => signature,
        };
        let key = self
            .public_key_octets()
            .map_err(|_| SignatureFault::Wrong)?;
        verify_signature(&key_id, &signature_id, &key, message, der)
    }
}

/// Verifies a signature, in X.509's form.
///
/// The ids are the contents of DER `AlgorithmIdentifier`s, without tag and length.
pub(crate) fn verify_signature(
    key_id: &[u8],
    signature_id: &[u8],
    public_key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), SignatureFault> {
    let provider = crypto_provider().ok_or(SignatureFault::NoProvider)?;
    provider
        .signature_verification_algorithms
        .all
        .iter()
        .find(|algorithm| {
            algorithm.public_key_alg_id().as_ref() == key_id
                && algorithm.signature_alg_id().as_ref() == signature_id
        })
        .ok_or(SignatureFault::Unsupported)?
        .verify_signature(public_key, message, signature)
        .map_err(|_| SignatureFault::Wrong)
}

/// Why a signature does not count.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum SignatureFault {
    /// No rustls crypto provider is there to verify by.
    #[error(
        "no signature can be verified: enable the feature `aws-lc-rs` or `ring`, or install a \
         rustls CryptoProvider"
    )]
    NoProvider,
    /// The algorithm does not fit the key, or the crypto provider does not have it.
    #[error("the signature's algorithm is not supported with this key")]
    Unsupported,
    /// The signature was not made by this key over this message.
    #[error("the signature is wrong")]
    Wrong,
}
