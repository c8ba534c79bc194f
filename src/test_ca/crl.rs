//! The revocation list of the intermediate (RFC 5280 §5), and the server where it is had.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use der::asn1::{BitString, Ia5String};
use der::{Decode, Encode};
use http::{Method, StatusCode, header};
use p256::ecdsa::DerSignature;
use p256::ecdsa::signature::Signer;
use rustls_pki_types::CertificateRevocationListDer;
use x509_cert::crl::{CertificateList, RevokedCert, TbsCertList};
use x509_cert::ext::ToExtension;
use x509_cert::ext::pkix::crl::dp::DistributionPoint;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, CrlDistributionPoints, CrlNumber, CrlReason, SubjectKeyIdentifier,
};
use x509_cert::name::Name;
use x509_cert::spki::{
    DynSignatureAlgorithmIdentifier, SubjectPublicKeyInfoOwned, SubjectPublicKeyInfoRef,
};
use x509_cert::time::Time;
use x509_cert::{Certificate, Version};

use super::ca::Ca;
use super::issuer::Issuer;
use super::reply::{Refusal, Reply};
use super::state::{Revoked, StoredCertificate};
use super::{TestCa, TestCaBuilder};
use crate::error::BoxError;
use crate::protocol::RevocationReason;

impl TestCaBuilder {
    /// Whether certificates say where the [list of those that are revoked](TestCa::crl) is had
    /// (RFC 5280 §4.2.1.13), at a port of its own by plain http. By default they do not.
    pub fn crl(mut self, distributed: bool) -> Self {
        self.distributes_crl = distributed;
        self
    }
}

impl TestCa {
    /// The intermediate's list of all certificates that are revoked, signed anew at each call
    /// (RFC 5280 §5).
    pub fn crl(&self) -> Result<CertificateRevocationListDer<'static>, BoxError> {
        self.0.ca.crl().map(CertificateRevocationListDer::from)
    }

    /// Where the [list](Self::crl) is had, if [anywhere](TestCaBuilder::crl).
    pub fn crl_url(&self) -> Option<&str> {
        self.0.ca.issuer.crl_url()
    }
}

impl Ca {
    /// Answers a request to the server that has the list only.
    pub(super) fn answer_crl(&self, method: &Method, path: &str) -> Reply {
        if path != PATH {
            return Reply::from(Refusal::not_found());
        }
        if method != Method::GET {
            return Reply::empty(StatusCode::METHOD_NOT_ALLOWED).header(header::ALLOW, "GET");
        }
        match self.crl() {
            Ok(crl) => Reply::empty(StatusCode::OK).body("application/pkix-crl", crl),
            Err(error) => Reply::from(Refusal::internal(error)),
        }
    }

    fn crl(&self) -> Result<Vec<u8>, BoxError> {
        let mut revoked = Vec::new();
        for (_, certificate) in self.state().certificates.iter() {
            if let Some(revocation) = &certificate.revoked {
                revoked.push(entry(certificate, revocation)?);
            }
        }
        self.issuer.crl(revoked)
    }
}

impl Issuer {
    /// Signs a list. x509-cert's own builder takes the key identifier of the issuer's issuer, and
    /// writes an empty list where RFC 5280 §5.1.2.6 demands that there be none.
    fn crl(&self, revoked: Vec<RevokedCert>) -> Result<Vec<u8>, BoxError> {
        let key = &self.intermediate_key;
        let issuer: Name = Self::INTERMEDIATE.parse()?;
        let info = SubjectPublicKeyInfoOwned::from_key(key.verifying_key())?.to_der()?;
        let info = SubjectPublicKeyInfoRef::from_der(&info)?;
        let authority = AuthorityKeyIdentifier {
            key_identifier: Some(SubjectKeyIdentifier::try_from(info)?.0),
            ..AuthorityKeyIdentifier::default()
        };
        // §5.2.3: each list has a higher number than the one before.
        let number = self.crls.fetch_add(1, Ordering::Relaxed);
        let number = CrlNumber::try_from(number.saturating_add(1))?;

        let now = SystemTime::now();
        let list = TbsCertList {
            version: Version::V2,
            signature: key.signature_algorithm_identifier()?,
            this_update: Time::try_from(now)?,
            next_update: Some(Time::try_from(now + WEEK)?),
            revoked_certificates: Some(revoked).filter(|revoked| !revoked.is_empty()),
            crl_extensions: Some(vec![
                authority.to_extension(&issuer, &[])?,
                number.to_extension(&issuer, &[])?,
            ]),
            issuer,
        };
        let signature: DerSignature = key.try_sign(&list.to_der()?)?;
        let list = CertificateList {
            signature_algorithm: list.signature.clone(),
            signature: BitString::from_bytes(signature.as_bytes())?,
            tbs_cert_list: list,
        };
        Ok(list.to_der()?)
    }
}

fn entry(certificate: &StoredCertificate, revoked: &Revoked) -> Result<RevokedCert, BoxError> {
    // §5.3.1: of no reason in particular, the list says nothing.
    let reason = match revoked.reason {
        Some(RevocationReason::KeyCompromise) => Some(CrlReason::KeyCompromise),
        Some(RevocationReason::Superseded) => Some(CrlReason::Superseded),
        Some(RevocationReason::CessationOfOperation) => Some(CrlReason::CessationOfOperation),
        _ => None,
    };
    let reason = reason.map(|reason| reason.to_extension(&Name::default(), &[]));
    let certificate = Certificate::from_der(&certificate.issued.leaf)?;
    Ok(RevokedCert {
        serial_number: certificate.tbs_certificate().serial_number().clone(),
        revocation_date: Time::try_from(revoked.at)?,
        crl_entry_extensions: reason.transpose()?.map(|reason| vec![reason]),
    })
}

/// Where a certificate says that the list is.
pub(super) fn distribution_points(url: &str) -> Result<CrlDistributionPoints, BoxError> {
    let name = GeneralName::UniformResourceIdentifier(Ia5String::new(url)?);
    Ok(CrlDistributionPoints(vec![DistributionPoint {
        distribution_point: Some(DistributionPointName::FullName(vec![name])),
        reasons: None,
        crl_issuer: None,
    }]))
}

pub(super) const PATH: &str = "/intermediate.crl";

const WEEK: Duration = Duration::from_secs(7 * 24 * 3_600);
