use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Base64Url, Identifier, Problem, Url, null_as_default, open_enum, timestamp};

/// An order, as the CA sends it (RFC 8555 §7.1.3).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Order {
    /// The order's status.
    pub status: OrderStatus,

    /// When the CA will give the order up.
    #[serde(
        default,
        with = "timestamp::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub expires: Option<SystemTime>,

    /// What the certificate is for. Their order has no meaning.
    #[serde(default, deserialize_with = "null_as_default")]
    pub identifiers: Vec<Identifier>,

    /// The `notBefore` that the certificate will have, where one was asked for.
    #[serde(
        default,
        with = "timestamp::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub not_before: Option<SystemTime>,

    /// The `notAfter` that the certificate will have, where one was asked for.
    #[serde(
        default,
        with = "timestamp::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub not_after: Option<SystemTime>,

    /// Why the order failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,

    /// The authorizations that the order needs, or needed. Not in the order of the identifiers.
    #[serde(default, deserialize_with = "null_as_default")]
    pub authorizations: Vec<Url>,

    /// Where the CSR goes.
    pub finalize: Url,

    /// Where the certificate is, once the order is valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Url>,

    /// The profile that the CA took (draft-ietf-acme-profiles).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,

    /// The identifier of the certificate that this order's one replaces (RFC 9773 §5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,

    /// Members that certwright has no name for.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Order {
    /// An order that has just been made: pending, with nothing optional set.
    pub fn pending(identifiers: Vec<Identifier>, authorizations: Vec<Url>, finalize: Url) -> Self {
        Self {
            status: OrderStatus::Pending,
            expires: None,
            identifiers,
            not_before: None,
            not_after: None,
            error: None,
            authorizations,
            finalize,
            certificate: None,
            profile: None,
            replaces: None,
            other: Map::new(),
        }
    }
}

open_enum! {
    /// The status of an order (RFC 8555 §7.1.6).
    pub enum OrderStatus {
        /// Some authorization is not valid yet.
        Pending = "pending",
        /// All authorizations are valid; the CSR can be sent.
        Ready = "ready",
        /// The CA is issuing.
        Processing = "processing",
        /// The certificate is there.
        Valid = "valid",
        /// The order failed, expired, or lost an authorization. Only a new order can help.
        Invalid = "invalid",
        /// An order that renews by itself was ended (RFC 8739 §3.1.2).
        Canceled = "canceled",
    }
}

/// The request for an order (RFC 8555 §7.4).
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct NewOrder {
    /// What the certificate is for.
    pub identifiers: Vec<Identifier>,

    /// The `notBefore` to ask for. Let's Encrypt refuses orders that have one.
    #[serde(
        default,
        with = "timestamp::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub not_before: Option<SystemTime>,

    /// The `notAfter` to ask for. Let's Encrypt refuses orders that have one.
    #[serde(
        default,
        with = "timestamp::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub not_after: Option<SystemTime>,

    /// The profile to ask for, of those that the directory lists (draft-ietf-acme-profiles).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,

    /// The identifier of the certificate to replace (RFC 9773 §5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
}

impl NewOrder {
    /// A request for these identifiers, with nothing optional set.
    pub fn new(identifiers: Vec<Identifier>) -> Self {
        Self {
            identifiers,
            ..Self::default()
        }
    }
}

/// The request that finalizes an order (RFC 8555 §7.4).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Finalize {
    /// The CSR (PKCS#10), in DER.
    pub csr: Base64Url,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_example_of_section_7_1_3() {
        let order: Order = serde_json::from_str(
            r#"{
                "status": "valid",
                "expires": "2016-01-20T14:09:07.99Z",
                "identifiers": [
                    { "type": "dns", "value": "www.example.org" },
                    { "type": "dns", "value": "example.org" }
                ],
                "notBefore": "2016-01-01T00:00:00Z",
                "notAfter": "2016-01-08T00:00:00Z",
                "authorizations": [
                    "https://example.com/acme/authz/PAniVnsZcis",
                    "https://example.com/acme/authz/r4HqLzrSrpI"
                ],
                "finalize": "https://example.com/acme/order/TOlocE8rfgo/finalize",
                "certificate": "https://example.com/acme/cert/mAt3xBGaobw"
            }"#,
        )
        .unwrap();
        assert_eq!(order.status, OrderStatus::Valid);
        assert_eq!(order.identifiers.len(), 2);
        assert!(order.expires.is_some() && order.not_before.is_some());
        assert_eq!(order.authorizations.len(), 2);
    }

    #[test]
    fn tolerates_null_and_garbage() {
        let order: Order = serde_json::from_str(
            r#"{"status":"resting","expires":"tomorrow","authorizations":null,"error":null,
                "finalize":"https://ca.example/f","id":"x"}"#,
        )
        .unwrap();
        assert_eq!(order.status, OrderStatus::Other("resting".into()));
        assert_eq!(order.expires, None);
        assert!(order.authorizations.is_empty());
    }

    #[test]
    fn sends_only_what_is_set() {
        let request = NewOrder::new(vec!["example.com".parse().unwrap()]);
        assert_eq!(
            serde_json::to_string(&request).unwrap(),
            r#"{"identifiers":[{"type":"dns","value":"example.com"}]}"#
        );
    }
}
