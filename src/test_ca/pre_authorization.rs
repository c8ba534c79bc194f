//! Authorizations before any order (RFC 8555 §7.4.1).

use http::StatusCode;

use super::ca::Ca;
use super::reply::{Refusal, Reply};
use super::request::Payload;
use super::route::Route;
use super::{TestCa, TestCaBuilder};
use crate::protocol::NewAuthorization;

impl TestCaBuilder {
    /// Whether the CA has newAuthz, by which an identifier is authorized before any order
    /// (RFC 8555 §7.4.1). An order takes such an authorization over, whether it is valid already or
    /// pending. By default it has not, like all of the large CAs.
    pub fn pre_authorization(mut self, offered: bool) -> Self {
        self.settings.pre_authorizes = offered;
        self
    }
}

impl TestCa {
    /// See [`TestCaBuilder::pre_authorization`].
    pub fn set_pre_authorization(&self, offered: bool) {
        self.0.ca.settings().pre_authorizes = offered;
    }
}

impl Ca {
    /// newAuthz.
    pub(super) fn new_authz(&self, account: u64, payload: &Payload) -> Result<Reply, Refusal> {
        if !self.settings().pre_authorizes {
            return Err(Refusal::not_found());
        }
        let request: NewAuthorization = payload.json()?;
        // §7.4.1: what an authorization names is the identifier itself, which a wildcard's is not.
        if request.identifier.is_wildcard() {
            return Err(Refusal::malformed("a wildcard can't be pre-authorized"));
        }
        self.check_identifiers(vec![request.identifier.clone()])?;

        let mut state = self.state();
        let id = self.new_authorization(&mut state, account, &request.identifier)?;
        if let Some(stored) = state.authorizations.get_mut(id) {
            stored.is_pre_authorization = true;
        }
        if request.subdomain_auth_allowed && self.settings().authorizes_subdomains {
            state.allow_subdomains(id);
        }
        let object = state.authorization(id).ok_or_else(Refusal::not_found)?;
        let url = self.url(Route::Authorization(id));
        let reply = Reply::json(StatusCode::CREATED, &object)?;
        Ok(reply.location(url.map_err(Refusal::internal)?))
    }
}
