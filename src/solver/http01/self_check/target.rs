use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use percent_encoding::percent_decode_str;

use super::fault::{RedirectFault, SelfCheckFault};
use crate::protocol::{DnsName, ends_in_number, host_address, resolve};
use crate::solver::special_address::is_special;

/// Where a CA goes, and where it does not.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) http_port: u16,
    pub(super) https_port: u16,
    pub(super) allow_special: bool,
}

/// A URL that a CA fetches.
#[derive(Clone, Debug)]
pub(super) struct Target {
    is_https: bool,
    host: String,
    /// The port that the URL names, where it is not the scheme's own.
    named_port: Option<u16>,
    port: u16,
    path_and_query: String,
}

impl Target {
    /// The URL by which a validation begins.
    pub(super) fn first(host: String, path: String, rules: &Rules) -> Self {
        Self {
            is_https: false,
            host,
            // Port 80 must not stand in `Host`.
            named_port: Some(rules.http_port).filter(|port| *port != 80),
            port: rules.http_port,
            path_and_query: path,
        }
    }

    /// Where a redirect leads, if a CA would follow it.
    pub(super) fn redirected(
        &self,
        location: &[u8],
        rules: &Rules,
    ) -> Result<Self, SelfCheckFault> {
        self.leading_to(location, rules)
            .map_err(|fault| SelfCheckFault::Redirect {
                location: String::from_utf8_lossy(location).into_owned(),
                fault,
            })
    }

    fn leading_to(&self, location: &[u8], rules: &Rules) -> Result<Self, RedirectFault> {
        let text = str::from_utf8(location).map_err(|_| RedirectFault::Syntax)?;
        let uri = resolve(&self.to_string(), text).ok_or(RedirectFault::Syntax)?;
        let (is_https, own, by_scheme) = match uri.scheme_str().to_ascii_lowercase().as_str() {
            "http" => (false, 80, rules.http_port),
            "https" => (true, 443, rules.https_port),
            _ => return Err(RedirectFault::Scheme),
        };
        let authority = uri.authority_components().ok_or(RedirectFault::Syntax)?;
        let host = host(authority.host()).ok_or(RedirectFault::Syntax)?;
        let named_port = match authority.port().filter(|port| !port.is_empty()) {
            Some(port) => Some(port.parse().map_err(|_| RedirectFault::Syntax)?),
            None => None,
        };
        // A port that is named and the scheme's own is not told from one that is not named.
        let named_port = named_port.filter(|port| *port != own);
        let port = named_port.unwrap_or(by_scheme);
        if port != rules.http_port && port != rules.https_port {
            return Err(RedirectFault::Port(port));
        }
        let path = match uri.path_str() {
            "" => "/",
            path => path,
        };
        let target = Self {
            is_https,
            host,
            named_port,
            port,
            path_and_query: match uri.query_str() {
                Some(query) => format!("{path}?{query}"),
                None => path.to_owned(),
            },
        };
        if target.to_string().len() > LONGEST_URL {
            return Err(RedirectFault::TooLong);
        }
        target.check_host(rules)?;
        Ok(target)
    }

    fn check_host(&self, rules: &Rules) -> Result<(), RedirectFault> {
        let name = match self.address() {
            Some(address) if is_special(address) && !rules.allow_special => {
                return Err(RedirectFault::SpecialAddress);
            }
            Some(_) => return Ok(()),
            None => self.host().trim_end_matches('.'),
        };
        // `https://example.com$request_uri` without the slash before the path.
        if name.ends_with(".well-known") {
            return Err(RedirectFault::MissingSlash);
        }
        let has_dot = name.contains('.') || rules.allow_special;
        match has_dot && !ends_in_number(name) {
            true => Ok(()),
            false => Err(RedirectFault::NotPublic),
        }
    }

    pub(super) fn is_https(&self) -> bool {
        self.is_https
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// The host: a name, or an address as it stands in URLs.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// The host's address, where it is one.
    pub(super) fn address(&self) -> Option<IpAddr> {
        host_address(&self.host)
    }

    /// What stands in the `Host` header: with the port where it is not the scheme's own.
    pub(super) fn authority(&self) -> String {
        match self.named_port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }

    pub(super) fn path_and_query(&self) -> &str {
        &self.path_and_query
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path_and_query)
    }
}

/// A URL's host in its canonical form, if it can be one.
fn host(text: &str) -> Option<String> {
    if let Some(address) = text.strip_prefix('[') {
        let address: Ipv6Addr = address.strip_suffix(']')?.parse().ok()?;
        return Some(format!("[{address}]"));
    }
    if text.contains('%') {
        // What was not ASCII is escaped by now; nothing else need be.
        let name = percent_decode_str(text).decode_utf8().ok()?;
        let name = DnsName::parse(&name).ok().filter(|_| !name.is_ascii())?;
        return (!name.is_wildcard()).then(|| name.to_string());
    }
    let is_of_a_name = |octet: u8| octet.is_ascii_alphanumeric() || b"-._".contains(&octet);
    (!text.is_empty() && text.bytes().all(is_of_a_name)).then(|| text.to_ascii_lowercase())
}

