//! How many round trips follow each other in an issuance: exactly, on tokio's paused clock, where
//! each request takes one second and all else takes none.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use certwright::jose::AccountKey;
use certwright::protocol::{ChallengeType, Identifier, Url};
use certwright::solver::{ChallengeSolver, Presentation};
use certwright::transport::{Transport, TransportError};
use certwright::{BoxError, Client, Error};
use http::{Request, Response};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

const BASE: &str = "https://ca.example";
const ROUND_TRIP: Duration = Duration::from_secs(1);

/// A CA that knows one order, validates and issues at once, and is one round trip away.
#[derive(Clone, Debug)]
struct DistantCa {
    names: usize,
    processing: bool,
    finalized: Arc<AtomicBool>,
    requests: Arc<AtomicUsize>,
}

impl DistantCa {
    fn answer(&self, path: &str) -> Value {
        let url = |path: &str| format!("{BASE}{path}");
        let order = |status: &str| {
            json!({
                "status": status,
                "identifiers": (0..self.names)
                    .map(|name| json!({"type": "dns", "value": format!("name-{name}.example")}))
                    .collect::<Vec<_>>(),
                "authorizations": (0..self.names)
                    .map(|name| url(&format!("/authorization/{name}")))
                    .collect::<Vec<_>>(),
                "finalize": url("/finalize"),
                "certificate": url("/certificate"),
            })
        };
        let challenge = |name: &str| {
            json!({
                "type": "http-01",
                "url": url(&format!("/challenge/{name}")),
                "token": "0123456789abcdefghijkl",
            })
        };
        match path.rsplit_once('/').unwrap() {
            ("", "directory") => json!({
                "newNonce": url("/nonce"),
                "newAccount": url("/account"),
                "newOrder": url("/new-order"),
            }),
            ("", "new-order") => order("pending"),
            ("", "order") if self.finalized.load(Ordering::Relaxed) => order("valid"),
            ("", "order") => order("ready"),
            ("", "finalize") => {
                self.finalized.store(true, Ordering::Relaxed);
                order(if self.processing {
                    "processing"
                } else {
                    "valid"
                })
            }
            ("/authorization", name) => json!({
                "status": "pending",
                "identifier": {"type": "dns", "value": format!("name-{name}.example")},
                "challenges": [challenge(name)],
            }),
            ("/challenge", name) => challenge(name),
            _ => Value::Null,
        }
    }
}

#[async_trait::async_trait]
impl Transport for DistantCa {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TransportError> {
        sleep(ROUND_TRIP).await;
        let nonce = self.requests.fetch_add(1, Ordering::Relaxed);
        let path = request.uri().path();
        let mut response = Response::builder().header("location", format!("{BASE}/order"));
        if path != "/directory" {
            response = response.header("replay-nonce", format!("nonce-{nonce}"));
        }
        Ok(response.body(self.answer(path).to_string().into()).unwrap())
    }
}

struct Instantly;

#[async_trait::async_trait]
impl ChallengeSolver for Instantly {
    fn can_solve(&self, identifier: &Identifier, kind: &ChallengeType) -> bool {
        *kind == ChallengeType::Http01 && kind.can_validate(identifier)
    }

    async fn present(&self, _: &Presentation) -> Result<(), BoxError> {
        Ok(())
    }

    async fn clean_up(&self, _: &Presentation) -> Result<(), BoxError> {
        Ok(())
    }
}

/// The round trips that follow each other from the order to the chain (which is none here).
async fn round_trips(names: usize, concurrency: usize, processing: bool) -> u64 {
    let ca = DistantCa {
        names,
        processing,
        finalized: Arc::default(),
        requests: Arc::default(),
    };
    let client = Client::builder(format!("{BASE}/directory").as_str())
        .transport(ca)
        .concurrency(concurrency)
        .build()
        .await
        .unwrap();
    let url = Url::parse(&format!("{BASE}/account/1")).unwrap();
    let account = client.account_with(url, AccountKey::generate().unwrap());
    let names = (0..names).map(|name| format!("name-{name}.example"));
    let start = Instant::now();
    let error = account.issue(names).solver(Instantly).await.unwrap_err();
    assert!(matches!(error, Error::Certificate(_)), "{error:?}");
    // The finer part of the clock's reading is the timer's own rounding.
    (start.elapsed().as_secs_f64() / ROUND_TRIP.as_secs_f64()).round() as u64
}

#[tokio::test(start_paused = true)]
async fn fifty_names_take_those_of_one_and_what_the_bound_forces() {
    // newNonce, newOrder, authorization, challenge, order, finalize, certificate.
    assert_eq!(round_trips(1, 16, false).await, 7);
    // Where there is no bound to speak of, the only one more is for nonces, of which the first
    // order has left a single one.
    assert_eq!(round_trips(50, 1_000, false).await, 8);
    // 16 at once: 1 + 3 × 16 + 1 authorizations and 3 × 16 + 2 challenges.
    assert_eq!(round_trips(50, 16, false).await, 8 + 3 + 3);
    // One at a time, no nonce is lacking: a reply brings that of the next request.
    assert_eq!(round_trips(50, 1, false).await, 7 + 2 * 49);
}

#[tokio::test(start_paused = true)]
async fn an_order_in_processing_takes_one_more() {
    assert_eq!(round_trips(1, 16, true).await, 8);
}
