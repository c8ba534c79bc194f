use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{ImportError, ImportFault, credentials, directory_url, folders_below, json, read, url};
use crate::account::AccountCredentials;
use crate::jose::AccountKey;
use crate::protocol::Url;

const REGISTRATION: &str = "regr.json";
const KEY: &str = "private_key.json";

/// Reads an account of certbot from its folder, such as
/// `/etc/letsencrypt/accounts/acme-v02.api.letsencrypt.org/directory/0123456789abcdef`.
///
/// The URL of the CA's directory is in the folders' names: `https://`, and what is between
/// `accounts` and the last folder.
pub fn certbot_dir(path: impl AsRef<Path>) -> Result<AccountCredentials, ImportError> {
    let path = path.as_ref();
    let folders = folders_below(path, "accounts").unwrap_or_default();
    let [authority, server_path @ .., _account] = &folders[..] else {
        let fault = ImportFault::Directory("no host and no path are below `accounts`");
        return Err(ImportError::new(path.display().to_string(), fault));
    };
    let directory = directory_url(path, authority, server_path)?;
    certbot(&read(path, REGISTRATION)?, &read(path, KEY)?, directory)
        .map_err(|error| error.in_dir(path))
}

/// Reads an account of certbot from the contents of `regr.json` and `private_key.json`.
///
/// `directory` is the URL of the CA's directory: what certbot's `--server` says.
pub fn certbot(
    registration: &str,
    private_key: &str,
    directory: Url,
) -> Result<AccountCredentials, ImportError> {
    let registration: Registration = json(REGISTRATION, registration)?;
    let account = url(REGISTRATION, "uri", registration.uri)?;
    // What is no JSON is better told by its line than as a key that is wrong.
    json::<IgnoredAny>(KEY, private_key)?;
    credentials(KEY, directory, account, AccountKey::from_jwk(private_key))
}

/// `regr.json`. Its `body` is empty in newer versions, and the account as it once was in older ones.
#[derive(Deserialize)]
struct Registration {
    uri: Option<String>,
}
