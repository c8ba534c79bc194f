use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Jwk, SignatureAlgorithm, SignatureFault, Signer, SigningError};
use crate::protocol::{Base64Url, Url};

/// A signed request in JWS's flattened JSON form (RFC 7515 §7.2.2, RFC 8555 §6.2).
///
/// ```
/// # futures_util::FutureExt::now_or_never(async {
/// use certwright::jose::{AccountKey, Jws, KeyReference};
/// use certwright::protocol::Url;
///
/// let key = AccountKey::generate()?;
/// let account = Url::parse("https://ca.example/acme/account/1")?;
/// let order = Url::parse("https://ca.example/acme/order/1")?;
/// let jws = Jws::sign(&key, KeyReference::Kid(&account), Some("nonce"), &order, b"").await?;
/// assert_eq!(jws.header()?.url, order.as_str());
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// # }).unwrap().unwrap();
/// ```
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Jws {
    /// The [`Header`], as base64url of its JSON.
    pub protected: String,
    /// The payload, as base64url.
    pub payload: String,
    /// The signature over `protected`, a dot and `payload`.
    pub signature: Base64Url,
}

impl Jws {
    /// Signs a payload for a URL.
    ///
    /// `nonce` is `None` only within another JWS (RFC 8555 §7.3.4, §7.3.5). An empty payload makes
    /// the request a POST-as-GET (§6.3).
    ///
    /// Where the request shows the key, the signature is verified before it is handed out.
    pub async fn sign(
        signer: &dyn Signer,
        key: KeyReference<'_>,
        nonce: Option<&str>,
        url: &Url,
        payload: &[u8],
    ) -> Result<Self, SigningError> {
        let (jwk, kid) = match key {
            KeyReference::Jwk => (Some(signer.public_key().clone()), None),
            KeyReference::Kid(account) => (None, Some(account.as_str().to_owned())),
        };
        let header = Header {
            alg: signer.algorithm(),
            jwk,
            kid,
            nonce: nonce.map(str::to_owned),
            url: url.as_str().to_owned(),
        };
        let unsigned = Self::unsigned(&header, payload)?;
        let signature = signer
            .sign(unsigned.signing_input().as_bytes())
            .await
            .map_err(SigningError::new)?;
        let signed = Self {
            signature: signature.into(),
            ..unsigned
        };
        if key == KeyReference::Jwk {
            signed.check_signer(signer.public_key())?;
        }
        Ok(signed)
    }

    /// A key shows itself to a CA once, when its account is made or given to it. A signer that does
    /// not sign as it should, such as by an ECDSA signature in DER, is better found then, here, than
    /// by a CA that says no more than `malformed`.
    fn check_signer(&self, key: &Jwk) -> Result<(), SigningError> {
        match self.verify(key) {
            Err(InvalidJws::Signature(SignatureFault::Wrong)) => Err(SigningError::new(
                "what it signed does not verify by its own public key; an ECDSA signature must be \
                 r and s of fixed width, not DER (RFC 7518 §3.4)"
                    .into(),
            )),
            // Not everything that signs can be verified here: ring has no P-521.
            _ => Ok(()),
        }
    }

    /// The protected header, decoded. Nothing is verified.
    pub fn header(&self) -> Result<Header, InvalidJws> {
        let json = Base64Url::decode(&self.protected).map_err(|_| InvalidJws::Protected)?;
        serde_json::from_slice(json.as_bytes())
            .map_err(|error| InvalidJws::Header(error.to_string()))
    }

    /// The payload, decoded. Nothing is verified.
    pub fn payload(&self) -> Result<Vec<u8>, InvalidJws> {
        Base64Url::decode(&self.payload)
            .map(Base64Url::into_bytes)
            .map_err(|_| InvalidJws::Payload)
    }

    /// Verifies the signature by a public key.
    pub fn verify(&self, key: &Jwk) -> Result<(), InvalidJws> {
        let algorithm = self.header()?.alg;
        key.verify(
            &algorithm,
            self.signing_input().as_bytes(),
            self.signature.as_bytes(),
        )
        .map_err(InvalidJws::Signature)
    }

    pub(super) fn unsigned(header: &Header, payload: &[u8]) -> Result<Self, SigningError> {
        let header = serde_json::to_vec(header).map_err(|error| SigningError::new(error.into()))?;
        Ok(Self {
            protected: Base64Url::from(header).to_string(),
            payload: Base64Url::from(payload).to_string(),
            signature: Base64Url::default(),
        })
    }

    /// What is signed (RFC 7515 §5.1).
    pub(super) fn signing_input(&self) -> String {
        format!("{}.{}", self.protected, self.payload)
    }
}

/// The protected header of an ACME request (RFC 8555 §6.2).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The algorithm.
    pub alg: SignatureAlgorithm,
    /// The key itself: in newAccount, in a revocation by the certificate's key, and within.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwk: Option<Jwk>,
    /// The account's URL, in all other requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// The nonce (§6.5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// The URL that the request is sent to (§6.4).
    pub url: String,
}

/// How a request names the key that signed it (RFC 8555 §6.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyReference<'a> {
    /// By itself: the signer's public key stands in the header.
    Jwk,
    /// By the URL of the account whose key it is.
    Kid(&'a Url),
}

