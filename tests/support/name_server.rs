//! Name servers on loopback addresses, with zones in memory: one that looks things up for others,
//! and two that are the zones' own. Each can be made to misbehave.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use certwright::BoxError;
use certwright::dns::Dns;
use certwright::solver::{DnsProvider, TxtRecord};
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::proto::op::{Header, HeaderCounts, Metadata, ResponseCode};
use hickory_server::proto::rr::rdata::{A, AAAA, CAA, CNAME, NS, SOA, TXT};
use hickory_server::proto::rr::{Name, RData, Record, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::net::{TcpListener, UdpSocket};

use super::net;

/// The server that looks things up.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
/// `ns1.servers.test`, the first of each zone's own servers.
pub const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// `ns2.servers.test`, the second of them.
pub const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// How a server misbehaves when it is asked for a name and type.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// It answers SERVFAIL.
    ServFail,
    /// It answers REFUSED.
    Refused,
    /// It answers that it knows nothing, and is not authoritative.
    Lame,
    /// It does not answer.
    Silent,
    /// It answers so many times that there is no such record, and then rightly.
    Stale(usize),
    /// It answers over UDP that the answer is too long for that.
    Truncated,
    /// It does not understand EDNS.
    NoEdns,
}

/// A question that a server was asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Asked {
    pub server: IpAddr,
    pub name: String,
    pub record_type: RecordType,
    pub over_tcp: bool,
}

/// The running servers. They end with the runtime.
#[derive(Clone)]
pub struct NameServers {
    world: Arc<Mutex<World>>,
    port: u16,
}

#[derive(Default)]
struct World {
    zones: BTreeSet<String>,
    records: BTreeMap<String, Vec<RData>>,
    faults: Vec<(Ipv4Addr, String, RecordType, Fault)>,
    asked: Vec<Asked>,
}

impl NameServers {
    /// Starts the three, with the zones `servers.test` and `example.com`.
    pub async fn start() -> Self {
        let servers = Self {
            world: Arc::default(),
            port: net::free_port(),
        };
        for address in [RESOLVER, FIRST, SECOND] {
            let mut server = Server::new(Handler {
                world: servers.world.clone(),
                address,
            });
            let address = SocketAddr::from((address, servers.port));
            server.register_socket(UdpSocket::bind(address).await.unwrap());
            let listener = TcpListener::bind(address).await.unwrap();
            server.register_listener(listener, Duration::from_secs(10), 4_096);
            tokio::spawn(async move { server.block_until_done().await });
        }
        servers.zone("servers.test");
        servers.add("ns1.servers.test", RData::A(A(FIRST)));
        servers.add("ns2.servers.test", RData::A(A(SECOND)));
        servers.zone("example.com");
        servers
    }

    /// How the client asks these servers.
    pub fn dns(&self) -> Dns {
        Dns::with_name_servers([self.resolver()]).authoritative_port(self.port)
    }

    pub fn resolver(&self) -> SocketAddr {
        self.at(RESOLVER)
    }

    pub fn at(&self, address: Ipv4Addr) -> SocketAddr {
        SocketAddr::from((address, self.port))
    }

    /// Adds a zone that both servers have.
    pub fn zone(&self, name: &str) {
        self.world.lock().unwrap().zones.insert(name.to_owned());
        for server in ["ns1.servers.test.", "ns2.servers.test."] {
            self.add(name, RData::NS(NS(Name::from_ascii(server).unwrap())));
        }
    }

    pub fn add(&self, name: &str, data: RData) {
        let mut world = self.world.lock().unwrap();
        let records = world.records.entry(name.to_owned()).or_default();
        if !records.contains(&data) {
            records.push(data);
        }
    }

    pub fn cname(&self, name: &str, target: &str) {
        self.add(name, RData::CNAME(CNAME(fqdn(target))));
    }

    pub fn txt(&self, name: &str, strings: &[&str]) {
        self.add(name, text(strings));
    }

    pub fn address(&self, name: &str, address: IpAddr) {
        self.add(
            name,
            match address {
                IpAddr::V4(address) => RData::A(A(address)),
                IpAddr::V6(address) => RData::AAAA(AAAA(address)),
            },
        );
    }

