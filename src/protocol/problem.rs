use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::{Identifier, limits, null_as_default};

/// A problem document: what a CA says when it refuses or fails (RFC 8555 §6.7, RFC 9457).
///
/// Found in the body of an error reply, in the `error` member of a challenge, and in that of an
/// order.
///
/// ```
/// use certwright::protocol::{Problem, ProblemType};
///
/// let problem: Problem = serde_json::from_str(
///     r#"{"type":"urn:ietf:params:acme:error:dns","detail":"NXDOMAIN looking up A for example.com"}"#,
/// )?;
/// assert_eq!(problem.kind, ProblemType::Dns);
/// assert_eq!(problem.to_string(), "dns: NXDOMAIN looking up A for example.com");
/// # Ok::<_, serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Problem {
    /// What kind of problem it is: the `type` member.
    #[serde(rename = "type", default, deserialize_with = "null_as_default")]
    pub kind: ProblemType,

    /// A short name of the kind, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,

    /// What happened this time, for people. Its words are the CA's own and have no fixed form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,

    /// The HTTP status, where the document repeats it.
    #[serde(
        default,
        deserialize_with = "status",
        skip_serializing_if = "Option::is_none"
    )]
    pub status: Option<u16>,

    /// A page about this occurrence. For `userActionRequired`, the page that a person must visit
    /// (§7.3.3). It may be relative to the URL of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,

    /// In a subproblem, the identifier that it is about (§6.7.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identifier: Option<Identifier>,

    /// The problems of single identifiers that this one is made of (§6.7.1).
    #[serde(
        default,
        deserialize_with = "limits::first::<{ limits::SUBPROBLEMS }, _, _>",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub subproblems: Vec<Problem>,

    /// With `badSignatureAlgorithm`, the algorithms that the CA takes (§6.2).
    #[serde(
        default,
        deserialize_with = "limits::first::<{ limits::NAMES }, _, _>",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub algorithms: Vec<String>,

    /// Members that certwright has no name for.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Problem {
    /// A problem of a kind, in one's own words.
    pub fn new(kind: ProblemType, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: Some(detail.into()),
            ..Self::default()
        }
    }

    /// The problem narrowed to one identifier, for use as a subproblem.
    #[must_use]
    pub fn for_identifier(mut self, identifier: Identifier) -> Self {
        self.identifier = Some(identifier);
        self
    }

    /// The problem made of others.
    #[must_use]
    pub fn with_subproblems(mut self, subproblems: Vec<Self>) -> Self {
        self.subproblems = subproblems;
        self
    }

    /// The problems of single identifiers within this one, each with its identifier (§6.7.1).
    pub fn by_identifier(&self) -> Vec<(&Identifier, &Self)> {
        let mut found = Vec::new();
        self.collect_by_identifier(&mut found, 0);
        found
    }

    fn collect_by_identifier<'a>(
        &'a self,
        found: &mut Vec<(&'a Identifier, &'a Self)>,
        depth: usize,
    ) {
        if let Some(identifier) = &self.identifier {
            found.push((identifier, self));
            return;
        }
        if depth == Self::DEEPEST {
            return;
        }
        for subproblem in &self.subproblems {
            subproblem.collect_by_identifier(found, depth + 1);
        }
    }

    /// A document nested without end must not fill a log, nor a stack.
    const DEEPEST: usize = 3;

    /// How many subproblems of one problem are shown.
    const MOST: usize = 100;

    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        if let Some(identifier) = &self.identifier {
            write!(f, "{identifier}: ")?;
        }
        write!(f, "{}", self.kind)?;
        if let Some(text) = self.detail.as_deref().or(self.title.as_deref()) {
            write!(f, ": {}", printable(text))?;
        }
        if !self.algorithms.is_empty() {
            let algorithms = self.algorithms.join(", ");
            write!(f, " (the CA takes {})", printable(&algorithms))?;
        }
        if depth == Self::DEEPEST {
            return Ok(());
        }
        for (index, subproblem) in self.subproblems.iter().take(Self::MOST).enumerate() {
            f.write_str(if index == 0 { " (" } else { "; " })?;
            subproblem.write(f, depth + 1)?;
        }
        if let Some(more @ 1..) = self.subproblems.len().checked_sub(Self::MOST) {
            write!(f, "; and {more} more")?;
        }
        if !self.subproblems.is_empty() {
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}

