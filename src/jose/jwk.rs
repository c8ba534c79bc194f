use std::fmt;

use der::asn1::{AnyRef, BitStringRef, UintRef};
use der::{Encode, Sequence, Tag};
use rustls_pki_types::{AlgorithmIdentifier, alg_id};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::SignatureAlgorithm;
use crate::protocol::{Base64Url, printable};

/// A public key as a JSON Web Key (RFC 7517, RFC 7518 §6, RFC 8037 §2).
///
/// It serialises to the members that RFC 7638 §3.2 requires and no others, in lexical order without
/// white space, so that its JSON is at once the input of its [`Thumbprint`]. When it is read, all
/// other members are passed over.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Jwk {
    /// `EC`: a point on a NIST curve.
    Ec {
        /// The curve.
        curve: EcCurve,
        /// The x coordinate, as wide as the curve.
        x: Base64Url,
        /// The y coordinate, as wide as the curve.
        y: Base64Url,
    },
    /// `RSA`
    Rsa {
        /// The modulus, without leading zero octets.
        n: Base64Url,
        /// The exponent, without leading zero octets.
        e: Base64Url,
    },
    /// `OKP` with the curve `Ed25519`.
    Ed25519 {
        /// The key's 32 octets.
        x: Base64Url,
    },
}

impl Jwk {
    /// The SHA-256 thumbprint (RFC 7638, RFC 8555 §8.1).
    pub fn thumbprint(&self) -> Thumbprint {
        Thumbprint(Sha256::digest(self.canonical_json()).into())
    }

    /// The key's own octets, as a `subjectPublicKey` holds them (RFC 5280 §4.1.2.7).
    pub(crate) fn public_key_octets(&self) -> Result<Vec<u8>, InvalidJwk> {
        #[derive(Sequence)]
        struct RsaPublicKey<'a> {
            n: UintRef<'a>,
            e: UintRef<'a>,
        }

        match self {
            // SEC 1 §2.3.3: an uncompressed point.
            Self::Ec { x, y, .. } => Ok([&[4], x.as_bytes(), y.as_bytes()].concat()),
            Self::Rsa { n, e } => {
                let integer =
                    |octets| UintRef::new(octets).map_err(|_| InvalidJwk::Value("n or e"));
                RsaPublicKey {
                    n: integer(n.as_bytes())?,
                    e: integer(e.as_bytes())?,
                }
                .to_der()
                .map_err(|_| InvalidJwk::Value("n or e"))
            }
            Self::Ed25519 { x } => Ok(x.as_bytes().to_vec()),
        }
    }

    /// The key as a DER `SubjectPublicKeyInfo` (RFC 5280 §4.1.2.7).
    pub(crate) fn public_key_info(&self) -> Result<Vec<u8>, InvalidJwk> {
        #[derive(Sequence)]
        struct SubjectPublicKeyInfo<'a> {
            algorithm: AnyRef<'a>,
            subject_public_key: BitStringRef<'a>,
        }

        let invalid = |_| InvalidJwk::Value("key");
        let octets = self.public_key_octets()?;
        let algorithm = self.algorithm_id();
        SubjectPublicKeyInfo {
            algorithm: AnyRef::new(Tag::Sequence, algorithm.as_ref()).map_err(invalid)?,
            subject_public_key: BitStringRef::from_bytes(&octets).map_err(invalid)?,
        }
        .to_der()
        .map_err(invalid)
    }

    fn algorithm_id(&self) -> AlgorithmIdentifier {
        match self {
            Self::Ec {
                curve: EcCurve::P256,
                ..
            } => alg_id::ECDSA_P256,
            Self::Ec {
                curve: EcCurve::P384,
                ..
            } => alg_id::ECDSA_P384,
            Self::Ec {
                curve: EcCurve::P521,
                ..
            } => alg_id::ECDSA_P521,
            Self::Rsa { .. } => alg_id::RSA_ENCRYPTION,
            Self::Ed25519 { .. } => alg_id::ED25519,
        }
    }

    fn canonical_json(&self) -> String {
        let members = match self {
            Self::Ec { curve, x, y } => {
                format!(
                    r#""crv":"{}","kty":"EC","x":"{x}","y":"{y}""#,
                    curve.as_str()
                )
            }
            Self::Rsa { n, e } => format!(r#""e":"{e}","kty":"RSA","n":"{n}""#),
            Self::Ed25519 { x } => format!(r#""crv":"Ed25519","kty":"OKP","x":"{x}""#),
        };
        // Base64url and the names of curves hold nothing that JSON would escape.
        format!("{{{members}}}")
    }
}

impl Serialize for Jwk {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self {
            Self::Ec { curve, x, y } => {
                map.serialize_entry("crv", curve.as_str())?;
                map.serialize_entry("kty", "EC")?;
                map.serialize_entry("x", x)?;
                map.serialize_entry("y", y)?;
            }
            Self::Rsa { n, e } => {
                map.serialize_entry("e", e)?;
                map.serialize_entry("kty", "RSA")?;
                map.serialize_entry("n", n)?;
            }
            Self::Ed25519 { x } => {
                map.serialize_entry("crv", "Ed25519")?;
                map.serialize_entry("kty", "OKP")?;
                map.serialize_entry("x", x)?;
            }
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Jwk {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        RawJwk::deserialize(deserializer)?
            .try_into()
            .map_err(de::Error::custom)
    }
}

#[derive(Deserialize)]
struct RawJwk {
    kty: String,
    crv: Option<String>,
    x: Option<Base64Url>,
    y: Option<Base64Url>,
    n: Option<Base64Url>,
    e: Option<Base64Url>,
}

impl TryFrom<RawJwk> for Jwk {
    type Error = InvalidJwk;

    fn try_from(raw: RawJwk) -> Result<Self, InvalidJwk> {
        fn octets(
            value: Option<Base64Url>,
            name: &'static str,
            width: Option<usize>,
        ) -> Result<Base64Url, InvalidJwk> {
            let value = value.ok_or(InvalidJwk::Missing(name))?;
            let length = value.as_bytes().len();
            match width.map_or(length > 0, |width| width == length) {
                true => Ok(value),
                false => Err(InvalidJwk::Value(name)),
            }
        }

        let unsupported = |text: &str| InvalidJwk::Unsupported(text.chars().take(64).collect());
        match raw.kty.as_str() {
            "EC" => {
                let name = raw.crv.ok_or(InvalidJwk::Missing("crv"))?;
                let curve = EcCurve::from_name(&name).ok_or_else(|| unsupported(&name))?;
                let width = Some(curve.coordinate_width());
                Ok(Self::Ec {
                    curve,
                    x: octets(raw.x, "x", width)?,
                    y: octets(raw.y, "y", width)?,
                })
            }
            "RSA" => Ok(Self::Rsa {
                n: octets(raw.n, "n", None)?,
                e: octets(raw.e, "e", None)?,
            }),
            "OKP" => match raw.crv.as_deref() {
                Some("Ed25519") => Ok(Self::Ed25519 {
                    x: octets(raw.x, "x", Some(32))?,
                }),
                Some(name) => Err(unsupported(name)),
                None => Err(InvalidJwk::Missing("crv")),
            },
            kty => Err(unsupported(kty)),
        }
    }
}

/// A NIST curve (RFC 7518 §6.2.1.1).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum EcCurve {
    /// P-256
    P256,
    /// P-384
    P384,
    /// P-521
    P521,
}

impl EcCurve {
    /// The curve that an algorithm's keys are on.
    pub(super) fn of(algorithm: &SignatureAlgorithm) -> Option<Self> {
        match algorithm {
            SignatureAlgorithm::Es256 => Some(Self::P256),
            SignatureAlgorithm::Es384 => Some(Self::P384),
            SignatureAlgorithm::Es512 => Some(Self::P521),
            _ => None,
        }
    }

    /// The curve's JWK name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }

    /// How many octets a coordinate, r, or s has.
    pub(super) fn coordinate_width(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::P256, Self::P384, Self::P521]
            .into_iter()
            .find(|curve| curve.as_str() == name)
    }
}

