use std::collections::HashSet;
use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Deref;
use std::str::FromStr;

#[cfg(feature = "idna")]
use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use super::printable;

/// What a certificate is for: a DNS name or an IP address (RFC 8555 §7.1.4, RFC 8738 §3).
///
/// ```
/// use certwright::protocol::Identifier;
///
/// let name: Identifier = "WWW.Example.".parse()?;
/// assert_eq!(name.to_string(), "www.example");
/// let address: Identifier = "2001:DB8:0::1".parse()?;
/// assert_eq!(address.to_string(), "2001:db8::1");
/// // An internationalised name needs the feature `idna`.
/// # #[cfg(feature = "idna")] {
/// let name: Identifier = "bücher.example".parse()?;
/// assert_eq!(name.to_string(), "xn--bcher-kva.example");
/// # }
/// # Ok::<_, certwright::protocol::InvalidIdentifier>(())
/// ```
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Identifier {
    /// Type `dns`.
    Dns(DnsName),
    /// Type `ip`.
    Ip(IpAddr),
    /// A type that this version of certwright has no name for, or a `dns` or `ip` value that only
    /// the CA can make sense of.
    Other(OtherIdentifier),
}

impl Identifier {
    /// The text of the `type` member.
    pub fn type_name(&self) -> &str {
        match self {
            Self::Dns(_) => "dns",
            Self::Ip(_) => "ip",
            Self::Other(other) => &other.type_name,
        }
    }

    /// The text of the `value` member.
    pub fn value(&self) -> String {
        match self {
            Self::Dns(name) => name.to_string(),
            Self::Ip(address) => address.to_string(),
            Self::Other(other) => other.value.clone(),
        }
    }

    /// The DNS name, if this is one.
    pub fn dns_name(&self) -> Option<&DnsName> {
        match self {
            Self::Dns(name) => Some(name),
            _ => None,
        }
    }

    /// Whether this is a wildcard DNS name, such as `*.example.com`.
    pub fn is_wildcard(&self) -> bool {
        self.dns_name().is_some_and(DnsName::is_wildcard)
    }
}

impl FromStr for Identifier {
    type Err = InvalidIdentifier;

    /// An IP address if the text is one, else a DNS name.
    fn from_str(text: &str) -> Result<Self, InvalidIdentifier> {
        match text.trim().parse() {
            Ok(address) => Ok(Self::Ip(address)),
            Err(_) => DnsName::parse(text).map(Self::Dns),
        }
    }
}

impl TryFrom<&str> for Identifier {
    type Error = InvalidIdentifier;

    fn try_from(text: &str) -> Result<Self, InvalidIdentifier> {
        text.parse()
    }
}

impl TryFrom<&String> for Identifier {
    type Error = InvalidIdentifier;

    fn try_from(text: &String) -> Result<Self, InvalidIdentifier> {
        text.parse()
    }
}

impl TryFrom<String> for Identifier {
    type Error = InvalidIdentifier;

    fn try_from(text: String) -> Result<Self, InvalidIdentifier> {
        text.parse()
    }
}

impl From<DnsName> for Identifier {
    fn from(name: DnsName) -> Self {
        Self::Dns(name)
    }
}

impl From<IpAddr> for Identifier {
    fn from(address: IpAddr) -> Self {
        Self::Ip(address)
    }
}

impl From<Ipv4Addr> for Identifier {
    fn from(address: Ipv4Addr) -> Self {
        Self::Ip(address.into())
    }
}

impl From<Ipv6Addr> for Identifier {
    fn from(address: Ipv6Addr) -> Self {
        Self::Ip(address.into())
    }
}

impl From<&Identifier> for Identifier {
    fn from(identifier: &Identifier) -> Self {
        identifier.clone()
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.value()))
    }
}

