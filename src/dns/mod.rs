//! Reads the DNS as solvers and CAs do: zones, their servers, and what each server says.
//!
//! [`Dns`] asks name servers that look things up for others (the system's, or those given) where
//! the answer may be some minutes old, and a zone's own servers where it must not be. It caches
//! nothing.

mod error;
mod exchange;
mod record;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use hickory_resolver::system_conf::read_system_conf;

use self::exchange::{Question, plain_name};
use self::record::{Data, Reply};

pub use self::error::{DnsError, DnsFault, ResponseCode};
pub use self::record::{Caa, CaaSet, RecordType};

/// Asks the DNS. Cheap to clone.
///
/// ```no_run
/// # async fn example() -> Result<(), certwright::dns::DnsError> {
/// use certwright::dns::Dns;
///
/// let dns = Dns::system();
/// let zone = dns.zone_of("_acme-challenge.www.example.com").await?;
/// for server in dns.authoritative_servers(&zone).await? {
///     for &address in &server.addresses {
///         let values = dns.txt_at(address, "_acme-challenge.www.example.com").await?;
///         println!("{} at {address} says {values:?}", server.name);
///     }
/// }
/// # Ok(())
/// # }
/// ```
///
/// Names are in ASCII (A-labels), with or without a dot at their end; those that come back are in
/// lower case and have none, but for the root's, which is `.`.
#[derive(Clone, Debug)]
pub struct Dns {
    source: Source,
    authoritative_port: u16,
    timeout: Duration,
}

#[derive(Clone, Debug)]
enum Source {
    System,
    Given(Arc<[SocketAddr]>),
}

/// A name server of a zone.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NameServer {
    /// Its name.
    pub name: String,
    /// All its addresses, at most [`Dns::MOST_ADDRESSES`], with the port to ask at. Empty where it
    /// has none.
    pub addresses: Vec<SocketAddr>,
    /// Why its addresses are not known, where looking them up failed.
    pub fault: Option<DnsError>,
}

impl Dns {
    /// How long one server may take for one answer, unless said otherwise: 5 s.
    pub const TIMEOUT: Duration = Duration::from_secs(5);

    /// How many CNAME records are followed from one name. CAs follow about as many.
    pub const MOST_ALIASES: usize = 16;

    /// How many name servers of one zone are looked at.
    pub const MOST_SERVERS: usize = 32;

    /// How many addresses of one name server, or of one name, are looked at.
    pub const MOST_ADDRESSES: usize = 32;

    /// How often each of the name servers that look things up is asked, before that fails.
    const ROUNDS: usize = 2;

    /// Looks things up by the system's name servers. Their list is read anew for each question, so
    /// that a change of network is seen.
    pub fn system() -> Self {
        Self::new(Source::System)
    }

    /// Looks things up by these name servers, the first one first. They must do recursion.
    pub fn with_name_servers(servers: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self::new(Source::Given(servers.into_iter().collect()))
    }

    fn new(source: Source) -> Self {
        Self {
            source,
            authoritative_port: 53,
            timeout: Self::TIMEOUT,
        }
    }

    /// Asks zones' own servers at another port than 53, as in a test.
    pub fn authoritative_port(mut self, port: u16) -> Self {
        self.authoritative_port = port;
        self
    }

    /// Sets how long one server may take for one answer; [`TIMEOUT`](Self::TIMEOUT) by default. A
    /// whole operation may take several times as long.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Looks things up by one server only, with the same options.
    pub(crate) fn through(&self, server: SocketAddr) -> Self {
        Self {
            source: Source::Given(Arc::new([server])),
            ..self.clone()
        }
    }

    /// The name that this one is an alias of, over any number of CNAME records up to
    /// [`MOST_ALIASES`](Self::MOST_ALIASES), or the name itself. It need not exist.
    pub async fn canonical_name(&self, name: &str) -> Result<String, DnsError> {
        let first = plain_name(name);
        let mut seen = vec![first.clone()];
        let mut current = first.clone();
        loop {
            let reply = self.look_up(&current, RecordType::Cname).await?;
            // A server may send the whole chain at once.
            let mut target = reply.alias_of(&current);
            if target.is_none() {
                return Ok(current);
            }
            while let Some(next) = target {
                let fault = match seen.len() {
                    _ if seen.iter().any(|known| known == next) => DnsFault::AliasLoop,
                    length if length > Self::MOST_ALIASES => {
                        DnsFault::TooManyAliases(Self::MOST_ALIASES)
                    }
                    _ => {
                        seen.push(next.to_owned());
                        current = next.to_owned();
                        target = reply.alias_of(next);
                        continue;
                    }
                };
                return Err(DnsError::new(&first, RecordType::Cname, fault));
            }
        }
    }

