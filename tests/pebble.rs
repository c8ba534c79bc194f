//! The whole way to a certificate at Pebble, which validates for real.
//!
//! Pebble 2.10 can lock itself up when orders are created while authorizations are fetched, so each
//! test has a Pebble of its own and makes its orders one after another.

#![cfg(all(
    feature = "http-01",
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

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use certwright::jose::{AccountKey, MacKey};
use certwright::protocol::{ChallengeType, Identifiers, OrderStatus, Problem, ProblemType};
use certwright::solver::{ChallengeSolver, Http01Server, Presentation};
use certwright::x509::{CertificateKey, Csr};
use certwright::{Account, AccountCredentials, BoxError, Client, Error, Retry};
use support::pebble::Pebble;

async fn client(pebble: &Pebble) -> Client {
    Client::builder(pebble.directory_url())
        .add_root_pem(pebble.root_pem())
        .product("certwright-tests/1.0")
        .build()
        .await
        .unwrap()
}

async fn account(pebble: &Pebble) -> Account {
    client(pebble)
        .await
        .new_account(AccountKey::generate().unwrap())
        .contact("mailto:ops@example.com")
        .agree_to_terms()
        .create()
        .await
        .unwrap()
}

async fn server(pebble: &Pebble) -> Http01Server {
    Http01Server::bind((Ipv4Addr::LOCALHOST, pebble.http01_port()))
        .await
        .unwrap()
}

#[tokio::test]
async fn issues_for_one_name_and_says_how_it_goes() {
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    let events = Arc::new(Mutex::new(Vec::new()));
    let log = events.clone();
    let issued = account(&pebble)
        .await
        .issue(["One.Example."])
        .solver(server(&pebble).await)
        .on_event(move |event| log.lock().unwrap().push(event.to_string()))
        .await
        .unwrap();

    assert_eq!(
        issued.chain().identifiers(),
        &["one.example".parse().unwrap()].into()
    );
    assert!(issued.chain().certificates().len() >= 2);
    assert_eq!(issued.order().status(), OrderStatus::Valid);
    let events = events.lock().unwrap().join("\n");
    for expected in [
        "order https://",
        "presented",
        "validate one.example",
        "validated",
        "CSR",
        "issued",
    ] {
        assert!(events.contains(expected), "{expected} is not in\n{events}");
    }
}

#[tokio::test]
async fn issues_for_ten_names() {
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    let names: Vec<_> = (0..10)
        .map(|number| format!("name-{number}.example"))
        .collect();
    let issued = account(&pebble)
        .await
        .issue(&names)
        .solver(server(&pebble).await)
        .await
        .unwrap();
    let expected = Identifiers::collect(&names).unwrap();
    assert_eq!(
        issued.chain().identifiers(),
        &expected.iter().cloned().collect()
    );
}

#[tokio::test]
async fn issues_for_names_and_addresses_of_both_ip_versions() {
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    let port = pebble.http01_port();
    let both = [
        SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
    ];
    let solver = Http01Server::bind(&both[..]).await.unwrap();
    let account = account(&pebble).await;
    let issue = async |names: &[&str]| {
        let issued = account
            .issue(names.iter().copied())
            .solver(solver.clone())
            .await
            .unwrap();
        let expected = names.iter().map(|name| name.parse().unwrap()).collect();
        assert_eq!(issued.chain().identifiers(), &expected);
    };
    issue(&["four.example", "127.0.0.1", "::1"]).await;
    pebble.set_default_ipv6(Some(Ipv6Addr::LOCALHOST)).await;
    issue(&["six.example"]).await;
}

#[tokio::test]
async fn issues_while_half_of_the_nonces_are_refused() {
    let Some(pebble) = Pebble::builder().nonce_reject(50).start().await else {
        return;
    };
    let names: Vec<_> = (0..5)
        .map(|number| format!("name-{number}.example"))
        .collect();
    account(&pebble)
        .await
        .issue(&names)
        .solver(server(&pebble).await)
        .await
        .unwrap();
}

#[tokio::test]
async fn gives_up_when_every_nonce_is_refused() {
    let Some(pebble) = Pebble::builder().nonce_reject(100).start().await else {
        return;
    };
    let key = AccountKey::generate().unwrap();
    let error = client(&pebble)
        .await
        .new_account(key)
        .agree_to_terms()
        .create()
        .await
        .unwrap_err();
    assert_eq!(error.problem().unwrap().kind, ProblemType::BadNonce);
    assert_eq!(error.retry(), Retry::Later);
}

#[tokio::test]
async fn refuses_a_wildcard_for_http01_before_any_order() {
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    let error = account(&pebble)
        .await
        .issue(["example.com", "*.example.com"])
        .solver(server(&pebble).await)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NoSolver(_)), "{error:?}");
    assert!(error.to_string().contains("*.example.com"), "{error}");
    assert!(error.to_string().contains("dns-01"), "{error}");
    assert_eq!(error.retry(), Retry::Never);
    assert!(!pebble.log().contains("order-plz"), "{}", pebble.log());
}

/// Claims to present, and presents something wrong for one name.
#[derive(Debug)]
struct Forger {
    server: Http01Server,
    wrong: &'static str,
}

#[async_trait::async_trait]
impl ChallengeSolver for Forger {
    fn can_solve(
        &self,
        identifier: &certwright::protocol::Identifier,
        kind: &ChallengeType,
    ) -> bool {
        self.server.can_solve(identifier, kind)
    }

    async fn present(&self, presentation: &Presentation) -> Result<(), BoxError> {
        if presentation.identifier().to_string() == self.wrong {
            return Ok(());
        }
        self.server.present(presentation).await
    }

    async fn clean_up(&self, presentation: &Presentation) -> Result<(), BoxError> {
        self.server.clean_up(presentation).await
    }
}

