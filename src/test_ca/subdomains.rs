//! Authorizations that hold for subdomains, too (RFC 9444).

use serde::Deserialize;
use serde_json::Value;

use super::ca::Ca;
use super::reply::Refusal;
use super::request::Payload;
use super::state::{State, StoredAuthorization};
use super::{TestCa, TestCaBuilder};
use crate::protocol::{AuthorizationStatus, DnsName, Identifier};

impl TestCaBuilder {
    /// Whether an authorization can be for a domain and all below it: in orders by `ancestorDomain`,
    /// and in [newAuthz](Self::pre_authorization) by `subdomainAuthAllowed` (RFC 9444 §4). By default
    /// it can not, and both are passed over.
    pub fn subdomain_authorizations(mut self, allowed: bool) -> Self {
        self.settings.authorizes_subdomains = allowed;
        self
    }
}

impl TestCa {
    /// See [`TestCaBuilder::subdomain_authorizations`].
    pub fn set_subdomain_authorizations(&self, allowed: bool) {
        self.0.ca.settings().authorizes_subdomains = allowed;
    }
}

/// What has to be authorized for an order.
#[derive(Debug)]
pub(super) struct Needed {
    pub(super) identifier: Identifier,
    /// Whether it stands for names below it.
    pub(super) with_subdomains: bool,
}

impl Ca {
    /// What an order for these identifiers needs: each of them, or the ancestor that it names.
    pub(super) fn needed(
        &self,
        identifiers: &[Identifier],
        payload: &Payload,
    ) -> Result<Vec<Needed>, Refusal> {
        let request: Ancestors = match self.settings().authorizes_subdomains {
            true => payload.json()?,
            false => Ancestors::default(),
        };
        let mut needed: Vec<Needed> = Vec::new();
        for identifier in identifiers {
            let mut named = request.identifiers.iter();
            let ancestor = named
                .find(|named| &named.identifier == identifier)
                .and_then(|named| named.ancestor_domain.as_deref());
            let authorized = match ancestor {
                Some(ancestor) => check_ancestor(identifier, ancestor)?,
                None => identifier.clone(),
            };
            let with_subdomains = ancestor.is_some();
            // Names with a common ancestor share its authorization.
            let is_same = |other: &Needed| {
                other.identifier == authorized && other.with_subdomains == with_subdomains
            };
            if !needed.iter().any(is_same) {
                needed.push(Needed {
                    identifier: authorized,
                    with_subdomains,
                });
            }
        }
        Ok(needed)
    }
}

impl State {
    /// Has an authorization hold for subdomains.
    pub(super) fn allow_subdomains(&mut self, authorization: u64) {
        if let Some(stored) = self.authorizations.get_mut(authorization) {
            let allowed = Value::Bool(true);
            stored.object.other.insert(MEMBER.to_owned(), allowed);
        }
    }

    /// A valid authorization that an account asked for before any order, and that covers a name.
    pub(super) fn ancestor_authorization(&self, account: u64, needed: &Needed) -> Option<u64> {
        let name = needed.identifier.dns_name()?;
        let mut authorizations = self.authorizations.iter();
        authorizations.find_map(|(id, stored)| {
            let covers = stored.account == account
                && stored.is_pre_authorization
                && stored.object.status == AuthorizationStatus::Valid
                && stored.allows_subdomains()
                && stored
                    .object
                    .base_identifier
                    .dns_name()
                    .is_some_and(|ancestor| ancestor == name || is_below(name, ancestor));
            covers.then_some(id)
        })
    }
}

impl StoredAuthorization {
    pub(super) fn allows_subdomains(&self) -> bool {
        self.object.other.get(MEMBER) == Some(&Value::Bool(true))
    }
}

fn check_ancestor(identifier: &Identifier, ancestor: &str) -> Result<Identifier, Refusal> {
    let found = DnsName::parse(ancestor).ok();
    match (identifier.dns_name(), found) {
        (Some(name), Some(ancestor)) if is_below(name, &ancestor) => Ok(ancestor.into()),
        _ => Err(Refusal::malformed(format!(
            "`{ancestor}` is no ancestor of `{identifier}`"
        ))),
    }
}

fn is_below(name: &DnsName, ancestor: &DnsName) -> bool {
    // By http-01 a wildcard can't be proved, be it by an ancestor or not.
    let rest = name.as_str().strip_suffix(ancestor.as_str());
    !name.is_wildcard() && rest.is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

/// The members of newOrder that [`NewOrder`](crate::protocol::NewOrder) does not have.
#[derive(Default, Deserialize)]
struct Ancestors {
    identifiers: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(flatten)]
    identifier: Identifier,
    #[serde(default, rename = "ancestorDomain")]
    ancestor_domain: Option<String>,
}

/// Of `meta`, and of authorizations.
pub(super) const MEMBER: &str = "subdomainAuthAllowed";
