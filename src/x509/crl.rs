//! Lists of revoked certificates (RFC 5280 §5), as far as one certificate's status needs them.

use std::time::SystemTime;

use der::asn1::{AnyRef, BitString};
use der::oid::db::rfc5280::{ID_CE_CRL_REASONS, ID_CE_ISSUING_DISTRIBUTION_POINT};
use der::{Decode, Reader, SliceReader, Tag, TagMode, TagNumber, Tagged};
use thiserror::Error;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::KeyUsage;
use x509_cert::ext::pkix::crl::{CrlReason, IssuingDistributionPoint};
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::name::Name;
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_cert::time::Time;

use super::details::{distribution_points, names};
use super::{CertificateChain, InvalidCertificate, chain};
use crate::jose::SignatureFault;
use crate::protocol::{RevocationReason, format_timestamp};

impl CertificateChain {
    /// What a CRL of its issuer, in DER, says of the server's certificate (RFC 5280 §6.3).
    ///
    /// The list must be signed by the key of the chain's second certificate, be current, and be
    /// meant for certificates such as this one: where a CA parts its list in several, a part that
    /// the certificate does not point to says nothing of it.
    ///
    /// Lists of changes only (delta CRLs) and of other issuers' certificates (indirect CRLs) are
    /// refused.
    pub fn revocation_status(
        &self,
        crl: &[u8],
        now: SystemTime,
    ) -> Result<RevocationStatus, InvalidCrl> {
        let Some(issuer) = self.parsed().get(1) else {
            return Ok(RevocationStatus::IssuerUnknown);
        };
        let leaf = self.parsed_leaf();
        let list = RevocationList::read(crl)?;
        if list.issuer != *leaf.issuer() {
            return Err(InvalidCrl::Issuer);
        }
        let key_usage = issuer.tbs_certificate().get_extension::<KeyUsage>();
        if let Ok(Some((_, usage))) = key_usage
            && !usage.crl_sign()
        {
            return Err(InvalidCrl::KeyUsage);
        }
        if list.algorithm != list.signed_algorithm {
            return Err(InvalidCrl::Signature(SignatureFault::Wrong));
        }
        chain::check_signature(issuer, &list.algorithm, list.signed, &list.signature)
            .map_err(InvalidCrl::Signature)?;

        let this_update = list.this_update.to_system_time();
        let next_update = list
            .next_update
            .ok_or(InvalidCrl::NoNextUpdate)?
            .to_system_time();
        if now < this_update {
            return Err(InvalidCrl::NotYetValid(this_update));
        }
        if now > next_update {
            return Err(InvalidCrl::Stale(next_update));
        }
        let points = distribution_points(leaf).map_err(InvalidCrl::Certificate)?;
        let points: Vec<_> = points.iter().flat_map(names).collect();
        check_extensions(&list.extensions, &points)?;

        let serial_number = leaf.serial_number().as_bytes();
        let mut status = RevocationStatus::Good { next_update };
        let entries = list.entries(|entry| {
            check_entry(&entry.extensions)?;
            if entry.serial_number == serial_number {
                status = RevocationStatus::Revoked {
                    time: entry.revocation_date.to_system_time(),
                    reason: reason(&entry.extensions)?,
                };
            }
            Ok(())
        });
        entries.map(|()| status)
    }
}

/// Whether a certificate is revoked, as its issuer's CRL says.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum RevocationStatus {
    /// It is not revoked.
    Good {
        /// When the issuer will have published the next list, at the latest.
        next_update: SystemTime,
    },
    /// It is revoked.
    Revoked {
        /// Since when.
        time: SystemTime,
        /// Why, where the list tells.
        reason: Option<RevocationReason>,
    },
    /// It does not say where its issuer publishes what is revoked, as short-lived certificates do
    /// not: they expire before a list would reach anyone.
    NoDistributionPoint,
    /// The chain ends with it, so a list can't be verified.
    IssuerUnknown,
}

/// A list, with the revoked certificates still in DER: there may be a hundred thousand of them.
struct RevocationList<'a> {
    signed: &'a [u8],
    algorithm: AlgorithmIdentifierOwned,
    signature: BitString,
    signed_algorithm: AlgorithmIdentifierOwned,
    issuer: Name,
    this_update: Time,
    next_update: Option<Time>,
    revoked: Option<&'a [u8]>,
    extensions: Vec<Extension>,
}

