use http::StatusCode;
use serde_json::json;

use super::client::RawClient;
use crate::jose::{AccountKey, Jws, KeyReference, Signer};
use crate::test_ca::TestCa;

#[tokio::test]
async fn are_created_once() {
    let ca = TestCa::start().await.unwrap();
    let client = RawClient::new(&ca);
    let post = |payload: &'static str| client.post("/new-account", payload);

    let reply = post(r#"{"onlyReturnExisting":true}"#).await;
    assert_eq!(reply.problem(), (400, "accountDoesNotExist".to_owned()));
    let reply = post("{}").await;
    assert_eq!(reply.problem(), (403, "userActionRequired".to_owned()));
    assert!(reply.header("link").ends_with(";rel=\"terms-of-service\""));
    let reply = post(r#"{"termsOfServiceAgreed":true,"contact":["tel:+1"]}"#).await;
    assert_eq!(reply.problem(), (400, "unsupportedContact".to_owned()));

    let created = post(r#"{"termsOfServiceAgreed":true,"contact":["mailto:a@example.com"]}"#).await;
    assert_eq!(created.status, StatusCode::CREATED);
    assert_eq!(created.json()["contact"][0], "mailto:a@example.com");
    for payload in [
        r#"{"onlyReturnExisting":true}"#,
        r#"{"termsOfServiceAgreed":true,"contact":["mailto:b@example.com"]}"#,
    ] {
        let found = post(payload).await;
        assert_eq!(found.status, StatusCode::OK);
        assert_eq!(found.location(), created.location());
        assert_eq!(found.json(), created.json());
    }
}

#[tokio::test]
async fn are_updated_and_deactivated() {
    let ca = TestCa::start().await.unwrap();
    let (client, other) = tokio::join!(RawClient::registered(&ca), RawClient::registered(&ca));
    let account = json!(client.account);
    let post = |payload: &'static str| client.post_to(&account, payload);

    assert_eq!(post("").await.json(), json!({"status": "valid"}));
    let updated = post(r#"{"contact":["mailto:a@example.com"]}"#).await;
    assert_eq!(updated.json()["contact"][0], "mailto:a@example.com");
    for payload in [
        r#"{"status":"revoked"}"#,
        r#"{"status":"deactivated","contact":[]}"#,
        r#"{"contact":"mailto:a@example.com"}"#,
    ] {
        assert_eq!(post(payload).await.problem(), (400, "malformed".to_owned()));
    }
    let foreign = other.post_to(&account, "").await;
    assert_eq!(foreign.problem(), (403, "unauthorized".to_owned()));

    let ended = post(r#"{"status":"deactivated"}"#).await;
    assert_eq!(ended.json()["status"], "deactivated");
    assert_eq!(post("").await.problem(), (403, "unauthorized".to_owned()));
    let mut anew = RawClient::new(&ca);
    anew.key = client.key.clone();
    let reply = anew
        .post("/new-account", r#"{"onlyReturnExisting":true}"#)
        .await;
    assert_eq!(reply.problem(), (403, "unauthorized".to_owned()));
}

#[tokio::test]
async fn change_their_key() {
    let ca = TestCa::start().await.unwrap();
    let (mut client, other) = tokio::join!(RawClient::registered(&ca), RawClient::registered(&ca));
    let url = client.url("/key-change");
    let inner = |key: AccountKey, nonce: Option<&'static str>, old: &AccountKey| {
        let payload = json!({"account": client.account, "oldKey": old.public_key()}).to_string();
        let url = url.clone();
        async move {
            let jws = Jws::sign(&key, KeyReference::Jwk, nonce, &url, payload.as_bytes());
            serde_json::to_string(&jws.await.unwrap()).unwrap()
        }
    };

    let new_key = AccountKey::generate().unwrap();
    for (payload, expected) in [
        ("{}".to_owned(), (400, "malformed")),
        (
            inner(new_key.clone(), Some("AAAA"), &client.key).await,
            (400, "malformed"),
        ),
        (
            inner(new_key.clone(), None, &other.key).await,
            (400, "malformed"),
        ),
        (
            inner(other.key.clone(), None, &client.key).await,
            (409, "conflict"),
        ),
    ] {
        let reply = client.post("/key-change", &payload).await;
        let (status, problem) = expected;
        assert_eq!(reply.problem(), (status, problem.to_owned()), "{reply:?}");
        if status == 409 {
            assert_eq!(Some(reply.location()), other.account);
        }
    }

    let payload = inner(new_key.clone(), None, &client.key).await;
    assert_eq!(client.post("/key-change", &payload).await.status, 200);
    let account = json!(client.account);
    let old = client.post_to(&account, "").await;
    assert_eq!(old.problem(), (400, "malformed".to_owned()));
    client.key = new_key;
    assert_eq!(client.post_to(&account, "").await.status, 200);
}
