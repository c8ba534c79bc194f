use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use super::Thumbprint;
use crate::protocol::{Base64Url, DnsName, DnsPersistAccountForm, DnsPersistValue, Meta, Url};

/// An account, as the records of dns-persist-01 name it (draft-ietf-acme-dns-persist).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DnsPersistAccount {
    url: Url,
    thumbprint: Thumbprint,
    form: DnsPersistAccountForm,
}

impl DnsPersistAccount {
    /// The account at a CA, in the form that the CA's directory asks for: a hash where it has an
    /// `accountHashPrefix`, else the account's URL.
    pub fn new(url: &Url, thumbprint: &Thumbprint, meta: &Meta) -> Self {
        let form = match meta.account_hash_prefix() {
            Some(prefix) => DnsPersistAccountForm::Hash(prefix.to_owned()),
            None => DnsPersistAccountForm::Uri(url.to_string()),
        };
        Self::with_form(url, thumbprint, form)
    }

    /// The account in the form that a challenge asks for.
    pub fn with_form(url: &Url, thumbprint: &Thumbprint, form: DnsPersistAccountForm) -> Self {
        Self {
            url: url.clone(),
            thumbprint: *thumbprint,
            form,
        }
    }

    /// What the record for a name has as `accounturi`. With a hash it is of use for that name only.
    pub fn uri(&self, name: &DnsName) -> String {
        self.uri_for(name.base())
    }

    /// An `accounturi` that is the same for all names: so whoever reads it knows which names are one
    /// account's.
    pub fn shared_uri(&self) -> String {
        self.uri_for("*")
    }

    /// `<prefix>sha-256/` and the hash of name, key and URL (draft-ietf-acme-dns-persist-02 §4.1).
    fn uri_for(&self, domain: &str) -> String {
        let prefix = match &self.form {
            DnsPersistAccountForm::Uri(uri) => return uri.clone(),
            DnsPersistAccountForm::Hash(prefix) => prefix,
        };
        let mut hash = Sha256::new();
        // A name has at most 253 octets.
        hash.update([u8::try_from(domain.len()).unwrap_or(u8::MAX)]);
        hash.update(domain);
        hash.update(self.thumbprint.to_string());
        hash.update(self.url.as_str());
        format!("{prefix}sha-256/{}", Base64Url::from(&hash.finalize()[..]))
    }
}

/// The TXT record by which an account proves control of a name with dns-persist-01, for as long as it
/// is there. It can be published before there is any order.
///
/// ```
/// use certwright::jose::{DnsPersistAccount, DnsPersistRecord, Thumbprint};
/// use certwright::protocol::{DnsName, InvalidIdentifier, Meta, Url};
///
/// fn record(url: &Url, thumbprint: &Thumbprint, meta: &Meta) -> Result<(), InvalidIdentifier> {
///     let account = DnsPersistAccount::new(url, thumbprint, meta);
///     let name = DnsName::parse("*.example.com")?;
///     let record = DnsPersistRecord::new(&name, "letsencrypt.org", &account);
///     println!("publish {record}");
///     Ok(())
/// }
/// ```
///
/// Whoever holds the account's key can have certificates for the name while the record is there. With
/// a hash, it has to be published anew after the key was changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DnsPersistRecord {
    name: String,
    value: DnsPersistValue,
}

impl DnsPersistRecord {
    /// The record for a name; of a wildcard, one that allows wildcards. The issuer is one of the CA's
    /// [`issuer_domain_names`](Meta::issuer_domain_names), or of the names that it documents.
    pub fn new(name: &DnsName, issuer: &str, account: &DnsPersistAccount) -> Self {
        let mut value = DnsPersistValue::new(issuer, account.uri(name));
        value.wildcard = name.is_wildcard();
        Self {
            name: DnsPersistValue::record_name(name),
            value,
        }
    }

    /// Allows wildcards and all names below, too.
    pub fn allow_wildcard(mut self) -> Self {
        self.value.wildcard = true;
        self
    }

