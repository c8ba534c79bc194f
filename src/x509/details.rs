use std::collections::BTreeSet;
use std::fmt;
use std::time::SystemTime;

use der::asn1::OctetStringRef;
use der::oid::ObjectIdentifier;
use der::oid::db::rfc5280::{ID_KP_CLIENT_AUTH, ID_KP_SERVER_AUTH};
use der::oid::db::rfc6962::CT_PRECERT_SCTS;
use der::{Decode, DecodeOwned};
use rustls_pki_types::CertificateDer;
use thiserror::Error;
use x509_cert::ext::pkix::crl::dp::DistributionPoint;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, CrlDistributionPoints};
use x509_cert::{Certificate, TbsCertificate};

use super::chain::{hex, identifiers};
use super::{InvalidSct, SignedCertificateTimestamp};
use crate::protocol::Identifier;

/// What a certificate says of itself (RFC 5280 §4).
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct CertificateDetails {
    /// The subject's distinguished name. Empty in most certificates of today.
    pub subject: String,
    /// The issuer's distinguished name.
    pub issuer: String,
    /// The serial number, in hexadecimal.
    pub serial_number: String,
    /// The subject alternative names (§4.2.1.6).
    pub identifiers: BTreeSet<Identifier>,
    /// From when it is valid.
    pub not_before: SystemTime,
    /// Until when it is valid.
    pub not_after: SystemTime,
    /// The key identifier of the issuer's key (§4.2.1.1).
    pub authority_key_identifier: Option<Vec<u8>>,
    /// The promises of certificate transparency logs that stand in it (RFC 6962 §3.3).
    pub signed_certificate_timestamps: Vec<SignedCertificateTimestamp>,
    /// Where its issuer publishes what is revoked (§4.2.1.13). Empty for short-lived certificates.
    pub crl_urls: Vec<String>,
    /// Whether servers must staple an OCSP response (RFC 7633). Let's Encrypt refuses such requests.
    pub must_staple: bool,
    /// What it may be used for (§4.2.1.12). Empty where it does not say.
    pub extended_key_usages: Vec<ExtendedKeyUsage>,
}

impl CertificateDetails {
    /// Reads a certificate. Nothing is verified.
    pub fn from_der(certificate: &CertificateDer<'_>) -> Result<Self, InvalidCertificate> {
        let certificate =
            Certificate::from_der(certificate).map_err(|_| InvalidCertificate::Structure)?;
        Self::read(certificate.tbs_certificate())
    }

    pub(super) fn read(certificate: &TbsCertificate) -> Result<Self, InvalidCertificate> {
        let authority = certificate
            .get_extension::<AuthorityKeyIdentifier>()
            .map_err(|_| InvalidCertificate::Extension("authority key identifier"))?
            .and_then(|(_, authority)| authority.key_identifier);
        let features: Option<Vec<u32>> = extension(certificate, TLS_FEATURE, "TLS feature")?;
        let usages: Option<Vec<ObjectIdentifier>> =
            extension(certificate, EXTENDED_KEY_USAGE, "extended key usage")?;
        Ok(Self {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            serial_number: hex(certificate.serial_number().as_bytes()),
            identifiers: identifiers(certificate)
                .map_err(|_| InvalidCertificate::Extension("subject alternative name"))?,
            not_before: certificate.validity().not_before.to_system_time(),
            not_after: certificate.validity().not_after.to_system_time(),
            authority_key_identifier: authority.map(|identifier| identifier.as_bytes().to_vec()),
            signed_certificate_timestamps: timestamps(certificate)?,
            crl_urls: distribution_points(certificate)?
                .iter()
                .flat_map(names)
                .filter_map(url)
                .collect(),
            must_staple: features
                .is_some_and(|features| features.contains(&FEATURE_STATUS_REQUEST)),
            extended_key_usages: usages
                .unwrap_or_default()
                .into_iter()
                .map(ExtendedKeyUsage::from)
                .collect(),
        })
    }
}

/// What a certificate may be used for (RFC 5280 §4.2.1.12).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ExtendedKeyUsage {
    /// To authenticate a TLS server.
    ServerAuth,
    /// To authenticate a TLS client. Public CAs no longer issue for it.
    ClientAuth,
    /// Something else: its object identifier, in dots.
    Other(String),
}

