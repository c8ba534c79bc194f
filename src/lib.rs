//! An async ACME client: certificates from Let's Encrypt or any other ACME CA
//! ([RFC 8555](https://www.rfc-editor.org/rfc/rfc8555) and its extensions).
//!
//! ```no_run
//! # #[cfg(all(feature = "http-01", feature = "hyper"))]
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use certwright::jose::AccountKey;
//! use certwright::solver::Http01Server;
//! use certwright::{Client, LetsEncrypt};
//!
//! let client = Client::builder(LetsEncrypt::Staging).build().await?;
//! let account = client
//!     .new_account(AccountKey::generate()?)
//!     .contact("mailto:ops@example.com")
//!     .agree_to_terms()
//!     .create()
//!     .await?;
//! let issued = account
//!     .issue(["example.com", "www.example.com"])
//!     .solver(Http01Server::on_port(80).await?)
//!     .await?;
//! std::fs::write("chain.pem", issued.chain().pem())?;
//! # Ok(()) }
//! ```
//!
//! # Levels
//!
//! * [`Account::issue`] does all of it: order, challenges, CSR, chain, clean-up.
//! * [`Client`], [`Account`], [`Order`], [`Authorization`], [`Challenge`] and [`Certificate`] are
//!   handles of the RFC's resources, for a flow of one's own. They are cheap to clone, their methods
//!   take `&self` and may run side by side, and each can be made again from its URL.
//! * [`import`] takes over accounts that other ACME clients have made.
//! * [`session`], [`transport`], [`renewal`], [`x509`], [`jose`] and [`protocol`] are the layers
//!   below, each usable on its own.
//!
//! # What is yours
//!
//! * **Keys.** An account's key is given to [`Client::new_account`]; a certificate's key is told by
//!   [`issuance::Event::Finalizing`], or given to [`issuance::Issuance::key`]. Store them before the
//!   CA hears of them, and no failure loses a certificate or an account. Or have
//!   [`issuance::Issuance::checkpoint`] store all that another process needs to go on.
//! * **Files** with secrets: [`private_file::write`] writes one whole or not at all, for its owner only.
//! * **The agreement** to the CA's terms of service: [`AccountBuilder::agree_to_terms`].
//! * **The answer to challenges**: a [`solver::ChallengeSolver`], ready-made or your own.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `aws-lc-rs` | yes | TLS and signature verification by aws-lc-rs |
//! | `ring` | | the same by ring; with both, aws-lc-rs is taken |
//! | `hyper` | yes | [`transport`]'s `HyperTransport`, HTTP/1.1 and HTTP/2 |
//! | `http-01` | yes | [`solver`]s for http-01 |
//! | `tls-alpn-01` | yes | [`solver`]s for tls-alpn-01 |
//! | `dns-01` | | [`solver`]s for dns-01 and its relatives; providers that are programs or people |
//! | `rfc2136` | | the DNS provider for dynamic update (RFC 2136) with TSIG |
//! | `acme-dns` | | the DNS provider for acme-dns |
//! | `dns-update` | | the DNS providers of the crate `dns-update`, some seventy DNS hosts |
//! | `idna` | | internationalised names in [`protocol::Identifier`], turned into A-labels |
//! | `p384`, `rsa`, `ed25519` | | keys of these kinds |
//! | `test-ca` | | `test_ca`, an ACME CA inside the process |

#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

mod account;
mod authorization;
mod auto_renewal;
mod certificate;
mod challenge;
mod client;
mod delegation;
pub mod directories;
#[cfg(feature = "dns-01")]
pub mod dns;
pub mod error;
pub mod import;
pub mod issuance;
pub mod jose;
mod order;
#[cfg(feature = "dns-01")]
pub mod preflight;
pub mod private_file;
pub mod protocol;
mod provider;
pub mod renewal;
pub mod session;
pub mod solver;
#[cfg(feature = "test-ca")]
pub mod test_ca;
pub mod transport;
pub mod x509;

pub use self::account::{Account, AccountBuilder, AccountCredentials, AccountUpdate};
pub use self::authorization::{Authorization, AuthorizationBuilder};
pub use self::certificate::Certificate;
pub use self::challenge::Challenge;
pub use self::client::{Client, ClientBuilder};
pub use self::directories::LetsEncrypt;
pub use self::error::{BoxError, Error, Retry};
pub use self::order::{Order, OrderBuilder, Replacement};

/// The examples in the Markdown files compile.
#[cfg(all(doctest, feature = "http-01", feature = "hyper"))]
mod markdown {
    #[doc = include_str!("../README.md")]
    struct Readme;

    #[doc = include_str!("../docs/directories.md")]
    struct Directories;

    #[doc = include_str!("../docs/errors.md")]
    struct Errors;

    #[doc = include_str!("../docs/getting-started.md")]
    struct GettingStarted;

    #[doc = include_str!("../docs/accounts.md")]
    struct Accounts;

    #[doc = include_str!("../docs/certificates.md")]
    struct Certificates;

    #[cfg(all(
        feature = "acme-dns",
        feature = "dns-update",
        feature = "rfc2136",
        feature = "tls-alpn-01"
    ))]
    #[doc = include_str!("../docs/challenges.md")]
    struct Challenges;

    #[doc = include_str!("../docs/orders.md")]
    struct Orders;

    #[doc = include_str!("../docs/reliability.md")]
    struct Reliability;

    #[cfg(feature = "test-ca")]
    #[doc = include_str!("../docs/testing.md")]
    struct Testing;
}
