//! DNS providers that update BIND.

#![cfg(all(feature = "rfc2136", feature = "hyper"))]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod support;

use std::fs;
use std::time::Duration;

use certwright::Client;
use certwright::dns::Dns;
use certwright::jose::AccountKey;
use certwright::solver::{
    Dns01, DnsProvider, Rfc2136, Rfc2136Error, Rfc2136Fault, TsigAlgorithm, TsigKey, TxtRecord,
};
use support::bind::{Bind, KEYS};
use support::net;
use support::pebble::Pebble;
use tokio::net::TcpListener;

const NAME: &str = "_acme-challenge.example.test";
/// What Pebble logs when it validates.
const VALIDATION: &str = "Pulled a task from the Tasks queue";
const ALGORITHMS: [TsigAlgorithm; 3] = [
    TsigAlgorithm::HmacSha256,
    TsigAlgorithm::HmacSha384,
    TsigAlgorithm::HmacSha512,
];

#[tokio::test]
async fn adds_and_removes_with_each_algorithm() {
    let Some(bind) = Bind::start().await else {
        return;
    };
    for (algorithm, (name, secret)) in ALGORITHMS.into_iter().zip(KEYS) {
        let key = TsigKey::from_base64(name, algorithm, secret).unwrap();
        let provider = Rfc2136::new(bind.address()).unwrap().tsig(key);
        let record = TxtRecord::new(NAME, name).in_zone("example.test");

        provider.add(&record).await.unwrap();
        assert_eq!(bind.txt(NAME).await, [name]);
        // Again, as after a lost reply.
        provider.add(&record).await.unwrap();
        assert_eq!(bind.txt(NAME).await, [name]);
        provider.remove(&record).await.unwrap();
        assert_eq!(bind.txt(NAME).await, [""; 0]);
        provider.remove(&record).await.unwrap();
    }
}

#[tokio::test]
async fn each_value_comes_and_goes_by_itself() {
    let Some(bind) = Bind::start().await else {
        return;
    };
    let provider = provider(&bind);
    let long = "x".repeat(600);
    let values = ["wildcard", "apex", &long];
    let records = values.map(|value| TxtRecord::new(NAME, value).in_zone("example.test"));
    let added = tokio::join!(
        provider.add(&records[0]),
        provider.add(&records[1]),
        provider.add(&records[2]),
    );
    added.0.unwrap();
    added.1.unwrap();
    added.2.unwrap();
    provider.remove(&records[2]).await.unwrap();
    assert_eq!(bind.txt(NAME).await, ["apex", "wildcard"]);
    provider.remove(&records[0]).await.unwrap();
    assert_eq!(bind.txt(NAME).await, ["apex"]);
}

#[tokio::test]
async fn finds_the_zone_by_asking_the_server() {
    let Some(bind) = Bind::start().await else {
        return;
    };
    let provider = provider(&bind);
    for name in [
        "_acme-challenge.example.test",
        "_acme-challenge.www.other.test",
        "example.test",
    ] {
        provider.add(&TxtRecord::new(name, "found")).await.unwrap();
        assert_eq!(bind.txt(name).await, ["found"]);
    }
    // An alias is not a zone of its own: it is refused there to be beside a CNAME, quietly.
    let alias = TxtRecord::new("_acme-challenge.alias.example.test", "value");
    provider.add(&alias).await.unwrap();

    for name in [
        "_acme-challenge.away.example.test",
        "_acme-challenge.example.com",
    ] {
        let fault = fault(provider.add(&TxtRecord::new(name, "value")).await);
        assert!(matches!(fault.fault(), Rfc2136Fault::NoZone), "{fault}");
        assert_eq!(fault.name(), name);
    }
}

