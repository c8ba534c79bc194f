use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use der::{Decode, Encode};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use x509_cert::Certificate;
use x509_cert::name::Name;

use super::chain::{check_issued, hex};
use super::{CertificateChain, InvalidChain};
use crate::error::ConfigurationError;
use crate::protocol::{Identifier, printable};
use crate::provider::crypto_provider;

/// Which of the chains to take that a CA offers for a certificate (RFC 8555 §7.4.2).
///
/// Some CAs offer a certificate with several chains that lead to different roots: one to an old root
/// that every device knows, others that are shorter.
///
/// ```
/// use certwright::x509::ChainChoice;
///
/// let by_name = ChainChoice::root_name("ISRG Root X2");
/// let by_hash = ChainChoice::fingerprint(
///     "96:BC:EC:06:26:49:76:F3:74:60:77:9A:CF:28:C5:A7:CF:E8:A3:C0:AA:E1:1A:8F:FC:EE:05:C0:BD:DF:08:C6",
/// )?;
/// # Ok::<_, certwright::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct ChainChoice(Choice);

#[derive(Clone, Debug, Default)]
enum Choice {
    #[default]
    Offered,
    RootName(String),
    IssuerName(String),
    Root(Arc<CertificateDer<'static>>),
    Fingerprint([u8; 32]),
    Shortest,
    Trusted(Arc<WebPkiServerVerifier>),
}

impl ChainChoice {
    /// The chain that the CA offers first. It is the default, and right for nearly everyone.
    pub fn offered() -> Self {
        Self::default()
    }

    /// A chain that ends below the root with this common name: its last certificate is issued by
    /// that name. This is what lego and certbot call the preferred chain.
    pub fn root_name(common_name: impl Into<String>) -> Self {
        Self(Choice::RootName(common_name.into()))
    }

    /// A chain in which any certificate is issued by this common name.
    pub fn issuer_name(common_name: impl Into<String>) -> Self {
        Self(Choice::IssuerName(common_name.into()))
    }

    /// A chain that ends below this root: its last certificate is signed by the root's key, or is
    /// the root.
    ///
    /// Unlike a name, a key can't be taken by somebody else.
    pub fn root(root: CertificateDer<'static>) -> Result<Self, ConfigurationError> {
        parse(&root)?;
        Ok(Self(Choice::Root(Arc::new(root))))
    }

    /// A chain that holds a certificate with this SHA-256 fingerprint, of the certificate or of its
    /// `SubjectPublicKeyInfo`. It is in hexadecimal, with or without colons.
    ///
    /// A chain holds intermediates, and roots that an older root has signed. The root that it ends
    /// below is not part of it: for that one, there is [`root`](Self::root).
    pub fn fingerprint(sha256: &str) -> Result<Self, ConfigurationError> {
        let digits: Vec<u8> = sha256
            .bytes()
            .filter(|octet| !matches!(octet, b':' | b' '))
            .collect();
        let octets: Option<Vec<u8>> = digits.chunks(2).map(octet).collect();
        octets
            .and_then(|octets| octets.try_into().ok())
            .map(|fingerprint| Self(Choice::Fingerprint(fingerprint)))
            .ok_or(ConfigurationError::Fingerprint)
    }

    /// The chain with the fewest certificates: the fewest octets in each TLS handshake.
    pub fn shortest() -> Self {
        Self(Choice::Shortest)
    }

