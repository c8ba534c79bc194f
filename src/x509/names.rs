//! Identifiers as subject alternative names, and back (RFC 5280 §4.2.1.6, RFC 8738 §4).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use der::asn1::Ia5String;
use x509_cert::ext::pkix::name::GeneralName;

use crate::protocol::{DnsName, Identifier, OtherIdentifier};

/// `None` for an identifier that has no place in a certificate for a server.
pub(crate) fn general_name(identifier: &Identifier) -> Option<GeneralName> {
    match identifier {
        Identifier::Dns(name) => Ia5String::new(name.as_str()).ok().map(GeneralName::DnsName),
        Identifier::Ip(address) => Some(GeneralName::from(*address)),
        Identifier::Other(_) => None,
    }
}

/// A name of any kind, so that one that was not asked for is seen.
pub(super) fn identifier(name: &GeneralName) -> Identifier {
    let other = |type_name: &str, value: String| {
        Identifier::Other(OtherIdentifier {
            type_name: type_name.to_owned(),
            value,
        })
    };
    match name {
        GeneralName::DnsName(name) => DnsName::parse(name.as_str())
            .map_or_else(|_| other("dns", name.to_string()), Identifier::Dns),
        GeneralName::IpAddress(octets) => {
            let octets = octets.as_bytes();
            let v4 = <[u8; 4]>::try_from(octets).map(|octets| IpAddr::from(Ipv4Addr::from(octets)));
            let v6 =
                <[u8; 16]>::try_from(octets).map(|octets| IpAddr::from(Ipv6Addr::from(octets)));
            v4.or(v6)
                .map_or_else(|_| other("ip", format!("{octets:02x?}")), Identifier::Ip)
        }
        GeneralName::Rfc822Name(name) => other("email", name.to_string()),
        GeneralName::UniformResourceIdentifier(name) => other("uri", name.to_string()),
        name => other("other", format!("{name:?}")),
    }
}

/// Identifiers as an error tells them.
pub(super) fn list(identifiers: &[Identifier]) -> String {
    if identifiers.is_empty() {
        return "none".to_owned();
    }
    let values: Vec<_> = identifiers.iter().map(Identifier::to_string).collect();
    values.join(", ")
}