    /// Sets the last second in which it counts; without, it counts for ever. A time before 1970 is
    /// taken as 1970.
    pub fn persist_until(mut self, time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.value.persist_until = Some(since.as_secs());
        self
    }

    /// Names the account in a way that is the same for all names
    /// ([`DnsPersistAccount::shared_uri`]).
    pub fn shared(mut self, account: &DnsPersistAccount) -> Self {
        self.value.account_uri = account.shared_uri();
        self
    }

    /// The record's name, without a dot at its end.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the record says.
    pub fn value(&self) -> &DnsPersistValue {
        &self.value
    }

    /// The record's text in strings of at most 255 octets, as it travels.
    pub fn strings(&self) -> Vec<String> {
        let text = self.value.to_string();
        let octets: Vec<_> = text.chars().collect();
        octets
            .chunks(255)
            .map(|part| part.iter().collect())
            .collect()
    }
}

impl fmt::Display for DnsPersistRecord {
    /// As it stands in a zone file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. IN TXT (", self.name)?;
        for (number, string) in self.strings().iter().enumerate() {
            let blank = if number == 0 { "" } else { " " };
            let escaped = string.replace('\\', "\\\\").replace('"', "\\\"");
            write!(f, "{blank}\"{escaped}\"")?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn account(meta: serde_json::Value) -> DnsPersistAccount {
        let url = Url::parse("https://ca.example/acct/123").unwrap();
        let thumbprint: Thumbprint =
            serde_json::from_value(json!("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs")).unwrap();
        let meta = serde_json::from_value(meta).unwrap();
        DnsPersistAccount::new(&url, &thumbprint, &meta)
    }

    fn name(text: &str) -> DnsName {
        DnsName::parse(text).unwrap()
    }

    #[test]
    fn hashes_as_the_draft_does() {
        // draft-ietf-acme-dns-persist-02 §10.2
        let account = account(json!({"accountHashPrefix": "https://ca.example/account-hash/"}));
        let prefix = "https://ca.example/account-hash/sha-256/";
        for domain in ["example.com", "*.example.com"] {
            assert_eq!(
                account.uri(&name(domain)),
                format!("{prefix}5SQm7n6tPh2-PlLbCKGnViTXX5z19SCN4cPGQHSk-kw")
            );
        }
        assert_eq!(
            account.shared_uri(),
            format!("{prefix}NpDnSwUthQK8zCgFdefYxAdAVPnygMLbs9US6oO-5ug")
        );
    }

    #[test]
    fn writes_the_record() {
        let account = account(json!({}));
        let record = DnsPersistRecord::new(&name("example.com"), "ca.example", &account);
        assert_eq!(
            record.to_string(),
            "_validation-persist.example.com. IN TXT \
             (\"ca.example; accounturi=https://ca.example/acct/123\")"
        );
        let end = UNIX_EPOCH + Duration::from_millis(1_767_225_600_900);
        let text = record
            .persist_until(end)
            .allow_wildcard()
            .value()
            .to_string();
        assert_eq!(
            text,
            "ca.example; accounturi=https://ca.example/acct/123; policy=wildcard; \
             persistUntil=1767225600"
        );
        assert_eq!(DnsPersistValue::parse(&text).unwrap().to_string(), text);

        let wildcard = DnsPersistRecord::new(&name("*.example.com"), "ca.example", &account);
        assert_eq!(wildcard.name(), "_validation-persist.example.com");
        assert!(wildcard.value().wildcard);
    }

    #[test]
    fn splits_what_is_too_long_for_one_string() {
        let prefix = format!("https://ca.example/{}/", "a".repeat(300));
        let account = account(json!({ "accountHashPrefix": prefix }));
        let record = DnsPersistRecord::new(&name("example.com"), "ca.example", &account);
        let strings = record.shared(&account);
        let strings = strings.strings();
        assert_eq!(strings.len(), 2);
        assert_eq!(strings[0].len(), 255);
        assert!(
            strings
                .concat()
                .ends_with("NpDnSwUthQK8zCgFdefYxAdAVPnygMLbs9US6oO-5ug")
        );
    }
}
