//! Issuance at the CA inside the process: exact counts of requests, round trips, and what is left
//! behind.

#![cfg(all(
    feature = "http-01",
    feature = "hyper",
    feature = "test-ca",
    any(feature = "aws-lc-rs", feature = "ring")
))]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use certwright::issuance::Event;
use certwright::jose::AccountKey;
use certwright::protocol::{ChallengeType, Identifier, OrderStatus};
use certwright::solver::{ChallengeSolver, Http01Server, Presentation};
use certwright::test_ca::{BadChain, Issuance, LoggedRequest, ResourceKind, TestCa, Validation};
use certwright::x509::CertificateKey;
use certwright::{Account, BoxError, Client, Error, Retry};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// So many requests of one order a client has under way at once, by default.
const CONCURRENCY: usize = 16;

struct Setup {
    ca: TestCa,
    server: Http01Server,
    account: Account,
}

/// A CA, and an account restored in a client that knows the directory and no nonce.
async fn warm() -> Setup {
    let server = Http01Server::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = server.local_addrs()[0].port();
    let ca = TestCa::builder().http01_port(port).start().await.unwrap();
    let key = AccountKey::generate().unwrap();
    let created = client(&ca)
        .await
        .new_account(key)
        .agree_to_terms()
        .create()
        .await
        .unwrap();
    let account = client(&ca)
        .await
        .account(&created.credentials().unwrap())
        .unwrap();
    ca.clear_requests();
    Setup {
        ca,
        server,
        account,
    }
}

async fn client(ca: &TestCa) -> Client {
    Client::builder(ca.directory_url().as_str())
        .add_root_pem(ca.root_pem())
        .build()
        .await
        .unwrap()
}

fn names(count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("name-{number}.example"))
        .collect()
}

/// The most requests of which each began after the one before it had ended.
fn sequential_round_trips(requests: &[LoggedRequest]) -> usize {
    let mut spans: Vec<_> = requests
        .iter()
        .map(|request| {
            (
                request.finished.expect("all requests are answered"),
                request.started,
            )
        })
        .collect();
    spans.sort();
    let mut last = Duration::ZERO;
    let mut count = 0;
    for (finished, started) in spans {
        if started >= last {
            count += 1;
            last = finished;
        }
    }
    count
}

#[tokio::test]
async fn k_names_take_2k_plus_4_requests() {
    for (count, issuance, looks) in [
        (1, Issuance::AtOnce, 1),
        (10, Issuance::AtOnce, 1),
        (50, Issuance::AtOnce, 1),
        (1, Issuance::AfterLooks(1), 2),
        (10, Issuance::AfterLooks(1), 2),
    ] {
        let Setup {
            ca,
            server,
            account,
        } = warm().await;
        ca.set_issuance(issuance);
        account.issue(names(count)).solver(server).await.unwrap();

        for (kind, expected) in [
            (ResourceKind::Directory, 0),
            (ResourceKind::NewAccount, 0),
            (ResourceKind::Account, 0),
            (ResourceKind::NewOrder, 1),
            (ResourceKind::Authorization, count),
            (ResourceKind::Challenge, count),
            (ResourceKind::Order, looks),
            (ResourceKind::Finalize, 1),
            (ResourceKind::Certificate, 1),
        ] {
            assert_eq!(ca.count(kind), expected, "{kind:?} for {count} names");
        }
        let nonces = ca.count(ResourceKind::NewNonce);
        assert_eq!(ca.requests().len() - nonces, 2 * count + 3 + looks);
        assert!(
            nonces <= count.min(CONCURRENCY),
            "{nonces} nonces for {count} names"
        );
        assert!(
            ca.requests()
                .iter()
                .all(|request| request.problem.is_none())
        );
    }
}

#[tokio::test]
async fn requests_of_one_order_overlap_within_the_bound() {
    let Setup {
        ca,
        server,
        account,
    } = warm().await;
    ca.set_latency(Duration::from_millis(100));
    account.issue(names(50)).solver(server).await.unwrap();
    assert!(ca.max_in_flight() <= CONCURRENCY);
    // `round_trips` has the exact count, on a clock of its own. Here, where the machine may be slow
    // in between, it is enough that it is far from the 104 requests made one by one.
    let round_trips = sequential_round_trips(&ca.requests());
    assert!(round_trips < 40, "{round_trips}");
}

