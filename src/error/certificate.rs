use thiserror::Error;

use crate::protocol::Url;
use crate::x509::{InvalidChain, InvalidCrl};

/// The CA's certificate chain is not what was asked for.
#[derive(Clone, Debug, Error)]
#[error("the certificate at {url} is not what was asked for: {fault}")]
#[non_exhaustive]
pub struct BadCertificate {
    /// Where the chain came from.
    pub url: Url,
    /// What is wrong with it.
    #[source]
    pub fault: InvalidChain,
}

/// The CA's list of revoked certificates says nothing of the certificate.
#[derive(Clone, Debug, Error)]
#[error("the CRL at {url} can't be used: {fault}")]
#[non_exhaustive]
pub struct BadCrl {
    /// Where the list came from.
    pub url: Url,
    /// What is wrong with it.
    #[source]
    pub fault: InvalidCrl,
}

/// The CA does not offer a chain such as was required. The certificate is issued all the same.
#[derive(Clone, Debug, Error)]
#[error("the CA does not offer {wanted} for {certificate}, but {offered} others")]
#[non_exhaustive]
pub struct NoChain {
    /// The certificate, from which the other chains can be had by
    /// [`Account::certificate`](crate::Account::certificate).
    pub certificate: Url,
    /// The chain that was required, in words.
    pub wanted: String,
    /// How many chains the CA offers.
    pub offered: usize,
}
