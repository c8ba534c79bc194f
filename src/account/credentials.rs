use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::protocol::{InvalidUrl, Url};

/// What must be stored to use an account again. Serialises to JSON with the members `directory`,
/// `account` and `key` (PKCS#8 in PEM).
///
/// It holds the account's private key: store it where only the program can read it.
///
/// ```no_run
/// # async fn example(client: certwright::Client, account: certwright::Account)
/// # -> Result<(), Box<dyn std::error::Error>> {
/// let stored = serde_json::to_string(&account.credentials()?)?;
/// // In another process:
/// let account = client.account(&serde_json::from_str(&stored)?)?;
/// # Ok(()) }
/// ```
#[derive(Clone, Serialize)]
pub struct AccountCredentials {
    directory: Url,
    account: Url,
    key: Zeroizing<String>,
}

impl AccountCredentials {
    /// Brings together what was stored in another form. `key` is PKCS#8 in PEM.
    pub fn new(directory: Url, account: Url, key: impl Into<String>) -> Self {
        Self {
            directory,
            account,
            key: Zeroizing::new(key.into()),
        }
    }

    /// The URL of the CA's directory.
    pub fn directory(&self) -> &Url {
        &self.directory
    }

    /// The account's URL.
    pub fn account(&self) -> &Url {
        &self.account
    }

    /// The account's key, as PKCS#8 in PEM. A secret.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl PartialEq for AccountCredentials {
    /// The keys are compared in constant time, so that none can be guessed octet by octet.
    fn eq(&self, other: &Self) -> bool {
        let same_key = self.key.as_bytes().ct_eq(other.key.as_bytes());
        self.directory == other.directory && self.account == other.account && same_key.into()
    }
}

impl Eq for AccountCredentials {}

impl fmt::Debug for AccountCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountCredentials")
            .field("directory", &self.directory)
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

/// By hand, as serde's errors repeat the text that is in the wrong place: it may be the key.
impl<'de> Deserialize<'de> for AccountCredentials {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.is_human_readable() {
            // `deserialize_map` would have serde_json say what there is instead of an object.
            true => deserializer.deserialize_any(Object),
            false => RawCredentials::deserialize(deserializer)?.checked(),
        }
    }
}

struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = AccountCredentials;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `directory`, `account` and `key`")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
        RawCredentials::deserialize(MapAccessDeserializer::new(members))?.checked()
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Self::Value, E> {
        Err(E::invalid_type(de::Unexpected::Other("a string"), &self))
    }
}

#[derive(Deserialize)]
struct RawCredentials {
    directory: Zeroizing<String>,
    account: Zeroizing<String>,
    key: Zeroizing<String>,
}

impl RawCredentials {
    fn checked<E: de::Error>(self) -> Result<AccountCredentials, E> {
        let url = |member, text: &str| {
            let refuse = |error: InvalidUrl| format!("`{member}` is no URL: {}", error.fault);
            Url::parse(text).map_err(|error| E::custom(refuse(error)))
        };
        Ok(AccountCredentials {
            directory: url("directory", &self.directory)?,
            account: url("account", &self.account)?,
            key: self.key,
        })
    }
}
