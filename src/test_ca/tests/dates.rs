use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::client::{RawClient, RawReply};
use super::{csr, download, solve};
use crate::protocol::format_timestamp;
use crate::test_ca::TestCa;
use crate::x509::{CertificateChain, CertificateKey};

const DAY: Duration = Duration::from_secs(24 * 3_600);

async fn order(client: &RawClient, from: Option<SystemTime>, to: Option<SystemTime>) -> RawReply {
    let mut request = json!({"identifiers": [{"type": "ip", "value": "127.0.0.1"}]});
    if let Some(from) = from {
        request["notBefore"] = json!(format_timestamp(from));
    }
    if let Some(to) = to {
        request["notAfter"] = json!(format_timestamp(to));
    }
    client.post("/new-order", &request.to_string()).await
}

fn whole_seconds(time: SystemTime) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(time.duration_since(UNIX_EPOCH).unwrap().as_secs())
}

#[tokio::test]
async fn become_those_of_the_certificate() {
    let ca = TestCa::builder()
        .honour_dates(true)
        .reuse_authorizations(true)
        .start()
        .await
        .unwrap();
    let client = RawClient::registered(&ca).await;
    let key = CertificateKey::generate().unwrap();
    solve(&ca, &client).await;
    let now = whole_seconds(SystemTime::now());
    for (from, to) in [
        (Some(now + DAY), Some(now + 3 * DAY)),
        (None, Some(now + DAY)),
        (Some(now - DAY), None),
        (None, None),
    ] {
        let placed = order(&client, from, to).await;
        let shown = placed.json();
        let expected =
            |time: Option<SystemTime>| time.map_or(Value::Null, |t| format_timestamp(t).into());
        assert_eq!(shown["notBefore"], expected(from));
        assert_eq!(shown["notAfter"], expected(to));

        super::respond(&client, &placed).await;
        super::look(&client, &placed).await;
        let finalize = csr(&key, &["127.0.0.1"]);
        let valid = client.post_to(&shown["finalize"], &finalize).await;
        let pem = download(&client, &valid.json()).await;
        let chain = CertificateChain::from_pem(&pem).unwrap();
        assert!(from.is_none_or(|from| chain.not_before() == from));
        assert!(to.is_none_or(|to| chain.not_after() == to));
    }
}

#[tokio::test]
async fn are_refused() {
    let ca = TestCa::start().await.unwrap();
    let client = RawClient::registered(&ca).await;
    let now = SystemTime::now();
    let malformed = (400, "malformed".to_owned());
    for (from, to) in [(Some(now), None), (None, Some(now + DAY))] {
        assert_eq!(order(&client, from, to).await.problem(), malformed);
    }
    ca.set_honour_dates(true);
    for (from, to) in [
        (None, Some(now - DAY)),
        (Some(now + 2 * DAY), Some(now + DAY)),
        (Some(now + DAY), Some(now + DAY)),
        (None, Some(now + 91 * DAY)),
    ] {
        assert_eq!(order(&client, from, to).await.problem(), malformed);
    }
}
