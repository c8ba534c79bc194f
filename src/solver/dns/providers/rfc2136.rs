use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use hickory_proto::op::update_message::{append, delete_by_rdata};
use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::rdata::tsig::TsigError;
use hickory_proto::rr::{Name, RData, RecordSet, RecordType};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::debug;

use super::change::Change;
use super::tsig::{TsigKey, Unverified};
use crate::error::BoxError;
use crate::protocol::printable;
use crate::solver::{DnsProvider, TxtRecord};

/// Writes TXT records by dynamic update (RFC 2136), signed with TSIG (RFC 8945): to BIND, Knot,
/// PowerDNS, Windows DNS and others.
///
/// Each value is one record that is added or deleted by itself, so whatever else writes to the zone
/// at the same time is left alone. Updates go over TCP, to the server that is named here: it must be
/// the zone's primary, or forward updates to it.
///
/// With BIND, a key that may write the TXT records of one zone and nothing else:
///
/// ```text
/// zone "example.com" {
///     type primary;
///     file "/var/lib/bind/example.com.zone";
///     update-policy { grant acme zonesub TXT; };
/// };
/// ```
///
/// Clones share a limit of ten connections at once.
///
/// ```
/// # #[cfg(feature = "rfc2136")]
/// # fn example(file: &str) -> Result<(), Box<dyn std::error::Error>> {
/// use certwright::solver::{Rfc2136, TsigKey};
///
/// let key = TsigKey::from_bind(&std::fs::read_to_string(file)?)?;
/// let provider = Rfc2136::new("ns1.example.com")?.tsig(key);
/// # let _ = provider; Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Rfc2136 {
    server: Server,
    key: Option<TsigKey>,
    timeout: Duration,
    connections: Arc<Semaphore>,
}

impl Rfc2136 {
    /// Updates at this name server: a `SocketAddr`, an address, a host, or `host:port`. The port is
    /// 53 unless given. A host is looked up by the system at each update.
    pub fn new(server: impl ToString) -> Result<Self, InvalidNameServer> {
        Ok(Self {
            server: Server::parse(&server.to_string())?,
            key: None,
            timeout: Duration::from_secs(30),
            connections: Arc::new(Semaphore::new(10)),
        })
    }

    /// Signs with this key, and takes success only from who has it too.
    ///
    /// Without one, requests are not signed and responses not verified: for servers that know their
    /// clients by address, on networks where nobody else can answer.
    #[must_use]
    pub fn tsig(mut self, key: TsigKey) -> Self {
        self.key = Some(key);
        self
    }

