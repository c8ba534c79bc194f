//! Whether all name servers of a zone answer with a record.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::error::{NotPropagated, Seen, ServerReport};
use crate::dns::{Dns, DnsError};

/// How long to look for a record, and where.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    pub(super) timeout: Duration,
    pub(super) first_pause: Duration,
    /// Servers that look things up, which have to see it too.
    pub(super) resolvers: Vec<SocketAddr>,
}

impl Patience {
    /// The longest pause between two looks, unless the first one is longer.
    const LONGEST_PAUSE: Duration = Duration::from_secs(20);
}

/// A record to be seen.
pub(super) struct Sought<'a> {
    pub(super) dns: &'a Dns,
    /// The name that CAs start from.
    pub(super) name: &'a str,
    /// The name that this is an alias of, or the same.
    pub(super) target: &'a str,
    pub(super) zone: Option<&'a str>,
    pub(super) value: Option<&'a str>,
    /// Whether texts at the name are what is sought.
    pub(super) matches: &'a (dyn Fn(&[String]) -> bool + Sync),
}

impl Sought<'_> {
    /// Looks until all servers have the record, for the last time at the end of the patience.
    pub(super) async fn wait(&self, patience: &Patience) -> Result<(), Box<NotPropagated>> {
        let start = Instant::now();
        let mut pause = patience.first_pause;
        loop {
            let mut report = self.look(&patience.resolvers).await;
            if report.fault.is_none() && all_fine(&report.servers) {
                return Ok(());
            }
            report.waited = start.elapsed();
            debug!(%report, "not seen at all name servers");
            let left = patience.timeout.saturating_sub(report.waited);
            if left.is_zero() {
                return Err(Box::new(report));
            }
            sleep(pause.min(left)).await;
            let longest = Patience::LONGEST_PAUSE.max(patience.first_pause);
            pause = pause
                .saturating_mul(3)
                .checked_div(2)
                .unwrap_or(longest)
                .min(longest);
        }
    }

    /// Asks all servers once.
    pub(super) async fn look(&self, resolvers: &[SocketAddr]) -> NotPropagated {
        let mut report = NotPropagated {
            name: self.target.to_owned(),
            value: self.value.map(str::to_owned),
            zone: self.zone.map(str::to_owned),
            waited: Duration::ZERO,
            servers: Vec::new(),
            fault: None,
        };
        match self.ask_authorities(&mut report.zone).await {
            Ok(servers) => report.servers = servers,
            Err(error) => report.fault = Some(error),
        }
        // Before the zone's own servers have it, resolvers would only learn that it is missing, and
        // remember that.
        if report.fault.is_none() && all_fine(&report.servers) && !resolvers.is_empty() {
            report.servers.extend(self.ask_resolvers(resolvers).await);
        }
        report
    }

    async fn ask_authorities(
        &self,
        zone: &mut Option<String>,
    ) -> Result<Vec<ServerReport>, DnsError> {
        let zone = match zone {
            Some(zone) => &*zone,
            none => &*none.insert(self.dns.zone_of(self.target).await?),
        };
        let servers = self.dns.authoritative_servers(zone).await?;
        let mut reports = Vec::new();
        let mut questions = Vec::new();
        for server in servers {
            if server.addresses.is_empty() {
                reports.push(ServerReport {
                    server: server.name.clone(),
                    address: None,
                    seen: server.fault.map_or(Seen::Skipped, Seen::Failed),
                });
            }
            for address in server.addresses {
                let server = server.name.clone();
                questions.push(async move {
                    let answer = self.dns.txt_at(address, self.target).await;
                    ServerReport {
                        server,
                        address: Some(address),
                        seen: self.judge(answer),
                    }
                });
            }
        }
        let asked = stream::iter(questions).buffered(AT_ONCE);
        reports.extend(asked.collect::<Vec<_>>().await);
        skip_unroutable(&mut reports);
        Ok(reports)
    }

    async fn ask_resolvers(&self, resolvers: &[SocketAddr]) -> Vec<ServerReport> {
        let questions = resolvers.iter().copied().map(|address| async move {
            let answer = self.dns.through(address).txt(self.name).await;
            ServerReport {
                server: "resolver".to_owned(),
                address: Some(address),
                seen: self.judge(answer),
            }
        });
        stream::iter(questions).buffered(AT_ONCE).collect().await
    }

    fn judge(&self, answer: Result<Vec<String>, DnsError>) -> Seen {
        match answer {
            Ok(texts) if (self.matches)(&texts) => Seen::Present,
            Ok(texts) if texts.is_empty() => Seen::Nothing,
            Ok(mut texts) => {
                texts.truncate(Seen::MOST_VALUES);
                Seen::Others(texts)
            }
            Err(error) => Seen::Failed(error),
        }
    }
}

/// Questions that go out side by side.
const AT_ONCE: usize = 16;

/// Whether at least one server has the record, and no other one that can be asked lacks it.
fn all_fine(reports: &[ServerReport]) -> bool {
    let has_it = |report: &ServerReport| matches!(report.seen, Seen::Present);
    reports.iter().any(has_it) && reports.iter().all(|report| report.seen.is_fine())
}

/// Leaves addresses out that this host has no route to by their family, as without IPv6: the CA has
/// one, but a look from here would never end. Servers that have been asked tell enough.
fn skip_unroutable(reports: &mut [ServerReport]) {
    let unroutable = |seen: &Seen| matches!(seen, Seen::Failed(error) if error.is_unroutable());
    let answered = |report: &ServerReport| {
        matches!(report.seen, Seen::Present | Seen::Nothing | Seen::Others(_))
    };
    if !reports.iter().any(answered) {
        return;
    }
    for report in reports {
        if unroutable(&report.seen) {
            report.seen = Seen::Skipped;
        }
    }
}
