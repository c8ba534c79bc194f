//! Orders, and what can be asked for in them: at Pebble, and by a scripted CA for what no real one
//! has.

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

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use certwright::error::{ConfigurationError, Operation};
use certwright::issuance::Event;
use certwright::jose::{AccountKey, KeyReference};
use certwright::protocol::{
    AuthorizationStatus, AutoRenewal, Base64Url, ChallengeType, Extension, Identifier,
    IdentifierFault, OrderStatus, ProblemType, Resource, Url,
};
use certwright::session::{Reply, SignedRequest};
use certwright::solver::{ChallengeSolver, Http01Server, Presentation};
use certwright::transport::TransportFault;
use certwright::x509::{CertificateKey, Csr};
use certwright::{Account, Client, Error, Order, Replacement, Retry};
use serde_json::{Value, json};
use support::pebble::Pebble;
use support::pki::Identity;
use support::script::{BASE, Script, located, refusal, reply, with_header};

const DAY: Duration = Duration::from_secs(86_400);

/// An account at Pebble, and what the tests need to prove control and to send what the library
/// would not.
struct Tester {
    account: Account,
    key: AccountKey,
    solver: Http01Server,
}

impl Tester {
    async fn new(pebble: &Pebble) -> Self {
        let client = Client::builder(pebble.directory_url())
            .add_root_pem(pebble.root_pem())
            .build()
            .await
            .unwrap();
        let key = AccountKey::generate().unwrap();
        let account = client
            .new_account(key.clone())
            .agree_to_terms()
            .create()
            .await
            .unwrap();
        let solver = Http01Server::bind((Ipv4Addr::LOCALHOST, pebble.http01_port()))
            .await
            .unwrap();
        Self {
            account,
            key,
            solver,
        }
    }

    async fn post(&self, url: &Url, payload: Value) -> Result<Reply, Error> {
        let request = SignedRequest {
            operation: Operation::Order,
            url,
            signer: &self.key,
            key: KeyReference::Kid(self.account.url()),
            payload: payload.to_string().into_bytes(),
            accept: None,
            repeat: false,
        };
        self.account.client().session().post(&request).await
    }

    async fn prove(&self, order: &Order) {
        for authorization in order.authorizations().await.unwrap() {
            if *authorization.status() != AuthorizationStatus::Pending {
                continue;
            }
            let challenge = authorization.challenge(ChallengeType::Http01).unwrap();
            let presentation = Presentation::new(
                challenge.identifier().clone(),
                challenge.state().clone(),
                self.account.url().clone(),
                self.account.thumbprint(),
            )
            .unwrap();
            self.solver.present(&presentation).await.unwrap();
            challenge.ready().await.unwrap();
        }
        order.wait_ready().await.unwrap();
    }
}

fn csr(order: &Order) -> Csr {
    let key = CertificateKey::generate().unwrap();
    Csr::new(&key, &order.state().identifiers).unwrap()
}

#[tokio::test]
async fn orders_the_first_profile_that_the_ca_has() {
    let builder = Pebble::builder()
        .profile("classic", "ninety days", 90 * DAY)
        .profile("shortlived", "six days", 6 * DAY);
    let Some(pebble) = builder.start().await else {
        return;
    };
    let tester = Tester::new(&pebble).await;
    let directory = tester.account.client().directory().await.unwrap();
    assert_eq!(directory.meta.profiles["shortlived"], "six days");

    // Refused before the CA is asked, with what it offers.
    let wanted = tester
        .account
        .new_order(["a.example"])
        .profiles(["gone", "lost"]);
    let error = wanted.create().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the CA does not offer the profile gone or lost: it offers classic, shortlived"
    );
    assert!(matches!(error, Error::ProfileNotOffered(_)), "{error:?}");
    assert_eq!(error.retry(), Retry::Never);
    assert!(!pebble.log().contains("order-plz"), "{}", pebble.log());

    let issued = tester
        .account
        .issue(["a.example"])
        .profiles(["gone", "shortlived", "classic"])
        .solver(tester.solver.clone())
        .await
        .unwrap();
    assert_eq!(
        issued.order().state().profile.as_deref(),
        Some("shortlived")
    );
    let lifetime = issued.chain().not_after().duration_since(SystemTime::now());
    assert!(lifetime.unwrap() < 7 * DAY);

    let order = tester
        .account
        .new_order(["a.example"])
        .profile("gone")
        .or_default_profile()
        .create()
        .await
        .unwrap();
    assert!(order.state().profile.is_some(), "Pebble takes any");
}

