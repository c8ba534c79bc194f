use std::fmt;
use std::time::{Duration, SystemTime};

use base64ct::{Base64, Encoding};
use hickory_proto::ProtoError;
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::rdata::TSIG;
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncodable};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Sha256, Sha384, Sha512};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::protocol::printable;

/// A key that a name server knows a client by: TSIG (RFC 8945).
///
/// BIND's `tsig-keygen NAME` makes one, in the form that [`from_bind`](Self::from_bind) reads. It is
/// wiped from memory in the end, and `Debug` does not show its secret.
#[derive(Clone)]
pub struct TsigKey {
    name: Name,
    algorithm: TsigAlgorithm,
    secret: Zeroizing<Vec<u8>>,
}

impl TsigKey {
    /// A key by its name, which is part of what is signed, and the octets of its secret.
    pub fn new(
        name: &str,
        algorithm: TsigAlgorithm,
        secret: impl Into<Vec<u8>>,
    ) -> Result<Self, InvalidTsigKey> {
        let secret = Zeroizing::new(secret.into());
        if secret.is_empty() {
            return Err(InvalidTsigKey::Secret);
        }
        let mut name = Name::from_ascii(name)
            .map_err(|_| InvalidTsigKey::Name(name.to_owned()))?
            .to_lowercase();
        name.set_fqdn(true);
        Ok(Self {
            name,
            algorithm,
            secret,
        })
    }

    /// A key whose secret is written in base64, as in the configuration of name servers.
    pub fn from_base64(
        name: &str,
        algorithm: TsigAlgorithm,
        secret: &str,
    ) -> Result<Self, InvalidTsigKey> {
        let octets = Base64::decode_vec(secret.trim()).map_err(|_| InvalidTsigKey::Secret)?;
        Self::new(name, algorithm, octets)
    }

    /// Reads the `key` statement of a BIND configuration, as `tsig-keygen` writes it. Other
    /// statements and comments may stand around it; a second key may not.
    ///
    /// ```
    /// # #[cfg(feature = "rfc2136")] {
    /// use certwright::solver::TsigKey;
    ///
    /// let key = TsigKey::from_bind(
    ///     r#"key "acme" {
    ///            algorithm hmac-sha256;
    ///            secret "c2VjcmV0IGZvciBhbiBleGFtcGxlIG9ubHkhISEhISE=";
    ///        };"#,
    /// )?;
    /// # let _ = key; }
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_bind(text: &str) -> Result<Self, InvalidTsigKey> {
        let mut tokens = Tokens(text);
        let mut depth = 0_usize;
        let mut found = None;
        let mut starts_statement = true;
        while let Some(token) = tokens.next() {
            match token {
                "{" => depth = depth.saturating_add(1),
                "}" => depth = depth.saturating_sub(1),
                "key" if depth == 0 && starts_statement => {
                    let key = Self::read_statement(&mut tokens)?;
                    if found.replace(key).is_some() {
                        return Err(InvalidTsigKey::Several);
                    }
                }
                _ => {}
            }
            starts_statement = token == ";" || token == "key";
        }
        found.ok_or(InvalidTsigKey::Missing)
    }

    /// Reads what follows the word `key`.
    fn read_statement(tokens: &mut Tokens<'_>) -> Result<Self, InvalidTsigKey> {
        let (Some(name), Some("{")) = (tokens.next(), tokens.next()) else {
            return Err(InvalidTsigKey::Syntax);
        };
        let (mut algorithm, mut secret) = (None, None);
        loop {
            match tokens.next() {
                Some("algorithm") => algorithm = tokens.next(),
                Some("secret") => secret = tokens.next(),
                Some("}") => break,
                _ => return Err(InvalidTsigKey::Syntax),
            }
            if tokens.next() != Some(";") {
                return Err(InvalidTsigKey::Syntax);
            }
        }
        match (algorithm, secret) {
            (Some(algorithm), Some(secret)) => {
                Self::from_base64(name, TsigAlgorithm::parse(algorithm)?, secret)
            }
            _ => Err(InvalidTsigKey::Syntax),
        }
    }

    /// The key's name, without a dot at its end.
    pub(super) fn name(&self) -> String {
        let name = self.name.to_ascii();
        name.strip_suffix('.').unwrap_or(&name).to_owned()
    }

