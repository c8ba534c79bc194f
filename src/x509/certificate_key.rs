use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::error::BoxError;
use crate::jose::{InvalidKey, Jwk, KeyType, PrivateKey, SignatureAlgorithm, Signer};

/// A certificate's key, held in memory.
///
/// ECDSA on P-256 by default. Clones share the key, which is zeroized with the last of them.
///
/// ```
/// use certwright::x509::CertificateKey;
///
/// let key = CertificateKey::generate()?;
/// let stored = key.to_pkcs8_pem()?;
/// let restored = CertificateKey::from_pkcs8_pem(&stored)?;
/// assert_eq!(restored.public_key_info(), key.public_key_info());
/// # Ok::<_, certwright::jose::InvalidKey>(())
/// ```
#[derive(Clone)]
pub struct CertificateKey {
    private: Arc<PrivateKey>,
    public: Arc<Jwk>,
    public_key_info: Arc<[u8]>,
}

impl CertificateKey {
    /// Generates a key on P-256, which every CA and every browser takes.
    pub fn generate() -> Result<Self, InvalidKey> {
        PrivateKey::generate().and_then(Self::new)
    }

    /// Generates a key of a type. Ed25519 is refused: no public CA issues certificates for it.
    ///
    /// RSA keys take long, and block the thread: see [`KeyType`].
    pub fn generate_with(key_type: KeyType) -> Result<Self, InvalidKey> {
        PrivateKey::generate_for_certificate(key_type).and_then(Self::new)
    }

    /// Reads a key from PEM, in any of the forms that other programs write: PKCS#8 (`PRIVATE KEY`),
    /// SEC1 (`EC PRIVATE KEY`) and PKCS#1 (`RSA PRIVATE KEY`).
    ///
    /// RSA keys of less than 2048 bits are refused, as CAs refuse them.
    pub fn from_pem(pem: &str) -> Result<Self, InvalidKey> {
        PrivateKey::from_pem(pem).and_then(Self::new)
    }

    /// Reads a key from PKCS#8 in PEM.
    pub fn from_pkcs8_pem(pem: &str) -> Result<Self, InvalidKey> {
        PrivateKey::from_pkcs8_pem(pem).and_then(Self::new)
    }

    /// The key as PKCS#8 in PEM. A secret.
    pub fn to_pkcs8_pem(&self) -> Result<Zeroizing<String>, InvalidKey> {
        self.private.to_pkcs8_pem()
    }

    /// The key as rustls takes it. A secret.
    pub fn to_private_key_der(&self) -> Result<PrivateKeyDer<'static>, InvalidKey> {
        let der = self.private.to_pkcs8_der()?;
        Ok(PrivatePkcs8KeyDer::from(der.to_vec()).into())
    }

    /// The public key as a DER `SubjectPublicKeyInfo` (RFC 5280 §4.1.2.7).
    pub fn public_key_info(&self) -> &[u8] {
        &self.public_key_info
    }

    pub(super) fn private(&self) -> &PrivateKey {
        &self.private
    }

    fn new(private: PrivateKey) -> Result<Self, InvalidKey> {
        Ok(Self {
            public: Arc::new(private.public_key()?),
            public_key_info: private.public_key_info()?.into(),
            private: Arc::new(private),
        })
    }
}

/// A certificate's key signs one kind of request: the revocation of its certificate (RFC 8555 §7.6).
#[async_trait]
impl Signer for CertificateKey {
    fn algorithm(&self) -> SignatureAlgorithm {
        self.private.algorithm()
    }

    fn public_key(&self) -> &Jwk {
        &self.public
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, BoxError> {
        self.private.sign(message)
    }
}

impl fmt::Debug for CertificateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateKey").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generates_what_browsers_take() {
        let first = CertificateKey::generate_with(KeyType::default()).unwrap();
        let second = CertificateKey::generate_with(KeyType::P256).unwrap();
        assert_ne!(first.public_key_info(), second.public_key_info());
        #[cfg(feature = "ed25519")]
        assert_eq!(
            CertificateKey::generate_with(KeyType::Ed25519)
                .unwrap_err()
                .to_string(),
            "the private key is unusable: keys of the type Ed25519 are for accounts, not for \
             certificates"
        );
    }
}