/// Some servers send the status as a string.
fn status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    let value = Option::<Value>::deserialize(deserializer)?;
    Ok(match value {
        Some(Value::Number(number)) => number.as_u64().and_then(|number| number.try_into().ok()),
        Some(Value::String(text)) => text.parse().ok(),
        _ => None,
    })
}

/// Text from outside, fit for a terminal: no control characters, at most 2,000 characters.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    const LIMIT: usize = 2_000;
    if text.len() <= LIMIT && !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let clean = text.chars().map(|c| match c {
        c if c.is_control() => ' ',
        c => c,
    });
    Cow::Owned(clean.take(LIMIT).collect())
}

macro_rules! problem_types {
    ($($(#[$meta:meta])* $variant:ident = $text:literal,)+) => {
        /// The kind of a [`Problem`] (RFC 8555 §6.7 and the registry it founded).
        #[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
        #[non_exhaustive]
        pub enum ProblemType {
            $($(#[$meta])* $variant,)+
            /// `about:blank`: the document says no more than the HTTP status (RFC 9457 §4.2.1).
            #[default]
            Blank,
            /// A kind that this version of certwright has no name for: the whole `type` member.
            Other(String),
        }

        impl ProblemType {
            const PREFIX: &str = "urn:ietf:params:acme:error:";
            /// Used before the RFC was final, and by some servers still.
            const OLD_PREFIX: &str = "urn:acme:error:";

            /// The whole `type` member, such as `urn:ietf:params:acme:error:malformed`.
            pub fn urn(&self) -> String {
                match self {
                    Self::Blank => "about:blank".to_owned(),
                    Self::Other(text) => text.clone(),
                    $(Self::$variant => format!("{}{}", Self::PREFIX, $text),)+
                }
            }

            fn name(&self) -> &str {
                match self {
                    Self::Blank => "no problem type",
                    Self::Other(text) => text,
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl From<&str> for ProblemType {
            fn from(urn: &str) -> Self {
                if urn.is_empty() || urn == "about:blank" {
                    return Self::Blank;
                }
                let name = [Self::PREFIX, Self::OLD_PREFIX].iter().find_map(|prefix| {
                    let (start, name) = urn.split_at_checked(prefix.len())?;
                    start.eq_ignore_ascii_case(prefix).then_some(name)
                });
                let known = name.and_then(|name| match name {
                    $(name if name.eq_ignore_ascii_case($text) => Some(Self::$variant),)+
                    _ => None,
                });
                known.unwrap_or_else(|| Self::Other(urn.to_owned()))
            }
        }
    };
}

problem_types! {
    /// The request names an account that does not exist.
    AccountDoesNotExist = "accountDoesNotExist",
    /// The certificate named by `replaces` has a replacement already (RFC 9773 §7.4).
    AlreadyReplaced = "alreadyReplaced",
    /// The certificate is revoked already.
    AlreadyRevoked = "alreadyRevoked",
    /// An order that renews by itself can be canceled only while it is valid (RFC 8739 §3.1.2).
    AutoRenewalCancellationInvalid = "autoRenewalCancellationInvalid",
    /// The certificate is gone, as its order was canceled (RFC 8739 §3.1.2).
    AutoRenewalCanceled = "autoRenewalCanceled",
    /// The certificate is gone, as its order has come to its end (RFC 8739 §3.3).
    AutoRenewalExpired = "autoRenewalExpired",
    /// A certificate that renews by itself can't be revoked: cancel its order (RFC 8739 §3.1.3).
    AutoRenewalRevocationNotSupported = "autoRenewalRevocationNotSupported",
    /// The attestation of a device was refused (draft-ietf-acme-device-attest).
    BadAttestationStatement = "badAttestationStatement",
    /// The CSR is unacceptable.
    BadCsr = "badCSR",
    /// The nonce is unacceptable. certwright tries again by itself.
    BadNonce = "badNonce",
    /// The JWS was signed by a key that the CA does not take.
    BadPublicKey = "badPublicKey",
    /// The reason given for a revocation is not allowed.
    BadRevocationReason = "badRevocationReason",
    /// The JWS was signed by an algorithm that the CA does not take.
    BadSignatureAlgorithm = "badSignatureAlgorithm",
    /// CAA records forbid the CA to issue.
    Caa = "caa",
    /// Several problems: see the subproblems.
    Compound = "compound",
    /// The request clashes with the state of what it is about. Not registered; Boulder sends it.
    Conflict = "conflict",
    /// The CA could not connect to the target of validation.
    Connection = "connection",
    /// A DNS query failed during validation.
    Dns = "dns",
    /// The CA wants an external account binding (RFC 8555 §7.3.4).
    ExternalAccountRequired = "externalAccountRequired",
    /// What was found in validation was not the key authorization.
    IncorrectResponse = "incorrectResponse",
    /// A contact URL is invalid.
    InvalidContact = "invalidContact",
    /// The profile asked for is unknown (draft-ietf-acme-profiles).
    InvalidProfile = "invalidProfile",
    /// The request is malformed.
    Malformed = "malformed",
    /// The CA wants the CAA records of a hidden service in the request (RFC 9799 §6.4).
    OnionCaaRequired = "onionCAARequired",
    /// The order is not ready to be finalized.
    OrderNotReady = "orderNotReady",
    /// A rate limit is exceeded.
    RateLimited = "rateLimited",
    /// The CA does not issue for this identifier.
    RejectedIdentifier = "rejectedIdentifier",
    /// The CA failed.
    ServerInternal = "serverInternal",
    /// A TLS error during validation.
    Tls = "tls",
    /// The client has no right to do this; also: validation found the wrong answer.
    Unauthorized = "unauthorized",
    /// The order names a delegation that the CA does not know (RFC 9115 §2.3.2).
    UnknownDelegation = "unknownDelegation",
    /// A contact URL is of a scheme that the CA does not use.
    UnsupportedContact = "unsupportedContact",
    /// An identifier is of a type that the CA does not issue for.
    UnsupportedIdentifier = "unsupportedIdentifier",
    /// A person must visit the `instance` URL (RFC 8555 §7.3.3).
    UserActionRequired = "userActionRequired",
}

impl fmt::Display for ProblemType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(self.name()))
    }
}

impl Serialize for ProblemType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.urn())
    }
}

impl<'de> Deserialize<'de> for ProblemType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from(String::deserialize(deserializer)?.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors() {
        let vectors: Value =
            serde_json::from_str(include_str!("../../tests/vectors/problems.json")).unwrap();
        let cases = vectors["cases"].as_array().unwrap();
        assert!(cases.len() >= 9);
        for case in cases {
            let problem: Problem = serde_json::from_value(case["body"].clone()).unwrap();
            let expect = &case["expect"];
            if let Some(urn) = expect["type"].as_str() {
                assert_eq!(problem.kind.urn(), urn, "{}", case["id"]);
            }
            if let Some(count) = expect["subproblems"].as_u64() {
                assert_eq!(problem.subproblems.len() as u64, count);
            }
            if expect["is_bad_nonce"] == true {
                assert_eq!(problem.kind, ProblemType::BadNonce);
            }
        }
    }

    #[test]
    fn shows_subproblems_by_identifier() {
        let problem: Problem = serde_json::from_str(
            r#"{"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"no","subproblems":[
                {"type":"urn:ietf:params:acme:error:caa","detail":"CAA says\u001b[31m no",
                 "identifier":{"type":"dns","value":"a.example"}},
                {"type":"urn:smallstep:acme:error:x","identifier":{"type":"dns","value":"b.example"}}]}"#,
        )
        .unwrap();
        assert_eq!(
            problem.to_string(),
            "rejectedIdentifier: no (a.example: caa: CAA says [31m no; \
             b.example: urn:smallstep:acme:error:x)"
        );
    }

    #[test]
    fn finds_problems_by_identifier() {
        let of =
            |name: &str| Problem::new(ProblemType::Caa, "no").for_identifier(name.parse().unwrap());
        let nested = Problem::default().with_subproblems(vec![of("c.example")]);
        let problem = Problem::new(ProblemType::Compound, "several").with_subproblems(vec![
            of("a.example"),
            Problem::default(),
            nested,
        ]);
        let found: Vec<_> = problem
            .by_identifier()
            .into_iter()
            .map(|(identifier, problem)| (identifier.to_string(), problem.kind.clone()))
            .collect();
        let expected = ["a.example", "c.example"].map(|name| (name.to_owned(), ProblemType::Caa));
        assert_eq!(found, expected);
        assert!(Problem::default().by_identifier().is_empty());

        let mut endless = of("z.example");
        for _ in 0..100 {
            endless = Problem::default().with_subproblems(vec![endless]);
        }
        assert!(endless.by_identifier().is_empty());
    }

    #[test]
    fn shows_the_algorithms_that_the_ca_takes() {
        let problem: Problem = serde_json::from_str(
            r#"{"type":"urn:ietf:params:acme:error:badSignatureAlgorithm","detail":"no EdDSA",
                "algorithms":["RS256","ES256"]}"#,
        )
        .unwrap();
        assert_eq!(
            problem.to_string(),
            "badSignatureAlgorithm: no EdDSA (the CA takes RS256, ES256)"
        );
    }

    /// The registry that RFC 8555 §9.7.4 founded, as of August 2026, and what Boulder adds.
    #[test]
    fn knows_every_registered_type() {
        for name in [
            "accountDoesNotExist",
            "alreadyReplaced",
            "alreadyRevoked",
            "autoRenewalCanceled",
            "autoRenewalCancellationInvalid",
            "autoRenewalExpired",
            "autoRenewalRevocationNotSupported",
            "badAttestationStatement",
            "badCSR",
            "badNonce",
            "badPublicKey",
            "badRevocationReason",
            "badSignatureAlgorithm",
            "caa",
            "compound",
            "conflict",
            "connection",
            "dns",
            "externalAccountRequired",
            "incorrectResponse",
            "invalidContact",
            "invalidProfile",
            "malformed",
            "onionCAARequired",
            "orderNotReady",
            "rateLimited",
            "rejectedIdentifier",
            "serverInternal",
            "tls",
            "unauthorized",
            "unknownDelegation",
            "unsupportedContact",
            "unsupportedIdentifier",
            "userActionRequired",
        ] {
            let urn = format!("urn:ietf:params:acme:error:{name}");
            let kind = ProblemType::from(urn.as_str());
            assert!(!matches!(kind, ProblemType::Other(_)), "{name}");
            assert_eq!(kind.urn(), urn);
            assert_eq!(kind.to_string(), name);
        }
    }

    #[test]
    fn keeps_unknown_kinds_and_members() {
        let text = r#"{"type":"urn:example:new","extra":[1]}"#;
        let problem: Problem = serde_json::from_str(text).unwrap();
        assert_eq!(problem.kind, ProblemType::Other("urn:example:new".into()));
        assert_eq!(serde_json::to_string(&problem).unwrap(), text);
    }

    #[test]
    fn survives_odd_members() {
        let problem: Problem =
            serde_json::from_str(r#"{"type":null,"status":"403","subproblems":null}"#).unwrap();
        assert_eq!(problem.kind, ProblemType::Blank);
        assert_eq!(problem.status, Some(403));
    }
}
