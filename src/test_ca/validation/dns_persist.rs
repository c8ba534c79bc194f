//! dns-persist-01 (draft-ietf-acme-dns-persist), in either of its versions.

use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest, Sha256};

use crate::protocol::{Identifier, Problem, ProblemType};
use crate::test_ca::ca::Ca;
use crate::test_ca::directory::IDENTITY;
use crate::test_ca::dns::DnsPersist;

/// A validation to be done.
pub(super) struct Attempt {
    pub(super) identifier: Identifier,
    pub(super) is_wildcard: bool,
    pub(super) account: String,
    pub(super) thumbprint: String,
}

impl Attempt {
    pub(super) async fn run(&self, ca: &Ca) -> Result<(), Problem> {
        let name = format!("_validation-persist.{}", self.identifier.value());
        let expected = self.account_uris(ca);
        let found = ca.texts(&name).await?;
        if found.is_empty() {
            let detail = format!("No TXT record found at {name}");
            return Err(Problem::new(ProblemType::Unauthorized, detail));
        }
        // Boulder tells of the first record that is for it; others are other CAs'.
        let mut fault = None;
        for text in &found {
            match self.check(text, &expected) {
                Ok(()) => return Ok(()),
                Err(Fault::OtherIssuer) => {}
                Err(other) => fault = fault.or(Some(other)),
            }
        }
        Err(match fault {
            Some(Fault::Malformed(what)) => Problem::new(
                ProblemType::Malformed,
                format!("Malformed TXT record at {name}: {what}"),
            ),
            Some(Fault::Unauthorized(what)) => Problem::new(
                ProblemType::Unauthorized,
                format!("TXT record at {name} does not authorize: {what}"),
            ),
            Some(Fault::OtherIssuer) | None => Problem::new(
                ProblemType::Unauthorized,
                format!("No TXT record at {name} has the issuer domain name {IDENTITY}"),
            ),
        })
    }

    fn account_uris(&self, ca: &Ca) -> Vec<String> {
        if ca.settings().dns.persist != Some(DnsPersist::AccountHash) {
            return vec![self.account.clone()];
        }
        let prefix = ca.account_hash_prefix();
        let domain = self.identifier.value();
        [domain.as_str(), "*"]
            .map(|domain| {
                let mut octets = vec![u8::try_from(domain.len()).unwrap_or(u8::MAX)];
                octets.extend([domain, &self.thumbprint, &self.account].concat().bytes());
                let hash = BASE64URL_NOPAD.encode(&Sha256::digest(&octets));
                format!("{prefix}sha-256/{hash}")
            })
            .into()
    }

    fn check(&self, text: &str, accounts: &[String]) -> Result<(), Fault> {
        let mut parts = text.split(';').map(|part| part.trim_matches([' ', '\t']));
        if parts.next() != Some(IDENTITY) {
            return Err(Fault::OtherIssuer);
        }
        let mut parameters: Vec<(String, &str)> = Vec::new();
        for part in parts {
            let (tag, value) = part
                .split_once('=')
                .ok_or(Fault::Malformed("a parameter has no equals sign"))?;
            let tag = tag.trim_end_matches([' ', '\t']).to_ascii_lowercase();
            let value = value.trim_start_matches([' ', '\t']);
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
            if tag.is_empty() || !tag.chars().all(plain) {
                return Err(Fault::Malformed("a tag is not of letters and digits"));
            }
            if !value.chars().all(|c| c.is_ascii_graphic()) {
                return Err(Fault::Malformed("a value has a blank in it"));
            }
            if parameters.iter().any(|(known, _)| *known == tag) {
                return Err(Fault::Malformed("a tag is there twice"));
            }
            parameters.push((tag, value));
        }
        let parameter = |wanted: &str| {
            let mut parameters = parameters.iter();
            parameters.find_map(|(tag, value)| (tag == wanted).then_some(*value))
        };

        let account = parameter("accounturi").unwrap_or_default();
        if account.is_empty() {
            return Err(Fault::Malformed("it has no accounturi"));
        }
        let until = match parameter("persistuntil").map(str::parse::<u64>) {
            Some(Err(_)) => return Err(Fault::Malformed("persistUntil is no time")),
            Some(Ok(until)) => Some(until),
            None => None,
        };
        if !accounts.iter().any(|known| known == account) {
            return Err(Fault::Unauthorized("the accounturi is another account's"));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        if until.is_some_and(|until| now.is_ok_and(|now| now.as_secs() > until)) {
            return Err(Fault::Unauthorized("persistUntil is past"));
        }
        let policy = parameter("policy").unwrap_or_default();
        match self.is_wildcard && !policy.eq_ignore_ascii_case("wildcard") {
            true => Err(Fault::Unauthorized("a wildcard takes policy=wildcard")),
            false => Ok(()),
        }
    }
}

enum Fault {
    Malformed(&'static str),
    OtherIssuer,
    Unauthorized(&'static str),
}
