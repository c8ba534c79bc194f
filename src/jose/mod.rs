//! JSON Web Signatures as ACME uses them (RFC 8555 §6.2), with no I/O but what a [`Signer`] does.
//!
//! An ACME request is a JWS in its flattened JSON form ([`Jws`]), signed by the account's key. The
//! key is anything that implements [`Signer`]: [`AccountKey`], which is held in memory, or a type of
//! the application's own that asks a KMS or an HSM.

mod account_key;
mod algorithm;
mod dns_persist;
mod ecdsa;
mod jwk;
mod jws;
mod key_authorization;
mod key_change;
mod key_type;
mod mac;
mod p256_key;
mod private_key;
mod provider_signer;
mod signer;
mod verify;

pub use self::account_key::AccountKey;
pub use self::algorithm::SignatureAlgorithm;
pub use self::dns_persist::{DnsPersistAccount, DnsPersistRecord};
pub use self::ecdsa::{InvalidEcdsaSignature, fixed_width_signature};
pub use self::jwk::{EcCurve, InvalidJwk, Jwk, Thumbprint};
pub use self::jws::{Header, InvalidJws, Jws, KeyReference};
pub use self::key_authorization::KeyAuthorization;
pub use self::key_change::KeyChange;
pub use self::key_type::KeyType;
pub use self::mac::{InvalidMacKey, MacAlgorithm, MacKey};
pub use self::private_key::{InvalidKey, KeyFault};
pub use self::signer::{Signer, SigningError};
pub use self::verify::SignatureFault;

pub(crate) use self::private_key::PrivateKey;
pub(crate) use self::verify::verify_signature;
