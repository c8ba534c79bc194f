use http::Method;
use serde_json::{Value, json};

use super::client::{RawClient, RawReply};
use super::{obtain, place};
use crate::protocol::Base64Url;
use crate::test_ca::TestCa;
use crate::x509::{CertificateChain, CertificateKey};

const FIRST: &str = "https://ca.example/terms/1";
const SECOND: &str = "https://ca.example/terms/2";

async fn order(client: &RawClient) -> RawReply {
    let request = json!({"identifiers": [{"type": "dns", "value": "a.example.test"}]});
    client.post("/new-order", &request.to_string()).await
}

#[tokio::test]
async fn must_be_agreed_to_anew_once_they_change() {
    let ca = TestCa::builder()
        .terms_of_service(FIRST)
        .start()
        .await
        .unwrap();
    let client = RawClient::registered(&ca).await;
    let key = CertificateKey::generate().unwrap();
    let pem = obtain(&ca, &client, &key, &["a.example.test"]).await;
    let pending = place(&client, &["b.example.test"]).await;

    ca.set_terms_of_service(SECOND);
    for reply in [
        order(&client).await,
        client.post_to(&json!(pending.location()), "").await,
        client.post("/key-change", "{}").await,
    ] {
        assert_eq!(reply.problem(), (403, "userActionRequired".to_owned()));
        let link = format!("<{SECOND}>;rel=\"terms-of-service\"");
        let links: Vec<_> = reply.headers.get_all("link").iter().collect();
        assert!(links.contains(&&link.parse().unwrap()), "{links:?}");
        // What a person finds there names the terms.
        let instance = reply.json()["instance"].as_str().unwrap().to_owned();
        let path = instance.strip_prefix(client.url("").as_str()).unwrap();
        let page = client.send(client.request(Method::GET, path), "").await;
        let text = String::from_utf8(page.body.to_vec()).unwrap();
        assert!(text.contains(SECOND), "{text}");
    }

    // What is still had: the account, and the end of a certificate.
    let account = json!(client.account);
    assert_eq!(client.post_to(&account, "").await.status, 200);
    let chain = CertificateChain::from_pem(&pem).unwrap();
    let der = Base64Url::from(chain.certificates()[0].as_ref());
    let request = json!({ "certificate": der }).to_string();
    assert_eq!(client.post("/revoke-cert", &request).await.status, 200);

    let agree = |agreed: Value| json!({ "termsOfServiceAgreed": agreed }).to_string();
    client.post_to(&account, &agree(json!(false))).await;
    assert_eq!(order(&client).await.status, 403);
    client.post_to(&account, &agree(json!(true))).await;
    assert_eq!(order(&client).await.status, 201);
    // A new account agrees to the present ones.
    assert_eq!(order(&RawClient::registered(&ca).await).await.status, 201);
}
