use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use data_encoding::BASE32_NOPAD;
use sha2::{Digest, Sha256};
use tokio::time::sleep;
use tracing::debug;

use super::error::Dns01Error;
use super::propagation::{Patience, Sought};
use super::{DnsProvider, TxtRecord};
use crate::dns::{Dns, DnsError};
use crate::error::BoxError;
use crate::protocol::{ChallengeType, DnsName, Identifier, Url};
use crate::solver::{ChallengeSolver, Presentation};

/// Solves dns-01 (RFC 8555 §8.4) or dns-account-01 (draft-ietf-acme-dns-account-label): adds a TXT
/// record by a [`DnsProvider`], and waits until all name servers of the zone have it.
///
/// ```
/// use std::time::Duration;
///
/// use certwright::solver::{Dns01, DnsProvider};
///
/// fn solver(provider: impl DnsProvider) -> Dns01 {
///     Dns01::new(provider).propagation_timeout(Duration::from_secs(10 * 60))
/// }
/// ```
///
/// The record is at `_acme-challenge` below the name. Where that is an alias (a CNAME record), it is
/// added where the alias leads, so that control can be delegated to another zone: CAs follow it as
/// well. Wildcards are solved too, and so are a wildcard and its apex in one order, with two values
/// at one name. When the order is done, its values are removed, and no others.
///
/// Both types of challenge are one solver, as all but the record's name is the same. For both in one
/// issuance, give it two solvers.
///
/// The solver may be cloned; clones share what they remember.
#[derive(Clone)]
pub struct Dns01 {
    provider: Arc<dyn DnsProvider>,
    labels: Labels,
    dns: Dns,
    ttl: Duration,
    follows_aliases: bool,
    looks_up_zones: bool,
    check: Check,
    patience: Patience,
    places: Arc<Mutex<HashMap<Key, Place>>>,
}

/// What is before the name that is to be proved.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Labels {
    Plain,
    /// With one that is the account's own.
    OfAccount,
}

#[derive(Clone, Copy, Debug)]
enum Check {
    Authorities,
    Delay(Duration),
}

/// The name that the CA looks at, and the value.
type Key = (String, String);

/// Where a value is.
struct Place {
    /// How many challenges were presented by it: an authorization may be part of two orders that
    /// run at once.
    uses: usize,
    /// `None` until the provider is about to be asked.
    record: Option<Box<TxtRecord>>,
}

impl Dns01 {
    /// How long to wait until all name servers have the value, unless said otherwise: 5 minutes.
    pub const PROPAGATION_TIMEOUT: Duration = Duration::from_secs(5 * 60);

    /// The pause after the first look at the name servers, unless said otherwise: 2 s.
    pub const POLL_INTERVAL: Duration = Duration::from_secs(2);

    /// Solves dns-01 by this provider.
    pub fn new(provider: impl DnsProvider) -> Self {
        Self::with_labels(provider, Labels::Plain)
    }

    /// Solves dns-account-01 by this provider. Each account has a name of its own, so that several
    /// clients can have aliases to different zones for one name.
    pub fn for_account(provider: impl DnsProvider) -> Self {
        Self::with_labels(provider, Labels::OfAccount)
    }

    fn with_labels(provider: impl DnsProvider, labels: Labels) -> Self {
        Self {
            provider: Arc::new(provider),
            labels,
            dns: Dns::system(),
            ttl: TxtRecord::TTL,
            follows_aliases: true,
            looks_up_zones: true,
            check: Check::Authorities,
            patience: Patience {
                timeout: Self::PROPAGATION_TIMEOUT,
                first_pause: Self::POLL_INTERVAL,
                resolvers: Vec::new(),
            },
            places: Arc::default(),
        }
    }

    /// Asks the DNS by this; [`Dns::system`] by default.
    pub fn dns(mut self, dns: Dns) -> Self {
        self.dns = dns;
        self
    }

    /// Sets how long resolvers may keep the record; [`TxtRecord::TTL`] by default. Some DNS hosts
    /// take no less than some minutes.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets how long to wait until all name servers have the value;
    /// [`PROPAGATION_TIMEOUT`](Self::PROPAGATION_TIMEOUT) by default. A look that has begun is
    /// brought to its end, and with [`Duration::ZERO`] there is one.
    ///
    /// An issuance has a timeout too, 10 minutes by default, which should be longer.
    pub fn propagation_timeout(mut self, timeout: Duration) -> Self {
        self.patience.timeout = timeout;
        self
    }