#[tokio::test]
async fn five_hundred_orders_side_by_side_use_each_nonce_once() {
    const ORDERS: usize = 500;
    let Setup {
        ca,
        server,
        account,
    } = warm().await;
    let mut tasks = JoinSet::new();
    for number in 0..ORDERS {
        let issuance = account
            .issue([format!("order-{number}.example")])
            .solver(server.clone());
        tasks.spawn(async move { issuance.await.map(|_| ()) });
    }
    while let Some(result) = tasks.join_next().await {
        result.unwrap().unwrap();
    }

    let requests = ca.requests();
    let nonces: Vec<_> = requests
        .iter()
        .filter_map(|request| request.nonce.as_ref())
        .collect();
    let distinct: HashSet<_> = nonces.iter().collect();
    assert_eq!(distinct.len(), nonces.len(), "a nonce was used twice");
    assert_eq!(nonces.len(), 6 * ORDERS);
    assert!(
        ca.count(ResourceKind::NewNonce) <= ORDERS,
        "one for each request under way at most"
    );
    assert!(requests.iter().all(|request| request.problem.is_none()));
    assert_eq!(ca.count(ResourceKind::NewOrder), ORDERS);
    assert_eq!(ca.count(ResourceKind::Certificate), ORDERS);
}

#[tokio::test]
async fn half_of_the_nonces_may_be_refused() {
    let Setup {
        ca,
        server,
        account,
    } = warm().await;
    ca.reject_nonces(0.5);
    let issued = account.issue(names(10)).solver(server).await.unwrap();
    assert_eq!(issued.chain().identifiers().len(), 10);
    // Each refusal brought the nonce for the next try.
    assert!(ca.count(ResourceKind::NewNonce) <= CONCURRENCY);
    let refused = ca
        .requests()
        .iter()
        .filter(|request| request.problem.is_some())
        .count();
    assert!(refused > 0);
}

#[tokio::test]
async fn the_key_is_told_before_the_ca_hears_of_it() {
    let Setup {
        ca,
        server,
        account,
    } = warm().await;
    let told = Arc::new(Mutex::new(None));
    let keep = told.clone();
    let counter = ca.clone();
    let issued = account
        .issue(["example.com"])
        .solver(server)
        .on_event(move |event| {
            if let Event::Finalizing { order, key } = event {
                assert_eq!(counter.count(ResourceKind::Finalize), 0);
                *keep.lock().unwrap() = Some((order.url().clone(), (*key).clone()));
            }
        })
        .await
        .unwrap();
    let (order, key) = told.lock().unwrap().take().unwrap();
    assert_eq!(&order, issued.order().url());
    assert_eq!(key.public_key_info(), issued.key().public_key_info());

    let own = CertificateKey::generate().unwrap();
    let Setup {
        server,
        account,
        ca: _ca,
    } = warm().await;
    let issued = account
        .issue(["example.com"])
        .solver(server)
        .key(own.clone())
        .await
        .unwrap();
    assert_eq!(issued.key().public_key_info(), own.public_key_info());
}

#[tokio::test]
async fn a_chain_that_was_not_asked_for_is_refused() {
    use certwright::x509::InvalidChain;

    let Setup {
        ca,
        server,
        account,
    } = warm().await;
    for (bad, expected) in [
        (BadChain::OtherKey, "for another key"),
        (BadChain::OtherNames, "for other names"),
        (BadChain::Expired, "expired at"),
        (BadChain::NotYetValid, "not valid before"),
        (BadChain::Unlinked, "not issued by the next one"),
        (BadChain::Truncated, "ends within a certificate"),
        (BadChain::Html, "text that is not part of a certificate"),
    ] {
        ca.set_bad_chain(bad);
        let issuance = account.issue(["example.com"]).solver(server.clone());
        let error = issuance.await.unwrap_err();
        let Error::Certificate(refused) = &error else {
            panic!("{bad:?}: {error:?}");
        };
        assert!(error.to_string().contains(expected), "{bad:?}: {error}");
        let other_key = matches!(refused.fault, InvalidChain::OtherKey);
        assert_eq!(other_key, matches!(bad, BadChain::OtherKey));
    }
}

#[tokio::test]
async fn addresses_are_proved_too() {
    let Setup {
        ca: _ca,
        server,
        account,
    } = warm().await;
    let issued = account
        .issue(["127.0.0.1", "example.com"])
        .solver(server)
        .await
        .unwrap();
    let address: Identifier = "127.0.0.1".parse().unwrap();
    assert!(issued.chain().identifiers().contains(&address));
}

/// Notes what it is asked to do, in a log that outlives it.
#[derive(Clone, Debug, Default)]
struct Recorder {
    log: Arc<Mutex<Vec<String>>>,
    changed: Arc<Notify>,
    server: Option<Http01Server>,
    fail_to_present: Option<&'static str>,
    fail_to_wait: bool,
    hang: bool,
}