#[tokio::test]
async fn names_the_identifier_that_failed_in_the_words_of_the_ca() {
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    let solver = Forger {
        server: server(&pebble).await,
        wrong: "bad.example",
    };
    let error = account(&pebble)
        .await
        .issue(["good.example", "bad.example"])
        .solver(solver)
        .await
        .unwrap_err();
    let Error::ValidationFailed(failure) = &error else {
        panic!("{error:?}");
    };
    let [failed] = &failure.failures[..] else {
        panic!("{failure:?}");
    };
    assert_eq!(failed.identifier.to_string(), "bad.example");
    assert_eq!(failed.challenge_type, Some(ChallengeType::Http01));
    let problem: &Problem = failed.problem.as_ref().unwrap();
    assert_eq!(problem.kind, ProblemType::Unauthorized);
    let text = error.to_string();
    assert!(
        text.contains("could not validate bad.example by http-01"),
        "{text}"
    );
    assert!(text.contains(problem.detail.as_deref().unwrap()), "{text}");
}

#[tokio::test]
async fn tells_what_the_ca_says_of_a_closed_port() {
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    // A port of its own, on which the CA does not look.
    let solver = Http01Server::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let error = account(&pebble)
        .await
        .issue(["closed.example"])
        .solver(solver)
        .await
        .unwrap_err();
    assert_eq!(
        error.problem().unwrap().kind,
        ProblemType::Connection,
        "{error}"
    );
    assert_eq!(error.retry(), Retry::Later);
}

#[tokio::test]
async fn restores_an_account_from_json_and_an_order_from_its_url() {
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    let account = account(&pebble).await;
    let stored = serde_json::to_string(&account.credentials().unwrap()).unwrap();
    let order = account
        .new_order(["resumed.example"])
        .create()
        .await
        .unwrap();
    let url = order.url().clone();
    let server = server(&pebble).await;
    let mut presentations = Vec::new();
    for authorization in order.authorizations().await.unwrap() {
        let challenge = authorization.challenge(ChallengeType::Http01).unwrap();
        let presentation = Presentation::new(
            challenge.identifier().clone(),
            challenge.state().clone(),
            account.url().clone(),
            account.thumbprint(),
        )
        .unwrap();
        server.present(&presentation).await.unwrap();
        presentations.push(presentation);
        challenge.ready().await.unwrap();
        // A second time is what a lost reply leads to. The challenge has begun, so all is well.
        challenge.ready().await.unwrap();
    }
    drop((account, order));

    let credentials: AccountCredentials = serde_json::from_str(&stored).unwrap();
    let account = client(&pebble).await.account(&credentials).unwrap();
    assert_eq!(account.refresh().await.unwrap().status.as_str(), "valid");
    let order = account.order(url.clone()).await.unwrap();
    order.wait_ready().await.unwrap();
    let key = CertificateKey::generate().unwrap();
    let csr = Csr::new(&key, &order.state().identifiers).unwrap();
    let certificate = order.finalize(&csr).await.unwrap();

    // Once more, from a valid order, without another finalize.
    let order = account.order(url).await.unwrap();
    assert_eq!(order.status(), OrderStatus::Valid);
    let again = order.finalize(&csr).await.unwrap();
    assert_eq!(again.chain().pem(), certificate.chain().pem());

    // A CSR for other names is refused before it is sent.
    let other = Csr::new(&key, &Identifiers::collect(["other.example"]).unwrap()).unwrap();
    assert!(matches!(order.finalize(&other).await, Err(Error::Csr(_))));
    for presentation in presentations {
        server.clean_up(&presentation).await.unwrap();
    }
}

#[tokio::test]
async fn finds_the_account_that_a_key_has() {
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    let client = client(&pebble).await;
    let key = AccountKey::generate().unwrap();
    let created = client
        .new_account(key.clone())
        .agree_to_terms()
        .create()
        .await
        .unwrap();
    let found = client
        .new_account(key)
        .agree_to_terms()
        .create()
        .await
        .unwrap();
    assert_eq!(created.url(), found.url());
}

#[tokio::test]
async fn says_where_the_terms_are() {
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    let key = AccountKey::generate().unwrap();
    let error = client(&pebble)
        .await
        .new_account(key)
        .create()
        .await
        .unwrap_err();
    assert_eq!(
        error.problem().unwrap().kind,
        ProblemType::UserActionRequired
    );
    assert_eq!(error.retry(), Retry::Never);
}

#[tokio::test]
async fn binds_an_external_account() {
    let mac_key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let Some(pebble) = Pebble::builder()
        .external_account("kid-1", mac_key)
        .start()
        .await
    else {
        return;
    };
    let client = client(&pebble).await;
    assert!(
        client
            .directory()
            .await
            .unwrap()
            .meta
            .external_account_required
    );
    let key = AccountKey::generate().unwrap();
    let error = client
        .new_account(key.clone())
        .agree_to_terms()
        .create()
        .await
        .unwrap_err();
    assert_eq!(
        error.problem().unwrap().kind,
        ProblemType::ExternalAccountRequired
    );
    client
        .new_account(key)
        .agree_to_terms()
        .external_account("kid-1", MacKey::parse(mac_key).unwrap())
        .create()
        .await
        .unwrap();
}

#[tokio::test]
async fn stops_at_the_deadline_with_the_last_status() {
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    let order = account(&pebble)
        .await
        .new_order(["never.example"])
        .create()
        .await
        .unwrap();
    let error = order
        .wait_ready_within(Duration::from_millis(300))
        .await
        .unwrap_err();
    let Error::TimedOut(timeout) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(timeout.status.as_deref(), Some("pending"));
    assert_eq!(&timeout.url, order.url());
}
