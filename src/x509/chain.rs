use std::collections::BTreeSet;
use std::time::SystemTime;

use der::asn1::BitString;
use der::{Decode, Encode, Reader, SliceReader};
use rustls_pki_types::CertificateDer;
use thiserror::Error;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_cert::{Certificate, TbsCertificate};

use super::names::{self, list};
use super::{CertificateDetails, CertificateId, InvalidCertificate, csr, pem_chain};
use crate::jose::{SignatureFault, verify_signature};
use crate::protocol::{Identifier, printable};

/// A certificate chain as a CA hands it out: the server's certificate first, then the certificate
/// that signed it, and so on, without the root (RFC 8555 §7.4.2).
#[derive(Clone, Debug)]
pub struct CertificateChain {
    pem: String,
    certificates: Vec<CertificateDer<'static>>,
    parsed: Vec<Certificate>,
    identifiers: BTreeSet<Identifier>,
}

impl CertificateChain {
    /// The most certificates that a chain may have.
    pub const MAX_LENGTH: usize = 16;

    /// Reads a chain in PEM: certificates and nothing else, at least one (§9.1, §11.4).
    ///
    /// Each certificate must be one, and each but the first must have signed the one before it. See
    /// [`check`](Self::check) for whether the chain is the one that was asked for.
    pub fn from_pem(pem: &str) -> Result<Self, InvalidChain> {
        let ders = pem_chain::parse(pem)?;
        let mut parsed = Vec::with_capacity(ders.len());
        for (index, der) in ders.iter().enumerate() {
            let certificate =
                Certificate::from_der(der).map_err(|source| InvalidChain::Der { index, source })?;
            parsed.push(certificate);
        }
        let leaf = parsed.first().ok_or(InvalidChain::Empty)?;
        let identifiers = identifiers(leaf.tbs_certificate())
            .map_err(|source| InvalidChain::Der { index: 0, source })?;

        for (index, pair) in parsed.windows(2).enumerate() {
            let ([certificate, issuer], Some(der)) = (pair, ders.get(index)) else {
                continue;
            };
            check_issued(certificate, der, issuer)
                .map_err(|fault| InvalidChain::Broken { index, fault })?;
        }

        Ok(Self {
            pem: pem.to_owned(),
            certificates: ders.into_iter().map(CertificateDer::from).collect(),
            parsed,
            identifiers,
        })
    }

