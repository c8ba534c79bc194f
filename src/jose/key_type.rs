use std::fmt;

/// What kind of key to generate.
///
/// P-256 is the one that every CA takes and that signs fastest. Those other than P-256 need the crate
/// features `p384`, `rsa` and `ed25519`.
///
/// | type | accounts | certificates |
/// |---|---|---|
/// | P-256 | every CA | every public CA |
/// | P-384 | Let's Encrypt and most others | every public CA |
/// | RSA | every CA | every public CA |
/// | Ed25519 | few CAs, step-ca among them | none: the CA/Browser Forum does not allow it |
///
/// An RSA key takes from a tenth of a second to many seconds to find, in which the thread does nothing
/// else. In async code, generate it aside:
///
/// ```
/// # #[cfg(feature = "rsa")]
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use certwright::jose::{AccountKey, KeyType};
///
/// let key = tokio::task::spawn_blocking(|| AccountKey::generate_with(KeyType::Rsa2048)).await??;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum KeyType {
    /// ECDSA on P-256, the default.
    #[default]
    P256,
    /// ECDSA on P-384.
    #[cfg(feature = "p384")]
    P384,
    /// RSA of 2048 bits.
    #[cfg(feature = "rsa")]
    Rsa2048,
    /// RSA of 3072 bits.
    #[cfg(feature = "rsa")]
    Rsa3072,
    /// RSA of 4096 bits.
    #[cfg(feature = "rsa")]
    Rsa4096,
    /// Ed25519 (RFC 8037), for accounts only.
    #[cfg(feature = "ed25519")]
    Ed25519,
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::P256 => "P-256",
            #[cfg(feature = "p384")]
            Self::P384 => "P-384",
            #[cfg(feature = "rsa")]
            Self::Rsa2048 => "RSA-2048",
            #[cfg(feature = "rsa")]
            Self::Rsa3072 => "RSA-3072",
            #[cfg(feature = "rsa")]
            Self::Rsa4096 => "RSA-4096",
            #[cfg(feature = "ed25519")]
            Self::Ed25519 => "Ed25519",
        })
    }
}
