use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use ::dns_update::{DnsRecord, DnsRecordType, DnsUpdater, Error as UpdateError};
use async_trait::async_trait;
use thiserror::Error;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tracing::debug;

use super::change::Change;
use crate::error::BoxError;
use crate::protocol::printable;
use crate::solver::{DnsProvider, TxtRecord};

/// Writes TXT records through the API of a DNS host, by the crate `dns-update`, which knows some
/// seventy: Cloudflare, Route 53, Google Cloud DNS, Azure DNS, OVH, Hetzner, deSEC and others.
///
/// It takes that crate's own `DnsUpdater`, since each host wants other credentials, and a list of
/// them here would lag behind. `certwright::solver::dns_update` is the crate in the version that
/// fits.
///
/// Of the values at a name, one is added or removed at a time. Where a host's API can do no more
/// than replace all values at a name, or a whole zone, `dns-update` reads them, changes one and
/// writes them back. So here, changes to one zone are made one after the other. They are not held
/// back from those that another process makes at the same moment: where several hosts renew for one
/// zone, let them do so at different times, or through CNAMEs into zones of their own.
///
/// Some hosts' APIs have one TXT value at a name and no more, DuckDNS for one. A wildcard and its
/// apex cannot be in one order there. Some set a larger TTL than is asked for.
///
/// Clones share the order of changes.
///
/// ```
/// # #[cfg(feature = "dns-update")]
/// # fn example(token: &str) -> Result<(), certwright::solver::dns_update::Error> {
/// use certwright::solver::DnsUpdate;
/// use certwright::solver::dns_update::DnsUpdater;
///
/// let provider = DnsUpdate::new(DnsUpdater::new_cloudflare(token, None)?);
/// # let _ = provider; Ok(()) }
/// ```
#[derive(Clone)]
pub struct DnsUpdate {
    updater: DnsUpdater,
    zone: Option<String>,
    timeout: Duration,
    /// For each zone, the right to change it. As many as there are zones.
    turns: Arc<std::sync::Mutex<HashMap<String, Arc<Mutex<()>>>>>,
}

impl DnsUpdate {
    /// Writes through this updater.
    pub fn new(updater: DnsUpdater) -> Self {
        Self {
            updater,
            zone: None,
            timeout: Duration::from_secs(120),
            turns: Arc::default(),
        }
    }

    /// The zone of names whose zone was not looked up. A record that says its zone has that.
    #[must_use]
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// How long one change may take, once its turn has come: by default 120 seconds. Most hosts'
    /// APIs need several requests for one.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn update(&self, change: Change, record: &TxtRecord) -> Result<(), DnsUpdateError> {
        let error = |fault| DnsUpdateError {
            change,
            name: record.name().to_owned(),
            fault,
        };
        let zone = record
            .zone()
            .or(self.zone.as_deref())
            .ok_or(DnsUpdateFault::NoZone)
            .map_err(error)?;
        let zone = zone.trim_end_matches('.').to_ascii_lowercase();
        // What builds an update may panic on it.
        let before = record.name().strip_suffix(zone.as_str());
        if !before.is_some_and(|before| before.is_empty() || before.ends_with('.')) {
            return Err(error(DnsUpdateFault::NotInZone { zone }));
        }
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(zone.clone()).or_default())
        };
        let _turn = turn.lock().await;
        let zone = zone.as_str();

        let (name, records) = (
            record.name(),
            vec![DnsRecord::TXT(record.value().to_owned())],
        );
        let ttl = u32::try_from(record.ttl().as_secs()).unwrap_or(u32::MAX);
        let request = async {
            match change {
                Change::Add => {
                    let updater = &self.updater;
                    updater
                        .add_to_rrset(name, DnsRecordType::TXT, ttl, records, zone)
                        .await
                }
                Change::Remove => {
                    let updater = &self.updater;
                    match updater
                        .remove_from_rrset(name, DnsRecordType::TXT, records, zone)
                        .await
                    {
                        Err(UpdateError::NotFound) => Ok(()),
                        removed => removed,
                    }
                }
            }
        };
        match timeout(self.timeout, request).await {
            Ok(Ok(())) => {
                debug!(name, zone, ?change, "TXT record updated");
                Ok(())
            }
            Ok(Err(fault)) => Err(error(fault.into())),
            Err(_) => Err(error(DnsUpdateFault::Timeout(self.timeout))),
        }
    }
}

impl fmt::Debug for DnsUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DnsUpdate")
            .field("zone", &self.zone)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl DnsProvider for DnsUpdate {
    async fn add(&self, record: &TxtRecord) -> Result<(), BoxError> {
        Ok(self.update(Change::Add, record).await?)
    }

    async fn remove(&self, record: &TxtRecord) -> Result<(), BoxError> {
        Ok(self.update(Change::Remove, record).await?)
    }
}

/// Why [`DnsUpdate`] could not add or remove a record.
#[derive(Debug, Error)]
#[error("cannot {} the TXT record at `{}`: {fault}", .change.verb(), printable(.name))]
pub struct DnsUpdateError {
    change: Change,
    name: String,
    fault: DnsUpdateFault,
}

impl DnsUpdateError {
    /// The record's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What went wrong.
    pub fn fault(&self) -> &DnsUpdateFault {
        &self.fault
    }
}

/// What went wrong at a DNS host.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DnsUpdateFault {
    /// The host's API, or the way to it, failed, as it or `dns-update` tells.
    #[error("the DNS host answered: {}", printable(.0))]
    Host(String),
    /// The zone of the name is not known.
    #[error("the zone of the name is not known: give it by DnsUpdate::zone")]
    NoZone,
    /// The host knows no such zone.
    #[error(
        "the DNS host knows no such zone: see that the credentials are for the account that has it"
    )]
    NotFound,
    /// The name is not in the zone.
    #[error("the name is not in the zone `{}`", printable(.zone))]
    NotInZone {
        /// The zone.
        zone: String,
    },
    /// The change was not made within this time. It may be made yet.
    #[error("the DNS host took longer than {} s", .0.as_secs_f32())]
    Timeout(Duration),
    /// The host does not accept the credentials, or not for this zone.
    #[error("the DNS host does not accept the credentials, or not for this zone")]
    Unauthorized,
    /// The host cannot do what is asked, such as a second value at a name.
    #[error("the DNS host cannot do this: {}", printable(.0))]
    Unsupported(String),
}

impl From<UpdateError> for DnsUpdateFault {
    fn from(error: UpdateError) -> Self {
        match error {
            UpdateError::NotFound => Self::NotFound,
            UpdateError::Unauthorized => Self::Unauthorized,
            UpdateError::Unsupported(text) => Self::Unsupported(text),
            error => Self::Host(error.to_string()),
        }
    }
}
