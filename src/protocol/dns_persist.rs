//! dns-persist-01 (draft-ietf-acme-dns-persist), of which CAs speak two versions that don't fit.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use iri_string::types::UriStr;
use serde_json::Value;
use thiserror::Error;

use super::{Challenge, DnsName, InvalidIssueValue, IssueValue, Meta, Url, printable};

/// The text of a TXT record that lets an account prove control of a name, for as long as it is there
/// (draft-ietf-acme-dns-persist §4.1).
///
/// It gives power for long. So what it allows is said here, in [`wildcard`](Self::wildcard) and
/// [`persist_until`](Self::persist_until).
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct DnsPersistValue {
    /// The CA's domain name.
    pub issuer: String,
    /// The account: its URL (drafts 00 and 01), or a hash (draft 02).
    pub account_uri: String,
    /// Whether it allows wildcards and names below, too.
    pub wildcard: bool,
    /// The last second in which it counts, since 1970. `None` is for ever.
    pub persist_until: Option<u64>,
}

impl DnsPersistValue {
    /// A value for a name itself, and without an end.
    pub fn new(issuer: impl Into<String>, account_uri: impl Into<String>) -> Self {
        Self {
            issuer: issuer.into(),
            account_uri: account_uri.into(),
            wildcard: false,
            persist_until: None,
        }
    }

    /// Reads a value, as strictly as CAs do: no tag may be there twice, and no semicolon at the end.
    pub fn parse(text: &str) -> Result<Self, InvalidDnsPersistValue> {
        let value = IssueValue::parse(text)?;
        if let Some(tag) = value.repeated_tag() {
            return Err(InvalidDnsPersistValue::Repeated(tag.to_owned()));
        }
        let issuer = value.issuer().ok_or(InvalidDnsPersistValue::NoIssuer)?;
        let account_uri = value.parameter(IssueValue::ACCOUNT_URI).unwrap_or_default();
        if account_uri.is_empty() {
            return Err(InvalidDnsPersistValue::NoAccount);
        }
        let policy = value.parameter(POLICY).unwrap_or_default();
        let persist_until = value.parameter(PERSIST_UNTIL).map(|text| {
            let time = text.parse().ok();
            time.filter(|_| text.bytes().all(|octet| octet.is_ascii_digit()))
                .ok_or_else(|| InvalidDnsPersistValue::PersistUntil(text.to_owned()))
        });
        Ok(Self {
            issuer: issuer.to_owned(),
            account_uri: account_uri.to_owned(),
            wildcard: policy.eq_ignore_ascii_case(WILDCARD),
            persist_until: persist_until.transpose()?,
        })
    }

    /// Whether it counts at a time.
    pub fn is_in_force(&self, now: SystemTime) -> bool {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.persist_until
            .is_none_or(|last| since <= Duration::from_secs(last))
    }

    /// The name of the record for a name, without the label `*` of a wildcard.
    pub fn record_name(name: &DnsName) -> String {
        format!("_validation-persist.{}", name.base())
    }
}

impl fmt::Display for DnsPersistValue {
    /// The text of the record.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            issuer,
            account_uri,
            ..
        } = self;
        write!(f, "{issuer}; {}={account_uri}", IssueValue::ACCOUNT_URI)?;
        if self.wildcard {
            write!(f, "; {POLICY}={WILDCARD}")?;
        }
        if let Some(last) = self.persist_until {
            write!(f, "; {PERSIST_UNTIL}={last}")?;
        }
        Ok(())
    }
}

const POLICY: &str = "policy";
const WILDCARD: &str = "wildcard";
const PERSIST_UNTIL: &str = "persistUntil";

/// A text that CAs do not take as a record of dns-persist-01.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum InvalidDnsPersistValue {
    /// It breaks the grammar.
    #[error(transparent)]
    Grammar(#[from] InvalidIssueValue),
    /// It names no account.
    #[error("it names no account")]
    NoAccount,
    /// It names no CA.
    #[error("it names no CA")]
    NoIssuer,
    /// The end is no time.
    #[error("`{}` is no count of seconds since 1970", printable(.0))]
    PersistUntil(String),
    /// A tag is there twice.
    #[error("the tag `{0}` is there twice")]
    Repeated(String),
}

