use serde_json::{Value, json};

use super::client::RawClient;
use super::place;
use crate::protocol::{ChallengeType, Problem, ProblemType};
use crate::test_ca::{ChallengeAttempt, CustomChallenge, TestCa};

/// The authorization of an order for one name.
async fn authorization(client: &RawClient, name: &str) -> Value {
    let order = place(client, &[name]).await.json();
    client.post_to(&order["authorizations"][0], "").await.json()
}

/// What becomes of the challenge of a type, once the client has answered it by this.
async fn outcome(client: &RawClient, name: &str, kind: &str, response: &str) -> Value {
    let authorization = authorization(client, name).await;
    let challenges = authorization["challenges"].as_array().unwrap();
    let challenge = challenges
        .iter()
        .find(|challenge| challenge["type"] == kind);
    let url = challenge.unwrap()["url"].clone();
    let reply = client.post_to(&url, response).await;
    if reply.status != 200 {
        return reply.json();
    }
    client.post_to(&url, "").await.json()
}

fn types(authorization: &Value) -> Vec<&str> {
    let challenges = authorization["challenges"].as_array().unwrap();
    let types = challenges.iter().map(|challenge| &challenge["type"]);
    types.map(|kind| kind.as_str().unwrap()).collect()
}

#[tokio::test]
async fn are_offered_where_they_can_validate() {
    let fine = |_: &ChallengeAttempt| Ok(());
    let own = CustomChallenge::new("own-01".into(), fine);
    let own = own.without_token().member("hint", json!({"a": [1]}));
    let ca = TestCa::builder()
        .challenge(CustomChallenge::new(ChallengeType::DnsPersist01, fine))
        .challenge(own)
        .challenge(CustomChallenge::new(ChallengeType::Http01, fine))
        .start()
        .await
        .unwrap();
    let client = RawClient::registered(&ca).await;
    let name = authorization(&client, "example.com").await;
    assert_eq!(
        types(&name),
        ["tls-alpn-01", "dns-persist-01", "own-01", "http-01"]
    );
    assert_eq!(name["challenges"][2].get("token"), None);
    assert_eq!(name["challenges"][2]["hint"], json!({"a": [1]}));
    assert!(name["challenges"][3]["token"].is_string());
    // The CA's own dns-01, which it can't validate, is only for those that have nothing else.
    let wildcard = authorization(&client, "*.example.com").await;
    assert_eq!(types(&wildcard), ["dns-persist-01", "own-01"]);
    let address = authorization(&client, "127.0.0.1").await;
    assert_eq!(types(&address), ["tls-alpn-01", "own-01", "http-01"]);
}

#[tokio::test]
async fn are_validated_by_the_test() {
    let judge = |attempt: &ChallengeAttempt| match attempt.response["verdict"].as_str() {
        Some("good") => Ok(()),
        Some(other) => Err(Problem::new(
            ProblemType::BadAttestationStatement,
            format!("{other} for {}", attempt.identifier),
        )
        .into()),
        None => panic!("a test's fault"),
    };
    let ca = TestCa::builder()
        .challenge(CustomChallenge::new("own-01".into(), judge))
        .challenge(CustomChallenge::new(ChallengeType::Dns01, |_| Ok(())))
        .start()
        .await
        .unwrap();
    let client = RawClient::registered(&ca).await;
    let own = async |response: &str| outcome(&client, "*.example.com", "own-01", response).await;
    assert_eq!(own(r#"{"verdict":"good"}"#).await["status"], "valid");
    let bad = own(r#"{"verdict":"bad"}"#).await;
    assert_eq!(bad["status"], "invalid");
    assert_eq!(bad["error"]["detail"], "bad for *.example.com");
    // Its panic leaves no client waiting.
    let broken = own("{}").await;
    assert_eq!(broken["status"], "invalid");
    assert_eq!(
        broken["error"]["type"],
        "urn:ietf:params:acme:error:serverInternal"
    );
    assert_eq!(own("[]").await["status"], 400);

    // Those that prove control elsewhere take an empty object, whoever validates them.
    let dns = async |response: &str| outcome(&client, "example.com", "dns-01", response).await;
    assert_eq!(dns("{}").await["status"], "valid");
    assert_eq!(dns(r#"{"verdict":"good"}"#).await["status"], 400);
}