impl Serialize for Identifier {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawIdentifier {
            type_name: self.type_name().to_owned(),
            value: self.value(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Identifier {
    /// Never fails on a value: CAs echo names in forms that they would not accept.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let RawIdentifier { type_name, value } = RawIdentifier::deserialize(deserializer)?;
        let known = match type_name.as_str() {
            "dns" => DnsName::parse(&value).ok().map(Self::Dns),
            "ip" => value.parse().ok().map(Self::Ip),
            _ => None,
        };
        Ok(known.unwrap_or(Self::Other(OtherIdentifier { type_name, value })))
    }
}

#[derive(Deserialize, Serialize)]
struct RawIdentifier {
    #[serde(rename = "type")]
    type_name: String,
    value: String,
}

/// An identifier of a type that certwright has no name for, such as `permanent-identifier`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct OtherIdentifier {
    /// The `type` member.
    pub type_name: String,
    /// The `value` member.
    pub value: String,
}

/// A DNS name as it stands in a certificate: lower case, A-labels, no trailing dot, perhaps with a
/// wildcard as its whole first label.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct DnsName(String);

impl DnsName {
    /// Reads a name and brings it to its canonical form.
    ///
    /// With the feature `idna`, an internationalised name becomes A-labels (UTS 46,
    /// non-transitional), and A-labels that stand for nothing are refused. Without it, such a name
    /// is refused as [`IdentifierFault::Internationalised`], and A-labels are taken as they are.
    pub fn parse(text: &str) -> Result<Self, InvalidIdentifier> {
        let refuse = |fault| InvalidIdentifier::new(text, fault);
        let name = text.trim();
        if cfg!(not(feature = "idna")) && !name.is_ascii() {
            return Err(refuse(IdentifierFault::Internationalised));
        }
        let (prefix, base) = match name.strip_prefix("*.") {
            Some(base) => ("*.", base),
            None => ("", name),
        };
        let base = base.strip_suffix(['.', '\u{3002}']).unwrap_or(base);
        if base.is_empty() {
            return Err(refuse(IdentifierFault::Empty));
        }
        if base.contains('*') {
            return Err(refuse(IdentifierFault::Wildcard));
        }
        if base.contains('_') {
            return Err(refuse(IdentifierFault::Underscore));
        }

        let ascii = to_ascii(base).ok_or_else(|| refuse(IdentifierFault::Syntax))?;
        if ascii.split('.').any(str::is_empty) {
            return Err(refuse(IdentifierFault::Empty));
        }
        if ascii.split('.').any(|label| label.len() > 63) {
            return Err(refuse(IdentifierFault::LabelTooLong));
        }
        if prefix.len() + ascii.len() > 253 {
            return Err(refuse(IdentifierFault::TooLong));
        }
        // No top level domain is all digits: such a name is a mistyped IPv4 address.
        let top = ascii.rsplit('.').next().unwrap_or_default();
        if top.bytes().all(|octet| octet.is_ascii_digit()) {
            return Err(refuse(IdentifierFault::NumericTopLevel));
        }

        Ok(Self(format!("{prefix}{ascii}")))
    }

    /// The name's text, with its wildcard label.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the first label is `*`.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }

    /// The name without its wildcard label: what an authorization names (RFC 8555 §7.1.4).
    pub fn base(&self) -> &str {
        self.0.strip_prefix("*.").unwrap_or(&self.0)
    }

    /// The wildcard directly below this name.
    pub(crate) fn wildcard(&self) -> Self {
        Self(format!("*.{}", self.base()))
    }

    /// The wildcard that covers this name.
    fn parent_wildcard(&self) -> Option<Self> {
        let (_, parent) = self.base().split_once('.')?;
        Some(Self(format!("*.{parent}")))
    }

    /// Whether this name is below another: `a.b.example` is below `example` and `b.example`, and so
    /// is `*.b.example`.
    pub(crate) fn is_below(&self, ancestor: &Self) -> bool {
        self.as_str()
            .strip_suffix(ancestor.as_str())
            .is_some_and(|rest| rest.ends_with('.'))
    }
}

/// The name in A-labels and lower case.
fn to_ascii(name: &str) -> Option<String> {
    #[cfg(feature = "idna")]
    if !name.is_ascii() || name.split('.').any(is_a_label) {
        return uts46(name);
    }
    letters_digits_hyphens(name)
}

#[cfg(feature = "idna")]
fn is_a_label(label: &str) -> bool {
    let prefix = label.get(..4);
    prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case("xn--"))
}

#[cfg(feature = "idna")]
fn uts46(name: &str) -> Option<String> {
    let ascii = Uts46::new().to_ascii(
        name.as_bytes(),
        AsciiDenyList::STD3,
        Hyphens::CheckFirstLast,
        DnsLength::Ignore,
    );
    ascii.ok().map(String::from)
}

