use std::path::Path;

use serde::Deserialize;

use super::{ImportError, credentials, json, read, url};
use crate::account::AccountCredentials;
use crate::jose::AccountKey;
use crate::protocol::Url;

const ACCOUNT: &str = "account.json";
const KEY: &str = "keys/*.key";

/// Reads an account of lego from its folder, such as
/// `.lego/accounts/acme-v02.api.letsencrypt.org/ops@example.com`.
///
/// `directory` is the URL of the CA's directory: what lego's `--server` says. lego's files don't tell
/// it.
pub fn lego_dir(path: impl AsRef<Path>, directory: Url) -> Result<AccountCredentials, ImportError> {
    let path = path.as_ref();
    // The key's file has the folder's own name.
    let name = path.file_name().and_then(|name| name.to_str());
    let key = format!("keys/{}.key", name.unwrap_or_default());
    lego(&read(path, ACCOUNT)?, &read(path, &key)?, directory).map_err(|error| {
        let file = match error.file.as_str() {
            KEY => key,
            file => file.to_owned(),
        };
        ImportError { file, ..error }.in_dir(path)
    })
}

/// Reads an account of lego from the contents of `account.json` and of the key's file.
///
/// `directory` is the URL of the CA's directory: what lego's `--server` says.
pub fn lego(
    account: &str,
    private_key: &str,
    directory: Url,
) -> Result<AccountCredentials, ImportError> {
    let account: Account = json(ACCOUNT, account)?;
    let registration = account.registration.unwrap_or_default();
    let account = url(ACCOUNT, "registration.uri", registration.uri)?;
    credentials(KEY, directory, account, AccountKey::from_pem(private_key))
}

/// `account.json`. The registration is missing where it was interrupted.
#[derive(Deserialize)]
struct Account {
    registration: Option<Registration>,
}

#[derive(Default, Deserialize)]
struct Registration {
    uri: Option<String>,
}
