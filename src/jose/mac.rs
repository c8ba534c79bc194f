use std::fmt;

use base64ct::{Base64Unpadded, Base64UrlUnpadded, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Sha256, Sha384, Sha512};
use thiserror::Error;
use zeroize::Zeroizing;

use super::jws::{Header, InvalidJws, Jws};
use super::{Jwk, SignatureAlgorithm, SignatureFault, SigningError};
use crate::protocol::Url;

/// The key that a CA hands out for an external account binding (RFC 8555 §7.3.4).
#[derive(Clone)]
pub struct MacKey(Zeroizing<Vec<u8>>);

impl MacKey {
    /// Reads a key in any of the forms that CAs hand out: base64url or base64, padded or not.
    pub fn parse(text: &str) -> Result<Self, InvalidMacKey> {
        let text = text.trim().trim_end_matches('=');
        let octets = match text.contains(['+', '/']) {
            true => Base64Unpadded::decode_vec(text),
            false => Base64UrlUnpadded::decode_vec(text),
        };
        match octets {
            Ok(octets) if !octets.is_empty() => Ok(Self(Zeroizing::new(octets))),
            _ => Err(InvalidMacKey),
        }
    }

    /// Binds an account's key to the account outside of ACME that `kid` names (§7.3.4).
    ///
    /// `url` is the CA's `newAccount`.
    pub fn bind(
        &self,
        algorithm: MacAlgorithm,
        kid: &str,
        url: &Url,
        account_key: &Jwk,
    ) -> Result<Jws, SigningError> {
        let header = Header {
            alg: match algorithm {
                MacAlgorithm::Hs256 => SignatureAlgorithm::Hs256,
                MacAlgorithm::Hs384 => SignatureAlgorithm::Hs384,
                MacAlgorithm::Hs512 => SignatureAlgorithm::Hs512,
            },
            jwk: None,
            kid: Some(kid.to_owned()),
            nonce: None,
            url: url.as_str().to_owned(),
        };
        let payload =
            serde_json::to_vec(account_key).map_err(|error| SigningError::new(error.into()))?;
        let unsigned = Jws::unsigned(&header, &payload)?;
        let signature = self
            .sign(algorithm, unsigned.signing_input().as_bytes())
            .map_err(|error| SigningError::new(error.into()))?;
        Ok(Jws {
            signature: signature.into(),
            ..unsigned
        })
    }

    /// Verifies a binding, as the CA that handed the key out does (§7.3.4). What it binds is in its
    /// payload, and is not looked at.
    pub fn verify(&self, binding: &Jws) -> Result<(), InvalidJws> {
        fn check<M: Mac + KeyInit>(key: &[u8], binding: &Jws) -> Result<(), SignatureFault> {
            let mut mac = <M as KeyInit>::new_from_slice(key).map_err(|_| SignatureFault::Wrong)?;
            mac.update(binding.signing_input().as_bytes());
            // In constant time.
            mac.verify_slice(binding.signature.as_bytes())
                .map_err(|_| SignatureFault::Wrong)
        }

        match binding.header()?.alg {
            SignatureAlgorithm::Hs256 => check::<Hmac<Sha256>>(&self.0, binding),
            SignatureAlgorithm::Hs384 => check::<Hmac<Sha384>>(&self.0, binding),
            SignatureAlgorithm::Hs512 => check::<Hmac<Sha512>>(&self.0, binding),
            _ => Err(SignatureFault::Unsupported),
        }
        .map_err(InvalidJws::Signature)
    }

    fn sign(&self, algorithm: MacAlgorithm, message: &[u8]) -> Result<Vec<u8>, InvalidMacKey> {
        fn tag<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Result<Vec<u8>, InvalidMacKey> {
            let mut mac = <M as KeyInit>::new_from_slice(key).map_err(|_| InvalidMacKey)?;
            mac.update(message);
            Ok(mac.finalize().into_bytes().to_vec())
        }

        match algorithm {
            MacAlgorithm::Hs256 => tag::<Hmac<Sha256>>(&self.0, message),
            MacAlgorithm::Hs384 => tag::<Hmac<Sha384>>(&self.0, message),
            MacAlgorithm::Hs512 => tag::<Hmac<Sha512>>(&self.0, message),
        }
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MacKey").finish_non_exhaustive()
    }
}

