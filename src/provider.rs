//! The rustls [`CryptoProvider`] by which TLS is spoken and signatures are verified.

use std::sync::Arc;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
use std::sync::LazyLock;

use rustls::crypto::CryptoProvider;

/// The provider that the process installed, else that of a crate feature, aws-lc-rs before ring.
///
/// `None` where the process installed none and certwright was built with neither feature.
pub(crate) fn crypto_provider() -> Option<Arc<CryptoProvider>> {
    if let Some(installed) = CryptoProvider::get_default() {
        return Some(installed.clone());
    }

    // Made once: it is asked for at each signature that is verified.
    #[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
    {
        static OWN: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
            #[cfg(feature = "aws-lc-rs")]
            let provider = rustls::crypto::aws_lc_rs::default_provider();
            #[cfg(not(feature = "aws-lc-rs"))]
            let provider = rustls::crypto::ring::default_provider();
            Arc::new(provider)
        });
        Some(Arc::clone(&OWN))
    }

    #[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
    None
}