    /// The certificates in a PEM of roots, which are no chain. Bundles of roots have text between
    /// them, and it is the caller who trusts them: so text is passed over, and nothing else.
    #[cfg(feature = "hyper")]
    pub(crate) fn roots_from_pem(pem: &str) -> Result<Vec<CertificateDer<'static>>, InvalidChain> {
        let blocks = pem::parse_many(pem).map_err(|_| InvalidChain::Base64)?;
        if let Some(other) = blocks.iter().find(|block| block.tag() != "CERTIFICATE") {
            return Err(InvalidChain::Label(other.tag().to_owned()));
        }
        match blocks.is_empty() {
            true => Err(InvalidChain::Empty),
            false => Ok(blocks
                .into_iter()
                .map(|block| CertificateDer::from(block.into_contents()))
                .collect()),
        }
    }

    /// Checks that this is the chain that was asked for: the server's certificate has this public
    /// key (a DER `SubjectPublicKeyInfo`), names these identifiers and no others, and is valid now.
    pub fn check<'a>(
        &self,
        public_key_info: &[u8],
        identifiers: impl IntoIterator<Item = &'a Identifier>,
        now: SystemTime,
    ) -> Result<(), InvalidChain> {
        let leaf = self.parsed_leaf();
        let leaf_key = leaf.subject_public_key_info().to_der();
        if leaf_key.is_ok_and(|key| key != public_key_info) {
            return Err(InvalidChain::OtherKey);
        }

        let wanted: BTreeSet<&Identifier> = identifiers.into_iter().collect();
        let found: BTreeSet<&Identifier> = self.identifiers.iter().collect();
        if wanted != found {
            let list = |a: &BTreeSet<&Identifier>, b: &BTreeSet<&Identifier>| {
                a.difference(b)
                    .map(|&identifier| identifier.clone())
                    .collect()
            };
            return Err(InvalidChain::OtherNames {
                missing: list(&wanted, &found),
                unwanted: list(&found, &wanted),
            });
        }

        if now < self.not_before() {
            return Err(InvalidChain::NotYetValid(self.not_before()));
        }
        if now > self.not_after() {
            return Err(InvalidChain::Expired(self.not_after()));
        }
        Ok(())
    }

    /// The chain in PEM, as the CA sent it.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The certificates in DER, the server's first, as rustls takes them.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// The server's certificate in DER.
    #[expect(
        clippy::indexing_slicing,
        reason = "`from_pem` refuses a chain without certificates"
    )]
    pub fn leaf(&self) -> &CertificateDer<'static> {
        &self.certificates[0]
    }

    /// What the server's certificate says of itself.
    pub fn details(&self) -> Result<CertificateDetails, InvalidCertificate> {
        CertificateDetails::read(self.parsed_leaf())
    }

    /// The server's certificate's name in renewal information (RFC 9773 §4.1).
    pub fn certificate_id(&self) -> Result<CertificateId, InvalidCertificate> {
        CertificateId::of(self.leaf())
    }

    /// The names that the server's certificate is for.
    pub fn identifiers(&self) -> &BTreeSet<Identifier> {
        &self.identifiers
    }

    /// From when the server's certificate is valid.
    pub fn not_before(&self) -> SystemTime {
        self.parsed_leaf().validity().not_before.to_system_time()
    }

    /// Until when the server's certificate is valid.
    pub fn not_after(&self) -> SystemTime {
        self.parsed_leaf().validity().not_after.to_system_time()
    }

    /// The serial number of the server's certificate, in hexadecimal.
    pub fn serial_number(&self) -> String {
        hex(self.parsed_leaf().serial_number().as_bytes())
    }

    /// Who issued the last certificate of the chain: the name of the root to trust.
    pub fn root_issuer(&self) -> String {
        let last = self.parsed.last().map(Certificate::tbs_certificate);
        last.unwrap_or_else(|| self.parsed_leaf())
            .issuer()
            .to_string()
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "`from_pem` refuses a chain without certificates"
    )]
    pub(super) fn parsed_leaf(&self) -> &TbsCertificate {
        self.parsed[0].tbs_certificate()
    }

    /// The certificates, the server's first.
    pub(super) fn parsed(&self) -> &[Certificate] {
        &self.parsed
    }
}

pub(super) fn identifiers(leaf: &TbsCertificate) -> der::Result<BTreeSet<Identifier>> {
    let extension = leaf.get_extension::<SubjectAltName>()?;
    let (_, names) = extension.unwrap_or((false, SubjectAltName(Vec::new())));
    Ok(names.0.iter().map(names::identifier).collect())
}

pub(super) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

pub(super) fn check_issued(
    certificate: &Certificate,
    der: &[u8],
    issuer: &Certificate,
) -> Result<(), ChainFault> {
    if certificate.tbs_certificate().issuer() != issuer.tbs_certificate().subject() {
        return Err(ChainFault::Issuer);
    }
    check_signature(
        issuer,
        certificate.signature_algorithm(),
        signed_octets(der).map_err(|_| ChainFault::Signature(SignatureFault::Unsupported))?,
        certificate.signature(),
    )
    .map_err(ChainFault::Signature)
}

/// Verifies what a CA has signed: a certificate or a list of revoked ones.
pub(super) fn check_signature(
    issuer: &Certificate,
    algorithm: &AlgorithmIdentifierOwned,
    message: &[u8],
    signature: &BitString,
) -> Result<(), SignatureFault> {
    let key = issuer.tbs_certificate().subject_public_key_info();
    let unreadable = |_| SignatureFault::Unsupported;
    verify_signature(
        &csr::algorithm_id(&key.algorithm).map_err(unreadable)?,
        &csr::algorithm_id(algorithm).map_err(unreadable)?,
        key.subject_public_key.raw_bytes(),
        message,
        signature.raw_bytes(),
    )
}

/// The octets that a certificate's signature is over, as they came: encoding them anew could differ.
fn signed_octets(der: &[u8]) -> der::Result<&[u8]> {
    SliceReader::new(der)?.sequence(|reader| {
        let signed = reader.tlv_bytes()?;
        while !reader.is_finished() {
            reader.tlv_bytes()?;
        }
        Ok(signed)
    })
}