impl Recorder {
    fn note(&self, what: &str, presentation: &Presentation) {
        let mut log = self.log.lock().unwrap();
        log.push(format!("{what} {}", presentation.identifier()));
        self.changed.notify_one();
    }

    fn count(&self, what: &str) -> usize {
        let log = self.log.lock().unwrap();
        log.iter().filter(|entry| entry.starts_with(what)).count()
    }

    async fn until(&self, what: &str, count: usize) {
        while self.count(what) < count {
            self.changed.notified().await;
        }
    }
}

#[async_trait::async_trait]
impl ChallengeSolver for Recorder {
    fn can_solve(&self, identifier: &Identifier, kind: &ChallengeType) -> bool {
        *kind == ChallengeType::Http01 && kind.can_validate(identifier)
    }

    async fn present(&self, presentation: &Presentation) -> Result<(), BoxError> {
        self.note("present", presentation);
        if self.fail_to_present == Some(presentation.identifier().to_string().as_str()) {
            return Err("the disk is full".into());
        }
        match &self.server {
            Some(server) => server.present(presentation).await,
            None => Ok(()),
        }
    }

    async fn wait(&self, presentation: &Presentation) -> Result<(), BoxError> {
        self.note("wait", presentation);
        if self.hang {
            std::future::pending::<()>().await;
        }
        match self.fail_to_wait {
            true => Err("not to be seen at ns2.example".into()),
            false => Ok(()),
        }
    }

    async fn clean_up(&self, presentation: &Presentation) -> Result<(), BoxError> {
        self.note("clean", presentation);
        match &self.server {
            Some(server) => server.clean_up(presentation).await,
            None => Err("it is gone".into()),
        }
    }
}

#[tokio::test]
async fn all_are_presented_before_any_is_waited_for() {
    let Setup {
        ca: _ca,
        server,
        account,
    } = warm().await;
    let solver = Recorder {
        server: Some(server.clone()),
        ..Recorder::default()
    };
    account
        .issue(names(40))
        .solver(solver.clone())
        .await
        .unwrap();
    let log = solver.log.lock().unwrap().clone();
    assert!(
        log[..40].iter().all(|entry| entry.starts_with("present")),
        "{log:?}"
    );
    assert!(
        log[40..80].iter().all(|entry| entry.starts_with("wait")),
        "{log:?}"
    );
    assert!(
        log[80..].iter().all(|entry| entry.starts_with("clean")),
        "{log:?}"
    );
    assert_eq!(log.len(), 120);
}

#[tokio::test]
async fn answers_are_taken_away_after_a_failed_validation() {
    let Setup {
        ca,
        server: _server,
        account,
    } = warm().await;
    // Presents nothing, so the CA finds nothing; and even cleaning up fails.
    let solver = Recorder::default();
    let failed_clean_ups = Arc::new(Mutex::new(0));
    let count = failed_clean_ups.clone();
    let error = account
        .issue(names(3))
        .solver(solver.clone())
        .on_event(move |event| {
            if matches!(event, Event::CleanUpFailed { .. }) {
                *count.lock().unwrap() += 1;
            }
        })
        .await
        .unwrap_err();
    let Error::ValidationFailed(failure) = error.cause() else {
        panic!("{error:?}");
    };
    assert_eq!(error.leftovers().len(), 3);
    assert_eq!(failure.failures.len(), 3);
    for failed in &failure.failures {
        assert_eq!(failed.challenge_type, Some(ChallengeType::Http01));
        assert!(error.to_string().contains(&failed.identifier.to_string()));
    }
    assert_eq!(solver.count("clean"), 3);
    assert_eq!(*failed_clean_ups.lock().unwrap(), 3);
    assert_eq!(ca.count(ResourceKind::Finalize), 0);
}

#[tokio::test]
async fn answers_are_taken_away_when_the_solver_fails() {
    let Setup {
        ca,
        server,
        account,
    } = warm().await;
    let solver = Recorder {
        server: Some(server.clone()),
        fail_to_present: Some("name-1.example"),
        ..Recorder::default()
    };
    let error = account
        .issue(names(3))
        .solver(solver.clone())
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("present the answer to http-01 for name-1.example: the disk is full"),
        "{text}"
    );
    assert_eq!(error.retry(), Retry::Later);
    assert_eq!(solver.count("clean"), solver.count("present"));
    assert_eq!(solver.count("wait"), 0);

    let solver = Recorder {
        server: Some(server),
        fail_to_wait: true,
        ..Recorder::default()
    };
    let error = account
        .issue(names(2))
        .solver(solver.clone())
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("not to be seen at ns2.example"),
        "{error}"
    );
    assert_eq!(solver.count("clean"), 2);
    // The CA was not asked, so no validation failed.
    assert_eq!(ca.count(ResourceKind::Challenge), 0);
}