#[tokio::test]
async fn issues_for_an_address_under_a_profile() {
    let builder = Pebble::builder().profile("shortlived", "six days", 6 * DAY);
    let Some(pebble) = builder.start().await else {
        return;
    };
    let tester = Tester::new(&pebble).await;
    let issued = tester
        .account
        .issue([Ipv4Addr::LOCALHOST])
        .profile("shortlived")
        .solver(tester.solver.clone())
        .await
        .unwrap();
    let address = Identifier::from(Ipv4Addr::LOCALHOST);
    assert_eq!(issued.chain().identifiers(), &BTreeSet::from([address]));
}

#[tokio::test]
async fn tells_each_identifier_that_the_ca_rejects_and_goes_on_where_allowed() {
    let blocked = ["bad.example", "worse.example"];
    let Some(pebble) = Pebble::builder().domain_blocklist(&blocked).start().await else {
        return;
    };
    let tester = Tester::new(&pebble).await;
    let names = ["bad.example", "good.example", "worse.example"];
    let issuance = || tester.account.issue(names).solver(tester.solver.clone());

    // By default no name is left out.
    let error = issuance().await.unwrap_err();
    let rejected: BTreeSet<_> = error
        .by_identifier()
        .into_iter()
        .map(|(identifier, problem)| {
            assert_eq!(problem.kind, ProblemType::RejectedIdentifier);
            identifier.to_string()
        })
        .collect();
    // Pebble stops at the first that it finds.
    let [name] = &Vec::from_iter(rejected)[..] else {
        panic!("{error:?}");
    };
    assert!(blocked.contains(&name.as_str()));
    assert!(error.to_string().contains(&format!("({name}: ")), "{error}");
    assert_eq!(error.retry(), Retry::Never);

    let picky = issuance().drop_rejected(|identifier, _| identifier.value() == "bad.example");
    picky.await.unwrap_err();

    let dropped = Arc::new(Mutex::new(BTreeSet::new()));
    let log = dropped.clone();
    let issued = issuance()
        .drop_rejected(|_, problem| problem.kind == ProblemType::RejectedIdentifier)
        .on_event(move |event| {
            if let Event::Dropped { identifier, .. } = event {
                log.lock().unwrap().insert(identifier.value());
            }
        })
        .await
        .unwrap();
    assert_eq!(*dropped.lock().unwrap(), blocked.map(str::to_owned).into());
    assert_eq!(
        issued.chain().identifiers(),
        &BTreeSet::from(["good.example".parse().unwrap()])
    );

    // Nothing would be left.
    let error = tester
        .account
        .issue(blocked)
        .solver(tester.solver.clone())
        .drop_rejected(|_, _| true)
        .await
        .unwrap_err();
    assert_eq!(error.by_identifier().len(), 1);
}

#[tokio::test]
async fn a_bad_csr_leaves_the_order_ready_for_a_good_one() {
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    let tester = Tester::new(&pebble).await;
    let order = tester
        .account
        .new_order(["csr.example"])
        .create()
        .await
        .unwrap();
    tester.prove(&order).await;
    let finalize = order.state().finalize.clone();
    // For the account's own key, which the library itself would not send.
    let pem = tester.key.to_pkcs8_pem().unwrap();
    let key = CertificateKey::from_pkcs8_pem(&pem).unwrap();
    let bad = Csr::new(&key, &order.state().identifiers).unwrap();
    let bad = json!({"csr": Base64Url::from(bad.der().as_ref())});
    let error = tester.post(&finalize, bad).await.unwrap_err();
    assert_eq!(error.problem().unwrap().kind, ProblemType::BadCsr);
    assert_eq!(error.retry(), Retry::Never);
    assert_eq!(order.refresh().await.unwrap().status, OrderStatus::Ready);
    order.finalize(&csr(&order)).await.unwrap();
}

#[tokio::test]
async fn issues_for_a_csr_that_was_made_elsewhere() {
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    let tester = Tester::new(&pebble).await;
    let key = CertificateKey::generate().unwrap();
    let names: [Identifier; 2] = ["a.example", "b.example"].map(|name| name.parse().unwrap());
    let made = Csr::new(&key, &names).unwrap();
    let issued = tester
        .account
        .issue_csr(Csr::from_der(made.der()).unwrap())
        .solver(tester.solver.clone())
        .await
        .unwrap();
    assert_eq!(issued.chain().identifiers(), &names.into());
    assert_eq!(issued.csr().der(), made.der());
}

