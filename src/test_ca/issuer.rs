use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use der::pem::LineEnding;
use der::{Decode, Encode, EncodePem};
use p256::ecdsa::{DerSignature, SigningKey};
use p256::elliptic_curve::Generate;
use p256::pkcs8::EncodePrivateKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_cert::Certificate;
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::profile::cabf::Root;
use x509_cert::builder::profile::cabf::tls::{CertificateType, Subordinate, Subscriber};
use x509_cert::builder::{Builder, CertificateBuilder};
use x509_cert::ext::pkix::{SubjectAltName, SubjectKeyIdentifier};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{SubjectPublicKeyInfoOwned, SubjectPublicKeyInfoRef};
use x509_cert::time::{Time, Validity};

use super::random::Random;
use super::settings::BadChain;
use crate::error::BoxError;
use crate::protocol::Identifier;
use crate::x509::general_name;

/// The CA's keys and certificates: a root, and an intermediate that issues.
#[derive(Debug)]
pub(super) struct Issuer {
    random: Random,
    root_key: SigningKey,
    root: CertificateDer<'static>,
    root_pem: String,
    intermediate_key: SigningKey,
    intermediate_pem: String,
}

impl Issuer {
    /// Makes new keys and certificates for them.
    pub(super) fn generate(random: Random) -> Result<Self, BoxError> {
        let root_key = SigningKey::try_generate()?;
        let root = CertificateBuilder::new(
            Root::new(false, Name::from_str(ROOT)?)?,
            serial_number(&random)?,
            validity(SystemTime::now(), DECADE)?,
            SubjectPublicKeyInfoOwned::from_key(root_key.verifying_key())?,
        )?;

        let intermediate_key = SigningKey::try_generate()?;
        let intermediate = CertificateBuilder::new(
            Subordinate {
                issuer: Name::from_str(ROOT)?,
                subject: Name::from_str(INTERMEDIATE)?,
                path_len_constraint: Some(0),
                emits_ocsp_response: false,
                client_auth: false,
            },
            serial_number(&random)?,
            validity(SystemTime::now(), DECADE)?,
            SubjectPublicKeyInfoOwned::from_key(intermediate_key.verifying_key())?,
        )?;

        let root = sign(root, &root_key)?;
        Ok(Self {
            root: root.to_der()?.into(),
            root_pem: root.to_pem(LineEnding::LF)?,
            intermediate_pem: sign(intermediate, &root_key)?.to_pem(LineEnding::LF)?,
            random,
            root_key,
            intermediate_key,
        })
    }

