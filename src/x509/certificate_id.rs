use std::fmt;
use std::str::FromStr;

use der::asn1::AnyRef;
use der::oid::AssociatedOid;
use der::{Decode, Reader, SliceReader, Tag, TagNumber, Tagged};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::AuthorityKeyIdentifier;

use super::InvalidCertificate;
use crate::protocol::Base64Url;

/// A certificate's name in renewal information: its authority key identifier and its serial number
/// (RFC 9773 §4.1).
///
/// ```
/// use certwright::x509::CertificateId;
///
/// let key_identifier = *b"\x69\x88\x5b\x6b\x87\x46\x40\x41\xe1\xb3\
///     \x7b\x84\x7b\xa0\xae\x2c\xde\x01\xc8\xd4";
/// let id = CertificateId::new(&key_identifier, b"\x00\x87\x65\x43\x21");
/// assert_eq!(id.as_str(), "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE");
/// ```
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CertificateId(String);

impl CertificateId {
    /// The name of the certificate with this `keyIdentifier` in its authority key identifier
    /// extension, and these content octets in its serial number's DER `INTEGER`: with a leading zero
    /// where the first bit would else be set.
    pub fn new(key_identifier: &[u8], serial_number: &[u8]) -> Self {
        Self(format!(
            "{}.{}",
            Base64Url::from(key_identifier),
            Base64Url::from(serial_number)
        ))
    }

    /// The name of a certificate.
    ///
    /// Only what the name is made of is read: a date or a name that another part of the crate could
    /// not use does no harm here.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, InvalidCertificate> {
        let (serial_number, extensions) =
            read(certificate).map_err(|_| InvalidCertificate::Structure)?;
        let mut key_identifiers = extensions
            .iter()
            .filter(|extension| extension.extn_id == AuthorityKeyIdentifier::OID);
        let (Some(extension), None) = (key_identifiers.next(), key_identifiers.next()) else {
            return Err(InvalidCertificate::NoAuthorityKey);
        };
        let unreadable = |_| InvalidCertificate::Extension("authority key identifier");
        let key_identifier = AuthorityKeyIdentifier::from_der(extension.extn_value.as_bytes())
            .map_err(unreadable)?
            .key_identifier
            .ok_or(InvalidCertificate::NoAuthorityKey)?;
        Ok(Self::new(key_identifier.as_bytes(), serial_number))
    }

    /// The name's text, which can stand in a URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CertificateId {
    type Err = InvalidCertificate;

    fn from_str(text: &str) -> Result<Self, InvalidCertificate> {
        let decode = |part| Base64Url::decode(part).map_err(|_| InvalidCertificate::Id);
        let (key_identifier, serial_number) = text.split_once('.').ok_or(InvalidCertificate::Id)?;
        let id = Self::new(
            decode(key_identifier)?.as_bytes(),
            decode(serial_number)?.as_bytes(),
        );
        match id.0.starts_with('.') || id.0.ends_with('.') {
            true => Err(InvalidCertificate::Id),
            false => Ok(id),
        }
    }
}

impl From<CertificateId> for String {
    fn from(id: CertificateId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for CertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for CertificateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertificateId({self})")
    }
}

impl Serialize for CertificateId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for CertificateId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// The serial number's content octets, and the extensions (RFC 5280 §4.1).
fn read(certificate: &[u8]) -> der::Result<(&[u8], Vec<Extension>)> {
    let tbs = SliceReader::new(certificate)?.sequence(|reader| {
        let tbs = reader.tlv_bytes()?;
        while !reader.is_finished() {
            reader.tlv_bytes()?;
        }
        Ok::<_, der::Error>(tbs)
    })?;
    SliceReader::new(tbs)?.sequence(|reader| {
        let mut first = AnyRef::decode(reader)?;
        // The version, explicitly tagged.
        if first.tag() != Tag::Integer {
            first = AnyRef::decode(reader)?;
        }
        first.tag().assert_eq(Tag::Integer)?;

        let mut last = None;
        while !reader.is_finished() {
            last = Some(AnyRef::decode(reader)?);
        }
        let extensions = match last {
            Some(last) if last.tag() == EXTENSIONS => Vec::from_der(last.value())?,
            _ => Vec::new(),
        };
        Ok((first.value(), extensions))
    })
}

const EXTENSIONS: Tag = Tag::ContextSpecific {
    constructed: true,
    number: TagNumber(3),
};

#[cfg(test)]
mod tests {
    use base64ct::{Base64, Encoding};
    use serde_json::Value;

    use super::*;

    fn vectors() -> Vec<Value> {
        let vectors: Value =
            serde_json::from_str(include_str!("../../tests/vectors/ari_cert_id.json")).unwrap();
        vectors["cases"].as_array().unwrap().clone()
    }

    fn octets(hex: &str) -> Vec<u8> {
        let digits = hex.as_bytes().chunks(2);
        digits
            .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn vectors_are_met() {
        let mut certificates = 0;
        for case in vectors() {
            let text = |name: &str| case[name].as_str().unwrap();
            let expected: CertificateId = text("cert_id").parse().unwrap();
            assert_eq!(expected.as_str(), text("cert_id"));
            let id = CertificateId::new(
                &octets(text("aki_key_identifier_hex")),
                &octets(text("serial_integer_octets_hex")),
            );
            assert_eq!(id, expected, "{}", case["id"]);

            let Some(der) = case["certificate_der_base64"].as_str() else {
                continue;
            };
            let der = CertificateDer::from(Base64::decode_vec(der).unwrap());
            assert_eq!(CertificateId::of(&der), Ok(expected), "{}", case["id"]);
            certificates += 1;
        }
        assert_eq!(certificates, 2);
    }

    #[test]
    fn mangled_certificates_do_no_harm() {
        let cases = vectors();
        let der = cases[0]["certificate_der_base64"].as_str().unwrap();
        let der = Base64::decode_vec(der).unwrap();
        for position in 0..der.len() {
            for change in [0x01, 0x20, 0x80, 0xff] {
                let mut mangled = der.clone();
                mangled[position] ^= change;
                let _ = CertificateId::of(&mangled.into());
            }
            let cut = CertificateDer::from(&der[..position]);
            assert!(CertificateId::of(&cut).is_err(), "{position}");
        }
    }

    #[test]
    fn refuses_what_is_no_id() {
        for text in [
            "",
            ".",
            "a.",
            ".a",
            "AAAA",
            "AAAA.BB=",
            "A A.BBBB",
            "AAAA.BBBB.CCCC",
        ] {
            let id = text.parse::<CertificateId>();
            assert_eq!(id, Err(InvalidCertificate::Id), "{text}");
        }
    }
}