    /// The zone that a name is in: the closest name, itself or above it, that has an SOA record.
    ///
    /// The name need not exist. Aliases are not followed.
    pub async fn zone_of(&self, name: &str) -> Result<String, DnsError> {
        let name = plain_name(name);
        let mut candidate = name.as_str();
        loop {
            let reply = self.look_up(candidate, RecordType::Soa).await?;
            if let Some(zone) = zone_told(&reply, candidate) {
                return Ok(zone);
            }
            candidate = match parent(candidate) {
                Some(parent) => parent,
                None => return Err(DnsError::new(&name, RecordType::Soa, DnsFault::NoZone)),
            };
        }
    }

    /// The name servers of a zone, with the addresses of each.
    ///
    /// Only where the list itself can't be had does this fail: [`NameServer::fault`] says why a
    /// server's addresses are missing.
    pub async fn authoritative_servers(&self, zone: &str) -> Result<Vec<NameServer>, DnsError> {
        let zone = plain_name(zone);
        let reply = self.look_up(&zone, RecordType::Ns).await?;
        let mut names: Vec<_> = reply
            .answers
            .into_iter()
            .filter_map(|record| match record.data {
                Data::Ns(name) if record.owner == zone => Some(name),
                _ => None,
            })
            .collect();
        names.sort();
        names.dedup();
        names.truncate(Self::MOST_SERVERS);
        if names.is_empty() {
            return Err(DnsError::new(
                &zone,
                RecordType::Ns,
                DnsFault::NoNameServers,
            ));
        }
        let servers = names.into_iter().map(|name| async move {
            let (addresses, fault) = match self.addresses(&name).await {
                Ok(addresses) => (addresses, None),
                Err(error) => (Vec::new(), Some(error)),
            };
            let port = self.authoritative_port;
            NameServer {
                name,
                addresses: addresses
                    .into_iter()
                    .map(|address| SocketAddr::new(address, port))
                    .collect(),
                fault,
            }
        });
        Ok(join_all(servers).await)
    }

    /// The texts of the TXT records of a name, as one of its zone's servers has them, each with its
    /// strings joined. Empty where there is none.
    ///
    /// The server is not asked to look at other servers; it follows an alias only within its own
    /// zones.
    pub async fn txt_at(&self, server: SocketAddr, name: &str) -> Result<Vec<String>, DnsError> {
        let name = plain_name(name);
        let question = Question {
            name: &name,
            record_type: RecordType::Txt,
            recursion: false,
        };
        let reply = question.ask(server, self.timeout).await?;
        // A referral to other servers, or a lame delegation, says nothing of the name.
        if !reply.authoritative && reply.answers.is_empty() {
            return Err(question.error(DnsFault::NotAuthoritative).at_server(server));
        }
        Ok(reply.texts())
    }

    /// The texts of the TXT records of a name, or of what it is an alias of, each with its strings
    /// joined. Empty where there is none.
    ///
    /// The name server that looks it up may have an answer in its cache that is older than the
    /// zone; [`txt_at`](Self::txt_at) asks the zone's own.
    pub async fn txt(&self, name: &str) -> Result<Vec<String>, DnsError> {
        let reply = self.look_up(&plain_name(name), RecordType::Txt).await?;
        Ok(reply.texts())
    }

    /// The addresses of a name, or of what it is an alias of; IPv6 after IPv4, at most
    /// [`MOST_ADDRESSES`](Self::MOST_ADDRESSES). Empty where there is none.
    ///
    /// It fails where neither kind of address can be looked up, or where one can't and there is none
    /// of the other.
    pub async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, DnsError> {
        let name = plain_name(name);
        let (v4, v6) = join(
            self.look_up(&name, RecordType::A),
            self.look_up(&name, RecordType::Aaaa),
        )
        .await;
        let mut fault = None;
        let mut addresses = Vec::new();
        for result in [v4, v6] {
            match result {
                Ok(reply) => addresses.extend(reply.answers.iter().filter_map(address)),
                Err(error) => fault = Some(error),
            }
        }
        addresses.truncate(Self::MOST_ADDRESSES);
        match fault {
            Some(error) if addresses.is_empty() => Err(error),
            _ => Ok(addresses),
        }
    }