struct Entry<'a> {
    serial_number: &'a [u8],
    revocation_date: Time,
    extensions: Vec<Extension>,
}

impl<'a> RevocationList<'a> {
    fn read(der: &'a [u8]) -> Result<Self, InvalidCrl> {
        Self::decode(der).map_err(|_| InvalidCrl::Structure)
    }

    fn decode(der: &'a [u8]) -> der::Result<Self> {
        let mut reader = SliceReader::new(der)?;
        let (signed, algorithm, signature) = reader.sequence(|reader| {
            let signed = reader.tlv_bytes()?;
            Ok::<_, der::Error>((signed, reader.decode()?, reader.decode()?))
        })?;
        reader.finish()?;

        let mut reader = SliceReader::new(signed)?;
        let list = reader.sequence(|reader| {
            if Tag::peek(reader)? == Tag::Integer {
                reader.tlv_bytes()?;
            }
            Ok::<_, der::Error>(Self {
                signed,
                algorithm,
                signature,
                signed_algorithm: reader.decode()?,
                issuer: reader.decode()?,
                this_update: reader.decode()?,
                next_update: match next(reader) {
                    Some(Tag::UtcTime | Tag::GeneralizedTime) => Some(reader.decode()?),
                    _ => None,
                },
                revoked: match next(reader) {
                    Some(Tag::Sequence) => Some(reader.tlv_bytes()?),
                    _ => None,
                },
                extensions: reader
                    .context_specific(EXTENSIONS, TagMode::Explicit)?
                    .unwrap_or_default(),
            })
        })?;
        reader.finish()?;
        Ok(list)
    }

