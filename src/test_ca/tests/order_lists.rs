use serde_json::{Value, json};

use super::client::{RawClient, RawReply};
use super::{look, place, respond};
use crate::protocol::Url;
use crate::test_ca::TestCa;

fn next(reply: &RawReply) -> Option<Value> {
    let links = reply.headers.get_all("link").iter();
    let mut links = links.map(|link| link.to_str().unwrap());
    links.find_map(|link| {
        let url = link.strip_suffix(">;rel=\"next\"")?.strip_prefix('<')?;
        Some(json!(url))
    })
}

#[tokio::test]
async fn come_in_pages() {
    let ca = TestCa::builder().orders_per_page(2).start().await.unwrap();
    let (client, other) = tokio::join!(RawClient::registered(&ca), RawClient::registered(&ca));
    let mut placed = Vec::new();
    for name in ["a.test", "b.test", "c.test", "d.test", "e.test"] {
        placed.push(place(&client, &[name]).await);
        place(&other, &[name]).await;
    }
    // Nobody answers the challenge of this one.
    respond(&client, &placed[1]).await;
    assert_eq!(look(&client, &placed[1]).await.json()["status"], "invalid");
    placed.remove(1);
    let placed: Vec<Url> = placed.iter().map(RawReply::location).collect();

    let account = client.post_to(&json!(client.account), "").await.json();
    let first = client.post_to(&account["orders"], "").await;
    assert_eq!(first.json()["orders"], json!(placed[..2]));
    let second = client.post_to(&next(&first).unwrap(), "").await;
    assert_eq!(second.json()["orders"], json!(placed[2..]));
    assert_eq!(next(&second), None);

    let foreign = other.post_to(&account["orders"], "").await;
    assert_eq!(foreign.problem(), (403, "unauthorized".to_owned()));
}

#[tokio::test]
async fn need_not_be() {
    let ca = TestCa::builder().orders_per_page(0).start().await.unwrap();
    let client = RawClient::registered(&ca).await;
    let url = json!(client.account);
    let account = client.post_to(&url, "").await.json();
    assert_eq!(account, json!({"status": "valid"}));
    let list = format!("{}/orders", url.as_str().unwrap());
    assert_eq!(client.post_to(&json!(list), "").await.status, 404);

    ca.set_orders_per_page(1);
    let list = client.post_to(&json!(list), "").await.json();
    assert_eq!(list, json!({"orders": []}));
}