#[tokio::test]
async fn a_refusal_says_what_the_server_does_not_like() {
    let Some(bind) = Bind::start().await else {
        return;
    };
    let (name, secret) = KEYS[0];
    let key = |name, secret| TsigKey::from_base64(name, TsigAlgorithm::HmacSha256, secret);
    let with = |key| Rfc2136::new(bind.address()).unwrap().tsig(key);
    let record = TxtRecord::new(NAME, "value").in_zone("example.test");

    let other_name = with(key("unknown", secret).unwrap());
    let error = fault(other_name.add(&record).await);
    let matches = matches!(error.fault(), Rfc2136Fault::BadKey { key } if key == "unknown");
    assert!(matches, "{error}");

    let other_secret = with(key(name, KEYS[1].1).unwrap());
    let error = fault(other_secret.add(&record).await);
    let matches = matches!(error.fault(), Rfc2136Fault::BadSignature { key } if key == name);
    assert!(matches, "{error}");
    for secret in [KEYS[0].1, KEYS[1].1] {
        assert!(!format!("{error} {error:?} {other_secret:?}").contains(secret));
    }

    let other_algorithm = TsigKey::from_base64(name, TsigAlgorithm::HmacSha512, secret).unwrap();
    let error = fault(with(other_algorithm).add(&record).await);
    assert!(
        matches!(error.fault(), Rfc2136Fault::BadKey { .. }),
        "{error}"
    );

    let unsigned = Rfc2136::new(bind.address()).unwrap();
    let error = fault(unsigned.add(&record).await);
    assert!(matches!(error.fault(), Rfc2136Fault::Refused), "{error}");

    let provider = provider(&bind);
    let frozen = TxtRecord::new("_acme-challenge.frozen.test", "value").in_zone("frozen.test");
    let error = fault(provider.add(&frozen).await);
    assert!(matches!(error.fault(), Rfc2136Fault::Refused), "{error}");
    assert!(error.to_string().contains("update-policy"), "{error}");

    let foreign = TxtRecord::new("_acme-challenge.example.com", "value").in_zone("example.com");
    let error = fault(provider.add(&foreign).await);
    let matches =
        matches!(error.fault(), Rfc2136Fault::NotAuthoritative { zone } if zone == "example.com");
    assert!(matches, "{error}");

    let outside = TxtRecord::new(NAME, "value").in_zone("other.test");
    let error = fault(provider.add(&outside).await);
    let matches = matches!(error.fault(), Rfc2136Fault::NotInZone { zone } if zone == "other.test");
    assert!(matches, "{error}");

    assert_eq!(bind.txt(NAME).await, [""; 0]);
}

#[tokio::test]
async fn a_server_that_is_not_there_or_silent_or_another() {
    let key = TsigKey::new("key", TsigAlgorithm::HmacSha256, *b"secret").unwrap();
    let record = TxtRecord::new(NAME, "value").in_zone("example.test");
    let at = |port| {
        let provider = Rfc2136::new(net::loopback(port)).unwrap();
        provider
            .tsig(key.clone())
            .timeout(Duration::from_millis(300))
    };

    let nowhere = at(net::free_port());
    let error = fault(nowhere.add(&record).await);
    assert!(
        matches!(error.fault(), Rfc2136Fault::Unreachable(_)),
        "{error}"
    );

    let listener = TcpListener::bind(net::loopback(0)).await.unwrap();
    let silent = at(listener.local_addr().unwrap().port());
    let error = fault(silent.add(&record).await);
    assert!(matches!(error.fault(), Rfc2136Fault::Timeout(_)), "{error}");

    // Whoever sends the request back as a response has not got the key; nor has who cuts it off.
    let listener = TcpListener::bind(net::loopback(0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answers = [true, false];
    let forger = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        for answers in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let length = stream.read_u16().await.unwrap();
            let mut message = vec![0; usize::from(length)];
            stream.read_exact(&mut message).await.unwrap();
            if answers {
                message[2] |= 0x80;
                stream.write_u16(length).await.unwrap();
                stream.write_all(&message).await.unwrap();
            }
        }
    });
    let forged = at(port).timeout(Duration::from_secs(30));
    let error = fault(forged.add(&record).await);
    assert!(
        matches!(error.fault(), Rfc2136Fault::Unverified(_)),
        "{error}"
    );
    let error = fault(forged.add(&record).await);
    assert!(
        matches!(error.fault(), Rfc2136Fault::Interrupted(_)),
        "{error}"
    );
    forger.await.unwrap();
}

/// CONFORMANCE C20–C22: an order with a wildcard and its apex has two values at one name, and a CNAME
/// leads to another name.
#[tokio::test]
async fn wildcard_apex_and_alias_are_issued_in_one_order() {
    let Some(bind) = Bind::start().await else {
        return;
    };
    let Some(pebble) = Pebble::builder().name_server(bind.address()).start().await else {
        return;
    };
    let client = Client::builder(pebble.directory_url().as_str())
        .add_root_pem(pebble.root_pem())
        .build()
        .await
        .unwrap();
    let account = client
        .new_account(AccountKey::generate().unwrap())
        .agree_to_terms();
    let account = account.create().await.unwrap();

    let issued = account
        .issue(["*.example.test", "example.test", "alias.other.test"])
        .solver(Dns01::new(provider(&bind)).dns(dns(&bind)))
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}\n{}", pebble.log(), bind.log()));
    let names: Vec<_> = issued
        .chain()
        .identifiers()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        names,
        ["*.example.test", "alias.other.test", "example.test"]
    );

    assert!(pebble.log().contains(VALIDATION), "{}", pebble.log());

    // The answers are taken away in a task of their own.
    let gone = async {
        while !bind.txt(NAME).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone)
        .await
        .expect("the values are removed");
}

