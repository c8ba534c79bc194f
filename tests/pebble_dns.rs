//! The challenges over DNS at Pebble, whose DNS server holds the records.
//!
//! That server knows no zones, so the solvers do not look for them; `dns01.rs` shows that.

#![cfg(all(
    feature = "dns-01",
    feature = "hyper",
    any(feature = "aws-lc-rs", feature = "ring")
))]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod support;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use certwright::dns::Dns;
use certwright::jose::{AccountKey, DnsPersistAccount, DnsPersistRecord};
use certwright::protocol::{ChallengeType, DnsName, ProblemType};
use certwright::solver::{Dns01, DnsPersist01, DnsProvider, TxtRecord};
use certwright::{Account, BoxError, Client, Error};
use serde_json::json;
use support::net::loopback;
use support::pebble::Pebble;

/// The name that Pebble goes by in records of dns-persist-01.
const ISSUER: &str = "pebble.letsencrypt.org";

/// Writes to Pebble's DNS server.
#[derive(Clone)]
struct Provider {
    pebble: Arc<Pebble>,
    /// The server can only forget all values of a name, so the others are set again.
    values: Arc<Mutex<BTreeSet<(String, String)>>>,
}

impl Provider {
    fn new(pebble: &Arc<Pebble>) -> Self {
        Self {
            pebble: pebble.clone(),
            values: Arc::default(),
        }
    }

    fn names(&self) -> Vec<String> {
        let values = self.values.lock().unwrap();
        values.iter().map(|(name, _)| name.clone()).collect()
    }
}

#[async_trait]
impl DnsProvider for Provider {
    async fn add(&self, record: &TxtRecord) -> Result<(), BoxError> {
        let value = (record.name().to_owned(), record.value().to_owned());
        self.values.lock().unwrap().insert(value);
        self.pebble.set_txt(record.name(), record.value()).await;
        Ok(())
    }

    async fn remove(&self, record: &TxtRecord) -> Result<(), BoxError> {
        let value = (record.name().to_owned(), record.value().to_owned());
        self.values.lock().unwrap().remove(&value);
        self.pebble.clear_txt(record.name()).await;
        let left = self.values.lock().unwrap().clone();
        for (name, value) in left.iter().filter(|(name, _)| name == record.name()) {
            self.pebble.set_txt(name, value).await;
        }
        Ok(())
    }
}

async fn start() -> Option<(Arc<Pebble>, Account)> {
    let identities = json!([ISSUER]);
    let pebble = Pebble::builder().setting("caaIdentities", identities);
    let pebble = Arc::new(pebble.start().await?);
    let client = Client::builder(pebble.directory_url())
        .add_root_pem(pebble.root_pem())
        .build()
        .await
        .unwrap();
    let key = AccountKey::generate().unwrap();
    let account = client.new_account(key).agree_to_terms().create().await;
    Some((pebble, account.unwrap()))
}

fn dns(pebble: &Pebble) -> Dns {
    Dns::with_name_servers([loopback(pebble.dns_port())])
}

fn without_zones(solver: Dns01, pebble: &Pebble) -> Dns01 {
    solver
        .dns(dns(pebble))
        .without_zone_lookup()
        .without_check(Duration::ZERO)
}

#[tokio::test]
async fn dns_01_for_a_wildcard_and_its_apex() {
    let Some((pebble, account)) = start().await else {
        return;
    };
    let provider = Provider::new(&pebble);
    let issued = account
        .issue(["example.com", "*.example.com"])
        .solver(without_zones(Dns01::new(provider.clone()), &pebble))
        .await
        .unwrap();
    assert_eq!(issued.chain().identifiers().len(), 2);
    assert!(provider.names().is_empty());
    let name = "_acme-challenge.example.com";
    assert!(dns(&pebble).txt(name).await.unwrap().is_empty());
}

#[tokio::test]
async fn dns_01_over_an_alias() {
    let Some((pebble, account)) = start().await else {
        return;
    };
    let target = "example-com.acme.test";
    pebble
        .set_cname("_acme-challenge.example.com", target)
        .await;
    let provider = Provider::new(&pebble);
    let seen = provider.clone();
    account
        .issue(["*.example.com"])
        .solver(without_zones(Dns01::new(provider.clone()), &pebble))
        .on_event(move |event| {
            if event.to_string().contains("presented") {
                assert_eq!(seen.names(), [target]);
            }
        })
        .await
        .unwrap();
    assert!(provider.names().is_empty());
}

#[tokio::test]
async fn dns_account_01() {
    let Some((pebble, account)) = start().await else {
        return;
    };
    let provider = Provider::new(&pebble);
    account
        .issue(["example.com", "*.example.com"])
        .solver(without_zones(Dns01::for_account(provider.clone()), &pebble))
        .await
        .unwrap();
    assert!(provider.names().is_empty());
}

#[tokio::test]
async fn what_pebble_says_of_a_name_server_that_fails() {
    let Some((pebble, account)) = start().await else {
        return;
    };
    pebble.set_servfail("_acme-challenge.example.com").await;
    let solver = without_zones(Dns01::new(Provider::new(&pebble)), &pebble).without_aliases();
    let error = account
        .issue(["example.com"])
        .solver(solver)
        .await
        .unwrap_err();
    let Error::ValidationFailed(failure) = &error else {
        panic!("{error}");
    };
    let failed = &failure.failures[0];
    assert_eq!(failed.challenge_type, Some(ChallengeType::Dns01));
    assert!(error.problem().is_some(), "{error}");
}

#[tokio::test]
async fn dns_persist_01() {
    let Some((pebble, account)) = start().await else {
        return;
    };
    let directory = account.client().session().directory().await.unwrap();
    let named = DnsPersistAccount::new(account.url(), account.thumbprint(), &directory.meta);
    let name = DnsName::parse("*.example.com").unwrap();
    let end = SystemTime::now() + Duration::from_secs(3_600);
    let record = DnsPersistRecord::new(&name, ISSUER, &named).persist_until(end);
    pebble
        .set_txt(record.name(), &record.value().to_string())
        .await;

    for names in [vec!["example.com"], vec!["*.example.com"]] {
        account
            .issue(names)
            .solver(DnsPersist01::new().without_check())
            .await
            .unwrap();
    }
    let found = dns(&pebble).txt(record.name()).await.unwrap();
    assert_eq!(found, [record.value().to_string()]);
}

#[tokio::test]
async fn pebble_refuses_a_record_of_dns_persist_01_that_does_not_count() {
    let Some((pebble, account)) = start().await else {
        return;
    };
    let directory = account.client().session().directory().await.unwrap();
    let named = DnsPersistAccount::new(account.url(), account.thumbprint(), &directory.meta);
    let name = DnsName::parse("example.com").unwrap();
    let past = SystemTime::now() - Duration::from_secs(60);
    for (number, record) in [
        // Without policy=wildcard, and past its end.
        DnsPersistRecord::new(&name, ISSUER, &named),
        DnsPersistRecord::new(&name, ISSUER, &named)
            .allow_wildcard()
            .persist_until(past),
    ]
    .iter()
    .enumerate()
    {
        pebble.clear_txt(record.name()).await;
        pebble
            .set_txt(record.name(), &record.value().to_string())
            .await;
        let error = account
            .issue(["*.example.com"])
            .solver(DnsPersist01::new().without_check())
            .await
            .unwrap_err();
        let problem = error
            .problem()
            .unwrap_or_else(|| panic!("{number}: {error}"));
        assert_eq!(problem.kind, ProblemType::Unauthorized, "{number}: {error}");
    }
}
