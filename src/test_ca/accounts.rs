use http::{StatusCode, header};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::ca::{Ca, asks_for};
use super::reply::{Refusal, Reply};
use super::request::{Payload, read_header, verify_signature};
use super::route::Route;
use super::state::StoredAccount;
use crate::jose::{Jwk, Jws};
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
            let reply = self.account_reply(StatusCode::OK, id, account)?;
            return Ok(reply.location(self.url(Route::Account(id)).map_err(Refusal::internal)?));
        }
        if request.only_return_existing {
            return Err(Refusal::new(
                ProblemType::AccountDoesNotExist,
                "no account exists with this key",
            ));
        }
        if !request.terms_of_service_agreed {
            return Err(self.agreement_refusal("the terms of service must be agreed to", None));
        }
        check_contacts(&request.contact)?;
        self.check_binding(&key, request.external_account_binding.as_ref())?;

        let mut object = Account {
            contact: request.contact,
            ..Account::default()
        };
        // §7.3.4: the CA reflects a binding that it took.
        if let Some(binding) = request.external_account_binding {
            let name = "externalAccountBinding".to_owned();
            object.other.insert(name, binding);
        }
        let account = StoredAccount {
            key,
            agreed_to: self.settings().terms_of_service.clone(),
            object,
        };
        let id = state.accounts.next_id();
        let reply = self.account_reply(StatusCode::CREATED, id, &account)?;
        state.accounts.insert(account);
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
            return self.account_reply(StatusCode::OK, id, stored);
        }

        let request: Map<String, Value> = payload.json()?;
        if asks_for(&request, "deactivated") {
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
        // §7.3.3: the cure, once the terms have changed.
        if request.get("termsOfServiceAgreed") == Some(&Value::Bool(true)) {
            stored
                .agreed_to
                .clone_from(&self.settings().terms_of_service);
        }
        self.account_reply(StatusCode::OK, id, stored)
    }

    /// keyChange (§7.3.5): the account's key signs that the new key signs that it is to be the
    /// account's.
    pub(super) fn change_key(
        &self,
        account: u64,
        url: &str,
        payload: &Payload,
    ) -> Result<Reply, Refusal> {
        let inner: Jws = payload.json()?;
        let inner_header = read_header(&inner)?;
        let Some(new_key) = &inner_header.jwk else {
            return Err(Refusal::malformed("the inner JWS must hold a `jwk`"));
        };
        verify_signature(&inner, &inner_header, new_key)?;
        if inner_header.nonce.is_some() || inner_header.kid.is_some() {
            return Err(Refusal::malformed(
                "the inner JWS must have neither a `nonce` nor a `kid`",
            ));
        }
        if inner_header.url != url {
            return Err(Refusal::malformed(
                "the inner and the outer JWS must be for the same URL",
            ));
        }

        let request: KeyChange = inner
            .payload()
            .ok()
            .and_then(|payload| serde_json::from_slice(&payload).ok())
            .ok_or_else(|| Refusal::malformed("the inner payload is no key change"))?;
        let account_url = self
            .url(Route::Account(account))
            .map_err(Refusal::internal)?;
        let mut state = self.state();
        let holder = state.account_of(new_key);
        let stored = state.accounts.get_mut(account);
        let stored = stored.ok_or_else(Refusal::not_found)?;
        if request.account != account_url.as_str() || request.old_key != stored.key {
            return Err(Refusal::malformed(
                "the inner payload must name the account and its present key",
            ));
        }
        if let Some(holder) = holder {
            let url = self
                .url(Route::Account(holder))
                .map_err(Refusal::internal)?;
            let detail = "the new key is an account's already";
            return Err(
                Refusal::new(ProblemType::Conflict, detail).header(header::LOCATION, url.as_str())
            );
        }
        stored.key = new_key.clone();
        self.account_reply(StatusCode::OK, account, stored)
    }

    fn account_reply(
        &self,
        status: StatusCode,
        id: u64,
        account: &StoredAccount,
    ) -> Result<Reply, Refusal> {
        let mut object = account.object.clone();
        if self.settings().orders_per_page.is_some() {
            let first = Route::Orders {
                owner: id,
                after: 0,
            };
            object.orders = Some(self.url(first).map_err(Refusal::internal)?);
        }
        Reply::json(status, &object)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyChange {
    account: String,
    old_key: Jwk,
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