#[tokio::test]
async fn answers_are_taken_away_when_the_caller_drops_the_future() {
    let Setup {
        ca,
        server,
        account,
    } = warm().await;
    let solver = Recorder {
        server: Some(server),
        hang: true,
        ..Recorder::default()
    };
    let issuance = account.issue(names(3)).solver(solver.clone());
    tokio::select! {
        result = issuance.into_future() => panic!("{result:?}"),
        () = solver.until("wait", 3) => {}
    }
    assert_eq!(solver.count("clean"), 0);
    solver.until("clean", 3).await;
    assert_eq!(ca.count(ResourceKind::Challenge), 0);
}

#[tokio::test]
async fn the_deadline_ends_all_and_takes_the_answers_away() {
    let Setup {
        ca: _ca,
        server,
        account,
    } = warm().await;
    let solver = Recorder {
        server: Some(server.clone()),
        hang: true,
        ..Recorder::default()
    };
    let issuance = account.issue(names(2)).solver(solver.clone());
    let error = issuance
        .timeout(Duration::from_millis(500))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::TimedOut(_)), "{error:?}");
    assert_eq!(solver.count("clean"), 2);

    // The CA validates for longer than the caller has time.
    let Setup {
        ca,
        account,
        server: _server,
    } = warm().await;
    let silent = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap();
    ca.set_http01_port(silent.local_addr().unwrap().port());
    ca.set_validation(Validation::InBackground);
    let solver = Recorder {
        server: Some(server),
        ..Recorder::default()
    };
    let issuance = account.issue(names(1)).solver(solver.clone());
    let error = issuance
        .timeout(Duration::from_millis(500))
        .await
        .unwrap_err();
    let Error::TimedOut(timeout) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(timeout.status.as_deref(), Some("pending"));
    assert_eq!(solver.count("clean"), 1);
}

#[tokio::test]
async fn a_name_that_no_solver_is_for_is_told_before_any_order() {
    let Setup {
        ca,
        server,
        account,
    } = warm().await;
    for (names, expected) in [
        (vec!["*.example.com"], "*.example.com"),
        (vec!["example.com", "*.example.org"], "*.example.org"),
    ] {
        let error = account
            .issue(names)
            .solver(server.clone())
            .await
            .unwrap_err();
        assert!(matches!(error, Error::NoSolver(_)), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    let error = account.issue(["example.com"]).await.unwrap_err();
    assert!(matches!(error, Error::NoSolver(_)), "{error:?}");
    let error = account
        .issue(["under_score.example"])
        .solver(server.clone())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("under_score.example"), "{error}");
    let error = account
        .issue(Vec::<String>::new())
        .solver(server)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Identifier(_)), "{error:?}");
    assert!(ca.requests().is_empty());
}

#[tokio::test]
async fn handles_can_be_used_side_by_side() {
    let Setup {
        ca: _ca,
        server,
        account,
    } = warm().await;
    let order = account.new_order(names(5)).create().await.unwrap();
    let again = order.clone();
    let (first, second, third) = tokio::join!(
        order.authorizations(),
        order.refresh(),
        again.authorizations()
    );
    assert_eq!(first.unwrap().len(), 5);
    assert_eq!(second.unwrap().status, OrderStatus::Pending);
    assert_eq!(third.unwrap().len(), 5);
    let (one, two) = tokio::join!(
        account
            .issue(["one.example"])
            .solver(server.clone())
            .into_future(),
        account
            .issue(["two.example"])
            .solver(server.clone())
            .into_future(),
    );
    assert_ne!(one.unwrap().order().url(), two.unwrap().order().url());
}

#[test]
fn handles_and_futures_can_move_between_threads() {
    fn sendable<T: Send>(_: &T) {}
    fn shareable<T: Send + Sync + 'static>() {}
    shareable::<Client>();
    shareable::<Account>();
    shareable::<certwright::Order>();
    shareable::<certwright::Authorization>();
    shareable::<certwright::Challenge>();
    shareable::<certwright::Certificate>();
    shareable::<Error>();
    let _ = |account: Account| {
        let order = account.new_order(["example.com"]).create();
        sendable(&order);
        sendable(&account.issue(["example.com"]).into_future());
    };
}
