//! Signing by the TLS provider that is in the process anyway: aws-lc-rs and ring take a fraction of
//! the time that portable code takes.

use std::sync::{Arc, OnceLock};

use rustls::SignatureScheme;
use rustls::sign::{Signer, SigningKey};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::SignatureAlgorithm;
use crate::provider::crypto_provider;

/// A private key as the TLS provider holds it, once there is a provider.
#[derive(Default)]
pub(super) struct ProviderSigner {
    /// `None` where the provider does not take the key. Empty as long as there is no provider, since
    /// one may be installed later.
    signer: OnceLock<Option<Box<dyn Signer>>>,
}

impl ProviderSigner {
    /// A signer for a key that was loaded already.
    pub(super) fn new(key: &dyn SigningKey, algorithm: &SignatureAlgorithm) -> Self {
        Self {
            signer: OnceLock::from(choose(key, algorithm)),
        }
    }

    /// Signs a message, in X.509's form. `None` where that must be done without the provider.
    ///
    /// The key, as PKCS#8 in DER, is asked for at the first signature.
    pub(super) fn sign(
        &self,
        algorithm: &SignatureAlgorithm,
        key: impl FnOnce() -> Option<Vec<u8>>,
        message: &[u8],
    ) -> Option<Vec<u8>> {
        let signer = match self.signer.get() {
            Some(signer) => signer,
            None => {
                crypto_provider()?;
                let signer = key()
                    .and_then(|pkcs8| load(PrivatePkcs8KeyDer::from(pkcs8).into()))
                    .and_then(|key| choose(&*key, algorithm));
                self.signer.get_or_init(|| signer)
            }
        };
        signer.as_ref()?.sign(message).ok()
    }
}

/// A key as the TLS provider holds it. `None` where there is no provider, or it does not take the key.
pub(super) fn load(key: PrivateKeyDer<'static>) -> Option<Arc<dyn SigningKey>> {
    crypto_provider()?.key_provider.load_private_key(key).ok()
}

fn choose(key: &dyn SigningKey, algorithm: &SignatureAlgorithm) -> Option<Box<dyn Signer>> {
    let scheme = match algorithm {
        SignatureAlgorithm::Es256 => SignatureScheme::ECDSA_NISTP256_SHA256,
        SignatureAlgorithm::Es384 => SignatureScheme::ECDSA_NISTP384_SHA384,
        SignatureAlgorithm::EdDsa => SignatureScheme::ED25519,
        SignatureAlgorithm::Rs256 => SignatureScheme::RSA_PKCS1_SHA256,
        _ => return None,
    };
    key.choose_scheme(&[scheme])
}
