use super::PreflightFault;
use crate::dns::{Caa, CaaSet};
use crate::protocol::{ChallengeType, IssueValue, Url};

/// What CAA records are asked about.
pub(super) struct Request<'a> {
    /// The CA's names; empty where they are not known.
    pub(super) identities: &'a [String],
    /// The account's URL, where there is an account.
    pub(super) account: Option<&'a Url>,
    pub(super) is_wildcard: bool,
    /// The types of challenge that could be solved; empty where nobody said.
    pub(super) methods: &'a [ChallengeType],
}

/// What the records have against the request (RFC 8659 §4, RFC 8657), for all types of challenge or
/// for one.
pub(super) fn judge(
    set: &CaaSet,
    request: &Request<'_>,
) -> Vec<(Option<ChallengeType>, PreflightFault)> {
    // "If the Issuer Critical Flag is set, and the property is not understood, the CA MUST NOT issue"
    // (RFC 8659 §4.5).
    let unknown = set
        .records
        .iter()
        .find(|record| record.critical && !KNOWN_TAGS.contains(&record.tag.as_str()));
    if let Some(record) = unknown {
        let fault = PreflightFault::CaaCritical {
            at: set.name.clone(),
            tag: record.tag.clone(),
        };
        return vec![(None, fault)];
    }

    // "issuewild Properties MUST take precedence over each issue Property when specified" (§4.3).
    let has_wild = set
        .records
        .iter()
        .any(|record| record.tag == Caa::ISSUE_WILD);
    let tag = match request.is_wildcard && has_wild {
        true => Caa::ISSUE_WILD,
        false => Caa::ISSUE,
    };
    let relevant: Vec<_> = set
        .records
        .iter()
        .filter(|record| record.tag == tag)
        .collect();
    if relevant.is_empty() {
        return Vec::new();
    }
    // A value that breaks the grammar allows nobody, and so does one that says a thing twice.
    let valid: Vec<_> = relevant
        .iter()
        .filter_map(|record| record.issuer()?.ok())
        .filter(|value| value.repeated_tag().is_none())
        .collect();
    let told = || relevant.iter().map(|record| record.value.clone()).collect();
    let forbids = || PreflightFault::CaaForbids {
        at: set.name.clone(),
        tag: tag.to_owned(),
        values: told(),
        identities: request.identities.to_vec(),
    };
    if request.identities.is_empty() {
        let fault = match valid.iter().any(|value| value.issuer().is_some()) {
            true => PreflightFault::CaaUnknownCa {
                at: set.name.clone(),
                values: told(),
            },
            false => forbids(),
        };
        return vec![(None, fault)];
    }

    let is_ca = |issuer: &str| {
        let mut identities = request.identities.iter();
        identities.any(|identity| identity.eq_ignore_ascii_case(issuer))
    };
    let for_ca: Vec<_> = valid
        .iter()
        .filter(|value| value.issuer().is_some_and(is_ca))
        .collect();
    if for_ca.is_empty() {
        return vec![(None, forbids())];
    }

    let for_account: Vec<_> = for_ca
        .iter()
        .filter(|value| allows_account(value, request.account))
        .collect();
    if let (true, Some(account)) = (for_account.is_empty(), request.account) {
        let uris = for_ca
            .iter()
            .filter_map(|value| value.parameter(IssueValue::ACCOUNT_URI));
        let fault = PreflightFault::CaaAccount {
            at: set.name.clone(),
            allowed: uris.map(str::to_owned).collect(),
            account: account.clone(),
        };
        return vec![(None, fault)];
    }

    let forbidden = request.methods.iter().filter(|method| {
        !for_account.iter().any(|value| {
            value
                .validation_methods()
                .is_none_or(|allowed| allowed.contains(&method.as_str()))
        })
    });
    let faults = forbidden.map(|method| {
        let methods = for_account
            .iter()
            .filter_map(|value| value.validation_methods());
        let fault = PreflightFault::CaaMethod {
            at: set.name.clone(),
            allowed: methods.flatten().map(str::to_owned).collect(),
            method: method.clone(),
        };
        (Some(method.clone()), fault)
    });
    faults.collect()
}

fn allows_account(value: &IssueValue, account: Option<&Url>) -> bool {
    match (value.parameter(IssueValue::ACCOUNT_URI), account) {
        (Some(uri), Some(account)) => uri == account.as_str(),
        _ => true,
    }
}