    /// Signs a message (RFC 8945 §4.3): its octets with the TSIG record added, and the MAC, which
    /// the response's is computed over.
    pub(super) fn sign(
        &self,
        message: &Message,
        now: SystemTime,
    ) -> Result<(Vec<u8>, Vec<u8>), ProtoError> {
        let mut octets = message.to_vec()?;
        let variables = Variables {
            key: &self.name,
            algorithm: &self.algorithm.name(),
            time: seconds(now),
            fudge: FUDGE,
            error: 0,
            other: &[],
        };
        let mac = self.mac(&[&octets, &variables.to_vec()?]);

        // The record (§4.2): name, type, class ANY, TTL, length of the data, data.
        let mut data = variables.algorithm.to_bytes()?;
        data.extend(time48(variables.time));
        data.extend(FUDGE.to_be_bytes());
        data.extend(length16(&mac));
        data.extend_from_slice(&mac);
        data.extend(message.metadata.id.to_be_bytes());
        data.extend([0; 4]);
        octets.extend(self.name.to_bytes()?);
        octets.extend(u16::from(RecordType::TSIG).to_be_bytes());
        octets.extend(u16::from(DNSClass::ANY).to_be_bytes());
        octets.extend([0; 4]);
        octets.extend(length16(&data));
        octets.extend(data);
        count_additionals(&mut octets, |count| count.saturating_add(1));
        Ok((octets, mac))
    }

    /// Checks that a response was signed by this key for the request with that MAC, and lately
    /// (RFC 8945 §5.4).
    pub(super) fn verify(
        &self,
        response: &[u8],
        request_mac: &[u8],
        now: SystemTime,
    ) -> Result<(), Unverified> {
        let (mut signed, record) = split(response)?;
        let tsig = &record.data;
        let mut algorithm = tsig.algorithm.to_name();
        algorithm.set_fqdn(true);
        if record.name != self.name || algorithm != self.algorithm.name() {
            return Err(Unverified::OtherKey);
        }
        count_additionals(&mut signed, |count| count.saturating_sub(1));
        if let Some(id) = signed.get_mut(..2) {
            id.copy_from_slice(&tsig.oid.to_be_bytes());
        }
        let variables = Variables {
            key: &self.name,
            algorithm: &self.algorithm.name(),
            time: tsig.time,
            fudge: tsig.fudge,
            error: tsig.error.map_or(0, u16::from),
            other: &tsig.other,
        };
        let variables = variables.to_vec().map_err(|_| Unverified::Malformed)?;
        let parts = [&length16(request_mac)[..], request_mac, &signed, &variables];
        // In constant time, and never a truncated MAC.
        if !self.verify_mac(&parts, &tsig.mac) {
            return Err(Unverified::WrongMac);
        }
        if tsig.time.abs_diff(seconds(now)) > u64::from(tsig.fudge) {
            return Err(Unverified::Time);
        }
        Ok(())
    }

    fn mac(&self, parts: &[&[u8]]) -> Vec<u8> {
        fn tag<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
            // HMAC takes keys of any length.
            let Ok(mut mac) = <M as KeyInit>::new_from_slice(key) else {
                return Vec::new();
            };
            parts.iter().for_each(|part| mac.update(part));
            mac.finalize().into_bytes().to_vec()
        }

        match self.algorithm {
            TsigAlgorithm::HmacSha256 => tag::<Hmac<Sha256>>(&self.secret, parts),
            TsigAlgorithm::HmacSha384 => tag::<Hmac<Sha384>>(&self.secret, parts),
            TsigAlgorithm::HmacSha512 => tag::<Hmac<Sha512>>(&self.secret, parts),
        }
    }

    fn verify_mac(&self, parts: &[&[u8]], expected: &[u8]) -> bool {
        fn is<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]], expected: &[u8]) -> bool {
            <M as KeyInit>::new_from_slice(key).is_ok_and(|mut mac| {
                parts.iter().for_each(|part| mac.update(part));
                mac.verify_slice(expected).is_ok()
            })
        }

        match self.algorithm {
            TsigAlgorithm::HmacSha256 => is::<Hmac<Sha256>>(&self.secret, parts, expected),
            TsigAlgorithm::HmacSha384 => is::<Hmac<Sha384>>(&self.secret, parts, expected),
            TsigAlgorithm::HmacSha512 => is::<Hmac<Sha512>>(&self.secret, parts, expected),
        }
    }
}

impl fmt::Debug for TsigKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TsigKey")
            .field("name", &self.name())
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// The MAC of a [`TsigKey`] (RFC 8945 §6), one of those that it recommends or allows and that are
/// not truncated. MD5 and SHA-1 are not offered.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum TsigAlgorithm {
    /// `hmac-sha256`, which every name server has.
    #[default]
    HmacSha256,
    /// `hmac-sha384`.
    HmacSha384,
    /// `hmac-sha512`.
    HmacSha512,
}

impl TsigAlgorithm {
    const ALL: [Self; 3] = [Self::HmacSha256, Self::HmacSha384, Self::HmacSha512];

