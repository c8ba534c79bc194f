//! TLS for the servers under test: a throwaway CA, a certificate of it, and trust in it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use der::EncodePem;
use der::asn1::{Ia5String, OctetString};
use der::pem::LineEnding;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::elliptic_curve::Generate;
use p256::pkcs8::EncodePrivateKey;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::profile::cabf::Root;
use x509_cert::builder::profile::cabf::tls::{CertificateType, Subscriber};
use x509_cert::builder::{Builder, CertificateBuilder};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::SubjectPublicKeyInfo;
use x509_cert::time::Validity;

/// A server's certificate for `localhost`, `127.0.0.1` and `::1`, all of it in PEM.
pub struct Identity {
    /// The CA's certificate, which clients trust.
    pub root_pem: String,
    /// The server's certificate.
    pub certificate_pem: String,
    /// The server's private key, in PKCS #8.
    pub key_pem: String,
}

impl Identity {
    /// Made anew with keys of its own, so a client that trusts it can tell this server from any
    /// other.
    pub fn generate() -> Self {
        let ca_key = SigningKey::generate();
        let issuer = Name::from_str("CN=certwright tests,O=certwright,C=AQ").unwrap();
        let root = Root::new(false, issuer.clone()).unwrap();
        let root_pem = certificate(root, 1, &ca_key, &ca_key, None);

        let key = SigningKey::generate();
        let names = vec![
            GeneralName::DnsName(Ia5String::new("localhost").unwrap()),
            address(Ipv4Addr::LOCALHOST.into()),
            address(Ipv6Addr::LOCALHOST.into()),
        ];
        let subject = Name::from_str("CN=localhost").unwrap();
        let leaf = Subscriber {
            certificate_type: CertificateType::domain_validated(subject, names.clone()).unwrap(),
            issuer,
            client_auth: false,
        };
        // The profile checks the names but leaves the extension to its caller.
        let certificate_pem = certificate(leaf, 2, &key, &ca_key, Some(SubjectAltName(names)));

        Self {
            root_pem,
            certificate_pem,
            key_pem: key.to_pkcs8_pem(LineEnding::LF).unwrap().to_string(),
        }
    }
}

/// A rustls configuration that trusts the one CA and nothing else.
pub fn trusting(root_pem: &str) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(root_pem.as_bytes()).unwrap())
        .unwrap();
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// The process's provider, or else one that the crate's features compile in: never one that the
/// tests' own dependencies add, since that would change what the library under test finds.
fn provider() -> Arc<CryptoProvider> {
    if let Some(provider) = CryptoProvider::get_default() {
        return Arc::clone(provider);
    }
    #[cfg(feature = "aws-lc-rs")]
    return Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    #[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
    return Arc::new(rustls::crypto::ring::default_provider());
    #[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
    panic!("the tests need a rustls CryptoProvider: enable `aws-lc-rs` or `ring`");
}

fn certificate(
    profile: impl BuilderProfile,
    serial: u32,
    key: &SigningKey,
    ca_key: &SigningKey,
    names: Option<SubjectAltName>,
) -> String {
    let mut builder = CertificateBuilder::new(
        profile,
        SerialNumber::from(serial),
        Validity::from_now(Duration::from_secs(24 * 60 * 60)).unwrap(),
        SubjectPublicKeyInfo::from_key(key.verifying_key()).unwrap(),
    )
    .unwrap();
    if let Some(names) = names {
        builder.add_extension(&names).unwrap();
    }
    builder
        .build::<_, DerSignature>(ca_key)
        .unwrap()
        .to_pem(LineEnding::LF)
        .unwrap()
}

fn address(address: IpAddr) -> GeneralName {
    let octets = match address {
        IpAddr::V4(address) => OctetString::new(address.octets()),
        IpAddr::V6(address) => OctetString::new(address.octets()),
    };
    GeneralName::IpAddress(octets.unwrap())
}

/// Takes any certificate, as a test that looks at it afterwards needs it, and as the CA does that
/// validates tls-alpn-01.
#[derive(Debug)]
pub struct AnyCertificate(pub Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
