//! Certificates, as far as a client of a CA needs them: keys, CSRs, chains that are checked before
//! they are used, and what a certificate says of itself. No I/O.

mod acme_certificate;
mod certificate_id;
mod certificate_key;
mod chain;
mod chain_choice;
mod crl;
mod csr;
mod details;
#[cfg(test)]
mod fixtures;
mod names;
mod pem_chain;
mod sct;

pub use self::acme_certificate::{AcmeCertificate, InvalidAcmeCertificate};
pub use self::certificate_id::CertificateId;
pub use self::certificate_key::CertificateKey;
pub use self::chain::{CertificateChain, ChainFault, InvalidChain};
pub use self::chain_choice::ChainChoice;
pub use self::crl::{InvalidCrl, RevocationStatus};
pub use self::csr::{Csr, InvalidCsr};
pub use self::details::{CertificateDetails, ExtendedKeyUsage, InvalidCertificate};
pub use self::sct::{InvalidSct, SignedCertificateTimestamp};

#[cfg(feature = "test-ca")]
pub(crate) use self::names::general_name;
