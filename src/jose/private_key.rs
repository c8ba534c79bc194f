use std::fmt;
use std::sync::Arc;

use der::asn1::{BitStringRef, ObjectIdentifier, OctetStringRef};
use der::{Decode, SecretDocument, Sequence};
#[cfg(feature = "rsa")]
use p256::ecdsa::signature::Keypair;
#[cfg(any(feature = "ed25519", feature = "p384", feature = "rsa"))]
use p256::ecdsa::signature::Signer;
#[cfg(feature = "p384")]
use p256::elliptic_curve::Generate;
#[cfg(any(feature = "ed25519", feature = "rsa"))]
use p256::elliptic_curve::common::getrandom::SysRng;
#[cfg(any(feature = "ed25519", feature = "rsa"))]
use p256::elliptic_curve::rand_core::TryRng;
#[cfg(any(feature = "ed25519", feature = "p384", feature = "rsa"))]
use p256::pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey};
use p256::pkcs8::{LineEnding, PrivateKeyInfoRef};
use serde::Deserialize;
use thiserror::Error;
use zeroize::Zeroizing;

use super::ecdsa::der_signature;
use super::p256_key::{self, P256Key};
use super::provider_signer::ProviderSigner;
use super::{EcCurve, Jwk, KeyType, SignatureAlgorithm, fixed_width_signature};
use crate::error::BoxError;
use crate::protocol::{Base64Url, printable};

/// A private key in memory, of an account or of a certificate.
pub(crate) struct PrivateKey {
    secret: Secret,
    provided: ProviderSigner,
}

enum Secret {
    P256(Box<P256Key>),
    #[cfg(feature = "p384")]
    P384(p384::ecdsa::SigningKey),
    #[cfg(feature = "ed25519")]
    Ed25519(ed25519_dalek::SigningKey),
    #[cfg(feature = "rsa")]
    Rsa(Box<rsa::pkcs1v15::SigningKey<sha2::Sha256>>),
}

impl PrivateKey {
    /// The smallest RSA key that is accepted, in bits, as no public CA takes a smaller one.
    #[cfg(feature = "rsa")]
    const RSA_MINIMUM: u32 = 2048;

    pub(crate) fn generate() -> Result<Self, InvalidKey> {
        Self::generate_with(KeyType::P256)
    }

    pub(crate) fn generate_with(key_type: KeyType) -> Result<Self, InvalidKey> {
        #[cfg(any(feature = "ed25519", feature = "p384"))]
        let randomness = |_| InvalidKey(KeyFault::Randomness);
        match key_type {
            KeyType::P256 => P256Key::generate()
                .map(Self::p256)
                .ok_or(InvalidKey(KeyFault::Randomness)),
            #[cfg(feature = "p384")]
            KeyType::P384 => p384::ecdsa::SigningKey::try_generate()
                .map(|key| Secret::P384(key).into())
                .map_err(randomness),
            #[cfg(feature = "ed25519")]
            KeyType::Ed25519 => {
                let mut seed = Zeroizing::new([0; 32]);
                SysRng.try_fill_bytes(&mut *seed).map_err(randomness)?;
                Ok(Secret::Ed25519(ed25519_dalek::SigningKey::from_bytes(&seed)).into())
            }
            #[cfg(feature = "rsa")]
            KeyType::Rsa2048 => Self::generate_rsa(2048),
            #[cfg(feature = "rsa")]
            KeyType::Rsa3072 => Self::generate_rsa(3072),
            #[cfg(feature = "rsa")]
            KeyType::Rsa4096 => Self::generate_rsa(4096),
        }
    }

    /// Generates a key that public CAs issue certificates for.
    pub(crate) fn generate_for_certificate(key_type: KeyType) -> Result<Self, InvalidKey> {
        match key_type {
            #[cfg(feature = "ed25519")]
            KeyType::Ed25519 => Err(InvalidKey(KeyFault::NotForCertificates(key_type))),
            key_type => Self::generate_with(key_type),
        }
    }

