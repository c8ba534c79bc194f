//! Terms of service, and what happens once they change (RFC 8555 §7.3.3).

use http::{StatusCode, header};

use super::ca::Ca;
use super::reply::{Refusal, Reply};
use super::route::Route;
use super::{TestCa, TestCaBuilder};
use crate::protocol::ProblemType;

impl TestCaBuilder {
    /// The URL of the terms of service that the directory names. By default a `data:` URL, as at
    /// Pebble.
    pub fn terms_of_service(mut self, url: impl Into<String>) -> Self {
        self.settings.terms_of_service = url.into();
        self
    }
}

impl TestCa {
    /// Changes the terms of service (RFC 8555 §7.3.3).
    ///
    /// Accounts that agreed to others get `userActionRequired` to all but a look at themselves and
    /// revocations, until their holder agrees to these: by an update of the account with
    /// `termsOfServiceAgreed`.
    pub fn set_terms_of_service(&self, url: impl Into<String>) {
        self.0.ca.settings().terms_of_service = url.into();
    }
}

impl Ca {
    /// Refuses an account whose holder has not agreed to the present terms.
    pub(super) fn check_agreement(&self, account: u64) -> Result<(), Refusal> {
        let state = self.state();
        let account = state.accounts.get(account);
        let account = account.ok_or_else(Refusal::not_found)?;
        if account.agreed_to == self.settings().terms_of_service {
            return Ok(());
        }
        let page = self.url(Route::Agreement).map_err(Refusal::internal)?;
        Err(self.agreement_refusal(
            "the terms of service have changed, and must be agreed to",
            Some(page.as_str()),
        ))
    }

    /// `instance` is the page for a person to visit.
    pub(super) fn agreement_refusal(&self, detail: &str, instance: Option<&str>) -> Refusal {
        let terms = &self.settings().terms_of_service;
        Refusal::new(ProblemType::UserActionRequired, detail)
            .instance(instance)
            .header(header::LINK, format!("<{terms}>;rel=\"terms-of-service\""))
    }

    /// What a person finds at `instance`.
    pub(super) fn agreement_page(&self) -> Reply {
        let terms = &self.settings().terms_of_service;
        let text = format!(
            "The terms of service have changed: {terms}\n\
             To agree to them, update your account with `termsOfServiceAgreed` (RFC 8555 §7.3.3).\n"
        );
        Reply::empty(StatusCode::OK).body("text/plain; charset=utf-8", text)
    }
}
