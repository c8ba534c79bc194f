use std::collections::BTreeSet;

use http::HeaderMap;
use serde_json::{Value, json};

use super::client::RawClient;
use super::{csr, ready};
use crate::test_ca::{BadChain, TestCa};
use crate::x509::{CertificateChain, CertificateKey};

fn alternates(headers: &HeaderMap) -> Vec<Value> {
    let links = headers.get_all("link").iter();
    let links = links.map(|link| link.to_str().unwrap());
    let urls = links.filter_map(|link| {
        let url = link.strip_suffix(">;rel=\"alternate\"")?;
        url.strip_prefix('<')
    });
    urls.map(|url| json!(url)).collect()
}

#[tokio::test]
async fn lead_to_further_roots() {
    let ca = TestCa::builder().alternate_chains(2).start().await.unwrap();
    let client = RawClient::registered(&ca).await;
    let key = CertificateKey::generate().unwrap();
    let names = ["a.example.test"];
    let order = ready(&ca, &client, &names).await.json();
    let order = client.post_to(&order["finalize"], &csr(&key, &names)).await;
    let url = order.json()["certificate"].clone();

    let main = client.post_to(&url, "").await;
    let urls = alternates(&main.headers);
    assert_eq!(urls.len(), 2);
    let chain = |pem: &[u8]| CertificateChain::from_pem(std::str::from_utf8(pem).unwrap()).unwrap();
    let mut roots = BTreeSet::from([chain(&main.body).root_issuer()]);
    for (alternate, root) in urls.iter().zip(ca.alternate_root_pems()) {
        let reply = client.post_to(alternate, "").await;
        let links = alternates(&reply.headers);
        assert!(links.contains(&url) && !links.contains(alternate) && links.len() == 2);
        let found = chain(&reply.body);
        assert_eq!(found.certificates()[0], chain(&main.body).certificates()[0]);
        roots.insert(found.root_issuer());
        assert!(root.starts_with("-----BEGIN CERTIFICATE-----"));
    }
    assert_eq!(roots.len(), 3);
    let none = json!(format!("{}/3", url.as_str().unwrap()));
    assert_eq!(client.post_to(&none, "").await.status, 404);

    ca.set_bad_chain(BadChain::Html);
    for url in urls.iter().chain([&url]) {
        assert!(client.post_to(url, "").await.body.starts_with(b"<!doctype"));
    }
}
