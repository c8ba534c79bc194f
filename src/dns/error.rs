use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;

use super::RecordType;
use crate::protocol::printable;

/// A question to the DNS got no answer that can be used.
#[derive(Clone, Debug, Error)]
#[error("{record_type} of {}{}: {fault}", printable(.name), self.at())]
#[non_exhaustive]
pub struct DnsError {
    /// The name that was asked for.
    pub name: String,
    /// The type of record that was asked for.
    pub record_type: RecordType,
    /// The server that was asked; the last of several. `None` where none was.
    pub server: Option<SocketAddr>,
    /// What went wrong.
    pub fault: DnsFault,
}

impl DnsError {
    pub(super) fn new(name: &str, record_type: RecordType, fault: impl Into<DnsFault>) -> Self {
        Self {
            name: name.to_owned(),
            record_type,
            server: None,
            fault: fault.into(),
        }
    }

    pub(super) fn at_server(mut self, server: SocketAddr) -> Self {
        self.server = Some(server);
        self
    }

    /// Whether asking again can help, without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match &self.fault {
            DnsFault::Response(code) => !matches!(code, ResponseCode::NotImp),
            DnsFault::Io { .. } | DnsFault::Malformed(_) | DnsFault::Timeout(_) => true,
            DnsFault::NotAuthoritative => true,
            DnsFault::AliasLoop
            | DnsFault::InvalidName
            | DnsFault::NoNameServers
            | DnsFault::NoZone
            | DnsFault::SystemConfiguration(_)
            | DnsFault::TooManyAliases(_) => false,
        }
    }

    /// Whether this host cannot send to addresses of that family at all, as without IPv6.
    pub fn is_unroutable(&self) -> bool {
        matches!(&self.fault, DnsFault::Io { unroutable, .. } if *unroutable)
    }

    fn at(&self) -> String {
        self.server
            .map(|server| format!(" at {server}"))
            .unwrap_or_default()
    }
}

/// What went wrong with a question to the DNS.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum DnsFault {
    /// The name is an alias of itself, over one or more CNAME records.
    #[error("its CNAME records lead in a circle")]
    AliasLoop,
    /// The name can't be asked for: an empty label, one of more than 63 octets, or more than 255
    /// octets in all.
    #[error("it is no domain name")]
    InvalidName,
    /// The server could not be reached.
    #[error("the server cannot be reached: {detail}")]
    Io {
        /// What the system said.
        detail: String,
        /// Whether the host has no route at all to addresses of that family.
        unroutable: bool,
    },
    /// What came is no answer to the question.
    #[error("the server's answer makes no sense: {0}")]
    Malformed(String),
    /// No server is there to ask: the system has none, or the zone's have no addresses.
    #[error("there is no name server to ask")]
    NoNameServers,
    /// No zone has the name: no name above it has an SOA record.
    #[error("no zone is found that it is in")]
    NoZone,
    /// The server is listed for the zone, and knows nothing of it (a lame delegation).
    #[error("the server is listed for the zone, but is not authoritative for it")]
    NotAuthoritative,
    /// The server answers with a code that says that it failed, or will not answer.
    #[error("the server answers {0}")]
    Response(ResponseCode),
    /// The system's list of name servers can't be read.
    #[error("the system's name servers can't be read: {0}")]
    SystemConfiguration(String),
    /// No answer came in time.
    #[error("no answer came within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    /// The name is an alias of an alias, and so on, too often.
    #[error("more than {0} CNAME records are to be followed")]
    TooManyAliases(usize),
}

impl From<ResponseCode> for DnsFault {
    fn from(code: ResponseCode) -> Self {
        Self::Response(code)
    }
}

/// How a server says that it has no answer (RFC 1035 §4.1.1, RFC 6895 §2.3). `NXDOMAIN` is not among
/// them: that there is no such name is an answer.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ResponseCode {
    /// `FORMERR`: the server does not understand the question.
    FormErr,
    /// `SERVFAIL`: the server failed; with DNSSEC, often as signatures don't fit.
    ServFail,
    /// `NOTIMP`: the server does not do that.
    NotImp,
    /// `REFUSED`: the server will not answer, often as the zone is not its own.
    Refused,
    /// Another code.
    Other(u16),
}

impl fmt::Display for ResponseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FormErr => "FORMERR",
            Self::ServFail => "SERVFAIL",
            Self::NotImp => "NOTIMP",
            Self::Refused => "REFUSED",
            Self::Other(code) => return write!(f, "response code {code}"),
        })
    }
}

impl From<&io::Error> for DnsFault {
    fn from(error: &io::Error) -> Self {
        Self::Io {
            detail: error.to_string(),
            unroutable: is_unroutable(error),
        }
    }
}

/// Whether an error is for all addresses of a family, and not for one of them.
fn is_unroutable(error: &io::Error) -> bool {
    const NO_FAMILY: i32 = match () {
        () if cfg!(windows) => 10047,
        () if cfg!(any(target_os = "linux", target_os = "android")) => 97,
        () => 47,
    };
    error.raw_os_error() == Some(NO_FAMILY)
        || matches!(
            error.kind(),
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable
        )
}
