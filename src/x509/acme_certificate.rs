use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use der::asn1::{BitString, ObjectIdentifier, OctetString, OctetStringRef};
use der::oid::AssociatedOid;
use der::{Decode, Encode, Sequence};
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use thiserror::Error;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::time::{Time, Validity};
use x509_cert::{Certificate, TbsCertificate, Version};

use super::csr::signature_algorithm;
use super::names::{self, list};
use super::{CertificateKey, ChainFault, chain};
use crate::jose::{InvalidKey, KeyAuthorization};
use crate::protocol::{Identifier, printable};

/// The certificate that answers a tls-alpn-01 challenge (RFC 8737 §3), with its key.
///
/// It is signed by its own key, names the one identifier, and has the digest of the key
/// authorization in its critical extension `acmeIdentifier`. No TLS client trusts it; it is for the
/// CA alone.
///
/// The solvers in [`solver`](crate::solver) make it themselves. Who has another TLS server answer
/// needs three things: a certificate and its key, the [name](Self::server_name) by which the CA asks
/// for it, and the protocol `acme-tls/1`, which the server must choose by ALPN.
///
/// ```
/// use std::time::SystemTime;
///
/// use certwright::jose::{AccountKey, KeyAuthorization, Signer};
/// use certwright::protocol::{Identifier, Token};
/// use certwright::x509::AcmeCertificate;
///
/// let identifier: Identifier = "192.0.2.1".parse()?;
/// let token = Token::parse("DGyRejmCefe7v4NfDGDKfADGyRejmCef")?;
/// let thumbprint = AccountKey::generate()?.public_key().thumbprint();
/// let key_authorization = KeyAuthorization::new(&token, &thumbprint);
///
/// let made = AcmeCertificate::new(&identifier, &key_authorization, SystemTime::now())?;
/// AcmeCertificate::check(made.der(), &identifier, &key_authorization)?;
/// let name = AcmeCertificate::server_name(&identifier);
/// assert_eq!(name.as_deref(), Some("1.2.0.192.in-addr.arpa"));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct AcmeCertificate {
    der: CertificateDer<'static>,
    key: CertificateKey,
}

impl AcmeCertificate {
    /// Makes a certificate, and a new key on P-256 for it.
    ///
    /// It is valid from a day before `now`, so that clocks may differ, to a week after.
    ///
    /// # Errors
    ///
    /// Fails for an identifier that tls-alpn-01 can't prove: a wildcard (RFC 8737 §3), or one that
    /// is neither a DNS name nor an IP address.
    pub fn new(
        identifier: &Identifier,
        key_authorization: &KeyAuthorization,
        now: SystemTime,
    ) -> Result<Self, InvalidAcmeCertificate> {
        let extensions = vec![
            Extension {
                extn_id: SubjectAltName::OID,
                critical: false,
                extn_value: OctetString::new(alternative_name(identifier)?)?,
            },
            Extension {
                extn_id: ACME_IDENTIFIER,
                critical: true,
                extn_value: OctetString::new(acme_identifier(key_authorization)?)?,
            },
        ];
        Self::with_extensions(extensions, now)
    }

    /// Checks a certificate as strictly as CAs do it: it is signed by its own key, names the
    /// identifier and nothing else, has the digest in a critical extension, and no extension twice.
    ///
    /// Its dates are not looked at, as RFC 8737 asks nothing of them.
    pub fn check(
        certificate: &CertificateDer<'_>,
        identifier: &Identifier,
        key_authorization: &KeyAuthorization,
    ) -> Result<(), InvalidAcmeCertificate> {
        let parsed = Certificate::from_der(certificate)?;
        chain::check_issued(&parsed, certificate, &parsed)
            .map_err(InvalidAcmeCertificate::NotSelfSigned)?;

        let tbs = parsed.tbs_certificate();
        let names = single_extension(tbs, SubjectAltName::OID)?;
        let expected = alternative_name(identifier)?;
        // Octet for octet, as Boulder does it: so case counts, and so does a name that comes twice.
        if names.is_none_or(|names| names.extn_value.as_bytes() != expected) {
            return Err(InvalidAcmeCertificate::OtherNames {
                expected: identifier.clone(),
                found: found_names(names)?,
            });
        }

        let extension = single_extension(tbs, ACME_IDENTIFIER)?
            .ok_or(InvalidAcmeCertificate::NoAcmeIdentifier)?;
        if !extension.critical {
            return Err(InvalidAcmeCertificate::NotCritical);
        }
        let digest = <&OctetStringRef>::from_der(extension.extn_value.as_bytes())
            .ok()
            .filter(|digest| digest.as_bytes().len() == DIGEST_LENGTH)
            .ok_or(InvalidAcmeCertificate::MalformedAcmeIdentifier)?;
        match digest.as_bytes() == key_authorization.digest() {
            true => Ok(()),
            false => Err(InvalidAcmeCertificate::OtherKeyAuthorization {
                expected: chain::hex(&key_authorization.digest()),
                found: chain::hex(digest.as_bytes()),
            }),
        }
    }

