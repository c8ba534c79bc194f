use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use zeroize::Zeroizing;

use super::{InvalidKey, Jwk, KeyType, PrivateKey, SignatureAlgorithm, Signer};
use crate::error::BoxError;

/// An account's key, held in memory.
///
/// ECDSA on P-256 by default; P-384, RSA and Ed25519 with the features `p384`, `rsa` and `ed25519`.
/// Clones share the key, which is zeroized with the last of them.
///
/// ```
/// use certwright::jose::AccountKey;
///
/// let key = AccountKey::generate()?;
/// let stored = key.to_pkcs8_pem()?;
/// assert_eq!(AccountKey::from_pkcs8_pem(&stored)?, key);
/// # Ok::<_, certwright::jose::InvalidKey>(())
/// ```
#[derive(Clone)]
pub struct AccountKey {
    private: Arc<PrivateKey>,
    public: Jwk,
}

impl AccountKey {
    /// Generates a key on P-256, which every CA takes.
    pub fn generate() -> Result<Self, InvalidKey> {
        PrivateKey::generate().and_then(Self::new)
    }

    /// Generates a key of a type.
    ///
    /// RSA keys take long, and block the thread: see [`KeyType`].
    pub fn generate_with(key_type: KeyType) -> Result<Self, InvalidKey> {
        PrivateKey::generate_with(key_type).and_then(Self::new)
    }

    /// Reads a key from PEM, in any of the forms that other programs write: PKCS#8 (`PRIVATE KEY`),
    /// SEC1 (`EC PRIVATE KEY`) and PKCS#1 (`RSA PRIVATE KEY`).
    ///
    /// RSA keys of less than 2048 bits are refused, as CAs refuse them.
    pub fn from_pem(pem: &str) -> Result<Self, InvalidKey> {
        PrivateKey::from_pem(pem).and_then(Self::new)
    }

    /// Reads a key from PKCS#8 in DER.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, InvalidKey> {
        PrivateKey::from_pkcs8_der(der).and_then(Self::new)
    }

    /// Reads a key from PKCS#8 in PEM.
    pub fn from_pkcs8_pem(pem: &str) -> Result<Self, InvalidKey> {
        PrivateKey::from_pkcs8_pem(pem).and_then(Self::new)
    }

    /// Reads a key from a JWK with its private members (RFC 7518 §6.2.2, §6.3.2).
    ///
    /// Public members of another key are an error.
    pub fn from_jwk(json: &str) -> Result<Self, InvalidKey> {
        PrivateKey::from_jwk(json).and_then(Self::new)
    }

    /// The key as PKCS#8 in PEM. A secret.
    pub fn to_pkcs8_pem(&self) -> Result<Zeroizing<String>, InvalidKey> {
        self.private.to_pkcs8_pem()
    }

    fn new(private: PrivateKey) -> Result<Self, InvalidKey> {
        Ok(Self {
            public: private.public_key()?,
            private: Arc::new(private),
        })
    }
}

#[async_trait]
impl Signer for AccountKey {
    fn algorithm(&self) -> SignatureAlgorithm {
        self.private.algorithm()
    }