    /// How long one update may take, with looking up the server, connecting, and asking for the
    /// zone: by default 30 seconds.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn update(&self, change: Change, record: &TxtRecord) -> Result<(), Rfc2136Error> {
        let error = |fault| Rfc2136Error {
            change,
            name: record.name().to_owned(),
            server: self.server.to_string(),
            fault,
        };
        // It is never closed.
        let _permit = self.connections.acquire().await;
        timeout(self.timeout, self.converse(change, record))
            .await
            .unwrap_or(Err(Rfc2136Fault::Timeout(self.timeout)))
            .map_err(error)?;
        debug!(name = record.name(), server = %self.server, ?change, "TXT record updated");
        Ok(())
    }

    async fn converse(&self, change: Change, record: &TxtRecord) -> Result<(), Rfc2136Fault> {
        let name = absolute(record.name())?;
        let mut connection = self.connect().await?;
        let zone = match record.zone() {
            Some(zone) => absolute(zone)?,
            None => self.find_zone(&mut connection, &name).await?,
        };
        // What builds the message demands it.
        if !zone.zone_of(&name) {
            return Err(Rfc2136Fault::NotInZone {
                zone: relative(&zone),
            });
        }

        let ttl = u32::try_from(record.ttl().as_secs()).map_or(MAX_TTL, |ttl| ttl.min(MAX_TTL));
        let mut records = RecordSet::with_ttl(name, RecordType::TXT, ttl);
        // A TXT record is made of strings of at most 255 octets each (RFC 1035 §3.3.14).
        let strings = match record.value() {
            "" => vec![&[][..]],
            value => value.as_bytes().chunks(255).collect(),
        };
        records.add_rdata(RData::TXT(TXT::from_bytes(strings)));
        let message = match change {
            Change::Add => append(records, zone.clone(), false, false),
            Change::Remove => delete_by_rdata(records, zone.clone(), false),
        };
        let response = self.exchange(&mut connection, &message).await?;
        let zone = relative(&zone);
        match response.metadata.response_code {
            ResponseCode::NoError => Ok(()),
            ResponseCode::NotAuth => Err(Rfc2136Fault::NotAuthoritative { zone }),
            ResponseCode::NotZone => Err(Rfc2136Fault::NotInZone { zone }),
            code => Err(Rfc2136Fault::from_code(code)),
        }
    }

    async fn connect(&self) -> Result<TcpStream, Rfc2136Fault> {
        let addresses = lookup_host((self.server.host.as_str(), self.server.port));
        let mut fault = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in addresses.await.map_err(Rfc2136Fault::Unreachable)? {
            // An address that does not answer leaves time for the next.
            match timeout(self.timeout / 3, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    stream
                        .set_nodelay(true)
                        .map_err(Rfc2136Fault::Unreachable)?;
                    return Ok(stream);
                }
                Ok(Err(error)) => fault = error,
                Err(elapsed) => fault = io::Error::new(io::ErrorKind::TimedOut, elapsed),
            }
        }
        Err(Rfc2136Fault::Unreachable(fault))
    }

    /// The zone that a name is in, as the server tells it by its SOA record: at the name, or beside
    /// the news that the name has none (RFC 2308 §3).
    async fn find_zone(
        &self,
        connection: &mut TcpStream,
        name: &Name,
    ) -> Result<Name, Rfc2136Fault> {
        let mut candidate = name.clone();
        loop {
            let mut message = Message::query();
            message.metadata.recursion_desired = false;
            message.add_query(Query::query(candidate.clone(), RecordType::SOA));
            let response = self.exchange(connection, &message).await?;
            match response.metadata.response_code {
                ResponseCode::NoError | ResponseCode::NXDomain => {}
                // Servers refuse questions about zones that they don't have.
                ResponseCode::Refused | ResponseCode::NotAuth => {
                    return Err(Rfc2136Fault::NoZone);
                }
                code => return Err(Rfc2136Fault::from_code(code)),
            }
            let records = response.answers.iter().chain(&response.authorities);
            let zone = records
                .filter(|found| found.record_type() == RecordType::SOA)
                .map(|found| &found.name)
                .find(|zone| zone.zone_of(name));
            if let Some(zone) = zone {
                return Ok(zone.clone());
            }
            // An alias is answered with what it leads to; the name above it is in the same zone. A
            // delegation means that the name is not in a zone of this server.
            let is_alias = |found: &hickory_proto::rr::Record| {
                found.record_type() == RecordType::CNAME && found.name == candidate
            };
            if !response.answers.iter().any(is_alias) || candidate.num_labels() <= 1 {
                return Err(Rfc2136Fault::NoZone);
            }
            candidate = candidate.base_name();
        }
    }

    /// Sends a message and receives the response, which is verified where it says anything but
    /// that the request was refused.
    async fn exchange(
        &self,
        connection: &mut TcpStream,
        message: &Message,
    ) -> Result<Message, Rfc2136Fault> {
        let unsendable = |error: hickory_proto::ProtoError| Rfc2136Fault::Name(error.to_string());
        let (octets, mac) = match &self.key {
            Some(key) => key.sign(message, SystemTime::now()).map_err(unsendable)?,
            None => (message.to_vec().map_err(unsendable)?, Vec::new()),
        };
        let length = u16::try_from(octets.len())
            .map_err(|_| Rfc2136Fault::Name("the message is too long".to_owned()))?;
        // In one write, so that it goes out in one segment.
        let framed = [&length.to_be_bytes()[..], &octets].concat();
        let interrupted = Rfc2136Fault::Interrupted;
        connection.write_all(&framed).await.map_err(interrupted)?;
        let length = connection.read_u16().await.map_err(interrupted)?;
        let mut octets = vec![0; usize::from(length)];
        connection
            .read_exact(&mut octets)
            .await
            .map_err(interrupted)?;

        let response = Message::from_vec(&octets)
            .map_err(|error| Rfc2136Fault::Malformed(error.to_string()))?;
        let (sent, found) = (&message.metadata, &response.metadata);
        if found.id != sent.id
            || found.message_type != MessageType::Response
            || found.op_code != sent.op_code
        {
            let text = "it does not answer the request";
            return Err(Rfc2136Fault::Malformed(text.to_owned()));
        }
        let Some(key) = &self.key else {
            return Ok(response);
        };

        // What went wrong with the signature is told without one, or with one by a clock that is
        // not ours (RFC 8945 §5.2).
        let tsig = response.signature().map(|record| &record.data);
        if let Some(error) = tsig.and_then(|tsig| tsig.error) {
            let key = key.name();
            return Err(match error {
                TsigError::BadKey => Rfc2136Fault::BadKey { key },
                TsigError::BadSig => Rfc2136Fault::BadSignature { key },
                TsigError::BadTime => Rfc2136Fault::BadTime {
                    server: tsig.and_then(|tsig| time(&tsig.other)),
                },
                error => Rfc2136Fault::Tsig(u16::from(error)),
            });
        }
        match key.verify(&octets, &mac, SystemTime::now()) {
            Ok(()) => Ok(response),
            // Servers that do not get as far as the signature answer without one. Who could forge
            // that could as well not answer.
            Err(Unverified::Missing)
                if found.response_code != ResponseCode::NoError
                    && found.response_code != ResponseCode::NXDomain =>
            {
                Ok(response)
            }
            Err(unverified) => Err(Rfc2136Fault::Unverified(unverified.to_string())),
        }
    }
}

