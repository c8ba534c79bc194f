use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::protocol::{InvalidIssueValue, IssueValue};

/// A type of record that can be asked for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum RecordType {
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    Aaaa,
    /// Who may issue certificates (RFC 8659).
    Caa,
    /// The name that this one is an alias of.
    Cname,
    /// A name server of a zone.
    Ns,
    /// The start of a zone.
    Soa,
    /// Text.
    Txt,
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Caa => "CAA",
            Self::Cname => "CNAME",
            Self::Ns => "NS",
            Self::Soa => "SOA",
            Self::Txt => "TXT",
        })
    }
}

/// The CAA records that are for a name: those of its closest ancestor that has any (RFC 8659 §3).
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct CaaSet {
    /// The name, or ancestor of it, that has them. Where that is an alias, they are its target's.
    pub name: String,
    /// The records; at least one.
    pub records: Vec<Caa>,
}

/// A CAA record: one property of those who may issue for a name (RFC 8659 §4.1).
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Caa {
    /// Whether a CA that does not know the tag must not issue.
    pub critical: bool,
    /// What the property is, in lower case: `issue`, `issuewild`, `iodef`, …
    pub tag: String,
    /// The value, as it stands.
    pub value: String,
}

impl Caa {
    /// The tag of who may issue.
    pub const ISSUE: &str = "issue";
    /// The tag of who may issue for wildcards; where it is there, `issue` is not for them.
    pub const ISSUE_WILD: &str = "issuewild";

    /// Who may issue, and on which conditions: the value of `issue` and `issuewild`, with the
    /// parameters of RFC 8657. `None` for other tags.
    pub fn issuer(&self) -> Option<Result<IssueValue, InvalidIssueValue>> {
        matches!(self.tag.as_str(), Self::ISSUE | Self::ISSUE_WILD)
            .then(|| IssueValue::parse(&self.value))
    }
}

/// A reply, in types of our own.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) authoritative: bool,
    pub(super) answers: Vec<Record>,
    pub(super) authorities: Vec<Record>,
}

impl Reply {
    /// The name that the CNAME record of this one points to.
    pub(super) fn alias_of(&self, name: &str) -> Option<&str> {
        self.answers.iter().find_map(|record| match &record.data {
            Data::Cname(target) if record.owner == name => Some(target.as_str()),
            _ => None,
        })
    }

    /// The texts of all TXT records: those of the name, or of what it is an alias of.
    pub(super) fn texts(self) -> Vec<String> {
        let data = self.answers.into_iter().map(|record| record.data);
        data.filter_map(|data| match data {
            Data::Txt(text) => Some(text),
            _ => None,
        })
        .collect()
    }
}

#[derive(Debug)]
pub(super) struct Record {
    /// In lower case, without a final dot; `.` is the root.
    pub(super) owner: String,
    pub(super) data: Data,
}

#[derive(Debug)]
pub(super) enum Data {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Caa(Caa),
    Cname(String),
    Ns(String),
    Soa,
    Txt(String),
    Other,
}
