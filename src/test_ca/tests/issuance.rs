use std::time::{Duration, SystemTime};

use http::Version;
use serde_json::{Value, json};

use super::client::{RawClient, RawReply};
use super::{csr, download, look, obtain, place, ready, respond, solve};
use crate::jose::AccountKey;
use crate::protocol::{Base64Url, Identifiers};
use crate::test_ca::{BadChain, Issuance, ResourceKind, RetryAfter, TestCa};
use crate::x509::{CertificateChain, CertificateKey};

#[tokio::test]
async fn takes_two_requests_a_name_and_four() {
    let ca = TestCa::start().await.unwrap();
    let mut client = RawClient::registered(&ca).await;
    client.version = Version::HTTP_2;
    let names = ["a.example.test", "b.example.test", "127.0.0.1"];
    let key = CertificateKey::generate().unwrap();
    solve(&ca, &client).await;
    ca.clear_requests();

    let placed = place(&client, &names).await;
    respond(&client, &placed).await;
    let ready = look(&client, &placed).await.json();
    let valid = client.post_to(&ready["finalize"], &csr(&key, &names)).await;
    let pem = download(&client, &valid.json()).await;
    let chain = CertificateChain::from_pem(&pem).unwrap();
    let identifiers = Identifiers::collect(names).unwrap();
    chain
        .check(key.public_key_info(), &identifiers, SystemTime::now())
        .unwrap();
    assert_eq!(chain.certificates().len(), 2);

    let mut requests = ca.requests();
    requests.retain(|request| request.kind != ResourceKind::NewNonce);
    assert_eq!(requests.len(), 2 * names.len() + 4);
    assert!(requests.iter().all(|request| request.problem.is_none()));
    assert_eq!(ca.count(ResourceKind::Authorization), names.len());
    assert_eq!(ca.max_in_flight(), 1);
}

#[tokio::test]
async fn refuses_identifiers_one_by_one() {
    let ca = TestCa::builder()
        .block("blocked.test")
        .start()
        .await
        .unwrap();
    let client = RawClient::registered(&ca).await;
    let dns = |name: &str| json!({"type": "dns", "value": name});
    for (identifiers, problem, subproblems) in [
        (json!([]), "malformed", 0),
        (json!([dns("a_b.test")]), "malformed", 1),
        (json!([dns("*.*.test"), dns("ok.test")]), "malformed", 1),
        (json!([{"type": "ip", "value": "1.2"}]), "malformed", 1),
        (
            json!([{"type": "email", "value": "a@b.test"}]),
            "unsupportedIdentifier",
            1,
        ),
        (
            json!([dns("blocked.test"), dns("*.www.Blocked.test")]),
            "rejectedIdentifier",
            2,
        ),
        (json!([dns("blocked.test"), dns("a_b.test")]), "compound", 2),
        (json!([dns("*.a.test"), dns("b.a.test")]), "malformed", 1),
        (
            (0..101).map(|n| dns(&format!("n{n}.test"))).collect(),
            "malformed",
            0,
        ),
    ] {
        let request = json!({ "identifiers": identifiers }).to_string();
        let reply = client.post("/new-order", &request).await;
        assert_eq!(reply.problem(), (400, problem.to_owned()), "{reply:?}");
        let found = reply.json()["subproblems"].as_array().map_or(0, Vec::len);
        assert_eq!(found, subproblems, "{reply:?}");
        if subproblems > 0 {
            assert!(reply.json()["subproblems"][0]["identifier"].is_object());
        }
    }
    for (member, problem) in [
        (json!({"notBefore": "2026-01-01T00:00:00Z"}), "malformed"),
        (json!({"profile": "shortlived"}), "invalidProfile"),
    ] {
        let mut request = member;
        request["identifiers"] = json!([dns("a.test")]);
        let reply = client.post("/new-order", &request.to_string()).await;
        assert_eq!(reply.problem(), (400, problem.to_owned()));
    }
}