#[tokio::test]
async fn does_not_prove_again_what_is_proved() {
    let Some(pebble) = Pebble::builder().authz_reuse(100).start().await else {
        return;
    };
    let tester = Tester::new(&pebble).await;
    let events = Arc::new(Mutex::new(Vec::new()));
    let issue = |names: &'static [&'static str]| {
        let log = events.clone();
        let names = names.iter().copied();
        let issuance = tester.account.issue(names).solver(tester.solver.clone());
        issuance.on_event(move |event| log.lock().unwrap().push(event.to_string()))
    };
    issue(&["old.example"]).await.unwrap();
    events.lock().unwrap().clear();

    issue(&["old.example", "new.example"]).await.unwrap();
    let told = std::mem::take(&mut *events.lock().unwrap()).join("\n");
    assert!(told.contains("old.example is authorized already"), "{told}");
    assert!(told.contains("for new.example presented"), "{told}");
    assert!(!told.contains("for old.example presented"), "{told}");

    // All of it is proved, so the order is ready from the start.
    issue(&["new.example", "old.example"]).await.unwrap();
    let told = events.lock().unwrap().join("\n");
    assert!(
        told.contains(" is ready") && !told.contains("presented"),
        "{told}"
    );
}

#[tokio::test]
async fn an_authorization_that_is_given_up_takes_its_order_along() {
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    let tester = Tester::new(&pebble).await;
    let order = tester
        .account
        .new_order(["up.example"])
        .create()
        .await
        .unwrap();

    // Not while it is pending, but where that is said so.
    let pending = order.authorizations().await.unwrap().remove(0);
    let error = pending.deactivate().await.unwrap_err();
    assert!(matches!(error, Error::AuthorizationPending(_)), "{error:?}");
    assert!(
        error.to_string().contains("up.example is pending"),
        "{error}"
    );
    assert_eq!(
        *pending.refresh().await.unwrap().status(),
        AuthorizationStatus::Pending
    );

    tester.prove(&order).await;
    let valid = pending.refresh().await.unwrap();
    let given_up = valid.deactivate().await.unwrap();
    assert_eq!(*given_up.status(), AuthorizationStatus::Deactivated);
    // Once more, as after a lost reply, and once from what was read since.
    assert_eq!(
        *valid.deactivate().await.unwrap().status(),
        AuthorizationStatus::Deactivated
    );
    given_up.deactivate().await.unwrap();

    let error = order.finalize(&csr(&order)).await.unwrap_err();
    let Error::ValidationFailed(failure) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(failure.failures[0].status, AuthorizationStatus::Deactivated);
    assert_eq!(
        error.to_string(),
        "the authorization of up.example is deactivated"
    );
    assert_eq!(error.retry(), Retry::Later, "a new order can go well");

    let order = tester
        .account
        .new_order(["up.example"])
        .create()
        .await
        .unwrap();
    let pending = order.authorizations().await.unwrap().remove(0);
    let given_up = pending.deactivate_pending().await.unwrap();
    assert_eq!(*given_up.status(), AuthorizationStatus::Deactivated);
}

#[tokio::test]
async fn stops_waiting_for_an_order_that_never_ends() {
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    let tester = Tester::new(&pebble).await;
    let client = tester.account.client();
    let new_order = client.session().resource(Resource::NewOrder).await.unwrap();
    // Pebble takes this, and fails at it without a word.
    let created = tester
        .post(
            &new_order,
            json!({
                "identifiers": [{"type": "dns", "value": "endless.example"}],
                "notBefore": "garbage",
            }),
        )
        .await
        .unwrap();
    let order = tester
        .account
        .order(created.location().unwrap())
        .await
        .unwrap();
    tester.prove(&order).await;
    let error = order
        .finalize_within(&csr(&order), Duration::from_millis(1_500))
        .await
        .unwrap_err();
    let Error::TimedOut(timeout) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(timeout.operation, Operation::Finalize);
    assert_eq!(timeout.status.as_deref(), Some("processing"));
    assert_eq!(error.retry(), Retry::Later);
}

#[tokio::test]
async fn takes_identifiers_and_authorizations_as_sets() {
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    let tester = Tester::new(&pebble).await;
    let names: BTreeSet<Identifier> = (0..8)
        .map(|number| format!("n{number}.example").parse().unwrap())
        .collect();
    let order = tester.account.new_order(&names).create().await.unwrap();
    let state = order.state();
    assert_eq!(
        state.identifiers.iter().cloned().collect::<BTreeSet<_>>(),
        names
    );
    let authorized: BTreeSet<_> = order
        .authorizations()
        .await
        .unwrap()
        .iter()
        .map(|authorization| authorization.identifier())
        .collect();
    assert_eq!(authorized, names);
}

