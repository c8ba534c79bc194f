use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::client::{RawClient, RawReply};
use super::{csr, download, look, respond, solve};
use crate::test_ca::TestCa;
use crate::x509::{CertificateChain, CertificateKey};

const DAY: Duration = Duration::from_secs(24 * 3_600);

async fn ca() -> TestCa {
    TestCa::builder()
        .profile("classic", "The usual one", 90 * DAY)
        .profile("shortlived", "Six days", 6 * DAY)
        .start()
        .await
        .unwrap()
}

async fn order(client: &RawClient, profile: &str) -> RawReply {
    let request = json!({
        "identifiers": [{"type": "dns", "value": "a.example.test"}],
        "profile": profile,
    });
    client.post("/new-order", &request.to_string()).await
}

async fn finalize(client: &RawClient, order: &RawReply) -> RawReply {
    respond(client, order).await;
    look(client, order).await;
    let key = CertificateKey::generate().unwrap();
    let payload = csr(&key, &["a.example.test"]);
    client.post_to(&order.json()["finalize"], &payload).await
}

#[tokio::test]
async fn set_the_lifetime() {
    let ca = ca().await;
    let client = RawClient::registered(&ca).await;
    let directory = client.request(Method::GET, "/directory");
    let directory = client.send(directory, "").await.json();
    assert_eq!(
        directory["meta"]["profiles"],
        json!({"classic": "The usual one", "shortlived": "Six days"})
    );

    solve(&ca, &client).await;
    for (profile, days) in [("classic", 90), ("shortlived", 6)] {
        let placed = order(&client, profile).await;
        assert_eq!(placed.json()["profile"], profile);
        let valid = finalize(&client, &placed).await.json();
        assert_eq!(valid["profile"], profile);
        let chain = CertificateChain::from_pem(&download(&client, &valid).await).unwrap();
        let lifetime = chain.not_after().duration_since(chain.not_before());
        assert_eq!(lifetime.unwrap().as_secs() / DAY.as_secs(), days);
    }
}

#[tokio::test]
async fn may_be_withdrawn() {
    let ca = ca().await;
    let client = RawClient::registered(&ca).await;
    let invalid = (400, "invalidProfile".to_owned());
    assert_eq!(order(&client, "tlsserver").await.problem(), invalid);

    solve(&ca, &client).await;
    let placed = order(&client, "shortlived").await;
    ca.withdraw_profile("shortlived");
    assert_eq!(finalize(&client, &placed).await.problem(), invalid);
    assert_eq!(look(&client, &placed).await.json()["status"], "ready");
    assert_eq!(order(&client, "shortlived").await.problem(), invalid);

    ca.withdraw_profile("classic");
    let directory = client.request(Method::GET, "/directory");
    let directory = client.send(directory, "").await.json();
    assert_eq!(directory["meta"]["profiles"], Value::Null);
}