#[tokio::test]
async fn normalises_identifiers() {
    let ca = TestCa::start().await.unwrap();
    let client = RawClient::registered(&ca).await;
    let request = json!({"identifiers": [
        {"type": "dns", "value": "UPPER.test"},
        {"type": "dns", "value": "upper.test"},
        {"type": "dns", "value": "*.upper.test"},
        {"type": "ip", "value": "::0001"},
    ]});
    let order = client.post("/new-order", &request.to_string()).await.json();
    let values: Vec<_> = order["identifiers"].as_array().unwrap().iter().collect();
    let values: Vec<_> = values
        .iter()
        .map(|i| i["value"].as_str().unwrap())
        .collect();
    assert_eq!(values, ["upper.test", "*.upper.test", "::1"]);
    assert!(order["expires"].is_string());

    // The authorizations come in another order, and a wildcard's without its label.
    let wildcard = client.post_to(&order["authorizations"][1], "").await.json();
    assert_eq!(wildcard["identifier"]["value"], "upper.test");
    assert_eq!(wildcard["wildcard"], true);
    assert!(wildcard["expires"].is_string());
}

#[tokio::test]
async fn checks_the_csr() {
    let ca = TestCa::start().await.unwrap();
    let client = RawClient::registered(&ca).await;
    let names = ["a.example.test"];
    let key = CertificateKey::generate().unwrap();
    solve(&ca, &client).await;
    let pending = place(&client, &names).await.json();
    let reply = client
        .post_to(&pending["finalize"], &csr(&key, &names))
        .await;
    assert_eq!(reply.problem(), (403, "orderNotReady".to_owned()));

    let order = ready(&ca, &client, &names).await;
    let finalize = &order.json()["finalize"];
    let account_key = CertificateKey::from_pkcs8_pem(&pem_of(&client.key)).unwrap();
    for (payload, status, problem) in [
        (csr(&key, &["b.example.test"]), 403, "unauthorized"),
        (
            csr(&key, &["a.example.test", "b.example.test"]),
            403,
            "unauthorized",
        ),
        (csr(&account_key, &names), 400, "badCSR"),
        (json!({"csr": "AAAA"}).to_string(), 400, "badCSR"),
    ] {
        let reply = client.post_to(finalize, &payload).await;
        assert_eq!(reply.problem(), (status, problem.to_owned()), "{reply:?}");
    }
    // §7.4: none of that has harmed the order.
    let reply = client.post_to(finalize, &csr(&key, &names)).await;
    assert_eq!(reply.json()["status"], "valid");
    assert_eq!(reply.location(), order.location());
    let again = client.post_to(finalize, &csr(&key, &names)).await;
    assert_eq!(again.problem(), (403, "orderNotReady".to_owned()));
}

fn pem_of(key: &AccountKey) -> String {
    key.to_pkcs8_pem().unwrap().to_string()
}

#[tokio::test]
async fn takes_its_time() {
    let ca = TestCa::builder()
        .issuance(Issuance::AfterLooks(2))
        .retry_after(RetryAfter::Date(Duration::from_secs(60)))
        .start()
        .await
        .unwrap();
    let client = RawClient::registered(&ca).await;
    let names = ["a.example.test"];
    let key = CertificateKey::generate().unwrap();
    let order = ready(&ca, &client, &names).await;
    let payload = csr(&key, &names);
    let finalized = client.post_to(&order.json()["finalize"], &payload).await;
    for reply in [finalized, look(&client, &order).await] {
        assert_eq!(reply.json()["status"], "processing");
        assert_eq!(reply.json()["certificate"], Value::Null);
        let date = httpdate::parse_http_date(&reply.header("retry-after")).unwrap();
        let wait = date.duration_since(SystemTime::now()).unwrap();
        assert!((58..=61).contains(&wait.as_secs()), "{wait:?}");
    }
    let valid = look(&client, &order).await;
    assert_eq!(valid.json()["status"], "valid");
    assert!(!valid.headers.contains_key("retry-after"));
    CertificateChain::from_pem(&download(&client, &valid.json()).await).unwrap();

    ca.set_issuance(Issuance::After(Duration::from_millis(50)));
    let order = ready(&ca, &client, &names).await;
    let finalized = client.post_to(&order.json()["finalize"], &payload).await;
    assert_eq!(finalized.json()["status"], "processing");
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(look(&client, &order).await.json()["status"], "valid");
}