/// A chain that is none, or not the one that was asked for.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum InvalidChain {
    /// The base64 in a PEM block is wrong.
    #[error("a PEM block is damaged: its base64 or its end line is wrong")]
    Base64,
    /// A certificate was not issued by the one after it.
    #[error("certificate {index} of the chain is not issued by the next one: {fault}")]
    Broken {
        /// The certificate's place, counted from 0.
        index: usize,
        /// What does not fit.
        fault: ChainFault,
    },
    /// A PEM block holds no X.509 certificate.
    #[error("certificate {index} of the chain is not an X.509 certificate: {source}")]
    Der {
        /// The certificate's place, counted from 0.
        index: usize,
        /// What is wrong with its DER.
        source: der::Error,
    },
    /// There is no certificate.
    #[error("there is no certificate in it")]
    Empty,
    /// The server's certificate is no longer valid.
    #[error("the certificate expired at {}", date(.0))]
    Expired(SystemTime),
    /// A PEM block holds something else.
    #[error("it holds a `{}` where only certificates may be", printable(.0))]
    Label(String),
    /// The server's certificate is not valid yet.
    #[error("the certificate is not valid before {}; is the clock right?", date(.0))]
    NotYetValid(SystemTime),
    /// An alternate chain is for another certificate than the first.
    #[error("the alternate chain is for another certificate")]
    OtherLeaf,
    /// The server's certificate has a public key that is not that of the request.
    #[error("the certificate is for another key")]
    OtherKey,
    /// The server's certificate names other identifiers than the request.
    #[error(
        "the certificate is for other names: it lacks {}, and has unasked {}",
        list(.missing),
        list(.unwanted)
    )]
    OtherNames {
        /// Those that were asked for and are not there.
        missing: Vec<Identifier>,
        /// Those that are there and were not asked for.
        unwanted: Vec<Identifier>,
    },
    /// There is text outside of the PEM blocks.
    #[error("it holds text that is not part of a certificate")]
    Text,
    /// There are too many certificates.
    #[error("it holds more than {} certificates", CertificateChain::MAX_LENGTH)]
    TooLong,
    /// The text ends within a PEM block.
    #[error("it ends within a certificate")]
    Truncated,
}

/// Why a certificate is not issued by the next one.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum ChainFault {
    /// The issuer that it names has another name.
    #[error("its issuer is another")]
    Issuer,
    /// Its signature.
    #[error(transparent)]
    Signature(SignatureFault),
}

