mod provider;
mod providers;

pub use self::provider::{DnsProvider, TxtRecord};
pub use self::providers::*;
