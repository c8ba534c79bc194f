use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    AutoRenewal, Base64Url, DnsName, Identifier, Problem, Url, limits, null_as_default, open_enum,
    timestamp,
};

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
    #[serde(
        default,
        deserialize_with = "limits::list::<{ limits::IDENTIFIERS }, _, _>"
    )]
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
    pub error: Option<Box<Problem>>,

    /// The authorizations that the order needs, or needed. Not in the order of the identifiers.
    #[serde(
        default,
        deserialize_with = "limits::list::<{ limits::IDENTIFIERS }, _, _>"
    )]
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

    /// How the order renews its certificate by itself, as the CA granted it (RFC 8739 §3.1.1).
    #[serde(
        rename = "auto-renewal",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub auto_renewal: Option<AutoRenewal>,

    /// Where the current certificate of an order is that renews by itself (RFC 8739 §3.1.1).
    #[serde(
        rename = "star-certificate",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub star_certificate: Option<Url>,

    /// The delegation that the order is under (RFC 9115 §2.3.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegation: Option<Url>,

    /// Whether the certificate can be had by a GET without a signature (RFC 9115 §2.3.5).
    #[serde(
        rename = "allow-certificate-get",
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub allow_certificate_get: bool,

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
            auto_renewal: None,
            star_certificate: None,
            delegation: None,
            allow_certificate_get: false,
            other: Map::new(),
        }
    }

    /// Whether the CA has given the order up by this time (§7.1.3).
    pub fn has_expired(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|expires| expires < now)
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
#[serde(from = "RawNewOrder", into = "RawNewOrder")]
#[non_exhaustive]
pub struct NewOrder {
    /// What the certificate is for.
    pub identifiers: Vec<Identifier>,

    /// For some of the identifiers, a name above by which control may be proved (RFC 9444 §4.2).
    pub ancestor_domains: BTreeMap<Identifier, DnsName>,

    /// The `notBefore` to ask for. Let's Encrypt refuses orders that have one.
    pub not_before: Option<SystemTime>,

    /// The `notAfter` to ask for. Let's Encrypt refuses orders that have one.
    pub not_after: Option<SystemTime>,

    /// The profile to ask for, of those that the directory lists (draft-ietf-acme-profiles).
    pub profile: Option<String>,

    /// The identifier of the certificate to replace (RFC 9773 §5).
    pub replaces: Option<String>,

    /// How the order is to renew its certificate by itself (RFC 8739 §3.1.1).
    pub auto_renewal: Option<AutoRenewal>,

    /// The delegation to order under (RFC 9115 §2.3.2).
    pub delegation: Option<Url>,

    /// Ask that the certificate can be had by a GET without a signature (RFC 9115 §2.3.5).
    pub allow_certificate_get: bool,
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

/// The request's JSON, where an ancestor domain stands within its identifier.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct RawNewOrder {
    #[serde(default, deserialize_with = "null_as_default")]
    identifiers: Vec<RawOrderIdentifier>,
    #[serde(
        default,
        with = "timestamp::option",
        skip_serializing_if = "Option::is_none"
    )]
    not_before: Option<SystemTime>,
    #[serde(
        default,
        with = "timestamp::option",
        skip_serializing_if = "Option::is_none"
    )]
    not_after: Option<SystemTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    profile: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaces: Option<String>,
    #[serde(
        rename = "auto-renewal",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    auto_renewal: Option<AutoRenewal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delegation: Option<Url>,
    #[serde(
        rename = "allow-certificate-get",
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    allow_certificate_get: bool,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct RawOrderIdentifier {
    #[serde(flatten)]
    identifier: Identifier,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ancestor_domain: Option<String>,
}

impl From<NewOrder> for RawNewOrder {
    fn from(mut order: NewOrder) -> Self {
        let identifiers = order.identifiers.into_iter().map(|identifier| {
            let ancestor = order.ancestor_domains.remove(&identifier);
            RawOrderIdentifier {
                ancestor_domain: ancestor.map(|name| name.to_string()),
                identifier,
            }
        });
        Self {
            identifiers: identifiers.collect(),
            not_before: order.not_before,
            not_after: order.not_after,
            profile: order.profile,
            replaces: order.replaces,
            auto_renewal: order.auto_renewal,
            delegation: order.delegation,
            allow_certificate_get: order.allow_certificate_get,
        }
    }
}

impl From<RawNewOrder> for NewOrder {
    fn from(raw: RawNewOrder) -> Self {
        let mut ancestor_domains = BTreeMap::new();
        let identifiers = raw.identifiers.into_iter().map(|raw| {
            let ancestor = raw.ancestor_domain.as_deref();
            if let Some(Ok(ancestor)) = ancestor.map(DnsName::parse) {
                ancestor_domains.insert(raw.identifier.clone(), ancestor);
            }
            raw.identifier
        });
        Self {
            identifiers: identifiers.collect(),
            ancestor_domains,
            not_before: raw.not_before,
            not_after: raw.not_after,
            profile: raw.profile,
            replaces: raw.replaces,
            auto_renewal: raw.auto_renewal,
            delegation: raw.delegation,
            allow_certificate_get: raw.allow_certificate_get,
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

    #[test]
    fn puts_an_ancestor_domain_into_its_identifier() {
        let name: Identifier = "a.b.example.org".parse().unwrap();
        let mut request = NewOrder::new(vec![name.clone(), "192.0.2.1".parse().unwrap()]);
        request
            .ancestor_domains
            .insert(name, "example.org".parse().unwrap());
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(
            text,
            r#"{"identifiers":[{"type":"dns","value":"a.b.example.org","ancestorDomain":"example.org"},{"type":"ip","value":"192.0.2.1"}]}"#
        );
        assert_eq!(serde_json::from_str::<NewOrder>(&text).unwrap(), request);
    }

    #[test]
    fn reads_an_order_that_renews_by_itself() {
        let order: Order = serde_json::from_str(
            r#"{"status":"canceled","finalize":"https://ca.example/f",
                "auto-renewal":{"end-date":"2025-01-20T00:00:00Z","lifetime":345600},
                "star-certificate":"https://ca.example/star/1",
                "delegation":"https://ca.example/delegation/1"}"#,
        )
        .unwrap();
        assert_eq!(order.status, OrderStatus::Canceled);
        assert_eq!(order.auto_renewal.unwrap().lifetime.as_secs(), 345_600);
        assert!(order.star_certificate.is_some() && order.delegation.is_some());
        assert!(order.other.is_empty());
    }

    #[test]
    fn expires() {
        let order: Order = serde_json::from_str(
            r#"{"status":"pending","finalize":"https://ca.example/f",
                "expires":"2016-01-20T14:09:07Z"}"#,
        )
        .unwrap();
        let expires = order.expires.unwrap();
        let second = std::time::Duration::from_secs(1);
        assert!(order.has_expired(expires + second) && !order.has_expired(expires - second));
    }
}
