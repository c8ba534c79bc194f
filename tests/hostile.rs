//! Replies that no CA should send, and some do: each is an error that says what is wrong.
//!
//! They come by a transport of the test's own, as no real CA can be made to send them.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use certwright::error::{Operation, ReplyFault};
use certwright::jose::{AccountKey, Jws};
use certwright::protocol::{ChallengeType, Identifiers, OrderStatus, ProblemType};
use certwright::transport::{Transport, TransportError, TransportFault};
use certwright::x509::{CertificateKey, Csr, InvalidChain};
use certwright::{Account, Client, Error, Retry};
use http::{Request, Response};
use serde_json::{Value, json};
use tokio::time::Instant;

const BASE: &str = "https://ca.example";

type Answer = Box<dyn Fn(usize) -> Result<Response<Bytes>, TransportError> + Send + Sync>;

/// A CA that answers each path as it was told, and everything else as a good one would.
#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<HashMap<String, Answer>>>,
    log: Arc<Mutex<Vec<(String, Value)>>>,
    requests: Arc<Mutex<Vec<Request<Bytes>>>>,
    nonces: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Script")
    }
}

impl Script {
    /// Answers a path by a function of how often it was asked before.
    fn on(
        &self,
        path: &str,
        answer: impl Fn(usize) -> Result<Response<Bytes>, TransportError> + Send + Sync + 'static,
    ) -> &Self {
        self.answers
            .lock()
            .unwrap()
            .insert(path.to_owned(), Box::new(answer));
        self
    }

    fn on_json(&self, path: &str, value: Value) -> &Self {
        self.on(path, move |_| Ok(reply(200, &value.to_string())))
    }

    fn count(&self, path: &str) -> usize {
        self.log
            .lock()
            .unwrap()
            .iter()
            .filter(|(asked, _)| asked == path)
            .count()
    }

    async fn client(&self) -> Result<Client, Error> {
        Client::builder(format!("{BASE}/directory").as_str())
            .transport(self.clone())
            .build()
            .await
    }

    async fn account(&self) -> Result<Account, Error> {
        let key = AccountKey::generate().unwrap();
        self.client().await?.new_account(key).create().await
    }
}

#[async_trait::async_trait]
impl Transport for Script {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TransportError> {
        self.requests.lock().unwrap().push(request.clone());
        let path = request.uri().path().to_owned();
        let header = serde_json::from_slice::<Jws>(request.body())
            .ok()
            .and_then(|jws| serde_json::to_value(jws.header().ok()?).ok());
        let before = self.count(&path);
        self.log
            .lock()
            .unwrap()
            .push((path.clone(), header.unwrap_or_default()));

        let answer = self
            .answers
            .lock()
            .unwrap()
            .get(&path)
            .map(|answer| answer(before));
        let mut response = answer.unwrap_or_else(|| Ok(good(&path)))?;
        if path != "/directory" && !response.headers().contains_key("replay-nonce") {
            let nonce = format!("nonce-{}", self.nonces.fetch_add(1, Ordering::Relaxed));
            response
                .headers_mut()
                .insert("replay-nonce", nonce.parse().unwrap());
        }
        Ok(response)
    }
}

fn reply(status: u16, body: &str) -> Response<Bytes> {
    Response::builder()
        .status(status)
        .body(Bytes::from(body.to_owned()))
        .unwrap()
}

fn with_header(mut response: Response<Bytes>, name: &'static str, value: &str) -> Response<Bytes> {
    response.headers_mut().append(name, value.parse().unwrap());
    response
}

fn good(path: &str) -> Response<Bytes> {
    let located = |body: Value, location: &str| {
        with_header(
            reply(201, &body.to_string()),
            "location",
            &format!("{BASE}{location}"),
        )
    };
    match path {
        "/directory" => reply(200, &directory().to_string()),
        "/nonce" => reply(200, ""),
        "/new-account" => located(json!({"status": "valid"}), "/account/1"),
        "/new-order" => located(order("pending"), "/order/1"),
        "/order/1" => reply(200, &order("ready").to_string()),
        "/order/1/finalize" => reply(200, &order("valid").to_string()),
        "/authorization/1" => reply(200, &authorization("0123456789abcdefghijkl").to_string()),
        "/challenge/1" => reply(200, &challenge("0123456789abcdefghijkl").to_string()),
        _ => reply(404, ""),
    }
}

