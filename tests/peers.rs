//! What other clients got wrong, or their servers: each is a mistake that was made in life.

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

mod support;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use certwright::error::{Operation, ReplyFault};
use certwright::issuance::Event;
use certwright::jose::AccountKey;
use certwright::protocol::{
    AuthorizationStatus, ChallengeType, OrderStatus, ProblemType, RevocationReason,
};
use certwright::solver::Http01Server;
use certwright::test_ca::{BadChain, Fault, ResourceKind, TestCa};
use certwright::transport::{HyperTransport, TransportFault};
use certwright::x509::{CertificateKey, Csr};
use certwright::{Account, Client, Error, Retry};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use tokio::time::Instant;

use support::paused::Unhurried;
use support::script::{BASE, Script, located, refusal, reply, with_header};

const MINUTE: Duration = Duration::from_secs(60);

/// A CA, a server for its challenges, and an account.
async fn setup() -> (TestCa, Http01Server, Account) {
    let server = Http01Server::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = server.local_addrs()[0].port();
    let ca = TestCa::builder().http01_port(port).start().await.unwrap();
    let account = account(&ca, |builder| builder).await;
    (ca, server, account)
}

/// An account in a client whose transport is set up in this way.
async fn account(
    ca: &TestCa,
    set_up: impl FnOnce(
        certwright::transport::HyperTransportBuilder,
    ) -> certwright::transport::HyperTransportBuilder,
) -> Account {
    let builder = HyperTransport::builder()
        .add_root_pem(ca.root_pem())
        .without_platform_roots()
        .http1_only();
    let client = Client::builder(ca.directory_url().as_str())
        .transport(set_up(builder).build().unwrap())
        .build()
        .await
        .unwrap();
    let account = client.new_account(AccountKey::generate().unwrap());
    account.agree_to_terms().create().await.unwrap()
}

fn order(status: &str) -> Value {
    json!({
        "status": status,
        "identifiers": [{"type": "dns", "value": "a.example"}],
        "authorizations": [format!("{BASE}/authorization/1")],
        "finalize": format!("{BASE}/finalize"),
        "certificate": format!("{BASE}/certificate"),
    })
}

