use std::time::{Duration, SystemTime};

use http::Method;
use serde_json::json;

use super::client::{RawClient, RawReply};
use crate::test_ca::{RateLimit, ResourceKind, RetryAfter, TestCa};

async fn order(client: &RawClient) -> RawReply {
    let request = json!({"identifiers": [{"type": "dns", "value": "a.test"}]});
    client.post("/new-order", &request.to_string()).await
}

fn links(reply: &RawReply) -> Vec<&str> {
    let links = reply.headers.get_all("link").iter();
    links.map(|link| link.to_str().unwrap()).collect()
}

#[tokio::test]
async fn say_when_they_end() {
    let period = Duration::from_secs(3_600);
    let requests = 2;
    let ca = TestCa::builder()
        .rate_limit(ResourceKind::NewOrder, RateLimit::Per { requests, period })
        .start()
        .await
        .unwrap();
    let client = RawClient::registered(&ca).await;
    // A request that is not signed well does not count.
    client.post_jws("/new-order", "{}").await;
    assert_eq!(order(&client).await.status, 201);
    assert_eq!(order(&client).await.status, 201);

    let limited = order(&client).await;
    assert_eq!(limited.problem(), (429, "rateLimited".to_owned()));
    let wait: u64 = limited.header("retry-after").parse().unwrap();
    assert!((3_540..=3_600).contains(&wait), "{wait}");
    assert!(links(&limited).iter().any(|l| l.ends_with(";rel=\"help\"")));
    assert!(!limited.header("replay-nonce").is_empty());
    let detail = limited.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("retry after 20"), "{detail}");

    ca.set_rate_limit(ResourceKind::NewOrder, None);
    assert_eq!(order(&client).await.status, 201);

    let end = SystemTime::now() + Duration::from_secs(60);
    let limit = RateLimit::Until { requests: 1, end };
    ca.set_rate_limit(ResourceKind::NewAccount, limit);
    RawClient::registered(&ca).await;
    let another = RawClient::new(&ca);
    let limited = another.post("/new-account", "{}").await;
    assert_eq!(limited.problem().0, 429);
    let wait: u64 = limited.header("retry-after").parse().unwrap();
    assert!((50..=60).contains(&wait), "{wait}");
}

#[tokio::test]
async fn may_wait_for_a_person() {
    let ca = TestCa::start().await.unwrap();
    let client = RawClient::registered(&ca).await;
    ca.set_rate_limit(ResourceKind::NewOrder, RateLimit::Paused);
    let paused = order(&client).await;
    assert_eq!(paused.problem(), (429, "rateLimited".to_owned()));
    assert!(!paused.headers.contains_key("retry-after"));
    let detail = paused.json()["detail"].as_str().unwrap().to_owned();
    let page = client.url("/unpause").to_string();
    assert!(detail.contains(&page), "{detail}");
}

#[tokio::test]
async fn may_come_from_the_edge() {
    let ca = TestCa::start().await.unwrap();
    let client = RawClient::registered(&ca).await;
    let busy = RateLimit::Busy(RetryAfter::Seconds(7));
    for kind in [ResourceKind::NewOrder, ResourceKind::Directory] {
        ca.set_rate_limit(kind, busy);
    }
    let directory = client.request(Method::GET, "/directory");
    for reply in [order(&client).await, client.send(directory, "").await] {
        assert_eq!(reply.problem(), (503, "rateLimited".to_owned()));
        assert_eq!(reply.header("retry-after"), "7");
        assert!(!reply.headers.contains_key("replay-nonce"));
    }
    // The nonce of the request that was turned away is still good.
    let jws = serde_json::to_string(&client.sign("/new-order", r#"{"identifiers":[]}"#).await);
    let jws = jws.unwrap();
    assert_eq!(client.post_jws("/new-order", &jws).await.problem().0, 503);
    ca.set_rate_limit(ResourceKind::NewOrder, None);
    let reply = client.post_jws("/new-order", &jws).await;
    assert_eq!(reply.problem(), (400, "malformed".to_owned()));
}

#[tokio::test]
async fn hold_for_plain_gets() {
    let end = SystemTime::now() + Duration::from_secs(60);
    let ca = TestCa::builder()
        .rate_limit(
            ResourceKind::RenewalInfo,
            RateLimit::Until { requests: 0, end },
        )
        .start()
        .await
        .unwrap();
    let client = RawClient::new(&ca);
    let request = client.request(Method::GET, "/renewal-info/a.b");
    assert_eq!(client.send(request, "").await.problem().0, 429);
}
