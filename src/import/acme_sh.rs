use std::path::Path;

use super::{ImportError, ImportFault, credentials, directory_url, folders_below, read, url};
use crate::account::AccountCredentials;
use crate::jose::AccountKey;
use crate::protocol::Url;

const CONFIGURATION: &str = "ca.conf";
const KEY: &str = "account.key";
const ACCOUNT_URL: &str = "ACCOUNT_URL";

/// Reads an account of acme.sh from its folder, such as
/// `.acme.sh/ca/acme-v02.api.letsencrypt.org/directory`.
///
/// The URL of the CA's directory is in the folders' names: `https://`, and what is below `ca`. acme.sh
/// leaves a port out there; it is taken from the account's URL, where that is of the same host.
pub fn acme_sh_dir(path: impl AsRef<Path>) -> Result<AccountCredentials, ImportError> {
    let path = path.as_ref();
    let configuration = read(path, CONFIGURATION)?;
    let account = account_url(&configuration).map_err(|error| error.in_dir(path))?;

    let folders = folders_below(path, "ca").unwrap_or_default();
    let [host, server_path @ ..] = &folders[..] else {
        let fault = ImportFault::Directory("no host and no path are below `ca`");
        return Err(ImportError::new(path.display().to_string(), fault));
    };
    let authority = account
        .as_str()
        .split('/')
        .nth(2)
        .filter(|authority| authority.split(':').next() == Some(host))
        .unwrap_or(host);
    let directory = directory_url(path, authority, server_path)?;
    acme_sh(&configuration, &read(path, KEY)?, directory).map_err(|error| error.in_dir(path))
}

/// Reads an account of acme.sh from the contents of `ca.conf` and `account.key`.
///
/// `directory` is the URL of the CA's directory: what acme.sh's `--server` says, or the one that the
/// name given there stands for.
pub fn acme_sh(
    configuration: &str,
    private_key: &str,
    directory: Url,
) -> Result<AccountCredentials, ImportError> {
    let account = account_url(configuration)?;
    credentials(KEY, directory, account, AccountKey::from_pem(private_key))
}

/// The account's URL in `ca.conf`, a file of shell assignments. Where one is there twice, the shell
/// takes the last.
fn account_url(configuration: &str) -> Result<Url, ImportError> {
    let value = configuration
        .lines()
        .filter_map(|line| line.trim().split_once('='))
        .filter(|(name, _)| *name == ACCOUNT_URL)
        .map(|(_, value)| value.trim_matches(['\'', '"']).to_owned())
        .next_back();
    url(CONFIGURATION, ACCOUNT_URL, value)
}