/// The SHA-256 thumbprint of an account's public key (RFC 7638).
///
/// Displays and serialises as base64url.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Thumbprint([u8; 32]);

impl Thumbprint {
    /// The digest's octets.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Base64Url::from(&self.0[..]))
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Thumbprint({self})")
    }
}

impl Serialize for Thumbprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Thumbprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let octets = Base64Url::deserialize(deserializer)?;
        let digest = octets.as_bytes().try_into();
        let digest = digest.map_err(|_| de::Error::custom("a thumbprint has 32 octets"))?;
        Ok(Self(digest))
    }
}

/// A JSON Web Key that is none, or of a type that certwright does not know.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum InvalidJwk {
    /// A member is missing.
    #[error("the JWK lacks its member `{0}`")]
    Missing(&'static str),
    /// The key's type or curve has no name here.
    #[error("keys of the type or curve `{}` are not supported", printable(.0))]
    Unsupported(String),
    /// A member's octets are too few or too many.
    #[error("the JWK's member `{0}` has a wrong length")]
    Value(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/jwk_thumbprint.json")).unwrap();
        let cases = vectors["cases"].as_array().unwrap();
        assert!(cases.len() >= 5);
        for case in cases {
            let jwk: Jwk = serde_json::from_value(case["jwk"].clone()).unwrap();
            let canonical = case["canonical_json"].as_str().unwrap();
            assert_eq!(serde_json::to_string(&jwk).unwrap(), canonical);
            assert_eq!(jwk.canonical_json(), canonical);
            assert_eq!(
                jwk.thumbprint().to_string(),
                case["thumbprint_sha256"].as_str().unwrap()
            );
        }
    }

    #[test]
    fn refuses() {
        for (text, expected) in [
            (r#"{"kty":"oct","k":"AAAA"}"#, "`oct` are not supported"),
            (r#"{"kty":"EC","crv":"secp256k1"}"#, "`secp256k1` are not"),
            (
                r#"{"kty":"OKP","crv":"X25519","x":"AA"}"#,
                "`X25519` are not",
            ),
            (r#"{"kty":"EC","x":"AA"}"#, "lacks its member `crv`"),
            (
                r#"{"kty":"EC","crv":"P-256","y":"AA"}"#,
                "lacks its member `x`",
            ),
            (
                r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#,
                "`x` has a wrong length",
            ),
            (
                r#"{"kty":"RSA","n":"","e":"AQAB"}"#,
                "`n` has a wrong length",
            ),
            (r#"{"kty":"RSA","n":"AA==","e":"AQAB"}"#, "not base64url"),
        ] {
            let error = serde_json::from_str::<Jwk>(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn public_key_info_is_that_of_a_certificate() {
        use crate::jose::{KeyType, PrivateKey};

        let key_types: &[_] = &[
            KeyType::P256,
            #[cfg(feature = "p384")]
            KeyType::P384,
            #[cfg(feature = "ed25519")]
            KeyType::Ed25519,
            #[cfg(feature = "rsa")]
            KeyType::Rsa2048,
        ];
        for &key_type in key_types {
            let key = PrivateKey::generate_with(key_type).unwrap();
            assert_eq!(
                key.public_key().unwrap().public_key_info().unwrap(),
                key.public_key_info().unwrap(),
                "{key_type}"
            );
        }
    }
}
