//! The rustls [`CryptoProvider`] by which TLS is spoken and signatures are verified.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// The provider that the process installed, else that of a crate feature, aws-lc-rs before ring.
///
/// `None` where the process installed none and certwright was built with neither feature.
pub(crate) fn crypto_provider() -> Option<Arc<CryptoProvider>> {
    if let Some(installed) = CryptoProvider::get_default() {
        return Some(installed.clone());
    }

    #[cfg(feature = "aws-lc-rs")]
    return Some(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));

    #[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
    return Some(Arc::new(rustls::crypto::ring::default_provider()));

    #[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
    None
}
