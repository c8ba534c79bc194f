use thiserror::Error;

use crate::protocol::{InvalidUrl, Url};
use crate::x509::InvalidChain;

/// The client or its transport can't be set up as asked.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ConfigurationError {
    /// The account's key can't be exported, as a signer holds it elsewhere.
    #[error("the account's key is not held in memory, so it can't be stored with the account")]
    KeyNotExportable,
    /// A fingerprint is not 32 octets in hexadecimal.
    #[error("the fingerprint is not a SHA-256 in hexadecimal")]
    Fingerprint,
    /// No rustls crypto provider is there to speak TLS by.
    #[error(
        "TLS has no crypto provider: enable the feature `aws-lc-rs` or `ring`, or install a rustls \
         CryptoProvider"
    )]
    NoCryptoProvider,
    /// An update of the account that changes nothing was asked for.
    #[error("there is nothing to update: set contacts, clear them, or agree to the terms")]
    NothingToUpdate,
    /// Platform roots are off and none was added.
    #[error("there is no root certificate to trust: add one, or trust the platform's")]
    NoRoots,
    /// No transport was given, and certwright was built without one.
    #[error("there is no transport: give one, or enable the feature `hyper`")]
    NoTransport,
    /// The user agent's product can't stand in a header.
    #[error("the product for the User-Agent header holds characters that no header may have")]
    Product,
    /// The account's credentials are for another directory than the client's.
    #[error("the account belongs to the directory {0}, not to that of this client")]
    OtherDirectory(Url),
    /// The proxy's URL is none.
    #[error("the proxy's URL is not of the form http://[user:password@]host[:port]")]
    Proxy,
    /// A reason for a revocation that RFC 5280 does not name, so that every CA refuses it.
    #[error("{0} is not a code that a revocation may give as its reason (RFC 5280 §5.3.1)")]
    RevocationReason(u8),
    /// A root certificate can't be read.
    #[error("the PEM of the root certificates can't be used: {0}")]
    Root(#[source] InvalidChain),
    /// rustls refuses the configuration.
    #[error("TLS can't be set up: {0}")]
    Tls(#[source] rustls::Error),
    /// A URL given by the caller is none.
    #[error(transparent)]
    Url(InvalidUrl),
    /// An order that renews by itself has a validity for each certificate (RFC 8739 §3.1.1).
    #[error("an order that renews by itself takes no notBefore and no notAfter (RFC 8739 §3.1.1)")]
    ValidityOfAutoRenewal,
}