    fn entries(
        &self,
        mut visit: impl FnMut(Entry<'a>) -> Result<(), InvalidCrl>,
    ) -> Result<(), InvalidCrl> {
        let Some(revoked) = self.revoked else {
            return Ok(());
        };
        let mut result = Ok(());
        let read = SliceReader::new(revoked).and_then(|mut reader| {
            reader.sequence(|reader| {
                while !reader.is_finished() && result.is_ok() {
                    result = visit(reader.sequence(Entry::decode)?);
                }
                // What is left after a fault is of no interest, but may not stay unread.
                while !reader.is_finished() {
                    reader.tlv_bytes()?;
                }
                Ok::<_, der::Error>(())
            })
        });
        result.and(read.map_err(|_| InvalidCrl::Structure))
    }
}

impl<'a> Entry<'a> {
    fn decode(reader: &mut SliceReader<'a>) -> der::Result<Self> {
        let serial_number = AnyRef::decode(reader)?;
        serial_number.tag().assert_eq(Tag::Integer)?;
        Ok(Self {
            serial_number: serial_number.value(),
            revocation_date: reader.decode()?,
            extensions: match reader.is_finished() {
                true => Vec::new(),
                false => reader.decode()?,
            },
        })
    }
}

fn next(reader: &SliceReader<'_>) -> Option<Tag> {
    match reader.is_finished() {
        true => None,
        false => Tag::peek(reader).ok(),
    }
}

/// Whether the list is one for a certificate with these distribution points (§5.2, §6.3.3).
fn check_extensions(extensions: &[Extension], points: &[&GeneralName]) -> Result<(), InvalidCrl> {
    for extension in extensions {
        if extension.extn_id != ID_CE_ISSUING_DISTRIBUTION_POINT {
            match extension.critical {
                true => return Err(InvalidCrl::CriticalExtension(extension.extn_id.to_string())),
                false => continue,
            }
        }
        let scope = IssuingDistributionPoint::from_der(extension.extn_value.as_bytes())
            .map_err(|_| InvalidCrl::Structure)?;
        if scope.indirect_crl
            || scope.only_contains_ca_certs
            || scope.only_contains_attribute_certs
            || scope.only_some_reasons.is_some()
        {
            return Err(InvalidCrl::Scope);
        }
        match &scope.distribution_point {
            None => {}
            Some(DistributionPointName::FullName(names))
                if names.iter().any(|name| points.contains(&name)) => {}
            Some(_) => return Err(InvalidCrl::Scope),
        }
    }
    Ok(())
}

/// §5.3: with a critical extension that is not understood, the list can't be used for any
/// certificate. The one that is defined, `certificateIssuer`, belongs to indirect CRLs.
fn check_entry(extensions: &[Extension]) -> Result<(), InvalidCrl> {
    let critical = extensions
        .iter()
        .find(|extension| extension.critical && extension.extn_id != ID_CE_CRL_REASONS);
    match critical {
        Some(extension) => Err(InvalidCrl::CriticalExtension(extension.extn_id.to_string())),
        None => Ok(()),
    }
}

fn reason(extensions: &[Extension]) -> Result<Option<RevocationReason>, InvalidCrl> {
    let extension = extensions
        .iter()
        .find(|extension| extension.extn_id == ID_CE_CRL_REASONS);
    let reason = extension
        .map(|extension| CrlReason::from_der(extension.extn_value.as_bytes()))
        .transpose()
        .map_err(|_| InvalidCrl::Structure)?;
    // The codes are those of RFC 5280 on both sides.
    Ok(reason.map(|reason| RevocationReason::from(reason as u8)))
}

/// A list of revoked certificates that says nothing of a certificate.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum InvalidCrl {
    /// The certificate can't be read.
    #[error(transparent)]
    Certificate(InvalidCertificate),
    /// It has a critical extension, by this object identifier, that is not understood.
    #[error("the CRL has the critical extension {0}, which is not understood")]
    CriticalExtension(String),
    /// It is another issuer's.
    #[error("the CRL is of another issuer than the certificate")]
    Issuer,
    /// The issuer's certificate does not allow it to sign lists.
    #[error("the issuer's certificate is not for signing CRLs")]
    KeyUsage,
    /// It does not say when the next one comes, so nobody can tell if it is current (§5.1.2.5).
    #[error("the CRL does not say when the next one comes")]
    NoNextUpdate,
    /// It is not in force yet.
    #[error("the CRL is not in force before {}; is the clock right?", format_timestamp(*.0))]
    NotYetValid(SystemTime),
    /// It is not for certificates such as this one.
    #[error("the CRL is not one that covers the certificate")]
    Scope,
    /// Its signature is not the issuer's.
    #[error("the CRL's signature does not verify: {0}")]
    Signature(#[source] SignatureFault),
    /// The next one should have come.
    #[error("the CRL is old: the next one was due at {}", format_timestamp(*.0))]
    Stale(SystemTime),
    /// It is no CRL.
    #[error("this is not an X.509 CRL in DER")]
    Structure,
}

const EXTENSIONS: TagNumber = TagNumber(0);

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use der::Encode;
    use der::oid::ObjectIdentifier;
    use der::oid::db::rfc5912::ECDSA_WITH_SHA_256;
    use p256::ecdsa::signature::Signer;
    use p256::ecdsa::{DerSignature, SigningKey};
    use p256::elliptic_curve::Generate;
    use x509_cert::Certificate;
    use x509_cert::crl::{CertificateList, RevokedCert, TbsCertList};
    use x509_cert::ext::pkix::KeyUsages;
    use x509_cert::ext::pkix::crl::dp::Reasons;
    use x509_cert::serial_number::SerialNumber;

    use super::super::fixtures::{self, SERIAL};
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const URL: &str = "http://crl.example/7.crl";

    struct Pki {
        signer: SigningKey,
        leaf: Certificate,
        issuer: Certificate,
    }

    fn pki_with(issuer_extensions: Vec<Extension>) -> Pki {
        let (root, signer, key) = (
            SigningKey::generate(),
            SigningKey::generate(),
            SigningKey::generate(),
        );
        let extensions = vec![
            fixtures::subject_alt_name(),
            fixtures::crl_distribution_points(&[URL]),
        ];
        Pki {
            leaf: fixtures::certificate(("", &key), ("CN=signer", &signer), extensions),
            issuer: fixtures::certificate(
                ("CN=signer", &signer),
                ("CN=root", &root),
                issuer_extensions,
            ),
            signer,
        }
    }

    fn pki() -> Pki {
        pki_with(vec![fixtures::ca()])
    }

    fn time(time: SystemTime) -> Time {
        let seconds = time.duration_since(UNIX_EPOCH).unwrap().as_secs();
        Time::try_from(UNIX_EPOCH + Duration::from_secs(seconds)).unwrap()
    }

    fn list() -> TbsCertList {
        let now = fixtures::now();
        TbsCertList {
            version: x509_cert::Version::V2,
            signature: algorithm(),
            issuer: fixtures::name("CN=signer"),
            this_update: time(now - HOUR),
            next_update: Some(time(now + HOUR)),
            revoked_certificates: None,
            crl_extensions: None,
        }
    }