/// A JWS that can't be read or does not verify.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum InvalidJws {
    /// The protected header is no ACME header.
    #[error("the protected header is not that of an ACME request: {0}")]
    Header(String),
    /// The payload is not base64url.
    #[error("the payload is not base64url without padding")]
    Payload,
    /// The protected header is not base64url.
    #[error("the protected header is not base64url without padding")]
    Protected,
    /// The signature is wrong, or could not be verified.
    #[error(transparent)]
    Signature(SignatureFault),
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn vectors(text: &str) -> Vec<Value> {
        let vectors: Value = serde_json::from_str(text).unwrap();
        vectors["cases"].as_array().unwrap().clone()
    }

    #[test]
    fn verifies_the_vectors() {
        let mut seen = 0;
        for case in vectors(include_str!("../../tests/vectors/jws.json")) {
            // HMAC has no public key; `mac` has those.
            if case["key"]["kty"] == "oct" {
                continue;
            }
            let algorithm = SignatureAlgorithm::from(case["alg"].as_str().unwrap());
            // ring has no P-521.
            if algorithm == SignatureAlgorithm::Es512 && !cfg!(feature = "aws-lc-rs") {
                continue;
            }
            let jwk: Jwk = serde_json::from_value(case["key"].clone()).unwrap();
            let input = format!(
                "{}.{}",
                case["protected"].as_str().unwrap(),
                case["payload"].as_str().unwrap()
            );
            let signature = Base64Url::decode(case["signature"].as_str().unwrap()).unwrap();
            jwk.verify(&algorithm, input.as_bytes(), signature.as_bytes())
                .unwrap_or_else(|error| panic!("{}: {error}", case["id"]));

            let mut wrong = signature.into_bytes();
            wrong[10] ^= 1;
            assert!(jwk.verify(&algorithm, input.as_bytes(), &wrong).is_err());
            assert!(
                jwk.verify(&algorithm, input.as_bytes(), &wrong[1..])
                    .is_err()
            );
            seen += 1;
        }
        assert!(seen >= 3, "only {seen} vectors were found");
    }

    #[cfg(feature = "rsa")]
    #[tokio::test]
    async fn signs_the_requests_of_the_vectors() {
        use crate::jose::AccountKey;

        let keys = vectors(include_str!("../../tests/vectors/keys.json"));
        let cases = vectors(include_str!("../../tests/vectors/acme_jws.json"));
        assert!(cases.len() >= 7);
        for case in cases {
            let key = keys.iter().find(|key| key["id"] == case["key"]).unwrap();
            let key = AccountKey::from_jwk(&key["jwk"].to_string()).unwrap();
            let expected: Jws = serde_json::from_value(case["jws"].clone()).unwrap();
            let payload = case["payload_json"].as_str().unwrap_or_default();

            // The signature over exactly these octets.
            let unsigned = Jws {
                signature: Base64Url::default(),
                ..expected.clone()
            };
            let signature = key.sign(unsigned.signing_input().as_bytes()).await.unwrap();
            assert_eq!(
                Base64Url::from(signature),
                expected.signature,
                "{}",
                case["id"]
            );
            assert_eq!(expected.payload().unwrap(), payload.as_bytes());
            let public = key.public_key();
            expected.verify(public).unwrap();

            // And the whole request as certwright makes it, where its URL is one.
            let header = expected.header().unwrap();
            let Ok(url) = Url::parse(&header.url) else {
                continue;
            };
            let account = header.kid.as_deref().map(|kid| Url::parse(kid).unwrap());
            let reference = account
                .as_ref()
                .map_or(KeyReference::Jwk, KeyReference::Kid);
            let nonce = header.nonce.as_deref();
            let made = Jws::sign(&key, reference, nonce, &url, payload.as_bytes())
                .await
                .unwrap();
            assert_eq!(made, expected, "{}", case["id"]);
        }
    }

    #[cfg(feature = "rsa")]
    #[tokio::test]
    async fn signs_the_key_change_of_the_vectors() {
        use crate::jose::AccountKey;

        let keys = vectors(include_str!("../../tests/vectors/keys.json"));
        let find = |id: &Value| {
            let key = keys.iter().find(|key| &key["id"] == id).unwrap();
            AccountKey::from_jwk(&key["jwk"].to_string()).unwrap()
        };
        for case in vectors(include_str!("../../tests/vectors/key_rollover.json")) {
            let (old, new) = (find(&case["old_key"]), find(&case["new_key"]));
            let url = Url::parse(case["url"].as_str().unwrap()).unwrap();
            let account = Url::parse(case["account"].as_str().unwrap()).unwrap();

            let payload = case["inner_payload_json"].as_str().unwrap();
            let inner = Jws::sign(&new, KeyReference::Jwk, None, &url, payload.as_bytes())
                .await
                .unwrap();
            assert_eq!(serde_json::to_value(&inner).unwrap(), case["inner_jws"]);

            let outer = Jws::sign(
                &old,
                KeyReference::Kid(&account),
                Some("S9XaOcxP5McpnTcWPIhYuB"),
                &url,
                &serde_json::to_vec(&inner).unwrap(),
            )
            .await
            .unwrap();
            assert_eq!(serde_json::to_value(&outer).unwrap(), case["outer_jws"]);
        }
    }

    #[test]
    fn refuses_other_forms() {
        for text in [
            r#"{"protected":"","payload":"","signature":"","header":{}}"#,
            r#"{"protected":"","payload":"","signatures":[]}"#,
            r#"{"protected":"","payload":"","signature":"AA=="}"#,
        ] {
            assert!(serde_json::from_str::<Jws>(text).is_err(), "{text}");
        }
        let jws = |json: &str| Jws {
            protected: Base64Url::from(json.as_bytes()).to_string(),
            payload: String::new(),
            signature: Base64Url::default(),
        };
        let text = r#"{"alg":"ES256","url":"u","b64":false,"crit":["b64"]}"#;
        assert!(matches!(jws(text).header(), Err(InvalidJws::Header(_))));
    }
}