fn date(time: &SystemTime) -> String {
    crate::protocol::format_timestamp(*time)
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;
    use std::time::Duration;

    use der::EncodePem;
    use der::pem::LineEnding;
    use p256::ecdsa::{DerSignature, SigningKey};
    use p256::elliptic_curve::Generate;
    use x509_cert::builder::profile::BuilderProfile;
    use x509_cert::builder::{Builder, CertificateBuilder};
    use x509_cert::ext::{Extension, ToExtension};
    use x509_cert::name::Name;
    use x509_cert::serial_number::SerialNumber;
    use x509_cert::spki::SubjectPublicKeyInfoOwned;
    use x509_cert::time::Validity;

    use super::*;
    use crate::protocol::Identifiers;
    use crate::x509::CertificateKey;

    struct Profile {
        subject: &'static str,
        issuer: &'static str,
        names: Vec<Identifier>,
    }

    impl BuilderProfile for Profile {
        fn get_issuer(&self, _: &Name) -> Name {
            Name::from_str(self.issuer).unwrap()
        }

        fn get_subject(&self) -> Name {
            match self.subject {
                "" => Name::default(),
                subject => Name::from_str(subject).unwrap(),
            }
        }

        fn build_extensions(
            &self,
            _: x509_cert::spki::SubjectPublicKeyInfoRef<'_>,
            _: x509_cert::spki::SubjectPublicKeyInfoRef<'_>,
            tbs: &x509_cert::TbsCertificate,
        ) -> x509_cert::builder::Result<Vec<Extension>> {
            let names = self.names.iter().filter_map(names::general_name).collect();
            Ok(vec![
                SubjectAltName(names).to_extension(tbs.subject(), &[])?,
            ])
        }
    }

    fn issue(profile: Profile, public_key_info: &[u8], signer: &SigningKey) -> String {
        let validity = Validity::from_now(Duration::from_secs(3600)).unwrap();
        let serial = SerialNumber::new(&[0x12, 0x34]).unwrap();
        let key = SubjectPublicKeyInfoOwned::from_der(public_key_info).unwrap();
        CertificateBuilder::new(profile, serial, validity, key)
            .unwrap()
            .build::<_, DerSignature>(signer)
            .unwrap()
            .to_pem(LineEnding::LF)
            .unwrap()
    }

    fn public_key_info(key: &SigningKey) -> Vec<u8> {
        SubjectPublicKeyInfoOwned::from_key(key.verifying_key())
            .unwrap()
            .to_der()
            .unwrap()
    }

    struct Fixture {
        key: CertificateKey,
        names: Identifiers,
        leaf: String,
        issuer: String,
        stranger: String,
    }

    fn fixture() -> Fixture {
        let (root, signer) = (SigningKey::generate(), SigningKey::generate());
        let key = CertificateKey::generate().unwrap();
        let names = Identifiers::collect(["example.com", "192.0.2.1"]).unwrap();
        let leaf = Profile {
            subject: "",
            issuer: "CN=signer",
            names: names.to_vec(),
        };
        let issuer = || Profile {
            subject: "CN=signer",
            issuer: "CN=root",
            names: vec![],
        };
        Fixture {
            leaf: issue(leaf, key.public_key_info(), &signer),
            issuer: issue(issuer(), &public_key_info(&signer), &root),
            stranger: issue(issuer(), &public_key_info(&SigningKey::generate()), &root),
            key,
            names,
        }
    }

    #[test]
    fn takes_what_was_asked_for() {
        let Fixture {
            key,
            names,
            leaf,
            issuer,
            ..
        } = fixture();
        for pem in [leaf.clone(), format!("{leaf}\n{issuer}")] {
            let chain = CertificateChain::from_pem(&pem).unwrap();
            chain
                .check(key.public_key_info(), &names, SystemTime::now())
                .unwrap();
            assert_eq!(chain.pem(), pem);
            assert_eq!(chain.serial_number(), "1234");
            assert_eq!(chain.identifiers(), &names.iter().cloned().collect());
        }
        let chain = CertificateChain::from_pem(&format!("{leaf}{issuer}")).unwrap();
        assert_eq!(chain.root_issuer(), "CN=root");
        assert_eq!(chain.certificates().len(), 2);
    }

    #[cfg(feature = "hyper")]
    #[test]
    fn roots_may_have_text_between_them() {
        let Fixture { leaf, issuer, .. } = fixture();
        let bundle = format!("Some Root\n=========\n{leaf}\nAnother\n{issuer}");
        assert_eq!(CertificateChain::roots_from_pem(&bundle).unwrap().len(), 2);
        assert_eq!(
            CertificateChain::roots_from_pem("text"),
            Err(InvalidChain::Empty)
        );
    }

    #[test]
    fn refuses_another_key_name_or_time() {
        let Fixture {
            key, names, leaf, ..
        } = fixture();
        let chain = CertificateChain::from_pem(&leaf).unwrap();
        let now = SystemTime::now();
        let hour = Duration::from_secs(3600);

        let other = CertificateKey::generate().unwrap();
        assert_eq!(
            chain.check(other.public_key_info(), &names, now),
            Err(InvalidChain::OtherKey)
        );

        let others = Identifiers::collect(["example.com", "www.example.com"]).unwrap();
        let error = chain
            .check(key.public_key_info(), &others, now)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the certificate is for other names: it lacks www.example.com, and has unasked 192.0.2.1"
        );

        for (now, late) in [(now + 2 * hour, true), (now - 2 * hour, false)] {
            let error = chain.check(key.public_key_info(), &names, now).unwrap_err();
            assert_eq!(matches!(error, InvalidChain::Expired(_)), late);
            assert_eq!(matches!(error, InvalidChain::NotYetValid(_)), !late);
        }
    }

    #[test]
    fn refuses_a_broken_chain() {
        let Fixture {
            leaf,
            issuer,
            stranger,
            ..
        } = fixture();
        let broken = |fault| InvalidChain::Broken { index: 0, fault };
        let wrong = broken(ChainFault::Signature(SignatureFault::Wrong));
        for (pem, expected) in [
            (format!("{leaf}{stranger}"), wrong),
            (format!("{issuer}{leaf}"), broken(ChainFault::Issuer)),
            (leaf.repeat(2), broken(ChainFault::Issuer)),
            (leaf.repeat(17), InvalidChain::TooLong),
        ] {
            assert_eq!(CertificateChain::from_pem(&pem).unwrap_err(), expected);
        }
        let junk = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n";
        let error = CertificateChain::from_pem(&format!("{leaf}{junk}")).unwrap_err();
        assert!(matches!(error, InvalidChain::Der { index: 1, .. }));
    }
}