    /// The name that the CA sends in the handshake (SNI) to ask for an identifier's certificate.
    ///
    /// For a DNS name it is the name, for an IP address its name in reverse DNS, as SNI has no room
    /// for addresses (RFC 8738 §6): `1.2.0.192.in-addr.arpa` for 192.0.2.1, and 32 hexadecimal
    /// digits below `ip6.arpa` for an IPv6 address. `None` for what tls-alpn-01 can't prove.
    pub fn server_name(identifier: &Identifier) -> Option<String> {
        match identifier {
            Identifier::Dns(name) if !name.is_wildcard() => Some(name.to_string()),
            Identifier::Ip(IpAddr::V4(address)) => {
                let [a, b, c, d] = address.octets();
                Some(format!("{d}.{c}.{b}.{a}.in-addr.arpa"))
            }
            Identifier::Ip(IpAddr::V6(address)) => {
                let mut name = String::new();
                for octet in address.octets().iter().rev() {
                    // The lower half of each octet first.
                    let _ = write!(name, "{:x}.{:x}.", octet & 0xf, octet >> 4);
                }
                Some(name + "ip6.arpa")
            }
            _ => None,
        }
    }

    /// The certificate in DER.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The certificate's key.
    pub fn key(&self) -> &CertificateKey {
        &self.key
    }

    fn with_extensions(
        extensions: Vec<Extension>,
        now: SystemTime,
    ) -> Result<Self, InvalidAcmeCertificate> {
        let key = CertificateKey::generate()?;
        // Random enough, as the key is.
        let digest = Sha256::digest(key.public_key_info());
        let serial_number = digest.get(..16).unwrap_or_default();
        let name = Name::from_str(NAME)?;
        let algorithm = signature_algorithm(&key.private().algorithm()).map_err(encoding)?;
        let to_be_signed = ToBeSigned {
            version: Version::V3,
            serial_number: SerialNumber::new(serial_number)?,
            signature: algorithm.clone(),
            issuer: name.clone(),
            validity: validity(now)?,
            subject: name,
            subject_public_key_info: SubjectPublicKeyInfoOwned::from_der(key.public_key_info())?,
            extensions,
        };
        let signature = key
            .private()
            .sign_for_x509(&to_be_signed.to_der()?)
            .map_err(encoding)?;
        let certificate = Signed {
            to_be_signed,
            algorithm,
            signature: BitString::from_bytes(&signature)?,
        };
        Ok(Self {
            der: certificate.to_der()?.into(),
            key,
        })
    }
}

impl fmt::Debug for AcmeCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcmeCertificate").finish_non_exhaustive()
    }
}

/// A certificate (RFC 5280 §4.1), to be written.
#[derive(Sequence)]
struct Signed {
    to_be_signed: ToBeSigned,
    algorithm: AlgorithmIdentifierOwned,
    signature: BitString,
}

#[derive(Sequence)]
struct ToBeSigned {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    version: Version,
    serial_number: SerialNumber,
    signature: AlgorithmIdentifierOwned,
    issuer: Name,
    validity: Validity,
    subject: Name,
    subject_public_key_info: SubjectPublicKeyInfoOwned,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT")]
    extensions: Vec<Extension>,
}

/// The value of the extension with the one name.
fn alternative_name(identifier: &Identifier) -> Result<Vec<u8>, InvalidAcmeCertificate> {
    let name = Some(identifier)
        .filter(|identifier| !identifier.is_wildcard())
        .and_then(names::general_name)
        .ok_or_else(|| InvalidAcmeCertificate::Identifier(identifier.clone()))?;
    Ok(SubjectAltName(vec![name]).to_der()?)
}

/// The value of the extension with the digest: an OCTET STRING within that of each extension.
fn acme_identifier(
    key_authorization: &KeyAuthorization,
) -> Result<Vec<u8>, InvalidAcmeCertificate> {
    Ok(OctetString::new(key_authorization.digest())?.to_der()?)
}