const LONGEST_URL: usize = 2_000;

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        http_port: 80,
        https_port: 443,
        allow_special: false,
    };

    fn first() -> Target {
        let path = "/.well-known/acme-challenge/token".to_owned();
        Target::first("example.com".to_owned(), path, &RULES)
    }

    #[test]
    fn names_the_host_as_a_ca_does() {
        for (host, port, authority) in [
            ("example.com", 80, "example.com"),
            ("example.com", 5002, "example.com:5002"),
            ("192.0.2.1", 80, "192.0.2.1"),
            ("[2001:db8::1]", 80, "[2001:db8::1]"),
            ("[2001:db8::1]", 5002, "[2001:db8::1]:5002"),
        ] {
            let rules = Rules {
                http_port: port,
                ..RULES
            };
            let target = Target::first(host.to_owned(), "/path".to_owned(), &rules);
            assert_eq!(target.authority(), authority);
            assert_eq!(target.port(), port);
            assert_eq!(target.path_and_query(), "/path");
        }
    }

    #[test]
    fn follows_what_a_ca_follows() {
        for (location, url, port) in [
            ("/elsewhere?a=b#c", "http://example.com/elsewhere?a=b", 80),
            (
                "https://www.example.org/x",
                "https://www.example.org/x",
                443,
            ),
            (
                "https://www.example.org:443/x",
                "https://www.example.org/x",
                443,
            ),
            ("https://example.org:80/", "https://example.org:80/", 80),
            ("//EXAMPLE.org/", "http://example.org/", 80),
            ("http://9.9.9.9/", "http://9.9.9.9/", 80),
            ("HTTP://example.org.", "http://example.org./", 80),
            ("http://a_b.example:/", "http://a_b.example/", 80),
            (
                "https://[2001:4860:4860:0::8888]:443?a",
                "https://[2001:4860:4860::8888]/?a",
                443,
            ),
            ("http://user:secret@example.org/", "http://example.org/", 80),
            (
                "../x y?a[]=ü",
                "http://example.com/.well-known/x%20y?a%5B%5D=%C3%BC",
                80,
            ),
        ] {
            let target = first().redirected(location.as_bytes(), &RULES).unwrap();
            assert_eq!(target.to_string(), url);
            assert_eq!(target.port(), port, "{location}");
        }
    }

    #[test]
    fn refuses_what_a_ca_refuses() {
        let long = format!("/{}", "x".repeat(LONGEST_URL));
        for (location, expected) in [
            ("ftp://example.org/", RedirectFault::Scheme),
            ("javascript:alert(1)", RedirectFault::Scheme),
            ("http://example.org:8080/", RedirectFault::Port(8080)),
            ("https://", RedirectFault::Syntax),
            ("https:///x", RedirectFault::Syntax),
            ("https://example.org:x/", RedirectFault::Syntax),
            ("https://example.org:443443/", RedirectFault::Syntax),
            ("https://[::1/", RedirectFault::Syntax),
            ("https://[v1.x]/", RedirectFault::Syntax),
            ("https://a!b.example/", RedirectFault::Syntax),
            ("/%zz", RedirectFault::Syntax),
            ("https://exa mple.org/", RedirectFault::Syntax),
            ("http://10.0.0.1/", RedirectFault::SpecialAddress),
            ("http://2130706433/", RedirectFault::NotPublic),
            ("http://0x7f.1/", RedirectFault::NotPublic),
            ("http://127.0.0.1./", RedirectFault::NotPublic),
            ("http://%31%32%37.0.0.1/", RedirectFault::Syntax),
            ("http://[::1]/", RedirectFault::SpecialAddress),
            ("http://[::ffff:127.0.0.1]/", RedirectFault::SpecialAddress),
            ("http://localhost/", RedirectFault::NotPublic),
            ("https://backend/", RedirectFault::NotPublic),
            (
                "https://example.com.well-known/acme-challenge/token",
                RedirectFault::MissingSlash,
            ),
            (&long, RedirectFault::TooLong),
        ] {
            match first().redirected(location.as_bytes(), &RULES) {
                Err(SelfCheckFault::Redirect { fault, .. }) => {
                    assert_eq!(fault, expected, "{location}");
                }
                other => panic!("{location}: {other:?}"),
            }
        }
        assert!(first().redirected(b"/\xff", &RULES).is_err());
        let anywhere = Rules {
            allow_special: true,
            ..RULES
        };
        assert!(first().redirected(b"http://0x7f.1/", &anywhere).is_err());
    }

    #[test]
    #[cfg(feature = "idna")]
    fn follows_to_internationalised_names() {
        let target = first().redirected("//bücher.example/".as_bytes(), &RULES);
        assert_eq!(target.unwrap().to_string(), "http://xn--bcher-kva.example/");
    }
}
