use std::time::SystemTime;

use http::StatusCode;

use super::ca::Ca;
use super::issuer::Issued;
use super::reply::{Refusal, Reply};
use super::request::{Payload, SignedBy};
use super::settings::BadChain;
use super::state::{Revoked, State, StoredCertificate, is_same_key};
use crate::protocol::{ProblemType, Revocation, RevocationReason};

impl Ca {
    /// The download of a certificate (RFC 8555 §7.4.2).
    pub(super) fn certificate(
        &self,
        account: u64,
        id: u64,
        chain: usize,
        payload: &Payload,
        bad_chain: Option<BadChain>,
    ) -> Result<Reply, Refusal> {
        payload.expect_empty()?;
        let state = self.state();
        let certificate = state.certificates.get(id).ok_or_else(Refusal::not_found)?;
        if certificate.account != account {
            return Err(Refusal::unauthorized(
                "the certificate is another account's",
            ));
        }
        // These have the URL of their order only, which ends with it (RFC 8739 §3.1.2).
        if certificate.is_renewed_by_order {
            return Err(Refusal::not_found());
        }

        let pem = self.pem(&certificate.issued, chain, bad_chain)?;
        let reply = Reply::empty(StatusCode::OK).body("application/pem-certificate-chain", pem);
        self.with_alternate_chains(reply, id, chain)
    }

    /// The chain of a certificate, or what a fault or the settings want in place of it.
    pub(super) fn pem(
        &self,
        issued: &Issued,
        chain: usize,
        bad_chain: Option<BadChain>,
    ) -> Result<String, Refusal> {
        let fault = bad_chain.or(self.settings().bad_chain);
        match fault {
            Some(fault) => {
                let pem = self.issuer.bad_chain(issued, fault);
                pem.map_err(Refusal::internal)
            }
            None => {
                let pem = self.issuer.chain(issued, chain);
                pem.ok_or_else(Refusal::not_found)
            }
        }
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
        // Its order is canceled instead (RFC 8739 §3.1.2).
        if certificate.is_renewed_by_order {
            return Err(Refusal::new(
                ProblemType::AutoRenewalRevocationNotSupported,
                "certificates of an order that renews by itself can't be revoked",
            ));
        }
        if certificate.revoked.is_some() {
            return Err(Refusal::new(
                ProblemType::AlreadyRevoked,
                "the certificate is revoked already",
            ));
        }
        certificate.revoked = Some(Revoked {
            at: SystemTime::now(),
            // As at Let's Encrypt, which believes who holds the key, and nobody but the certificate's
            // account about other things.
            reason: match signer {
                SignedBy::Key(_) => Some(RevocationReason::KeyCompromise),
                SignedBy::Account(account) if *account == certificate.account => request.reason,
                SignedBy::Account(_) => Some(RevocationReason::CessationOfOperation),
            },
        });
        Ok(Reply::empty(StatusCode::OK))
    }
}

/// §7.6: the account that it was issued to may, one that could have it issued anew, and whoever has
/// its key.
fn may_revoke(state: &State, signer: &SignedBy, certificate: &StoredCertificate) -> bool {
    match signer {
        SignedBy::Key(key) => is_same_key(key, &certificate.issued.contents.public_key_info),
        SignedBy::Account(account) => {
            let is_authorized =
                |identifier| state.valid_authorization(*account, identifier).is_some();
            let mut identifiers = certificate.issued.contents.identifiers.iter();
            certificate.account == *account || identifiers.all(is_authorized)
        }
    }
}