    #[cfg(feature = "rsa")]
    fn generate_rsa(bits: usize) -> Result<Self, InvalidKey> {
        // Once the operating system has given random octets, it does not stop doing so. `UnwrapErr`,
        // which would panic, is thus safe after this.
        SysRng
            .try_next_u64()
            .map_err(|_| InvalidKey(KeyFault::Randomness))?;
        rsa::RsaPrivateKey::new(&mut rsa::rand_core::UnwrapErr(SysRng), bits)
            .map(Self::rsa)
            .map_err(|_| InvalidKey(KeyFault::Randomness))
    }

    /// Reads the first private key in PEM, in any of the forms that programs write: PKCS#8, SEC1
    /// and PKCS#1.
    pub(crate) fn from_pem(text: &str) -> Result<Self, InvalidKey> {
        // openssl writes the curve in a block of its own before the key.
        let blocks = pem::parse_many(text).map_err(|_| InvalidKey(KeyFault::Pem))?;
        let block = blocks
            .into_iter()
            .find(|block| block.tag() != "EC PARAMETERS")
            .ok_or(InvalidKey(KeyFault::Pem))?;
        let (tag, der) = (
            block.tag().to_owned(),
            Zeroizing::new(block.into_contents()),
        );
        match tag.as_str() {
            "PRIVATE KEY" => Self::from_pkcs8_der(&der),
            "EC PRIVATE KEY" => Self::from_sec1_der(&der),
            "RSA PRIVATE KEY" => Self::from_pkcs1_der(&der),
            _ => Err(InvalidKey(KeyFault::unreadable(tag))),
        }
    }

    pub(crate) fn from_pkcs8_pem(text: &str) -> Result<Self, InvalidKey> {
        let block = pem::parse(text).map_err(|_| InvalidKey(KeyFault::Pem))?;
        let (tag, der) = (
            block.tag().to_owned(),
            Zeroizing::new(block.into_contents()),
        );
        match tag.as_str() {
            "PRIVATE KEY" => Self::from_pkcs8_der(&der),
            _ => Err(InvalidKey(KeyFault::unreadable(tag))),
        }
    }

    pub(crate) fn from_pkcs8_der(der: &[u8]) -> Result<Self, InvalidKey> {
        let info = PrivateKeyInfoRef::try_from(der).map_err(|_| InvalidKey(KeyFault::Pkcs8))?;
        #[cfg(any(feature = "ed25519", feature = "p384", feature = "rsa"))]
        let malformed = |_| InvalidKey(KeyFault::Pkcs8);
        match info.algorithm.oid.to_string().as_str() {
            // id-ecPublicKey (RFC 5480 §2.1.1), by its curve.
            "1.2.840.10045.2.1" => match info.algorithm.parameters_oid() {
                Ok(curve) if curve.to_string() == "1.2.840.10045.3.1.7" => {
                    P256Key::from_pkcs8_der(der)
                        .map(Self::p256)
                        .ok_or(InvalidKey(KeyFault::Pkcs8))
                }
                #[cfg(feature = "p384")]
                Ok(curve) if curve.to_string() == "1.3.132.0.34" => {
                    DecodePrivateKey::from_pkcs8_der(der)
                        .map(|key| Secret::P384(key).into())
                        .map_err(malformed)
                }
                Ok(curve) => Err(InvalidKey(KeyFault::Unsupported(format!("EC {curve}")))),
                Err(_) => Err(InvalidKey(KeyFault::Pkcs8)),
            },
            #[cfg(feature = "ed25519")]
            "1.3.101.112" => DecodePrivateKey::from_pkcs8_der(der)
                .map(|key| Secret::Ed25519(key).into())
                .map_err(malformed),
            #[cfg(feature = "rsa")]
            "1.2.840.113549.1.1.1" => rsa::RsaPrivateKey::from_pkcs8_der(der)
                .map_err(malformed)
                .and_then(Self::checked_rsa),
            oid => Err(InvalidKey(KeyFault::Unsupported(oid.to_owned()))),
        }
    }

