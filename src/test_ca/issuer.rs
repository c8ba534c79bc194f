use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::str::FromStr;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use der::pem::LineEnding;
use der::{Decode, Encode, EncodePem};
use p256::ecdsa::{DerSignature, SigningKey};
use p256::elliptic_curve::Generate;
use p256::pkcs8::EncodePrivateKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_cert::Certificate;
use x509_cert::builder::profile::cabf::tls::{CertificateType, Subordinate, Subscriber};
use x509_cert::builder::profile::{self, BuilderProfile};
use x509_cert::builder::{Builder, CertificateBuilder};
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, SubjectAltName, SubjectKeyIdentifier};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{SubjectPublicKeyInfoOwned, SubjectPublicKeyInfoRef};
use x509_cert::time::{Time, Validity};

use super::crl::distribution_points;
use super::random::Random;
use super::settings::BadChain;
use crate::error::BoxError;
use crate::protocol::{Base64Url, Identifier};
use crate::x509::general_name;

/// The CA's keys and certificates: roots, the first of which is the main one, and an intermediate
/// that issues and is certified by each of them.
#[derive(Debug)]
pub(super) struct Issuer {
    random: Random,
    root: Root,
    alternate_roots: Vec<Root>,
    pub(super) intermediate_key: SigningKey,
    /// How many revocation lists were signed.
    pub(super) crls: AtomicU64,
    /// Where the list is had, as certificates say it.
    crl_url: Option<String>,
}

impl Issuer {
    pub(super) const INTERMEDIATE: &str = "CN=certwright test CA intermediate,O=certwright,C=AQ";

    /// Makes new keys and certificates for them.
    pub(super) fn generate(random: Random, alternate_roots: usize) -> Result<Self, BoxError> {
        let intermediate_key = SigningKey::try_generate()?;
        let mut alternates = Vec::new();
        for number in 1..=alternate_roots {
            let name = format!("CN=certwright test CA alternate root {number},O=certwright,C=AQ");
            alternates.push(Root::generate(&random, name, &intermediate_key)?);
        }
        Ok(Self {
            root: Root::generate(&random, ROOT.to_owned(), &intermediate_key)?,
            alternate_roots: alternates,
            random,
            intermediate_key,
            crls: AtomicU64::new(0),
            crl_url: None,
        })
    }

