//! tls-alpn-01 (RFC 8737; for IP addresses RFC 8738).

use std::net::IpAddr;
use std::sync::Arc;

use der::{Decode, Encode};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio::time::timeout_at;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_cert::Certificate;

use super::{Attempt, connect};
use crate::protocol::{Problem, ProblemType};
use crate::provider::crypto_provider;
use crate::test_ca::ca::Ca;
use crate::x509::AcmeCertificate;

pub(super) async fn validate(attempt: &Attempt, ca: &Ca) -> Result<(), Problem> {
    let identifier = &attempt.identifier;
    let malformed = |detail: &str| Problem::new(ProblemType::Malformed, detail);
    let server_name = AcmeCertificate::server_name(identifier)
        .ok_or_else(|| malformed("tls-alpn-01 can't validate this identifier"))?;
    let tls_name = ServerName::try_from(server_name.clone())
        .map_err(|_| malformed("the name can't be sent in a TLS handshake"))?;
    let connector = connector()
        .map_err(|error| Problem::new(ProblemType::ServerInternal, error.to_string()))?;

    let unreachable = |fault: String| Problem::new(ProblemType::Connection, fault);
    let address = ca.address(&identifier.value(), unreachable).await?;
    let port = ca.settings().tls_alpn01_port;
    let deadline = ca.validation_deadline();
    let stream = connect(address, port, deadline)
        .await
        .map_err(|fault| unreachable(format!("{address}: {fault}")))?;
    let stream = timeout_at(deadline, connector.connect(tls_name, stream))
        .await
        .map_err(|_| {
            let fault = "Timeout during read (your server may be slow or overloaded)";
            unreachable(format!("{address}: {fault}"))
        })?
        .map_err(|error| handshake_problem(address, &error))?;

    let refused = |what: String| {
        let detail = format!("{address}: {what} (asked for {server_name} by acme-tls/1)");
        Problem::new(ProblemType::Unauthorized, detail)
    };
    check(attempt, &stream).map_err(refused)
}

/// What the server has shown is looked at once the handshake is done; no data follows.
fn check(attempt: &Attempt, stream: &TlsStream<TcpStream>) -> Result<(), String> {
    let (_, connection) = stream.get_ref();
    if connection.alpn_protocol() != Some(PROTOCOL) {
        return Err("Cannot negotiate ALPN protocol \"acme-tls/1\" for tls-alpn-01".to_owned());
    }
    let certificate = connection
        .peer_certificates()
        .and_then(<[_]>::first)
        .ok_or("No certs presented for tls-alpn-01")?;
    AcmeCertificate::check(certificate, &attempt.identifier, &attempt.key_authorization)
        .map_err(|fault| format!("Incorrect validation certificate for tls-alpn-01: {fault}"))
}

/// As at Boulder: `tls` for what TLS refuses, `connection` for what happens below it.
fn handshake_problem(address: IpAddr, error: &std::io::Error) -> Problem {
    let inner = error.get_ref();
    let kind = match inner.is_some_and(|error| error.is::<rustls::Error>()) {
        true => ProblemType::Tls,
        false => ProblemType::Connection,
    };
    Problem::new(kind, format!("{address}: {error}"))
}

fn connector() -> Result<TlsConnector, rustls::Error> {
    let provider = crypto_provider()
        .ok_or_else(|| rustls::Error::General("there is no CryptoProvider".to_owned()))?;
    let verifier = Arc::new(AnyCertificate(Arc::clone(&provider)));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Has the handshake go on whatever certificate comes, which is checked afterwards. That the server
/// has its key is verified all the same.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl AnyCertificate {
    /// What rustls has for it reads the certificate as one for users, and so stops at the critical
    /// extension.
    fn verify(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let bad_encoding = || rustls::Error::from(CertificateError::BadEncoding);
        let parsed = Certificate::from_der(certificate).map_err(|_| bad_encoding())?;
        let key = parsed.tbs_certificate().subject_public_key_info();
        let mut key_id = key.algorithm.oid.to_der().map_err(|_| bad_encoding())?;
        if let Some(parameters) = &key.algorithm.parameters {
            parameters
                .encode_to_vec(&mut key_id)
                .map_err(|_| bad_encoding())?;
        }

        let algorithms = self.0.signature_verification_algorithms.mapping.iter();
        let verified = algorithms
            .filter(|(scheme, _)| *scheme == signed.scheme)
            .flat_map(|(_, algorithms)| algorithms.iter())
            .filter(|algorithm| algorithm.public_key_alg_id().as_ref() == key_id)
            .any(|algorithm| {
                let key = key.subject_public_key.raw_bytes();
                let signature = signed.signature();
                algorithm.verify_signature(key, message, signature).is_ok()
            });
        match verified {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => Err(CertificateError::BadSignature.into()),
        }
    }
}

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
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

const PROTOCOL: &[u8] = b"acme-tls/1";
