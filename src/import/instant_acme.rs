use serde::Deserialize;
use zeroize::Zeroizing;

use super::{ImportError, ImportFault, credentials, json, url};
use crate::account::AccountCredentials;
use crate::jose::AccountKey;
use crate::protocol::{Base64Url, Url};

const CREDENTIALS: &str = "AccountCredentials";

/// Reads an account of instant-acme from the JSON of its `AccountCredentials`.
///
/// `directory` is the URL of the CA's directory. It may be `None` where the JSON has it; older versions
/// wrote the URLs of its resources instead.
pub fn instant_acme(
    json_text: &str,
    directory: impl Into<Option<Url>>,
) -> Result<AccountCredentials, ImportError> {
    let stored: Stored = json(CREDENTIALS, json_text)?;
    let directory = match directory.into() {
        Some(directory) => directory,
        None => url(CREDENTIALS, "directory", stored.directory)?,
    };
    let account = url(CREDENTIALS, "id", stored.id)?;
    let member = "key_pkcs8";
    let fail = |fault| ImportError::new(CREDENTIALS, fault);
    let text = stored
        .key_pkcs8
        .ok_or_else(|| fail(ImportFault::Missing(member)))?;
    let der = Base64Url::decode(&text)
        .map(|der| Zeroizing::new(der.into_bytes()))
        .map_err(|_| fail(ImportFault::Base64Url(member)))?;
    let key = AccountKey::from_pkcs8_der(&der);
    credentials(CREDENTIALS, directory, account, key)
}

#[derive(Deserialize)]
struct Stored {
    id: Option<String>,
    key_pkcs8: Option<Zeroizing<String>>,
    directory: Option<String>,
}
