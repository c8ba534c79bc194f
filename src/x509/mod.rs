//! Certificates, as far as a client of a CA needs them: keys, CSRs, and chains that are checked
//! before they are used. No I/O.

mod certificate_key;
mod chain;
mod csr;
mod names;
mod pem_chain;

pub use self::certificate_key::CertificateKey;
pub use self::chain::{CertificateChain, ChainFault, InvalidChain};
pub use self::csr::{Csr, InvalidCsr};

#[cfg(feature = "test-ca")]
pub(crate) use self::names::general_name;
