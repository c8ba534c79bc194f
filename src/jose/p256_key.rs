//! A private key on P-256, with its public key beside it.
//!
//! To find the public key, and to sign, takes p256 some ten times as long as the TLS provider, which
//! is in the process anyway. So p256 does it only where there is no provider.

use std::sync::{Arc, OnceLock};

use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::Signer;
use p256::elliptic_curve::Generate;
use p256::elliptic_curve::sec1::ToSec1Point;
use p256::pkcs8::DecodePrivateKey;
use p256::{SecretKey, ecdsa};
use rustls_pki_types::PrivateSec1KeyDer;
use zeroize::Zeroizing;

use super::provider_signer;
use crate::error::BoxError;

pub(super) struct P256Key {
    /// It is zeroized when it is dropped.
    secret: SecretKey,
    /// SEC1's uncompressed form: 4, x, y.
    point: [u8; POINT],
    own: OnceLock<SigningKey>,
}

/// The key, and what the TLS provider made of it.
pub(super) type Loaded = (P256Key, Option<Arc<dyn rustls::sign::SigningKey>>);

impl P256Key {
    /// `None` where the operating system gives no random octets.
    pub(super) fn generate() -> Option<Loaded> {
        SecretKey::try_generate().ok().map(Self::new)
    }

    pub(super) fn from_pkcs8_der(der: &[u8]) -> Option<Loaded> {
        SecretKey::from_pkcs8_der(der).ok().map(Self::new)
    }

    pub(super) fn from_sec1_der(der: &[u8]) -> Option<Loaded> {
        SecretKey::from_sec1_der(der).ok().map(Self::new)
    }

    /// From the private value alone (SEC1 §3.2.1).
    pub(super) fn from_scalar(octets: &[u8]) -> Option<Loaded> {
        SecretKey::from_slice(octets).ok().map(Self::new)
    }

    fn new(secret: SecretKey) -> Loaded {
        // Not as PKCS#8: that may be an RSA key, which is what a provider tries first. It takes as long
        // as to load the key, for the point is computed.
        let sec1 = PrivateSec1KeyDer::from(sec1_without_point(&secret).to_vec());
        let provided = provider_signer::load(sec1.into());
        let provided_point = provided.as_ref().and_then(|key| {
            let info = key.public_key()?;
            info.as_ref().strip_prefix(PUBLIC_KEY_INFO)?.try_into().ok()
        });
        // Some providers want the public key told.
        let point = provided_point.unwrap_or_else(|| {
            let mut point = [0; POINT];
            point.copy_from_slice(secret.public_key().to_sec1_point(false).as_bytes());
            point
        });
        let key = Self {
            secret,
            point,
            own: OnceLock::new(),
        };
        (key, provided.filter(|_| provided_point.is_some()))
    }

    /// The coordinates of the public key.
    pub(super) fn coordinates(&self) -> (&[u8], &[u8]) {
        let (_, coordinates) = self.point.split_at(1);
        coordinates.split_at(WIDTH)
    }

    /// The public key as a DER `SubjectPublicKeyInfo`.
    pub(super) fn public_key_info(&self) -> Vec<u8> {
        [PUBLIC_KEY_INFO, &self.point].concat()
    }

    /// PKCS#8 in DER, with the public key, which many programs want.
    pub(super) fn to_pkcs8_der(&self) -> Zeroizing<Vec<u8>> {
        let secret = Zeroizing::new(self.secret.to_bytes());
        Zeroizing::new([PKCS8, secret.as_slice(), PKCS8_POINT, &self.point].concat())
    }

    /// Signs without the TLS provider. The signature is r‖s.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, BoxError> {
        let key = self.own.get_or_init(|| self.secret.clone().into());
        let signature: ecdsa::Signature = key.try_sign(message)?;
        Ok(signature.to_bytes().to_vec())
    }
}

fn sec1_without_point(secret: &SecretKey) -> Zeroizing<Vec<u8>> {
    let secret = Zeroizing::new(secret.to_bytes());
    Zeroizing::new([SEC1, secret.as_slice(), SEC1_CURVE].concat())
}

const WIDTH: usize = 32;
const POINT: usize = 1 + 2 * WIDTH;

// DER of a key on this curve has a fixed length, so what surrounds the key itself never changes.

/// `SubjectPublicKeyInfo` (RFC 5480 §2) up to the point.
const PUBLIC_KEY_INFO: &[u8] = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\
    \x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
/// PKCS#8 (RFC 5958 §2) with an `ECPrivateKey` (RFC 5915 §3), up to the private value.
const PKCS8: &[u8] = b"\x30\x81\x87\x02\x01\x00\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\
    \x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x04\x6d\x30\x6b\x02\x01\x01\x04\x20";
/// Between the private value and the point.
const PKCS8_POINT: &[u8] = b"\xa1\x44\x03\x42\x00";
/// `ECPrivateKey` alone, up to the private value.
const SEC1: &[u8] = b"\x30\x31\x02\x01\x01\x04\x20";
/// The curve, which comes after the private value.
const SEC1_CURVE: &[u8] = b"\xa0\x0a\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";

#[cfg(test)]
mod tests {
    use p256::pkcs8::{EncodePrivateKey, EncodePublicKey};

    use super::*;

    #[test]
    fn is_what_p256_makes_of_it() {
        for _ in 0..20 {
            let (key, provided) = P256Key::generate().unwrap();
            assert_eq!(provided.is_some(), cfg!(feature = "aws-lc-rs"));
            let public = key.secret.public_key();
            assert_eq!(key.point, public.to_sec1_point(false).as_bytes());
            assert_eq!(
                key.public_key_info(),
                public.to_public_key_der().unwrap().as_bytes()
            );
            let pkcs8 = key.secret.to_pkcs8_der().unwrap();
            assert_eq!(*key.to_pkcs8_der(), pkcs8.as_bytes());
            let short = SecretKey::from_sec1_der(&sec1_without_point(&key.secret)).unwrap();
            assert_eq!(short, key.secret);
        }
    }
}
