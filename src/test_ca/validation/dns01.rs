//! dns-01 (RFC 8555 §8.4) and dns-account-01 (draft-ietf-acme-dns-account-label).

use data_encoding::{BASE32, BASE64URL_NOPAD};
use sha2::{Digest, Sha256};

use super::Attempt;
use crate::protocol::{Problem, ProblemType};
use crate::test_ca::ca::Ca;

/// Looks for the value at a name of this label, below which the identifier is.
pub(super) async fn validate(attempt: &Attempt, label: &str, ca: &Ca) -> Result<(), Problem> {
    let name = format!("{label}.{}", attempt.identifier.value());
    let digest = Sha256::digest(attempt.key_authorization.as_str());
    let expected = BASE64URL_NOPAD.encode(&digest);
    let found = ca.texts(&name).await?;
    if found.contains(&expected) {
        return Ok(());
    }
    let detail = match found.as_slice() {
        [] => format!("No TXT record found at {name}"),
        [first] => format!("Incorrect TXT record {first:?} found at {name}"),
        [first, rest @ ..] => format!(
            "Incorrect TXT record {first:?} (and {} more) found at {name}",
            rest.len()
        ),
    };
    Err(Problem::new(ProblemType::Unauthorized, detail))
}

/// The label of an account's own.
pub(super) fn account_label(account: &str) -> String {
    let digest = Sha256::digest(account);
    // 16 characters of base32 are 80 bits.
    let label: String = BASE32.encode(&digest).chars().take(16).collect();
    format!("_{}._acme-challenge", label.to_lowercase())
}
