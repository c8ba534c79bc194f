use std::fmt;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use super::{Identifier, Problem, Url, open_enum, printable, timestamp};

/// A challenge, as the CA sends it (RFC 8555 §7.1.5, §8).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Challenge {
    /// The way of proving control that this challenge is: the `type` member.
    #[serde(rename = "type")]
    pub kind: ChallengeType,

    /// Where the client says that it is ready.
    pub url: Url,

    /// The challenge's status.
    #[serde(default)]
    pub status: ChallengeStatus,

    /// When the CA validated it.
    #[serde(
        default,
        with = "timestamp::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub validated: Option<SystemTime>,

    /// Why validation failed. May be there while the CA tries again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Box<Problem>>,

    /// The token, unchecked, of those types that have one; see [`token`](Self::token).
    #[serde(rename = "token", default, skip_serializing_if = "Option::is_none")]
    pub raw_token: Option<String>,

    /// Members that certwright has no name for.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Challenge {
    /// A challenge that has just been made: pending, with nothing optional set.
    pub fn pending(kind: ChallengeType, url: Url, token: Option<String>) -> Self {
        Self {
            kind,
            url,
            status: ChallengeStatus::Pending,
            validated: None,
            error: None,
            raw_token: token,
            other: Map::new(),
        }
    }

    /// The token, checked; `None` where the challenge has none.
    pub fn token(&self) -> Result<Option<Token>, InvalidToken> {
        self.raw_token.as_deref().map(Token::parse).transpose()
    }
}

open_enum! {
    /// The status of a challenge (RFC 8555 §7.1.6).
    #[derive(Default)]
    pub enum ChallengeStatus {
        /// The CA waits for the client, or (with some CAs) is validating.
        #[default]
        Pending = "pending",
        /// The CA is validating.
        Processing = "processing",
        /// Control is proved.
        Valid = "valid",
        /// Validation failed.
        Invalid = "invalid",
    }
}

open_enum! {
    /// A way of proving control of an identifier (RFC 8555 §8 and the registry it founded).
    pub enum ChallengeType {
        /// A file fetched over HTTP from port 80 (RFC 8555 §8.3).
        Http01 = "http-01",
        /// A TXT record at `_acme-challenge` (RFC 8555 §8.4).
        Dns01 = "dns-01",
        /// A certificate shown in a TLS handshake on port 443 (RFC 8737).
        TlsAlpn01 = "tls-alpn-01",
        /// A TXT record at a name of the account's own (draft-ietf-acme-dns-account-label).
        DnsAccount01 = "dns-account-01",
        /// A TXT record that stays (draft-ietf-acme-dns-persist).
        DnsPersist01 = "dns-persist-01",
        /// A device's attestation (draft-ietf-acme-device-attest).
        DeviceAttest01 = "device-attest-01",
        /// A reply to an e-mail (RFC 8823).
        EmailReply00 = "email-reply-00",
        /// A CSR signed by an onion service's key (RFC 9799).
        OnionCsr01 = "onion-csr-01",
        /// An authority's token (RFC 9447).
        Tkauth01 = "tkauth-01",
    }
}

impl ChallengeType {
    /// Whether a challenge of this type can prove control of an identifier at all.
    ///
    /// A wildcard is proved by DNS only (RFC 8555 §8.3, RFC 8737 §3), an IP address never by DNS
    /// (RFC 8738 §7). Of types without a name here nothing is known, so the answer is yes.
    pub fn can_validate(&self, identifier: &Identifier) -> bool {
        match self {
            Self::Http01 | Self::TlsAlpn01 => {
                !identifier.is_wildcard()
                    && matches!(identifier, Identifier::Dns(_) | Identifier::Ip(_))
            }
            Self::Dns01 | Self::DnsAccount01 | Self::DnsPersist01 => {
                matches!(identifier, Identifier::Dns(_))
            }
            _ => true,
        }
    }
}

/// A challenge's token, checked: base64url characters only, at least 128 bits of them.
///
/// A token ends up in paths, URLs and files, so one that could be more than a name never becomes a
/// value of this type (RFC 8555 §8.1, §11.3).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Token(String);

impl Token {
    /// The fewest characters that hold 128 bits.
    pub const MIN_LENGTH: usize = 22;

    /// No CA comes near this; it bounds the names of files and the size of replies.
    pub const MAX_LENGTH: usize = 200;

    /// Checks a token.
    pub fn parse(text: &str) -> Result<Self, InvalidToken> {
        let plain = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_';
        let length = Self::MIN_LENGTH..=Self::MAX_LENGTH;
        if !length.contains(&text.len()) || !text.bytes().all(plain) {
            return Err(InvalidToken {
                text: text.chars().take(Self::MAX_LENGTH).collect(),
            });
        }
        Ok(Self(text.to_owned()))
    }

    /// The token's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Token {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A token that breaks the rules of RFC 8555 §8.1, so that using it could do harm.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error(
    "the token `{}` is not 22 to 200 characters of base64url (RFC 8555 §8.1)",
    printable(.text)
)]
#[non_exhaustive]
pub struct InvalidToken {
    /// The token as the CA sent it, cut to [`Token::MAX_LENGTH`] characters.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_tokens_of_cas() {
        for text in [
            "pNvmJivs0WCko2suV7fhe-59oFqyYx_yB7tx6kIMAyE",
            "DGyRejmCefe7v4NfDGDKfADGyRejmCef",
            "0123456789abcdefghijkl",
        ] {
            assert_eq!(Token::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn refuses_tokens_that_could_harm() {
        for text in [
            String::new(),
            "short".into(),
            "../../../../etc/cron.d/x-0123456789".into(),
            "..%2f..%2f..%2f0123456789abcdef".into(),
            "0123456789abcdefghijkl/".into(),
            "0123456789abcdefghijkl\r\nSet-Cookie: a".into(),
            "0123456789abcdefghijklmñopq".into(),
            "a".repeat(5_000),
        ] {
            assert!(Token::parse(&text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn knows_which_type_can_validate_what() {
        let name: Identifier = "example.com".parse().unwrap();
        let wildcard: Identifier = "*.example.com".parse().unwrap();
        let address: Identifier = "192.0.2.1".parse().unwrap();
        for (kind, expected) in [
            (ChallengeType::Http01, [true, false, true]),
            (ChallengeType::TlsAlpn01, [true, false, true]),
            (ChallengeType::Dns01, [true, true, false]),
            (ChallengeType::DnsAccount01, [true, true, false]),
            (ChallengeType::DnsPersist01, [true, true, false]),
            (ChallengeType::from("new-02"), [true, true, true]),
        ] {
            let found =
                [&name, &wildcard, &address].map(|identifier| kind.can_validate(identifier));
            assert_eq!(found, expected, "{kind}");
        }
    }

    #[test]
    fn reads_a_challenge_without_token() {
        let challenge: Challenge = serde_json::from_str(
            r#"{"type":"dns-persist-01","url":"https://ca.example/c","status":"pending",
                "accounturi":"https://ca.example/a","issuer-domain-names":["ca.example"]}"#,
        )
        .unwrap();
        assert_eq!(challenge.token(), Ok(None));
        assert_eq!(challenge.other["issuer-domain-names"][0], "ca.example");
    }
}
