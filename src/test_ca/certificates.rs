use http::StatusCode;

use super::ca::Ca;
use super::reply::{Refusal, Reply};
use super::request::Payload;

impl Ca {
    /// The download of a certificate (RFC 8555 §7.4.2).
    pub(super) fn certificate(
        &self,
        account: u64,
        id: u64,
        payload: &Payload,
    ) -> Result<Reply, Refusal> {
        payload.expect_empty()?;
        let state = self.state();
        let certificate = state.certificates.get(id);
        let certificate = certificate.ok_or_else(Refusal::not_found)?;
        if certificate.account != account {
            return Err(Refusal::unauthorized(
                "the certificate is another account's",
            ));
        }
        let pem = certificate.issued.pem();
        Ok(Reply::empty(StatusCode::OK).body("application/pem-certificate-chain", pem))
    }
}
