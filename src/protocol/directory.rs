use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{AutoRenewalLimits, Url, limits, null_as_default};

/// Where a CA's resources are, and what it says of itself (RFC 8555 §7.1.1).
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Directory {
    /// Where a nonce is had (§7.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_nonce: Option<Url>,

    /// Where an account is created (§7.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_account: Option<Url>,

    /// Where a certificate is ordered (§7.4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_order: Option<Url>,

    /// Where an identifier is authorized before any order (§7.4.1). Few CAs have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_authz: Option<Url>,

    /// Where a certificate is revoked (§7.6).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoke_cert: Option<Url>,

    /// Where an account's key is changed (§7.3.5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_change: Option<Url>,

    /// The base of renewal information's URLs (RFC 9773 §3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal_info: Option<Url>,

    /// What the CA says of itself. Empty where it says nothing.
    #[serde(default, deserialize_with = "null_as_default")]
    pub meta: Meta,

    /// Members that certwright has no name for, of any type: some CAs add a random one.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Directory {
    /// The URL of a resource, where the CA has it.
    pub fn url(&self, resource: Resource) -> Option<&Url> {
        match resource {
            Resource::NewNonce => self.new_nonce.as_ref(),
            Resource::NewAccount => self.new_account.as_ref(),
            Resource::NewOrder => self.new_order.as_ref(),
            Resource::NewAuthz => self.new_authz.as_ref(),
            Resource::RevokeCert => self.revoke_cert.as_ref(),
            Resource::KeyChange => self.key_change.as_ref(),
            Resource::RenewalInfo => self.renewal_info.as_ref(),
        }
    }
}

/// A resource that a directory can list.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Resource {
    /// `newNonce`
    NewNonce,
    /// `newAccount`
    NewAccount,
    /// `newOrder`
    NewOrder,
    /// `newAuthz`
    NewAuthz,
    /// `revokeCert`
    RevokeCert,
    /// `keyChange`
    KeyChange,
    /// `renewalInfo`
    RenewalInfo,
}

impl Resource {
    pub(crate) const ALL: [Self; 7] = [
        Self::NewNonce,
        Self::NewAccount,
        Self::NewOrder,
        Self::NewAuthz,
        Self::RevokeCert,
        Self::KeyChange,
        Self::RenewalInfo,
    ];

    /// Without these no certificate can be had, so a directory that lacks one is none.
    pub(crate) const REQUIRED: [Self; 3] = [Self::NewNonce, Self::NewAccount, Self::NewOrder];

    /// The member's name in the directory.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NewNonce => "newNonce",
            Self::NewAccount => "newAccount",
            Self::NewOrder => "newOrder",
            Self::NewAuthz => "newAuthz",
            Self::RevokeCert => "revokeCert",
            Self::KeyChange => "keyChange",
            Self::RenewalInfo => "renewalInfo",
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The directory's `meta` member: what a CA says of itself (RFC 8555 §7.1.1).
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Meta {
    /// The current terms of service. For a person to read; certwright never fetches it, and it may
    /// be of any scheme.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms_of_service: Option<String>,

    /// The CA's site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub website: Option<String>,

    /// The names by which CAA records allow this CA (RFC 8659).
    #[serde(
        default,
        deserialize_with = "limits::first::<{ limits::NAMES }, _, _>",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub caa_identities: Vec<String>,

    /// Whether an account needs an external account binding (§7.3.4).
    #[serde(default, deserialize_with = "null_as_default")]
    pub external_account_required: bool,

    /// The certificate profiles that can be ordered, with a description of each
    /// (draft-ietf-acme-profiles).
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub profiles: BTreeMap<String, String>,

    /// The CA takes orders that renew by themselves, within these limits (RFC 8739 §3.2).
    #[serde(
        rename = "auto-renewal",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub auto_renewal: Option<AutoRenewalLimits>,

    /// The CA takes orders under a delegation (RFC 9115 §2.3.3).
    #[serde(
        rename = "delegation-enabled",
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub delegation_enabled: bool,

    /// Certificates that do not renew by themselves can be had by a GET without a signature too,
    /// where an order asks for it (RFC 9115 §2.3.5).
    #[serde(
        rename = "allow-certificate-get",
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub allow_certificate_get: bool,

    /// An authorization can count for the names below its identifier too (RFC 9444 §4.3).
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub subdomain_auth_allowed: bool,

    /// Members that certwright has no name for.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Meta {
    /// Whether the CA says that it has an extension.
    pub fn offers(&self, extension: Extension) -> bool {
        match extension {
            Extension::AutoRenewal => self.auto_renewal.is_some(),
            Extension::AutoRenewalGet => self
                .auto_renewal
                .as_ref()
                .is_some_and(|limits| limits.allow_certificate_get),
            Extension::CertificateGet => self.allow_certificate_get,
            Extension::Delegation => self.delegation_enabled,
            Extension::SubdomainAuthorization => self.subdomain_auth_allowed,
        }
    }
}

/// What a CA can offer beyond RFC 8555, and says in its directory's `meta`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Extension {
    /// Orders that renew by themselves (RFC 8739).
    AutoRenewal,
    /// Their certificates by a GET without a signature (RFC 8739 §3.4).
    AutoRenewalGet,
    /// Other certificates by a GET without a signature (RFC 9115 §2.3.5).
    CertificateGet,
    /// Orders under a delegation (RFC 9115).
    Delegation,
    /// Authorizations that count for subdomains (RFC 9444).
    SubdomainAuthorization,
}

