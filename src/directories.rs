//! The directories of public CAs, with what each needs of an account.
//!
//! Each can be given to [`Client::builder`](crate::Client::builder) in place of a URL:
//!
//! ```no_run
//! # async fn example() -> Result<(), certwright::Error> {
//! use certwright::Client;
//! use certwright::directories::GoogleTrustServices;
//!
//! let directory = GoogleTrustServices::Production;
//! let client = Client::builder(directory).build().await?;
//! if directory.details().external_account {
//!     // `AccountBuilder::external_account` with what the CA's own site hands out.
//! }
//! # Ok(()) }
//! ```
//!
//! `docs/directories.md` has a page for each, with what is peculiar to it.

use crate::protocol::{InvalidUrl, Url};

/// Let's Encrypt.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum LetsEncrypt {
    /// Issues certificates that browsers trust, within rate limits.
    Production,
    /// For trying things out: its limits are high, and nobody trusts its certificates.
    Staging,
}

/// Google Trust Services.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum GoogleTrustServices {
    /// Issues certificates that browsers trust.
    Production,
    /// For trying things out: nobody trusts its certificates. Its external accounts are not those of
    /// production.
    Staging,
}

/// ZeroSSL. It has no staging directory.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ZeroSsl;

/// SSL.com, which has a directory for each kind of issuing key. It has no staging directory.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum SslCom {
    /// Certificates signed by ECDSA.
    Ecc,
    /// Certificates signed by RSA.
    Rsa,
}

/// Actalis. It has no staging directory.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Actalis;

/// What is known of a directory beforehand. What the directory itself says goes before it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Details {
    /// The CA's name, for people.
    pub name: &'static str,
    /// The directory's URL.
    pub url: &'static str,
    /// Whether browsers trust its certificates.
    pub trusted: bool,
    /// Whether an account must be bound to one that its holder has at the CA already: see
    /// [`AccountBuilder::external_account`](crate::AccountBuilder::external_account).
    pub external_account: bool,
    /// What the CA makes of an account's contacts.
    pub contact: ContactUse,
}

/// What a CA makes of the contacts of an account (RFC 8555 §7.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ContactUse {
    /// It does not keep them.
    Dropped,
    /// It keeps them, and may write to them. A `mailto:` URL is worth giving.
    Kept,
}

impl LetsEncrypt {
    /// What is known of the directory.
    pub const fn details(self) -> Details {
        let (url, trusted) = match self {
            Self::Production => ("https://acme-v02.api.letsencrypt.org/directory", true),
            Self::Staging => (
                "https://acme-staging-v02.api.letsencrypt.org/directory",
                false,
            ),
        };
        Details {
            name: "Let's Encrypt",
            url,
            trusted,
            external_account: false,
            contact: ContactUse::Dropped,
        }
    }
}

impl GoogleTrustServices {
    /// What is known of the directory.
    pub const fn details(self) -> Details {
        let (url, trusted) = match self {
            Self::Production => ("https://dv.acme-v02.api.pki.goog/directory", true),
            Self::Staging => ("https://dv.acme-v02.test-api.pki.goog/directory", false),
        };
        Details {
            trusted,
            ..bound("Google Trust Services", url)
        }
    }
}

impl ZeroSsl {
    /// What is known of the directory.
    pub const fn details(self) -> Details {
        bound("ZeroSSL", "https://acme.zerossl.com/v2/DV90")
    }
}

impl SslCom {
    /// What is known of the directory.
    pub const fn details(self) -> Details {
        bound(
            "SSL.com",
            match self {
                Self::Ecc => "https://acme.ssl.com/sslcom-dv-ecc",
                Self::Rsa => "https://acme.ssl.com/sslcom-dv-rsa",
            },
        )
    }
}

impl Actalis {
    /// What is known of the directory.
    pub const fn details(self) -> Details {
        bound("Actalis", "https://acme-api.actalis.com/acme/directory")
    }
}

/// A CA that browsers trust, and that wants accounts bound.
const fn bound(name: &'static str, url: &'static str) -> Details {
    Details {
        name,
        url,
        trusted: true,
        external_account: true,
        contact: ContactUse::Kept,
    }
}

macro_rules! directories {
    ($($name:ident),+) => {
        $(
            impl $name {
                /// The directory's URL.
                pub const fn url(self) -> &'static str {
                    self.details().url
                }
            }

            impl TryFrom<$name> for Url {
                type Error = InvalidUrl;

                fn try_from(directory: $name) -> Result<Self, Self::Error> {
                    Self::parse(directory.url())
                }
            }
        )+
    };
}

directories!(LetsEncrypt, GoogleTrustServices, ZeroSsl, SslCom, Actalis);

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_directory_has_an_https_url_of_its_own() {
        let urls: Vec<Url> = [
            LetsEncrypt::Production.try_into(),
            LetsEncrypt::Staging.try_into(),
            GoogleTrustServices::Production.try_into(),
            GoogleTrustServices::Staging.try_into(),
            ZeroSsl.try_into(),
            SslCom::Ecc.try_into(),
            SslCom::Rsa.try_into(),
            Actalis.try_into(),
        ]
        .into_iter()
        .collect::<Result<_, InvalidUrl>>()
        .unwrap();
        assert!(urls.iter().all(Url::is_https));
        assert_eq!(urls.iter().collect::<HashSet<_>>().len(), urls.len());
    }

    #[test]
    fn only_lets_encrypt_needs_no_external_account() {
        assert!(!LetsEncrypt::Staging.details().external_account);
        assert!(!LetsEncrypt::Staging.details().trusted);
        for details in [
            GoogleTrustServices::Production.details(),
            ZeroSsl.details(),
            SslCom::Ecc.details(),
            Actalis.details(),
        ] {
            assert!(details.external_account && details.trusted, "{details:?}");
        }
        assert!(!GoogleTrustServices::Staging.details().trusted);
    }
}
