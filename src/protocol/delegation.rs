use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Url, null_as_default};

/// What the holder of a name lets another account order in its stead (RFC 9115 §2.3.1.3).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Delegation {
    /// What the CSR may and must hold, in the JSON of §4: for a person, or a tool, to follow.
    pub csr_template: Value,

    /// The CNAME records to make, from each name to its target, where the delegation asks for any.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub cname_map: BTreeMap<String, String>,

    /// Members that certwright has no name for.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The list of an account's delegations, or a page of it (RFC 9115 §2.3.1.1).
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Delegations {
    /// Where each delegation is.
    #[serde(default, deserialize_with = "null_as_default")]
    pub delegations: Vec<Url>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        let text = r#"{"csr-template":{"keyTypes":[{"PublicKeyType":"id-ecPublicKey","namedCurve":"secp256r1","SignatureType":"ecdsa-with-SHA256"}],"subject":{"country":"CA","stateOrProvince":"**","locality":"**"},"extensions":{"subjectAltName":{"DNS":["abc.ido.example"]}}},"cname-map":{"abc.ido.example.":"abc.ndc.example."}}"#;
        let delegation: Delegation = serde_json::from_str(text).unwrap();
        assert_eq!(delegation.cname_map["abc.ido.example."], "abc.ndc.example.");
        assert_eq!(
            delegation.csr_template["extensions"]["subjectAltName"]["DNS"][0],
            "abc.ido.example"
        );
        let again: Value =
            serde_json::from_str(&serde_json::to_string(&delegation).unwrap()).unwrap();
        assert_eq!(again, serde_json::from_str::<Value>(text).unwrap());
    }
}