#[tokio::test]
async fn reuses_authorizations_when_told_to() {
    let ca = TestCa::builder()
        .reuse_authorizations(true)
        .start()
        .await
        .unwrap();
    let client = RawClient::registered(&ca).await;
    ready(&ca, &client, &["a.example.test"]).await;
    let again = place(&client, &["a.example.test"]).await;
    assert_eq!(again.json()["status"], "ready");
    let more = place(&client, &["a.example.test", "b.example.test"]).await;
    assert_eq!(more.json()["status"], "pending");
}

#[tokio::test]
async fn serves_bad_chains_when_told_to() {
    let ca = TestCa::start().await.unwrap();
    let client = RawClient::registered(&ca).await;
    let names = ["a.example.test"];
    let key = CertificateKey::generate().unwrap();
    let identifiers = Identifiers::collect(names).unwrap();
    for (fault, expected) in [
        (Some(BadChain::Expired), "expired"),
        (Some(BadChain::Html), "text"),
        (Some(BadChain::NotYetValid), "not valid before"),
        (Some(BadChain::OtherKey), "another key"),
        (Some(BadChain::OtherNames), "other.example"),
        (Some(BadChain::Truncated), "ends within"),
        (Some(BadChain::Unlinked), "signature is wrong"),
        (None, ""),
    ] {
        ca.set_bad_chain(fault);
        let pem = obtain(&ca, &client, &key, &names).await;
        let checked = CertificateChain::from_pem(&pem)
            .and_then(|chain| chain.check(key.public_key_info(), &identifiers, SystemTime::now()));
        assert_eq!(checked.is_ok(), fault.is_none());
        if let Err(error) = checked {
            assert!(error.to_string().contains(expected), "{fault:?}: {error}");
        }
    }
}

#[tokio::test]
async fn is_revoked_by_those_who_may() {
    let ca = TestCa::start().await.unwrap();
    let (client, other) = tokio::join!(RawClient::registered(&ca), RawClient::registered(&ca));
    let names = ["a.example.test"];
    let request = |pem: &str, reason: Value| {
        let chain = CertificateChain::from_pem(pem).unwrap();
        let der = Base64Url::from(chain.certificates()[0].as_ref());
        json!({"certificate": der, "reason": reason}).to_string()
    };
    let key = CertificateKey::generate().unwrap();
    let first = obtain(&ca, &client, &key, &names).await;

    let reply = revoke(&client, request(&first, json!(7))).await;
    assert_eq!(reply.problem(), (400, "badRevocationReason".to_owned()));
    let reply = revoke(&other, request(&first, json!(null))).await;
    assert_eq!(reply.problem(), (403, "unauthorized".to_owned()));
    let reply = revoke(&client, json!({"certificate": "AAAA"}).to_string()).await;
    assert_eq!(reply.problem(), (404, "malformed".to_owned()));
    let reply = revoke(&client, request(&first, json!(4))).await;
    assert_eq!((reply.status.as_u16(), reply.body.len()), (200, 0));
    let reply = revoke(&client, request(&first, json!(4))).await;
    assert_eq!(reply.problem(), (400, "alreadyRevoked".to_owned()));

    // By the certificate's key, and by an account that has proved control of the names.
    let second = obtain(&ca, &client, &key, &names).await;
    let mut holder = RawClient::new(&ca);
    let reply = revoke(&holder, request(&second, json!(1))).await;
    assert_eq!(reply.problem(), (403, "unauthorized".to_owned()));
    holder.key = AccountKey::from_pkcs8_pem(&key.to_pkcs8_pem().unwrap()).unwrap();
    assert_eq!(
        revoke(&holder, request(&second, json!(1))).await.status,
        200
    );
    let third = obtain(&ca, &client, &key, &names).await;
    ready(&ca, &other, &names).await;
    assert_eq!(revoke(&other, request(&third, json!(5))).await.status, 200);
}

async fn revoke(client: &RawClient, payload: String) -> RawReply {
    client.post("/revoke-cert", &payload).await
}