    /// Reads an `ECPrivateKey` (RFC 5915 §3), by the curve that it names or else by its length.
    fn from_sec1_der(der: &[u8]) -> Result<Self, InvalidKey> {
        let key = EcPrivateKey::from_der(der).map_err(|_| InvalidKey(KeyFault::Sec1))?;
        let curve = key.parameters.map(|curve| curve.to_string());
        match (curve.as_deref(), key.private_key.as_bytes().len()) {
            (Some("1.2.840.10045.3.1.7"), _) | (None, 32) => P256Key::from_sec1_der(der)
                .map(Self::p256)
                .ok_or(InvalidKey(KeyFault::Sec1)),
            #[cfg(feature = "p384")]
            (Some("1.3.132.0.34"), _) | (None, 48) => p384::SecretKey::from_sec1_der(der)
                .map(|key| Secret::P384(key.into()).into())
                .map_err(|_| InvalidKey(KeyFault::Sec1)),
            (Some(curve), _) => Err(InvalidKey(KeyFault::Unsupported(format!("EC {curve}")))),
            (None, _) => Err(InvalidKey(KeyFault::Sec1)),
        }
    }

    /// Reads an `RSAPrivateKey` (RFC 8017 §A.1.2).
    #[cfg(feature = "rsa")]
    fn from_pkcs1_der(der: &[u8]) -> Result<Self, InvalidKey> {
        use rsa::pkcs1::DecodeRsaPrivateKey;

        rsa::RsaPrivateKey::from_pkcs1_der(der)
            .map_err(|_| InvalidKey(KeyFault::Pkcs1))
            .and_then(Self::checked_rsa)
    }

    #[cfg(not(feature = "rsa"))]
    fn from_pkcs1_der(_: &[u8]) -> Result<Self, InvalidKey> {
        Err(InvalidKey(KeyFault::Unsupported("RSA".to_owned())))
    }

    pub(crate) fn from_jwk(json: &str) -> Result<Self, InvalidKey> {
        let key = Self::from_private_jwk(json)?;
        // The public members are redundant. Where they are another key's, one of the two is not what
        // its holder takes it for.
        let public: Jwk =
            serde_json::from_str(json).map_err(|_| InvalidKey(KeyFault::Jwk("members")))?;
        match key.public_key()? == public {
            true => Ok(key),
            false => Err(InvalidKey(KeyFault::Mismatch)),
        }
    }

