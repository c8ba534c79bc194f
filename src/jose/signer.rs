use std::fmt;

use async_trait::async_trait;
use thiserror::Error;

use super::{AccountKey, Jwk, SignatureAlgorithm};
use crate::error::BoxError;

/// A key that can sign ACME requests.
///
/// [`AccountKey`] is one that is held in memory. Implement this trait for a key that is held
/// elsewhere, by a KMS or an HSM:
///
/// ```
/// use certwright::BoxError;
/// use certwright::jose::{Jwk, SignatureAlgorithm, Signer, fixed_width_signature};
/// # #[derive(Debug)] struct Kms;
/// # impl Kms { async fn sign(&self, _: &str, _: &[u8]) -> Result<Vec<u8>, BoxError> { Ok(vec![]) } }
///
/// #[derive(Debug)]
/// struct KmsSigner {
///     kms: Kms,
///     key_name: String,
///     public_key: Jwk,
/// }
///
/// #[async_trait::async_trait]
/// impl Signer for KmsSigner {
///     fn algorithm(&self) -> SignatureAlgorithm {
///         SignatureAlgorithm::Es256
///     }
///
///     fn public_key(&self) -> &Jwk {
///         &self.public_key
///     }
///
///     async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, BoxError> {
///         let der = self.kms.sign(&self.key_name, message).await?;
///         Ok(fixed_width_signature(&der, &self.algorithm())?)
///     }
/// }
/// ```
#[async_trait]
pub trait Signer: fmt::Debug + Send + Sync + 'static {
    /// The algorithm that [`sign`](Self::sign) uses.
    fn algorithm(&self) -> SignatureAlgorithm;

    /// The public key.
    fn public_key(&self) -> &Jwk;

    /// Signs a message: hashes it as the algorithm says, and signs the hash.
    ///
    /// An ECDSA signature MUST be r‖s, each padded on the left to the width of the curve, never DER
    /// (RFC 7518 §3.4): see [`fixed_width_signature`](super::fixed_width_signature).
    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, BoxError>;

    /// The key itself, where it is held in memory and so can be stored with the account.
    fn account_key(&self) -> Option<&AccountKey> {
        None
    }
}

/// A request could not be signed.
#[derive(Debug, Error)]
#[error("the signer failed: {source}")]
pub struct SigningError {
    source: BoxError,
}

impl SigningError {
    pub(crate) fn new(source: BoxError) -> Self {
        Self { source }
    }
}
