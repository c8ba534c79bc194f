use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::Uri;
use iri_string::types::{UriAbsoluteStr, UriReferenceStr, UriString};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

use super::printable;

/// The URL of an ACME resource, kept octet for octet as the CA wrote it.
///
/// A CA compares the `url` member of a signed request with the request's target (RFC 8555 §6.4) and
/// the `kid` with the account's URL, so a URL is never normalised: a default port, a percent escape
/// or a trailing slash stays as it came.
///
/// Absolute `https` and `http` URLs without user information and fragment can be values of this
/// type. Whether `http` may be *used* is the session's decision (RFC 8555 §6.1: it may not, but for
/// tests on loopback).
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Url(Arc<str>);

impl Url {
    /// The longest URL that is accepted, in octets.
    pub const MAX_LENGTH: usize = 4096;

    /// Reads an absolute URL.
    pub fn parse(text: &str) -> Result<Self, InvalidUrl> {
        let refuse = |fault| InvalidUrl::new(text, fault);
        if text.len() > Self::MAX_LENGTH {
            return Err(refuse(UrlFault::TooLong));
        }

        let uri = text.parse::<Uri>().map_err(|_| refuse(UrlFault::Syntax))?;
        match uri.scheme_str() {
            Some("https" | "http") => {}
            Some(_) => return Err(refuse(UrlFault::Scheme)),
            None => return Err(refuse(UrlFault::Relative)),
        }
        if uri.host().is_none_or(str::is_empty) {
            return Err(refuse(UrlFault::Syntax));
        }
        // `http::Uri` cuts a fragment off without a word; the text would then differ from the target.
        if text.contains('#') {
            return Err(refuse(UrlFault::Fragment));
        }
        if uri
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'))
        {
            return Err(refuse(UrlFault::UserInformation));
        }

        Ok(Self(text.into()))
    }

    /// Reads a reference relative to this URL (RFC 3986 §5), as `Link` and `Location` may hold one.
    ///
    /// A reference that is absolute already is kept as it is.
    pub fn join(&self, reference: &str) -> Result<Self, InvalidUrl> {
        match Self::parse(reference) {
            Err(InvalidUrl {
                fault: UrlFault::Relative | UrlFault::Syntax,
                ..
            }) => {}
            other => return other,
        }

        let joined = resolve(self.as_str(), reference)
            .ok_or_else(|| InvalidUrl::new(reference, UrlFault::Syntax))?;
        Self::parse(joined.as_str())
    }

    /// The URL's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the scheme is `https`.
    pub fn is_https(&self) -> bool {
        // Nearly all are, and it is asked for each request.
        self.0.starts_with("https://") || self.uri().scheme_str() == Some("https")
    }

    /// Whether the host is `localhost` or a loopback address.
    pub fn is_loopback(&self) -> bool {
        let uri = self.uri();
        let host = uri.host().unwrap_or_default();
        host.eq_ignore_ascii_case("localhost")
            || host_address(host).is_some_and(|address| address.is_loopback())
    }

    /// Whether the host is a name, or an address that can be reached from anywhere. What a name
    /// stands for is not looked up.
    pub(crate) fn is_public(&self) -> bool {
        let uri = self.uri();
        let host = uri.host().unwrap_or_default();
        match host_address(host).map(|address| address.to_canonical()) {
            Some(IpAddr::V4(v4)) => {
                !(v4.is_loopback()
                    || v4.is_private()
                    || v4.is_link_local()
                    || v4.is_unspecified()
                    || v4.is_broadcast()
                    || v4.is_multicast())
            }
            Some(IpAddr::V6(v6)) => {
                !(v6.is_loopback()
                    || v6.is_unique_local()
                    || v6.is_unicast_link_local()
                    || v6.is_unspecified()
                    || v6.is_multicast())
            }
            None => {
                !self.is_loopback()
                    && !host.to_ascii_lowercase().ends_with(".localhost")
                    && !ends_in_number(host)
            }
        }
    }

    /// Host and port, the scheme's own where the URL names none.
    pub(crate) fn host(&self) -> String {
        let uri = self.uri();
        let own = if self.is_https() { 443 } else { 80 };
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        format!("{host}:{}", uri.port_u16().unwrap_or(own))
    }

    /// Whether both are at the same host and port.
    pub(crate) fn has_host_of(&self, other: &Self) -> bool {
        // Mostly both are written alike, and nothing need be parsed.
        self.origin_text() == other.origin_text() || self.host() == other.host()
    }

    /// The text up to the path.
    fn origin_text(&self) -> &str {
        let start = self.0.find("://").map_or(0, |scheme| scheme + 3);
        let end = self.0.get(start..).and_then(|rest| rest.find(['/', '?']));
        end.and_then(|end| self.0.get(..start + end))
            .unwrap_or(&self.0)
    }

    /// The URL as the HTTP libraries take it.
    pub(crate) fn uri(&self) -> Uri {
        // `parse` made a value of this type only after the same parser had accepted the text.
        self.0.parse().unwrap_or_default()
    }
}

impl AsRef<str> for Url {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl TryFrom<&str> for Url {
    type Error = InvalidUrl;