/// An ASCII name in lower case, if its labels are those of a host (RFC 1123 §2.1).
fn letters_digits_hyphens(name: &str) -> Option<String> {
    let is_of_a_host = |label: &str| {
        !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
    };
    name.split('.')
        .all(is_of_a_host)
        .then(|| name.to_ascii_lowercase())
}

impl FromStr for DnsName {
    type Err = InvalidIdentifier;

    fn from_str(text: &str) -> Result<Self, InvalidIdentifier> {
        Self::parse(text)
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// At least one identifier, none of them twice, in the order they were given.
///
/// RFC 8555 gives the order of identifiers no meaning; keeping the caller's makes logs readable.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Identifiers(Vec<Identifier>);

impl Identifiers {
    /// Collects names, addresses or [`Identifier`]s, and drops duplicates.
    ///
    /// Refuses what CAs refuse: a name next to a wildcard that covers it, and one of more than ten
    /// labels.
    ///
    /// ```
    /// use certwright::protocol::Identifiers;
    ///
    /// let identifiers = Identifiers::collect(["example.com", "EXAMPLE.com.", "192.0.2.1"])?;
    /// assert_eq!(identifiers.len(), 2);
    /// assert!(Identifiers::collect(["under_score.example"]).is_err());
    /// # Ok::<_, certwright::protocol::InvalidIdentifier>(())
    /// ```
    pub fn collect<I>(items: I) -> Result<Self, InvalidIdentifier>
    where
        I: IntoIterator<Item: TryInto<Identifier, Error: Into<InvalidIdentifier>>>,
    {
        let mut seen = HashSet::new();
        let mut identifiers = Vec::new();
        for item in items {
            let identifier = item.try_into().map_err(Into::into)?;
            if seen.insert(identifier.clone()) {
                identifiers.push(identifier);
            }
        }
        if identifiers.is_empty() {
            return Err(InvalidIdentifier::new("", IdentifierFault::None));
        }
        for name in identifiers.iter().filter_map(Identifier::dns_name) {
            if name.base().split('.').count() > Self::MOST_LABELS {
                return Err(InvalidIdentifier::new(
                    name.as_str(),
                    IdentifierFault::TooManyLabels,
                ));
            }
            // `*.a` and `x.a` in one order are a mistake: the wildcard has the other already.
            let covered = name.parent_wildcard().map(Identifier::Dns);
            if !name.is_wildcard() && covered.is_some_and(|wildcard| seen.contains(&wildcard)) {
                return Err(InvalidIdentifier::new(
                    name.as_str(),
                    IdentifierFault::Covered,
                ));
            }
        }
        Ok(Self(identifiers))
    }

    /// The most labels of a name, a wildcard's first one not counted. Let's Encrypt takes no more.
    const MOST_LABELS: usize = 10;
}

impl Deref for Identifiers {
    type Target = [Identifier];

    fn deref(&self) -> &[Identifier] {
        &self.0
    }
}

impl<'a> IntoIterator for &'a Identifiers {
    type Item = &'a Identifier;
    type IntoIter = std::slice::Iter<'a, Identifier>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// A name that no certificate can be ordered for.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("`{}` can't be named in a certificate: {fault}", printable(.input))]
#[non_exhaustive]
pub struct InvalidIdentifier {
    /// The name as it was given, cut to its first 256 characters.
    pub input: String,
    /// What is wrong with it.
    pub fault: IdentifierFault,
}

impl InvalidIdentifier {
    pub(crate) fn new(input: &str, fault: IdentifierFault) -> Self {
        Self {
            input: input.chars().take(256).collect(),
            fault,
        }
    }
}

impl From<Infallible> for InvalidIdentifier {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum IdentifierFault {
    /// A wildcard in the same order covers the name already. Let's Encrypt refuses the two together.
    #[error("a wildcard in the same order covers it already: leave it out")]
    Covered,
    /// The name, or one of its labels, is empty.
    #[error("it has an empty label")]
    Empty,
    /// The name is internationalised, and certwright was built without its feature `idna`, which
    /// turns such a name into A-labels.
    #[error(
        "it is internationalised: turn on certwright's feature `idna`, or write it in A-labels \
         (`xn--…`)"
    )]
    Internationalised,
    /// A label has more than 63 octets.
    #[error("it has a label of more than 63 octets")]
    LabelTooLong,
    /// No identifier was given at all.
    #[error("no identifier was given")]
    None,
    /// The last label is a number, so the name is a mistyped IPv4 address.
    #[error("its last label is a number, yet it is no IP address")]
    NumericTopLevel,
    /// No identifier of the order is below the ancestor domain (RFC 9444 §4.2).
    #[error("no identifier of the order is below it")]
    NoSubdomain,
    /// Neither a DNS name (RFC 5891, UTS 46) nor an IP address.
    #[error("it is neither a DNS name nor an IP address")]
    Syntax,
    /// The whole name has more than 253 octets.
    #[error("it has more than 253 octets")]
    TooLong,
    /// The name has more than ten labels. Let's Encrypt takes no more.
    #[error("it has more than ten labels")]
    TooManyLabels,
    /// Names of hosts have no underscore, and CAs refuse it.
    #[error("it has an underscore, which no host name may have")]
    Underscore,
    /// A wildcard is the whole first label or nothing.
    #[error("a wildcard must be the whole first label, as in *.example.com")]
    Wildcard,
    /// A wildcard is authorized as part of an order only (RFC 8555 §7.4.1).
    #[error("a wildcard can't be authorized before an order (RFC 8555 §7.4.1)")]
    WildcardBeforeOrder,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/identifiers.json")).unwrap();
        let cases = vectors["cases"].as_array().unwrap();
        assert!(cases.len() >= 7);
        for case in cases {
            let input = case["input"].as_str().unwrap();
            if cfg!(not(feature = "idna")) && !input.is_ascii() {
                continue;
            }
            let name = DnsName::parse(input).unwrap();
            assert_eq!(name.as_str(), case["value"].as_str().unwrap());
            assert_eq!(name.is_wildcard(), case["wildcard"].as_bool().unwrap());
        }
    }

    #[test]
    fn ip_vectors() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/ip_identifiers.json")).unwrap();
        let cases = vectors["cases"].as_array().unwrap();
        assert!(cases.len() >= 6);
        for case in cases {
            let identifier: Identifier = case["input"].as_str().unwrap().parse().unwrap();
            assert!(matches!(identifier, Identifier::Ip(_)));
            assert_eq!(
                identifier.value(),
                case["acme_identifier_value"].as_str().unwrap()
            );
        }
    }

