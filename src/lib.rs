//! certwright
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
mod certificate;
mod challenge;
mod client;
pub mod error;
pub mod issuance;
pub mod jose;
mod order;
pub mod protocol;
mod provider;
pub mod session;
pub mod solver;
#[cfg(feature = "test-ca")]
pub mod test_ca;
pub mod transport;
pub mod x509;

pub use self::account::{Account, AccountBuilder, AccountCredentials};
pub use self::authorization::Authorization;
pub use self::certificate::Certificate;
pub use self::challenge::Challenge;
pub use self::client::{Client, ClientBuilder, LetsEncrypt};
pub use self::error::{BoxError, Error, Retry};
pub use self::order::{Order, OrderBuilder};
