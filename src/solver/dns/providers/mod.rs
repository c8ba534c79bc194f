//! DNS providers: who writes the TXT records.

#[cfg(feature = "acme-dns")]
mod acme_dns;
#[cfg(any(feature = "dns-update", feature = "rfc2136"))]
mod change;
#[cfg(feature = "dns-update")]
mod dns_update;
mod manual;
mod program;
#[cfg(feature = "rfc2136")]
mod rfc2136;
#[cfg(feature = "rfc2136")]
mod tsig;

#[cfg(feature = "acme-dns")]
pub use self::acme_dns::{AcmeDns, AcmeDnsAccount, AcmeDnsError, InvalidAcmeDnsAccounts};
#[cfg(feature = "dns-update")]
pub use self::dns_update::{DnsUpdate, DnsUpdateError, DnsUpdateFault};
pub use self::manual::{ManualDns, ManualDnsError, ManualDnsStep};
pub use self::program::{DnsProgram, DnsProgramError};
#[cfg(feature = "rfc2136")]
pub use self::rfc2136::{InvalidNameServer, Rfc2136, Rfc2136Error, Rfc2136Fault};
#[cfg(feature = "rfc2136")]
pub use self::tsig::{InvalidTsigKey, TsigAlgorithm, TsigKey};