    fn parse(text: &str) -> Result<Self, InvalidTsigKey> {
        let name = text.trim_end_matches('.');
        Self::ALL
            .into_iter()
            .find(|algorithm| name.eq_ignore_ascii_case(algorithm.text()))
            .ok_or_else(|| InvalidTsigKey::Algorithm(text.to_owned()))
    }

    fn text(self) -> &'static str {
        match self {
            Self::HmacSha256 => "hmac-sha256",
            Self::HmacSha384 => "hmac-sha384",
            Self::HmacSha512 => "hmac-sha512",
        }
    }

    fn name(self) -> Name {
        let labels = [self.text().as_bytes()];
        Name::from_labels(labels).unwrap_or_default()
    }
}

/// Why something is no [`TsigKey`]. It never has the secret in it.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum InvalidTsigKey {
    /// The algorithm is not one of [`TsigAlgorithm`].
    #[error(
        "the TSIG algorithm `{}` is not supported: make a key for hmac-sha256, hmac-sha384 or \
         hmac-sha512",
        printable(.0)
    )]
    Algorithm(String),
    /// The text has no `key` statement.
    #[error("there is no `key \"name\" {{ … }};` in it")]
    Missing,
    /// The key's name is no domain name.
    #[error("the key's name `{}` is not a domain name", printable(.0))]
    Name(String),
    /// The secret is empty, or not base64.
    #[error("the key's secret is empty, or it is not base64")]
    Secret,
    /// The text has more than one `key` statement.
    #[error("there is more than one key in it: leave the one to sign with")]
    Several,
    /// A `key` statement is not as BIND writes it.
    #[error("the key is not of the form `key \"name\" {{ algorithm …; secret \"…\"; }};`")]
    Syntax,
}

/// Why a response's signature proves nothing.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub(super) enum Unverified {
    #[error("it has no TSIG record")]
    Missing,
    #[error("it cannot be read")]
    Malformed,
    #[error("it is signed by another key or algorithm")]
    OtherKey,
    #[error("its MAC is wrong")]
    WrongMac,
    #[error("it was signed at another time; compare the two hosts' clocks")]
    Time,
}

/// What is signed beside the message (RFC 8945 §4.3.3).
struct Variables<'a> {
    key: &'a Name,
    algorithm: &'a Name,
    time: u64,
    fudge: u16,
    error: u16,
    other: &'a [u8],
}

impl Variables<'_> {
    fn to_vec(&self) -> Result<Vec<u8>, ProtoError> {
        let mut octets = self.key.to_bytes()?;
        octets.extend(u16::from(DNSClass::ANY).to_be_bytes());
        octets.extend([0; 4]);
        octets.extend(self.algorithm.to_bytes()?);
        octets.extend(time48(self.time));
        octets.extend(self.fudge.to_be_bytes());
        octets.extend(self.error.to_be_bytes());
        octets.extend(length16(self.other));
        octets.extend_from_slice(self.other);
        Ok(octets)
    }
}

/// A message's octets before its TSIG record, which is its last, and that record.
fn split(octets: &[u8]) -> Result<(Vec<u8>, Record<TSIG>), Unverified> {
    let message = Message::from_vec(octets).map_err(|_| Unverified::Malformed)?;
    let Some(record) = message.signature() else {
        return Err(Unverified::Missing);
    };
    // The four counts of records stand at 4 to 12 of the header (RFC 1035 §4.1.1).
    let counts = octets.get(4..12).ok_or(Unverified::Malformed)?;
    let mut counts = counts.chunks_exact(2).map(|octets| match octets {
        &[high, low] => usize::from(u16::from_be_bytes([high, low])),
        _ => 0,
    });
    let questions = counts.next().unwrap_or(0);
    let records = counts.sum::<usize>().saturating_sub(1);

    let mut decoder = BinDecoder::new(octets);
    decoder.read_slice(12).map_err(|_| Unverified::Malformed)?;
    for _ in 0..questions {
        Query::read(&mut decoder).map_err(|_| Unverified::Malformed)?;
    }
    for _ in 0..records {
        <Record>::read(&mut decoder).map_err(|_| Unverified::Malformed)?;
    }
    let signed = octets.get(..decoder.index()).ok_or(Unverified::Malformed)?;
    Ok((signed.to_vec(), record.clone()))
}

/// Changes the count of additional records in a message's header.
fn count_additionals(octets: &mut [u8], change: impl FnOnce(u16) -> u16) {
    if let Some([high, low]) = octets.get_mut(10..12) {
        [*high, *low] = change(u16::from_be_bytes([*high, *low])).to_be_bytes();
    }
}