fn directory() -> Value {
    json!({
        "newNonce": format!("{BASE}/nonce"),
        "newAccount": format!("{BASE}/new-account"),
        "newOrder": format!("{BASE}/new-order"),
    })
}

fn order(status: &str) -> Value {
    json!({
        "status": status,
        "identifiers": [{"type": "dns", "value": "example.com"}],
        "authorizations": [format!("{BASE}/authorization/1")],
        "finalize": format!("{BASE}/order/1/finalize"),
        "certificate": format!("{BASE}/certificate/1"),
    })
}

fn authorization(token: &str) -> Value {
    json!({
        "status": "pending",
        "identifier": {"type": "dns", "value": "example.com"},
        "challenges": [challenge(token)],
    })
}

fn challenge(token: &str) -> Value {
    json!({
        "type": "http-01",
        "status": "pending",
        "url": format!("{BASE}/challenge/1"),
        "token": token,
    })
}

fn bad_reply(error: Error) -> (Operation, ReplyFault, String) {
    let text = error.to_string();
    match error {
        Error::Reply(reply) => (reply.operation, reply.fault, text),
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn a_directory_that_is_none() {
    for body in [
        "",
        "nonsense",
        "<html><h1>It works!</h1></html>",
        "[]",
        "{\"newNonce\": 7}",
    ] {
        let script = Script::default();
        script.on("/directory", move |_| Ok(reply(200, body)));
        let (operation, fault, text) = bad_reply(script.client().await.unwrap_err());
        assert_eq!(operation, Operation::Directory);
        assert!(
            matches!(fault, ReplyFault::Json { .. }),
            "{body}: {fault:?}"
        );
        assert!(
            text.contains(&format!("{BASE}/directory")) && text.contains(body),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_directory_that_lacks_a_resource() {
    for name in ["newNonce", "newAccount", "newOrder"] {
        let script = Script::default();
        let mut lacking = directory();
        lacking.as_object_mut().unwrap().remove(name);
        script.on_json("/directory", lacking);
        let (_, fault, text) = bad_reply(script.client().await.unwrap_err());
        assert!(matches!(fault, ReplyFault::MissingResource(_)), "{fault:?}");
        assert!(text.contains(name), "{text}");
    }
}

#[tokio::test]
async fn a_directory_that_lists_an_http_url() {
    for name in ["newNonce", "newAccount", "newOrder", "revokeCert"] {
        let script = Script::default();
        let mut insecure = directory();
        insecure[name] = json!("http://ca.example/insecure");
        script.on_json("/directory", insecure);
        let (_, fault, text) = bad_reply(script.client().await.unwrap_err());
        assert!(matches!(fault, ReplyFault::InsecureUrl(_)), "{fault:?}");
        assert!(text.contains("http://ca.example/insecure"), "{text}");
    }
}

#[tokio::test]
async fn an_http_directory_is_not_even_asked() {
    let script = Script::default();
    let client = Client::builder("http://ca.example/directory").transport(script.clone());
    let (_, fault, _) = bad_reply(client.build().await.unwrap_err());
    assert!(matches!(fault, ReplyFault::InsecureUrl(_)));
    assert!(script.log.lock().unwrap().is_empty());

    // Not even on loopback, but where the caller allows it.
    let client = Client::builder("http://127.0.0.1/directory").transport(script.clone());
    bad_reply(client.build().await.unwrap_err());
    Client::builder("http://127.0.0.1/directory")
        .transport(script)
        .allow_loopback_http()
        .build()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_redirect() {
    let script = Script::default();
    script.on("/directory", |_| {
        Ok(with_header(
            reply(302, ""),
            "location",
            "http://ca.example/elsewhere",
        ))
    });
    let (_, fault, _) = bad_reply(script.client().await.unwrap_err());
    assert!(matches!(fault, ReplyFault::InsecureUrl(_)), "{fault:?}");

    script.on("/directory", |_| {
        Ok(with_header(reply(301, ""), "location", "/elsewhere"))
    });
    script.on_json("/elsewhere", directory());
    script.client().await.unwrap();

    script.on("/elsewhere", |_| {
        Ok(with_header(reply(301, ""), "location", "/directory"))
    });
    let (_, fault, _) = bad_reply(script.client().await.unwrap_err());
    assert!(matches!(fault, ReplyFault::Redirect(_)), "{fault:?}");

    // A signed request follows none: its signature names one URL.
    let script = Script::default();
    script.on("/new-account", |_| {
        Ok(with_header(
            reply(307, ""),
            "location",
            "https://other.example/",
        ))
    });
    let (operation, fault, text) = bad_reply(script.account().await.unwrap_err());
    assert_eq!(operation, Operation::NewAccount);
    assert!(matches!(fault, ReplyFault::Redirect(Some(_))), "{fault:?}");
    assert!(text.contains("https://other.example/"), "{text}");
}

#[tokio::test]
async fn a_token_that_could_harm() {
    for token in [
        "../../../../../../etc/passwd",
        "a",
        "",
        "0123456789abcdefghijkl\r\nX: y",
    ] {
        let script = Script::default();
        script.on_json("/authorization/1", authorization(token));
        let account = script.account().await.unwrap();
        let order = account.new_order(["example.com"]).create().await.unwrap();
        let authorizations = order.authorizations().await.unwrap();
        let error = authorizations[0]
            .challenge(ChallengeType::Http01)
            .unwrap_err();
        assert_eq!(error.retry(), Retry::Never);
        let (operation, fault, text) = bad_reply(error);
        assert_eq!(operation, Operation::Authorization);
        assert!(matches!(fault, ReplyFault::Token(_)), "{fault:?}");
        assert!(text.contains("§8.1") && !text.contains('\r'), "{text}");
    }
}

#[tokio::test]
async fn a_challenge_that_is_not_offered() {
    let account = Script::default().account().await.unwrap();
    let order = account.new_order(["example.com"]).create().await.unwrap();
    let authorizations = order.authorizations().await.unwrap();
    let error = authorizations[0]
        .challenge(ChallengeType::Dns01)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the CA does not offer dns-01 for example.com, but http-01"
    );
}

#[tokio::test]
async fn a_reply_without_location() {
    let script = Script::default();
    script.on_json("/new-account", json!({"status": "valid"}));
    let (operation, fault, _) = bad_reply(script.account().await.unwrap_err());
    assert_eq!(operation, Operation::NewAccount);
    assert!(
        matches!(fault, ReplyFault::MissingHeader("Location")),
        "{fault:?}"
    );

    let script = Script::default();
    script.on_json("/new-order", order("pending"));
    let account = script.account().await.unwrap();
    let (operation, fault, _) = bad_reply(
        account
            .new_order(["example.com"])
            .create()
            .await
            .unwrap_err(),
    );
    assert_eq!(operation, Operation::NewOrder);
    assert!(
        matches!(fault, ReplyFault::MissingHeader("Location")),
        "{fault:?}"
    );
}

#[tokio::test]
async fn a_reply_without_nonce() {
    let script = Script::default();
    // `=` is no nonce, so these replies have none.
    script.on("/nonce", |_| {
        Ok(with_header(reply(200, ""), "replay-nonce", "="))
    });
    let (operation, fault, _) = bad_reply(script.account().await.unwrap_err());
    assert_eq!(operation, Operation::NewNonce);
    assert!(
        matches!(fault, ReplyFault::MissingHeader("Replay-Nonce")),
        "{fault:?}"
    );
    assert_eq!(script.count("/nonce"), 2, "by HEAD, then by GET");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_in_any_form() {
    let html = "<html>\u{1b}[31m502 Bad Gateway</html>";
    for (status, body, kind, expected) in [
        (
            404,
            "",
            ProblemType::Blank,
            "status 404, with an empty body",
        ),
        (
            404,
            "404 page not found",
            ProblemType::Blank,
            "starts `404 page not found`",
        ),
        (
            502,
            html,
            ProblemType::Blank,
            "status 502, with a body that starts `<html> [31m502",
        ),
        (403, "{}", ProblemType::Blank, "status 403: no problem type"),
        (
            403,
            r#"{"detail": "no"}"#,
            ProblemType::Blank,
            "status 403: no problem type: no",
        ),
        (
            400,
            r#"{"type": "urn:ietf:params:acme:error:badCSR", "detail": "weak key"}"#,
            ProblemType::BadCsr,
            "status 400: badCSR: weak key",
        ),
    ] {
        let script = Script::default();
        script.on("/new-account", move |_| Ok(reply(status, body)));
        let error = script.account().await.unwrap_err();
        let text = error.to_string();
        let Error::Refused(refusal) = error else {
            panic!("{error:?}");
        };
        assert_eq!((refusal.status, &refusal.problem.kind), (status, &kind));
        assert!(text.contains(expected), "{text}");
        assert!(
            text.starts_with("creating the account at https://ca.example/new-account"),
            "{text}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_of_any_kind() {
    const YEAR: Duration = Duration::from_secs(366 * 24 * 3600);
    let limited = r#"{"type": "urn:ietf:params:acme:error:rateLimited", "detail": "too many"}"#;
    for (value, expected) in [
        ("31536000", Some(Duration::from_secs(31_536_000))),
        ("18446744073709551615", Some(YEAR)),
        ("99999999999999999999999", Some(YEAR)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", Some(YEAR)),
        ("Thu, 01 Jan 1970 00:00:00 GMT", Some(Duration::ZERO)),
        ("soon", None),
        ("-5", None),
        ("", None),
    ] {
        let script = Script::default();
        script.on("/new-account", move |_| {
            Ok(with_header(reply(429, limited), "retry-after", value))
        });
        let before = SystemTime::now();
        let error = script.account().await.unwrap_err();
        let Error::RateLimited(refusal) = &error else {
            panic!("{error:?}");
        };
        let found = refusal
            .retry_at
            .map(|time| time.duration_since(before).unwrap_or_default());
        match (found, expected) {
            (None, None) => assert_eq!(error.retry(), Retry::Later),
            (Some(found), Some(expected)) => {
                let difference = found.abs_diff(expected);
                assert!(difference < Duration::from_secs(60), "{value}: {found:?}");
            }
            (found, expected) => panic!("{value}: {found:?} is not {expected:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_does_not_outlast_the_deadline() {
    for value in [
        "31536000",
        "18446744073709551615",
        "Fri, 31 Dec 9999 23:59:59 GMT",
    ] {
        let script = Script::default();
        script.on("/order/1", move |_| {
            Ok(with_header(
                reply(200, &order("pending").to_string()),
                "retry-after",
                value,
            ))
        });
        let account = script.account().await.unwrap();
        let order = account.new_order(["example.com"]).create().await.unwrap();
        let start = Instant::now();
        let error = order
            .wait_ready_within(Duration::from_secs(60))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::TimedOut(_)), "{error:?}");
        assert_eq!(start.elapsed().as_secs(), 60);
        assert_eq!(script.count("/order/1"), 2, "at once, and at the deadline");
    }
}

#[tokio::test(start_paused = true)]
async fn looks_at_once_then_as_asked_and_last_at_the_deadline() {
    let script = Script::default();
    let start = Instant::now();
    let looks = Arc::new(Mutex::new(Vec::new()));
    let log = looks.clone();
    script.on("/order/1", move |_| {
        log.lock().unwrap().push(start.elapsed().as_secs());
        Ok(with_header(
            reply(200, &order("processing").to_string()),
            "retry-after",
            "7",
        ))
    });
    script.on_json("/order/1/finalize", order("processing"));
    let account = script.account().await.unwrap();
    let order = account.new_order(["example.com"]).create().await.unwrap();
    let key = CertificateKey::generate().unwrap();
    let csr = Csr::new(&key, &order.state().identifiers).unwrap();
    let error = order
        .finalize_within(&csr, Duration::from_secs(20))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::TimedOut(_)), "{error:?}");
    assert_eq!(*looks.lock().unwrap(), [0, 7, 14, 20]);
}

#[tokio::test]
async fn an_order_of_unknown_status_is_of_no_use() {
    let script = Script::default();
    script.on_json("/order/1", order("resting"));
    let account = script.account().await.unwrap();
    let order = account.new_order(["example.com"]).create().await.unwrap();
    let error = order.wait_ready().await.unwrap_err();
    let Error::OrderFailed(failure) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(failure.status, OrderStatus::Other("resting".into()));
}

#[tokio::test]
async fn a_certificate_that_is_none() {
    let private_key = CertificateKey::generate().unwrap().to_pkcs8_pem().unwrap();
    let cases = [
        (String::new(), InvalidChain::Empty),
        ("<html></html>".to_owned(), InvalidChain::Text),
        (
            private_key.to_string(),
            InvalidChain::Label("PRIVATE KEY".into()),
        ),
        (
            "-----BEGIN CERTIFICATE-----\nAQID".to_owned(),
            InvalidChain::Truncated,
        ),
    ];
    for (body, expected) in cases {
        let script = Script::default();
        script.on("/certificate/1", move |_| Ok(reply(200, &body)));
        let account = script.account().await.unwrap();
        let order = account.new_order(["example.com"]).create().await.unwrap();
        order.wait_ready().await.unwrap();
        let key = CertificateKey::generate().unwrap();
        let csr = Csr::new(&key, &Identifiers::collect(["example.com"]).unwrap()).unwrap();
        let error = order.finalize(&csr).await.unwrap_err();
        assert!(
            error.to_string().contains(&format!("{BASE}/certificate/1")),
            "{error}"
        );
        match error {
            Error::Certificate(bad) => assert_eq!(bad.fault, expected),
            error => panic!("{error:?}"),
        }
    }
}

#[tokio::test]
async fn a_valid_order_without_certificate() {
    let script = Script::default();
    let mut without = order("valid");
    without.as_object_mut().unwrap().remove("certificate");
    script.on_json("/order/1/finalize", without);
    let account = script.account().await.unwrap();
    let order = account.new_order(["example.com"]).create().await.unwrap();
    let key = CertificateKey::generate().unwrap();
    let csr = Csr::new(&key, &order.state().identifiers).unwrap();
    let (_, fault, _) = bad_reply(order.finalize(&csr).await.unwrap_err());
    assert!(matches!(fault, ReplyFault::NoCertificate), "{fault:?}");
}

#[tokio::test]
async fn a_bad_nonce_is_replaced_by_that_of_the_refusal() {
    let bad_nonce = r#"{"type": "urn:ietf:params:acme:error:badNonce"}"#;
    let script = Script::default();
    script.on("/new-account", move |before| match before {
        0 => Ok(with_header(
            reply(400, bad_nonce),
            "replay-nonce",
            "fresh-one",
        )),
        // No nonce comes with this refusal, so a new one is fetched.
        1 => Ok(with_header(reply(400, bad_nonce), "replay-nonce", "=")),
        _ => Ok(good("/new-account")),
    });
    script.account().await.unwrap();
    let log = script.log.lock().unwrap();
    let nonces: Vec<_> = log
        .iter()
        .filter(|(path, _)| path == "/new-account")
        .map(|(_, header)| header["nonce"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(nonces.len(), 3);
    assert_eq!(nonces[1], "fresh-one");
    assert_ne!(nonces[0], nonces[2]);
    assert_eq!(log.iter().filter(|(path, _)| path == "/nonce").count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_is_tried_again_where_that_is_safe() {
    for fault in [TransportFault::Connect, TransportFault::Interrupted] {
        let script = Script::default();
        script.on("/directory", move |before| match before {
            0..2 => Err(fault.into()),
            _ => Ok(good("/directory")),
        });
        script.on("/new-account", move |before| match before {
            0 => Err(fault.into()),
            1 => Ok(with_header(reply(503, "busy"), "retry-after", "3")),
            _ => Ok(good("/new-account")),
        });
        script.account().await.unwrap();
        assert_eq!(script.count("/directory"), 3);
        assert_eq!(script.count("/new-account"), 3);
    }

    let script = Script::default();
    script.on("/directory", |_| Err(TransportFault::Connect.into()));
    let error = script.client().await.unwrap_err();
    assert!(matches!(error, Error::Network(_)), "{error:?}");
    assert_eq!(error.retry(), Retry::Later);
    // For half a minute, by pauses with jitter.
    let tries = script.count("/directory");
    assert!((5..=12).contains(&tries), "{tries}");

    let script = Script::default();
    script.on("/directory", |_| {
        Err(TransportFault::TooLarge(1 << 20).into())
    });
    script.client().await.unwrap_err();
    assert_eq!(script.count("/directory"), 1, "a large reply stays large");
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_to_finalize_is_settled_by_the_order() {
    for (status, finalizes) in [("valid", 1), ("processing", 1), ("ready", 2)] {
        let script = Script::default();
        script.on("/order/1/finalize", |before| match before {
            0 => Err(TransportFault::Interrupted.into()),
            _ => Ok(good("/order/1/finalize")),
        });
        script.on("/order/1", move |before| {
            Ok(reply(
                200,
                &order(if before == 0 { status } else { "valid" }).to_string(),
            ))
        });
        script.on("/certificate/1", |_| Ok(reply(200, "")));
        let account = script.account().await.unwrap();
        let order = account.new_order(["example.com"]).create().await.unwrap();
        let key = CertificateKey::generate().unwrap();
        let csr = Csr::new(&key, &order.state().identifiers).unwrap();
        // It gets as far as the certificate, which is none here.
        let error = order.finalize(&csr).await.unwrap_err();
        assert!(
            matches!(error, Error::Certificate(_)),
            "{status}: {error:?}"
        );
        assert_eq!(script.count("/order/1/finalize"), finalizes, "{status}");
    }
}

#[tokio::test]
async fn an_order_that_is_not_ready_is_read_again() {
    let not_ready = r#"{"type": "urn:ietf:params:acme:error:orderNotReady"}"#;
    for (status, expected) in [("valid", "certificate"), ("pending", "orderNotReady")] {
        let script = Script::default();
        script.on("/order/1/finalize", |_| Ok(reply(403, not_ready)));
        script.on_json("/order/1", order(status));
        script.on("/certificate/1", |_| Ok(reply(200, "")));
        let account = script.account().await.unwrap();
        let order = account.new_order(["example.com"]).create().await.unwrap();
        let key = CertificateKey::generate().unwrap();
        let csr = Csr::new(&key, &order.state().identifiers).unwrap();
        let error = order.finalize(&csr).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{status}: {error}");
        assert_eq!(script.count("/order/1/finalize"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_that_is_ready_after_all_is_finalized_again() {
    let not_ready = r#"{"type": "urn:ietf:params:acme:error:orderNotReady"}"#;
    let script = Script::default();
    script.on("/order/1/finalize", |before| match before {
        0 => Ok(reply(403, not_ready)),
        _ => Ok(good("/order/1/finalize")),
    });
    script.on("/certificate/1", |_| Ok(reply(200, "")));
    let account = script.account().await.unwrap();
    let order = account.new_order(["example.com"]).create().await.unwrap();
    let key = CertificateKey::generate().unwrap();
    let csr = Csr::new(&key, &order.state().identifiers).unwrap();
    let error = order.finalize(&csr).await.unwrap_err();
    assert!(matches!(error, Error::Certificate(_)), "{error:?}");
    assert_eq!(script.count("/order/1/finalize"), 2);
}

#[tokio::test]
async fn an_order_that_has_failed_is_not_finalized() {
    let script = Script::default();
    let mut failed = order("invalid");
    failed["error"] = json!({"type": "urn:ietf:params:acme:error:caa", "detail": "CAA forbids"});
    script.on_json("/order/1", failed);
    let account = script.account().await.unwrap();
    let order = account.new_order(["example.com"]).create().await.unwrap();
    order.refresh().await.unwrap();
    let key = CertificateKey::generate().unwrap();
    let csr = Csr::new(&key, &order.state().identifiers).unwrap();
    let error = order.finalize(&csr).await.unwrap_err();
    assert!(
        error.to_string().contains("is invalid: caa: CAA forbids"),
        "{error}"
    );
    assert_eq!(script.count("/order/1/finalize"), 0);
}

#[tokio::test]
async fn an_order_is_signed_by_the_account_for_the_urls_as_they_came() {
    let script = Script::default();
    let odd = format!("{BASE}:443/new-order%2f");
    let mut listed = directory();
    listed["newOrder"] = json!(odd);
    script.on_json("/directory", listed);
    script.on("/new-order%2f", |_| Ok(good("/new-order")));
    let account = script.account().await.unwrap();
    account.new_order(["example.com"]).create().await.unwrap();
    let log = script.log.lock().unwrap();
    let (_, header) = log
        .iter()
        .find(|(path, _)| path == "/new-order%2f")
        .unwrap();
    assert_eq!(header["url"], json!(odd));
    assert_eq!(header["kid"], json!(format!("{BASE}/account/1")));
    assert_eq!(header.get("jwk"), None);
}

#[tokio::test]
async fn each_request_has_the_form_that_cas_demand() {
    let script = Script::default();
    script.on("/certificate/1", |_| Ok(reply(200, "")));
    let account = script.account().await.unwrap();
    let order = account.new_order(["example.com"]).create().await.unwrap();
    let authorizations = order.authorizations().await.unwrap();
    let challenge = authorizations[0].challenge(ChallengeType::Http01).unwrap();
    challenge.ready().await.unwrap();
    order.wait_ready().await.unwrap();
    let key = CertificateKey::generate().unwrap();
    let csr = Csr::new(&key, &order.state().identifiers).unwrap();
    order.finalize(&csr).await.unwrap_err();

    let requests = script.requests.lock().unwrap();
    for request in requests.iter() {
        let headers = request.headers();
        assert!(
            headers["user-agent"]
                .to_str()
                .unwrap()
                .contains("certwright/")
        );
        assert_eq!(headers["accept-language"], "en");
        assert!(!headers.contains_key("replay-nonce"), "it is for replies");
        if request.method() != "POST" {
            assert!(request.method() == "GET" || request.method() == "HEAD");
            assert!(request.body().is_empty());
            continue;
        }

        assert_eq!(headers["content-type"], "application/jose+json");
        let path = request.uri().path();
        let jws: Jws = serde_json::from_slice(request.body()).unwrap();
        let header = jws.header().unwrap();
        assert_eq!(header.url, format!("{BASE}{path}"));
        assert!(header.nonce.is_some());
        assert_eq!(header.jwk.is_some(), path == "/new-account");
        assert_ne!(header.kid.is_some(), path == "/new-account");
        let payload = jws.payload().unwrap();
        match path {
            "/order/1" | "/authorization/1" | "/certificate/1" => assert_eq!(payload, b""),
            "/challenge/1" => assert_eq!(payload, b"{}"),
            _ => assert!(payload.starts_with(b"{")),
        }
        let pem = headers.get("accept").map(|value| value.as_bytes());
        let wanted =
            (path == "/certificate/1").then_some(&b"application/pem-certificate-chain"[..]);
        assert_eq!(pem, wanted);
    }
    assert_eq!(requests.len(), 9);
}

#[tokio::test]
async fn an_authorization_that_is_listed_twice_is_fetched_once() {
    let script = Script::default();
    let mut repeated = order("pending");
    let url = format!("{BASE}/authorization/1");
    repeated["authorizations"] = json!([url, url, url]);
    script.on("/new-order", move |_| {
        let location = format!("{BASE}/order/1");
        Ok(with_header(
            reply(201, &repeated.to_string()),
            "location",
            &location,
        ))
    });
    let account = script.account().await.unwrap();
    let order = account.new_order(["example.com"]).create().await.unwrap();
    assert_eq!(order.authorizations().await.unwrap().len(), 1);
    assert_eq!(script.count("/authorization/1"), 1);
}
