use std::time::{Duration, SystemTime};

use http::Method;
use serde_json::{Value, json};

use super::client::{RawClient, RawReply};
use super::{look, obtain, respond, solve};
use crate::protocol::{Base64Url, format_timestamp};
use crate::test_ca::{ResourceKind, RetryAfter, TestCa};
use crate::x509::{CertificateChain, CertificateKey};

const DAY: Duration = Duration::from_secs(24 * 3_600);
const NAME: &str = "a.example.test";

async fn certificate(ca: &TestCa, client: &RawClient) -> CertificateChain {
    let key = CertificateKey::generate().unwrap();
    CertificateChain::from_pem(&obtain(ca, client, &key, &[NAME]).await).unwrap()
}

/// RFC 9773 §4.1, by the octets of the DER: the CA's certificates have one key identifier of 20
/// octets in a fixed place.
fn id(chain: &CertificateChain) -> String {
    let der = chain.certificates()[0].as_ref();
    // Version, then the serial number.
    let start = der
        .windows(5)
        .position(|w| w == [0xa0, 3, 2, 1, 2])
        .unwrap()
        + 5;
    let length = usize::from(der[start + 1]);
    let serial_number = &der[start + 2..start + 2 + length];
    // The extension's OID 2.5.29.35, its value, a sequence, and a tagged key identifier.
    let prefix = [0x55, 0x1d, 0x23, 0x04, 0x18, 0x30, 0x16, 0x80, 0x14];
    let start = der.windows(9).position(|window| window == prefix).unwrap() + 9;
    let base64url = |octets: &[u8]| Base64Url::from(octets);
    format!(
        "{}.{}",
        base64url(&der[start..start + 20]),
        base64url(serial_number)
    )
}

async fn info(client: &RawClient, id: &str) -> RawReply {
    let request = client.request(Method::GET, &format!("/renewal-info/{id}"));
    client.send(request, "").await
}

async fn replace(client: &RawClient, name: &str, replaces: &str) -> RawReply {
    let request = json!({
        "identifiers": [{"type": "dns", "value": name}],
        "replaces": replaces,
    });
    client.post("/new-order", &request.to_string()).await
}

#[tokio::test]
async fn is_had_by_anybody() {
    let ca = TestCa::start().await.unwrap();
    let client = RawClient::registered(&ca).await;
    let directory = client.request(Method::GET, "/directory");
    let directory = client.send(directory, "").await.json();
    let base = client.url("/renewal-info");
    assert_eq!(directory["renewalInfo"], base.as_str());

    let chain = certificate(&ca, &client).await;
    let reply = info(&client, &id(&chain)).await;
    assert_eq!(reply.header("retry-after"), "21600");
    assert!(!reply.headers.contains_key("replay-nonce"));
    let window = &reply.json()["suggestedWindow"];
    // A third of 90 days is left, less or more a hundredth.
    let end = chain.not_after() - 30 * DAY;
    let [start, stop] = ["start", "end"].map(|name| window[name].as_str().unwrap());
    assert!(format_timestamp(end - DAY).as_str() < start);
    assert!(start < stop);
    assert!(stop < format_timestamp(end + DAY).as_str());
    assert_eq!(ca.count(ResourceKind::RenewalInfo), 1);

    assert_eq!(info(&client, "a.b").await.problem().0, 404);
    let path = format!("/renewal-info/{}", id(&chain));
    assert_eq!(client.post(&path, "").await.status, 405);
}

#[tokio::test]
async fn says_what_it_is_told_to() {
    let ca = TestCa::start().await.unwrap();
    let client = RawClient::registered(&ca).await;
    let (first, second) = (
        certificate(&ca, &client).await,
        certificate(&ca, &client).await,
    );
    let now = SystemTime::now();
    let page = "https://ca.example/incident";
    ca.set_renewal_window(&first.certificates()[0], now - DAY..now, page);
    let body = info(&client, &id(&first)).await.json();
    assert_eq!(
        body,
        json!({
            "suggestedWindow": {
                "start": format_timestamp(now - DAY),
                "end": format_timestamp(now),
            },
            "explanationURL": page,
        })
    );
    let other = info(&client, &id(&second)).await.json();
    assert_eq!(other["explanationURL"], Value::Null);

    ca.set_renewal_info_body(None, "{not json");
    ca.set_renewal_retry_after(RetryAfter::Seconds(1));
    let other = info(&client, &id(&second)).await;
    assert_eq!(other.body, "{not json");
    assert_eq!(other.header("retry-after"), "1");
    assert_eq!(info(&client, &id(&first)).await.json(), body);
    ca.reset_renewal_info();
    ca.set_renewal_retry_after(None);
    let other = info(&client, &id(&first)).await;
    assert!(other.json()["suggestedWindow"]["start"].is_string());
    assert!(!other.headers.contains_key("retry-after"));

    // A certificate that was revoked is to be renewed at once.
    let der = Base64Url::from(first.certificates()[0].as_ref());
    let request = json!({ "certificate": der }).to_string();
    client.post("/revoke-cert", &request).await;
    let end = info(&client, &id(&first)).await.json()["suggestedWindow"]["end"].clone();
    assert!(end.as_str().unwrap() < format_timestamp(now).as_str());
}

#[tokio::test]
async fn knows_what_an_order_replaces() {
    let ca = TestCa::start().await.unwrap();
    let (client, other) = tokio::join!(RawClient::registered(&ca), RawClient::registered(&ca));
    let replaced = id(&certificate(&ca, &client).await);
    for (client, name, replaces, problem) in [
        (&client, NAME, "a.b", (404, "malformed")),
        (&client, "b.example.test", &replaced, (400, "malformed")),
        (&other, NAME, &replaced, (403, "unauthorized")),
    ] {
        let reply = replace(client, name, replaces).await;
        assert_eq!(reply.problem(), (problem.0, problem.1.to_owned()));
    }

    let order = replace(&client, NAME, &replaced).await;
    assert_eq!(order.status, 201);
    assert_eq!(order.json()["replaces"], replaced.as_str());
    let again = replace(&client, NAME, &replaced).await;
    assert_eq!(again.problem(), (409, "alreadyReplaced".to_owned()));

    // An order that failed leaves the certificate to another one.
    ca.set_http01_port(1);
    respond(&client, &order).await;
    assert_eq!(look(&client, &order).await.json()["status"], "invalid");
    assert_eq!(replace(&client, NAME, &replaced).await.status, 201);
}

#[tokio::test]
async fn need_not_be() {
    let ca = TestCa::builder().renewal_info(false).start().await.unwrap();
    let client = RawClient::registered(&ca).await;
    solve(&ca, &client).await;
    let directory = client.request(Method::GET, "/directory");
    let directory = client.send(directory, "").await.json();
    assert_eq!(directory["renewalInfo"], Value::Null);
    let replaced = id(&certificate(&ca, &client).await);
    assert_eq!(info(&client, &replaced).await.status, 404);
    let order = replace(&client, NAME, &replaced).await;
    assert_eq!(order.json()["replaces"], Value::Null);
}
