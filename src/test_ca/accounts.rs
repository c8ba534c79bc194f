use http::{StatusCode, header};
use serde_json::{Map, Value};

use super::ca::{Ca, asks_for_deactivation};
use super::reply::{Refusal, Reply};
use super::request::Payload;
use super::route::Route;
use super::state::StoredAccount;
use crate::jose::Jwk;
use crate::protocol::{Account, AccountStatus, NewAccount, ProblemType};

impl Ca {
    /// newAccount (RFC 8555 §7.3).
    pub(super) fn new_account(&self, key: Jwk, payload: &Payload) -> Result<Reply, Refusal> {
        let request: NewAccount = payload.json()?;
        let mut state = self.state();
        if let Some(id) = state.account_of(&key) {
            // §7.3.1: the request's other members are passed over.
            let account = state.accounts.get(id).ok_or_else(Refusal::not_found)?;
            if account.object.status != AccountStatus::Valid {
                return Err(Refusal::unauthorized("the account is not valid"));
            }
            let reply = Reply::json(StatusCode::OK, &account.object)?;
            return Ok(reply.location(self.url(Route::Account(id)).map_err(Refusal::internal)?));
        }
        if request.only_return_existing {
            return Err(Refusal::new(
                ProblemType::AccountDoesNotExist,
                "no account exists with this key",
            ));
        }
        if !request.terms_of_service_agreed {
            let link = format!("<{}>;rel=\"terms-of-service\"", self.terms_of_service());
            return Err(Refusal::new(
                ProblemType::UserActionRequired,
                "the terms of service must be agreed to",
            )
            .header(header::LINK, link));
        }
        check_contacts(&request.contact)?;

        let mut object = Account::default();
        object.contact = request.contact;
        let reply = Reply::json(StatusCode::CREATED, &object)?;
        let id = state.accounts.insert(StoredAccount { key, object });
        Ok(reply.location(self.url(Route::Account(id)).map_err(Refusal::internal)?))
    }

    /// A look at an account, its update (§7.3.2), or its deactivation (§7.3.6).
    pub(super) fn account(
        &self,
        account: u64,
        id: u64,
        payload: &Payload,
    ) -> Result<Reply, Refusal> {
        if account != id {
            return Err(Refusal::unauthorized("this is another account"));
        }
        let mut state = self.state();
        let stored = state.accounts.get_mut(id).ok_or_else(Refusal::not_found)?;
        if payload.is_empty() {
            return Reply::json(StatusCode::OK, &stored.object);
        }

        let request: Map<String, Value> = payload.json()?;
        if asks_for_deactivation(&request) {
            stored.object.status = AccountStatus::Deactivated;
        } else if request.contains_key("status") {
            return Err(Refusal::malformed(
                "an account's status can become `deactivated` only, by a request for nothing else",
            ));
        }
        if let Some(contact) = request.get("contact") {
            let contact: Vec<String> = serde_json::from_value(contact.clone())
                .map_err(|error| Refusal::malformed(format!("the contacts: {error}")))?;
            check_contacts(&contact)?;
            stored.object.contact = contact;
        }
        Reply::json(StatusCode::OK, &stored.object)
    }
}

/// §7.3: a CA MUST support `mailto`, and must refuse what it can't make use of.
fn check_contacts(contacts: &[String]) -> Result<(), Refusal> {
    for contact in contacts {
        let invalid = |fault: &str| {
            let detail = format!("the contact `{contact}` {fault}");
            Err(Refusal::new(ProblemType::InvalidContact, detail))
        };
        let Some((scheme, address)) = contact.split_once(':') else {
            return invalid("is no URL");
        };
        if !scheme.eq_ignore_ascii_case("mailto") {
            return Err(Refusal::new(
                ProblemType::UnsupportedContact,
                format!("the contact `{contact}` is not a `mailto:` URL"),
            ));
        }
        if address.contains('?') {
            return invalid("has header fields");
        }
        if address.contains(',') {
            return invalid("has more than one address");
        }
        let whole = |part: &str| !part.is_empty() && part.bytes().all(|o| o.is_ascii_graphic());
        let parts = address.rsplit_once('@');
        if !parts.is_some_and(|(local, domain)| whole(local) && whole(domain)) {
            return invalid("has no valid address");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_one_address_by_mail() {
        for (contact, expected) in [
            ("mailto:a@example.com", None),
            ("MAILTO:a+b@example.com", None),
            ("mailto:", Some(ProblemType::InvalidContact)),
            ("mailto:a", Some(ProblemType::InvalidContact)),
            ("mailto:@example.com", Some(ProblemType::InvalidContact)),
            ("mailto:a b@example.com", Some(ProblemType::InvalidContact)),
            (
                "mailto:a@example.com,b@example.com",
                Some(ProblemType::InvalidContact),
            ),
            (
                "mailto:a@example.com?subject=x",
                Some(ProblemType::InvalidContact),
            ),
            ("a@example.com", Some(ProblemType::InvalidContact)),
            ("tel:+1", Some(ProblemType::UnsupportedContact)),
        ] {
            let found = check_contacts(&[contact.to_owned()])
                .err()
                .and_then(|refusal| Reply::from(refusal).problem().cloned());
            assert_eq!(found, expected, "{contact}");
        }
    }
}