#[tokio::test]
async fn reads_the_challenges_of_a_wildcard() {
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    let tester = Tester::new(&pebble).await;
    let order = tester
        .account
        .new_order(["*.wild.example"])
        .create()
        .await
        .unwrap();
    let authorization = order.authorizations().await.unwrap().remove(0);
    assert_eq!(authorization.identifier().value(), "*.wild.example");
    let offered: BTreeSet<_> = authorization
        .offered()
        .iter()
        .map(ChallengeType::to_string)
        .collect();
    assert_eq!(
        offered,
        ["dns-01", "dns-account-01", "dns-persist-01"]
            .map(str::to_owned)
            .into()
    );
    let account = authorization
        .challenge(ChallengeType::DnsAccount01)
        .unwrap();
    assert!(account.token().is_some());
    let persistent = authorization
        .challenge(ChallengeType::DnsPersist01)
        .unwrap();
    assert_eq!(persistent.token(), None);
    assert!(persistent.state().other.contains_key("issuer-domain-names"));
}

#[tokio::test]
async fn orders_without_a_replacement_that_pebble_refuses() {
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    let tester = Tester::new(&pebble).await;
    // Of another CA.
    let order = tester
        .account
        .new_order(["renewed.example"])
        .replaces("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE")
        .create()
        .await
        .unwrap();
    assert!(
        matches!(order.replacement(), Replacement::Refused(_)),
        "{:?}",
        order.replacement()
    );
    assert_eq!(order.state().replaces, None);
}

/// A scripted CA with one order, and these members in its directory.
fn script(members: Value) -> Script {
    let script = Script::default();
    let mut directory = json!({
        "newNonce": format!("{BASE}/nonce"),
        "newAccount": format!("{BASE}/new-account"),
        "newOrder": format!("{BASE}/new-order"),
    });
    directory
        .as_object_mut()
        .unwrap()
        .extend(members.as_object().unwrap().clone());
    script.on("/directory", move |_| Ok(reply(200, directory.clone())));
    script.on("/new-order", |_| Ok(created(json!({}))));
    script
}

fn created(members: Value) -> http::Response<bytes::Bytes> {
    located(reply(201, order("pending", members)), "/order/1")
}

fn order(status: &str, members: Value) -> Value {
    let mut order = json!({
        "status": status,
        "identifiers": [{"type": "dns", "value": "example.com"}],
        "authorizations": [],
        "finalize": format!("{BASE}/order/1/finalize"),
    });
    order
        .as_object_mut()
        .unwrap()
        .extend(members.as_object().unwrap().clone());
    order
}

/// A certificate, its key, and the members of an order for it.
fn certified() -> (Identity, CertificateKey, Value) {
    let identity = Identity::generate();
    let key = CertificateKey::from_pkcs8_pem(&identity.key_pem).unwrap();
    let identifiers = json!({"identifiers": [
        {"type": "dns", "value": "localhost"},
        {"type": "ip", "value": "127.0.0.1"},
        {"type": "ip", "value": "::1"},
    ]});
    (identity, key, identifiers)
}

fn merged(mut a: Value, b: Value) -> Value {
    let members = b.as_object().unwrap().clone();
    a.as_object_mut().unwrap().extend(members);
    a
}

#[tokio::test]
async fn goes_on_to_the_next_profile_where_one_was_withdrawn() {
    let script = script(json!({"meta": {"profiles": {"a": "", "b": ""}}}));
    script.on("/new-order", |asked| {
        Ok(match asked.payload["profile"].as_str() {
            Some("a") => refusal(400, "invalidProfile"),
            // It says nothing of the profile, which is worth a warning and no more.
            _ => created(json!({})),
        })
    });
    let account = script.account().await;
    let builder = account.new_order(["example.com"]);
    let order = builder.clone().profiles(["a", "b"]).create().await.unwrap();
    assert_eq!(order.state().profile, None);
    let asked = script.asked("/new-order");
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].payload["profile"], "b");

    builder
        .clone()
        .profile("a")
        .or_default_profile()
        .create()
        .await
        .unwrap();
    let asked = script.asked("/new-order");
    assert_eq!(asked[3].payload.get("profile"), None);

    let error = builder.profile("a").create().await.unwrap_err();
    assert_eq!(error.problem().unwrap().kind, ProblemType::InvalidProfile);
    assert_eq!(error.retry(), Retry::Never);
}