#[async_trait]
impl DnsProvider for Rfc2136 {
    async fn add(&self, record: &TxtRecord) -> Result<(), BoxError> {
        Ok(self.update(Change::Add, record).await?)
    }

    async fn remove(&self, record: &TxtRecord) -> Result<(), BoxError> {
        Ok(self.update(Change::Remove, record).await?)
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Server {
    host: String,
    port: u16,
}

impl Server {
    fn parse(text: &str) -> Result<Self, InvalidNameServer> {
        let invalid = || InvalidNameServer(text.to_owned());
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self {
                host: address.ip().to_string(),
                port: address.port(),
            });
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self {
                host: address.to_string(),
                port: DNS_PORT,
            });
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| invalid())?),
            None => (text, DNS_PORT),
        };
        let name = Name::from_ascii(host).map_err(|_| invalid())?;
        if host.is_empty() || name.is_root() {
            return Err(invalid());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// The text names no name server: it is neither an address nor a host, with or without a port.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("`{}` is not a name server: give an address or a host, or one of them with `:port`", printable(.0))]
pub struct InvalidNameServer(String);

/// Why [`Rfc2136`] could not add or remove a record.
#[derive(Debug, Error)]
#[error("cannot {} the TXT record at `{}` by dynamic update at {server}: {fault}", .change.verb(), printable(.name))]
pub struct Rfc2136Error {
    change: Change,
    name: String,
    server: String,
    fault: Rfc2136Fault,
}

impl Rfc2136Error {
    /// The name server, with its port.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The record's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What went wrong.
    pub fn fault(&self) -> &Rfc2136Fault {
        &self.fault
    }
}

/// What went wrong with a dynamic update.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Rfc2136Fault {
    /// `BADKEY` (RFC 8945 §5.2.1): the server does not know the key's name, or not with that
    /// algorithm.
    #[error(
        "the server does not know the key `{}` with this algorithm (BADKEY): compare name and \
         algorithm with the server's configuration",
        printable(.key)
    )]
    BadKey {
        /// The key's name.
        key: String,
    },
    /// `BADSIG` (RFC 8945 §5.2.2): the server has another secret for the key.
    #[error(
        "the server has another secret for the key `{}` (BADSIG)",
        printable(.key)
    )]
    BadSignature {
        /// The key's name.
        key: String,
    },
    /// `BADTIME` (RFC 8945 §5.2.3): the two hosts' clocks are more than five minutes apart.
    #[error("the clocks of this host and the server are more than 300 s apart (BADTIME){}", apart(.server))]
    BadTime {
        /// The time by the server's clock, where it told.
        server: Option<SystemTime>,
    },
    /// The connection broke before the response had come. Whether the update was made is not known;
    /// it can be sent again.
    #[error("the connection broke: {0}")]
    Interrupted(#[source] io::Error),
    /// The response is no DNS message, or not one for the request.
    #[error("the response cannot be read: {0}")]
    Malformed(String),
    /// The record's name or zone is no domain name, or too long.
    #[error("the name cannot be sent: {0}")]
    Name(String),
    /// The server has no zone that the name is in. No update was sent.
    #[error(
        "the server is not authoritative for a zone with this name: name the zone's primary server"
    )]
    NoZone,
    /// `NOTAUTH` (RFC 2136 §3.1.1): the server does not have the zone.
    #[error(
        "the server is not authoritative for the zone `{}` (NOTAUTH): name the zone's primary \
         server, or one that forwards updates to it",
        printable(.zone)
    )]
    NotAuthoritative {
        /// The zone.
        zone: String,
    },
    /// `NOTZONE` (RFC 2136 §3.4.1.3): the name is not in the zone.
    #[error("the name is not in the zone `{}` (NOTZONE)", printable(.zone))]
    NotInZone {
        /// The zone.
        zone: String,
    },
    /// `REFUSED` (RFC 2136 §3.3): the server's policy does not let this key, or this address, make
    /// this change.
    #[error(
        "the server's policy does not allow it (REFUSED): let the key update TXT records at this \
         name, in BIND by `update-policy` or `allow-update`"
    )]
    Refused,
    /// Another response code.
    #[error("the server answered with response code {0}; its log may tell why")]
    ResponseCode(u16),
    /// `SERVFAIL`: the server could not do it, for instance because it cannot write its journal.
    #[error(
        "the server failed (SERVFAIL): see its log; it must be able to write the zone's journal"
    )]
    ServerFailure,
    /// No response came within this time. Whether the update was made is not known; it can be sent
    /// again.
    #[error("no response came within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    /// Another fault that the server found with the signature, by its number (RFC 8945 §3).
    #[error("the server does not take the signature (TSIG error {0})")]
    Tsig(u16),
    /// The server cannot be looked up, or no connection to it be made. It must answer over TCP.
    #[error("the server cannot be reached over TCP: {0}")]
    Unreachable(#[source] io::Error),
    /// The response is not signed as it must be, so it may be anybody's.
    #[error("the response proves nothing: {0}")]
    Unverified(String),
}