impl From<ObjectIdentifier> for ExtendedKeyUsage {
    fn from(usage: ObjectIdentifier) -> Self {
        match usage {
            ID_KP_SERVER_AUTH => Self::ServerAuth,
            ID_KP_CLIENT_AUTH => Self::ClientAuth,
            other => Self::Other(other.to_string()),
        }
    }
}

impl fmt::Display for ExtendedKeyUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ServerAuth => "serverAuth",
            Self::ClientAuth => "clientAuth",
            Self::Other(usage) => usage,
        })
    }
}

pub(super) fn distribution_points(
    certificate: &TbsCertificate,
) -> Result<Vec<DistributionPoint>, InvalidCertificate> {
    let points = certificate
        .get_extension::<CrlDistributionPoints>()
        .map_err(|_| InvalidCertificate::Extension("CRL distribution points"))?;
    Ok(points.map(|(_, points)| points.0).unwrap_or_default())
}

/// The names of a distribution point, any of which may be a URL.
pub(super) fn names(point: &DistributionPoint) -> &[GeneralName] {
    match &point.distribution_point {
        Some(DistributionPointName::FullName(names)) => names,
        _ => &[],
    }
}

fn url(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::UniformResourceIdentifier(url) => Some(url.to_string()),
        _ => None,
    }
}

fn timestamps(
    certificate: &TbsCertificate,
) -> Result<Vec<SignedCertificateTimestamp>, InvalidCertificate> {
    let Some(value) = extension_value(certificate, CT_PRECERT_SCTS, SCT_LIST)? else {
        return Ok(Vec::new());
    };
    let list =
        <&OctetStringRef>::from_der(value).map_err(|_| InvalidCertificate::Extension(SCT_LIST))?;
    SignedCertificateTimestamp::read_list(list.as_bytes()).map_err(InvalidCertificate::Timestamp)
}

fn extension<T: DecodeOwned>(
    certificate: &TbsCertificate,
    oid: ObjectIdentifier,
    name: &'static str,
) -> Result<Option<T>, InvalidCertificate> {
    extension_value(certificate, oid, name)?
        .map(T::from_der)
        .transpose()
        .map_err(|_| InvalidCertificate::Extension(name))
}

/// RFC 5280 §4.2: a certificate has an extension once at most.
fn extension_value<'a>(
    certificate: &'a TbsCertificate,
    oid: ObjectIdentifier,
    name: &'static str,
) -> Result<Option<&'a [u8]>, InvalidCertificate> {
    let extensions = certificate.extensions().into_iter().flatten();
    let mut found = extensions.filter(|extension| extension.extn_id == oid);
    match (found.next(), found.next()) {
        (first, None) => Ok(first.map(|extension| extension.extn_value.as_bytes())),
        _ => Err(InvalidCertificate::Extension(name)),
    }
}

/// A certificate, or a part of it, that can't be read.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum InvalidCertificate {
    /// An extension is malformed, or there twice.
    #[error("the certificate's extension `{0}` is malformed")]
    Extension(&'static str),
    /// A text is no certificate's name in renewal information.
    #[error("this is no certificate's identifier (RFC 9773 §4.1)")]
    Id,
    /// It does not name its issuer's key, so it has no name in renewal information.
    #[error(
        "the certificate does not name its issuer's key, so it can't be asked for (RFC 9773 §4.1)"
    )]
    NoAuthorityKey,
    /// It is no certificate.
    #[error("this is not an X.509 certificate")]
    Structure,
    /// Its signed certificate timestamps are malformed.
    #[error("the certificate's signed certificate timestamps are malformed: {0}")]
    Timestamp(#[source] InvalidSct),
}

const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
/// RFC 7633 §6.
const TLS_FEATURE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.1.24");
/// The TLS extension `status_request` (RFC 6066 §8).
const FEATURE_STATUS_REQUEST: u32 = 5;
const SCT_LIST: &str = "signed certificate timestamps";

#[cfg(test)]
mod tests {
    use der::asn1::OctetString;
    use p256::ecdsa::SigningKey;
    use p256::elliptic_curve::Generate;
    use x509_cert::ext::Extension;