    /// A chain that verifies for a TLS client which trusts these roots and no others.
    pub fn trusted_by(
        roots: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Self, ConfigurationError> {
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root).map_err(ConfigurationError::Tls)?;
        }
        if store.is_empty() {
            return Err(ConfigurationError::NoRoots);
        }
        let provider = crypto_provider().ok_or(ConfigurationError::NoCryptoProvider)?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider)
            .build()
            .map(|verifier| Self(Choice::Trusted(verifier)))
            // The only fault that it knows beside those of CRLs, and there are none.
            .map_err(|_| ConfigurationError::NoRoots)
    }

    /// The first of these chains that is the right one, by its place. The chain that the CA offers
    /// first stands first.
    pub fn choose(&self, chains: &[&CertificateChain], now: SystemTime) -> Option<usize> {
        match &self.0 {
            Choice::Shortest => (0..chains.len())
                .min_by_key(|&index| chains.get(index).map(|chain| chain.certificates().len())),
            _ => chains.iter().position(|chain| self.suits(chain, now)),
        }
    }

    /// Whether the chain that the CA offers first is right whatever else it offers.
    pub(crate) fn is_offered(&self) -> bool {
        matches!(self.0, Choice::Offered)
    }

    fn suits(&self, chain: &CertificateChain, now: SystemTime) -> bool {
        let certificates = chain.parsed();
        match &self.0 {
            Choice::Offered | Choice::Shortest => true,
            Choice::RootName(name) => certificates
                .last()
                .is_some_and(|last| is_named(last.tbs_certificate().issuer(), name)),
            Choice::IssuerName(name) => certificates
                .iter()
                .any(|certificate| is_named(certificate.tbs_certificate().issuer(), name)),
            Choice::Root(root) => ends_below(chain, root),
            Choice::Fingerprint(fingerprint) => {
                let keys = certificates.iter().filter_map(|certificate| {
                    let key = certificate.tbs_certificate().subject_public_key_info();
                    key.to_der().ok()
                });
                let whole = chain.certificates().iter().map(|der| der.to_vec());
                keys.chain(whole)
                    .any(|octets| Sha256::digest(&octets).as_slice() == fingerprint)
            }
            Choice::Trusted(verifier) => verifies(chain, verifier, now),
        }
    }
}

impl fmt::Display for ChainChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Choice::Offered => f.write_str("the chain that the CA offers first"),
            Choice::RootName(name) => write!(f, "a chain below the root `{}`", printable(name)),
            Choice::IssuerName(name) => {
                write!(f, "a chain with the issuer `{}`", printable(name))
            }
            Choice::Root(root) => {
                let fingerprint = hex(Sha256::digest(root.as_ref()).as_slice());
                write!(f, "a chain below the root with fingerprint {fingerprint}")
            }
            Choice::Fingerprint(fingerprint) => {
                write!(f, "a chain that holds the fingerprint {}", hex(fingerprint))
            }
            Choice::Shortest => f.write_str("the shortest chain"),
            Choice::Trusted(_) => f.write_str("a chain that verifies by the roots given"),
        }
    }
}

