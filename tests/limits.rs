//! What a CA can't make a client read, ask or wait for: each limit that docs/reliability.md names.
//!
//! Those of the hyper transport are in `transport.rs`, those of alternate chains and revocation lists
//! in `certificates.rs`.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod support;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use certwright::error::{Operation, ReplyFault};
use certwright::jose::AccountKey;
use certwright::protocol::{Problem, Url};
use certwright::transport::{TransportError, TransportFault};
use certwright::{Client, Error};
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing_subscriber::fmt::MakeWriter;

use support::script::{Answered, Asked, BASE, Script, located, raw, reply, with_header};

fn url(path: &str) -> Url {
    Url::parse(&format!("{BASE}{path}")).unwrap()
}

fn order(names: usize, authorizations: usize) -> Value {
    json!({
        "status": "pending",
        "identifiers": (0..names)
            .map(|name| json!({"type": "dns", "value": format!("n{name}.example")}))
            .collect::<Vec<_>>(),
        "authorizations": (0..authorizations)
            .map(|number| format!("{BASE}/authorization/{number}"))
            .collect::<Vec<_>>(),
        "finalize": format!("{BASE}/finalize"),
    })
}

fn fault(error: Error) -> ReplyFault {
    match error {
        Error::Reply(reply) => reply.fault,
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn the_lists_of_an_order() {
    for (names, authorizations, taken) in [
        (1_000, 1_000, true),
        (1_001, 1, false),
        (1, 1_001, false),
        (0, 0, true),
    ] {
        let script = Script::default();
        script.on("/order/1", move |_| {
            Ok(reply(200, order(names, authorizations)))
        });
        let account = script.account().await;
        match account.order(url("/order/1")).await {
            Ok(order) => {
                assert!(taken, "{names} names, {authorizations} authorizations");
                assert_eq!(order.state().authorizations.len(), authorizations);
            }
            Err(error) => {
                assert!(!taken, "{error}");
                let fault = fault(error).to_string();
                assert!(fault.contains("more than 1000 elements"), "{fault}");
            }
        }
    }
}

#[tokio::test]
async fn the_challenges_of_an_authorization() {
    let script = Script::default();
    script.on("/order/1", |_| Ok(reply(200, order(1, 1))));
    let challenge = json!({"type": "http-01", "url": format!("{BASE}/challenge")});
    for (challenges, taken) in [(100, true), (101, false)] {
        let authorization = json!({
            "status": "pending",
            "identifier": {"type": "dns", "value": "n0.example"},
            "challenges": vec![challenge.clone(); challenges],
        });
        script.on("/authorization/0", move |_| {
            Ok(reply(200, authorization.clone()))
        });
        let order = script.account().await.order(url("/order/1")).await.unwrap();
        assert_eq!(order.authorizations().await.is_ok(), taken, "{challenges}");
    }
}

#[tokio::test]
async fn the_subproblems_of_a_problem() {
    let subproblem = |number: usize| {
        json!({
            "type": "urn:ietf:params:acme:error:dns",
            "identifier": {"type": "dns", "value": format!("n{number}.example")},
        })
    };
    let problem = json!({
        "type": "urn:ietf:params:acme:error:compound",
        "detail": "many",
        "subproblems": (0..5_000).map(subproblem).collect::<Vec<_>>(),
        "algorithms": vec!["RS256"; 5_000],
    });
    let script = Script::default();
    script.on("/new-account", move |_| Ok(reply(403, problem.clone())));
    let client = script.client().await;
    let error = client.new_account(AccountKey::generate().unwrap());
    let error = error.create().await.unwrap_err();
    assert_eq!(error.by_identifier().len(), 1_000);
    let text = error.to_string();
    assert!(text.contains("n99.example") && !text.contains("n100.example"));
    assert!(text.ends_with("; and 900 more)"), "{text}");
    assert!(text.len() < 10_000, "{} octets", text.len());
}

#[tokio::test]
async fn the_depth_of_json() {
    let depth = 100_000;
    let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let problems = format!(
        "{}{}",
        r#"{"subproblems":["#.repeat(depth),
        "]}".repeat(depth)
    );
    assert!(serde_json::from_str::<Problem>(&problems).is_err());
    for member in ["newNonce", "unknown", "meta"] {
        let script = Script::default();
        script.on_body("/directory", 200, format!(r#"{{"{member}":{nested}}}"#));
        let client = Client::builder(url("/directory")).transport(script);
        assert!(matches!(
            fault(client.build().await.unwrap_err()),
            ReplyFault::Json { .. }
        ));
    }

    // As deep as what is read, a problem is shown and dropped like any other.
    let shallow = format!("{}{}", r#"{"subproblems":["#.repeat(50), "]}".repeat(50));
    let problem: Problem = serde_json::from_str(&shallow).unwrap();
    assert_eq!(problem.to_string().matches("no problem type").count(), 4);

    // A refusal with a body that can't be read is a refusal still.
    let script = Script::default();
    script.on_body("/new-account", 403, problems);
    let client = script.client().await;
    let error = client.new_account(AccountKey::generate().unwrap());
    let Error::Refused(refusal) = error.create().await.unwrap_err() else {
        panic!("not refused");
    };
    assert_eq!(refusal.excerpt.unwrap().len(), 200);
}

#[tokio::test]
async fn the_links_of_a_reply() {
    let link = |number: usize| format!("<{BASE}/{number}>;rel=\"alternate\"");
    let many: Vec<_> = (0..5_000).map(link).collect();
    let script = Script::default();
    script.on("/one", |_| {
        let value = (0..300).map(|n| format!("<{BASE}/{n}>;rel=alternate"));
        let value = value.collect::<Vec<_>>().join(", ");
        Ok(with_header(reply(200, ""), "link", &value))
    });
    script.on("/many", move |_| {
        let responses = many.iter().take(300);
        Ok(responses.fold(reply(200, ""), |response, value| {
            with_header(response, "link", value)
        }))
    });
    script.on("/long", |_| {
        let padding = "x".repeat(70_000);
        let value = format!("<{BASE}/{padding}>;rel=alternate, <{BASE}/0>;rel=alternate");
        let response = with_header(reply(200, ""), "link", &value);
        Ok(with_header(
            response,
            "link",
            &format!("<{BASE}/1>;rel=alternate"),
        ))
    });
    script.on("/far", |_| {
        let padding = "x".repeat(Url::MAX_LENGTH);
        let value = format!("<{BASE}/{padding}>;rel=alternate, <{BASE}/0>;rel=alternate");
        Ok(with_header(reply(200, ""), "link", &value))
    });
    let client = script.client().await;
    for (path, expected) in [("/one", 100), ("/many", 100), ("/long", 1), ("/far", 1)] {
        let reply = client.session().get(Operation::Directory, &url(path)).await;
        let links = reply.unwrap().links("alternate");
        assert_eq!(links.len(), expected, "{path}");
    }
}

#[tokio::test]
async fn the_redirects_of_a_get() {
    let script = Script::default();
    for hop in 0..10 {
        script.on(&format!("/{hop}"), move |_| {
            Ok(located(reply(302, ""), &format!("/{}", hop + 1)))
        });
    }
    let client = script.client().await;
    let asked = script.count();
    let get = |path| {
        let client = client.clone();
        async move {
            let url = url(path);
            client.session().get(Operation::Directory, &url).await
        }
    };
    assert!(matches!(
        fault(get("/0").await.unwrap_err()),
        ReplyFault::Redirect(None)
    ));
    assert_eq!(script.count() - asked, 4, "the first, and three more");
    script.on_body("/10", 200, "");
    get("/7").await.unwrap();
}

#[tokio::test]
async fn the_length_of_a_url() {
    let script = Script::default();
    script.on("/new-account", |_| {
        let padding = "x".repeat(Url::MAX_LENGTH);
        Ok(located(
            reply(201, json!({"status": "valid"})),
            &format!("/{padding}"),
        ))
    });
    let client = script.client().await;
    let error = client.new_account(AccountKey::generate().unwrap());
    let error = error.create().await.unwrap_err();
    assert!(error.to_string().len() < 1_000, "{error}");
    assert!(matches!(fault(error), ReplyFault::Url(_)));
}

#[tokio::test]
async fn the_body_that_any_transport_lets_through() {
    for (length, taken) in [(16 << 20, true), ((16 << 20) + 1, false)] {
        let script = Script::default();
        let body = vec![b' '; length];
        script.on_body("/large", 200, body);
        let client = script.client().await;
        let large = url("/large");
        let reply = client.session().get(Operation::Directory, &large);
        match reply.await {
            Ok(_) => assert!(taken),
            Err(error) => {
                assert!(!taken, "{error}");
                assert!(matches!(fault(error), ReplyFault::TooLarge(16_777_216)));
            }
        }
    }
}

/// Looking at each of the URLs to the end of the text would take minutes.
#[tokio::test]
async fn the_words_of_a_rate_limit() {
    let script = Script::default();
    script.on("/new-account", |_| {
        let detail = format!("please visit: {}", "https://".repeat(130_000));
        let kind = "urn:ietf:params:acme:error:rateLimited";
        Ok(reply(429, json!({"type": kind, "detail": detail})))
    });
    let client = script.client().await;
    let error = client.new_account(AccountKey::generate().unwrap());
    let error = error.create().await.unwrap_err();
    assert!(matches!(error, Error::RateLimited(_)), "{error:?}");
    assert!(error.to_string().len() < 10_000);
}

#[tokio::test]
async fn the_pages_of_a_list_of_orders() {
    let script = Script::default();
    script.on("/account/1", |_| {
        let list = format!("{BASE}/orders/0");
        Ok(reply(200, json!({"status": "valid", "orders": list})))
    });
    let pages = 5_000;
    for page in 0..pages {
        script.on(&format!("/orders/{page}"), move |_| {
            let next = format!("<{BASE}/orders/{}>;rel=next", page + 1);
            let list = json!({"orders": [format!("{BASE}/order/{page}")]});
            Ok(with_header(reply(200, list), "link", &next))
        });
    }
    let error = script.account().await.orders().await.unwrap_err();
    assert!(matches!(fault(error), ReplyFault::OrderList(1_000)));
    assert!(script.asked("/orders/1000").is_empty());
}

/// Five tries of a minute each would be no end.
#[tokio::test(start_paused = true)]
async fn the_time_of_all_tries_together() {
    let slow = |script: &Script, path: &str| {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        script.on_slow(path, Duration::from_secs(50), move |_: &Asked| {
            log.lock().unwrap().push(Instant::now());
            Err::<_, TransportError>(TransportFault::Interrupted.into())
        });
        asked
    };
    let script = Script::default();
    let get = slow(&script, "/get");
    let post = slow(&script, "/account/1");
    let account = script.account().await;

    let start = Instant::now();
    let session = account.client().session();
    let error = session
        .get(Operation::Directory, &url("/get"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Network(_)), "{error:?}");
    assert_eq!(get.lock().unwrap().len(), 4);
    assert!(start.elapsed() < Duration::from_secs(4 * 60));

    let start = Instant::now();
    account.refresh().await.unwrap_err();
    assert_eq!(post.lock().unwrap().len(), 4);
    assert!(start.elapsed() < Duration::from_secs(4 * 60));

    // Refused nonces, too, one after another.
    script.on_slow("/account/1", Duration::from_secs(50), |_: &Asked| {
        let kind = "urn:ietf:params:acme:error:badNonce";
        Ok(reply(400, json!({"type": kind})))
    });
    let start = Instant::now();
    let error = account.refresh().await.unwrap_err();
    assert!(error.to_string().contains("badNonce"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5 * 60));
}

/// Collects what is logged in this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

fn elsewhere(script: &Script) {
    script.on("/new-account", |_| {
        let status = json!({"status": "valid"});
        let account = "https://other.example/account/1";
        Ok(with_header(reply(201, status), "location", account))
    });
    script.on("https://other.example/account/1", |_| -> Answered {
        Ok(reply(200, json!({"status": "valid"})))
    });
}

#[tokio::test]
async fn another_host_is_warned_of_once() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(log.clone())
        .with_ansi(false)
        .with_max_level(tracing::Level::WARN)
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let script = Script::default();
    elsewhere(&script);
    let client = script.client().await;
    assert_eq!(log.text(), "");
    let account = client.new_account(AccountKey::generate().unwrap());
    let account = account.create().await.unwrap();
    account.refresh().await.unwrap();
    account.refresh().await.unwrap();
    let text = log.text();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(
        text.contains("another host") && text.contains("https://other.example/account/1"),
        "{text}"
    );
}

#[tokio::test]
async fn another_host_is_not_asked_where_the_directorys_is_pinned() {
    let script = Script::default();
    elsewhere(&script);
    let pinned = |script: &Script| {
        Client::builder(url("/directory"))
            .transport(script.clone())
            .pin_host()
    };
    let client = pinned(&script).build().await.unwrap();
    let account = client.new_account(AccountKey::generate().unwrap());
    // The account is there; what would be asked of it is not.
    let account = account.create().await.unwrap();
    let error = account.refresh().await.unwrap_err();
    assert!(error.to_string().contains("pinned"), "{error}");
    assert!(matches!(fault(error), ReplyFault::OtherHost(_)));
    assert!(script.asked("https://other.example/account/1").is_empty());

    // Another port is another host; a redirect leads nowhere else either.
    let other = "https://ca.example:8443/new-nonce";
    script.on("/directory", move |asked| {
        Ok(match asked.before {
            1 => reply(
                200,
                json!({"newNonce": other, "newAccount": BASE, "newOrder": BASE}),
            ),
            _ => with_header(raw(302, ""), "location", "https://other.example/directory"),
        })
    });
    for _ in 0..2 {
        let error = pinned(&script).build().await.unwrap_err();
        assert!(matches!(fault(error), ReplyFault::OtherHost(_)));
    }
    assert!(script.asked("https://other.example/directory").is_empty());
}