impl Rfc2136Fault {
    fn from_code(code: ResponseCode) -> Self {
        match code {
            ResponseCode::Refused => Self::Refused,
            ResponseCode::ServFail => Self::ServerFailure,
            code => Self::ResponseCode(u16::from(code)),
        }
    }
}

fn apart(server: &Option<SystemTime>) -> String {
    let Some(server) = server else {
        return String::new();
    };
    match server.duration_since(SystemTime::now()) {
        Ok(ahead) => format!(": the server's is {} s ahead", ahead.as_secs()),
        Err(behind) => format!(": the server's is {} s behind", behind.duration().as_secs()),
    }
}

/// The time in the 48 bits that come with `BADTIME`.
fn time(octets: &[u8]) -> Option<SystemTime> {
    let octets: [u8; 6] = octets.try_into().ok()?;
    let seconds = octets
        .iter()
        .fold(0_u64, |seconds, octet| seconds << 8 | u64::from(*octet));
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

fn absolute(name: &str) -> Result<Name, Rfc2136Fault> {
    let mut name = Name::from_ascii(name)
        .map_err(|error| Rfc2136Fault::Name(format!("`{}`: {error}", printable(name))))?;
    name.set_fqdn(true);
    Ok(name)
}

fn relative(name: &Name) -> String {
    let text = name.to_ascii();
    match text.strip_suffix('.') {
        Some("") | None => text,
        Some(relative) => relative.to_owned(),
    }
}

const DNS_PORT: u16 = 53;
/// RFC 2181 §8.
const MAX_TTL: u32 = i32::MAX as u32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::solver::TsigAlgorithm;

    #[test]
    fn name_servers_by_address_or_host() {
        let cases = [
            ("192.0.2.1", "192.0.2.1:53"),
            ("192.0.2.1:5353", "192.0.2.1:5353"),
            ("2001:db8::1", "[2001:db8::1]:53"),
            ("[2001:db8::1]:5353", "[2001:db8::1]:5353"),
            ("ns1.example.com", "ns1.example.com:53"),
            ("ns1.example.com:5353", "ns1.example.com:5353"),
        ];
        for (text, server) in cases {
            assert_eq!(Server::parse(text).unwrap().to_string(), server);
        }
        for text in ["", ".", "host:", "host:65536", "a..b", "https://host"] {
            assert!(Rfc2136::new(text).is_err(), "{text}");
        }
        let address = SocketAddr::from(([127, 0, 0, 1], 5300));
        assert_eq!(Rfc2136::new(address).unwrap().server.port, 5300);
    }

    #[tokio::test]
    async fn a_clock_that_is_wrong_is_told() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let key = TsigKey::new("key", TsigAlgorithm::HmacSha256, *b"secret").unwrap();
        let provider = Rfc2136::new(listener.local_addr().unwrap())
            .unwrap()
            .tsig(key);
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut octets = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut octets).await.unwrap();
            // RFC 8945 §5.2.3: the time signed is the request's, the other data the server's.
            let mut message = Message::from_vec(&octets).unwrap();
            message.metadata.message_type = MessageType::Response;
            message.metadata.response_code = ResponseCode::NotAuth;
            let mut signature = message.take_signature().unwrap();
            signature.data.error = Some(TsigError::BadTime);
            signature.data.other = vec![0, 0, 0x65, 0x53, 0xf1, 0x00];
            message.set_signature(signature);
            let octets = message.to_vec().unwrap();
            stream
                .write_u16(octets.len().try_into().unwrap())
                .await
                .unwrap();
            stream.write_all(&octets).await.unwrap();
        };
        let record = TxtRecord::new("a.example.com", "value").in_zone("example.com");
        let (added, ()) = tokio::join!(provider.add(&record), server);
        let error: Box<Rfc2136Error> = added.unwrap_err().downcast().unwrap();
        let server = SystemTime::UNIX_EPOCH + Duration::from_secs(0x6553_f100);
        assert!(
            matches!(error.fault(), Rfc2136Fault::BadTime { server: Some(time) } if *time == server),
            "{error}"
        );
        assert!(error.to_string().contains("s behind"), "{error}");
    }
}