    pub fn caa(&self, name: &str, critical: bool, tag: &str, value: &str) {
        let mut caa = CAA::new_issue(critical, None, Vec::new());
        caa.tag = tag.to_owned();
        caa.value = value.as_bytes().to_vec();
        self.add(name, RData::CAA(caa));
    }

    /// The texts at a name, sorted.
    pub fn texts(&self, name: &str) -> Vec<String> {
        let world = self.world.lock().unwrap();
        let records = world.records.get(name).cloned().unwrap_or_default();
        let mut texts: Vec<_> = records
            .iter()
            .filter_map(|data| match data {
                RData::TXT(text) => Some(text.txt_data.concat()),
                _ => None,
            })
            .map(|text| String::from_utf8(text).unwrap())
            .collect();
        texts.sort();
        texts
    }

    /// Makes a server misbehave, until this is called for the same name and type again.
    pub fn fault(&self, server: Ipv4Addr, name: &str, record_type: RecordType, fault: Fault) {
        let mut world = self.world.lock().unwrap();
        world
            .faults
            .retain(|known| (known.0, known.1.as_str(), known.2) != (server, name, record_type));
        world
            .faults
            .push((server, name.to_owned(), record_type, fault));
    }

    /// All that was asked since the start.
    pub fn asked(&self) -> Vec<Asked> {
        self.world.lock().unwrap().asked.clone()
    }

    /// A provider that writes to these zones.
    pub fn provider(&self) -> Provider {
        Provider {
            servers: self.clone(),
            calls: Arc::default(),
        }
    }
}

/// Writes TXT records to the zones, and keeps what it was asked.
#[derive(Clone)]
pub struct Provider {
    servers: NameServers,
    calls: Arc<Mutex<Vec<Call>>>,
}

/// A call of the provider: `add` or `remove`, name, zone, value.
pub type Call = (&'static str, String, Option<String>, String);

impl Provider {
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    fn note(&self, what: &'static str, record: &TxtRecord) {
        self.calls.lock().unwrap().push((
            what,
            record.name().to_owned(),
            record.zone().map(str::to_owned),
            record.value().to_owned(),
        ));
    }
}

#[async_trait]
impl DnsProvider for Provider {
    async fn add(&self, record: &TxtRecord) -> Result<(), BoxError> {
        self.note("add", record);
        self.servers.txt(record.name(), &[record.value()]);
        Ok(())
    }

    async fn remove(&self, record: &TxtRecord) -> Result<(), BoxError> {
        self.note("remove", record);
        let mut world = self.servers.world.lock().unwrap();
        if let Some(records) = world.records.get_mut(record.name()) {
            records.retain(|data| *data != text(&[record.value()]));
        }
        Ok(())
    }
}

struct Handler {
    world: Arc<Mutex<World>>,
    address: Ipv4Addr,
}

/// What is answered.
#[derive(Default)]
struct Answer {
    code: Option<ResponseCode>,
    is_authoritative: bool,
    is_truncated: bool,
    answers: Vec<Record>,
    soa: Vec<Record>,
}

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut handle: R,
    ) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        let Some(answer) = self.answer(request) else {
            return ResponseInfo::from(Header {
                metadata,
                counts: HeaderCounts::default(),
            });
        };
        metadata.response_code = answer.code.unwrap_or(ResponseCode::NoError);
        metadata.authoritative = answer.is_authoritative;
        metadata.truncation = answer.is_truncated;
        metadata.recursion_available = self.address == RESOLVER;
        let response = MessageResponseBuilder::from_message_request(request).build(
            metadata,
            &answer.answers,
            [],
            &answer.soa,
            [],
        );
        handle.send_response(response).await.unwrap()
    }
}

