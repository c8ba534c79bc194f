//! The two forms of an ECDSA signature: DER, which X.509 and most HSMs use, and r‖s of fixed width,
//! which JWS demands (RFC 7518 §3.4).

use der::asn1::UintRef;
use der::{Decode, Encode, Sequence};
use thiserror::Error;

use super::{EcCurve, SignatureAlgorithm};

#[derive(Sequence)]
struct EcdsaSignature<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

/// Turns an ECDSA signature in DER, as KMSs and HSMs give it, into the r‖s of a JWS.
///
/// For the `sign` of a [`Signer`](super::Signer). The algorithm is ES256, ES384 or ES512.
pub fn fixed_width_signature(
    signature: &[u8],
    algorithm: &SignatureAlgorithm,
) -> Result<Vec<u8>, InvalidEcdsaSignature> {
    let width = EcCurve::of(algorithm)
        .ok_or(InvalidEcdsaSignature)?
        .coordinate_width();
    let EcdsaSignature { r, s } =
        EcdsaSignature::from_der(signature).map_err(|_| InvalidEcdsaSignature)?;

    let mut fixed = Vec::with_capacity(2 * width);
    for integer in [r, s] {
        let octets = integer.as_bytes();
        let padding = width
            .checked_sub(octets.len())
            .ok_or(InvalidEcdsaSignature)?;
        fixed.resize(fixed.len() + padding, 0);
        fixed.extend_from_slice(octets);
    }
    Ok(fixed)
}

/// Turns r‖s into DER, the form in which TLS libraries verify.
pub(super) fn der_signature(
    signature: &[u8],
    curve: EcCurve,
) -> Result<Vec<u8>, InvalidEcdsaSignature> {
    let width = curve.coordinate_width();
    if signature.len() != 2 * width {
        return Err(InvalidEcdsaSignature);
    }
    let (r, s) = signature.split_at(width);
    let integer = |octets| UintRef::new(octets).map_err(|_| InvalidEcdsaSignature);
    EcdsaSignature {
        r: integer(r)?,
        s: integer(s)?,
    }
    .to_der()
    .map_err(|_| InvalidEcdsaSignature)
}

/// The octets are no ECDSA signature for the algorithm.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("not an ECDSA signature in DER for this algorithm")]
pub struct InvalidEcdsaSignature;

#[cfg(test)]
mod tests {
    use base64ct::{Base64, Encoding};

    use super::*;
    use crate::protocol::Base64Url;

    #[test]
    fn vectors() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/ecdsa_der_to_jws.json"))
                .unwrap();
        let cases = vectors["cases"].as_array().unwrap();
        assert!(cases.len() >= 10);
        for case in cases {
            let algorithm = SignatureAlgorithm::from(case["alg"].as_str().unwrap());
            let der = Base64::decode_vec(case["der_base64"].as_str().unwrap()).unwrap();
            let fixed = fixed_width_signature(&der, &algorithm).unwrap();
            assert_eq!(
                Base64Url::from(fixed.clone()).to_string(),
                case["jws"].as_str().unwrap()
            );

            let curve = EcCurve::of(&algorithm).unwrap();
            assert_eq!(der_signature(&fixed, curve).unwrap(), der);
        }
    }

    #[test]
    fn refuses() {
        let too_wide = der_signature(&[0x7f; 96], EcCurve::P384).unwrap();
        for (der, algorithm) in [
            (&b""[..], SignatureAlgorithm::Es256),
            (&[0x30, 0x00], SignatureAlgorithm::Es256),
            (&[0x5a; 64], SignatureAlgorithm::Es256),
            (&too_wide, SignatureAlgorithm::Es256),
            (&too_wide, SignatureAlgorithm::Rs256),
        ] {
            assert_eq!(
                fixed_width_signature(der, &algorithm),
                Err(InvalidEcdsaSignature)
            );
        }
        assert_eq!(
            der_signature(&[1; 63], EcCurve::P256),
            Err(InvalidEcdsaSignature)
        );
    }
}