/// What a challenge of the type dns-persist-01 says.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct DnsPersistChallenge {
    /// The CA's names, of which the record has one. At least one and at most ten.
    pub issuer_domain_names: Vec<String>,
    /// How the record names the account.
    pub account: DnsPersistAccountForm,
}

/// How the records of a CA name an account.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum DnsPersistAccountForm {
    /// By this URI, which is the account's URL (drafts 00 and 01).
    Uri(String),
    /// By a hash, after this prefix (draft 02).
    Hash(String),
}

impl DnsPersistChallenge {
    /// Reads and checks a challenge for an account, of either version, against what the CA says of
    /// itself.
    pub fn read(
        challenge: &Challenge,
        account: &Url,
        meta: &Meta,
    ) -> Result<Self, InvalidDnsPersist> {
        let member = |name: &str| challenge.other.get(name);
        let (names, account) = match (member("issuerDomainNames"), member("issuer-domain-names")) {
            (Some(names), _) => {
                let prefix = meta
                    .account_hash_prefix()
                    .ok_or(InvalidDnsPersist::NoAccountHashPrefix)?;
                (names, DnsPersistAccountForm::Hash(prefix.to_owned()))
            }
            (None, Some(names)) => {
                // Another URI of the same account is possible, but can't be told from another
                // account's. Draft 00, and Pebble, have none.
                let uri = member("accounturi").filter(|uri| !uri.is_null());
                if let Some(uri) = uri.filter(|uri| uri.as_str() != Some(account.as_str())) {
                    return Err(InvalidDnsPersist::OtherAccount(uri.to_string()));
                }
                if !is_value(account.as_str()) {
                    return Err(InvalidDnsPersist::AccountUrl(account.clone()));
                }
                (names, DnsPersistAccountForm::Uri(account.to_string()))
            }
            (None, None) => return Err(InvalidDnsPersist::IssuerDomainNames),
        };
        let names = conforming_names(names).ok_or(InvalidDnsPersist::IssuerDomainNames)?;
        if let Some(announced) = meta.issuer_domain_names() {
            let missing = announced.into_iter().find(|name| !names.contains(name));
            if let Some(name) = missing {
                return Err(InvalidDnsPersist::NotOffered(name));
            }
        }
        if let Some(identities) = canonical_identities(&meta.caa_identities) {
            let undisclosed = names.iter().find(|name| !identities.contains(name));
            if let Some(name) = undisclosed {
                return Err(InvalidDnsPersist::NoCaaIdentity(name.clone()));
            }
        }
        Ok(Self {
            issuer_domain_names: names,
            account,
        })
    }
}

impl Meta {
    /// The CA's names that records of dns-persist-01 may have, before there is a challenge
    /// (draft-ietf-acme-dns-persist-02 §3.2). `None` where the CA gives none, or breaks the rules.
    pub fn issuer_domain_names(&self) -> Option<Vec<String>> {
        conforming_names(self.other.get("issuerDomainNames")?)
    }

    /// What the hash of an account is put behind in records of dns-persist-01
    /// (draft-ietf-acme-dns-persist-02 §4.1). `None` where the CA gives none that makes a URI; then
    /// records have the account's URL.
    pub fn account_hash_prefix(&self) -> Option<&str> {
        let prefix = self.other.get("accountHashPrefix")?.as_str()?;
        let plain = is_value(prefix) && prefix.len() <= MOST_PREFIX;
        let uri = format!("{prefix}sha-256/{}", "A".repeat(43));
        (plain && UriStr::new(&uri).is_ok()).then_some(prefix)
    }
}

/// Far more than any prefix needs, and few enough that a record with it can be published.
const MOST_PREFIX: usize = 1_024;

/// Whether it can stand as a value in a record (RFC 8659 §4.2).
fn is_value(text: &str) -> bool {
    text.bytes()
        .all(|octet| octet.is_ascii_graphic() && octet != b';')
}

/// One to ten names in lower case, as A-labels, without a dot at their end.
fn conforming_names(value: &Value) -> Option<Vec<String>> {
    let names: Option<Vec<_>> = value
        .as_array()?
        .iter()
        .map(|name| {
            let name = name.as_str()?;
            (canonical_name(name)? == name).then(|| name.to_owned())
        })
        .collect();
    names.filter(|names| (1..=10).contains(&names.len()))
}

