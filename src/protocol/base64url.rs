use std::fmt;

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// Octets that travel as base64url without padding (RFC 8555 §6.1, RFC 7515 §2).
///
/// Padding, white space and the `+` and `/` of plain base64 are refused, as §6.1 demands.
///
/// ```
/// use certwright::protocol::Base64Url;
///
/// assert_eq!(Base64Url::from(vec![3, 236, 255, 224, 193]).to_string(), "A-z_4ME");
/// assert!(Base64Url::decode("A-z_4ME=").is_err());
/// ```
#[derive(Clone, Default, Eq, Hash, PartialEq)]
pub struct Base64Url(Vec<u8>);

impl Base64Url {
    /// Reads base64url text.
    pub fn decode(text: &str) -> Result<Self, InvalidBase64Url> {
        Base64UrlUnpadded::decode_vec(text)
            .map(Self)
            .map_err(|_| InvalidBase64Url)
    }

    /// The octets.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The octets, without a copy.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl From<Vec<u8>> for Base64Url {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<&[u8]> for Base64Url {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl AsRef<[u8]> for Base64Url {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Base64Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Base64UrlUnpadded::encode_string(&self.0))
    }
}

impl fmt::Debug for Base64Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Base64Url({self})")
    }
}

impl Serialize for Base64Url {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Base64Url {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::decode(&text).map_err(de::Error::custom)
    }
}

/// The text is not base64url without padding.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("not base64url without padding")]
pub struct InvalidBase64Url;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/base64url.json")).unwrap();
        let cases = vectors["cases"].as_array().unwrap();
        assert!(cases.len() >= 14);
        for case in cases {
            let text = case["base64url"].as_str().unwrap();
            let decoded = Base64Url::decode(text);
            if case["valid"] == false {
                assert_eq!(decoded, Err(InvalidBase64Url), "{text}");
                continue;
            }
            let decoded = decoded.unwrap();
            let hex: String = decoded
                .0
                .iter()
                .map(|octet| format!("{octet:02x}"))
                .collect();
            assert_eq!(hex, case["octets_hex"].as_str().unwrap());
            assert_eq!(decoded.to_string(), text);
        }
    }

    #[test]
    fn refuses_bits_that_say_nothing() {
        // The last character has bits beyond the last octet, so two texts would mean the same.
        assert_eq!(Base64Url::decode("Zh"), Err(InvalidBase64Url));
    }
}
