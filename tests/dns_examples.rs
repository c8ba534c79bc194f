//! The examples about wildcards, run as a reader runs them, at Pebble and BIND.

#![cfg(all(feature = "dns-update", feature = "hyper", feature = "rfc2136"))]
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod support;

use support::bind::{Bind, KEYS};
use support::examples;
use support::pebble::Pebble;

/// Runs an example for a name in BIND's zone, and gives what it printed.
async fn issue(example: &'static str, own: impl FnOnce(&Bind) -> Vec<String>) -> Option<String> {
    let bind = Bind::start().await?;
    let pebble = Pebble::builder()
        .name_server(bind.address())
        .start()
        .await?;
    let root = pebble.root_path().display().to_string();
    let address = bind.address().to_string();
    let mut arguments = own(&bind);
    let shared = [
        ["--domain", "example.test"],
        ["--directory", &pebble.directory_url()],
        ["--root", &root],
        ["--dns", &address],
    ];
    arguments.extend(shared.concat().into_iter().map(str::to_owned));
    let output = tokio::task::spawn_blocking(move || {
        examples::command(example)
            .args(arguments)
            .env("DNS_TOKEN", KEYS[0].1)
            .output()
            .expect("cargo can be run")
    });
    Some(examples::text(&output.await.unwrap()))
}

#[tokio::test]
async fn wildcard_by_rfc2136() {
    let text = issue("wildcard_rfc2136", |bind| {
        let key = bind.key_file("hmac-sha256").display().to_string();
        let server = bind.address().to_string();
        vec!["--server".to_owned(), server, "--key-file".to_owned(), key]
    });
    if let Some(text) = text.await {
        assert!(text.contains("-----BEGIN CERTIFICATE-----"), "{text}");
    }
}

#[tokio::test]
async fn wildcard_by_dns_update() {
    let text = issue("wildcard_dns_update", |bind| {
        let server = format!("tcp://{}", bind.address());
        let options = ["--host", "rfc2136", "--key-name", "hmac-sha256", "--server"];
        let options = options.into_iter().map(str::to_owned);
        options.chain([server]).collect()
    });
    if let Some(text) = text.await {
        assert!(text.contains("-----BEGIN CERTIFICATE-----"), "{text}");
    }
}
