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

mod error;
pub mod jose;
pub mod protocol;
mod provider;
pub mod solver;
#[cfg(feature = "test-ca")]
pub mod test_ca;
pub mod x509;

pub use self::error::BoxError;