    fn from_private_jwk(json: &str) -> Result<Self, InvalidKey> {
        let jwk: PrivateJwk =
            serde_json::from_str(json).map_err(|_| InvalidKey(KeyFault::Jwk("members")))?;
        let d = secret(&jwk.d, "d")?;
        let invalid = |name| InvalidKey(KeyFault::Jwk(name));
        match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("EC", Some("P-256")) => P256Key::from_scalar(&d).map(Self::p256).ok_or(invalid("d")),
            #[cfg(feature = "p384")]
            ("EC", Some("P-384")) => p384::ecdsa::SigningKey::from_slice(&d)
                .map(|key| Secret::P384(key).into())
                .map_err(|_| invalid("d")),
            #[cfg(feature = "ed25519")]
            ("OKP", Some("Ed25519")) => ed25519_dalek::SigningKey::try_from(d.as_slice())
                .map(|key| Secret::Ed25519(key).into())
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
                .map_err(|_| invalid("d"))
                .and_then(Self::checked_rsa)
            }
            (kty, crv) => Err(InvalidKey(KeyFault::Unsupported(
                format!("{kty} {}", crv.unwrap_or_default())
                    .trim()
                    .to_owned(),
            ))),
        }
    }

    pub(crate) fn to_pkcs8_pem(&self) -> Result<Zeroizing<String>, InvalidKey> {
        SecretDocument::try_from(self.to_pkcs8_der()?.as_slice())
            .and_then(|document| document.to_pem("PRIVATE KEY", LineEnding::LF))
            .map_err(|_| InvalidKey(KeyFault::Pkcs8))
    }

    pub(crate) fn to_pkcs8_der(&self) -> Result<Zeroizing<Vec<u8>>, InvalidKey> {
        match &self.secret {
            Secret::P256(key) => Ok(key.to_pkcs8_der()),
            #[cfg(feature = "p384")]
            Secret::P384(key) => pkcs8_der(key),
            #[cfg(feature = "ed25519")]
            Secret::Ed25519(key) => pkcs8_der(key),
            #[cfg(feature = "rsa")]
            Secret::Rsa(key) => pkcs8_der(key.as_ref()),
        }
    }

    /// The public key as a DER `SubjectPublicKeyInfo` (RFC 5280 §4.1.2.7).
    pub(crate) fn public_key_info(&self) -> Result<Vec<u8>, InvalidKey> {
        match &self.secret {
            Secret::P256(key) => Ok(key.public_key_info()),
            #[cfg(feature = "p384")]
            Secret::P384(key) => public_key_info(key.verifying_key()),
            #[cfg(feature = "ed25519")]
            Secret::Ed25519(key) => public_key_info(&key.verifying_key()),
            #[cfg(feature = "rsa")]
            Secret::Rsa(key) => public_key_info(&key.verifying_key()),
        }
    }

    pub(crate) fn algorithm(&self) -> SignatureAlgorithm {
        match &self.secret {
            Secret::P256(_) => SignatureAlgorithm::Es256,
            #[cfg(feature = "p384")]
            Secret::P384(_) => SignatureAlgorithm::Es384,
            #[cfg(feature = "ed25519")]
            Secret::Ed25519(_) => SignatureAlgorithm::EdDsa,
            #[cfg(feature = "rsa")]
            Secret::Rsa(_) => SignatureAlgorithm::Rs256,
        }
    }

    pub(crate) fn public_key(&self) -> Result<Jwk, InvalidKey> {
        #[cfg(feature = "p384")]
        let octets = |field: Option<&[u8]>| {
            field
                .map(Base64Url::from)
                .ok_or(InvalidKey(KeyFault::Pkcs8))
        };
        match &self.secret {
            Secret::P256(key) => {
                let (x, y) = key.coordinates();
                Ok(Jwk::Ec {
                    curve: EcCurve::P256,
                    x: x.into(),
                    y: y.into(),
                })
            }
            #[cfg(feature = "p384")]
            Secret::P384(key) => {
                let point = key.verifying_key().to_sec1_point(false);
                Ok(Jwk::Ec {
                    curve: EcCurve::P384,
                    x: octets(point.x().map(|x| x.as_slice()))?,
                    y: octets(point.y().map(|y| y.as_slice()))?,
                })
            }
            #[cfg(feature = "ed25519")]
            Secret::Ed25519(key) => Ok(Jwk::Ed25519 {
                x: Base64Url::from(&key.verifying_key().to_bytes()[..]),
            }),
            #[cfg(feature = "rsa")]
            Secret::Rsa(key) => {
                use rsa::traits::PublicKeyParts;

                let public: rsa::RsaPublicKey = key.verifying_key().into();
                Ok(Jwk::Rsa {
                    n: public.n_bytes().into_vec().into(),
                    e: public.e_bytes().into_vec().into(),
                })
            }
        }
    }

    /// Signs a message in JWS's form: an ECDSA signature is r‖s (RFC 7518 §3.4).
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, BoxError> {
        let Some(signature) = self.sign_by_provider(message) else {
            return self.sign_here(message);
        };
        match EcCurve::of(&self.algorithm()) {
            Some(_) => Ok(fixed_width_signature(&signature, &self.algorithm())?),
            None => Ok(signature),
        }
    }

    /// Signs a message in X.509's form: an ECDSA signature is in DER (RFC 3279 §2.2.3).
    pub(crate) fn sign_for_x509(&self, message: &[u8]) -> Result<Vec<u8>, BoxError> {
        if let Some(signature) = self.sign_by_provider(message) {
            return Ok(signature);
        }
        let signature = self.sign_here(message)?;
        match EcCurve::of(&self.algorithm()) {
            Some(curve) => Ok(der_signature(&signature, curve)?),
            None => Ok(signature),
        }
    }

    fn sign_by_provider(&self, message: &[u8]) -> Option<Vec<u8>> {
        let key = || self.to_pkcs8_der().ok().map(|der| der.to_vec());
        self.provided.sign(&self.algorithm(), key, message)
    }

    /// Signs a message without the TLS provider, in JWS's form.
    fn sign_here(&self, message: &[u8]) -> Result<Vec<u8>, BoxError> {
        match &self.secret {
            Secret::P256(key) => key.sign(message),
            #[cfg(feature = "p384")]
            Secret::P384(key) => {
                let signature: p384::ecdsa::Signature = key.try_sign(message)?;
                Ok(signature.to_bytes().to_vec())
            }
            #[cfg(feature = "ed25519")]
            Secret::Ed25519(key) => Ok(key.try_sign(message)?.to_bytes().to_vec()),
            #[cfg(feature = "rsa")]
            Secret::Rsa(key) => {
                use rsa::signature::SignatureEncoding;

                Ok(key.try_sign(message)?.to_vec())
            }
        }
    }

    fn p256((key, provided): p256_key::Loaded) -> Self {
        let signer = |key: Arc<_>| ProviderSigner::new(&*key, &SignatureAlgorithm::Es256);
        Self {
            secret: Secret::P256(Box::new(key)),
            provided: provided.map(signer).unwrap_or_default(),
        }
    }

    #[cfg(feature = "rsa")]
    fn checked_rsa(key: rsa::RsaPrivateKey) -> Result<Self, InvalidKey> {
        use rsa::traits::PublicKeyParts;

        let bits = key.n().bits();
        match bits >= Self::RSA_MINIMUM {
            true => Ok(Self::rsa(key)),
            false => Err(InvalidKey(KeyFault::TooSmall(bits))),
        }
    }

    #[cfg(feature = "rsa")]
    fn rsa(key: rsa::RsaPrivateKey) -> Self {
        Secret::Rsa(Box::new(rsa::pkcs1v15::SigningKey::new(key))).into()
    }
}

