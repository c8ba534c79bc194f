//! Accounts that other ACME clients have made, for use by this one.
//!
//! An account is worth keeping: CAs limit how many may be made, and an external account binding can
//! mostly be used once. Each function reads what one client has stored, and gives the
//! [`AccountCredentials`] that [`Client::account`](crate::Client::account) takes and that
//! certwright stores. Nothing is sent, and nothing of the other client's is changed; so both can use
//! the account, until one of them changes its key.
//!
//! | client | from its directory | from its files' contents |
//! |---|---|---|
//! | certbot | [`certbot_dir`] | [`certbot`] |
//! | lego | [`lego_dir`] | [`lego`] |
//! | acme.sh | [`acme_sh_dir`] | [`acme_sh`] |
//! | instant-acme | | [`instant_acme`] |
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use certwright::{Client, LetsEncrypt, import};
//!
//! let client = Client::builder(LetsEncrypt::Production).build().await?;
//! let account = client.account(&import::certbot_dir(
//!     "/etc/letsencrypt/accounts/acme-v02.api.letsencrypt.org/directory/0123456789abcdef",
//! )?)?;
//! # Ok(()) }
//! ```
//!
//! certbot and older versions of acme.sh make RSA keys, which need the crate feature `rsa`; keys on
//! P-384, which lego can make, need `p384`.

mod acme_sh;
mod certbot;
mod instant_acme;
mod lego;

use std::path::Path;
use std::{fs, io};

use serde::de::DeserializeOwned;
use thiserror::Error;
use zeroize::Zeroizing;

pub use self::acme_sh::{acme_sh, acme_sh_dir};
pub use self::certbot::{certbot, certbot_dir};
pub use self::instant_acme::instant_acme;
pub use self::lego::{lego, lego_dir};
use crate::account::AccountCredentials;
use crate::jose::{AccountKey, InvalidKey};
use crate::protocol::{InvalidUrl, Url};

/// Another client's account can't be taken over. It names the file, and never what is in it.
#[derive(Debug, Error)]
#[error("the account can't be imported: {file} {fault}")]
#[non_exhaustive]
pub struct ImportError {
    /// The file: its path where it was read from a directory, or else its usual name.
    pub file: String,
    /// What is wrong with it.
    #[source]
    pub fault: ImportFault,
}

impl ImportError {
    fn new(file: impl Into<String>, fault: ImportFault) -> Self {
        Self {
            file: file.into(),
            fault,
        }
    }

    /// Names a file by where it was read, in place of its usual name.
    fn in_dir(self, directory: &Path) -> Self {
        Self {
            file: directory.join(self.file).display().to_string(),
            ..self
        }
    }
}

/// What is wrong with a file of another client.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImportFault {
    /// A member should be base64url.
    #[error("has no base64url as its `{0}`")]
    Base64Url(&'static str),
    /// The path does not tell the URL of the CA's directory.
    #[error("is not at a path that tells the CA's directory: {0}")]
    Directory(&'static str),
    /// It can't be read.
    #[error("can't be read: {0}")]
    Io(#[source] io::Error),
    /// It is not the JSON that the client writes.
    #[error("is not the JSON object expected: line {line}, column {column}")]
    Json {
        /// The line at which reading stopped, from 1.
        line: usize,
        /// The column at which reading stopped.
        column: usize,
    },
    /// The account's key can't be used.
    #[error("holds no usable key: {0}")]
    Key(#[source] InvalidKey),
    /// A member or a variable is missing.
    #[error("lacks `{0}`")]
    Missing(&'static str),
    /// A member or a variable should be a URL.
    #[error("has no URL as its `{member}`: {error}")]
    Url {
        /// The member.
        member: &'static str,
        /// What is wrong with it.
        #[source]
        error: InvalidUrl,
    },
}

/// The text of a file in a directory, which may hold a key.
fn read(directory: &Path, file: &str) -> Result<Zeroizing<String>, ImportError> {
    fs::read_to_string(directory.join(file))
        .map(Zeroizing::new)
        .map_err(|error| ImportError::new(file, ImportFault::Io(error)).in_dir(directory))
}

/// serde's own words are not passed on, as they may quote what was read.
fn json<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, ImportError> {
    serde_json::from_str(text).map_err(|error| {
        let fault = ImportFault::Json {
            line: error.line(),
            column: error.column(),
        };
        ImportError::new(file, fault)
    })
}

fn url(file: &str, member: &'static str, text: Option<String>) -> Result<Url, ImportError> {
    let text = text.ok_or_else(|| ImportError::new(file, ImportFault::Missing(member)))?;
    Url::parse(&text).map_err(|error| ImportError::new(file, ImportFault::Url { member, error }))
}

/// Brings the parts together. What was read of the key is from this file.
fn credentials(
    file: &str,
    directory: Url,
    account: Url,
    key: Result<AccountKey, InvalidKey>,
) -> Result<AccountCredentials, ImportError> {
    let key = key
        .and_then(|key| key.to_pkcs8_pem())
        .map_err(|error| ImportError::new(file, ImportFault::Key(error)))?;
    Ok(AccountCredentials::new(directory, account, key.to_string()))
}

/// The directory's URL, for clients that name their folders by its host and its path.
fn directory_url(directory: &Path, authority: &str, path: &[&str]) -> Result<Url, ImportError> {
    let text = format!("https://{authority}/{}", path.join("/"));
    Url::parse(&text).map_err(|_| {
        let fault = ImportFault::Directory("its folders are not named by a host and a path");
        ImportError::new(directory.display().to_string(), fault)
    })
}

/// The names of the folders below the last one of this name.
fn folders_below<'a>(directory: &'a Path, root: &str) -> Option<Vec<&'a str>> {
    let folders: Vec<_> = directory.iter().filter_map(|part| part.to_str()).collect();
    let position = folders.iter().rposition(|&folder| folder == root)?;
    folders.get(position + 1..).map(<[_]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_directory_in_a_path() {
        let path = Path::new("/accounts/etc/accounts/ca.example:8443/acme/dir/0a1b");
        let folders = folders_below(path, "accounts").unwrap();
        assert_eq!(folders, ["ca.example:8443", "acme", "dir", "0a1b"]);
        assert_eq!(folders_below(path, "ca"), None);
        let url = directory_url(path, "ca.example:8443", &["acme", "dir"]).unwrap();
        assert_eq!(url.as_str(), "https://ca.example:8443/acme/dir");
        assert!(directory_url(path, "not a host", &[]).is_err());
    }

    #[test]
    fn does_not_quote_what_it_read() {
        let error = json::<Vec<u8>>("private_key.json", "\"secret\"").unwrap_err();
        assert_eq!(
            error.to_string(),
            "the account can't be imported: private_key.json is not the JSON object expected: line \
             1, column 8"
        );
    }
}
