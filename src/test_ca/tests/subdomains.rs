use http::Method;
use serde_json::{Value, json};

use super::client::{RawClient, RawReply};
use super::{csr, download, look, respond, solve};
use crate::test_ca::TestCa;
use crate::x509::{CertificateChain, CertificateKey};

async fn order(client: &RawClient, identifiers: &[(&str, Option<&str>)]) -> RawReply {
    let identifiers: Vec<Value> = identifiers
        .iter()
        .map(|(name, ancestor)| match ancestor {
            Some(ancestor) => json!({"type": "dns", "value": name, "ancestorDomain": ancestor}),
            None => json!({"type": "dns", "value": name}),
        })
        .collect();
    let request = json!({ "identifiers": identifiers });
    client.post("/new-order", &request.to_string()).await
}

async fn ca() -> TestCa {
    TestCa::builder()
        .pre_authorization(true)
        .subdomain_authorizations(true)
        .start()
        .await
        .unwrap()
}

#[tokio::test]
async fn are_authorized_by_the_ancestor_that_an_order_names() {
    let ca = ca().await;
    let client = RawClient::registered(&ca).await;
    let directory = client.request(Method::GET, "/directory");
    let directory = client.send(directory, "").await.json();
    assert_eq!(directory["meta"]["subdomainAuthAllowed"], true);
    solve(&ca, &client).await;

    let names = ["a.b.example.test", "c.example.test"];
    let ancestor = Some("example.test");
    let placed = order(&client, &names.map(|name| (name, ancestor))).await;
    // One authorization for both.
    let authorizations = placed.json()["authorizations"].clone();
    assert_eq!(authorizations.as_array().unwrap().len(), 1);
    let authorization = client.post_to(&authorizations[0], "").await.json();
    assert_eq!(authorization["identifier"]["value"], "example.test");
    assert_eq!(authorization["subdomainAuthAllowed"], true);

    respond(&client, &placed).await;
    assert_eq!(look(&client, &placed).await.json()["status"], "ready");
    let key = CertificateKey::generate().unwrap();
    let payload = csr(&key, &names);
    let valid = client.post_to(&placed.json()["finalize"], &payload).await;
    let pem = download(&client, &valid.json()).await;
    let chain = CertificateChain::from_pem(&pem).unwrap();
    assert_eq!(chain.identifiers().len(), 2);
}

#[tokio::test]
async fn are_authorized_before_any_order() {
    let ca = ca().await;
    let client = RawClient::registered(&ca).await;
    solve(&ca, &client).await;
    let request = json!({
        "identifier": {"type": "dns", "value": "example.test", "subdomainAuthAllowed": true},
    });
    let authorization = client.post("/new-authz", &request.to_string()).await;
    assert_eq!(authorization.json()["subdomainAuthAllowed"], true);
    let challenge = &authorization.json()["challenges"][0]["url"];
    client.post_to(challenge, "{}").await;
    look(&client, &authorization).await;
    for (name, ancestor, status) in [
        ("a.b.example.test", None, "ready"),
        ("a.b.example.test", Some("example.test"), "ready"),
        ("example.test", None, "ready"),
        ("anexample.test", None, "pending"),
        ("*.example.test", None, "pending"),
    ] {
        let placed = order(&client, &[(name, ancestor)]).await;
        assert_eq!(placed.json()["status"], status, "{name}");
    }
}

#[tokio::test]
async fn have_to_be_below_their_ancestor() {
    let ca = ca().await;
    let client = RawClient::registered(&ca).await;
    for (name, ancestor) in [
        ("a.example.test", "a.example.test"),
        ("a.example.test", "ample.test"),
        ("a.example.test", "b.example.test"),
        ("a.example.test", ""),
        ("*.example.test", "test"),
    ] {
        let reply = order(&client, &[(name, Some(ancestor))]).await;
        assert_eq!(reply.problem(), (400, "malformed".to_owned()), "{ancestor}");
    }

    // A CA that does not know of ancestors passes them over.
    ca.set_subdomain_authorizations(false);
    let placed = order(&client, &[("a.example.test", Some("example.test"))]).await;
    let url = &placed.json()["authorizations"][0];
    let authorization = client.post_to(url, "").await.json();
    assert_eq!(authorization["identifier"]["value"], "a.example.test");
    assert_eq!(authorization["subdomainAuthAllowed"], Value::Null);
}
