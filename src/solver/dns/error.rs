use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;

use crate::dns::DnsError;
use crate::error::BoxError;
use crate::protocol::{Identifier, InvalidDnsPersist, printable};

/// Why [`Dns01`](super::Dns01) could not present a challenge, see that it is presented, or take it
/// away.
///
/// The solver's [`BoxError`]s hold values of this type.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Dns01Error {
    /// The DNS does not tell where the record belongs.
    #[error(
        "it cannot be found out where the record belongs: {0}; if the solver cannot ask the DNS \
         for this name, set its options `without_aliases` and `without_zone_lookup`"
    )]
    Dns(#[from] DnsError),
    /// The challenge has no token, although its type demands one (RFC 8555 §8.4).
    #[error("the challenge has no token (RFC 8555 §8.4)")]
    NoToken,
    /// The identifier is none that is proved by DNS.
    #[error("{0} is no DNS name, so DNS can't prove control of it (RFC 8738 §7)")]
    NoDnsName(Identifier),
    /// The value has not come to all name servers in time.
    #[error(transparent)]
    NotPropagated(Box<NotPropagated>),
    /// The DNS provider failed.
    #[error("the DNS provider failed to {action} the TXT record at {name}: {source}")]
    Provider {
        /// What was tried, as in "failed to *add* …".
        action: &'static str,
        /// The record's name.
        name: String,
        /// What it says.
        source: BoxError,
    },
}

/// Why [`DnsPersist01`](super::DnsPersist01) can't prove control of a name.
///
/// The solver's [`BoxError`]s hold values of this type.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DnsPersist01Error {
    /// The CA's challenge breaks the draft, so that nothing should be published for it.
    #[error(transparent)]
    Challenge(#[from] InvalidDnsPersist),
    /// The DNS could not be asked.
    #[error(transparent)]
    Dns(#[from] DnsError),
    /// The identifier is none that is proved by DNS.
    #[error("{0} is no DNS name, so DNS can't prove control of it (RFC 8738 §7)")]
    NoDnsName(Identifier),
    /// The record is not there, or not at all name servers.
    #[error("{record} must be published, as {why}: {report}")]
    NotPublished {
        /// The record that is missing, as it stands in a zone file; without the CA's name, where
        /// that is not known before there is an order.
        record: String,
        /// Why no record that was found counts.
        why: String,
        /// What each server says.
        report: Box<NotPropagated>,
    },
}

/// Not all name servers have the TXT record that a CA will look for.
#[derive(Clone, Debug, Error)]
#[error("{}", self.told())]
#[non_exhaustive]
pub struct NotPropagated {
    /// The record's name.
    pub name: String,
    /// The value that it must have; `None` where there is more than one that would do.
    pub value: Option<String>,
    /// The zone whose servers were asked, where it is known.
    pub zone: Option<String>,
    /// How long the solver waited.
    pub waited: Duration,
    /// What each server says; empty where it is not known which there are.
    pub servers: Vec<ServerReport>,
    /// Why it is not known which servers there are.
    pub fault: Option<DnsError>,
}

impl NotPropagated {
    fn told(&self) -> String {
        let value = match &self.value {
            Some(value) => format!("the value `{}`", printable(value)),
            None => "such a record".to_owned(),
        };
        let zone = match &self.zone {
            Some(zone) => format!(" of the zone {}", printable(zone)),
            None => String::new(),
        };
        let mut text = format!(
            "not all name servers{zone} have {value} at {} after {} s",
            printable(&self.name),
            self.waited.as_secs_f32(),
        );
        let mut separator = ": ";
        if let Some(fault) = &self.fault {
            text.push_str(&format!("{separator}{fault}"));
            separator = "; ";
        }
        for report in &self.servers {
            text.push_str(&format!("{separator}{report}"));
            separator = "; ";
        }
        text
    }
}

/// What one server says.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerReport {
    /// The server's name, or `resolver` for one of
    /// [`Dns01::also_at`](super::Dns01::also_at).
    pub server: String,
    /// The address that was asked. `None` where the server has none.
    pub address: Option<SocketAddr>,
    /// What it says.
    pub seen: Seen,
}

impl fmt::Display for ServerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.server))?;
        if let Some(address) = self.address {
            write!(f, " ({address})")?;
        }
        write!(f, " {}", self.seen)
    }
}

/// What a server says of a TXT record.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Seen {
    /// It has the value.
    Present,
    /// It has no TXT record at the name.
    Nothing,
    /// It has other values only; at most [`Seen::MOST_VALUES`] of them.
    Others(Vec<String>),
    /// It did not answer.
    Failed(DnsError),
    /// It has no address, or this host cannot send to addresses of that family at all; so it was
    /// left out.
    Skipped,
}

impl Seen {
    /// How many values of one server are told.
    pub const MOST_VALUES: usize = 5;

    pub(super) fn is_fine(&self) -> bool {
        matches!(self, Self::Present | Self::Skipped)
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present => f.write_str("has it"),
            Self::Nothing => f.write_str("has no TXT record there"),
            Self::Others(values) => {
                let values: Vec<_> = values
                    .iter()
                    .map(|value| format!("`{}`", printable(value)))
                    .collect();
                write!(f, "has other values only ({})", values.join(", "))
            }
            Self::Failed(error) => write!(f, "did not answer ({error})"),
            Self::Skipped => f.write_str("can't be asked from here"),
        }
    }
}