/// CONFORMANCE C22: all name servers of the zone must have the value.
#[tokio::test]
async fn a_secondary_that_lacks_the_value_is_told() {
    let Some((primary, secondary)) = Bind::start_pair().await else {
        return;
    };
    let Some(pebble) = Pebble::builder()
        .name_server(primary.address())
        .start()
        .await
    else {
        return;
    };
    let client = Client::builder(pebble.directory_url().as_str())
        .add_root_pem(pebble.root_pem())
        .build()
        .await
        .unwrap();
    let account = client
        .new_account(AccountKey::generate().unwrap())
        .agree_to_terms();
    let account = account.create().await.unwrap();

    let solver = Dns01::new(provider(&primary)).dns(dns(&primary));
    let error = account
        .issue(["example.test"])
        .solver(solver.propagation_timeout(Duration::ZERO))
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&secondary.address().to_string()), "{text}");
    // The CA was not told that the challenge is ready.
    assert!(!pebble.log().contains(VALIDATION), "{}", pebble.log());
}

#[cfg(feature = "dns-update")]
mod through_dns_update {
    use certwright::solver::dns_update::{DnsUpdater, TsigAlgorithm};
    use certwright::solver::{DnsUpdate, DnsUpdateError, DnsUpdateFault};

    use super::*;

    fn provider(bind: &Bind, secret: &[u8]) -> DnsUpdate {
        let address = format!("tcp://{}", bind.address());
        let key = secret.to_vec();
        let algorithm = TsigAlgorithm::HmacSha256;
        let updater = DnsUpdater::new_rfc2136_tsig(address, KEYS[0].0, key, algorithm);
        DnsUpdate::new(updater.unwrap())
    }

    const SECRET: &[u8] = b"certwright tests with HMAC SHA256!!";

    #[tokio::test]
    async fn dns_update_adds_and_removes_one_value_at_a_time() {
        let Some(bind) = Bind::start().await else {
            return;
        };
        let provider = provider(&bind, SECRET);
        let [wildcard, apex] =
            ["wildcard", "apex"].map(|value| TxtRecord::new(NAME, value).in_zone("example.test"));
        let added = tokio::join!(provider.add(&wildcard), provider.add(&apex));
        added.0.unwrap();
        added.1.unwrap();
        assert_eq!(bind.txt(NAME).await, ["apex", "wildcard"]);
        provider.remove(&wildcard).await.unwrap();
        provider.remove(&wildcard).await.unwrap();
        assert_eq!(bind.txt(NAME).await, ["apex"]);

        let nowhere = provider.clone().zone("example.test");
        nowhere
            .add(&TxtRecord::new(NAME, "by the set zone"))
            .await
            .unwrap();
        assert_eq!(bind.txt(NAME).await, ["apex", "by the set zone"]);
    }

    #[tokio::test]
    async fn dns_update_tells_what_failed() {
        let Some(bind) = Bind::start().await else {
            return;
        };
        let record = TxtRecord::new(NAME, "value");
        let error = fault(provider(&bind, SECRET).add(&record).await);
        assert!(matches!(error.fault(), DnsUpdateFault::NoZone), "{error}");

        let elsewhere = record.clone().in_zone("xample.test");
        let error = fault(provider(&bind, SECRET).add(&elsewhere).await);
        assert!(
            matches!(error.fault(), DnsUpdateFault::NotInZone { .. }),
            "{error}"
        );

        let error = fault(
            provider(&bind, b"wrong")
                .add(&record.in_zone("example.test"))
                .await,
        );
        assert!(matches!(error.fault(), DnsUpdateFault::Host(_)), "{error}");
        assert!(error.to_string().contains(NAME), "{error}");
        assert_eq!(bind.txt(NAME).await, [""; 0]);
    }

    fn fault(result: Result<(), certwright::BoxError>) -> DnsUpdateError {
        *result.unwrap_err().downcast().expect("it is of this type")
    }
}

fn provider(bind: &Bind) -> Rfc2136 {
    let key = fs::read_to_string(bind.key_file("hmac-sha256")).unwrap();
    let key = TsigKey::from_bind(&key).unwrap();
    Rfc2136::new(bind.address()).unwrap().tsig(key)
}

/// What asks BIND, and takes all name servers to be at its port.
fn dns(bind: &Bind) -> Dns {
    Dns::with_name_servers([bind.address()]).authoritative_port(bind.address().port())
}

fn fault(result: Result<(), certwright::BoxError>) -> Rfc2136Error {
    *result.unwrap_err().downcast().expect("it is of this type")
}
