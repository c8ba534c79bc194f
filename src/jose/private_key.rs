use std::fmt;

#[cfg(feature = "rsa")]
use p256::ecdsa::signature::Keypair;
use p256::ecdsa::signature::Signer;
use p256::elliptic_curve::Generate;
use p256::pkcs8::{
    DecodePrivateKey, EncodePrivateKey, EncodePublicKey, LineEnding, PrivateKeyInfoRef,
};
use serde::Deserialize;
use thiserror::Error;
use zeroize::Zeroizing;

use super::{EcCurve, Jwk, SignatureAlgorithm};
use crate::error::BoxError;
use crate::protocol::Base64Url;

/// A private key in memory, of an account or of a certificate.
pub(crate) enum PrivateKey {
    P256(p256::ecdsa::SigningKey),
    #[cfg(feature = "p384")]
    P384(p384::ecdsa::SigningKey),
    #[cfg(feature = "ed25519")]
    Ed25519(ed25519_dalek::SigningKey),
    #[cfg(feature = "rsa")]
    Rsa(Box<rsa::pkcs1v15::SigningKey<sha2::Sha256>>),
}

/// Gives an expression the key, whatever its type.
macro_rules! with_key {
    ($self:expr, $key:ident => $expression:expr) => {
        match $self {
            PrivateKey::P256($key) => $expression,
            #[cfg(feature = "p384")]
            PrivateKey::P384($key) => $expression,
            #[cfg(feature = "ed25519")]
            PrivateKey::Ed25519($key) => $expression,
            #[cfg(feature = "rsa")]
            PrivateKey::Rsa($key) => $expression,
        }
    };
}

impl PrivateKey {
    pub(crate) fn generate() -> Result<Self, InvalidKey> {
        p256::ecdsa::SigningKey::try_generate()
            .map(Self::P256)
            .map_err(|_| InvalidKey(KeyFault::Randomness))
    }

    pub(crate) fn from_pkcs8_pem(text: &str) -> Result<Self, InvalidKey> {
        let block = pem::parse(text).map_err(|_| InvalidKey(KeyFault::Pem))?;
        let (tag, der) = (
            block.tag().to_owned(),
            Zeroizing::new(block.into_contents()),
        );
        match tag.as_str() {
            "PRIVATE KEY" => Self::from_pkcs8_der(&der),
            "ENCRYPTED PRIVATE KEY" => Err(InvalidKey(KeyFault::Encrypted)),
            _ => Err(InvalidKey(KeyFault::Label(tag))),
        }
    }

    pub(crate) fn from_pkcs8_der(der: &[u8]) -> Result<Self, InvalidKey> {
        let info = PrivateKeyInfoRef::try_from(der).map_err(|_| InvalidKey(KeyFault::Pkcs8))?;
        let malformed = |_| InvalidKey(KeyFault::Pkcs8);
        match info.algorithm.oid.to_string().as_str() {
            // id-ecPublicKey (RFC 5480 §2.1.1), by its curve.
            "1.2.840.10045.2.1" => match info.algorithm.parameters_oid() {
                Ok(curve) if curve.to_string() == "1.2.840.10045.3.1.7" => {
                    DecodePrivateKey::from_pkcs8_der(der)
                        .map(Self::P256)
                        .map_err(malformed)
                }
                #[cfg(feature = "p384")]
                Ok(curve) if curve.to_string() == "1.3.132.0.34" => {
                    DecodePrivateKey::from_pkcs8_der(der)
                        .map(Self::P384)
                        .map_err(malformed)
                }
                Ok(curve) => Err(InvalidKey(KeyFault::Unsupported(format!("EC {curve}")))),
                Err(_) => Err(InvalidKey(KeyFault::Pkcs8)),
            },
            #[cfg(feature = "ed25519")]
            "1.3.101.112" => DecodePrivateKey::from_pkcs8_der(der)
                .map(Self::Ed25519)
                .map_err(malformed),
            #[cfg(feature = "rsa")]
            "1.2.840.113549.1.1.1" => rsa::RsaPrivateKey::from_pkcs8_der(der)
                .map(Self::rsa)
                .map_err(malformed),
            oid => Err(InvalidKey(KeyFault::Unsupported(oid.to_owned()))),
        }
    }

