use serde::{Deserialize, Serialize};

use super::{Jwk, Jws, KeyReference, Signer, SigningError};
use crate::protocol::Url;

/// The request for another key of an account (RFC 8555 §7.3.5): signed by the new key, it is the
/// payload of a request that the old key signs.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct KeyChange {
    /// The account's URL.
    pub account: Url,
    /// The key that the account has so far.
    pub old_key: Jwk,
}

impl KeyChange {
    /// A request for another key of this account.
    pub fn new(account: Url, old_key: Jwk) -> Self {
        Self { account, old_key }
    }

    /// Signs the request by the new key.
    ///
    /// `url` is the CA's `keyChange`, which the outer request goes to as well. There is no nonce in
    /// here.
    pub async fn sign(&self, new_key: &dyn Signer, url: &Url) -> Result<Jws, SigningError> {
        let payload = serde_json::to_vec(self).map_err(|error| SigningError::new(error.into()))?;
        Jws::sign(new_key, KeyReference::Jwk, None, url, &payload).await
    }
}

#[cfg(all(test, feature = "rsa"))]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::jose::AccountKey;

    #[tokio::test]
    async fn vectors() {
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let keys = read(include_str!("../../tests/vectors/keys.json"));
        let find = |id: &Value| {
            let mut cases = keys["cases"].as_array().unwrap().iter();
            let key = cases.find(|key| &key["id"] == id).unwrap();
            AccountKey::from_jwk(&key["jwk"].to_string()).unwrap()
        };
        let vectors = read(include_str!("../../tests/vectors/key_rollover.json"));
        let cases = vectors["cases"].as_array().unwrap();
        assert!(!cases.is_empty());
        for case in cases {
            let (old, new) = (find(&case["old_key"]), find(&case["new_key"]));
            let url = Url::parse(case["url"].as_str().unwrap()).unwrap();
            let account = Url::parse(case["account"].as_str().unwrap()).unwrap();
            let jws = KeyChange::new(account, old.public_key().clone())
                .sign(&new, &url)
                .await
                .unwrap();
            assert_eq!(serde_json::to_value(&jws).unwrap(), case["inner_jws"]);
            assert_eq!(jws.header().unwrap().nonce, None);
        }
    }
}
