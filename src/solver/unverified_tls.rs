use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::provider::crypto_provider;

/// TLS 1.2 or 1.3 with whoever answers, as CAs speak it in validations.
///
/// A CA can't demand a valid certificate of a server that is about to get its first: for http-01 it
/// follows redirects to https without one, and for tls-alpn-01 the certificate is the answer, signed
/// by nobody. What is fetched is no secret, and is right only where it is the key authorization or
/// holds its digest; so a check that refused a certificate here would only be wrong about what the CA
/// does. `None` where there is no crypto provider.
pub(crate) fn unverified() -> Option<Result<ClientConfig, Error>> {
    let provider = crypto_provider()?;
    let config =
        ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    Some(config.map(|config| {
        config
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unverified { provider }))
            .with_no_client_auth()
    }))
}

#[derive(Debug)]
struct Unverified {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
