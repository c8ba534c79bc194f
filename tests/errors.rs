//! What a CA refuses, as an error that says what to do about it: by a scripted CA, as real ones
//! can't be made to refuse in each of these ways.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod support;

use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use certwright::protocol::{ChallengeType, Identifier, Problem, ProblemType};
use certwright::solver::{ChallengeSolver, Presentation};
use certwright::x509::{CertificateKey, Csr};
use certwright::{BoxError, Error, Retry};
use http::Response;
use serde_json::{Value, json};
use support::script::{BASE, Script, located, refusal, reply, with_header};

/// What newOrder's refusal by this reply becomes.
async fn refused(answer: impl Fn() -> Response<Bytes> + Send + Sync + 'static) -> Error {
    let script = Script::default();
    script.on("/new-order", move |_| Ok(answer()));
    let account = script.account().await;
    let order = account.new_order(["a.example", "b.example"]);
    order.create().await.unwrap_err()
}

fn urn(name: &str) -> String {
    format!("urn:ietf:params:acme:error:{name}")
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn says_for_each_problem_whether_trying_again_helps() {
    use Retry::{Later, Never};

    for (status, problem, expected) in [
        (400, "badNonce", Later),
        (400, "connection", Later),
        (400, "dns", Later),
        (429, "rateLimited", Later),
        (400, "rateLimited", Later),
        (503, "rateLimited", Later),
        (500, "serverInternal", Later),
        (400, "serverInternal", Later),
        // The state is another than it seemed.
        (403, "orderNotReady", Later),
        (409, "conflict", Later),
        // Somebody must act.
        (403, "accountDoesNotExist", Never),
        (403, "caa", Never),
        (403, "externalAccountRequired", Never),
        (403, "onionCAARequired", Never),
        (403, "rejectedIdentifier", Never),
        (403, "unauthorized", Never),
        (401, "unauthorized", Never),
        (403, "unknownDelegation", Never),
        (400, "unsupportedContact", Never),
        (400, "unsupportedIdentifier", Never),
        (403, "userActionRequired", Never),
        (400, "badCSR", Never),
        (400, "invalidContact", Never),
        (400, "invalidProfile", Never),
        (409, "alreadyReplaced", Never),
        (403, "autoRenewalCanceled", Never),
        (403, "autoRenewalExpired", Never),
        // Somebody must mend a program.
        (400, "badPublicKey", Never),
        (400, "badSignatureAlgorithm", Never),
        (400, "malformed", Never),
        (404, "malformed", Never),
        // The type says nothing, so the status does.
        (400, "brandNew", Never),
        (403, "brandNew", Never),
        (408, "brandNew", Later),
        (500, "brandNew", Later),
        (501, "brandNew", Never),
        (502, "brandNew", Later),
        (503, "brandNew", Later),
    ] {
        let error = refused(move || refusal(status, problem)).await;
        assert_eq!(error.retry(), expected, "{status} {problem}");
        assert!(error.to_string().contains(problem), "{error}");
        let expected = ProblemType::from(urn(problem).as_str());
        assert_eq!(error.problem().unwrap().kind, expected);
    }

    for (status, expected) in [(404, Never), (429, Later), (502, Later), (504, Later)] {
        let error = refused(move || reply(status, "<html>")).await;
        assert_eq!(error.retry(), expected, "{status} without a problem");
    }
}

#[tokio::test(start_paused = true)]
async fn a_compound_problem_helps_as_much_as_its_parts() {
    for (parts, expected) in [
        (vec!["dns", "connection"], Retry::Later),
        (vec!["dns", "caa"], Retry::Never),
        (vec![], Retry::Never),
    ] {
        let names = ["a.example", "b.example"];
        let subproblems: Vec<_> = parts
            .iter()
            .zip(names)
            .map(|(part, name)| {
                json!({
                    "type": urn(part),
                    "detail": format!("no {name}"),
                    "identifier": {"type": "dns", "value": name},
                })
            })
            .collect();
        let count = subproblems.len();
        let body = json!({"type": urn("compound"), "subproblems": subproblems});
        let error = refused(move || reply(403, body.clone())).await;
        assert_eq!(error.retry(), expected, "{parts:?}");
        let told = error.by_identifier();
        assert_eq!(told.len(), count);
        for (identifier, problem) in told {
            let text = problem.to_string();
            assert!(text.starts_with(&identifier.value()), "{text}");
            assert!(error.to_string().contains(&text), "{error}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_says_until_when_and_where_to_read_about_it() {
    let text = "too many new orders (300) from this account in the last 3h0m0s, retry after \
                2099-01-02 03:04:05 UTC: see \
                https://letsencrypt.org/docs/rate-limits/#new-orders-per-account";
    let limited = move || reply(429, json!({"type": urn("rateLimited"), "detail": text}));

    // The text is the last resort.
    let error = refused(limited).await;
    let Error::RateLimited(refusal) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(refusal.retry_at, Some(at(4_071_006_245)));
    assert_eq!(error.retry(), Retry::At(at(4_071_006_245)));
    assert_eq!(
        refusal.help[0].as_str(),
        "https://letsencrypt.org/docs/rate-limits/"
    );
    assert!(
        error
            .to_string()
            .ends_with("try again after 2099-01-02T03:04:05Z"),
        "{error}"
    );

    // Headers go before it.
    let error = refused(move || {
        let reply = with_header(limited(), "retry-after", "3600");
        with_header(reply, "link", "<https://ca.example/limits>;rel=\"help\"")
    })
    .await;
    let Error::RateLimited(refusal) = &error else {
        panic!("{error:?}");
    };
    let wait = refusal.retry_at.unwrap().duration_since(SystemTime::now());
    assert!(wait.unwrap() <= Duration::from_secs(3600));
    assert_eq!(refusal.help.len(), 1);
    assert_eq!(refusal.help[0].as_str(), "https://ca.example/limits");
}

#[tokio::test(start_paused = true)]
async fn a_pause_waits_for_a_person_at_a_page() {
    let page = "https://portal.example/sfe/v1/unpause?jwt=eyJhbGciOi.eyJzdWIi.c2ln";
    let text = format!(
        "Your account is temporarily prevented from requesting certificates for a.example and \
         possibly others. Please visit: {page}"
    );
    let paused = move || reply(429, json!({"type": urn("rateLimited"), "detail": text}));
    let error = refused(paused.clone()).await;
    let Error::Paused(found) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(found.page.as_str(), page);
    assert_eq!(error.retry(), Retry::Never);
    assert_eq!(error.problem().unwrap().kind, ProblemType::RateLimited);
    assert!(
        error
            .to_string()
            .ends_with(&format!("a person must visit {page}")),
        "{error}"
    );

    // With a time to wait for, it is a limit like others.
    let error = refused(move || with_header(paused(), "retry-after", "60")).await;
    assert!(matches!(error, Error::RateLimited(_)), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_busy_ca_is_asked_again() {
    let script = Script::default();
    script.on("/new-order", |asked| {
        Ok(match asked.before {
            0 => with_header(refusal(503, "rateLimited"), "retry-after", "5"),
            1 => refusal(503, "rateLimited"),
            _ => located(reply(201, order("pending", &[])), "/order/1"),
        })
    });
    let account = script.account().await;
    account.new_order(["a.example"]).create().await.unwrap();
    assert_eq!(script.asked("/new-order").len(), 3);
}

#[tokio::test]
async fn a_resource_that_is_listed_and_not_there() {
    // As step-ca and Caddy answer a change of the account's key.
    let error = refused(|| refusal(501, "rejectedIdentifier")).await;
    assert!(matches!(error, Error::NotImplemented(_)), "{error:?}");
    assert_eq!(error.retry(), Retry::Never);
    assert!(
        error
            .to_string()
            .starts_with("the CA lists this resource without"),
        "{error}"
    );
}

#[tokio::test]
async fn a_signature_algorithm_that_the_ca_does_not_take() {
    let error = refused(|| {
        let body = json!({
            "type": urn("badSignatureAlgorithm"),
            "detail": "no",
            "algorithms": ["RS256", "ES384"],
        });
        reply(400, body)
    })
    .await;
    assert!(
        error.to_string().contains("(the CA takes RS256, ES384)"),
        "{error}"
    );
    assert_eq!(error.problem().unwrap().algorithms, ["RS256", "ES384"]);
}

fn order(status: &str, authorizations: &[&str]) -> Value {
    let urls: Vec<_> = authorizations
        .iter()
        .map(|name| format!("{BASE}/authorization/{name}"))
        .collect();
    let identifiers: Vec<_> = authorizations
        .iter()
        .map(|name| json!({"type": "dns", "value": name}))
        .collect();
    json!({
        "status": status,
        "identifiers": identifiers,
        "authorizations": urls,
        "finalize": format!("{BASE}/order/1/finalize"),
    })
}

fn authorization(name: &str, status: &str, challenges: Value) -> Value {
    json!({
        "status": status,
        "identifier": {"type": "dns", "value": name},
        "challenges": challenges,
    })
}

fn challenge(name: &str, kind: &str, status: &str, error: Value) -> Value {
    json!({
        "type": kind,
        "status": status,
        "url": format!("{BASE}/challenge/{name}/{kind}"),
        "token": "0123456789abcdefghijkl",
        "error": error,
    })
}

/// Presents nothing, and counts what it takes away.
#[derive(Default)]
struct Idle {
    cleaned: std::sync::Arc<Mutex<usize>>,
}

#[async_trait::async_trait]
impl ChallengeSolver for Idle {
    fn can_solve(&self, _: &Identifier, _: &ChallengeType) -> bool {
        true
    }

    async fn present(&self, _: &Presentation) -> Result<(), BoxError> {
        Ok(())
    }

    async fn clean_up(&self, _: &Presentation) -> Result<(), BoxError> {
        *self.cleaned.lock().unwrap() += 1;
        Ok(())
    }
}

/// A CA whose order stays so, and whose authorizations have these challenges after validation.
fn script(status: &'static str, names: &'static [&'static str], failed: Value) -> Script {
    let script = Script::default();
    script.on("/new-order", move |_| {
        Ok(located(reply(201, order("pending", names)), "/order/1"))
    });
    script.on("/order/1", move |_| Ok(reply(200, order(status, names))));
    for &name in names {
        let failed = failed.clone();
        script.on(&format!("/authorization/{name}"), move |asked| {
            let kinds = ["http-01", "dns-01"];
            Ok(match asked.before {
                0 => {
                    let fresh = kinds.map(|kind| challenge(name, kind, "pending", Value::Null));
                    reply(200, authorization(name, "pending", json!(fresh)))
                }
                _ => {
                    let state = if status == "invalid" {
                        status
                    } else {
                        "pending"
                    };
                    let tried = challenge(name, "http-01", state, failed.clone());
                    reply(200, authorization(name, state, json!([tried])))
                }
            })
        });
        for kind in ["http-01", "dns-01"] {
            script.on(&format!("/challenge/{name}/{kind}"), move |_| {
                Ok(reply(200, challenge(name, kind, "pending", Value::Null)))
            });
        }
    }
    script
}

#[tokio::test(start_paused = true)]
async fn a_challenge_that_stays_pending_with_an_error_is_told_at_the_deadline() {
    let error = json!({"type": urn("connection"), "detail": "port 80 is closed"});
    let script = script("pending", &["a.example", "b.example"], error);
    let account = script.account().await;
    let solver = Idle::default();
    let cleaned = solver.cleaned.clone();
    let error = account
        .issue(["a.example", "b.example"])
        .solver(solver)
        .timeout(Duration::from_secs(60))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::TimedOut(_)), "{error:?}");
    assert_eq!(error.retry(), Retry::Later);
    let told = error.by_identifier();
    assert_eq!(told.len(), 2);
    for (identifier, problem) in told {
        assert_eq!(problem.kind, ProblemType::Connection);
        let text = format!("{identifier}: connection: port 80 is closed");
        assert!(error.to_string().contains(&text), "{error}");
    }
    assert_eq!(*cleaned.lock().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failed_challenge_is_final() {
    let error = json!({"type": urn("unauthorized"), "detail": "wrong answer"});
    let script = script("invalid", &["a.example"], error);
    let account = script.account().await;
    let error = account
        .issue(["a.example"])
        .solver(Idle::default())
        .max_orders(1)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the CA could not validate a.example by http-01: unauthorized: wrong answer"
    );
    assert_eq!(error.retry(), Retry::Never);
    let (identifier, problem) = error.by_identifier()[0];
    assert_eq!(identifier.value(), "a.example");
    assert_eq!(problem.kind, ProblemType::Unauthorized);
    // Neither is it tried again, nor the other challenge: all of them are invalid now.
    assert_eq!(script.asked("/challenge/a.example/http-01").len(), 1);
    assert!(script.asked("/challenge/a.example/dns-01").is_empty());
    assert_eq!(script.asked("/new-order").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_fails_after_validation_is_told_in_the_words_of_the_ca() {
    let key = CertificateKey::generate().unwrap();
    let names: [Identifier; 1] = ["a.example".parse().unwrap()];
    let csr = Csr::new(&key, &names).unwrap();

    // The profile is gone.
    let script = script("ready", &["a.example"], Value::Null);
    script.on("/order/1/finalize", |_| Ok(refusal(400, "invalidProfile")));
    let account = script.account().await;
    let order = account.new_order(&names).create().await.unwrap();
    let error = order.finalize(&csr).await.unwrap_err();
    assert_eq!(error.problem().unwrap().kind, ProblemType::InvalidProfile);
    assert_eq!(error.retry(), Retry::Never);

    // CAA records were looked at again.
    for (problem, expected) in [("caa", Retry::Never), ("serverInternal", Retry::Later)] {
        let mut failed = self::order("invalid", &["a.example"]);
        failed["error"] = json!({"type": urn(problem), "detail": "in the end"});
        for path in ["/order/1/finalize", "/order/1"] {
            let failed = failed.clone();
            script.on(path, move |_| Ok(reply(200, failed.clone())));
        }
        let valid = authorization("a.example", "valid", json!([]));
        script.on("/authorization/a.example", move |_| {
            Ok(reply(200, valid.clone()))
        });
        let order = account.new_order(&names).create().await.unwrap();
        let error = order.finalize(&csr).await.unwrap_err();
        let Error::OrderFailed(failure) = &error else {
            panic!("{error:?}");
        };
        let detail = failure
            .problem
            .as_ref()
            .and_then(|p: &Problem| p.detail.as_deref());
        assert_eq!(detail, Some("in the end"));
        assert_eq!(error.retry(), expected);
    }
}
