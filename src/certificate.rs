use std::time::SystemTime;

use crate::account::Account;
use crate::error::{BadCertificate, Error, Operation};
use crate::protocol::Url;
use crate::session::{Reply, SignedRequest};
use crate::x509::{CertificateChain, Csr, InvalidChain};

/// A certificate that was issued (RFC 8555 §7.4.2), checked against the request for it.
#[derive(Clone, Debug)]
pub struct Certificate {
    url: Url,
    chain: CertificateChain,
}

impl Certificate {
    /// Downloads a chain, and checks that it is the one that the CSR asked for.
    pub(crate) async fn download(account: Account, url: Url, csr: &Csr) -> Result<Self, Error> {
        let reply = account
            .post(SignedRequest {
                accept: Some("application/pem-certificate-chain"),
                repeat: true,
                ..account.request(Operation::Certificate, &url, Vec::new())
            })
            .await?;
        Self::read(url, &reply, csr)
    }

    /// Reads a chain from a reply, and checks that it is the one that the CSR asked for.
    pub(crate) fn read(url: Url, reply: &Reply, csr: &Csr) -> Result<Self, Error> {
        let checked = str::from_utf8(reply.body())
            .map_err(|_| InvalidChain::Text)
            .and_then(CertificateChain::from_pem)
            .and_then(|chain| {
                chain.check(csr.public_key_info(), csr.identifiers(), SystemTime::now())?;
                Ok(chain)
            });
        match checked {
            Ok(chain) => Ok(Self { url, chain }),
            Err(fault) => Err(Error::Certificate(Box::new(BadCertificate { url, fault }))),
        }
    }

    /// Where the CA keeps the certificate.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The chain.
    pub fn chain(&self) -> &CertificateChain {
        &self.chain
    }
}
