use http::StatusCode;
use serde_json::{Map, json};

use super::ca::Ca;
use super::reply::{Refusal, Reply};
use super::route::Route;
use super::subdomains;
use crate::protocol::{Directory, Meta};

impl Ca {
    /// The directory (RFC 8555 §7.1.1).
    pub(super) fn directory(&self) -> Result<Reply, Refusal> {
        let url = |route| self.url(route).map_err(Refusal::internal);
        // Boulder has such a member too, so that no client fails when a new one comes.
        let unknown = self.random.token::<8>()?;
        let value = json!("a client passes over what it does not know (RFC 8555 §7.1.1)");
        #[cfg(feature = "dns-01")]
        let mut other_meta = self.persist_meta();
        #[cfg(not(feature = "dns-01"))]
        let mut other_meta = Map::new();
        let settings = self.settings();
        if settings.authorizes_subdomains {
            other_meta.insert(subdomains::MEMBER.to_owned(), json!(true));
        }
        let directory = Directory {
            new_nonce: Some(url(Route::NewNonce)?),
            new_account: Some(url(Route::NewAccount)?),
            new_order: Some(url(Route::NewOrder)?),
            new_authz: settings
                .pre_authorizes
                .then(|| url(Route::NewAuthz))
                .transpose()?,
            revoke_cert: Some(url(Route::RevokeCert)?),
            key_change: Some(url(Route::KeyChange)?),
            renewal_info: settings
                .renewal
                .is_offered
                .then(|| url(Route::RenewalInfo))
                .transpose()?,
            meta: Meta {
                terms_of_service: Some(settings.terms_of_service.clone()),
                website: Some("https://docs.rs/certwright".to_owned()),
                caa_identities: vec![IDENTITY.to_owned()],
                external_account_required: !settings.external_accounts.is_empty(),
                profiles: settings.profiles.descriptions(),
                auto_renewal: settings.auto_renewal.offered(),
                other: other_meta,
                ..Meta::default()
            },
            other: Map::from_iter([(unknown, value)]),
            ..Directory::default()
        };
        Reply::json(StatusCode::OK, &directory)
    }
}

/// The CA's name in CAA records, and in those of dns-persist-01.
pub(super) const IDENTITY: &str = "ca.example";
