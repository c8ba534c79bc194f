use std::fmt;

use sha2::{Digest, Sha256};

use super::Thumbprint;
use crate::protocol::{Base64Url, Token};

/// What proves that the account's key asked for a challenge: its token, a dot, and the key's
/// thumbprint (RFC 8555 §8.1).
///
/// It is no secret, but should be shown only while the challenge is pending.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct KeyAuthorization(String);

impl KeyAuthorization {
    /// The key authorization of a token for the key with this thumbprint.
    pub fn new(token: &Token, thumbprint: &Thumbprint) -> Self {
        Self::compose(token.as_str(), &thumbprint.to_string())
    }

    /// The text that http-01 serves (§8.3).
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its SHA-256 digest, which tls-alpn-01 puts into a certificate (RFC 8737 §3).
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
    }

    /// Its SHA-256 digest as base64url: the value of dns-01's TXT record (§8.4).
    pub fn dns_txt_value(&self) -> String {
        Base64Url::from(&self.digest()[..]).to_string()
    }

    pub(crate) fn compose(token: &str, thumbprint: &str) -> Self {
        Self([token, ".", thumbprint].concat())
    }
}

impl AsRef<str> for KeyAuthorization {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyAuthorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/challenges.json")).unwrap();
        let cases = vectors["cases"].as_array().unwrap();
        assert!(cases.len() >= 4);
        for case in cases {
            let text = |name: &str| case[name].as_str().unwrap();
            let found = KeyAuthorization::compose(text("token"), text("thumbprint"));
            assert_eq!(found.as_str(), text("key_authorization"));
            assert_eq!(found.dns_txt_value(), text("dns01_txt"));
            let digest: String = found
                .digest()
                .iter()
                .map(|octet| format!("{octet:02x}"))
                .collect();
            assert_eq!(format!("0420{digest}"), text("tls_alpn01_ext_hex"));
        }
    }
}
