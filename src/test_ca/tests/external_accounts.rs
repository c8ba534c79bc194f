use http::Method;
use serde_json::{Value, json};

use super::client::{RawClient, RawReply};
use crate::jose::{AccountKey, Jws, KeyReference, MacAlgorithm, MacKey, Signer};
use crate::test_ca::TestCa;

async fn ca() -> TestCa {
    TestCa::builder()
        .external_account("kid-1", key("Zmlyc3Q"))
        .external_account("kid-2", key("c2Vjb25k"))
        .start()
        .await
        .unwrap()
}

fn key(text: &str) -> MacKey {
    MacKey::parse(text).unwrap()
}

fn bind(client: &RawClient, kid: &str, mac_key: &str) -> Jws {
    let url = client.url("/new-account");
    let public_key = client.key.public_key();
    key(mac_key)
        .bind(MacAlgorithm::Hs256, kid, &url, public_key)
        .unwrap()
}

async fn register(client: &RawClient, binding: impl Into<Option<Jws>>) -> RawReply {
    let mut request = json!({"termsOfServiceAgreed": true});
    if let Some(binding) = binding.into() {
        request["externalAccountBinding"] = json!(binding);
    }
    client.post("/new-account", &request.to_string()).await
}

#[tokio::test]
async fn are_bound_by_any_hmac() {
    let ca = ca().await;
    for algorithm in [
        MacAlgorithm::Hs256,
        MacAlgorithm::Hs384,
        MacAlgorithm::Hs512,
    ] {
        let client = RawClient::new(&ca);
        let url = client.url("/new-account");
        let binding = key("c2Vjb25k")
            .bind(algorithm, "kid-2", &url, client.key.public_key())
            .unwrap();
        let reply = register(&client, binding.clone()).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        assert_eq!(reply.json()["externalAccountBinding"], json!(binding));
        // §7.3.1: a look for an account takes no binding.
        assert_eq!(register(&client, None).await.status, 200);
    }
}

#[tokio::test]
async fn are_required_once_there_is_one() {
    let ca = ca().await;
    let client = RawClient::new(&ca);
    let directory = client
        .send(client.request(Method::GET, "/directory"), "")
        .await;
    assert_eq!(directory.json()["meta"]["externalAccountRequired"], true);
    let reply = register(&client, None).await;
    assert_eq!(reply.problem(), (403, "externalAccountRequired".to_owned()));

    // Without any, a binding is passed over.
    let ca = TestCa::start().await.unwrap();
    let client = RawClient::new(&ca);
    let reply = register(&client, bind(&client, "kid-9", "Zmlyc3Q")).await;
    assert_eq!(reply.status, 201);
}

#[tokio::test]
async fn are_checked() {
    let ca = ca().await;
    let client = RawClient::new(&ca);
    for (kid, mac_key) in [("kid-3", "Zmlyc3Q"), ("kid-1", "c2Vjb25k")] {
        let reply = register(&client, bind(&client, kid, mac_key)).await;
        assert_eq!(reply.problem(), (403, "unauthorized".to_owned()), "{kid}");
    }
    let other = RawClient::new(&ca);
    let reply = register(&client, bind(&other, "kid-1", "Zmlyc3Q")).await;
    assert_eq!(reply.problem(), (403, "unauthorized".to_owned()));

    let malformed: [Value; 3] = [
        // For another URL.
        json!(
            key("Zmlyc3Q")
                .bind(
                    MacAlgorithm::Hs256,
                    "kid-1",
                    &client.url("/new-order"),
                    client.key.public_key(),
                )
                .unwrap()
        ),
        // Signed, where a MAC is wanted.
        json!(signed(&client).await),
        json!("binding"),
    ];
    for binding in malformed {
        let request = json!({"termsOfServiceAgreed": true, "externalAccountBinding": binding});
        let reply = client.post("/new-account", &request.to_string()).await;
        assert_eq!(reply.problem(), (400, "malformed".to_owned()), "{binding}");
    }
    let reply = register(&client, bind(&client, "kid-1", "Zmlyc3Q")).await;
    assert_eq!(reply.status, 201);
}

async fn signed(client: &RawClient) -> Jws {
    let payload = serde_json::to_vec(client.key.public_key()).unwrap();
    let key = AccountKey::generate().unwrap();
    let url = client.url("/new-account");
    Jws::sign(&key, KeyReference::Jwk, None, &url, &payload)
        .await
        .unwrap()
}