    pub(super) fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    pub(super) fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// The certificate, with its key, by which the CA itself speaks https.
    pub(super) fn tls_identity(
        &self,
        address: IpAddr,
    ) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), BoxError> {
        let key = SigningKey::try_generate()?;
        let mut identifiers: Vec<Identifier> = vec![
            "localhost".parse()?,
            Ipv4Addr::LOCALHOST.into(),
            Ipv6Addr::LOCALHOST.into(),
        ];
        if !identifiers.contains(&address.into()) {
            identifiers.push(address.into());
        }

        let certificate = self.server_certificate(
            ROOT,
            &self.root_key,
            &SubjectPublicKeyInfoOwned::from_key(key.verifying_key())?.to_der()?,
            &identifiers,
            validity(SystemTime::now(), DECADE)?,
        )?;
        let key = PrivatePkcs8KeyDer::from(key.to_pkcs8_der()?.as_bytes().to_vec());
        Ok((certificate.to_der()?.into(), key.into()))
    }

    /// Issues the certificate of an order, for a key given as a DER `SubjectPublicKeyInfo`.
    pub(super) fn issue(
        &self,
        public_key_info: &[u8],
        identifiers: BTreeSet<Identifier>,
        not_before: SystemTime,
        lifetime: Duration,
    ) -> Result<Issued, BoxError> {
        let certificate = self.server_certificate(
            INTERMEDIATE,
            &self.intermediate_key,
            public_key_info,
            &identifiers,
            validity(not_before, lifetime)?,
        )?;
        Ok(Issued {
            public_key_info: public_key_info.to_vec(),
            identifiers,
            leaf: certificate.to_der()?,
            leaf_pem: certificate.to_pem(LineEnding::LF)?,
            issuer_pem: self.intermediate_pem.clone(),
        })
    }

    /// A chain that is not the one that was issued.
    pub(super) fn bad_chain(&self, issued: &Issued, fault: BadChain) -> Result<String, BoxError> {
        let key = issued.public_key_info.as_slice();
        let identifiers = issued.identifiers.clone();
        let now = SystemTime::now();
        let bad = match fault {
            BadChain::Expired => self.issue(key, identifiers, now - 2 * DAY, DAY)?,
            BadChain::Html => return Ok("<!doctype html><title>503</title>".to_owned()),
            BadChain::NotYetValid => self.issue(key, identifiers, now + DAY, DAY)?,
            BadChain::OtherKey => {
                let other = SigningKey::try_generate()?;
                let key = SubjectPublicKeyInfoOwned::from_key(other.verifying_key())?;
                self.issue(&key.to_der()?, identifiers, now, DAY)?
            }
            BadChain::OtherNames => {
                let other = "other.example".parse()?;
                self.issue(key, BTreeSet::from([other]), now, DAY)?
            }
            BadChain::Truncated => {
                let pem = &issued.leaf_pem;
                return Ok(pem.chars().take(pem.len() / 2).collect());
            }
            BadChain::Unlinked => Issued {
                issuer_pem: Self::generate(self.random.clone())?.intermediate_pem,
                ..issued.clone()
            },
        };
        Ok(bad.pem())
    }

    fn server_certificate<'a>(
        &self,
        issuer: &str,
        issuer_key: &SigningKey,
        public_key_info: &[u8],
        identifiers: impl IntoIterator<Item = &'a Identifier>,
        validity: Validity,
    ) -> Result<Certificate, BoxError> {
        let names: Vec<_> = identifiers.into_iter().filter_map(general_name).collect();
        let profile = Subscriber {
            certificate_type: CertificateType::domain_validated(Name::default(), names.clone())?,
            issuer: Name::from_str(issuer)?,
            client_auth: false,
        };
        let mut builder = CertificateBuilder::new(
            profile,
            serial_number(&self.random)?,
            validity,
            SubjectPublicKeyInfoOwned::from_der(public_key_info)?,
        )?;
        // The profile leaves these two to its caller. The names are critical, as the subject is
        // empty (RFC 5280 §4.2.1.6).
        builder.add_extension(&SubjectAltName(names))?;
        let key = SubjectPublicKeyInfoRef::from_der(public_key_info)?;
        builder.add_extension(&SubjectKeyIdentifier::try_from(key)?)?;
        sign(builder, issuer_key)
    }
}

/// A certificate that was issued, and the one that signed it.
#[derive(Clone, Debug)]
pub(super) struct Issued {
    pub(super) identifiers: BTreeSet<Identifier>,
    pub(super) public_key_info: Vec<u8>,
    pub(super) leaf: Vec<u8>,
    leaf_pem: String,
    issuer_pem: String,
}

impl Issued {
    /// The chain as it is downloaded (RFC 8555 §9.1): without the root, which clients have.
    pub(super) fn pem(&self) -> String {
        format!("{}{}", self.leaf_pem, self.issuer_pem)
    }
}

fn sign<P: BuilderProfile>(
    builder: CertificateBuilder<P>,
    key: &SigningKey,
) -> Result<Certificate, BoxError> {
    Ok(builder.build::<_, DerSignature>(key)?)
}

/// 128 random bits, the last of them set so that the number is positive.
fn serial_number(random: &Random) -> Result<SerialNumber, BoxError> {
    let mut octets = random.octets::<16>().map_err(rustls::Error::from)?;
    if let Some(last) = octets.last_mut() {
        *last |= 1;
    }
    Ok(SerialNumber::new(&octets)?)
}

