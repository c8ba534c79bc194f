use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};

use super::fault::{RedirectFault, SelfCheckFault};
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
    url: Url,
    port: u16,
}

impl Target {
    /// The URL by which a validation begins.
    pub(super) fn first(host: &str, path: &str, rules: &Rules) -> Option<Self> {
        let mut url = Url::parse(&format!("http://{host}{path}")).ok()?;
        // For port 80 this leaves the port out, as it must be in `Host`.
        url.set_port(Some(rules.http_port)).ok()?;
        Some(Self {
            url,
            port: rules.http_port,
        })
    }

    /// Where a redirect leads, if a CA would follow it.
    pub(super) fn redirected(
        &self,
        location: &[u8],
        rules: &Rules,
    ) -> Result<Self, SelfCheckFault> {
        let refuse = |fault| SelfCheckFault::Redirect {
            location: String::from_utf8_lossy(location).into_owned(),
            fault,
        };
        let text = str::from_utf8(location).map_err(|_| refuse(RedirectFault::Syntax))?;
        let mut url = self
            .url
            .join(text)
            .map_err(|_| refuse(RedirectFault::Syntax))?;
        url.set_fragment(None);
        let by_scheme = match url.scheme() {
            "http" => rules.http_port,
            "https" => rules.https_port,
            _ => return Err(refuse(RedirectFault::Scheme)),
        };
        // A port that is named and the scheme's own is not told from one that is not named.
        let port = url.port().unwrap_or(by_scheme);
        if port != rules.http_port && port != rules.https_port {
            return Err(refuse(RedirectFault::Port(port)));
        }
        if url.as_str().len() > LONGEST_URL {
            return Err(refuse(RedirectFault::TooLong));
        }
        let target = Self { url, port };
        target.check_host(rules).map_err(refuse)?;
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
        match name.contains('.') || rules.allow_special {
            true => Ok(()),
            false => Err(RedirectFault::NotPublic),
        }
    }

    pub(super) fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// The host: a name, or an address as it stands in URLs.
    pub(super) fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// The host's address, where it is one.
    pub(super) fn address(&self) -> Option<IpAddr> {
        match self.url.host()? {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
        }
    }

    /// What stands in the `Host` header: with the port where it is not the scheme's own.
    pub(super) fn authority(&self) -> String {
        match self.url.port() {
            Some(port) => format!("{}:{port}", self.host()),
            None => self.host().to_owned(),
        }
    }

    pub(super) fn path_and_query(&self) -> String {
        match self.url.query() {
            Some(query) => format!("{}?{query}", self.url.path()),
            None => self.url.path().to_owned(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
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
        Target::first("example.com", "/.well-known/acme-challenge/token", &RULES).unwrap()
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
            let target = Target::first(host, "/path", &rules).unwrap();
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
            ("https://exa mple.org/", RedirectFault::Syntax),
            ("http://10.0.0.1/", RedirectFault::SpecialAddress),
            ("http://2130706433/", RedirectFault::SpecialAddress),
            ("http://0x7f.1/", RedirectFault::SpecialAddress),
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
    }
}