/// `None` where the list is empty or one of them is no name, so that nothing can be compared.
fn canonical_identities(identities: &[String]) -> Option<Vec<String>> {
    let names: Option<Vec<_>> = identities.iter().map(|name| canonical_name(name)).collect();
    names.filter(|names| !names.is_empty())
}

fn canonical_name(name: &str) -> Option<String> {
    let name = DnsName::parse(name).ok()?;
    (!name.is_wildcard()).then(|| name.to_string())
}

/// A challenge of the type dns-persist-01 that breaks the draft's rules. Nothing should be published
/// for it, as the record might help another than the CA that was meant.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum InvalidDnsPersist {
    /// The account's URL has a semicolon, which no value in a record can have.
    #[error("the account's URL {0} can't stand in a record, as it has a semicolon")]
    AccountUrl(Url),
    /// The CA's names are missing, more than ten, or not in their canonical form.
    #[error(
        "the challenge's issuer domain names are not 1 to 10 names in lower case without a final dot"
    )]
    IssuerDomainNames,
    /// The directory does not say what hashes of accounts are put behind.
    #[error("the directory has no accountHashPrefix that makes a URI")]
    NoAccountHashPrefix,
    /// A name is not among the directory's `caaIdentities`, all of which are given.
    #[error("the challenge's name `{}` is not among the directory's caaIdentities", printable(.0))]
    NoCaaIdentity(String),
    /// A name that the directory announces is not in the challenge.
    #[error("the directory's name `{}` is not in the challenge", printable(.0))]
    NotOffered(String),
    /// The challenge is for another account.
    #[error("the challenge is for the account `{}`, not for this one", printable(.0))]
    OtherAccount(String),
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn vectors() {
        let vectors: Value =
            serde_json::from_str(include_str!("../../tests/vectors/dns_persist_01.json")).unwrap();
        let cases = vectors["cases"].as_array().unwrap();
        assert!(cases.len() >= 14);
        for case in cases {
            let id = case["id"].as_str().unwrap();
            let txt = case["txt"].as_str().unwrap();
            if case["ok"] == false {
                assert!(DnsPersistValue::parse(txt).is_err(), "{id}");
                continue;
            }
            let expected = DnsPersistValue {
                issuer: case["issuer"].as_str().unwrap().into(),
                account_uri: case["account_url"].as_str().unwrap().into(),
                wildcard: case["wildcard"].as_bool().unwrap(),
                persist_until: case["persist_until"].as_u64(),
            };
            assert_eq!(DnsPersistValue::parse(txt), Ok(expected.clone()), "{id}");
            if case["kind"] == "build" {
                assert_eq!(expected.to_string(), txt, "{id}");
            }
        }
    }

    #[test]
    fn ends_after_its_last_second() {
        let mut value = DnsPersistValue::new("ca.example", "https://ca.example/1");
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(value.is_in_force(at(u64::from(u32::MAX))));
        value.persist_until = Some(1_000);
        assert!(value.is_in_force(at(1_000)));
        assert!(!value.is_in_force(at(1_001)));
    }

    fn challenge(members: Value) -> Challenge {
        let mut challenge = json!({"type": "dns-persist-01", "url": "https://ca.example/c"});
        for (name, value) in members.as_object().unwrap() {
            challenge[name] = value.clone();
        }
        serde_json::from_value(challenge).unwrap()
    }

    fn meta(members: Value) -> Meta {
        serde_json::from_value(members).unwrap()
    }

    fn account() -> Url {
        Url::parse("https://ca.example/acct/1").unwrap()
    }

    const PREFIX: &str = "https://ca.example/account-hash/";

    #[test]
    fn reads_both_versions() {
        let old = challenge(json!({
            "issuer-domain-names": ["ca.example"], "accounturi": "https://ca.example/acct/1",
        }));
        let read = DnsPersistChallenge::read(&old, &account(), &Meta::default()).unwrap();
        assert_eq!(read.issuer_domain_names, ["ca.example"]);
        let uri = DnsPersistAccountForm::Uri("https://ca.example/acct/1".into());
        assert_eq!(read.account, uri);

        let new = challenge(json!({"issuerDomainNames": ["b.example", "ca.example"]}));
        let meta = meta(json!({
            "issuerDomainNames": ["ca.example"],
            "accountHashPrefix": PREFIX,
            "caaIdentities": ["CA.example.", "b.example", "c.example"],
        }));
        let read = DnsPersistChallenge::read(&new, &account(), &meta).unwrap();
        assert_eq!(read.issuer_domain_names, ["b.example", "ca.example"]);
        assert_eq!(read.account, DnsPersistAccountForm::Hash(PREFIX.into()));
    }

    #[test]
    fn refuses_what_the_draft_does_not_allow() {
        let eleven: Vec<_> = (0..11)
            .map(|number| format!("ca{number}.example"))
            .collect();
        let long = format!("{}example", "abcdefgh.".repeat(28));
        for names in [
            json!([]),
            json!(eleven),
            json!(["CA.example"]),
            json!(["ca.example."]),
            json!(["bücher.example"]),
            json!([long]),
            json!(["*.ca.example"]),
            json!([7]),
            json!("ca.example"),
            json!(null),
        ] {
            let meta = meta(json!({"accountHashPrefix": PREFIX}));
            let new = challenge(json!({"issuerDomainNames": names}));
            let found = DnsPersistChallenge::read(&new, &account(), &meta);
            assert_eq!(found, Err(InvalidDnsPersist::IssuerDomainNames), "{names}");
            let old = challenge(json!({"issuer-domain-names": names, "accounturi": account()}));
            let found = DnsPersistChallenge::read(&old, &account(), &meta);
            assert_eq!(found, Err(InvalidDnsPersist::IssuerDomainNames), "{names}");
            // Of no use before an order, but no reason not to read the directory.
            assert_eq!(
                self::meta(json!({"issuerDomainNames": names})).issuer_domain_names(),
                None
            );
        }
    }

    #[test]
    fn compares_the_challenge_with_the_directory() {
        let new = challenge(json!({"issuerDomainNames": ["ca.example"]}));
        for (members, expected) in [
            (json!({}), InvalidDnsPersist::NoAccountHashPrefix),
            (
                json!({"accountHashPrefix": 7}),
                InvalidDnsPersist::NoAccountHashPrefix,
            ),
            (
                json!({"accountHashPrefix": "no uri/"}),
                InvalidDnsPersist::NoAccountHashPrefix,
            ),
            (
                json!({"accountHashPrefix": "a;b=c"}),
                InvalidDnsPersist::NoAccountHashPrefix,
            ),
            (
                json!({"accountHashPrefix": PREFIX, "issuerDomainNames": ["b.example"]}),
                InvalidDnsPersist::NotOffered("b.example".into()),
            ),
            (
                json!({"accountHashPrefix": PREFIX, "caaIdentities": ["b.example"]}),
                InvalidDnsPersist::NoCaaIdentity("ca.example".into()),
            ),
        ] {
            let found = DnsPersistChallenge::read(&new, &account(), &meta(members.clone()));
            assert_eq!(found, Err(expected), "{members}");
        }
        for uri in [
            json!(7),
            json!(""),
            json!("https://ca.example/acct/12"),
            json!("a;b"),
        ] {
            let old = challenge(json!({"issuer-domain-names": ["ca.example"], "accounturi": uri}));
            let found = DnsPersistChallenge::read(&old, &account(), &Meta::default());
            assert_eq!(found, Err(InvalidDnsPersist::OtherAccount(uri.to_string())));
        }
        let old = challenge(json!({"issuer-domain-names": ["ca.example"]}));
        let read = DnsPersistChallenge::read(&old, &account(), &Meta::default()).unwrap();
        assert_eq!(
            read.account,
            DnsPersistAccountForm::Uri(account().to_string())
        );
        let odd = Url::parse("https://ca.example/acct;policy=wildcard").unwrap();
        let found = DnsPersistChallenge::read(&old, &odd, &Meta::default());
        assert_eq!(found, Err(InvalidDnsPersist::AccountUrl(odd)));
    }
}
