use std::time::{Duration, SystemTime};

use http::Method;
use serde_json::{Value, json};

use super::client::{RawClient, RawReply};
use super::{csr, look, obtain, ready, respond, solve};
use crate::protocol::{Base64Url, format_timestamp};
use crate::test_ca::{Issuance, TestCa};
use crate::x509::{CertificateChain, CertificateKey};

const DAY: Duration = Duration::from_secs(24 * 3_600);
const NAME: &str = "a.example.test";
const SECOND: Duration = Duration::from_secs(1);

async fn ca() -> TestCa {
    TestCa::builder()
        .auto_renewal(2 * SECOND, 365 * DAY)
        .auto_renewal_get(true)
        .start()
        .await
        .unwrap()
}

async fn order(client: &RawClient, auto_renewal: &Value) -> RawReply {
    let request = json!({
        "identifiers": [{"type": "dns", "value": NAME}],
        "auto-renewal": auto_renewal,
    });
    client.post("/new-order", &request.to_string()).await
}

/// An order that was finalized, with its certificates' key.
async fn valid(
    ca: &TestCa,
    client: &RawClient,
    auto_renewal: &Value,
) -> (RawReply, CertificateKey) {
    solve(ca, client).await;
    let placed = order(client, auto_renewal).await;
    assert_eq!(placed.status, 201, "{placed:?}");
    respond(client, &placed).await;
    look(client, &placed).await;
    let key = CertificateKey::generate().unwrap();
    let finalize = &placed.json()["finalize"];
    let finalized = client.post_to(finalize, &csr(&key, &[NAME])).await;
    (finalized, key)
}

async fn get(client: &RawClient, url: &Value) -> RawReply {
    let path = url.as_str().unwrap().splitn(4, '/').nth(3).unwrap();
    let request = client.request(Method::GET, &format!("/{path}"));
    client.send(request, "").await
}

fn chain(reply: &RawReply) -> CertificateChain {
    assert_eq!(reply.status, 200, "{reply:?}");
    let chain = CertificateChain::from_pem(str::from_utf8(&reply.body).unwrap()).unwrap();
    for (header, date) in [
        ("cert-not-before", chain.not_before()),
        ("cert-not-after", chain.not_after()),
    ] {
        assert_eq!(reply.header(header), httpdate::fmt_http_date(date));
    }
    chain
}

fn after(time: Duration) -> String {
    format_timestamp(SystemTime::now() + time)
}

fn problem(status: u16, kind: &str) -> (u16, String) {
    (status, kind.to_owned())
}

#[tokio::test]
async fn is_passed_over_by_default() {
    let ca = TestCa::start().await.unwrap();
    let client = RawClient::registered(&ca).await;
    let directory = get(&client, &json!(ca.directory_url())).await.json();
    assert_eq!(directory["meta"]["auto-renewal"], Value::Null);
    let renewal = json!({"end-date": after(10 * DAY), "lifetime": 86_400});
    let (finalized, _) = valid(&ca, &client, &renewal).await;
    let shown = finalized.json();
    assert_eq!(shown["auto-renewal"], Value::Null);
    assert_eq!(shown["star-certificate"], Value::Null);
    assert!(shown["certificate"].is_string());
}

#[tokio::test]
async fn is_granted_within_limits() {
    let ca = ca().await;
    let client = RawClient::registered(&ca).await;
    let directory = get(&client, &json!(ca.directory_url())).await.json();
    assert_eq!(
        directory["meta"]["auto-renewal"],
        json!({"min-lifetime": 2, "max-duration": 31_536_000, "allow-certificate-get": true})
    );

    let end = after(10 * DAY);
    for refused in [
        json!({"lifetime": 86_400}),
        json!({"end-date": "soon", "lifetime": 86_400}),
        json!({"end-date": end}),
        json!({"end-date": end, "lifetime": 1}),
        json!({"end-date": after(366 * DAY), "lifetime": 86_400}),
        json!({"start-date": after(20 * DAY), "end-date": end, "lifetime": 86_400}),
        json!({"start-date": "2016-01-10T00:00:00Z", "end-date": end, "lifetime": 86_400}),
        json!({"end-date": "2016-01-10T00:00:00Z", "lifetime": 86_400}),
    ] {
        let reply = order(&client, &refused).await;
        assert_eq!(reply.problem(), problem(400, "malformed"), "{refused}");
    }
    ca.set_honour_dates(true);
    for member in ["notBefore", "notAfter"] {
        let request = json!({
            "identifiers": [{"type": "dns", "value": NAME}],
            member: after(DAY),
            "auto-renewal": {"end-date": end, "lifetime": 86_400},
        });
        let reply = client.post("/new-order", &request.to_string()).await;
        assert_eq!(reply.problem(), problem(400, "malformed"));
    }

    for (asked, adjust) in [(0, 43_200), (60_000, 60_000), (100_000, 86_400)] {
        let renewal = json!({
            "start-date": after(DAY),
            "end-date": end,
            "lifetime": 86_400,
            "lifetime-adjust": asked,
            "allow-certificate-get": true,
        });
        let mut granted = renewal.clone();
        granted["lifetime-adjust"] = json!(adjust);
        let placed = order(&client, &renewal).await.json();
        assert_eq!(placed["auto-renewal"], granted);
    }
    ca.set_auto_renewal_get(false);
    let renewal = json!({"end-date": end, "lifetime": 86_400, "allow-certificate-get": true});
    let placed = order(&client, &renewal).await.json();
    assert_eq!(placed["auto-renewal"]["allow-certificate-get"], Value::Null);
}