    pub(super) fn root(&self) -> &CertificateDer<'static> {
        &self.root.der
    }

    pub(super) fn root_pem(&self) -> &str {
        &self.root.pem
    }

    pub(super) fn crl_url(&self) -> Option<&str> {
        self.crl_url.as_deref()
    }

    /// Has all further certificates say where the revocation list is.
    pub(super) fn distribute_crl(&mut self, url: String) {
        self.crl_url = Some(url);
    }

    /// The PEM of the further roots.
    pub(super) fn alternate_root_pems(&self) -> impl Iterator<Item = &str> {
        self.alternate_roots.iter().map(|root| root.pem.as_str())
    }

    /// The chain as it is downloaded (RFC 8555 §9.1): without the root, which clients have. 0 is
    /// the one to the main root.
    pub(super) fn chain(&self, issued: &Issued, number: usize) -> Option<String> {
        let root = match number.checked_sub(1) {
            None => &self.root,
            Some(alternate) => self.alternate_roots.get(alternate)?,
        };
        Some(format!("{}{}", issued.leaf_pem, root.intermediate_pem))
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

        let contents = Contents {
            public_key_info: SubjectPublicKeyInfoOwned::from_key(key.verifying_key())?.to_der()?,
            identifiers: identifiers.into_iter().collect(),
            dates: lasting(SystemTime::now(), DECADE)?,
        };
        let certificate =
            self.server_certificate(&self.root.name, &self.root.key, &contents, None)?;
        let key = PrivatePkcs8KeyDer::from(key.to_pkcs8_der()?.as_bytes().to_vec());
        Ok((certificate.to_der()?.into(), key.into()))
    }

    /// Issues the certificate of an order.
    pub(super) fn issue(&self, contents: Contents) -> Result<Issued, BoxError> {
        let certificate = self.server_certificate(
            Self::INTERMEDIATE,
            &self.intermediate_key,
            &contents,
            self.crl_url(),
        )?;
        Ok(Issued {
            contents,
            id: certificate_id(&certificate)?,
            leaf: certificate.to_der()?,
            leaf_pem: certificate.to_pem(LineEnding::LF)?,
        })
    }

    /// A chain that is not the one that was issued.
    pub(super) fn bad_chain(&self, issued: &Issued, fault: BadChain) -> Result<String, BoxError> {
        let good = issued.contents.clone();
        let now = SystemTime::now();
        let contents = match fault {
            BadChain::Expired => Contents {
                dates: lasting(now - 2 * DAY, DAY)?,
                ..good
            },
            BadChain::Html => return Ok("<!doctype html><title>503</title>".to_owned()),
            BadChain::NotYetValid => Contents {
                dates: lasting(now + DAY, DAY)?,
                ..good
            },
            BadChain::OtherKey => {
                let other = SigningKey::try_generate()?;
                let key = SubjectPublicKeyInfoOwned::from_key(other.verifying_key())?;
                Contents {
                    public_key_info: key.to_der()?,
                    ..good
                }
            }
            BadChain::OtherNames => Contents {
                identifiers: BTreeSet::from(["other.example".parse()?]),
                ..good
            },
            BadChain::Truncated => {
                let pem = &issued.leaf_pem;
                return Ok(pem.chars().take(pem.len() / 2).collect());
            }
            BadChain::Unlinked => {
                let other = Self::generate(self.random.clone(), 0)?;
                return Ok(other.chain(issued, 0).unwrap_or_default());
            }
        };
        Ok(self.chain(&self.issue(contents)?, 0).unwrap_or_default())
    }

    fn server_certificate(
        &self,
        issuer: &str,
        issuer_key: &SigningKey,
        contents: &Contents,
        crl_url: Option<&str>,
    ) -> Result<Certificate, BoxError> {
        let names: Vec<_> = contents
            .identifiers
            .iter()
            .filter_map(general_name)
            .collect();
        let profile = Subscriber {
            certificate_type: CertificateType::domain_validated(Name::default(), names.clone())?,
            issuer: Name::from_str(issuer)?,
            client_auth: false,
        };
        let mut builder = CertificateBuilder::new(
            profile,
            serial_number(&self.random)?,
            validity(&contents.dates)?,
            SubjectPublicKeyInfoOwned::from_der(&contents.public_key_info)?,
        )?;
        // The profile leaves these two to its caller. The names are critical, as the subject is
        // empty (RFC 5280 §4.2.1.6).
        builder.add_extension(&SubjectAltName(names))?;
        let key = SubjectPublicKeyInfoRef::from_der(&contents.public_key_info)?;
        builder.add_extension(&SubjectKeyIdentifier::try_from(key)?)?;
        if let Some(url) = crl_url {
            builder.add_extension(&distribution_points(url)?)?;
        }
        sign(builder, issuer_key)
    }
}

/// A root, and the intermediate's certificate by it.
#[derive(Debug)]
struct Root {
    name: String,
    key: SigningKey,
    der: CertificateDer<'static>,
    pem: String,
    intermediate_pem: String,
}

impl Root {
    fn generate(
        random: &Random,
        name: String,
        intermediate_key: &SigningKey,
    ) -> Result<Self, BoxError> {
        let key = SigningKey::try_generate()?;
        let root = CertificateBuilder::new(
            profile::cabf::Root::new(false, Name::from_str(&name)?)?,
            serial_number(random)?,
            validity(&lasting(SystemTime::now(), DECADE)?)?,
            SubjectPublicKeyInfoOwned::from_key(key.verifying_key())?,
        )?;
        let intermediate = CertificateBuilder::new(
            Subordinate {
                issuer: Name::from_str(&name)?,
                subject: Name::from_str(Issuer::INTERMEDIATE)?,
                path_len_constraint: Some(0),
                emits_ocsp_response: false,
                client_auth: false,
            },
            serial_number(random)?,
            validity(&lasting(SystemTime::now(), DECADE)?)?,
            SubjectPublicKeyInfoOwned::from_key(intermediate_key.verifying_key())?,
        )?;

        let root = sign(root, &key)?;
        Ok(Self {
            name,
            der: root.to_der()?.into(),
            pem: root.to_pem(LineEnding::LF)?,
            intermediate_pem: sign(intermediate, &key)?.to_pem(LineEnding::LF)?,
            key,
        })
    }
}