impl Handler {
    /// `None` where the server says nothing.
    fn answer(&self, request: &Request) -> Option<Answer> {
        let mut world = self.world.lock().unwrap();
        let query = &request.queries.queries()[0];
        let name = query.name().to_string();
        let name = name.trim_end_matches('.').to_owned();
        let record_type = query.query_type();
        let over_tcp = request.protocol() == Protocol::Tcp;
        world.asked.push(Asked {
            server: self.address.into(),
            name: name.clone(),
            record_type,
            over_tcp,
        });

        let mut hidden = None;
        let key = (self.address, name.as_str(), record_type);
        let fault = world
            .faults
            .iter_mut()
            .find(|known| (known.0, known.1.as_str(), known.2) == key);
        let code = |code| {
            Some(Answer {
                code: Some(code),
                ..Answer::default()
            })
        };
        match fault.map(|known| &mut known.3) {
            Some(Fault::ServFail) => return code(ResponseCode::ServFail),
            Some(Fault::Refused) => return code(ResponseCode::Refused),
            Some(Fault::Lame) => return Some(Answer::default()),
            Some(Fault::Silent) => return None,
            Some(Fault::Stale(left)) if *left > 0 => {
                *left -= 1;
                hidden = Some(record_type);
            }
            Some(Fault::NoEdns) if request.edns.is_some() => return code(ResponseCode::FormErr),
            Some(Fault::Truncated) if !over_tcp => {
                return Some(Answer {
                    is_truncated: true,
                    ..Answer::default()
                });
            }
            _ => {}
        }
        Some(world.look_up(&name, record_type, hidden, self.address == RESOLVER))
    }
}

impl World {
    fn look_up(
        &self,
        name: &str,
        record_type: RecordType,
        hidden: Option<RecordType>,
        recursion: bool,
    ) -> Answer {
        let mut answer = Answer {
            is_authoritative: !recursion,
            ..Answer::default()
        };
        let mut name = name.to_owned();
        let first_zone = self.zone_of(&name);
        if first_zone.is_none() && !recursion {
            answer.code = Some(ResponseCode::Refused);
            answer.is_authoritative = false;
            return answer;
        }
        // As many links as anybody would follow.
        for _ in 0..20 {
            let zone = self.zone_of(&name);
            if zone != first_zone && !recursion {
                return answer;
            }
            let records = self.records.get(&name).cloned().unwrap_or_default();
            let found = records
                .iter()
                .filter(|data| data.record_type() == record_type && hidden != Some(record_type));
            let before = answer.answers.len();
            answer
                .answers
                .extend(found.map(|data| record(&name, data.clone())));
            if record_type == RecordType::SOA && zone == Some(&name) {
                answer.answers.push(record(&name, soa()));
            }
            if answer.answers.len() > before {
                return answer;
            }
            let alias = records.iter().find_map(|data| match data {
                RData::CNAME(target) => Some(target.0.to_ascii()),
                _ => None,
            });
            let Some(target) = alias else {
                if records.is_empty() && !self.has_below(&name) {
                    answer.code = Some(ResponseCode::NXDomain);
                }
                answer.soa.extend(zone.map(|zone| record(zone, soa())));
                return answer;
            };
            answer
                .answers
                .push(record(&name, RData::CNAME(CNAME(fqdn(&target)))));
            name = target.trim_end_matches('.').to_owned();
        }
        answer
    }

    fn zone_of(&self, name: &str) -> Option<&String> {
        let mut zones = self.zones.iter().filter(|zone| {
            name.strip_suffix(zone.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        });
        let first = zones.next()?;
        Some(
            zones.fold(first, |longest, zone| match zone.len() > longest.len() {
                true => zone,
                false => longest,
            }),
        )
    }

    fn has_below(&self, name: &str) -> bool {
        let suffix = format!(".{name}");
        self.records.keys().any(|known| known.ends_with(&suffix))
    }
}

fn record(name: &str, data: RData) -> Record {
    Record::from_rdata(fqdn(name), 60, data)
}

fn text(strings: &[&str]) -> RData {
    RData::TXT(TXT::new(
        strings.iter().map(|&text| text.to_owned()).collect(),
    ))
}

fn soa() -> RData {
    let server = fqdn("ns1.servers.test");
    RData::SOA(SOA::new(server.clone(), server, 1, 3_600, 600, 86_400, 60))
}

fn fqdn(name: &str) -> Name {
    let mut name = Name::from_ascii(name).unwrap();
    name.set_fqdn(true);
    name
}
