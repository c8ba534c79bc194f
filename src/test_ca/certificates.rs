use http::StatusCode;

use super::ca::Ca;
use super::reply::{Refusal, Reply};
use super::request::{Payload, SignedBy};
use super::state::{State, StoredCertificate, is_same_key};
use crate::protocol::{ProblemType, Revocation, RevocationReason};

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
        let certificate = state.certificates.get(id).ok_or_else(Refusal::not_found)?;
        if certificate.account != account {
            return Err(Refusal::unauthorized(
                "the certificate is another account's",
            ));
        }

        let fault = self.settings().bad_chain;
        let pem = match fault {
            Some(fault) => self.issuer.bad_chain(&certificate.issued, fault),
            None => Ok(certificate.issued.pem()),
        };
        let pem = pem.map_err(Refusal::internal)?;
        Ok(Reply::empty(StatusCode::OK).body("application/pem-certificate-chain", pem))
    }

    /// revokeCert (§7.6).
    pub(super) fn revoke(&self, signer: &SignedBy, payload: &Payload) -> Result<Reply, Refusal> {
        let request: Revocation = payload.json()?;
        // As at Let's Encrypt.
        let allowed = [
            None,
            Some(RevocationReason::Unspecified),
            Some(RevocationReason::KeyCompromise),
            Some(RevocationReason::Superseded),
            Some(RevocationReason::CessationOfOperation),
        ];
        if !allowed.contains(&request.reason) {
            return Err(Refusal::new(
                ProblemType::BadRevocationReason,
                "the reason must be 0, 1, 4 or 5",
            ));
        }

        let mut state = self.state();
        let found = state.certificates.iter().find_map(|(id, certificate)| {
            let is_it = certificate.issued.leaf == request.certificate.as_bytes();
            is_it.then(|| (id, may_revoke(&state, signer, certificate)))
        });
        let Some((id, may_revoke)) = found else {
            return Err(Refusal::malformed("the certificate is not of this CA")
                .status(StatusCode::NOT_FOUND));
        };
        if !may_revoke {
            return Err(Refusal::unauthorized(
                "the certificate is not the signer's to revoke",
            ));
        }

        let certificate = state.certificates.get_mut(id);
        let certificate = certificate.ok_or_else(Refusal::not_found)?;
        if certificate.is_revoked {
            return Err(Refusal::new(
                ProblemType::AlreadyRevoked,
                "the certificate is revoked already",
            ));
        }
        certificate.is_revoked = true;
        Ok(Reply::empty(StatusCode::OK))
    }
}

/// §7.6: the account that it was issued to may, one that could have it issued anew, and whoever has
/// its key.
fn may_revoke(state: &State, signer: &SignedBy, certificate: &StoredCertificate) -> bool {
    match signer {
        SignedBy::Key(key) => is_same_key(key, &certificate.issued.public_key_info),
        SignedBy::Account(account) => {
            let is_authorized =
                |identifier| state.valid_authorization(*account, identifier).is_some();
            let mut identifiers = certificate.issued.identifiers.iter();
            certificate.account == *account || identifiers.all(is_authorized)
        }
    }
}
