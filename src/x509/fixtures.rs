//! Certificates for the tests of this layer, with whatever extensions a test wants.

use std::str::FromStr;
use std::time::{Duration, SystemTime};

use der::asn1::{Ia5String, OctetString};
use der::oid::ObjectIdentifier;
use der::pem::LineEnding;
use der::{Encode, EncodePem};
use p256::ecdsa::{DerSignature, SigningKey};
use rustls_pki_types::CertificateDer;
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{Builder, CertificateBuilder};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::crl::dp::DistributionPoint;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::ext::pkix::{BasicConstraints, CrlDistributionPoints, SubjectAltName};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{SubjectPublicKeyInfo, SubjectPublicKeyInfoRef};
use x509_cert::time::Validity;
use x509_cert::{Certificate, TbsCertificate};

use super::CertificateChain;

/// The server's certificate for `example.com`, with serial number 0x1234.
pub(super) const SERIAL: &[u8] = &[0x12, 0x34];

struct Profile {
    subject: Name,
    issuer: Name,
    extensions: Vec<Extension>,
}

impl BuilderProfile for Profile {
    fn get_issuer(&self, _: &Name) -> Name {
        self.issuer.clone()
    }

    fn get_subject(&self) -> Name {
        self.subject.clone()
    }

    fn build_extensions(
        &self,
        _: SubjectPublicKeyInfoRef<'_>,
        _: SubjectPublicKeyInfoRef<'_>,
        _: &TbsCertificate,
    ) -> x509_cert::builder::Result<Vec<Extension>> {
        Ok(self.extensions.clone())
    }
}

/// A certificate for a key, in which names stand as RFC 4514 writes them, such as `CN=root`.
pub(super) fn certificate(
    (subject, key): (&str, &SigningKey),
    (issuer, signer): (&str, &SigningKey),
    extensions: Vec<Extension>,
) -> Certificate {
    let profile = Profile {
        subject: name(subject),
        issuer: name(issuer),
        extensions,
    };
    CertificateBuilder::new(
        profile,
        SerialNumber::new(SERIAL).unwrap(),
        Validity::from_now(Duration::from_secs(3600)).unwrap(),
        SubjectPublicKeyInfo::from_key(key.verifying_key()).unwrap(),
    )
    .unwrap()
    .build::<_, DerSignature>(signer)
    .unwrap()
}

pub(super) fn chain(certificates: &[&Certificate]) -> CertificateChain {
    let pem: Vec<_> = certificates
        .iter()
        .map(|certificate| certificate.to_pem(LineEnding::LF).unwrap())
        .collect();
    CertificateChain::from_pem(&pem.concat()).unwrap()
}

pub(super) fn der(certificate: &Certificate) -> CertificateDer<'static> {
    certificate.to_der().unwrap().into()
}

pub(super) fn extension(oid: ObjectIdentifier, critical: bool, value: impl Encode) -> Extension {
    Extension {
        extn_id: oid,
        critical,
        extn_value: OctetString::new(value.to_der().unwrap()).unwrap(),
    }
}

pub(super) fn subject_alt_name() -> Extension {
    let names = vec![GeneralName::DnsName(Ia5String::new("example.com").unwrap())];
    let oid = ObjectIdentifier::new_unwrap("2.5.29.17");
    extension(oid, false, SubjectAltName(names))
}

pub(super) fn ca() -> Extension {
    let constraints = BasicConstraints {
        ca: true,
        path_len_constraint: None,
    };
    extension(ObjectIdentifier::new_unwrap("2.5.29.19"), true, constraints)
}

pub(super) fn crl_distribution_points(urls: &[&str]) -> Extension {
    let points = urls.iter().map(|url| DistributionPoint {
        distribution_point: Some(full_name(url)),
        reasons: None,
        crl_issuer: None,
    });
    let points = CrlDistributionPoints(points.collect());
    extension(ObjectIdentifier::new_unwrap("2.5.29.31"), false, points)
}

pub(super) fn full_name(url: &str) -> DistributionPointName {
    DistributionPointName::FullName(vec![GeneralName::UniformResourceIdentifier(
        Ia5String::new(url).unwrap(),
    )])
}

pub(super) fn name(text: &str) -> Name {
    match text {
        "" => Name::default(),
        text => Name::from_str(text).unwrap(),
    }
}

pub(super) fn now() -> SystemTime {
    SystemTime::now()
}
