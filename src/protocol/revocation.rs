use serde::{Deserialize, Serialize};

use super::Base64Url;

/// The request that revokes a certificate (RFC 8555 §7.6).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Revocation {
    /// The certificate, in DER.
    pub certificate: Base64Url,

    /// Why it is revoked. Without one, the CRL will say nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<RevocationReason>,
}

impl Revocation {
    /// A request to revoke a certificate, given in DER.
    pub fn new(certificate: impl Into<Base64Url>, reason: Option<RevocationReason>) -> Self {
        Self {
            certificate: certificate.into(),
            reason,
        }
    }
}

/// Why a certificate is revoked (RFC 5280 §5.3.1).
///
/// Let's Encrypt takes `Unspecified`, `KeyCompromise`, `Superseded` and `CessationOfOperation` only.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(from = "u8", into = "u8")]
#[non_exhaustive]
pub enum RevocationReason {
    /// 0: none of the others.
    Unspecified,
    /// 1: somebody else has, or may have, the key.
    KeyCompromise,
    /// 2: the CA's own key is compromised.
    CaCompromise,
    /// 3: the subject's name or other data changed.
    AffiliationChanged,
    /// 4: another certificate has taken its place.
    Superseded,
    /// 5: the names are no longer in use.
    CessationOfOperation,
    /// 6: revoked for a time.
    CertificateHold,
    /// 8: no longer on hold.
    RemoveFromCrl,
    /// 9: a right that it states has ended.
    PrivilegeWithdrawn,
    /// 10: the key of an attribute authority is compromised.
    AaCompromise,
    /// A code that RFC 5280 does not name.
    Other(u8),
}

impl From<u8> for RevocationReason {
    fn from(code: u8) -> Self {
        match code {
            0 => Self::Unspecified,
            1 => Self::KeyCompromise,
            2 => Self::CaCompromise,
            3 => Self::AffiliationChanged,
            4 => Self::Superseded,
            5 => Self::CessationOfOperation,
            6 => Self::CertificateHold,
            8 => Self::RemoveFromCrl,
            9 => Self::PrivilegeWithdrawn,
            10 => Self::AaCompromise,
            other => Self::Other(other),
        }
    }
}

impl From<RevocationReason> for u8 {
    fn from(reason: RevocationReason) -> Self {
        match reason {
            RevocationReason::Unspecified => 0,
            RevocationReason::KeyCompromise => 1,
            RevocationReason::CaCompromise => 2,
            RevocationReason::AffiliationChanged => 3,
            RevocationReason::Superseded => 4,
            RevocationReason::CessationOfOperation => 5,
            RevocationReason::CertificateHold => 6,
            RevocationReason::RemoveFromCrl => 8,
            RevocationReason::PrivilegeWithdrawn => 9,
            RevocationReason::AaCompromise => 10,
            RevocationReason::Other(code) => code,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip() {
        for code in 0..=u8::MAX {
            assert_eq!(u8::from(RevocationReason::from(code)), code);
        }
    }

    #[test]
    fn leaves_out_an_absent_reason() {
        let request = Revocation::new(vec![1, 2], None);
        assert_eq!(
            serde_json::to_string(&request).unwrap(),
            r#"{"certificate":"AQI"}"#
        );
        let request = Revocation::new(vec![1, 2], Some(RevocationReason::Superseded));
        assert_eq!(
            serde_json::to_string(&request).unwrap(),
            r#"{"certificate":"AQI","reason":4}"#
        );
    }
}
