//! Solvers for dns-01 (RFC 8555 §8.4), dns-account-01 (draft-ietf-acme-dns-account-label) and
//! dns-persist-01 (draft-ietf-acme-dns-persist).

mod dns01;
mod error;
mod persist;
mod propagation;
mod provider;
mod providers;

pub use self::dns01::Dns01;
pub use self::error::{Dns01Error, DnsPersist01Error, NotPropagated, Seen, ServerReport};
pub use self::persist::DnsPersist01;
pub use self::provider::{DnsProvider, TxtRecord};
pub use self::providers::*;