/// Those that CAs understand; of the last, that it is nothing to go by.
const KNOWN_TAGS: [&str; 3] = [Caa::ISSUE, Caa::ISSUE_WILD, "iodef"];

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: &str = "https://ca.example/acct/1";

    /// The records of a set, as `tag value`, or `!tag value` where they are critical.
    fn set(records: &[&str]) -> CaaSet {
        CaaSet {
            name: "example.com".to_owned(),
            records: records
                .iter()
                .map(|record| {
                    let (tag, value) = record.split_once(' ').unwrap();
                    Caa {
                        critical: tag.starts_with('!'),
                        tag: tag.trim_start_matches('!').to_owned(),
                        value: value.to_owned(),
                    }
                })
                .collect(),
        }
    }

    fn outcome(records: &[&str], is_wildcard: bool) -> Vec<String> {
        let account = Url::parse(ACCOUNT).unwrap();
        let request = Request {
            identities: &["ca.example".to_owned(), "ca.test".to_owned()],
            account: Some(&account),
            is_wildcard,
            methods: &[ChallengeType::Http01, ChallengeType::Dns01],
        };
        let faults = judge(&set(records), &request).into_iter();
        let names = faults.map(|(kind, fault)| {
            let name = format!("{fault:?}");
            let name = name.split(' ').next().unwrap();
            match kind {
                Some(kind) => format!("{name} {kind}"),
                None => name.to_owned(),
            }
        });
        names.collect()
    }

    #[test]
    fn allows_and_forbids_as_a_ca_does() {
        for (records, wildcard, expected) in [
            (&["issue ca.example"][..], false, &[][..]),
            (&["issue ca.example"], true, &[]),
            (&["issue CA.Example"], false, &[]),
            (&["issue other.example", "issue ca.test; a=b"], false, &[]),
            (&["iodef mailto:a@example.com"], false, &[]),
            (&["!iodef mailto:a@example.com"], false, &[]),
            (&["tbs unknown"], false, &[]),
            (
                &["!tbs unknown", "issue ca.example"],
                false,
                &["CaaCritical"],
            ),
            (&["issue other.example"], false, &["CaaForbids"]),
            (&["issue ;"], false, &["CaaForbids"]),
            (&["issue ;", "issue ca.example"], false, &[]),
            (&["issue %%%"], false, &["CaaForbids"]),
            (&["issue ca.example.evil.example"], false, &["CaaForbids"]),
            // issuewild is for wildcards only, and then alone.
            (&["issuewild ;"], false, &[]),
            (&["issuewild ;", "issue ca.example"], true, &["CaaForbids"]),
            (&["issuewild ca.example", "issue ;"], true, &[]),
            (&["issuewild ca.example", "issue ;"], false, &["CaaForbids"]),
            // RFC 8657.
            (
                &["issue ca.example; accounturi=https://ca.example/acct/1"],
                false,
                &[],
            ),
            (
                &["issue ca.example; accounturi=https://ca.example/acct/2"],
                false,
                &["CaaAccount"],
            ),
            (
                &[
                    "issue ca.example; accounturi=https://ca.example/acct/2",
                    "issue ca.test; accounturi=https://ca.example/acct/1",
                ],
                false,
                &[],
            ),
            (
                &["issue ca.example; accounturi=https://ca.example/acct/1; accounturi=x"],
                false,
                &["CaaForbids"],
            ),
            (
                &["issue ca.example; validationmethods=dns-01,http-01"],
                false,
                &[],
            ),
            (
                &["issue ca.example; validationmethods=dns-01"],
                false,
                &["CaaMethod http-01"],
            ),
            (
                &[
                    "issue ca.example; validationmethods=dns-01",
                    "issue ca.example; validationmethods=http-01",
                ],
                false,
                &[],
            ),
            (
                &["issue ca.example; validationmethods=tls-alpn-01"],
                false,
                &["CaaMethod http-01", "CaaMethod dns-01"],
            ),
        ] {
            assert_eq!(
                outcome(records, wildcard),
                expected,
                "{records:?} {wildcard}"
            );
        }
    }

    #[test]
    fn says_what_it_cannot_know() {
        let request = Request {
            identities: &[],
            account: None,
            is_wildcard: false,
            methods: &[],
        };
        let judged = |records: &[&str]| judge(&set(records), &request).pop().unwrap().1;
        let unknown = judged(&["issue ca.example", "issue ;"]);
        assert!(matches!(unknown, PreflightFault::CaaUnknownCa { .. }));
        assert!(matches!(
            judged(&["issue ;"]),
            PreflightFault::CaaForbids { .. }
        ));
    }
}
