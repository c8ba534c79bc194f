//! One question to one server: all that touches the DNS library.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use hickory_net::NetError;
use hickory_net::client::Client;
use hickory_net::runtime::TokioRuntimeProvider;
use hickory_net::tcp::TcpClientStream;
use hickory_net::udp::UdpClientStream;
use hickory_net::xfer::{DnsHandle, DnsRequestSender};
use hickory_proto::op::{self, DnsRequest, DnsRequestOptions, DnsResponse, Query};
use hickory_proto::rr::{self, Name, RData};
use tokio::time::timeout;
use tracing::trace;

use super::record::{Data, Record, Reply};
use super::{Caa, DnsError, DnsFault, RecordType, ResponseCode};

/// What to ask of a server.
pub(super) struct Question<'a> {
    pub(super) name: &'a str,
    pub(super) record_type: RecordType,
    /// Whether the server shall ask other servers, where it has to.
    pub(super) recursion: bool,
}

impl Question<'_> {
    /// Asks one server, over UDP, and over TCP where the answer is too long for that.
    ///
    /// That a name does not exist, or has no such record, is an answer.
    pub(super) async fn ask(&self, server: SocketAddr, limit: Duration) -> Result<Reply, DnsError> {
        // The library's own limit, which it does not tell from other ends, shall not come first.
        let longer = limit.saturating_add(Duration::from_secs(1));
        let reply = match timeout(limit, self.exchange(server, longer)).await {
            Ok(result) => result,
            Err(_) => Err(DnsFault::Timeout(limit)),
        };
        trace!(name = self.name, record_type = %self.record_type, %server, ?reply, "asked");
        reply.map_err(|fault| self.error(fault).at_server(server))
    }

    pub(super) fn error(&self, fault: impl Into<DnsFault>) -> DnsError {
        DnsError::new(self.name, self.record_type, fault)
    }

    async fn exchange(&self, server: SocketAddr, limit: Duration) -> Result<Reply, DnsFault> {
        let name = wire_name(self.name).ok_or(DnsFault::InvalidName)?;
        let mut response = over_udp(server, limit, self.request(&name, true)).await?;
        // Servers older than EDNS do not understand it (RFC 6891 §7).
        if response.metadata.response_code == op::ResponseCode::FormErr {
            response = over_udp(server, limit, self.request(&name, false)).await?;
        }
        if response.metadata.truncation {
            response = over_tcp(server, limit, self.request(&name, true)).await?;
        }
        read(&response)
    }

    fn request(&self, name: &Name, use_edns: bool) -> DnsRequest {
        let query = Query::query(name.clone(), wire_type(self.record_type));
        let mut options = DnsRequestOptions::default();
        options.use_edns = use_edns;
        options.recursion_desired = self.recursion;
        DnsRequest::from_query(query, options)
    }
}

/// How a name is written here: lower case, no dot at its end but for the root's.
pub(super) fn plain_name(name: &str) -> String {
    match name.strip_suffix('.') {
        Some("") => ".".to_owned(),
        rest => rest.unwrap_or(name).to_ascii_lowercase(),
    }
}

fn wire_name(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    Some(name)
}

fn wire_type(record_type: RecordType) -> rr::RecordType {
    match record_type {
        RecordType::A => rr::RecordType::A,
        RecordType::Aaaa => rr::RecordType::AAAA,
        RecordType::Caa => rr::RecordType::CAA,
        RecordType::Cname => rr::RecordType::CNAME,
        RecordType::Ns => rr::RecordType::NS,
        RecordType::Soa => rr::RecordType::SOA,
        RecordType::Txt => rr::RecordType::TXT,
    }
}

/// A port of its own for each question, which the system picks, and some repetitions within the
/// time.
async fn over_udp(
    server: SocketAddr,
    limit: Duration,
    request: DnsRequest,
) -> Result<DnsResponse, DnsFault> {
    let mut stream = UdpClientStream::builder(server, TokioRuntimeProvider::default())
        .with_os_port_selection(true)
        .with_timeout(Some(limit))
        .with_retry_interval_floor(1_000)
        .build();
    first(stream.send_message(request), limit).await
}

async fn over_tcp(
    server: SocketAddr,
    limit: Duration,
    request: DnsRequest,
) -> Result<DnsResponse, DnsFault> {
    let provider = TokioRuntimeProvider::default();
    let (connecting, handle) = TcpClientStream::new(server, None, Some(limit), provider);
    let stream = connecting.await.map_err(|error| fault(&error, limit))?;
    let (client, background) = Client::<TokioRuntimeProvider>::with_timeout(stream, handle, limit);
    // It ends when the client is dropped.
    tokio::spawn(background);
    first(client.send(request), limit).await
}

async fn first<S>(mut responses: S, limit: Duration) -> Result<DnsResponse, DnsFault>
where
    S: StreamExt<Item = Result<DnsResponse, NetError>> + Unpin,
{
    match responses.next().await {
        Some(response) => response.map_err(|error| fault(&error, limit)),
        None => Err(DnsFault::Malformed("the connection ended".to_owned())),
    }
}

fn fault(error: &NetError, limit: Duration) -> DnsFault {
    match error {
        NetError::Io(error) => DnsFault::from(&**error),
        NetError::Timeout => DnsFault::Timeout(limit),
        error => DnsFault::Malformed(error.to_string()),
    }
}

fn read(response: &DnsResponse) -> Result<Reply, DnsFault> {
    let code = match response.metadata.response_code {
        op::ResponseCode::NoError | op::ResponseCode::NXDomain => None,
        op::ResponseCode::FormErr => Some(ResponseCode::FormErr),
        op::ResponseCode::ServFail => Some(ResponseCode::ServFail),
        op::ResponseCode::NotImp => Some(ResponseCode::NotImp),
        op::ResponseCode::Refused => Some(ResponseCode::Refused),
        other => Some(ResponseCode::Other(other.into())),
    };
    match code {
        Some(code) => Err(code.into()),
        None => Ok(Reply {
            authoritative: response.metadata.authoritative,
            answers: response.answers.iter().map(record).collect(),
            authorities: response.authorities.iter().map(record).collect(),
        }),
    }
}

fn record(record: &rr::Record) -> Record {
    let name = |name: &Name| plain_name(&name.to_ascii());
    Record {
        owner: name(&record.name),
        data: match &record.data {
            RData::A(address) => Data::A(address.0),
            RData::AAAA(address) => Data::Aaaa(address.0),
            RData::CAA(caa) => Data::Caa(Caa {
                critical: caa.issuer_critical,
                tag: caa.tag.to_ascii_lowercase(),
                value: String::from_utf8_lossy(&caa.value).into_owned(),
            }),
            RData::CNAME(target) => Data::Cname(name(&target.0)),
            RData::NS(server) => Data::Ns(name(&server.0)),
            RData::SOA(_) => Data::Soa,
            // One text may be in several strings, as each has at most 255 octets.
            RData::TXT(strings) => {
                let octets = strings.txt_data.concat();
                Data::Txt(String::from_utf8_lossy(&octets).into_owned())
            }
            _ => Data::Other,
        },
    }
}