    fn algorithm() -> AlgorithmIdentifierOwned {
        AlgorithmIdentifierOwned {
            oid: ECDSA_WITH_SHA_256,
            parameters: None,
        }
    }

    fn entry(serial: &[u8], extensions: Vec<Extension>) -> RevokedCert {
        RevokedCert {
            serial_number: SerialNumber::new(serial).unwrap(),
            revocation_date: time(UNIX_EPOCH + HOUR),
            crl_entry_extensions: Some(extensions).filter(|extensions| !extensions.is_empty()),
        }
    }

    fn reason_code(critical: bool) -> Extension {
        fixtures::extension(ID_CE_CRL_REASONS, critical, CrlReason::Superseded)
    }

    fn sign(list: TbsCertList, signer: &SigningKey) -> Vec<u8> {
        let signature: DerSignature = signer.sign(&list.to_der().unwrap());
        CertificateList {
            tbs_cert_list: list,
            signature_algorithm: algorithm(),
            signature: BitString::from_bytes(signature.as_bytes()).unwrap(),
        }
        .to_der()
        .unwrap()
    }

    fn status(pki: &Pki, list: TbsCertList) -> Result<RevocationStatus, InvalidCrl> {
        let chain = fixtures::chain(&[&pki.leaf, &pki.issuer]);
        chain.revocation_status(&sign(list, &pki.signer), fixtures::now())
    }

    fn scope(change: impl Fn(&mut IssuingDistributionPoint)) -> TbsCertList {
        let mut scope = IssuingDistributionPoint {
            distribution_point: Some(fixtures::full_name(URL)),
            only_contains_user_certs: true,
            only_contains_ca_certs: false,
            only_some_reasons: None,
            indirect_crl: false,
            only_contains_attribute_certs: false,
        };
        change(&mut scope);
        let extension = fixtures::extension(ID_CE_ISSUING_DISTRIBUTION_POINT, true, scope);
        TbsCertList {
            crl_extensions: Some(vec![extension]),
            ..list()
        }
    }

    #[test]
    fn tells_good_from_revoked() {
        let pki = pki();
        let good = status(&pki, list()).unwrap();
        assert!(matches!(good, RevocationStatus::Good { .. }), "{good:?}");
        let others = TbsCertList {
            revoked_certificates: Some(vec![entry(&[0x12, 0x35], vec![]), entry(&[1], vec![])]),
            ..list()
        };
        let good = status(&pki, others).unwrap();
        assert!(matches!(good, RevocationStatus::Good { .. }), "{good:?}");

        for (extensions, reason) in [
            (vec![], None),
            (vec![reason_code(false)], Some(RevocationReason::Superseded)),
            (vec![reason_code(true)], Some(RevocationReason::Superseded)),
        ] {
            let revoked = TbsCertList {
                revoked_certificates: Some(vec![
                    entry(&[1], vec![]),
                    entry(SERIAL, extensions),
                    entry(&[2], vec![]),
                ]),
                ..list()
            };
            let time = UNIX_EPOCH + HOUR;
            assert_eq!(
                status(&pki, revoked),
                Ok(RevocationStatus::Revoked { time, reason })
            );
        }
    }

    #[test]
    fn says_where_the_issuer_is_not_known() {
        let pki = pki();
        let chain = fixtures::chain(&[&pki.leaf]);
        assert_eq!(
            chain.revocation_status(b"", fixtures::now()),
            Ok(RevocationStatus::IssuerUnknown)
        );
    }

    #[test]
    fn takes_a_part_only_where_the_certificate_points_to_it() {
        let pki = pki();
        assert!(status(&pki, scope(|_| {})).is_ok());
        assert!(status(&pki, scope(|scope| scope.distribution_point = None)).is_ok());
        let other = || Some(fixtures::full_name("http://crl.example/8.crl"));
        for list in [
            scope(|scope| scope.distribution_point = other()),
            scope(|scope| scope.only_contains_ca_certs = true),
            scope(|scope| scope.only_contains_attribute_certs = true),
            scope(|scope| scope.indirect_crl = true),
            scope(|scope| scope.only_some_reasons = Some(Reasons::KeyCompromise.into())),
        ] {
            assert_eq!(status(&pki, list), Err(InvalidCrl::Scope));
        }
    }