    /// The CAA records that a CA goes by for a name: those of the closest name, itself or above it,
    /// that has any, aliases followed (RFC 8659 §3). `None` where there are none, so that any CA
    /// may issue.
    ///
    /// The label `*.` of a wildcard is left out. Where this fails, a CA would refuse to issue.
    pub async fn caa(&self, name: &str) -> Result<Option<CaaSet>, DnsError> {
        let name = plain_name(name);
        let mut candidate = name.strip_prefix("*.").unwrap_or(&name);
        loop {
            let reply = self.look_up(candidate, RecordType::Caa).await?;
            let records: Vec<_> = reply
                .answers
                .into_iter()
                .filter_map(|record| match record.data {
                    Data::Caa(caa) => Some(caa),
                    _ => None,
                })
                .collect();
            if !records.is_empty() {
                return Ok(Some(CaaSet {
                    name: candidate.to_owned(),
                    records,
                }));
            }
            candidate = match parent(candidate) {
                Some(parent) if parent != "." => parent,
                _ => return Ok(None),
            };
        }
    }

    /// Asks the servers that look things up, until one of them answers.
    async fn look_up(&self, name: &str, record_type: RecordType) -> Result<Reply, DnsError> {
        let question = Question {
            name,
            record_type,
            recursion: true,
        };
        let mut last = question.error(DnsFault::NoNameServers);
        let servers = self.servers().map_err(|fault| question.error(fault))?;
        for _ in 0..Self::ROUNDS {
            for &server in &*servers {
                last = match question.ask(server, self.timeout).await {
                    Ok(reply) => return Ok(reply),
                    Err(error) if matches!(error.fault, DnsFault::InvalidName) => {
                        return Err(error);
                    }
                    Err(error) => error,
                };
            }
        }
        Err(last)
    }

    fn servers(&self) -> Result<Arc<[SocketAddr]>, DnsFault> {
        if let Source::Given(servers) = &self.source {
            return Ok(servers.clone());
        }
        let (configuration, _) =
            read_system_conf().map_err(|error| DnsFault::SystemConfiguration(error.to_string()))?;
        let mut servers = Vec::new();
        for server in configuration.name_servers() {
            let port = server.connections.first().map_or(53, |first| first.port);
            let address = SocketAddr::new(server.ip, port);
            if !servers.contains(&address) {
                servers.push(address);
            }
        }
        Ok(servers.into())
    }
}

/// The zone of a name, as far as the reply to the question for its SOA record tells.
fn zone_told(reply: &Reply, name: &str) -> Option<String> {
    let is_soa = |record: &&record::Record| matches!(record.data, Data::Soa);
    let of_name = |record: &&record::Record| record.owner == name;
    if reply
        .answers
        .iter()
        .filter(is_soa)
        .any(|record| of_name(&record))
    {
        return Some(name.to_owned());
    }
    // An alias's reply tells of the zone that it leads to.
    if reply.alias_of(name).is_some() {
        return None;
    }
    // What a server that has no such record puts beside its answer (RFC 2308 §3).
    let mut authorities = reply.authorities.iter().filter(is_soa);
    authorities
        .find(|record| is_at_or_above(&record.owner, name))
        .map(|record| record.owner.clone())
}

fn is_at_or_above(ancestor: &str, name: &str) -> bool {
    ancestor == "."
        || name
            .strip_suffix(ancestor)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The name without its first label; the root has none above it.
fn parent(name: &str) -> Option<&str> {
    match name.split_once('.') {
        Some((_, "")) => None,
        Some((_, parent)) => Some(parent),
        None => Some("."),
    }
}

fn address(record: &record::Record) -> Option<IpAddr> {
    match record.data {
        Data::A(address) => Some(address.into()),
        Data::Aaaa(address) => Some(address.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn climbs_to_the_root() {
        let mut names = vec!["a.b.example"];
        while let Some(above) = names.last().copied().and_then(parent) {
            names.push(above);
        }
        assert_eq!(names, ["a.b.example", "b.example", "example", "."]);
    }

    #[test]
    fn compares_whole_labels() {
        assert!(is_at_or_above("b.example", "a.b.example"));
        assert!(is_at_or_above("b.example", "b.example"));
        assert!(is_at_or_above(".", "example"));
        assert!(!is_at_or_above("b.example", "ab.example"));
    }

    #[test]
    fn writes_names_in_one_way() {
        for (name, plain) in [
            ("A.Example.", "a.example"),
            (".", "."),
            ("a.example", "a.example"),
        ] {
            assert_eq!(plain_name(name), plain);
        }
    }

    #[test]
    fn reads_who_may_issue() {
        let caa = |tag: &str, value: &str| Caa {
            critical: false,
            tag: tag.into(),
            value: value.into(),
        };
        let issuer = caa("issue", "ca.example; validationmethods=dns-01").issuer();
        let issuer = issuer.unwrap().unwrap();
        assert_eq!(issuer.issuer(), Some("ca.example"));
        assert_eq!(issuer.validation_methods(), Some(vec!["dns-01"]));
        assert!(caa("issuewild", "%%").issuer().unwrap().is_err());
        assert!(caa("iodef", "mailto:a@example.com").issuer().is_none());
    }
}