    fn public_key(&self) -> &Jwk {
        &self.public
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, BoxError> {
        self.private.sign(message)
    }

    fn account_key(&self) -> Option<&AccountKey> {
        Some(self)
    }
}

impl PartialEq for AccountKey {
    /// Two keys are equal where their public keys are.
    fn eq(&self, other: &Self) -> bool {
        self.public == other.public
    }
}

impl Eq for AccountKey {}

impl fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountKey")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwk_vectors() -> Vec<serde_json::Value> {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/keys.json")).unwrap();
        let keys = vectors.get("cases").or(vectors.get("keys")).unwrap();
        keys.as_array().unwrap().clone()
    }

    #[tokio::test]
    async fn signs_with_every_vector_key() {
        let mut seen = 0;
        for case in jwk_vectors() {
            let kinds = [
                ("P-256", true),
                ("P-384", cfg!(feature = "p384")),
                ("RSA", cfg!(feature = "rsa")),
                ("Ed25519", cfg!(feature = "ed25519")),
            ];
            let kind = case["jwk"]["crv"].as_str().unwrap_or("RSA");
            let supported = kinds.contains(&(kind, true));
            let key = AccountKey::from_jwk(&case["jwk"].to_string());
            assert_eq!(key.is_ok(), supported, "{}: {key:?}", case["id"]);
            let Ok(key) = key else { continue };

            let public: Jwk = serde_json::from_value(case["jwk"].clone()).unwrap();
            assert_eq!(key.public_key(), &public);
            let pem = key.to_pkcs8_pem().unwrap();
            assert_eq!(AccountKey::from_pkcs8_pem(&pem).unwrap(), key);
            assert!(!format!("{key:?}").contains(case["jwk"]["d"].as_str().unwrap()));

            // A short r or s comes up once in 128 signatures; its width must not show.
            let count = if case["jwk"]["kty"] == "RSA" { 2 } else { 200 };
            for message in 0..count {
                let message = format!("message {message}");
                let signature = key.sign(message.as_bytes()).await.unwrap();
                public
                    .verify(&key.algorithm(), message.as_bytes(), &signature)
                    .unwrap();
            }
            seen += 1;
        }
        assert!(seen >= 3, "only {seen} keys were found");
    }

    #[test]
    fn tells_what_is_wrong() {
        let key = AccountKey::generate().unwrap();
        let pem = key.to_pkcs8_pem().unwrap();
        for (text, expected) in [
            ("", "PEM"),
            ("nonsense", "PEM"),
            (
                "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n",
                "CERTIFICATE",
            ),
            (
                "-----BEGIN PRIVATE KEY-----\nAQID\n-----END PRIVATE KEY-----\n",
                "PKCS#8",
            ),
            (
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAQID\n-----END ENCRYPTED PRIVATE KEY-----\n",
                "encrypted",
            ),
        ] {
            let error = AccountKey::from_pkcs8_pem(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(AccountKey::from_pkcs8_pem(&pem.replace('\n', "\r\n")).is_ok());
        assert!(AccountKey::from_pkcs8_pem(&format!("\n{}\n\n", pem.trim())).is_ok());
    }

    #[test]
    fn reads_what_other_programs_write() {
        use p256::pkcs8::{DecodePrivateKey, LineEnding};

        let key = AccountKey::generate().unwrap();
        let pkcs8 = key.to_pkcs8_pem().unwrap();
        assert_eq!(AccountKey::from_pem(&pkcs8).unwrap(), key);
        let secret = p256::SecretKey::from_pkcs8_pem(&pkcs8).unwrap();
        let sec1 = secret.to_sec1_pem(LineEnding::LF).unwrap();
        assert!(sec1.contains("EC PRIVATE KEY"));
        assert_eq!(AccountKey::from_pem(&sec1).unwrap(), key);
        // As `openssl ecparam -genkey` writes it.
        let parameters =
            "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----";
        let both = format!("{parameters}\n{}", &*sec1);
        assert_eq!(AccountKey::from_pem(&both).unwrap(), key);

        for (text, expected) in [
            (String::new(), "PEM"),
            (parameters.to_owned(), "PEM"),
            (pkcs8.replace("PRIVATE", "EC PRIVATE"), "ECPrivateKey"),
            (pkcs8.replace("PRIVATE", "PUBLIC"), "`PUBLIC KEY`"),
            (pkcs8.replace("PRIVATE", "ENCRYPTED PRIVATE"), "encrypted"),
        ] {
            let error = AccountKey::from_pem(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[cfg(feature = "p384")]
    #[test]
    fn reads_p384_in_sec1() {
        use p384::pkcs8::{DecodePrivateKey, LineEnding};

        let key = AccountKey::generate_with(KeyType::P384).unwrap();
        let secret = p384::SecretKey::from_pkcs8_pem(&key.to_pkcs8_pem().unwrap()).unwrap();
        let sec1 = secret.to_sec1_pem(LineEnding::LF).unwrap();
        assert_eq!(AccountKey::from_pem(&sec1).unwrap(), key);
        assert_eq!(key.algorithm(), SignatureAlgorithm::Es384);
    }

    #[cfg(feature = "ed25519")]
    #[test]
    fn generates_ed25519() {
        let key = AccountKey::generate_with(KeyType::Ed25519).unwrap();
        assert_eq!(key.algorithm(), SignatureAlgorithm::EdDsa);
        assert_ne!(AccountKey::generate_with(KeyType::Ed25519).unwrap(), key);
    }

    #[cfg(feature = "rsa")]
    #[test]
    fn refuses_rsa_that_is_too_small() {
        use p256::elliptic_curve::common::getrandom::SysRng;
        use rsa::pkcs1::EncodeRsaPrivateKey;
        use rsa::pkcs8::{DecodePrivateKey, EncodePrivateKey};
        use rsa::rand_core::UnwrapErr;

        let small = rsa::RsaPrivateKey::new(&mut UnwrapErr(SysRng), 1024).unwrap();
        let pkcs1 = small.to_pkcs1_pem(Default::default()).unwrap();
        let pkcs8 = small.to_pkcs8_pem(Default::default()).unwrap();
        for pem in [pkcs1, pkcs8] {
            let error = AccountKey::from_pem(&pem).unwrap_err().to_string();
            assert!(error.contains("RSA key of 1024 bits"), "{error}");
        }

        let key = AccountKey::generate_with(KeyType::Rsa2048).unwrap();
        let Jwk::Rsa { n, .. } = key.public_key() else {
            panic!("{key:?}");
        };
        assert_eq!(n.as_bytes().len(), 256);
        let private = rsa::RsaPrivateKey::from_pkcs8_pem(&key.to_pkcs8_pem().unwrap()).unwrap();
        let pkcs1 = private.to_pkcs1_pem(Default::default()).unwrap();
        assert_eq!(AccountKey::from_pem(&pkcs1).unwrap(), key);
    }

    #[test]
    fn refuses_a_jwk_of_two_keys() {
        let case = |id: &str| {
            let cases = jwk_vectors();
            cases.iter().find(|case| case["id"] == id).unwrap()["jwk"].clone()
        };
        let mut jwk = case("p256-xcrypto");
        let other = case("p256-leading-zero-x");
        for member in ["x", "y"] {
            jwk[member] = other[member].clone();
        }
        let error = AccountKey::from_jwk(&jwk.to_string()).unwrap_err();
        assert_eq!(error.fault(), &crate::jose::KeyFault::Mismatch);
    }
}