/// What a certificate for a server is to say.
#[derive(Clone, Debug)]
pub(super) struct Contents {
    /// A DER `SubjectPublicKeyInfo`.
    pub(super) public_key_info: Vec<u8>,
    pub(super) identifiers: BTreeSet<Identifier>,
    pub(super) dates: Range<SystemTime>,
}

/// A certificate that was issued.
#[derive(Clone, Debug)]
pub(super) struct Issued {
    pub(super) contents: Contents,
    /// By which renewal information names it (RFC 9773 §4.1).
    pub(super) id: String,
    pub(super) leaf: Vec<u8>,
    leaf_pem: String,
}

/// The key identifier of the issuer, and the serial number (RFC 9773 §4.1).
pub(super) fn certificate_id(certificate: &Certificate) -> Result<String, BoxError> {
    let tbs = certificate.tbs_certificate();
    let issuer = match tbs.get_extension::<AuthorityKeyIdentifier>()? {
        Some((_, issuer)) => issuer.key_identifier,
        None => None,
    };
    let issuer = issuer.ok_or("the certificate has no identifier of its issuer's key")?;
    let issuer = Base64Url::from(issuer.as_bytes());
    let serial_number = Base64Url::from(tbs.serial_number().as_bytes());
    Ok(format!("{issuer}.{serial_number}"))
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

/// A lifetime, from a little before its beginning on.
pub(super) fn lasting(
    not_before: SystemTime,
    lifetime: Duration,
) -> Result<Range<SystemTime>, BoxError> {
    let not_after = not_before
        .checked_add(lifetime)
        .ok_or("the lifetime ends after any time that a certificate can hold")?;
    let not_before = not_before
        .checked_sub(CLOCK_SKEW)
        .ok_or("the lifetime begins before any time that a certificate can hold")?;
    Ok(not_before..not_after)
}

fn validity(dates: &Range<SystemTime>) -> Result<Validity, BoxError> {
    Ok(Validity::new(
        Time::try_from(dates.start)?,
        Time::try_from(dates.end)?,
    ))
}

/// What the clocks of clients may be behind.
const CLOCK_SKEW: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3_600);
const DECADE: Duration = Duration::from_secs(3_650 * 24 * 3_600);
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
    use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage};

    use super::*;
    use crate::provider::crypto_provider;
    use crate::x509::CertificateKey;

    fn issuer() -> Issuer {
        Issuer::generate(Random::new(crypto_provider().unwrap()), 1).unwrap()
    }

    fn contents(names: &[&str]) -> Contents {
        let key = CertificateKey::generate().unwrap();
        Contents {
            public_key_info: key.public_key_info().to_vec(),
            identifiers: names.iter().map(|name| name.parse().unwrap()).collect(),
            dates: lasting(SystemTime::now(), DAY).unwrap(),
        }
    }

    fn verify(root: &str, pem: &str, name: &str) -> Result<(), rustls::Error> {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(root.as_bytes()).unwrap();
        roots.add(root).unwrap();
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
        let names = ["example.test", "*.example.test", "127.0.0.1", "::1"];
        let issued = issuer.issue(contents(&names)).unwrap();
        let (root, chain) = (issuer.root_pem(), issuer.chain(&issued, 0).unwrap());
        for name in ["example.test", "a.example.test", "127.0.0.1", "::1"] {
            verify(root, &chain, name).unwrap();
        }
        verify(root, &chain, "a.b.example.test").unwrap_err();
        // Without its issuer, or by another CA, it is worth nothing.
        verify(root, &issued.leaf_pem, "example.test").unwrap_err();
        verify(self::issuer().root_pem(), &chain, "example.test").unwrap_err();

        // Each chain leads to its own root.
        let alternate = issuer.alternate_root_pems().next().unwrap();
        verify(alternate, &chain, "example.test").unwrap_err();
        let chain = issuer.chain(&issued, 1).unwrap();
        verify(alternate, &chain, "example.test").unwrap();
        verify(root, &chain, "example.test").unwrap_err();
        assert_eq!(issuer.chain(&issued, 2), None);
    }

    #[test]
    fn follows_the_profile() {
        let now = SystemTime::now();
        let issued = issuer().issue(contents(&["example.test"]));
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
