use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::error::BoxError;
use crate::solver::Presentation;

/// Writes TXT records to the DNS: a name server, a DNS host's API, a program, a person.
///
/// It is asked for single values, never for the whole set at a name: one order with a wildcard and
/// its apex has two values at one name, and so have two orders that run at once. Calls overlap.
#[async_trait]
pub trait DnsProvider: Send + Sync + 'static {
    /// Adds one value to the TXT records at a name, and leaves the others alone.
    ///
    /// It need not wait until name servers answer with it: the solver does that.
    async fn add(&self, record: &TxtRecord) -> Result<(), BoxError>;

    /// Removes that one value, and leaves the others alone. It MUST succeed where it is not there.
    async fn remove(&self, record: &TxtRecord) -> Result<(), BoxError>;
}

/// One value of the TXT records at a name.
#[derive(Clone, Debug)]
pub struct TxtRecord {
    name: String,
    zone: Option<String>,
    value: String,
    ttl: Duration,
    presentation: Option<Presentation>,
}

impl TxtRecord {
    /// The time to live of records: short, as they are of use for a few minutes only.
    pub const TTL: Duration = Duration::from_secs(60);

    /// A value at a name, without a zone, and with [`TTL`](Self::TTL).
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        let mut name = name.into();
        name.make_ascii_lowercase();
        if name.ends_with('.') {
            name.pop();
        }
        Self {
            name,
            zone: None,
            value: value.into(),
            ttl: Self::TTL,
            presentation: None,
        }
    }

    /// Says in which zone the name is.
    pub fn in_zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// Says how long resolvers may keep the record.
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Says what the record is for.
    pub fn with_presentation(mut self, presentation: Presentation) -> Self {
        self.presentation = Some(presentation);
        self
    }

    /// The fully qualified name in lower case, without a dot at its end, as
    /// `_acme-challenge.example.com`. Where that is an alias, this is the name that it leads to.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The zone that the name is in, without a dot at its end, where it was looked up.
    pub fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }

    /// The value.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// How long resolvers may keep the record.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// The challenge that the record answers, for providers that need more than name and value.
    pub fn presentation(&self) -> Option<&Presentation> {
        self.presentation.as_ref()
    }
}

#[async_trait]
impl<P: DnsProvider + ?Sized> DnsProvider for Arc<P> {
    async fn add(&self, record: &TxtRecord) -> Result<(), BoxError> {
        (**self).add(record).await
    }

    async fn remove(&self, record: &TxtRecord) -> Result<(), BoxError> {
        (**self).remove(record).await
    }
}