#[tokio::test]
async fn goes_on_until_the_end() {
    let ca = ca().await;
    let client = RawClient::registered(&ca).await;
    let renewal = json!({"end-date": after(10 * SECOND), "lifetime": 4});
    let (finalized, key) = valid(&ca, &client, &renewal).await;
    let shown = finalized.json();
    assert_eq!(shown["status"], "valid");
    assert_eq!(shown["certificate"], Value::Null);
    assert_eq!(shown["expires"], renewal["end-date"]);

    let mut chains: Vec<CertificateChain> = Vec::new();
    let refused = loop {
        let reply = client.post_to(&shown["star-certificate"], "").await;
        if reply.status != 200 {
            break reply;
        }
        let next = chain(&reply);
        let now = SystemTime::now();
        assert!(next.not_before() <= now && now - SECOND < next.not_after());
        if chains.last().is_none_or(|last| last.pem() != next.pem()) {
            chains.push(next);
        }
        tokio::time::sleep(SECOND / 10).await;
    };
    assert_eq!(refused.problem(), problem(403, "autoRenewalExpired"));
    assert!(chains.len() > 1);
    for pair in chains.windows(2) {
        assert!(pair[0].not_before() < pair[1].not_before());
        assert!(pair[1].not_before() < pair[0].not_after());
    }
    let last = chains.last().unwrap().not_after();
    assert!(format_timestamp(last).as_str() <= renewal["end-date"].as_str().unwrap());
    for chain in &chains {
        let der = chain.certificates()[0].as_ref();
        let info = key.public_key_info();
        assert!(der.windows(info.len()).any(|window| window == info));
    }
}

#[tokio::test]
async fn ends_when_it_is_canceled() {
    let ca = ca().await;
    let client = RawClient::registered(&ca).await;
    let other = RawClient::registered(&ca).await;
    let cancel = json!({"status": "canceled"}).to_string();
    let renewal = json!({
        "end-date": after(10 * DAY),
        "lifetime": 86_400,
        "allow-certificate-get": true,
    });
    let (finalized, _) = valid(&ca, &client, &renewal).await;
    let location = json!(finalized.location());
    let url = &finalized.json()["star-certificate"];
    let current = chain(&client.post_to(url, "").await);
    assert_eq!(chain(&get(&client, url).await).pem(), current.pem());
    assert_eq!(
        other.post_to(url, "").await.problem(),
        problem(403, "unauthorized")
    );
    assert_eq!(
        other.post_to(&location, &cancel).await.problem(),
        problem(403, "unauthorized")
    );
    // It has no other URL.
    assert_eq!(
        client.post("/certificate/1", "").await.problem(),
        problem(404, "malformed")
    );

    let der = Base64Url::from(current.certificates()[0].as_ref());
    let revocation = json!({ "certificate": der }).to_string();
    assert_eq!(
        client.post("/revoke-cert", &revocation).await.problem(),
        problem(403, "autoRenewalRevocationNotSupported")
    );

    for malformed in [json!({}), json!({"status": "valid"})] {
        let reply = client.post_to(&location, &malformed.to_string()).await;
        assert_eq!(reply.problem(), problem(400, "malformed"));
    }
    let canceled = client.post_to(&location, &cancel).await.json();
    assert_eq!(canceled["status"], "canceled");
    assert_eq!(canceled["expires"], format_timestamp(current.not_after()));
    assert_eq!(client.post_to(&location, "").await.json(), canceled);
    for reply in [client.post_to(url, "").await, get(&client, url).await] {
        assert_eq!(reply.problem(), problem(403, "autoRenewalCanceled"));
    }
    assert_eq!(
        client.post_to(&location, &cancel).await.problem(),
        problem(400, "autoRenewalCancellationInvalid")
    );
}

#[tokio::test]
async fn only_what_is_valid_and_renews_by_itself_can_be_canceled() {
    let ca = ca().await;
    let client = RawClient::registered(&ca).await;
    let cancel = json!({"status": "canceled"}).to_string();
    let invalid = problem(400, "autoRenewalCancellationInvalid");
    let renewal = json!({"end-date": after(10 * DAY), "lifetime": 86_400});
    let pending = order(&client, &renewal).await;
    for order in [&pending, &ready(&ca, &client, &[NAME]).await] {
        let reply = client.post_to(&json!(order.location()), &cancel).await;
        assert_eq!(reply.problem(), invalid);
    }
    let key = CertificateKey::generate().unwrap();
    obtain(&ca, &client, &key, &[NAME]).await;
    let reply = client.post("/order/3", &cancel).await;
    assert_eq!(reply.problem(), invalid);
}

#[tokio::test]
async fn has_no_unsigned_get_unless_asked_for() {
    let ca = ca().await;
    let client = RawClient::registered(&ca).await;
    ca.set_issuance(Issuance::AfterLooks(1));
    let renewal = json!({"end-date": after(10 * DAY), "lifetime": 86_400});
    let (finalized, _) = valid(&ca, &client, &renewal).await;
    assert_eq!(finalized.json()["status"], "processing");
    // It can't be had before the order tells where.
    let url = format!("https://{}/star-certificate/1", ca.address());
    assert_eq!(
        client.post_to(&json!(url), "").await.problem(),
        problem(404, "malformed")
    );

    let shown = look(&client, &finalized).await.json();
    assert_eq!(shown["star-certificate"], url);
    chain(&client.post_to(&json!(url), "").await);
    let refused = get(&client, &json!(url)).await;
    assert_eq!(refused.problem(), problem(405, "malformed"));
    assert_eq!(refused.header("allow"), "POST");
}