    #[test]
    fn refuses() {
        let long_label = format!("{}.example", "a".repeat(64));
        let long_name = format!("{}example", "abcdefgh.".repeat(28));
        for (input, fault) in [
            ("", IdentifierFault::Empty),
            (".", IdentifierFault::Empty),
            ("*.", IdentifierFault::Empty),
            ("a..example", IdentifierFault::Empty),
            ("*", IdentifierFault::Wildcard),
            ("*.*.example", IdentifierFault::Wildcard),
            ("w*.example", IdentifierFault::Wildcard),
            ("_dmarc.example", IdentifierFault::Underscore),
            ("exa mple.com", IdentifierFault::Syntax),
            ("https://example.com", IdentifierFault::Syntax),
            ("-a.example", IdentifierFault::Syntax),
            ("example.com:443", IdentifierFault::Syntax),
            ("\u{1b}[31m.example", IdentifierFault::Syntax),
            ("300.1.1.1", IdentifierFault::NumericTopLevel),
            (&long_label, IdentifierFault::LabelTooLong),
            (&long_name, IdentifierFault::TooLong),
        ] {
            let error = input.parse::<Identifier>().unwrap_err();
            assert_eq!(error.fault, fault, "{input:?}");
            assert_eq!(error.input, input.chars().take(256).collect::<String>());
            assert!(!error.to_string().contains('\u{1b}'));
        }
    }

    #[test]
    #[cfg(feature = "idna")]
    fn reads_internationalised_names() {
        let name = DnsName::parse("*.Bücher.Example。").unwrap();
        assert_eq!(name.as_str(), "*.xn--bcher-kva.example");
        assert_eq!(DnsName::parse(name.as_str()), Ok(name));
        // An A-label that stands for nothing.
        for name in ["xn--a.example", "a.XN--0.example"] {
            let error = DnsName::parse(name).unwrap_err();
            assert_eq!(error.fault, IdentifierFault::Syntax, "{name}");
        }
    }

