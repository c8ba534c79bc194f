use std::time::Instant;

use http::{HeaderValue, Method, Version, header};

use super::*;
use crate::protocol::ProblemType;

/// What a client sees that asks for the directory.
async fn directory(ca: &TestCa) -> Result<RawReply, String> {
    let client = RawClient::new(ca);
    let request = client.request(Method::GET, "/directory");
    client.try_send(request, "").await
}

const ON: ResourceKind = ResourceKind::NewOrder;

/// Places an order, whatever comes of it.
async fn try_place(client: &RawClient) -> Result<RawReply, String> {
    let jws = client
        .sign(
            "/new-order",
            r#"{"identifiers":[{"type":"dns","value":"a.example"}]}"#,
        )
        .await;
    let request = client
        .request(Method::POST, "/new-order")
        .header(header::CONTENT_TYPE, "application/jose+json");
    let jws = serde_json::to_string(&jws).unwrap();
    client.try_send(request, &jws).await
}

/// A CA that plays one fault with the first newOrder, and a client of it. Gives what became of that
/// order and of the next one, which is played fair.
async fn played(injection: Injection, version: Version) -> (TestCa, Result<RawReply, String>) {
    let ca = TestCa::start().await.unwrap();
    let mut client = RawClient::registered(&ca).await;
    client.version = version;
    ca.inject(injection.nth(1));
    let outcome = try_place(&client).await;
    let logged = ca.requests().into_iter().find(|request| request.kind == ON);
    let logged = logged.unwrap();
    assert_eq!(logged.faults.len(), 1, "{logged:?}");
    let [played] = &ca.faults()[..] else {
        panic!("{:?}", ca.faults());
    };
    assert_eq!((played.kind, played.count), (ON, 1));
    assert_eq!(played.fault, logged.faults[0]);
    // What was asked for is known even where nobody acted on it.
    assert!(logged.payload.is_some() && logged.kid.is_some());

    let before = ca.orders().len();
    let next = try_place(&client).await.unwrap();
    assert_eq!(next.status, StatusCode::CREATED);
    assert_eq!(ca.orders().len(), before + 1);
    (ca, outcome)
}

/// The orders that the CA has made because of the first request.
fn acted(ca: &TestCa) -> bool {
    ca.orders().len() == 2
}

#[tokio::test]
async fn connections_are_reset_before_and_after_the_deed() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let (ca, outcome) = played(Fault::Reset.on(ON), version).await;
        let error = outcome.unwrap_err();
        assert!(error.contains("ConnectionReset"), "{version:?}: {error}");
        assert!(!acted(&ca));

        let (ca, outcome) = played(Fault::Reset.on(ON).after_acting(), version).await;
        let error = outcome.unwrap_err();
        assert!(error.contains("ConnectionReset"), "{version:?}: {error}");
        assert!(acted(&ca));
        // The log has the status of the reply that was lost.
        let orders: Vec<_> = ca.requests();
        let lost = orders.iter().find(|request| request.kind == ON).unwrap();
        assert_eq!(lost.status, Some(StatusCode::CREATED));
        assert_eq!(lost.faults, ["connection reset after acting"]);
    }
}

#[tokio::test]
async fn bodies_are_cut_halfway() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let (ca, outcome) = played(Fault::Truncate.on(ON), version).await;
        let error = outcome.unwrap_err();
        assert!(error.starts_with("body: "), "{version:?}: {error}");
        assert!(acted(&ca));
    }
    // There is no body to be cut in two.
    let ca = TestCa::start().await.unwrap();
    ca.inject(Fault::Truncate.on(ResourceKind::NewNonce).nth(1));
    let client = RawClient::new(&ca);
    let request = client.request(Method::HEAD, "/new-nonce");
    client.try_send(request, "").await.unwrap_err();
    client.nonce().await;
}

