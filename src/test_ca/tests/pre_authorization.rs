use http::Method;
use serde_json::{Value, json};

use super::client::{RawClient, RawReply};
use super::{place, solve};
use crate::test_ca::TestCa;

async fn authorize(client: &RawClient, name: &str) -> RawReply {
    let request = json!({"identifier": {"type": "dns", "value": name}});
    client.post("/new-authz", &request.to_string()).await
}

async fn directory(client: &RawClient) -> Value {
    let request = client.request(Method::GET, "/directory");
    client.send(request, "").await.json()
}

#[tokio::test]
async fn comes_before_any_order() {
    let ca = TestCa::builder()
        .pre_authorization(true)
        .start()
        .await
        .unwrap();
    let (client, other) = tokio::join!(RawClient::registered(&ca), RawClient::registered(&ca));
    let url = client.url("/new-authz");
    assert_eq!(directory(&client).await["newAuthz"], url.as_str());
    solve(&ca, &client).await;

    let authorization = authorize(&client, "a.example.test").await;
    assert_eq!(authorization.status, 201);
    let located = json!(authorization.location());
    assert_eq!(
        client.post_to(&located, "").await.json(),
        authorization.json()
    );
    assert_eq!(authorization.json()["status"], "pending");

    // An order takes it over, pending or valid; another account's does not.
    let order = place(&client, &["a.example.test"]).await.json();
    assert_eq!(order["authorizations"], json!([located]));
    assert_eq!(order["status"], "pending");
    let challenge = &authorization.json()["challenges"][0]["url"];
    client.post_to(challenge, "{}").await;
    let status = client.post_to(&located, "").await.json()["status"].clone();
    assert_eq!(status, "valid");
    let order = place(&client, &["a.example.test"]).await.json();
    assert_eq!(order["status"], "ready");
    let order = place(&other, &["a.example.test"]).await.json();
    assert_eq!(order["status"], "pending");
}

#[tokio::test]
async fn is_refused() {
    let ca = TestCa::builder().block("bad.test").start().await.unwrap();
    let client = RawClient::registered(&ca).await;
    assert_eq!(directory(&client).await["newAuthz"], Value::Null);
    assert_eq!(authorize(&client, "a.test").await.status, 404);

    ca.set_pre_authorization(true);
    for (name, problem) in [
        ("*.a.test", "malformed"),
        ("a_b.test", "malformed"),
        ("bad.test", "rejectedIdentifier"),
    ] {
        let reply = authorize(&client, name).await;
        assert_eq!(reply.problem(), (400, problem.to_owned()), "{name}");
    }
}
