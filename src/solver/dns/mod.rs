mod provider;

pub use self::provider::{DnsProvider, TxtRecord};