/// An order of a scripted CA.
async fn ordered(script: &Script) -> certwright::Order {
    script.on("/new-order", |_| {
        Ok(located(reply(201, order("pending")), "/order/1"))
    });
    let account = script.account().await;
    account.new_order(["a.example"]).create().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_of_any_size_panics_nowhere() {
    const LONGEST: &str = "18446744073709551615";
    for path in [
        "/directory",
        "/nonce",
        "/new-order",
        "/order/1",
        "/finalize",
    ] {
        for (status, problem) in [(503, "serverInternal"), (429, "rateLimited")] {
            let script = Script::default();
            let order = match path {
                "/order/1" | "/finalize" => Some(ordered(&script).await),
                _ => None,
            };
            script.on(path, move |_| {
                Ok(with_header(
                    refusal(status, problem),
                    "retry-after",
                    LONGEST,
                ))
            });
            let error = match (path, &order) {
                ("/directory", _) => {
                    let client = Client::builder(format!("{BASE}/directory").as_str());
                    client.transport(script.clone()).build().await.unwrap_err()
                }
                ("/order/1", Some(order)) => order.wait_ready().await.unwrap_err(),
                (_, Some(order)) => {
                    let key = CertificateKey::generate().unwrap();
                    let csr = Csr::new(&key, &order.state().identifiers).unwrap();
                    order.finalize(&csr).await.unwrap_err()
                }
                _ => {
                    let account = script.account().await;
                    account.new_order(["a.example"]).create().await.unwrap_err()
                }
            };
            // Nobody waits for that long, and the error says that someone would have to.
            let Retry::At(time) = error.retry() else {
                panic!("{path}: {error:?}");
            };
            assert!(time > SystemTime::now() + 300 * 24 * 60 * MINUTE, "{path}");
            assert_eq!(script.asked(path).len(), 1, "{path}");
        }
    }
}

#[tokio::test]
async fn an_authorization_is_given_up_where_the_ca_says_so_and_nowhere_else() {
    let valid = json!({
        "status": "valid",
        "identifier": {"type": "dns", "value": "a.example"},
        "challenges": [],
    });
    for (answer, expected) in [
        (refusal(403, "unauthorized"), "unauthorized"),
        (refusal(400, "malformed"), "malformed"),
        (
            with_header(reply(302, ""), "location", "https://other.example/"),
            "redirects to https://other.example/",
        ),
        (reply(200, "<html>"), "not the object expected"),
    ] {
        let script = Script::default();
        let order = ordered(&script).await;
        let state = valid.clone();
        script.on("/authorization/1", move |asked| {
            Ok(match asked.payload.is_null() {
                true => reply(200, state.clone()),
                false => answer.clone(),
            })
        });
        let authorizations = order.authorizations().await.unwrap();
        let error = authorizations[0].deactivate().await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn polling_outlasts_a_ca_that_fails_for_minutes_and_stops_at_success() {
    for (end, status) in [("ready", 503), ("valid", 502), ("processing", 0)] {
        let script = Script::default();
        let order_handle = ordered(&script).await;
        let start = Instant::now();
        script.on("/order/1", move |_| {
            // For most of the five minutes that the client has.
            if start.elapsed() > 4 * MINUTE {
                return Ok(reply(200, order(end)));
            }
            match status {
                0 => Err(TransportFault::Interrupted.into()),
                status => Ok(reply(status, "<html>")),
            }
        });
        order_handle.wait_ready().await.unwrap();
        assert_eq!(order_handle.status().to_string(), end);
        let looks = script.asked("/order/1").len();
        assert!((20..=80).contains(&looks), "{looks}");
    }

    // An order that is further than what is waited for takes one look.
    let script = Script::default();
    let order_handle = ordered(&script).await;
    script.on("/order/1", |_| Ok(reply(200, order("valid"))));
    order_handle.wait_ready().await.unwrap();
    assert_eq!(script.asked("/order/1").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn polling_ends_at_the_deadline_with_what_failed_last() {
    let script = Script::default();
    let order = ordered(&script).await;
    script.on("/order/1", |_| Err(TransportFault::Interrupted.into()));
    let start = Instant::now();
    let error = order.wait_ready_within(MINUTE).await.unwrap_err();
    assert!(matches!(error, Error::Network(_)), "{error:?}");
    assert_eq!(start.elapsed().as_secs(), 60);

    // What no time will change is no reason to wait.
    script.on("/order/1", |_| Ok(refusal(404, "malformed")));
    let start = Instant::now();
    let error = order.wait_ready_within(MINUTE).await.unwrap_err();
    assert!(matches!(error, Error::Refused(_)), "{error:?}");
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn null_is_an_empty_list() {
    let script = Script::default();
    script.on("/directory", |_| {
        let url = |path: &str| format!("{BASE}/{path}");
        Ok(reply(
            200,
            json!({
                "newNonce": url("nonce"),
                "newAccount": url("new-account"),
                "newOrder": url("new-order"),
                "newAuthz": null,
                "meta": {"caaIdentities": null, "profiles": null, "website": null},
            }),
        ))
    });
    script.on("/new-account", |_| {
        let account = json!({"status": "valid", "contact": null, "orders": null});
        Ok(located(reply(201, account), "/account/1"))
    });
    script.on("/new-order", |asked| {
        let mut object = order("pending");
        if asked.before > 0 {
            object["authorizations"] = json!(null);
            object["identifiers"] = json!(null);
            object["error"] = json!(null);
        }
        Ok(located(reply(201, object), "/order/1"))
    });
    script.on("/authorization/1", |_| {
        let identifier = json!({"type": "dns", "value": "a.example"});
        Ok(reply(
            200,
            json!({"status": "pending", "identifier": identifier, "challenges": null}),
        ))
    });
    let client = script.client().await;
    let account = client.new_account(AccountKey::generate().unwrap());
    let account = account.create().await.unwrap();
    assert!(account.state().unwrap().contact.is_empty());

    let order = account.new_order(["a.example"]).create().await.unwrap();
    let authorization = &order.authorizations().await.unwrap()[0];
    assert!(authorization.offered().is_empty());
    let error = authorization.challenge(ChallengeType::Http01).unwrap_err();
    assert!(matches!(error, Error::ChallengeNotOffered(_)), "{error:?}");

    let order = account.new_order(["a.example"]).create().await.unwrap();
    assert!(order.authorizations().await.unwrap().is_empty());
    // A CSR is not sent for an order that names nothing.
    let key = CertificateKey::generate().unwrap();
    let names = certwright::protocol::Identifiers::collect(["a.example"]).unwrap();
    let csr = Csr::new(&key, &names).unwrap();
    order.finalize(&csr).await.unwrap_err();
    assert!(script.asked("/finalize").is_empty());

    // In a refusal too.
    script.on("/new-order", |_| {
        let kind = "urn:ietf:params:acme:error:malformed";
        Ok(reply(400, json!({"type": kind, "subproblems": null})))
    });
    let error = account.new_order(["a.example"]).create().await.unwrap_err();
    assert_eq!(error.problem().unwrap().kind, ProblemType::Malformed);
}

#[tokio::test]
async fn a_certificate_is_had_by_its_key_though_every_reply_about_it_was_lost() {
    let (ca, server, account) = setup().await;
    let told = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&told);
    ca.inject(Fault::Reset.on(ResourceKind::Finalize).after_acting());
    let started = {
        let ca = ca.clone();
        move |event: &Event<'_>| {
            if let Event::Finalizing { order, key, .. } = event {
                // From here on the client can't see the order either.
                ca.inject(Fault::Reset.on(ResourceKind::Order));
                *keep.lock().unwrap() = Some((order.url().clone(), key.to_pkcs8_pem().unwrap()));
            }
        }
    };
    let issuance = account.issue(["a.example"]).solver(server);
    let issuance = tokio::spawn(issuance.on_event(started).into_future());
    // The client goes on asking, until its process ends.
    while ca.issued() == 0 || ca.count(ResourceKind::Order) < 2 {
        tokio::task::yield_now().await;
    }
    assert!(!issuance.is_finished(), "no reply came");
    issuance.abort();

    // Another process goes on, by what the first one was told in time.
    ca.clear_faults();
    let (url, pem) = told.lock().unwrap().take().unwrap();
    let order = account.order(url).await.unwrap();
    assert_eq!(order.status(), OrderStatus::Valid);
    let key = CertificateKey::from_pem(&pem).unwrap();
    let csr = Csr::new(&key, &order.state().identifiers).unwrap();
    let certificate = order.finalize(&csr).await.unwrap();
    assert_eq!(ca.issued(), 1, "nothing is issued twice");
    assert_eq!(certificate.chain().identifiers().len(), 1);
}

#[tokio::test]
async fn an_order_that_fails_says_why_and_is_not_finalized() {
    let (ca, server, account) = setup().await;
    ca.inject(Fault::InvalidChallenge.on(ResourceKind::Challenge).nth(2));
    let names = ["a.example", "b.example", "c.example"];
    let error = account.issue(names).solver(server).await.unwrap_err();
    let Error::ValidationFailed(failure) = &error else {
        panic!("{error:?}");
    };
    let [failed] = &failure.failures[..] else {
        panic!("{error:?}");
    };
    let authorizations = ca.authorizations();
    let invalid: Vec<_> = authorizations
        .iter()
        .filter(|(_, authorization)| authorization.status == AuthorizationStatus::Invalid)
        .collect();
    assert_eq!(invalid.len(), 1);
    assert_eq!(failed.identifier, invalid[0].1.identifier());
    assert_eq!(failed.challenge_type, Some(ChallengeType::Http01));
    let text = error.to_string();
    assert!(
        text.contains("the test wants this challenge to fail"),
        "{text}"
    );
    assert_eq!(ca.count(ResourceKind::Finalize), 0);

    let order = account.order(failure.order.clone()).await.unwrap();
    let key = CertificateKey::generate().unwrap();
    let csr = Csr::new(&key, &order.state().identifiers).unwrap();
    let error = order.finalize(&csr).await.unwrap_err();
    assert!(matches!(error, Error::ValidationFailed(_)), "{error:?}");
    assert_eq!(ca.count(ResourceKind::Finalize), 0);
}

#[tokio::test]
async fn html_hides_no_status() {
    let (ca, _server, account) = setup().await;
    for status in [403, 404, 418] {
        let before = ca.count(ResourceKind::NewOrder);
        let html = Fault::Html(StatusCode::from_u16(status).unwrap());
        ca.inject(html.on(ResourceKind::NewOrder));
        let error = account.new_order(["a.example"]).create().await.unwrap_err();
        let Error::Refused(refusal) = &error else {
            panic!("{error:?}");
        };
        assert_eq!(refusal.status, status);
        let excerpt = refusal.excerpt.as_deref().unwrap();
        assert!(excerpt.starts_with("<!DOCTYPE html>"), "{excerpt}");
        assert_eq!(ca.count(ResourceKind::NewOrder), before + 1);
        ca.clear_faults();
    }

    // A page in place of the object is no success.
    ca.inject(Fault::Html(StatusCode::OK).on(ResourceKind::NewOrder));
    let error = account.new_order(["a.example"]).create().await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::Reply(_)), "{error:?}");
    assert!(text.starts_with("creating the order at"), "{text}");
}

#[tokio::test]
async fn requests_carry_what_is_the_clients_to_say() {
    let (ca, server, account) = setup().await;
    ca.set_pre_authorization(true);
    // Known for an hour, the directory does not list newAuthz.
    let account = account_again(&ca, &account).await;
    let update = account.update().contact("mailto:ops@example.com");
    update.send().await.unwrap();
    let authorization = account.new_authorization("pre.example");
    authorization.create().await.unwrap();
    let issued = account.issue(["a.example"]).solver(server).await.unwrap();
    let reason = Some(RevocationReason::Superseded);
    issued.certificate().revoke(reason).await.unwrap();
    let order = account.order(issued.order().url().clone()).await.unwrap();
    let authorizations = order.authorizations().await.unwrap();
    authorizations[0].deactivate().await.unwrap();
    let account = account
        .change_key(AccountKey::generate().unwrap())
        .await
        .unwrap();
    account.deactivate().await.unwrap();

    let mut seen = BTreeSet::new();
    for request in ca.requests() {
        let Some(Value::Object(payload)) = &request.payload else {
            continue;
        };
        let members: Vec<_> = payload.keys().map(String::as_str).collect();
        let allowed: &[&[&str]] = match request.kind {
            ResourceKind::NewAccount => &[&["termsOfServiceAgreed"], &["onlyReturnExisting"]],
            ResourceKind::Account => &[&["contact"], &["status"]],
            ResourceKind::NewOrder => &[&["identifiers"]],
            ResourceKind::NewAuthz => &[&["identifier"]],
            ResourceKind::Authorization => &[&["status"]],
            ResourceKind::Challenge => &[&[]],
            ResourceKind::Finalize => &[&["csr"]],
            ResourceKind::RevokeCert => &[&["certificate", "reason"]],
            ResourceKind::KeyChange => &[&["payload", "protected", "signature"]],
            kind => panic!("{kind:?} with {members:?}"),
        };
        assert!(
            allowed.contains(&&members[..]),
            "{:?}: {members:?}",
            request.kind
        );
        seen.insert(format!("{:?}", request.kind));
    }
    assert_eq!(seen.len(), 9, "{seen:?}");
}

/// The same account in a client that fetches the directory anew.
async fn account_again(ca: &TestCa, account: &Account) -> Account {
    let client = Client::builder(ca.directory_url().as_str()).add_root_pem(ca.root_pem());
    let client = client.build().await.unwrap();
    client.account(&account.credentials().unwrap()).unwrap()
}

// What is left of the faults that the CA plays.

#[tokio::test]
async fn an_order_that_is_never_issued_ends_with_the_time() {
    let (ca, server, account) = setup().await;
    ca.reuse_authorizations(true);
    account.issue(["a.example"]).solver(server).await.unwrap();
    ca.inject(Fault::StayProcessing.on(ResourceKind::Finalize));
    let order = account.new_order(["a.example"]).create().await.unwrap();
    let key = CertificateKey::generate().unwrap();
    let csr = Csr::new(&key, &order.state().identifiers).unwrap();
    let time = Duration::from_millis(300);
    let error = order.finalize_within(&csr, time).await.unwrap_err();
    let Error::TimedOut(timeout) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(timeout.operation, Operation::Finalize);
    assert_eq!(timeout.status.as_deref(), Some("processing"));
}

#[tokio::test]
async fn a_chain_for_another_key_is_refused() {
    let (ca, server, account) = setup().await;
    ca.inject(Fault::Chain(BadChain::OtherKey).on_any());
    let error = account.issue(["a.example"]).solver(server).await;
    let error = error.unwrap_err();
    assert!(matches!(error, Error::Certificate(_)), "{error:?}");
}

#[tokio::test]
async fn headers_that_are_missing_or_doubled_are_told_or_survived() {
    let (ca, server, account) = setup().await;
    ca.inject(
        Fault::OmitHeader(header::LOCATION)
            .on(ResourceKind::NewOrder)
            .nth(1),
    );
    let error = account.new_order(["a.example"]).create().await.unwrap_err();
    let Error::Reply(bad) = &error else {
        panic!("{error:?}");
    };
    assert!(matches!(bad.fault, ReplyFault::MissingHeader("Location")));

    // Nonces that do not come are fetched; what comes twice is taken once; media types are not what
    // makes a reply good.
    ca.inject(Fault::OmitNonce.on(ResourceKind::Order));
    ca.inject(Fault::OmitNonce.on(ResourceKind::Authorization));
    ca.inject(Fault::DuplicateHeader(header::LOCATION).on_any());
    ca.inject(Fault::DuplicateHeader("replay-nonce".parse().unwrap()).on_any());
    ca.inject(Fault::ContentType(HeaderValue::from_static("text/plain")).on_any());
    account.issue(["b.example"]).solver(server).await.unwrap();
}

#[tokio::test]
async fn a_reply_that_fills_the_memory_is_refused_once() {
    let (ca, _server, account) = setup().await;
    ca.inject(Fault::Oversize(2 << 20).on(ResourceKind::NewOrder));
    let error = account.new_order(["a.example"]).create().await.unwrap_err();
    assert!(error.to_string().contains("octets"), "{error}");
    assert_eq!(ca.count(ResourceKind::NewOrder), 1);
}

#[tokio::test]
async fn replies_that_never_come_are_asked_for_again() {
    let (ca, server, _) = setup().await;
    let account = account(&ca, |builder| {
        builder.request_timeout(Duration::from_millis(500))
    })
    .await;
    let stall = |kind| Fault::Stall.on(kind).nth(1);
    ca.inject(stall(ResourceKind::NewOrder));
    ca.inject(stall(ResourceKind::Finalize).after_acting());
    ca.inject(stall(ResourceKind::Certificate));
    account.issue(["a.example"]).solver(server).await.unwrap();
    assert_eq!(ca.issued(), 1);
    assert_eq!(ca.faults().len(), 3);
}

#[tokio::test]
async fn a_ca_that_is_down_for_a_while_is_waited_for() {
    let (ca, _server, account) = setup().await;
    let transport = HyperTransport::builder()
        .add_root_pem(ca.root_pem())
        .without_platform_roots()
        .http1_only();
    let client = Client::builder(ca.directory_url().as_str())
        .transport(Unhurried(transport.build().unwrap()))
        .build()
        .await
        .unwrap();
    let account = client.account(&account.credentials().unwrap()).unwrap();
    // As often as a request is sent again at the least, whatever the pauses come to.
    ca.inject(Fault::Reset.on(ResourceKind::NewOrder).first(4));
    tokio::time::pause();
    account.new_order(["a.example"]).create().await.unwrap();
    assert_eq!(ca.count(ResourceKind::NewOrder), 5);
    assert_eq!(ca.orders().len(), 1);
}