    #[test]
    fn refuses_what_is_critical_and_not_understood() {
        let pki = pki();
        let oid = ObjectIdentifier::new_unwrap("2.5.29.27");
        let odd = |critical| fixtures::extension(oid, critical, 1_u8);
        let expected = Err(InvalidCrl::CriticalExtension("2.5.29.27".into()));
        let delta = TbsCertList {
            crl_extensions: Some(vec![odd(true)]),
            ..list()
        };
        assert_eq!(status(&pki, delta), expected);
        let indirect = TbsCertList {
            revoked_certificates: Some(vec![entry(&[1], vec![odd(true)]), entry(&[2], vec![])]),
            ..list()
        };
        assert_eq!(status(&pki, indirect), expected);
        let harmless = TbsCertList {
            crl_extensions: Some(vec![odd(false)]),
            revoked_certificates: Some(vec![entry(&[1], vec![odd(false)])]),
            ..list()
        };
        assert!(status(&pki, harmless).is_ok());
    }

    #[test]
    fn refuses_what_is_not_current() {
        let pki = pki();
        let now = fixtures::now();
        let early = TbsCertList {
            this_update: time(now + HOUR / 2),
            ..list()
        };
        assert!(matches!(
            status(&pki, early),
            Err(InvalidCrl::NotYetValid(_))
        ));
        let stale = TbsCertList {
            next_update: Some(time(now - HOUR / 2)),
            ..list()
        };
        assert!(matches!(status(&pki, stale), Err(InvalidCrl::Stale(_))));
        let endless = TbsCertList {
            next_update: None,
            ..list()
        };
        assert_eq!(status(&pki, endless), Err(InvalidCrl::NoNextUpdate));
    }

    #[test]
    fn refuses_what_the_issuer_did_not_sign() {
        let pki = pki();
        let chain = fixtures::chain(&[&pki.leaf, &pki.issuer]);
        let forged = sign(list(), &SigningKey::generate());
        assert_eq!(
            chain.revocation_status(&forged, fixtures::now()),
            Err(InvalidCrl::Signature(SignatureFault::Wrong))
        );
        let other = TbsCertList {
            issuer: fixtures::name("CN=other"),
            ..list()
        };
        assert_eq!(status(&pki, other), Err(InvalidCrl::Issuer));
        let two_algorithms = TbsCertList {
            signature: AlgorithmIdentifierOwned {
                oid: ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3"),
                parameters: None,
            },
            ..list()
        };
        assert_eq!(
            status(&pki, two_algorithms),
            Err(InvalidCrl::Signature(SignatureFault::Wrong))
        );
    }

    #[test]
    fn refuses_an_issuer_that_may_not_sign_lists() {
        let oid = ObjectIdentifier::new_unwrap("2.5.29.15");
        let usage = |usages: KeyUsages| fixtures::extension(oid, true, KeyUsage(usages.into()));
        let pki = pki_with(vec![usage(KeyUsages::KeyCertSign)]);
        assert_eq!(status(&pki, list()), Err(InvalidCrl::KeyUsage));
        let pki = pki_with(vec![usage(KeyUsages::CRLSign)]);
        assert!(status(&pki, list()).is_ok());
    }

    #[test]
    fn mangled_lists_do_no_harm() {
        let pki = pki();
        let chain = fixtures::chain(&[&pki.leaf, &pki.issuer]);
        let list = TbsCertList {
            revoked_certificates: Some(vec![entry(SERIAL, vec![reason_code(false)])]),
            ..scope(|_| {})
        };
        let crl = sign(list, &pki.signer);
        let now = fixtures::now();
        for position in 0..crl.len() {
            let mut mangled = crl.clone();
            mangled[position] ^= 0x21;
            let _ = chain.revocation_status(&mangled, now);
            let _ = RevocationList::read(&mangled).map(|list| {
                let _ = list.entries(|entry| check_entry(&entry.extensions));
                let _ = check_extensions(&list.extensions, &[]);
            });
            let cut = chain.revocation_status(&crl[..position], now);
            assert_eq!(cut, Err(InvalidCrl::Structure), "{position}");
        }
        let longer = [crl.as_slice(), &[0]].concat();
        assert_eq!(
            chain.revocation_status(&longer, now),
            Err(InvalidCrl::Structure)
        );
    }
}