#[cfg(any(feature = "ed25519", feature = "p384", feature = "rsa"))]
impl From<Secret> for PrivateKey {
    fn from(secret: Secret) -> Self {
        Self {
            secret,
            provided: ProviderSigner::default(),
        }
    }
}

#[cfg(any(feature = "ed25519", feature = "p384", feature = "rsa"))]
fn pkcs8_der(key: &impl EncodePrivateKey) -> Result<Zeroizing<Vec<u8>>, InvalidKey> {
    key.to_pkcs8_der()
        .map(|document| document.to_bytes())
        .map_err(|_| InvalidKey(KeyFault::Pkcs8))
}

#[cfg(any(feature = "ed25519", feature = "p384", feature = "rsa"))]
fn public_key_info(key: &impl EncodePublicKey) -> Result<Vec<u8>, InvalidKey> {
    key.to_public_key_der()
        .map(|document| document.into_vec())
        .map_err(|_| InvalidKey(KeyFault::Pkcs8))
}

/// `ECPrivateKey` (RFC 5915 §3), as far as it tells the curve.
#[derive(Sequence)]
struct EcPrivateKey<'a> {
    version: u8,
    private_key: &'a OctetStringRef,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    parameters: Option<ObjectIdentifier>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    public_key: Option<BitStringRef<'a>>,
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
    #[error("the PEM block holds `{}`, not `PRIVATE KEY`", printable(.0))]
    Label(String),
    /// The private and the public half belong to different keys.
    #[error("its public part is that of another key")]
    Mismatch,
    /// Keys of this type are for accounts: browsers take no certificates for them, and the CA/B
    /// Forum's requirements allow none.
    #[error("keys of the type {0} are for accounts, not for certificates")]
    NotForCertificates(KeyType),
    /// The text is not one PEM block.
    #[error("it is not PEM")]
    Pem,
    /// What is in the PEM block breaks PKCS#1 (RFC 8017 §A.1.2).
    #[error("it is not PKCS#1")]
    Pkcs1,
    /// What is in the PEM block breaks PKCS#8 (RFC 5958).
    #[error("it is not PKCS#8")]
    Pkcs8,
    /// The operating system gave no random octets.
    #[error("the operating system gave no random octets")]
    Randomness,
    /// What is in the PEM block breaks SEC1 (RFC 5915 §3).
    #[error("it is not an ECPrivateKey (RFC 5915)")]
    Sec1,
    /// An RSA key has fewer bits than 2048, so no CA takes it.
    #[error("it is an RSA key of {0} bits; CAs take 2048 and more")]
    TooSmall(u32),
    /// Keys of this kind are not supported, or need a crate feature that is off.
    #[error(
        "keys of the kind `{0}` need a crate feature (p384, rsa, ed25519) or are not supported"
    )]
    Unsupported(String),
}

impl KeyFault {
    fn unreadable(tag: String) -> Self {
        match tag.as_str() {
            "ENCRYPTED PRIVATE KEY" => Self::Encrypted,
            _ => Self::Label(tag),
        }
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({})", self.algorithm())
    }
}