#[tokio::test]
async fn nothing_is_answered_for_ever() {
    for injection in [Fault::Stall.on(ON), Fault::Stall.on(ON).after_acting()] {
        let acts = injection.to_string().ends_with("after acting");
        let ca = TestCa::start().await.unwrap();
        let client = RawClient::registered(&ca).await;
        ca.inject(injection);
        let place = try_place(&client);
        let asked = async {
            while ca.count(ON) == 0 || ca.orders().len() < usize::from(acts) {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            outcome = place => panic!("{outcome:?}"),
            () = asked => {}
        }
        assert_eq!(ca.orders().len(), usize::from(acts));
    }
}

#[tokio::test]
async fn replies_come_later() {
    let delay = Duration::from_millis(60);
    for injection in [
        Fault::Delay(delay).on(ON),
        Fault::Delay(delay).on(ON).after_acting(),
    ] {
        let start = Instant::now();
        let (ca, outcome) = played(injection, Version::HTTP_11).await;
        assert_eq!(outcome.unwrap().status, StatusCode::CREATED);
        assert!(start.elapsed() >= delay);
        assert!(acted(&ca));
    }
    let (_, outcome) = played(Fault::RandomDelay(delay).on(ON), Version::HTTP_11).await;
    outcome.unwrap();
}

#[tokio::test]
async fn nonces_are_refused_and_kept_back() {
    let (ca, outcome) = played(Fault::RefuseNonce.on(ON), Version::HTTP_11).await;
    let refused = outcome.unwrap();
    assert_eq!(refused.problem(), (400, "badNonce".to_owned()));
    assert!(!refused.header("replay-nonce").is_empty());
    assert!(!acted(&ca));

    let (ca, outcome) = played(Fault::OmitNonce.on(ON), Version::HTTP_11).await;
    assert!(!outcome.unwrap().headers.contains_key("replay-nonce"));
    assert!(acted(&ca));
}

#[tokio::test]
async fn any_status_with_any_retry_after() {
    let busy = StatusCode::SERVICE_UNAVAILABLE;
    for (fault, status, retry_after) in [
        (Fault::status(StatusCode::BAD_GATEWAY), 502, None),
        (
            Fault::status(busy).retry_after(RetryAfter::Seconds(7)),
            503,
            Some("7"),
        ),
        (
            Fault::status(busy).retry_after(RetryAfter::Date(Duration::from_secs(60))),
            503,
            Some("GMT"),
        ),
    ] {
        for after in [false, true] {
            let mut injection = fault.clone().on(ON);
            if after {
                injection = injection.after_acting();
            }
            let (ca, outcome) = played(injection, Version::HTTP_11).await;
            let reply = outcome.unwrap();
            assert_eq!(reply.status.as_u16(), status);
            let value = reply.headers.get(header::RETRY_AFTER);
            let value = value.map(|value| value.to_str().unwrap().to_owned());
            match retry_after {
                Some(end) => assert!(value.unwrap().ends_with(end)),
                None => assert_eq!(value, None),
            }
            // As from a gateway.
            assert!(reply.body.is_empty());
            assert!(!reply.headers.contains_key("replay-nonce"));
            assert_eq!(acted(&ca), after);
        }
    }
}

#[tokio::test]
async fn problems_come_with_their_status_and_a_nonce() {
    for (kind, status) in [
        (ProblemType::RateLimited, 429),
        (ProblemType::OrderNotReady, 403),
        (ProblemType::AlreadyReplaced, 409),
        (ProblemType::ServerInternal, 500),
    ] {
        let name = kind.to_string();
        let fault = Fault::problem(kind).retry_after(RetryAfter::Seconds(1));
        let (ca, outcome) = played(fault.on(ON), Version::HTTP_11).await;
        let reply = outcome.unwrap();
        let (found, problem) = reply.problem();
        assert_eq!(found, status);
        assert!(name.ends_with(&problem), "{name}");
        assert_eq!(reply.header("retry-after"), "1");
        assert!(reply.headers.contains_key("replay-nonce"));
        assert!(!acted(&ca));
    }
}

#[tokio::test]
async fn pages_of_html() {
    for after in [false, true] {
        let mut injection = Fault::Html(StatusCode::BAD_GATEWAY).on(ON);
        if after {
            injection = injection.after_acting();
        }
        let (ca, outcome) = played(injection, Version::HTTP_11).await;
        let reply = outcome.unwrap();
        assert_eq!(reply.status, StatusCode::BAD_GATEWAY);
        assert!(reply.header("content-type").starts_with("text/html"));
        assert!(reply.body.starts_with(b"<!DOCTYPE html>"));
        assert!(!reply.headers.contains_key("replay-nonce"));
        assert_eq!(acted(&ca), after);
    }
}

#[tokio::test]
async fn headers_and_lengths_are_wrong() {
    let location = header::LOCATION;
    let (_, outcome) = played(Fault::OmitHeader(location.clone()).on(ON), Version::HTTP_2).await;
    assert!(!outcome.unwrap().headers.contains_key(&location));

    let fault = Fault::DuplicateHeader(location.clone());
    let (_, outcome) = played(fault.on(ON), Version::HTTP_11).await;
    let reply = outcome.unwrap();
    let values: Vec<_> = reply.headers.get_all(&location).iter().collect();
    assert_eq!(values.len(), 2);
    assert_eq!(values[0], values[1]);

    let plain = HeaderValue::from_static("text/plain");
    let (_, outcome) = played(Fault::ContentType(plain).on(ON), Version::HTTP_11).await;
    let reply = outcome.unwrap();
    assert_eq!(reply.header("content-type"), "text/plain");
    assert_eq!(reply.json()["status"], "pending");

    let (_, outcome) = played(Fault::Oversize(100_000).on(ON), Version::HTTP_11).await;
    let reply = outcome.unwrap();
    assert_eq!(reply.body.len(), 100_000);
    assert_eq!(reply.json()["status"], "pending");
}

#[tokio::test]
async fn an_order_stays_processing_and_a_chain_is_anothers() {
    let ca = TestCa::start().await.unwrap();
    let client = RawClient::registered(&ca).await;
    let key = CertificateKey::generate().unwrap();
    ca.inject(Fault::StayProcessing.on_any().nth(1));
    let order = ready(&ca, &client, &["a.example"]).await;
    client
        .post_to(&order.json()["finalize"], &csr(&key, &["a.example"]))
        .await;
    for _ in 0..5 {
        assert_eq!(look(&client, &order).await.json()["status"], "processing");
    }
    assert_eq!(ca.orders()[0].1.status.to_string(), "processing");

    ca.inject(Fault::Chain(BadChain::OtherKey).on_any().nth(1));
    let order = ready(&ca, &client, &["b.example"]).await.json();
    let finalized = client
        .post_to(&order["finalize"], &csr(&key, &["b.example"]))
        .await
        .json();
    let wrong = download(&client, &finalized).await;
    assert_ne!(wrong, download(&client, &finalized).await);
}

#[tokio::test]
async fn a_challenge_turns_invalid() {
    let ca = TestCa::start().await.unwrap();
    let client = RawClient::registered(&ca).await;
    ca.inject(Fault::InvalidChallenge.on_any().nth(1));
    solve(&ca, &client).await;
    for expected in ["invalid", "ready"] {
        let order = place(&client, &["a.example"]).await;
        respond(&client, &order).await;
        assert_eq!(look(&client, &order).await.json()["status"], expected);
    }
}

#[tokio::test]
async fn faults_end_and_stay_counted() {
    let ca = TestCa::builder()
        .seed(3)
        .inject(Fault::Reset.on(ResourceKind::Directory))
        .start()
        .await
        .unwrap();
    assert_eq!(ca.seed(), 3);
    directory(&ca).await.unwrap_err();
    ca.clear_faults();
    directory(&ca).await.unwrap();
    assert_eq!(ca.faults()[0].count, 1);
    ca.inject(Fault::Html(StatusCode::OK).on_any());
    assert!(directory(&ca).await.unwrap().body.starts_with(b"<!DOCTYPE"));
    assert_eq!(ca.faults().len(), 2);
}

#[tokio::test]
async fn the_same_seed_brings_the_same_faults() {
    let mut runs = Vec::new();
    for seed in [11, 11, 12] {
        let ca = TestCa::builder()
            .seed(seed)
            .inject(Fault::Html(StatusCode::BAD_GATEWAY).on_any().share(0.5))
            .start()
            .await
            .unwrap();
        let mut run = Vec::new();
        for _ in 0..32 {
            run.push(directory(&ca).await.unwrap().status);
        }
        runs.push(run);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}

#[tokio::test]
async fn the_truth_can_be_looked_at() {
    let ca = TestCa::start().await.unwrap();
    let client = RawClient::registered(&ca).await;
    let key = CertificateKey::generate().unwrap();
    obtain(&ca, &client, &key, &["a.example"]).await;
    let account = client.account.clone().unwrap();
    assert_eq!(ca.accounts()[0].0, account);
    assert_eq!(ca.account_of(client.key.public_key()), Some(account));
    assert_eq!(ca.orders()[0].1.status.to_string(), "valid");
    assert_eq!(ca.authorizations()[0].1.status.to_string(), "valid");
    assert_eq!(ca.issued(), 1);
}