    pub(crate) fn from_jwk(json: &str) -> Result<Self, InvalidKey> {
        let jwk: PrivateJwk =
            serde_json::from_str(json).map_err(|_| InvalidKey(KeyFault::Jwk("members")))?;
        let d = secret(&jwk.d, "d")?;
        let invalid = |name| InvalidKey(KeyFault::Jwk(name));
        match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("EC", Some("P-256")) => p256::ecdsa::SigningKey::from_slice(&d)
                .map(Self::P256)
                .map_err(|_| invalid("d")),
            #[cfg(feature = "p384")]
            ("EC", Some("P-384")) => p384::ecdsa::SigningKey::from_slice(&d)
                .map(Self::P384)
                .map_err(|_| invalid("d")),
            #[cfg(feature = "ed25519")]
            ("OKP", Some("Ed25519")) => ed25519_dalek::SigningKey::try_from(d.as_slice())
                .map(Self::Ed25519)
                .map_err(|_| invalid("d")),
            #[cfg(feature = "rsa")]
            ("RSA", _) => {
                let integer = |text: &Option<Zeroizing<String>>, name| {
                    secret(text, name).map(|octets| rsa::BoxedUint::from_be_slice_vartime(&octets))
                };
                rsa::RsaPrivateKey::from_components(
                    integer(&jwk.n, "n")?,
                    integer(&jwk.e, "e")?,
                    integer(&jwk.d, "d")?,
                    vec![integer(&jwk.p, "p")?, integer(&jwk.q, "q")?],
                )
                .map(Self::rsa)
                .map_err(|_| invalid("d"))
            }
            (kty, crv) => Err(InvalidKey(KeyFault::Unsupported(
                format!("{kty} {}", crv.unwrap_or_default())
                    .trim()
                    .to_owned(),
            ))),
        }
    }

    pub(crate) fn to_pkcs8_pem(&self) -> Result<Zeroizing<String>, InvalidKey> {
        with_key!(self, key => key.to_pkcs8_pem(LineEnding::LF))
            .map_err(|_| InvalidKey(KeyFault::Pkcs8))
    }

    pub(crate) fn to_pkcs8_der(&self) -> Result<Zeroizing<Vec<u8>>, InvalidKey> {
        with_key!(self, key => key.to_pkcs8_der())
            .map(|document| document.to_bytes())
            .map_err(|_| InvalidKey(KeyFault::Pkcs8))
    }

    /// The public key as a DER `SubjectPublicKeyInfo` (RFC 5280 §4.1.2.7).
    pub(crate) fn public_key_info(&self) -> Result<Vec<u8>, InvalidKey> {
        with_key!(self, key => key.verifying_key().to_public_key_der())
            .map(|document| document.into_vec())
            .map_err(|_| InvalidKey(KeyFault::Pkcs8))
    }

    pub(crate) fn algorithm(&self) -> SignatureAlgorithm {
        match self {
            Self::P256(_) => SignatureAlgorithm::Es256,
            #[cfg(feature = "p384")]
            Self::P384(_) => SignatureAlgorithm::Es384,
            #[cfg(feature = "ed25519")]
            Self::Ed25519(_) => SignatureAlgorithm::EdDsa,
            #[cfg(feature = "rsa")]
            Self::Rsa(_) => SignatureAlgorithm::Rs256,
        }
    }

    pub(crate) fn public_key(&self) -> Result<Jwk, InvalidKey> {
        let octets = |field: Option<&[u8]>| {
            field
                .map(Base64Url::from)
                .ok_or(InvalidKey(KeyFault::Pkcs8))
        };
        match self {
            Self::P256(key) => {
                let point = key.verifying_key().to_sec1_point(false);
                Ok(Jwk::Ec {
                    curve: EcCurve::P256,
                    x: octets(point.x().map(|x| x.as_slice()))?,
                    y: octets(point.y().map(|y| y.as_slice()))?,
                })
            }
            #[cfg(feature = "p384")]
            Self::P384(key) => {
                let point = key.verifying_key().to_sec1_point(false);
                Ok(Jwk::Ec {
                    curve: EcCurve::P384,
                    x: octets(point.x().map(|x| x.as_slice()))?,
                    y: octets(point.y().map(|y| y.as_slice()))?,
                })
            }
            #[cfg(feature = "ed25519")]
            Self::Ed25519(key) => Ok(Jwk::Ed25519 {
                x: Base64Url::from(&key.verifying_key().to_bytes()[..]),
            }),
            #[cfg(feature = "rsa")]
            Self::Rsa(key) => {
                use rsa::traits::PublicKeyParts;

                let public: rsa::RsaPublicKey = key.verifying_key().into();
                Ok(Jwk::Rsa {
                    n: public.n_bytes().into_vec().into(),
                    e: public.e_bytes().into_vec().into(),
                })
            }
        }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, BoxError> {
        match self {
            Self::P256(key) => {
                let signature: p256::ecdsa::Signature = key.try_sign(message)?;
                Ok(signature.to_bytes().to_vec())
            }
            #[cfg(feature = "p384")]
            Self::P384(key) => {
                let signature: p384::ecdsa::Signature = key.try_sign(message)?;
                Ok(signature.to_bytes().to_vec())
            }
            #[cfg(feature = "ed25519")]
            Self::Ed25519(key) => Ok(key.try_sign(message)?.to_bytes().to_vec()),
            #[cfg(feature = "rsa")]
            Self::Rsa(key) => {
                use rsa::signature::SignatureEncoding;

                Ok(key.try_sign(message)?.to_vec())
            }
        }
    }

    #[cfg(feature = "rsa")]
    fn rsa(key: rsa::RsaPrivateKey) -> Self {
        Self::Rsa(Box::new(rsa::pkcs1v15::SigningKey::new(key)))
    }
}

