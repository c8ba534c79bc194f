use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Challenge, Identifier, limits, null_as_default, open_enum, timestamp};

/// An authorization, as the CA sends it (RFC 8555 §7.1.4).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Authorization {
    /// The identifier that the account may get certificates for. Of a wildcard, the name without
    /// its first label; see [`identifier`](Self::identifier) for the whole one.
    #[serde(rename = "identifier")]
    pub base_identifier: Identifier,

    /// The authorization's status.
    pub status: AuthorizationStatus,

    /// When the authorization ends.
    #[serde(
        default,
        with = "timestamp::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub expires: Option<SystemTime>,

    /// The ways to prove control of the identifier: one of them is enough. Of an authorization that
    /// is valid or invalid, perhaps only the one that was tried.
    #[serde(
        default,
        deserialize_with = "limits::list::<{ limits::CHALLENGES }, _, _>"
    )]
    pub challenges: Vec<Challenge>,

    /// Whether the order named a wildcard below the identifier.
    #[serde(default, deserialize_with = "null_as_default")]
    pub wildcard: bool,

    /// Whether the authorization counts for every name below the identifier too (RFC 9444 §4.1).
    #[serde(
        rename = "subdomainAuthAllowed",
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub subdomain_auth_allowed: bool,

    /// Members that certwright has no name for.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Authorization {
    /// An authorization that has just been made: pending, with nothing optional set.
    pub fn pending(
        base_identifier: Identifier,
        wildcard: bool,
        challenges: Vec<Challenge>,
    ) -> Self {
        Self {
            base_identifier,
            status: AuthorizationStatus::Pending,
            expires: None,
            challenges,
            wildcard,
            subdomain_auth_allowed: false,
            other: Map::new(),
        }
    }

    /// The identifier as the order named it, a wildcard's first label included.
    pub fn identifier(&self) -> Identifier {
        match &self.base_identifier {
            Identifier::Dns(name) if self.wildcard => Identifier::Dns(name.wildcard()),
            identifier => identifier.clone(),
        }
    }
}

open_enum! {
    /// The status of an authorization (RFC 8555 §7.1.6).
    pub enum AuthorizationStatus {
        /// A challenge must be solved.
        Pending = "pending",
        /// Control is proved.
        Valid = "valid",
        /// A challenge failed. Only a new order can help.
        Invalid = "invalid",
        /// The account's holder gave it up.
        Deactivated = "deactivated",
        /// Its time is over.
        Expired = "expired",
        /// The CA took it back.
        Revoked = "revoked",
    }
}

/// The request for an authorization before any order (RFC 8555 §7.4.1).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(from = "RawNewAuthorization", into = "RawNewAuthorization")]
#[non_exhaustive]
pub struct NewAuthorization {
    /// What to prove control of. No wildcard.
    pub identifier: Identifier,

    /// Ask that the authorization count for every name below the identifier too. It stands within
    /// the identifier (RFC 9444 §4.2).
    pub subdomain_auth_allowed: bool,
}

impl NewAuthorization {
    /// A request for this identifier alone.
    pub fn new(identifier: Identifier) -> Self {
        Self {
            identifier,
            subdomain_auth_allowed: false,
        }
    }
}

#[derive(Deserialize, Serialize)]
struct RawNewAuthorization {
    identifier: RequestedIdentifier,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestedIdentifier {
    #[serde(flatten)]
    identifier: Identifier,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    subdomain_auth_allowed: bool,
}

impl From<RawNewAuthorization> for NewAuthorization {
    fn from(raw: RawNewAuthorization) -> Self {
        let RequestedIdentifier {
            identifier,
            subdomain_auth_allowed,
        } = raw.identifier;
        Self {
            identifier,
            subdomain_auth_allowed,
        }
    }
}

impl From<NewAuthorization> for RawNewAuthorization {
    fn from(request: NewAuthorization) -> Self {
        let NewAuthorization {
            identifier,
            subdomain_auth_allowed,
        } = request;
        Self {
            identifier: RequestedIdentifier {
                identifier,
                subdomain_auth_allowed,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_wildcard() {
        for (wildcard, expected) in [
            ("", "example.org"),
            (r#","wildcard":false"#, "example.org"),
            (r#","wildcard":null"#, "example.org"),
            (r#","wildcard":true"#, "*.example.org"),
        ] {
            let authorization: Authorization = serde_json::from_str(&format!(
                r#"{{"status":"pending","identifier":{{"type":"dns","value":"example.org"}},
                    "challenges":[{{"type":"new-01","url":"https://ca.example/c"}}]{wildcard}}}"#
            ))
            .unwrap();
            assert_eq!(authorization.identifier().value(), expected);
        }
    }

    #[test]
    fn counts_for_subdomains_where_it_says_so() {
        let authorization: Authorization = serde_json::from_str(
            r#"{"status":"valid","identifier":{"type":"dns","value":"example.org"},
                "subdomainAuthAllowed":true,"challenges":[]}"#,
        )
        .unwrap();
        assert!(authorization.subdomain_auth_allowed && authorization.other.is_empty());

        let mut request = NewAuthorization::new("example.org".parse().unwrap());
        request.subdomain_auth_allowed = true;
        let text =
            r#"{"identifier":{"type":"dns","value":"example.org","subdomainAuthAllowed":true}}"#;
        assert_eq!(serde_json::to_string(&request).unwrap(), text);
        assert_eq!(
            serde_json::from_str::<NewAuthorization>(text).unwrap(),
            request
        );
    }
}