#[tokio::test(start_paused = true)]
async fn orders_again_without_a_replacement_that_the_ca_refuses() {
    let renewal_info = json!({"renewalInfo": format!("{BASE}/renewal-info")});
    for (status, problem, requests) in [
        (409, "alreadyReplaced", 2),
        (409, "conflict", 2),
        (404, "malformed", 2),
        (400, "malformed", 2),
        (403, "unauthorized", 2),
        // It may have been a failure that passes.
        (500, "serverInternal", 3),
    ] {
        let script = script(renewal_info.clone());
        script.on("/new-order", move |asked| {
            Ok(match asked.payload.get("replaces") {
                Some(_) => refusal(status, problem),
                None => created(json!({})),
            })
        });
        let account = script.account().await;
        let order = account.new_order(["example.com"]).replaces("aki.serial");
        let order = order.create().await.unwrap();
        let Replacement::Refused(refused) = order.replacement() else {
            panic!("{:?}", order.replacement());
        };
        assert!(refused.kind.urn().ends_with(problem));
        assert_eq!(script.asked("/new-order").len(), requests, "{problem}");
    }

    // What has nothing to do with it is not tried again, and what would be refused anyway is told.
    for (status, problem, requests) in [(429, "rateLimited", 1), (400, "malformed", 2)] {
        let script = script(renewal_info.clone());
        script.on("/new-order", move |_| Ok(refusal(status, problem)));
        let account = script.account().await;
        let order = account.new_order(["example.com"]).replaces("aki.serial");
        order.create().await.unwrap_err();
        assert_eq!(script.asked("/new-order").len(), requests, "{problem}");
    }
}

#[tokio::test(start_paused = true)]
async fn tells_the_ca_what_is_replaced_where_it_can_be_told() {
    let script = script(json!({"renewalInfo": format!("{BASE}/renewal-info")}));
    // A lost reply is no refusal.
    script.on("/new-order", |asked| match asked.before {
        0 => Err(TransportFault::Interrupted.into()),
        _ => Ok(created(json!({"replaces": "aki.serial"}))),
    });
    let account = script.account().await;
    let order = account.new_order(["example.com"]).replaces("aki.serial");
    let order = order.create().await.unwrap();
    assert_eq!(*order.replacement(), Replacement::Announced);
    for asked in script.asked("/new-order") {
        assert_eq!(asked.payload["replaces"], "aki.serial");
    }

    let script = self::script(json!({}));
    let account = script.account().await;
    let order = account.new_order(["example.com"]).replaces("aki.serial");
    let order = order.create().await.unwrap();
    assert_eq!(*order.replacement(), Replacement::NotOffered);
    assert_eq!(script.asked("/new-order")[0].payload.get("replaces"), None);
    let order = account.new_order(["example.com"]).create().await.unwrap();
    assert_eq!(*order.replacement(), Replacement::NotAsked);
}

#[tokio::test]
async fn refuses_names_that_no_ca_takes_together() {
    let script = script(json!({}));
    let account = script.account().await;
    let long = "0.1.2.3.4.5.6.7.8.9.example.com";
    for (names, expected) in [
        (
            ["*.example.com", "www.example.com"],
            IdentifierFault::Covered,
        ),
        ([long, "example.com"], IdentifierFault::TooManyLabels),
        (
            ["a_b.example.com", "example.com"],
            IdentifierFault::Underscore,
        ),
    ] {
        let error = account.new_order(names).create().await.unwrap_err();
        let Error::Identifier(invalid) = error else {
            panic!("{error:?}");
        };
        assert_eq!(invalid.fault, expected);
    }
    assert!(script.asked("/new-order").is_empty());
}

#[tokio::test]
async fn reads_back_the_validity_that_was_asked_for() {
    let script = script(json!({}));
    script.on("/new-order", |asked| {
        let echoed = json!({
            "notBefore": asked.payload["notBefore"],
            // The CA's own choice.
            "notAfter": "2030-02-01T00:00:00Z",
        });
        Ok(created(echoed))
    });
    let start = UNIX_EPOCH + Duration::from_secs(1_893_456_000);
    let account = script.account().await;
    let order = account
        .new_order(["example.com"])
        .not_before(start)
        .not_after(start + 365 * DAY)
        .create()
        .await
        .unwrap();
    let state = order.state();
    assert_eq!(state.not_before, Some(start));
    assert_eq!(state.not_after, Some(start + 31 * DAY));
    let asked = script.asked("/new-order");
    assert_eq!(asked[0].payload["notAfter"], "2031-01-01T00:00:00Z");

    account.new_order(["example.com"]).create().await.unwrap();
    let asked = script.asked("/new-order");
    assert_eq!(asked[1].payload.get("notBefore"), None, "not unasked");
}

