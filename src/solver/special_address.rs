use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address is not one that a public CA connects to: private, loopback, link-local,
/// multicast, for documentation, or reserved otherwise in the IANA's registries of special-purpose
/// addresses (RFC 6890).
pub(crate) fn is_special(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_special_v4(address),
        IpAddr::V6(address) => is_special_v6(address),
    }
}

fn is_special_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || matches!(
            (a, b, c),
            (0 | 224.., ..) | (100, 64..=127, _) | (192, 0, 0) | (192, 88, 99) | (198, 18 | 19, _)
        )
}

fn is_special_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, ..] = address.segments();
    match a {
        // By NAT64, the address of an IPv4 host (RFC 6052).
        0x64 => (b, c) != (0xff9b, 0),
        // Protocol assignments, 2001::/23, and documentation.
        0x2001 => b < 0x200 || b == 0xdb8,
        // 6to4, which is retired (RFC 7526).
        0x2002 => true,
        // Documentation (RFC 9637).
        0x3fff => b < 0x1000,
        // Global unicast is 2000::/3 (RFC 4291 §2.4).
        _ => a >> 13 != 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_special_addresses_from_public_ones() {
        for (address, expected) in [
            ("0.0.0.0", true),
            ("10.1.2.3", true),
            ("100.63.255.255", false),
            ("100.64.0.1", true),
            ("127.0.0.2", true),
            ("169.254.169.254", true),
            ("172.16.0.1", true),
            ("172.32.0.1", false),
            ("192.0.0.8", true),
            ("192.0.2.1", true),
            ("192.168.1.1", true),
            ("198.19.0.1", true),
            ("198.20.0.1", false),
            ("203.0.113.9", true),
            ("223.255.255.1", false),
            ("224.0.0.1", true),
            ("255.255.255.255", true),
            ("9.9.9.9", false),
            ("::", true),
            ("::1", true),
            ("::ffff:10.0.0.1", true),
            ("::ffff:9.9.9.9", false),
            ("64:ff9b::909:909", false),
            ("64:ff9b:1::1", true),
            ("100::1", true),
            ("2001::1", true),
            ("2001:db8::1", true),
            ("2001:4860:4860::8888", false),
            ("2002:909:909::1", true),
            ("2620:fe::fe", false),
            ("3fff::1", true),
            ("fc00::1", true),
            ("fd12:3456::1", true),
            ("fe80::1", true),
            ("ff02::1", true),
        ] {
            assert_eq!(is_special(address.parse().unwrap()), expected, "{address}");
        }
    }
}