    fn try_from(text: &str) -> Result<Self, InvalidUrl> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Url {
    type Error = InvalidUrl;

    fn try_from(text: String) -> Result<Self, InvalidUrl> {
        Self::parse(&text)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

impl Serialize for Url {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Url {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

/// The address that a URL's host is, where it is one.
pub(crate) fn host_address(host: &str) -> Option<IpAddr> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse().ok()
}

/// Whether a host ends in a number, as no name may: some systems take it for an address then, such
/// as `0x7f.1`.
pub(crate) fn ends_in_number(host: &str) -> bool {
    let last = host.trim_end_matches('.').rsplit('.').next();
    last.is_some_and(|label| label.starts_with(|first: char| first.is_ascii_digit()))
}

/// Resolves a reference against an absolute URL (RFC 3986 §5). What can't stand in a URI, such as a
/// space, is escaped before, as servers write it all the same.
pub(crate) fn resolve(base: &str, reference: &str) -> Option<UriString> {
    let base = escaped(base);
    let base = UriAbsoluteStr::new(&base).ok()?;
    let reference = escaped(reference);
    let reference = UriReferenceStr::new(&reference).ok()?;
    Some(reference.resolve_against(base).into())
}

fn escaped(text: &str) -> String {
    // Brackets may stand around the address of a host only.
    let authority = text.split_once("//").and_then(|(scheme, rest)| {
        let is_scheme =
            scheme.is_empty() || scheme.ends_with(':') && !scheme.contains(['/', '?', '#']);
        let length = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        is_scheme.then_some(scheme.len() + 2 + length)
    });
    let (authority, rest) = text
        .split_at_checked(authority.unwrap_or_default())
        .unwrap_or_default();
    let authority = utf8_percent_encode(authority, NOT_IN_URIS);
    format!("{authority}{}", utf8_percent_encode(rest, NOT_IN_PATHS))
}

/// All other octets of ASCII may stand in a URI (RFC 3986 §2).
const NOT_IN_URIS: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

const NOT_IN_PATHS: &AsciiSet = &NOT_IN_URIS.add(b'[').add(b']');

/// A text that is no URL an ACME resource can have.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("`{}` is not the URL of an ACME resource: {fault}", printable(.text))]
#[non_exhaustive]
pub struct InvalidUrl {
    /// The text, cut to its first 256 characters.
    pub text: String,
    /// What is wrong with it.
    pub fault: UrlFault,
}

impl InvalidUrl {
    fn new(text: &str, fault: UrlFault) -> Self {
        Self {
            text: text.chars().take(256).collect(),
            fault,
        }
    }
}

/// What is wrong with a URL.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum UrlFault {
    /// It has a fragment, which is never sent.
    #[error("it has a fragment")]
    Fragment,
    /// It has no scheme, so it means nothing by itself.
    #[error("it is relative")]
    Relative,
    /// Its scheme is neither `https` nor `http`.
    #[error("its scheme is not https")]
    Scheme,
    /// It breaks the syntax of RFC 3986.
    #[error("its syntax is wrong")]
    Syntax,
    /// It is longer than [`Url::MAX_LENGTH`].
    #[error("it is longer than {} octets", Url::MAX_LENGTH)]
    TooLong,
    /// It names a user or a password.
    #[error("it holds user information")]
    UserInformation,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_public_hosts() {
        for (host, expected) in [
            ("crl.example", true),
            ("192.0.2.1", true),
            ("[2001:db8::1]", true),
            ("localhost", false),
            ("a.localhost", false),
            ("127.0.0.1", false),
            ("10.1.2.3:8080", false),
            ("169.254.169.254", false),
            ("0x7f.1", false),
            ("2130706433", false),
            ("[::1]", false),
            ("[fd00::1]", false),
            ("[fe80::1]", false),
            ("[::ffff:10.0.0.1]", false),
        ] {
            let url = Url::parse(&format!("http://{host}/x")).unwrap();
            assert_eq!(url.is_public(), expected, "{host}");
        }
    }

    #[test]
    fn keeps_the_text() {
        for text in [
            "https://ca.example",
            "https://ca.example:443/acme/%2f/",
            "https://CA.example/a?b=c",
            "http://[::1]:14000/dir",
        ] {
            assert_eq!(Url::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn refuses() {
        for (text, fault) in [
            ("", UrlFault::Syntax),
            ("/acme/order/1", UrlFault::Relative),
            ("file:///etc/passwd", UrlFault::Scheme),
            ("ftp://ca.example/", UrlFault::Scheme),
            ("https://user:secret@ca.example/", UrlFault::UserInformation),
            ("https://ca.example/#a", UrlFault::Fragment),
            ("https://ca.example/a b", UrlFault::Syntax),
        ] {
            let error = Url::parse(text).unwrap_err();
            assert!(
                error.fault == fault || error.fault == UrlFault::Syntax,
                "{text}: {error}"
            );
        }
        let long = format!("https://ca.example/{}", "a".repeat(Url::MAX_LENGTH));
        assert_eq!(Url::parse(&long).unwrap_err().fault, UrlFault::TooLong);
    }

    #[test]
    fn tells_hosts_apart() {
        let directory = Url::parse("https://ca.example/directory").unwrap();
        for (text, same) in [
            ("https://ca.example/a", true),
            ("https://CA.example:443/a", true),
            ("https://ca.example:8443/a", false),
            ("http://ca.example/a", false),
            ("https://ca.example.other.example/a", false),
            ("https://a.ca.example/a", false),
            ("https://192.0.2.1/a", false),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!(url.has_host_of(&directory), same, "{text}");
        }
    }

    #[test]
    fn joins() {
        let base = Url::parse("https://ca.example/acme/a/b").unwrap();
        for (reference, expected) in [
            ("../terms", "https://ca.example/acme/terms"),
            ("/terms", "https://ca.example/terms"),
            ("https://ca.example:443/x", "https://ca.example:443/x"),
            ("//other.example/x", "https://other.example/x"),
        ] {
            assert_eq!(base.join(reference).unwrap().as_str(), expected);
        }
        assert!(base.join("file:///etc/passwd").is_err());
    }

    #[test]
    fn joins_what_links_have() {
        let base = Url::parse("https://[2001:db8::1]:14000/acme/order/1?a=b").unwrap();
        let host = "https://[2001:db8::1]:14000";
        for (reference, expected) in [
            ("../x", format!("{host}/acme/x")),
            ("//other.example/x", "https://other.example/x".to_owned()),
            ("//[::1]:443/x", "https://[::1]:443/x".to_owned()),
            ("?q", format!("{host}/acme/order/1?q")),
            ("", format!("{host}/acme/order/1?a=b")),
            ("/a%2fb/", format!("{host}/a%2fb/")),
            // No URIs, and yet written.
            ("/a b?c[]={ü}", format!("{host}/a%20b?c%5B%5D=%7B%C3%BC%7D")),
        ] {
            assert_eq!(base.join(reference).unwrap().as_str(), expected);
        }
        let bare = Url::parse("https://ca.example").unwrap();
        assert_eq!(bare.join("x").unwrap().as_str(), "https://ca.example/x");
        let odd = Url::parse("https://ca.example/{a}/b").unwrap();
        let joined = odd.join("c").unwrap();
        assert_eq!(joined.as_str(), "https://ca.example/%7Ba%7D/c");
    }

    #[test]
    fn joins_no_garbage() {
        let base = Url::parse("https://ca.example/acme/a/b").unwrap();
        for reference in [
            "#a",
            "/x#a",
            "//",
            "///x",
            "//[::1",
            "//[::1]]/x",
            "//user@other.example/",
            "//other.example:port/",
            "//a b/",
            "http:x",
            "http://",
            "1:x",
            ":",
            "%",
            "/%zz",
            "mailto:a@example.com",
            "\u{0}:",
        ] {
            assert!(base.join(reference).is_err(), "{reference:?}");
        }
    }

    /// RFC 3986 §5.4.1 and §5.4.2.
    #[test]
    fn resolves_as_the_rfc_does() {
        let base = "http://a/b/c/d;p?q";
        for (reference, expected) in [
            ("g:h", "g:h"),
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            ("#s", "http://a/b/c/d;p?q#s"),
            ("g#s", "http://a/b/c/g#s"),
            ("g?y#s", "http://a/b/c/g?y#s"),
            (";x", "http://a/b/c/;x"),
            ("g;x", "http://a/b/c/g;x"),
            ("g;x?y#s", "http://a/b/c/g;x?y#s"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("./", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../..", "http://a/"),
            ("../../", "http://a/"),
            ("../../g", "http://a/g"),
            ("../../../g", "http://a/g"),
            ("../../../../g", "http://a/g"),
            ("/./g", "http://a/g"),
            ("/../g", "http://a/g"),
            ("g.", "http://a/b/c/g."),
            (".g", "http://a/b/c/.g"),
            ("g..", "http://a/b/c/g.."),
            ("..g", "http://a/b/c/..g"),
            ("./../g", "http://a/b/g"),
            ("./g/.", "http://a/b/c/g/"),
            ("g/./h", "http://a/b/c/g/h"),
            ("g/../h", "http://a/b/c/h"),
            ("g;x=1/./y", "http://a/b/c/g;x=1/y"),
            ("g;x=1/../y", "http://a/b/c/y"),
            ("g?y/./x", "http://a/b/c/g?y/./x"),
            ("g?y/../x", "http://a/b/c/g?y/../x"),
            ("g#s/./x", "http://a/b/c/g#s/./x"),
            ("g#s/../x", "http://a/b/c/g#s/../x"),
            ("http:g", "http:g"),
        ] {
            let found = resolve(base, reference).unwrap();
            assert_eq!(found.as_str(), expected, "{reference}");
        }
    }

    #[test]
    fn tells_loopback() {
        for (text, loopback) in [
            ("https://localhost:14000/dir", true),
            ("https://127.0.0.2/", true),
            ("https://[::1]/", true),
            ("https://localhost.example/", false),
            ("https://192.0.2.1/", false),
        ] {
            assert_eq!(Url::parse(text).unwrap().is_loopback(), loopback, "{text}");
        }
    }
}