    use super::super::fixtures;
    use super::*;

    fn leaf(extensions: Vec<Extension>) -> CertificateDer<'static> {
        let key = SigningKey::generate();
        let certificate = fixtures::certificate(("", &key), ("CN=signer", &key), extensions);
        fixtures::der(&certificate)
    }

    fn timestamps() -> OctetString {
        let mut timestamp = vec![0];
        timestamp.extend([7; 32]);
        timestamp.extend(1000_u64.to_be_bytes());
        timestamp.extend([0, 0, 4, 3, 0, 1, 9]);
        assert_eq!(timestamp.len(), 48);
        let list = [vec![0, 50, 0, 48], timestamp].concat();
        OctetString::new(list).unwrap()
    }

    fn extensions() -> Vec<Extension> {
        let authority = AuthorityKeyIdentifier {
            key_identifier: Some(OctetString::new([1, 2, 3]).unwrap()),
            ..AuthorityKeyIdentifier::default()
        };
        let usages = vec![
            ID_KP_SERVER_AUTH,
            ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.17"),
        ];
        vec![
            fixtures::subject_alt_name(),
            fixtures::extension(ObjectIdentifier::new_unwrap("2.5.29.35"), false, authority),
            fixtures::extension(CT_PRECERT_SCTS, false, timestamps()),
            fixtures::crl_distribution_points(&["http://crl.example/1", "ldap://crl.example/2"]),
            fixtures::extension(TLS_FEATURE, false, vec![FEATURE_STATUS_REQUEST]),
            fixtures::extension(EXTENDED_KEY_USAGE, false, usages),
        ]
    }

    #[test]
    fn reads_what_is_there() {
        let details = CertificateDetails::from_der(&leaf(extensions())).unwrap();
        assert_eq!(details.subject, "");
        assert_eq!(details.issuer, "CN=signer");
        assert_eq!(details.serial_number, "1234");
        assert_eq!(details.identifiers, ["example.com".parse().unwrap()].into());
        assert!(details.not_before < details.not_after);
        assert_eq!(details.authority_key_identifier, Some(vec![1, 2, 3]));
        assert_eq!(details.signed_certificate_timestamps.len(), 1);
        assert_eq!(
            details.crl_urls,
            ["http://crl.example/1", "ldap://crl.example/2"]
        );
        assert!(details.must_staple);
        assert_eq!(
            details.extended_key_usages,
            [
                ExtendedKeyUsage::ServerAuth,
                ExtendedKeyUsage::Other("1.3.6.1.5.5.7.3.17".into())
            ]
        );
    }

    #[test]
    fn lacks_what_is_not() {
        let details = CertificateDetails::from_der(&leaf(vec![])).unwrap();
        assert_eq!(details.authority_key_identifier, None);
        assert!(details.identifiers.is_empty() && details.crl_urls.is_empty());
        assert!(details.signed_certificate_timestamps.is_empty() && !details.must_staple);
        assert!(details.extended_key_usages.is_empty());
    }

    #[test]
    fn refuses_what_is_malformed_or_there_twice() {
        for extension in extensions() {
            let twice = leaf(vec![extension.clone(), extension.clone()]);
            assert!(
                CertificateDetails::from_der(&twice).is_err(),
                "{}",
                extension.extn_id
            );
            let mut odd = extension;
            odd.extn_value = OctetString::new([0x30, 0x05, 0x01]).unwrap();
            let id = odd.extn_id;
            assert!(
                CertificateDetails::from_der(&leaf(vec![odd])).is_err(),
                "{id}"
            );
        }
    }

    #[test]
    fn mangled_certificates_do_no_harm() {
        let der = leaf(extensions());
        for position in 0..der.len() {
            for change in [0x01, 0x20, 0x7f, 0x80] {
                let mut mangled = der.to_vec();
                mangled[position] ^= change;
                let _ = CertificateDetails::from_der(&mangled.into());
            }
            let cut = CertificateDer::from(&der[..position]);
            let fault = CertificateDetails::from_der(&cut);
            assert_eq!(fault, Err(InvalidCertificate::Structure));
        }
    }
}