/// The algorithm of an external account binding's MAC (RFC 7518 §3.2). CAs take HS256.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum MacAlgorithm {
    /// HMAC with SHA-256.
    #[default]
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
}

/// The text is no MAC key.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("the MAC key of the external account binding is neither base64url nor base64")]
pub struct InvalidMacKey;

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::protocol::Base64Url;

    fn algorithm(name: &Value) -> MacAlgorithm {
        match name.as_str().unwrap() {
            "HS256" => MacAlgorithm::Hs256,
            "HS384" => MacAlgorithm::Hs384,
            "HS512" => MacAlgorithm::Hs512,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn jws_vectors() {
        let vectors: Value =
            serde_json::from_str(include_str!("../../tests/vectors/jws.json")).unwrap();
        let mut seen = 0;
        for case in vectors["cases"].as_array().unwrap() {
            if case["key"]["kty"] != "oct" {
                continue;
            }
            let key = MacKey::parse(case["key"]["k"].as_str().unwrap()).unwrap();
            let (protected, payload) = (&case["protected"], &case["payload"]);
            let input = format!(
                "{}.{}",
                protected.as_str().unwrap(),
                payload.as_str().unwrap()
            );
            let signature = key.sign(algorithm(&case["alg"]), input.as_bytes()).unwrap();
            assert_eq!(
                Base64Url::from(signature).to_string(),
                case["signature"].as_str().unwrap()
            );
            seen += 1;
        }
        assert_eq!(seen, 2);
    }

    #[test]
    fn eab_vectors() {
        let vectors: Value =
            serde_json::from_str(include_str!("../../tests/vectors/eab.json")).unwrap();
        for form in vectors["mac_key_decoding"].as_array().unwrap() {
            let key = MacKey::parse(form["text"].as_str().unwrap()).unwrap();
            let hex: String = key.0.iter().map(|octet| format!("{octet:02x}")).collect();
            assert_eq!(hex, form["hex"].as_str().unwrap());
        }
        let cases = vectors["cases"].as_array().unwrap();
        assert!(cases.len() >= 3);
        for case in cases {
            let key = MacKey::parse(case["mac_key_base64url"].as_str().unwrap()).unwrap();
            let unsigned = Jws {
                protected: case["jws"]["protected"].as_str().unwrap().into(),
                payload: case["jws"]["payload"].as_str().unwrap().into(),
                signature: Base64Url::default(),
            };
            let signature = key
                .sign(algorithm(&case["alg"]), unsigned.signing_input().as_bytes())
                .unwrap();
            assert_eq!(
                Base64Url::from(signature).to_string(),
                case["jws"]["signature"].as_str().unwrap(),
            );

            // The whole binding, where the vector's members stand in the order certwright uses.
            let payload = case["payload_json"].as_str().unwrap();
            let jwk: Jwk = serde_json::from_str(payload).unwrap();
            let kid = case["kid"].as_str().unwrap();
            let url = Url::parse(case["url"].as_str().unwrap()).unwrap();
            let bound = key.bind(algorithm(&case["alg"]), kid, &url, &jwk).unwrap();
            if bound.protected == unsigned.protected && bound.payload == unsigned.payload {
                assert_eq!(serde_json::to_value(&bound).unwrap(), case["jws"]);
            }
            assert_eq!(bound.header().unwrap(), unsigned.header().unwrap());

            key.verify(&bound).unwrap();
            let other = MacKey::parse("b3RoZXI").unwrap();
            let wrong = Err(InvalidJws::Signature(SignatureFault::Wrong));
            assert_eq!(other.verify(&bound), wrong);
            assert_eq!(key.verify(&unsigned), wrong);
        }
    }

    #[test]
    fn refuses_and_hides() {
        for text in ["", "=", "not a key", "AQ*"] {
            assert!(MacKey::parse(text).is_err(), "{text}");
        }
        let key = MacKey::parse("c2VjcmV0LXNlY3JldA").unwrap();
        assert_eq!(format!("{key:?}"), "MacKey { .. }");
    }
}