    #[test]
    #[cfg(not(feature = "idna"))]
    fn refuses_internationalised_names_without_the_feature() {
        for name in [
            "bücher.example",
            "*.bücher.example",
            "example。com",
            "example.com。",
        ] {
            let error = name.parse::<Identifier>().unwrap_err();
            assert_eq!(error.fault, IdentifierFault::Internationalised, "{name}");
            let text = error.to_string();
            assert!(text.contains("feature `idna`") && text.contains("xn--"));
        }
        let name = DnsName::parse("XN--bcher-kva.example").unwrap();
        assert_eq!(name.as_str(), "xn--bcher-kva.example");
        assert!(DnsName::parse("xn--.example").is_err());
    }

    /// What needs no tables is read without them, and that must make no difference.
    #[test]
    #[cfg(feature = "idna")]
    fn reads_plain_names_as_idna_does() {
        let octets = "aZ0-.!/ \u{7f}".chars();
        let mut names = vec![String::new()];
        for _ in 0..4 {
            let longer = names.iter().flat_map(|name| {
                let longer = octets.clone().map(move |octet| format!("{name}{octet}"));
                longer.chain([name.clone()])
            });
            names = longer.collect();
        }
        names.extend((0..128).map(|octet| format!("a{}b.example", char::from(octet))));
        names.extend(["a--b.example", "ab--c.example", "example.", "1.2.3.4"].map(String::from));
        for name in names {
            assert_eq!(letters_digits_hyphens(&name), uts46(&name), "{name:?}");
        }
    }

    #[test]
    fn collects_each_once() {
        let identifiers =
            Identifiers::collect(["b.example", "A.example", "a.example.", "::0001", "::1"])
                .unwrap();
        let values: Vec<_> = identifiers.iter().map(Identifier::value).collect();
        assert_eq!(values, ["b.example", "a.example", "::1"]);
        let error = Identifiers::collect(Vec::<Identifier>::new()).unwrap_err();
        assert_eq!(error.fault, IdentifierFault::None);
    }

    #[test]
    fn refuses_what_no_order_should_hold() {
        let fault = |names: &[&str]| {
            let names = names.iter().copied();
            Identifiers::collect(names)
                .map_err(|error| error.fault)
                .err()
        };
        assert_eq!(fault(&["*.a.example", "a.example", "x.b.a.example"]), None);
        assert_eq!(fault(&["*.a.example", "*.b.a.example"]), None);
        for names in [
            ["*.a.example", "x.a.example"],
            ["x.A.example", "*.a.example."],
        ] {
            assert_eq!(fault(&names), Some(IdentifierFault::Covered));
        }

        let ten = "1.2.3.4.5.6.7.8.9.example";
        let eleven = format!("0.{ten}");
        assert_eq!(fault(&[ten]), None);
        assert_eq!(fault(&[&format!("*.{ten}")]), None);
        assert_eq!(fault(&[&eleven]), Some(IdentifierFault::TooManyLabels));
        // It can be read all the same: another CA may have issued for it.
        assert!(eleven.parse::<Identifier>().is_ok());
    }

    #[test]
    fn knows_what_is_below() {
        let below = |name: &str, ancestor: &str| {
            let [name, ancestor] = [name, ancestor].map(|name| DnsName::parse(name).unwrap());
            name.is_below(&ancestor)
        };
        assert!(below("a.b.example", "b.example") && below("*.b.example", "example"));
        assert!(!below("b.example", "b.example") && !below("ab.example", "b.example"));
    }

    #[test]
    fn keeps_what_it_does_not_know() {
        for text in [
            r#"{"type":"permanent-identifier","value":"123"}"#,
            r#"{"type":"dns","value":"under_score.example"}"#,
            r#"{"type":"ip","value":"somewhere"}"#,
        ] {
            let identifier: Identifier = serde_json::from_str(text).unwrap();
            assert!(matches!(identifier, Identifier::Other(_)));
            assert_eq!(serde_json::to_string(&identifier).unwrap(), text);
        }
        let echoed: Identifier =
            serde_json::from_str(r#"{"type":"dns","value":"UPPER.example"}"#).unwrap();
        assert_eq!(echoed, "upper.example".parse().unwrap());
    }
}