/// An extension, if it is there. No extension may be there twice (RFC 5280 §4.2).
fn single_extension(
    certificate: &TbsCertificate,
    oid: ObjectIdentifier,
) -> Result<Option<&Extension>, InvalidAcmeCertificate> {
    let extensions = certificate.extensions().map_or(&[][..], Vec::as_slice);
    for (index, extension) in extensions.iter().enumerate() {
        let mut before = extensions.iter().take(index);
        if before.any(|other| other.extn_id == extension.extn_id) {
            let twice = extension.extn_id.to_string();
            return Err(InvalidAcmeCertificate::DuplicateExtension(twice));
        }
    }
    Ok(extensions.iter().find(|extension| extension.extn_id == oid))
}

fn found_names(extension: Option<&Extension>) -> Result<Vec<Identifier>, InvalidAcmeCertificate> {
    let Some(extension) = extension else {
        return Ok(Vec::new());
    };
    let found = SubjectAltName::from_der(extension.extn_value.as_bytes())?;
    Ok(found.0.iter().map(names::identifier).collect())
}

fn validity(now: SystemTime) -> Result<Validity, InvalidAcmeCertificate> {
    let out_of_range = || {
        let reason = "the clock is at a time that no certificate can hold";
        InvalidAcmeCertificate::Encoding(reason.to_owned())
    };
    let not_before = now.checked_sub(CLOCK_SKEW).ok_or_else(out_of_range)?;
    let not_after = now.checked_add(LIFETIME).ok_or_else(out_of_range)?;
    Ok(Validity::new(
        Time::try_from(not_before)?,
        Time::try_from(not_after)?,
    ))
}

fn encoding(error: impl fmt::Display) -> InvalidAcmeCertificate {
    InvalidAcmeCertificate::Encoding(error.to_string())
}