/// The length of something short before it.
fn length16(octets: &[u8]) -> [u8; 2] {
    u16::try_from(octets.len())
        .unwrap_or(u16::MAX)
        .to_be_bytes()
}

/// A time in the 48 bits that it has in a TSIG record.
fn time48(seconds: u64) -> impl Iterator<Item = u8> {
    seconds.to_be_bytes().into_iter().skip(2)
}

fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_secs()
}

/// How far the two hosts' clocks may be apart, in seconds, as RFC 8945 §10 recommends.
const FUDGE: u16 = 300;

/// The words of a BIND configuration, comments left out, quotes taken off.
struct Tokens<'a>(&'a str);

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        loop {
            self.0 = self.0.trim_start();
            let rest = if self.0.starts_with('#') || self.0.starts_with("//") {
                self.0.split_once('\n').map(|(_, rest)| rest)
            } else if let Some(comment) = self.0.strip_prefix("/*") {
                comment.split_once("*/").map(|(_, rest)| rest)
            } else {
                break;
            };
            self.0 = rest.unwrap_or_default();
        }
        if let Some(quoted) = self.0.strip_prefix('"') {
            let (token, rest) = quoted.split_once('"').unwrap_or((quoted, ""));
            self.0 = rest;
            return Some(token);
        }
        let ends = |c: char| c.is_whitespace() || matches!(c, '{' | '}' | ';' | '"');
        let end = match self.0.find(ends) {
            Some(0) => 1,
            Some(end) => end,
            None => self.0.len(),
        };
        let (token, rest) = self.0.split_at_checked(end)?;
        self.0 = rest;
        (!token.is_empty()).then_some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "c2VjcmV0IGZvciBhbiBleGFtcGxlIG9ubHkhISEhISE=";

    #[test]
    fn reads_keys_as_bind_writes_them() {
        let text = format!(
            "// made by tsig-keygen\n/* key \"no\" {{ }}; */ options {{ key x; }};\n\
             key Acme.Example {{\n\talgorithm HMAC-SHA384; # comment\n\tsecret {SECRET};\n}};\n"
        );
        let key = TsigKey::from_bind(&text).unwrap();
        assert_eq!(key.name(), "acme.example");
        assert_eq!(key.algorithm, TsigAlgorithm::HmacSha384);
        assert_eq!(&**key.secret, b"secret for an example only!!!!!!");

        let debug = format!("{key:?}");
        assert!(!debug.contains("secret"), "{debug}");
    }

    #[test]
    fn refuses_what_is_no_key() {
        let key = format!(r#"key "a" {{ algorithm hmac-sha256; secret "{SECRET}"; }};"#);
        let cases = [
            (String::new(), InvalidTsigKey::Missing),
            ("options { };".to_owned(), InvalidTsigKey::Missing),
            ("key".to_owned(), InvalidTsigKey::Syntax),
            ("key a { algorithm".to_owned(), InvalidTsigKey::Syntax),
            ("key a { secret \"\" };".to_owned(), InvalidTsigKey::Syntax),
            (format!("{key}{key}"), InvalidTsigKey::Several),
            (
                key.replace("hmac-sha256", "hmac-md5"),
                InvalidTsigKey::Algorithm("hmac-md5".to_owned()),
            ),
            (key.replace(SECRET, "?"), InvalidTsigKey::Secret),
            (key.replace(SECRET, ""), InvalidTsigKey::Secret),
            (
                key.replace("\"a\"", "\"a..b\""),
                InvalidTsigKey::Name("a..b".to_owned()),
            ),
        ];
        for (text, fault) in cases {
            assert_eq!(TsigKey::from_bind(&text).unwrap_err(), fault, "{text}");
        }
    }

    #[test]
    fn takes_no_response_but_that_of_the_key_to_the_request() {
        let key = TsigKey::from_base64("k.", TsigAlgorithm::HmacSha512, SECRET).unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let response = Message::query();
        let (octets, _) = key.sign(&response, now).unwrap();
        // A request's MAC is over no other before it, so it is none of a response.
        assert_eq!(key.verify(&octets, b"", now), Err(Unverified::WrongMac));

        let unsigned = response.to_vec().unwrap();
        assert_eq!(key.verify(&unsigned, b"", now), Err(Unverified::Missing));
        let other = TsigKey::from_base64("k", TsigAlgorithm::HmacSha256, SECRET).unwrap();
        assert_eq!(other.verify(&octets, b"", now), Err(Unverified::OtherKey));
        for length in 0..octets.len() {
            assert!(key.verify(&octets[..length], b"", now).is_err());
        }
    }
}