fn octet(digits: &[u8]) -> Option<u8> {
    // `from_str_radix` would take a sign.
    if digits.len() != 2 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

fn parse(der: &CertificateDer<'_>) -> Result<Certificate, ConfigurationError> {
    Certificate::from_der(der)
        .map_err(|source| ConfigurationError::Root(InvalidChain::Der { index: 0, source }))
}

fn is_named(name: &Name, common_name: &str) -> bool {
    let found = name.common_name().ok().flatten();
    found.is_some_and(|found| found.value() == common_name)
}

fn ends_below(chain: &CertificateChain, root: &CertificateDer<'_>) -> bool {
    let (Some(last), Some(der)) = (chain.parsed().last(), chain.certificates().last()) else {
        return false;
    };
    der == root || parse(root).is_ok_and(|root| check_issued(last, der, &root).is_ok())
}

fn verifies(chain: &CertificateChain, verifier: &WebPkiServerVerifier, now: SystemTime) -> bool {
    let name = chain.identifiers().iter().find_map(server_name);
    let (Some(name), [leaf, intermediates @ ..]) = (name, chain.certificates()) else {
        return false;
    };
    let now = UnixTime::since_unix_epoch(
        now.duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default(),
    );
    verifier
        .verify_server_cert(leaf, intermediates, &name, &[], now)
        .is_ok()
}

/// A name by which a client would reach the server.
fn server_name(identifier: &Identifier) -> Option<ServerName<'static>> {
    match identifier {
        Identifier::Dns(name) => name.as_str().replacen('*', "any", 1).try_into().ok(),
        Identifier::Ip(address) => Some(ServerName::IpAddress((*address).into())),
        Identifier::Other(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::SigningKey;
    use p256::elliptic_curve::Generate;

    use super::super::fixtures;
    use super::*;

    /// Two chains for one certificate: to the old root by way of the new one, and to the new root.
    struct Fixture {
        long: CertificateChain,
        short: CertificateChain,
        signer: Certificate,
        old: Certificate,
        new: Certificate,
    }

    fn fixture() -> Fixture {
        let [old, new, signer, key] = [(); 4].map(|()| SigningKey::generate());
        let ca = || vec![fixtures::ca()];
        let leaf = fixtures::certificate(
            ("", &key),
            ("CN=signer", &signer),
            vec![fixtures::subject_alt_name()],
        );
        let signer = fixtures::certificate(("CN=signer", &signer), ("CN=new", &new), ca());
        let cross = fixtures::certificate(("CN=new", &new), ("CN=old,O=x", &old), ca());
        Fixture {
            long: fixtures::chain(&[&leaf, &signer, &cross]),
            short: fixtures::chain(&[&leaf, &signer]),
            signer,
            old: fixtures::certificate(("CN=old,O=x", &old), ("CN=old,O=x", &old), ca()),
            new: fixtures::certificate(("CN=new", &new), ("CN=new", &new), ca()),
        }
    }

    #[test]
    fn chooses() {
        let Fixture {
            long,
            short,
            signer,
            old,
            new,
        } = fixture();
        let stranger = SigningKey::generate();
        let stranger = fixtures::certificate(
            ("CN=new", &stranger),
            ("CN=new", &stranger),
            vec![fixtures::ca()],
        );
        let of_key = |certificate: &Certificate| {
            let key = certificate.tbs_certificate().subject_public_key_info();
            hex(Sha256::digest(key.to_der().unwrap()).as_slice())
        };
        let of_certificate = |certificate: &Certificate| {
            hex(Sha256::digest(certificate.to_der().unwrap()).as_slice()).to_uppercase()
        };
        let root = |root: &Certificate| ChainChoice::root(fixtures::der(root)).unwrap();
        let fingerprint = |text: &str| ChainChoice::fingerprint(text).unwrap();
        let trusted = |roots: &[&Certificate]| {
            ChainChoice::trusted_by(roots.iter().map(|root| fixtures::der(root))).unwrap()
        };

        let chains = [&long, &short];
        for (choice, expected) in [
            (ChainChoice::default(), Some(0)),
            (ChainChoice::offered(), Some(0)),
            (ChainChoice::root_name("old"), Some(0)),
            (ChainChoice::root_name("new"), Some(1)),
            (ChainChoice::root_name("signer"), None),
            (ChainChoice::root_name("CN=new"), None),
            (ChainChoice::root_name(""), None),
            (ChainChoice::issuer_name("old"), Some(0)),
            (ChainChoice::issuer_name("new"), Some(0)),
            (ChainChoice::issuer_name("signer"), Some(0)),
            (ChainChoice::issuer_name("other"), None),
            (root(&old), Some(0)),
            (root(&new), Some(1)),
            (root(&stranger), None),
            (fingerprint(&of_key(&new)), Some(0)),
            (fingerprint(&of_key(&old)), None),
            (fingerprint(&of_certificate(&signer)), Some(0)),
            (fingerprint(&of_certificate(&new)), None),
            (ChainChoice::shortest(), Some(1)),
            (trusted(&[&old]), Some(0)),
            (trusted(&[&new]), Some(0)),
            (trusted(&[&stranger]), None),
            (trusted(&[&stranger, &old]), Some(0)),
        ] {
            assert_eq!(
                choice.choose(&chains, fixtures::now()),
                expected,
                "{choice}"
            );
        }

        let reversed = [&short, &long];
        assert_eq!(trusted(&[&old]).choose(&reversed, fixtures::now()), Some(1));
        assert_eq!(root(&old).choose(&reversed, fixtures::now()), Some(1));
        let hours = std::time::Duration::from_secs(7200);
        let late = fixtures::now() + hours;
        assert_eq!(trusted(&[&old]).choose(&reversed, late), None);
        assert_eq!(ChainChoice::shortest().choose(&[], fixtures::now()), None);
    }

    #[test]
    fn refuses_what_can_not_be_meant() {
        let digits = "ab".repeat(32);
        for text in [
            String::new(),
            "ab".into(),
            format!("{digits}0"),
            format!("{digits}00"),
            digits.replacen("ab", "+b", 1),
            digits.replacen("ab", "xy", 1),
        ] {
            let choice = ChainChoice::fingerprint(&text);
            assert!(
                matches!(choice, Err(ConfigurationError::Fingerprint)),
                "{text}"
            );
        }
        assert!(ChainChoice::fingerprint(&"AB:".repeat(32)).is_ok());

        let junk = || CertificateDer::from(vec![1, 2, 3]);
        assert!(matches!(
            ChainChoice::root(junk()),
            Err(ConfigurationError::Root(_))
        ));
        let choice = ChainChoice::trusted_by([junk()]);
        assert!(matches!(choice, Err(ConfigurationError::Tls(_))));
        let choice = ChainChoice::trusted_by([]);
        assert!(matches!(choice, Err(ConfigurationError::NoRoots)));
    }
}