/// A certificate for tls-alpn-01 that can't be made, or does not answer the challenge.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum InvalidAcmeCertificate {
    /// It breaks X.509.
    #[error("the certificate is malformed: {0}")]
    Der(#[from] der::Error),
    /// It has an extension twice.
    #[error("the certificate has the extension {0} more than once (RFC 5280 §4.2)")]
    DuplicateExtension(String),
    /// It could not be encoded.
    #[error("the certificate could not be made: {0}")]
    Encoding(String),
    /// tls-alpn-01 can't prove the identifier.
    #[error("tls-alpn-01 can't prove control of `{}` (RFC 8737 §3, RFC 8738 §4)", printable(&.0.value()))]
    Identifier(Identifier),
    /// No key could be made for it.
    #[error(transparent)]
    Key(#[from] InvalidKey),
    /// The extension `acmeIdentifier` is not an OCTET STRING of 32 octets.
    #[error("the extension acmeIdentifier does not hold 32 octets (RFC 8737 §3)")]
    MalformedAcmeIdentifier,
    /// The extension `acmeIdentifier` is missing.
    #[error("the certificate has no extension acmeIdentifier (RFC 8737 §3)")]
    NoAcmeIdentifier,
    /// The extension `acmeIdentifier` is not critical.
    #[error("the extension acmeIdentifier is not critical (RFC 8737 §3)")]
    NotCritical,
    /// It was not signed by its own key, or subject and issuer differ.
    #[error("the certificate is not self-signed: {0}")]
    NotSelfSigned(ChainFault),
    /// It answers another challenge, or for another account.
    #[error("the certificate has the digest {found}, but that of this challenge is {expected}")]
    OtherKeyAuthorization {
        /// The SHA-256 of the key authorization, in hexadecimal.
        expected: String,
        /// What the certificate has.
        found: String,
    },
    /// It does not name the identifier in exactly one subject alternative name.
    #[error("the certificate is for {}, but must be for {expected} only", list(.found))]
    OtherNames {
        /// The identifier to prove.
        expected: Identifier,
        /// The names it has.
        found: Vec<Identifier>,
    },
}

/// id-pe-acmeIdentifier (RFC 8737 §6.1).
const ACME_IDENTIFIER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.1.31");

const CLOCK_SKEW: Duration = Duration::from_secs(24 * 3_600);

/// That of a SHA-256.
const DIGEST_LENGTH: usize = 32;

/// As long as authorizations are pending, at Let's Encrypt.
const LIFETIME: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Of both subject and issuer, which may be anything as long as they are the same.
const NAME: &str = "CN=tls-alpn-01";

#[cfg(test)]
mod tests {
    use p256::ecdsa::SigningKey;
    use p256::elliptic_curve::Generate;
    use x509_cert::ext::pkix::name::GeneralName;

    use super::*;
    use crate::jose::{AccountKey, Signer};
    use crate::protocol::Token;
    use crate::x509::fixtures;

    const SUBJECT_ALT_NAME: ObjectIdentifier = SubjectAltName::OID;

    fn key_authorization() -> KeyAuthorization {
        let token = Token::parse("DGyRejmCefe7v4NfDGDKfADGyRejmCef").unwrap();
        let key = AccountKey::generate().unwrap();
        KeyAuthorization::new(&token, &key.public_key().thumbprint())
    }

    fn identifier(text: &str) -> Identifier {
        text.parse().unwrap()
    }

    fn names(identifiers: &[&str]) -> Extension {
        let names: Vec<GeneralName> = identifiers
            .iter()
            .map(|name| names::general_name(&identifier(name)).unwrap())
            .collect();
        fixtures::extension(SUBJECT_ALT_NAME, false, SubjectAltName(names))
    }

    fn digest(oid: ObjectIdentifier, critical: bool, octets: &[u8]) -> Extension {
        fixtures::extension(oid, critical, OctetString::new(octets).unwrap())
    }

    #[test]
    fn makes_what_it_checks() {
        let key_authorization = key_authorization();
        for name in [
            "example.com",
            "XN--bcher-kva.Example.",
            "192.0.2.1",
            "2001:db8::1",
            "::1",
        ] {
            let identifier = identifier(name);
            let now = SystemTime::now();
            let made = AcmeCertificate::new(&identifier, &key_authorization, now).unwrap();
            AcmeCertificate::check(made.der(), &identifier, &key_authorization).unwrap();

            let parsed = Certificate::from_der(made.der()).unwrap();
            let tbs = parsed.tbs_certificate();
            assert_eq!(tbs.issuer(), tbs.subject());
            assert_eq!(tbs.extensions().unwrap().len(), 2);
            assert!(tbs.validity().not_before.to_system_time() < now);
            assert!(tbs.validity().not_after.to_system_time() > now);
            let key = tbs.subject_public_key_info().to_der().unwrap();
            assert_eq!(key, made.key().public_key_info());
        }
    }

    #[test]
    fn vectors() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/challenges.json")).unwrap();
        let mut checked = 0;
        for case in vectors["cases"].as_array().unwrap() {
            let text = |name: &str| case[name].as_str().unwrap();
            let key_authorization = KeyAuthorization::compose(text("token"), text("thumbprint"));
            let made = AcmeCertificate::new(
                &identifier(text("domain")),
                &key_authorization,
                SystemTime::now(),
            );
            let parsed = Certificate::from_der(made.unwrap().der()).unwrap();
            let oid = ObjectIdentifier::new_unwrap(text("tls_alpn01_ext_oid"));
            let extension = single_extension(parsed.tbs_certificate(), oid);
            let extension = extension.unwrap().unwrap();
            assert_eq!(extension.critical, case["tls_alpn01_ext_critical"]);
            let value = chain::hex(extension.extn_value.as_bytes());
            assert_eq!(value, text("tls_alpn01_ext_hex"));
            checked += 1;
        }
        assert!(checked >= 4);
    }

    #[test]
    fn names_what_the_ca_asks_for() {
        for (name, expected) in [
            ("Example.COM", Some("example.com")),
            ("xn--bcher-kva.example", Some("xn--bcher-kva.example")),
            ("192.0.2.1", Some("1.2.0.192.in-addr.arpa")),
            (
                "2001:db8::1",
                Some("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"),
            ),
            ("*.example.com", None),
        ] {
            let found = AcmeCertificate::server_name(&identifier(name));
            assert_eq!(found.as_deref(), expected);
        }
    }

    #[test]
    fn refuses_what_it_cannot_prove() {
        let other = r#"{"type":"email","value":"a@example.com"}"#;
        let other: Identifier = serde_json::from_str(other).unwrap();
        for identifier in [identifier("*.example.com"), other] {
            let made = AcmeCertificate::new(&identifier, &key_authorization(), SystemTime::now());
            assert!(
                matches!(&made, Err(InvalidAcmeCertificate::Identifier(named))
                    if *named == identifier),
                "{made:?}"
            );
            assert_eq!(AcmeCertificate::server_name(&identifier), None);
        }
        let far = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40);
        let made = AcmeCertificate::new(&identifier("example.com"), &key_authorization(), far);
        assert!(made.is_err());
    }

    #[test]
    fn tells_what_is_wrong_with_a_certificate() {
        let key_authorization = key_authorization();
        let octets = key_authorization.digest();
        let old = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.1.30.1");
        let good_names = || names(&["example.com"]);
        let good_digest = || digest(ACME_IDENTIFIER, true, &octets);
        let raw = |value: &[u8]| Extension {
            extn_id: ACME_IDENTIFIER,
            critical: true,
            extn_value: OctetString::new(value).unwrap(),
        };
        let upper_case = {
            let name = der::asn1::Ia5String::new("Example.com").unwrap();
            let names = SubjectAltName(vec![GeneralName::DnsName(name)]);
            fixtures::extension(SUBJECT_ALT_NAME, false, names)
        };
        for (extensions, expected) in [
            (vec![], "is for none, but must be for example.com only"),
            (vec![good_digest()], "is for none"),
            (vec![good_names()], "no extension acmeIdentifier"),
            (
                vec![names(&["other.example"]), good_digest()],
                "is for other.example",
            ),
            (
                vec![names(&["example.com", "other.example"]), good_digest()],
                "is for example.com, other.example, but",
            ),
            (
                vec![names(&["example.com", "example.com"]), good_digest()],
                "is for example.com, example.com, but",
            ),
            (
                vec![names(&["192.0.2.1"]), good_digest()],
                "is for 192.0.2.1",
            ),
            (
                vec![upper_case, good_digest()],
                "must be for example.com only",
            ),
            (
                vec![good_names(), good_names(), good_digest()],
                "the extension 2.5.29.17 more than once",
            ),
            (
                vec![good_names(), good_digest(), good_digest()],
                "the extension 1.3.6.1.5.5.7.1.31 more than once",
            ),
            (
                vec![good_names(), digest(ACME_IDENTIFIER, false, &octets)],
                "is not critical",
            ),
            (
                vec![good_names(), digest(old, true, &octets)],
                "no extension acmeIdentifier",
            ),
            (
                vec![good_names(), digest(ACME_IDENTIFIER, true, &octets[..31])],
                "does not hold 32 octets",
            ),
            (vec![good_names(), raw(&octets)], "does not hold 32 octets"),
            (
                vec![good_names(), digest(ACME_IDENTIFIER, true, &[0; 32])],
                "has the digest 0000000",
            ),
        ] {
            let made = AcmeCertificate::with_extensions(extensions, SystemTime::now()).unwrap();
            let identifier = identifier("example.com");
            let error =
                AcmeCertificate::check(made.der(), &identifier, &key_authorization).unwrap_err();
            assert!(error.to_string().contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn demands_a_signature_by_its_own_key() {
        let key_authorization = key_authorization();
        let extensions = vec![
            names(&["example.com"]),
            digest(ACME_IDENTIFIER, true, &key_authorization.digest()),
        ];
        let [key, other] = [SigningKey::generate(), SigningKey::generate()];
        for (issuer, signer, is_good) in [
            ("CN=a", &key, true),
            ("CN=a", &other, false),
            ("CN=b", &key, false),
        ] {
            let made = fixtures::certificate(("CN=a", &key), (issuer, signer), extensions.clone());
            let checked = AcmeCertificate::check(
                &fixtures::der(&made),
                &identifier("example.com"),
                &key_authorization,
            );
            match is_good {
                true => checked.unwrap(),
                false => assert!(
                    matches!(checked, Err(InvalidAcmeCertificate::NotSelfSigned(_))),
                    "{checked:?}"
                ),
            }
        }
    }

    #[test]
    fn survives_garbage() {
        for octets in [
            &b""[..],
            b"\x30\x00",
            b"garbage",
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
        ] {
            let checked = AcmeCertificate::check(
                &octets.into(),
                &identifier("example.com"),
                &key_authorization(),
            );
            assert!(matches!(checked, Err(InvalidAcmeCertificate::Der(_))));
        }
    }

    #[test]
    fn hides_its_key() {
        let made =
            AcmeCertificate::new(&identifier("::1"), &key_authorization(), SystemTime::now());
        assert_eq!(format!("{:?}", made.unwrap()), "AcmeCertificate { .. }");
    }
}
