use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Url, null_as_default, open_enum};

/// An account, as the CA sends it (RFC 8555 §7.1.2).
///
/// CAs leave out much of it: Let's Encrypt keeps no contacts, and few CAs list orders.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Account {
    /// The account's status.
    #[serde(default)]
    pub status: AccountStatus,

    /// The URLs, mostly `mailto:`, by which the CA may reach the account's holder.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub contact: Vec<String>,

    /// Whether the holder agreed to the terms of service, where the CA says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms_of_service_agreed: Option<bool>,

    /// The list of the account's orders (§7.1.2.1), where the CA has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orders: Option<Url>,

    /// The list of what others let this account order in their stead (RFC 9115 §2.3.1.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegations: Option<Url>,

    /// Members that certwright has no name for.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

open_enum! {
    /// The status of an account (RFC 8555 §7.1.6).
    #[derive(Default)]
    pub enum AccountStatus {
        /// The account can be used.
        #[default]
        Valid = "valid",
        /// The account's holder has ended it.
        Deactivated = "deactivated",
        /// The CA has ended the account.
        Revoked = "revoked",
    }
}

/// The request that creates an account or finds it (RFC 8555 §7.3).
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct NewAccount {
    /// The URLs by which the CA may reach the account's holder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contact: Vec<String>,

    /// The holder's agreement to the terms of service.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub terms_of_service_agreed: bool,

    /// Ask for an account that exists, and create none (§7.3.1).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub only_return_existing: bool,

    /// The JWS that binds the account to one outside of ACME (§7.3.4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_account_binding: Option<Value>,
}

impl NewAccount {
    /// A request with these contacts, and whether the holder agreed to the terms of service.
    pub fn new(contact: Vec<String>, terms_of_service_agreed: bool) -> Self {
        Self {
            contact,
            terms_of_service_agreed,
            ..Self::default()
        }
    }

    /// A request for the account that the key has already, which creates none (§7.3.1).
    pub fn existing() -> Self {
        Self {
            only_return_existing: true,
            ..Self::default()
        }
    }
}

/// The request that changes an account (RFC 8555 §7.3.2, §7.3.3, §7.3.6).
///
/// What is not set is not sent, and so stays as it is.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct AccountUpdate {
    /// The contacts in place of those that the account has; an empty list for none at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact: Option<Vec<String>>,

    /// The holder's agreement to terms of service that have changed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub terms_of_service_agreed: bool,

    /// The status to change to: [`AccountStatus::Deactivated`], and nothing else with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<AccountStatus>,
}

impl AccountUpdate {
    /// The request that deactivates the account.
    pub fn deactivation() -> Self {
        Self {
            status: Some(AccountStatus::Deactivated),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_little() {
        let account: Account = serde_json::from_str(r#"{"contact":null,"id":7}"#).unwrap();
        assert_eq!(account.status, AccountStatus::Valid);
        assert!(account.contact.is_empty());
        assert_eq!(account.other["id"], 7);
    }

    #[test]
    fn keeps_an_unknown_status() {
        let account: Account = serde_json::from_str(r#"{"status":"asleep"}"#).unwrap();
        assert_eq!(account.status, AccountStatus::Other("asleep".into()));
    }

    #[test]
    fn sends_only_what_is_set() {
        let request = NewAccount::default();
        assert_eq!(serde_json::to_string(&request).unwrap(), "{}");
        let request = NewAccount::new(vec!["mailto:a@example.com".into()], true);
        assert_eq!(
            serde_json::to_string(&request).unwrap(),
            r#"{"contact":["mailto:a@example.com"],"termsOfServiceAgreed":true}"#
        );
        let request = NewAccount::existing();
        assert_eq!(
            serde_json::to_string(&request).unwrap(),
            r#"{"onlyReturnExisting":true}"#
        );

        let request = AccountUpdate::default();
        assert_eq!(serde_json::to_string(&request).unwrap(), "{}");
        let request = AccountUpdate {
            contact: Some(Vec::new()),
            ..AccountUpdate::default()
        };
        assert_eq!(
            serde_json::to_string(&request).unwrap(),
            r#"{"contact":[]}"#
        );
        let request = AccountUpdate::deactivation();
        assert_eq!(
            serde_json::to_string(&request).unwrap(),
            r#"{"status":"deactivated"}"#
        );
    }
}
