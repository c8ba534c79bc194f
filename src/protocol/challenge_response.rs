use std::fmt;

use serde::Serialize;
use thiserror::Error;

/// What is sent to a challenge's URL to say that it is ready (RFC 8555 §7.5.1): a JSON object.
///
/// The types of RFC 8555, RFC 8737 and the DNS types beside them take an empty one. Others take what
/// proves control: an attestation, a CSR, a token.
///
/// ```
/// use certwright::protocol::ChallengeResponse;
/// use serde::Serialize;
///
/// #[derive(Serialize)]
/// #[serde(rename_all = "camelCase")]
/// struct Attestation {
///     att_obj: String,
/// }
///
/// let response = ChallengeResponse::new(&Attestation { att_obj: "o2NmbXQ".to_owned() })?;
/// assert_eq!(response.as_str(), r#"{"attObj":"o2NmbXQ"}"#);
/// assert_eq!(ChallengeResponse::empty().as_str(), "{}");
/// assert!(ChallengeResponse::new(&"text").is_err());
/// # Ok::<_, certwright::protocol::InvalidChallengeResponse>(())
/// ```
#[derive(Clone, Eq, PartialEq)]
pub struct ChallengeResponse(String);

impl ChallengeResponse {
    /// The most octets that a response has. Attestations with their certificates stay far below.
    pub const MAX_SIZE: usize = 64 * 1024;

    /// `{}`
    pub fn empty() -> Self {
        Self("{}".to_owned())
    }

    /// A response with the members of this value, which must serialise to a JSON object of at most
    /// [`MAX_SIZE`](Self::MAX_SIZE) octets.
    pub fn new(value: &impl Serialize) -> Result<Self, InvalidChallengeResponse> {
        let text = serde_json::to_string(value)
            .map_err(|error| InvalidChallengeResponse::Json(error.to_string()))?;
        if !text.starts_with('{') {
            return Err(InvalidChallengeResponse::NoObject);
        }
        if text.len() > Self::MAX_SIZE {
            return Err(InvalidChallengeResponse::TooLong(text.len()));
        }
        Ok(Self(text))
    }

    /// The JSON, as it is sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for ChallengeResponse {
    fn default() -> Self {
        Self::empty()
    }
}

impl fmt::Debug for ChallengeResponse {
    /// Without the members: an authority's token may be among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChallengeResponse({} octets)", self.0.len())
    }
}

/// A value that can't be the response to a challenge.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum InvalidChallengeResponse {
    /// It can't be written as JSON.
    #[error("the response to a challenge can't be written as JSON: {0}")]
    Json(String),
    /// It is no JSON object.
    #[error("the response to a challenge must be a JSON object (RFC 8555 §7.5.1)")]
    NoObject,
    /// It has this many octets.
    #[error(
        "the response to a challenge has {0} octets, and at most {max} are sent",
        max = ChallengeResponse::MAX_SIZE
    )]
    TooLong(usize),
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn takes_objects_within_the_bound_only() {
        let filler = |length| BTreeMap::from([("a", "x".repeat(length))]);
        // `{"a":""}` has eight octets.
        let longest = filler(ChallengeResponse::MAX_SIZE - 8);
        assert_eq!(
            ChallengeResponse::new(&longest).unwrap().as_str().len(),
            ChallengeResponse::MAX_SIZE
        );
        assert_eq!(
            ChallengeResponse::new(&filler(ChallengeResponse::MAX_SIZE - 7)),
            Err(InvalidChallengeResponse::TooLong(
                ChallengeResponse::MAX_SIZE + 1
            ))
        );
        assert_eq!(
            ChallengeResponse::new(&[1, 2]),
            Err(InvalidChallengeResponse::NoObject)
        );
        assert_eq!(
            ChallengeResponse::new(&()),
            Err(InvalidChallengeResponse::NoObject)
        );
        // JSON has no other keys than strings.
        assert!(matches!(
            ChallengeResponse::new(&BTreeMap::from([((1, 2), 3)])),
            Err(InvalidChallengeResponse::Json(_))
        ));
    }

    #[test]
    fn hides_its_members() {
        let token = BTreeMap::from([("tkauth", "secret")]);
        let response = ChallengeResponse::new(&token).unwrap();
        assert_eq!(format!("{response:?}"), "ChallengeResponse(19 octets)");
    }
}