#[tokio::test]
async fn takes_an_order_up_that_the_ca_had_already() {
    let (identity, key, identifiers) = certified();
    let certificate = json!({"certificate": format!("{BASE}/certificate/1")});
    for status in ["ready", "processing", "valid"] {
        let script = script(json!({}));
        let members = merged(identifiers.clone(), certificate.clone());
        let existing = order(status, members.clone());
        script.on("/new-order", move |_| {
            Ok(located(reply(200, existing.clone()), "/order/1"))
        });
        let valid = order("valid", members);
        for path in ["/order/1", "/order/1/finalize"] {
            let valid = valid.clone();
            script.on(path, move |_| Ok(reply(200, valid.clone())));
        }
        let pem = identity.certificate_pem.clone();
        script.on("/certificate/1", move |_| Ok(reply(200, pem.clone())));

        let account = script.account().await;
        let solver = Http01Server::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let issued = account
            .issue(["localhost", "127.0.0.1", "::1"])
            .key(key.clone())
            .solver(solver)
            .await
            .unwrap();
        assert_eq!(issued.chain().pem(), identity.certificate_pem);
        let finalized = script.asked("/order/1/finalize").len();
        assert_eq!(finalized, usize::from(status == "ready"), "{status}");
    }
}

#[tokio::test]
async fn an_order_that_comes_back_dead_is_no_use() {
    for status in ["invalid", "canceled", "resting"] {
        let script = script(json!({}));
        let dead = order(status, json!({}));
        let again = dead.clone();
        script.on("/new-order", move |_| {
            Ok(located(reply(200, dead.clone()), "/order/1"))
        });
        script.on("/order/1", move |_| Ok(reply(200, again.clone())));
        let account = script.account().await;
        let solver = Http01Server::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let error = account
            .issue(["example.com"])
            .solver(solver)
            .await
            .unwrap_err();
        let Error::OrderFailed(failure) = &error else {
            panic!("{error:?}");
        };
        assert_eq!(failure.status.as_str(), status);
        assert!(script.asked("/order/1/finalize").is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn does_not_wait_for_an_order_that_has_expired() {
    let script = script(json!({}));
    let expired = order("pending", json!({"expires": "2016-01-20T14:09:07Z"}));
    script.on("/order/1", move |_| Ok(reply(200, expired.clone())));
    let account = script.account().await;
    let order = account.new_order(["example.com"]).create().await.unwrap();
    let error = order.wait_ready().await.unwrap_err();
    assert!(matches!(error, Error::OrderFailed(_)), "{error:?}");
    assert!(
        error
            .to_string()
            .ends_with("is pending, and expired at 2016-01-20T14:09:07Z"),
        "{error}"
    );
    assert_eq!(error.retry(), Retry::Later);
    assert_eq!(script.asked("/order/1").len(), 1);
}

#[tokio::test]
async fn asks_for_no_extension_that_the_ca_does_not_list() {
    let script = script(json!({}));
    let account = script.account().await;
    let renewal = AutoRenewal::until(SystemTime::now() + 30 * DAY, DAY);
    let url = Url::parse("https://ca.example/delegation/1").unwrap();
    let builder = || account.new_order(["www.example.com"]);
    for (builder, expected) in [
        (builder().auto_renewal(renewal), Extension::AutoRenewal),
        (builder().delegation(url), Extension::Delegation),
        (builder().allow_certificate_get(), Extension::CertificateGet),
        (
            builder().ancestor_domain("example.com"),
            Extension::SubdomainAuthorization,
        ),
    ] {
        let error = builder.create().await.unwrap_err();
        assert!(
            matches!(error, Error::ExtensionNotOffered(extension) if extension == expected),
            "{error:?}"
        );
        assert_eq!(error.retry(), Retry::Never);
    }
    let error = account.delegations().await.unwrap_err();
    assert!(error.to_string().contains("RFC 9115"), "{error}");
    let error = account.new_authorization("example.com").create().await;
    assert!(matches!(error, Err(Error::Unsupported(Resource::NewAuthz))));
    assert_eq!(script.count(), 1, "only the directory was asked for");
}

#[tokio::test]
async fn renews_by_itself_until_canceled() {
    let (identity, key, identifiers) = certified();
    for unsigned in [false, true] {
        let script = script(json!({"meta": {"auto-renewal": {
            "min-lifetime": 86_400, "max-duration": 31_536_000, "allow-certificate-get": true,
        }}}));
        let members = merged(
            identifiers.clone(),
            json!({
                "star-certificate": format!("{BASE}/star/1"),
                "auto-renewal": {
                    "end-date": "2030-01-01T00:00:00Z",
                    // The CA's own choice.
                    "lifetime": 172_800,
                    "allow-certificate-get": unsigned,
                },
            }),
        );
        let (ready, valid, canceled) = (
            order("ready", members.clone()),
            order("valid", members.clone()),
            order("canceled", members),
        );
        script.on("/new-order", move |_| {
            Ok(located(reply(201, ready.clone()), "/order/1"))
        });
        script.on("/order/1/finalize", move |_| Ok(reply(200, valid.clone())));
        script.on("/order/1", move |asked| {
            Ok(match asked.payload["status"].as_str() {
                // As where the first reply was lost.
                Some("canceled") => refusal(400, "autoRenewalCancellationInvalid"),
                _ => reply(200, canceled.clone()),
            })
        });
        let pem = identity.certificate_pem.clone();
        script.on("/star/1", move |asked| {
            Ok(match asked.before {
                0..2 => reply(200, pem.clone()),
                _ => refusal(403, "autoRenewalCanceled"),
            })
        });

        let account = script.account().await;
        let end = UNIX_EPOCH + Duration::from_secs(1_893_456_000);
        let mut renewal = AutoRenewal::until(end, DAY).lifetime_adjust(DAY / 2);
        if unsigned {
            renewal = renewal.allow_certificate_get();
        }
        let builder = account
            .new_order(["localhost", "127.0.0.1", "::1"])
            .auto_renewal(renewal);
        let with_end = builder.clone().not_after(end).create().await;
        assert!(matches!(
            with_end,
            Err(Error::Configuration(
                ConfigurationError::ValidityOfAutoRenewal
            ))
        ));
        let order = builder.create().await.unwrap();
        let asked = &script.asked("/new-order")[0].payload["auto-renewal"];
        assert_eq!(asked["end-date"], "2030-01-01T00:00:00Z");
        assert_eq!(asked["lifetime"], 86_400);
        assert_eq!(asked["lifetime-adjust"], 43_200);
        let granted = order.state().auto_renewal.clone().unwrap();
        assert_eq!(granted.lifetime, 2 * DAY);

        let csr = Csr::new(&key, &order.state().identifiers).unwrap();
        order.finalize(&csr).await.unwrap();
        let current = order.current_certificate(&csr).await.unwrap();
        assert_eq!(current.chain().pem(), identity.certificate_pem);
        let fetches = script.asked("/star/1");
        assert!(fetches[0].header.is_some());
        assert_eq!(fetches[1].header.is_none(), unsigned);

        order.cancel().await.unwrap();
        assert_eq!(order.status(), OrderStatus::Canceled);
        let error = order.current_certificate(&csr).await.unwrap_err();
        assert_eq!(
            error.problem().unwrap().kind,
            ProblemType::AutoRenewalCanceled
        );
        assert_eq!(error.retry(), Retry::Never);
    }
}

#[tokio::test]
async fn orders_under_a_delegation() {
    let script = script(json!({"meta": {"delegation-enabled": true}}));
    script.on("/account/1", |_| {
        Ok(reply(
            200,
            json!({"status": "valid", "delegations": format!("{BASE}/delegations")}),
        ))
    });
    script.on("/delegations", |_| {
        let page = reply(
            200,
            json!({"delegations": [format!("{BASE}/delegation/1")]}),
        );
        Ok(with_header(page, "link", "</delegations/2>;rel=\"next\""))
    });
    script.on("/delegations/2", |_| {
        // A page that leads back to itself.
        let page = reply(
            200,
            json!({"delegations": [format!("{BASE}/delegation/2")]}),
        );
        Ok(with_header(page, "link", "</delegations/2>;rel=\"next\""))
    });
    let template =
        json!({"keyTypes": [], "extensions": {"subjectAltName": {"DNS": ["a.example"]}}});
    let body = json!({"csr-template": template, "cname-map": {"a.example.": "b.example."}});
    script.on("/delegation/2", move |_| Ok(reply(200, body.clone())));
    script.on("/new-order", |asked| {
        Ok(created(json!({"delegation": asked.payload["delegation"]})))
    });

    let account = script.account().await;
    let delegations = account.delegations().await.unwrap();
    assert_eq!(delegations.len(), 2);
    let delegation = account.delegation(&delegations[1]).await.unwrap();
    assert_eq!(delegation.csr_template, template);
    assert_eq!(delegation.cname_map["a.example."], "b.example.");
    let order = account
        .new_order(["a.example"])
        .delegation(delegations[1].clone())
        .create()
        .await
        .unwrap();
    assert_eq!(order.state().delegation, Some(delegations[1].clone()));
}

#[tokio::test]
async fn authorizes_before_any_order_and_for_subdomains() {
    let script = script(json!({
        "newAuthz": format!("{BASE}/new-authz"),
        "meta": {"subdomainAuthAllowed": true},
    }));
    script.on("/new-authz", |asked| {
        let authorization = json!({
            "status": "pending",
            "identifier": asked.payload["identifier"],
            "subdomainAuthAllowed": asked.payload["identifier"].get("subdomainAuthAllowed"),
            "challenges": [],
        });
        Ok(located(reply(201, authorization), "/authorization/1"))
    });
    let account = script.account().await;
    let authorization = account
        .new_authorization("Example.ORG")
        .subdomains()
        .create()
        .await
        .unwrap();
    assert_eq!(authorization.identifier().value(), "example.org");
    assert!(authorization.state().subdomain_auth_allowed);
    assert_eq!(
        authorization.url().as_str(),
        "https://ca.example/authorization/1"
    );

    let plain = account
        .new_authorization("192.0.2.1")
        .create()
        .await
        .unwrap();
    assert!(!plain.state().subdomain_auth_allowed);
    assert_eq!(
        script.asked("/new-authz")[1].payload,
        json!({"identifier": {"type": "ip", "value": "192.0.2.1"}})
    );
    let wildcard = account.new_authorization("*.example.org").create().await;
    assert!(matches!(
        wildcard,
        Err(Error::Identifier(invalid)) if invalid.fault == IdentifierFault::WildcardBeforeOrder
    ));
    assert_eq!(script.asked("/new-authz").len(), 2);

    let names = ["a.example.org", "*.b.example.org", "example.net"];
    let builder = account.new_order(names).ancestor_domain("example.org");
    let closest = builder.clone().ancestor_domain("b.example.org");
    closest.create().await.unwrap();
    assert_eq!(
        script.asked("/new-order")[0].payload["identifiers"],
        json!([
            {"type": "dns", "value": "a.example.org", "ancestorDomain": "example.org"},
            {"type": "dns", "value": "*.b.example.org", "ancestorDomain": "b.example.org"},
            {"type": "dns", "value": "example.net"},
        ])
    );
    let unrelated = builder.ancestor_domain("example.com").create().await;
    assert!(matches!(
        unrelated,
        Err(Error::Identifier(invalid)) if invalid.fault == IdentifierFault::NoSubdomain
    ));
}

#[tokio::test(start_paused = true)]
async fn fetches_the_directory_anew_when_its_time_is_up() {
    for (cache_control, minutes) in [("public, max-age=0, no-cache", 60), ("max-age=7200", 120)] {
        let script = Script::default();
        script.on("/directory", move |asked| {
            let directory = reply(
                200,
                json!({
                    "newNonce": format!("{BASE}/nonce"),
                    "newAccount": format!("{BASE}/new-account"),
                    // Elsewhere each time.
                    "newOrder": format!("{BASE}/new-order/{}", asked.before),
                }),
            );
            Ok(with_header(directory, "cache-control", cache_control))
        });
        for path in ["/new-order/0", "/new-order/1"] {
            script.on(path, |_| Ok(created(json!({}))));
        }
        let account = script.account().await;
        account.new_order(["example.com"]).create().await.unwrap();
        tokio::time::advance(Duration::from_secs(minutes * 60 - 1)).await;
        account.new_order(["example.com"]).create().await.unwrap();
        assert_eq!(script.asked("/directory").len(), 1);
        tokio::time::advance(Duration::from_secs(1)).await;
        account.new_order(["example.com"]).create().await.unwrap();
        assert_eq!(script.asked("/directory").len(), 2, "{cache_control}");
        assert_eq!(script.asked("/new-order/0").len(), 2);
        assert_eq!(script.asked("/new-order/1").len(), 1);
    }
}

/// Runs an example as a newcomer runs it. Cargo has built it already where all tests are run.
fn example(name: &str, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--locked", "--all-features"])
        .args(["--example", name, "--"])
        .args(arguments)
        .output()
        .expect("cargo can be run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    text
}

#[tokio::test]
async fn the_examples_run() {
    let builder = Pebble::builder()
        .profile("classic", "ninety days", 90 * DAY)
        .profile("shortlived", "six days", 6 * DAY);
    let Some(pebble) = builder.start().await else {
        return;
    };
    let (url, root) = (pebble.directory_url(), pebble.root_path());
    let port = pebble.http01_port().to_string();
    let ca = ["--directory", &url, "--root", root.to_str().unwrap()];

    let order = ["--domain", "a.example", "--profile", "gone"];
    let wanted = ["--profile", "shortlived"];
    let text = example("profiles", &[&ca[..], &order, &wanted].concat());
    assert!(text.contains("ninety days"), "{text}");
    assert!(text.contains("has the profile shortlived"), "{text}");

    let text = example(
        "short_lived_ip",
        &[&ca[..], &["--http-port", &port]].concat(),
    );
    assert!(text.contains("-----BEGIN CERTIFICATE-----"), "{text}");
    assert!(text.contains("for 127.0.0.1, and valid for 14"), "{text}");
}
