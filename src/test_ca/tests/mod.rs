//! The CA as a client sees it.

mod accounts;
mod alternate_chains;
mod auto_renewal;
mod client;
mod crl;
mod custom_challenges;
mod dates;
mod external_accounts;
mod faults;
mod handle;
mod issuance;
mod order_lists;
mod pre_authorization;
mod profiles;
mod rate_limits;
mod renewal_info;
mod strictness;
mod subdomains;
mod terms;
mod tls_alpn01;
mod validation;

use http::StatusCode;
use serde_json::{Value, json};

use self::client::{RawClient, RawReply, web_server};
use super::*;
use crate::jose::Signer;
use crate::protocol::{Base64Url, Identifiers};
use crate::x509::{CertificateKey, Csr};

/// Serves the key authorization of any token.
async fn solve(ca: &TestCa, client: &RawClient) {
    let thumbprint = client.key.public_key().thumbprint();
    let port = web_server(move |path| {
        let token = path.rsplit('/').next().unwrap();
        (200, String::new(), format!("{token}.{thumbprint}\n"))
    })
    .await;
    ca.set_http01_port(port);
}

async fn place(client: &RawClient, names: &[&str]) -> RawReply {
    let identifiers = Identifiers::collect(names.iter().copied()).unwrap();
    let request = json!({ "identifiers": identifiers });
    let reply = client.post("/new-order", &request.to_string()).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{reply:?}");
    reply
}

/// Answers all challenges of an order. Gives the replies to that.
async fn respond(client: &RawClient, order: &RawReply) -> Vec<RawReply> {
    let mut replies = Vec::new();
    for url in order.json()["authorizations"].as_array().unwrap() {
        let authorization = client.post_to(url, "").await.json();
        let challenge = &authorization["challenges"][0]["url"];
        replies.push(client.post_to(challenge, "{}").await);
    }
    replies
}

/// Looks at the object that a reply located.
async fn look(client: &RawClient, reply: &RawReply) -> RawReply {
    client.post_to(&json!(reply.location()), "").await
}

/// An order that has come to be ready.
async fn ready(ca: &TestCa, client: &RawClient, names: &[&str]) -> RawReply {
    solve(ca, client).await;
    let order = place(client, names).await;
    respond(client, &order).await;
    let status = look(client, &order).await.json()["status"].clone();
    assert_eq!(status, "ready");
    order
}

/// The certificate of an order that can be had at once.
async fn obtain(ca: &TestCa, client: &RawClient, key: &CertificateKey, names: &[&str]) -> String {
    let order = ready(ca, client, names).await.json();
    let finalized = client.post_to(&order["finalize"], &csr(key, names)).await;
    download(client, &finalized.json()).await
}

async fn download(client: &RawClient, order: &Value) -> String {
    let reply = client.post_to(&order["certificate"], "").await;
    assert_eq!(
        reply.header("content-type"),
        "application/pem-certificate-chain"
    );
    String::from_utf8(reply.body.to_vec()).unwrap()
}

/// What finalize takes.
fn csr(key: &CertificateKey, names: &[&str]) -> String {
    let identifiers = Identifiers::collect(names.iter().copied()).unwrap();
    let csr = Csr::new(key, &identifiers).unwrap();
    json!({ "csr": Base64Url::from(csr.der().as_ref()) }).to_string()
}