    /// Sets the pause after the first look; [`POLL_INTERVAL`](Self::POLL_INTERVAL) by default, and
    /// no less than 10 ms. Each further pause is half as long again, up to 20 s.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.patience.first_pause = interval.max(Duration::from_millis(10));
        self
    }

    /// Waits until these name servers, which look things up for others, have the value too. They
    /// are asked after the zone's own, so that they do not learn that it is missing.
    pub fn also_at(mut self, resolvers: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.patience.resolvers = resolvers.into_iter().collect();
        self
    }

    /// Does not ask the zone's name servers, but waits for a fixed time: where they can't be
    /// reached, or are not those that the CA asks.
    pub fn without_check(mut self, delay: Duration) -> Self {
        self.check = Check::Delay(delay);
        self
    }

    /// Adds the record at the challenge's own name, even where that is an alias.
    pub fn without_aliases(mut self) -> Self {
        self.follows_aliases = false;
        self
    }

    /// Does not look up in which zone the record is before it is added, for providers that know:
    /// [`TxtRecord::zone`] is `None`.
    pub fn without_zone_lookup(mut self) -> Self {
        self.looks_up_zones = false;
        self
    }

    /// The name of the TXT record for a name, without the label `*` of a wildcard: what to make an
    /// alias from, in order to delegate control. The account matters for dns-account-01 only.
    pub fn record_name(&self, name: &DnsName, account: &Url) -> String {
        let base = name.base();
        match self.labels {
            Labels::Plain => format!("_acme-challenge.{base}"),
            Labels::OfAccount => format!("_{}._acme-challenge.{base}", account_label(account)),
        }
    }

    fn key(&self, presentation: &Presentation) -> Result<Key, Dns01Error> {
        let identifier = presentation.identifier();
        let name = identifier
            .dns_name()
            .ok_or_else(|| Dns01Error::NoDnsName(identifier.clone()))?;
        let key_authorization = presentation
            .key_authorization()
            .ok_or(Dns01Error::NoToken)?;
        let name = self.record_name(name, presentation.account());
        Ok((name, key_authorization.dns_txt_value()))
    }

    /// Where the value belongs.
    async fn record(
        &self,
        (name, value): &Key,
        presentation: &Presentation,
    ) -> Result<TxtRecord, DnsError> {
        let target = match self.follows_aliases {
            true => self.dns.canonical_name(name).await?,
            false => name.clone(),
        };
        let mut record = TxtRecord::new(&target, value)
            .with_ttl(self.ttl)
            .with_presentation(presentation.clone());
        if self.looks_up_zones {
            record = record.in_zone(self.dns.zone_of(&target).await?);
        }
        Ok(record)
    }

    fn places(&self) -> MutexGuard<'_, HashMap<Key, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be removed, if anything, as far as that is remembered.
    fn forget(&self, key: &Key) -> Remembered {
        let mut places = self.places();
        let Entry::Occupied(mut entry) = places.entry(key.clone()) else {
            return Remembered::Nothing;
        };
        let uses = entry.get().uses;
        if uses > 1 {
            entry.get_mut().uses = uses - 1;
            return Remembered::InUse;
        }
        match entry.remove().record {
            Some(record) => Remembered::At(record),
            // Presenting it failed before the provider was asked.
            None => Remembered::InUse,
        }
    }
}

enum Remembered {
    At(Box<TxtRecord>),
    /// It has to stay, or never was there.
    InUse,
    /// It was presented by another instance.
    Nothing,
}

#[async_trait]
impl ChallengeSolver for Dns01 {
    fn can_solve(&self, identifier: &Identifier, challenge_type: &ChallengeType) -> bool {
        let mine = match self.labels {
            Labels::Plain => ChallengeType::Dns01,
            Labels::OfAccount => ChallengeType::DnsAccount01,
        };
        *challenge_type == mine && mine.can_validate(identifier)
    }

    async fn present(&self, presentation: &Presentation) -> Result<(), BoxError> {
        let key = self.key(presentation)?;
        self.places()
            .entry(key.clone())
            .or_insert(Place {
                uses: 0,
                record: None,
            })
            .uses += 1;

        let record = self.record(&key, presentation).await;
        let record = record.map_err(Dns01Error::Dns)?;
        if let Some(place) = self.places().get_mut(&key) {
            place.record = Some(Box::new(record.clone()));
        }
        debug!(
            name = record.name(),
            zone = record.zone(),
            "adding a TXT record"
        );
        self.provider.add(&record).await.map_err(|source| {
            let name = record.name().to_owned();
            BoxError::from(Dns01Error::Provider {
                action: "add",
                name,
                source,
            })
        })
    }

    async fn wait(&self, presentation: &Presentation) -> Result<(), BoxError> {
        if let Check::Delay(delay) = self.check {
            sleep(delay).await;
            return Ok(());
        }
        let key = self.key(presentation)?;
        let known = self
            .places()
            .get(&key)
            .and_then(|place| place.record.clone());
        let record = match known {
            Some(record) => record,
            None => {
                let record = self.record(&key, presentation).await;
                Box::new(record.map_err(Dns01Error::Dns)?)
            }
        };
        let (name, value) = &key;
        let sought = Sought {
            dns: &self.dns,
            name,
            target: record.name(),
            zone: record.zone(),
            value: Some(value),
            matches: &|texts| texts.contains(value),
        };
        let seen = sought.wait(&self.patience).await;
        Ok(seen.map_err(Dns01Error::NotPropagated)?)
    }