#[derive(Deserialize)]
struct PrivateJwk {
    kty: String,
    crv: Option<String>,
    d: Option<Zeroizing<String>>,
    #[cfg(feature = "rsa")]
    n: Option<Zeroizing<String>>,
    #[cfg(feature = "rsa")]
    e: Option<Zeroizing<String>>,
    #[cfg(feature = "rsa")]
    p: Option<Zeroizing<String>>,
    #[cfg(feature = "rsa")]
    q: Option<Zeroizing<String>>,
}

fn secret(
    text: &Option<Zeroizing<String>>,
    name: &'static str,
) -> Result<Zeroizing<Vec<u8>>, InvalidKey> {
    text.as_ref()
        .and_then(|text| Base64Url::decode(text).ok())
        .map(|octets| Zeroizing::new(octets.into_bytes()))
        .ok_or(InvalidKey(KeyFault::Jwk(name)))
}

/// A key that can't be read, written or made.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("the private key is unusable: {0}")]
pub struct InvalidKey(KeyFault);

impl InvalidKey {
    /// What is wrong.
    pub fn fault(&self) -> &KeyFault {
        &self.0
    }
}

/// What is wrong with a key.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum KeyFault {
    /// It is encrypted, and certwright takes no password.
    #[error("it is encrypted; decrypt it first")]
    Encrypted,
    /// A member of the JWK is missing or wrong.
    #[error("the JWK's private member `{0}` is missing or wrong")]
    Jwk(&'static str),
    /// The PEM block holds something else.
    #[error("the PEM block holds `{0}`, not `PRIVATE KEY`")]
    Label(String),
    /// The text is not one PEM block.
    #[error("it is not PEM")]
    Pem,
    /// What is in the PEM block breaks PKCS#8 (RFC 5958).
    #[error("it is not PKCS#8")]
    Pkcs8,
    /// The operating system gave no random octets.
    #[error("the operating system gave no random octets")]
    Randomness,
    /// Keys of this kind are not supported, or need a crate feature that is off.
    #[error(
        "keys of the kind `{0}` need a crate feature (p384, rsa, ed25519) or are not supported"
    )]
    Unsupported(String),
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({})", self.algorithm())
    }
}
