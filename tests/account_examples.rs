//! The examples about accounts, run as a reader runs them.

#![cfg(all(
    feature = "http-01",
    feature = "hyper",
    any(feature = "aws-lc-rs", feature = "ring")
))]
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod support;

use support::examples;
use support::pebble::Pebble;

const MAC_KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";

async fn run(example: &'static str, arguments: Vec<String>) -> String {
    let output = tokio::task::spawn_blocking(move || {
        examples::command(example)
            .args(arguments)
            .env("CERTWRIGHT_MAC_KEY", MAC_KEY)
            .output()
            .expect("cargo can be run")
    });
    examples::text(&output.await.unwrap())
}

fn at(pebble: &Pebble) -> Vec<String> {
    let root = pebble.root_path().display().to_string();
    let arguments = ["--directory", &pebble.directory_url(), "--root", &root];
    arguments.map(str::to_owned).to_vec()
}

fn assert_tells(text: &str, expected: &[&str]) {
    for part in expected {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[tokio::test]
async fn account_lifecycle_goes_from_creation_to_deactivation() {
    let expected = [
        "restored    Valid",
        "another key finds none",
        "contacts    [\"mailto:admin@example.com\"]",
        "contacts    []",
        "deactivated https://",
        "unauthorized",
    ];
    assert_tells(&run("account_lifecycle", Vec::new()).await, &expected);
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    assert_tells(&run("account_lifecycle", at(&pebble)).await, &expected);
}

#[tokio::test]
async fn key_rollover_leaves_the_new_key_in_force() {
    let expected = ["the old key finds no account", "the new key finds https://"];
    assert_tells(&run("key_rollover", Vec::new()).await, &expected);
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    assert_tells(&run("key_rollover", at(&pebble)).await, &expected);
}

#[tokio::test]
async fn external_account_binds() {
    let expected = ["the CA wants a binding", "account     https://"];
    assert_tells(&run("external_account", Vec::new()).await, &expected);
    let builder = Pebble::builder().external_account("kid-1", MAC_KEY);
    let Some(pebble) = builder.start().await else {
        return;
    };
    let mut arguments = at(&pebble);
    arguments.extend(["--key-id".to_owned(), "kid-1".to_owned()]);
    assert_tells(&run("external_account", arguments).await, &expected);
}

#[tokio::test]
async fn remote_signer_orders_without_having_the_key() {
    let expected = ["to store    its URL only", "order       https://"];
    assert_tells(&run("remote_signer", Vec::new()).await, &expected);
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    assert_tells(&run("remote_signer", at(&pebble)).await, &expected);
}