fn validity(not_before: SystemTime, lifetime: Duration) -> Result<Validity, BoxError> {
    let not_after = not_before
        .checked_add(lifetime)
        .ok_or("the lifetime ends after any time that a certificate can hold")?;
    let not_before = not_before
        .checked_sub(CLOCK_SKEW)
        .ok_or("the lifetime begins before any time that a certificate can hold")?;
    Ok(Validity::new(
        Time::try_from(not_before)?,
        Time::try_from(not_after)?,
    ))
}

/// What the clocks of clients may be behind.
const CLOCK_SKEW: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3_600);
const DECADE: Duration = Duration::from_secs(3_650 * 24 * 3_600);
const INTERMEDIATE: &str = "CN=certwright test CA intermediate,O=certwright,C=AQ";
const ROOT: &str = "CN=certwright test CA root,O=certwright,C=AQ";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use der::oid::AssociatedOid;
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{ServerName, UnixTime};
    use x509_cert::ext::pkix::{
        AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage,
    };

    use super::*;
    use crate::provider::crypto_provider;
    use crate::x509::CertificateKey;

    fn issuer() -> Issuer {
        Issuer::generate(Random::new(crypto_provider().unwrap())).unwrap()
    }

    fn verify(issuer: &Issuer, pem: &str, name: &str) -> Result<(), rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(issuer.root().clone()).unwrap();
        let verifier = WebPkiServerVerifier::builder_with_provider(
            Arc::new(roots),
            crypto_provider().unwrap(),
        );
        let chain: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
            .map(Result::unwrap)
            .collect();
        let (leaf, intermediates) = chain.split_first().unwrap();
        let name = ServerName::try_from(name).unwrap();
        let verifier = verifier.build().unwrap();
        verifier
            .verify_server_cert(leaf, intermediates, &name, &[], UnixTime::now())
            .map(drop)
    }

    #[test]
    fn webpki_trusts_what_it_issues() {
        let issuer = issuer();
        let key = CertificateKey::generate().unwrap();
        let names = ["example.test", "*.example.test", "127.0.0.1", "::1"];
        let identifiers = names.map(|name| name.parse().unwrap());
        let issued = issuer
            .issue(
                key.public_key_info(),
                identifiers.into(),
                SystemTime::now(),
                DAY,
            )
            .unwrap();
        for name in ["example.test", "a.example.test", "127.0.0.1", "::1"] {
            verify(&issuer, &issued.pem(), name).unwrap();
        }
        verify(&issuer, &issued.pem(), "a.b.example.test").unwrap_err();
        // Without its issuer, or by another CA, it is worth nothing.
        verify(&issuer, &issued.leaf_pem, "example.test").unwrap_err();
        verify(&self::issuer(), &issued.pem(), "example.test").unwrap_err();
    }

    #[test]
    fn follows_the_profile() {
        let key = CertificateKey::generate().unwrap();
        let names = BTreeSet::from(["example.test".parse().unwrap()]);
        let now = SystemTime::now();
        let issued = issuer().issue(key.public_key_info(), names, now, DAY);
        let leaf = Certificate::from_der(&issued.unwrap().leaf).unwrap();
        let tbs = leaf.tbs_certificate();
        assert!(tbs.subject().is_empty());
        assert!((15..=17).contains(&tbs.serial_number().as_bytes().len()));
        assert!(tbs.validity().not_before.to_system_time() < now);

        let critical = |oid| {
            let mut extensions = tbs.extensions().unwrap().iter();
            let extension = extensions.find(|extension| extension.extn_id == oid);
            extension.unwrap().critical
        };
        assert!(critical(SubjectAltName::OID));
        assert!(critical(KeyUsage::OID));
        assert!(critical(BasicConstraints::OID));
        assert!(!critical(ExtendedKeyUsage::OID));
        assert!(!critical(SubjectKeyIdentifier::OID));
        assert!(!critical(AuthorityKeyIdentifier::OID));
    }
}