impl fmt::Display for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AutoRenewal => "orders that renew by themselves (RFC 8739)",
            Self::AutoRenewalGet => "renewed certificates by an unsigned GET (RFC 8739 §3.4)",
            Self::CertificateGet => "certificates by an unsigned GET (RFC 9115 §2.3.5)",
            Self::Delegation => "orders under a delegation (RFC 9115)",
            Self::SubdomainAuthorization => "authorizations that count for subdomains (RFC 9444)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerates_what_cas_send() {
        let directory: Directory = serde_json::from_str(
            r#"{"newNonce":"https://ca.example/n","newAuthz":null,"keyChange":"https://ca.example/k",
                "K9fQpTq3xuE":"https://community.example/t/417","number":7,"meta":null}"#,
        )
        .unwrap();
        assert_eq!(
            directory.url(Resource::NewNonce).unwrap().as_str(),
            "https://ca.example/n"
        );
        assert_eq!(directory.url(Resource::NewAuthz), None);
        assert_eq!(directory.meta, Meta::default());
        assert_eq!(directory.other.len(), 2);
    }

    #[test]
    fn reads_meta() {
        let meta: Meta = serde_json::from_str(
            r#"{"termsOfService":"data:text/plain,Do%20what%20thou%20wilt","caaIdentities":null,
                "externalAccountRequired":true,"profiles":{"shortlived":"6 days"},"new":{}}"#,
        )
        .unwrap();
        assert!(meta.external_account_required);
        assert_eq!(meta.profiles["shortlived"], "6 days");
        assert!(meta.other.contains_key("new"));
    }

    #[test]
    fn tells_which_extensions_there_are() {
        let all = [
            Extension::AutoRenewal,
            Extension::AutoRenewalGet,
            Extension::CertificateGet,
            Extension::Delegation,
            Extension::SubdomainAuthorization,
        ];
        assert!(
            all.iter()
                .all(|&extension| !Meta::default().offers(extension))
        );
        let meta: Meta = serde_json::from_str(
            r#"{"auto-renewal":{"min-lifetime":86400,"max-duration":31536000,
                "allow-certificate-get":true},"delegation-enabled":true,
                "allow-certificate-get":true,"subdomainAuthAllowed":true}"#,
        )
        .unwrap();
        assert!(all.iter().all(|&extension| meta.offers(extension)));
        assert!(meta.other.is_empty());
        let limits = meta.auto_renewal.unwrap();
        assert_eq!(limits.min_lifetime.as_secs(), 86_400);
        assert_eq!(limits.max_duration.as_secs(), 31_536_000);
    }
}