    async fn clean_up(&self, presentation: &Presentation) -> Result<(), BoxError> {
        let key = self.key(presentation)?;
        let record = match self.forget(&key) {
            Remembered::At(record) => record,
            Remembered::InUse => return Ok(()),
            Remembered::Nothing => {
                let record = self.record(&key, presentation).await;
                Box::new(record.map_err(Dns01Error::Dns)?)
            }
        };
        debug!(
            name = record.name(),
            zone = record.zone(),
            "removing a TXT record"
        );
        self.provider.remove(&record).await.map_err(|source| {
            let name = record.name().to_owned();
            BoxError::from(Dns01Error::Provider {
                action: "remove",
                name,
                source,
            })
        })
    }
}

impl fmt::Debug for Dns01 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dns01")
            .field("labels", &self.labels)
            .field("dns", &self.dns)
            .field("ttl", &self.ttl)
            .field("check", &self.check)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

/// The label of an account: 80 bits of the SHA-256 digest of its URL, as base32 in lower case.
fn account_label(account: &Url) -> String {
    let digest = Sha256::digest(account.as_str());
    let start = digest.get(..10).unwrap_or_default();
    BASE32_NOPAD.encode(start).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::{AccountKey, Signer};
    use crate::protocol::Challenge;

    struct NoProvider;

    #[async_trait]
    impl DnsProvider for NoProvider {
        async fn add(&self, _: &TxtRecord) -> Result<(), BoxError> {
            panic!("nothing is to be added")
        }

        async fn remove(&self, _: &TxtRecord) -> Result<(), BoxError> {
            panic!("nothing is to be removed")
        }
    }

    #[test]
    fn names_of_accounts() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../../tests/vectors/dns_account_01.json"))
                .unwrap();
        let cases = vectors["cases"].as_array().unwrap();
        assert!(cases.len() >= 4);
        for case in cases {
            let text = |name: &str| case[name].as_str().unwrap();
            let account = Url::parse(text("account_url")).unwrap();
            for domain in [text("domain").to_owned(), format!("*.{}", text("domain"))] {
                let name = Dns01::for_account(NoProvider)
                    .record_name(&DnsName::parse(&domain).unwrap(), &account);
                assert_eq!(name, text("txt_name"));
            }
        }
    }

    #[test]
    fn plain_names() {
        let account = Url::parse("https://ca.example/acct/1").unwrap();
        let solver = Dns01::new(NoProvider);
        for name in ["example.com", "*.example.com"] {
            let name = DnsName::parse(name).unwrap();
            assert_eq!(
                solver.record_name(&name, &account),
                "_acme-challenge.example.com"
            );
        }
    }

    #[test]
    fn solves_names_and_wildcards_but_no_addresses() {
        let can_solve = |solver: &Dns01, identifier: &str, kind| {
            solver.can_solve(&identifier.parse().unwrap(), &kind)
        };
        let plain = Dns01::new(NoProvider);
        let account = Dns01::for_account(NoProvider);
        for identifier in ["example.com", "*.example.com"] {
            assert!(can_solve(&plain, identifier, ChallengeType::Dns01));
            assert!(!can_solve(&plain, identifier, ChallengeType::DnsAccount01));
            assert!(can_solve(&account, identifier, ChallengeType::DnsAccount01));
            assert!(!can_solve(&account, identifier, ChallengeType::Dns01));
        }
        assert!(!can_solve(&plain, "192.0.2.1", ChallengeType::Dns01));
    }

    #[tokio::test]
    async fn refuses_addresses_and_challenges_without_token() {
        let thumbprint = AccountKey::generate().unwrap().public_key().thumbprint();
        let url = Url::parse("https://ca.example/1").unwrap();
        let solver = Dns01::new(NoProvider);
        for (identifier, token, expected) in [
            (
                "192.0.2.1",
                Some("DGyRejmCefe7v4NfDGDKfADGyRejmCef"),
                "no DNS name",
            ),
            ("example.com", None, "no token"),
        ] {
            let challenge =
                Challenge::pending(ChallengeType::Dns01, url.clone(), token.map(str::to_owned));
            let presentation = Presentation::new(
                identifier.parse().unwrap(),
                challenge,
                url.clone(),
                &thumbprint,
            );
            let error = solver.present(&presentation.unwrap()).await.unwrap_err();
            assert!(error.is::<Dns01Error>());
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
