//! The harness for Pebble, tried by itself.

#![cfg(all(feature = "hyper", any(feature = "aws-lc-rs", feature = "ring")))]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::unwrap_used)]

mod support;

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri, Version, header};
use http_body_util::{BodyExt, Empty};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use support::net;
use support::pebble::Pebble;

#[tokio::test]
async fn serves_a_directory_over_each_http_version() {
    let Some(pebble) = Pebble::builder()
        .profile("short", "six days", Duration::from_secs(6 * 86_400))
        .start()
        .await
    else {
        return;
    };

    for version in [Version::HTTP_11, Version::HTTP_2] {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(pebble.client_config())
            .https_only();
        let connector = match version {
            Version::HTTP_2 => connector.enable_http2().build(),
            _ => connector.enable_http1().build(),
        };
        let request = Request::get(pebble.directory_url())
            .header(header::USER_AGENT, "certwright-tests")
            .body(Empty::<Bytes>::new())
            .unwrap();
        let response = Client::builder(TokioExecutor::new())
            .build(connector)
            .request(request)
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.version(), version);

        let body = response.into_body().collect().await.unwrap().to_bytes();
        let directory: Value = serde_json::from_slice(&body).unwrap();
        let new_order = directory["newOrder"].as_str().unwrap();
        let origin = pebble.directory_url();
        assert!(
            new_order.starts_with(origin.trim_end_matches("dir")),
            "{new_order}"
        );
        assert_eq!(directory["meta"]["profiles"]["short"], "six days");
    }
}

#[tokio::test]
async fn answers_for_the_names_of_a_test() {
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };

    let name = "_acme-challenge.example.test";
    pebble.set_txt(name, "first").await;
    pebble.set_txt(name, "second").await;
    assert!(
        net::has_txt(pebble.dns_port(), name, "first")
            .await
            .unwrap()
    );
    assert!(
        net::has_txt(pebble.dns_port(), name, "second")
            .await
            .unwrap()
    );
    pebble.clear_txt(name).await;
    assert!(
        !net::has_txt(pebble.dns_port(), name, "first")
            .await
            .unwrap()
    );

    let root = pebble.management_get("/roots/0").await.text();
    assert!(root.starts_with("-----BEGIN CERTIFICATE-----"), "{root}");
    assert!(pebble.log().contains("ACME directory available"));
}

#[tokio::test]
async fn runs_twice_at_once_and_ends_with_its_value() {
    let (Some(one), Some(other)) = tokio::join!(
        Pebble::builder().start(),
        Pebble::builder().strict(true).start()
    ) else {
        return;
    };
    assert_ne!(one.directory_url(), other.directory_url());
    assert_ne!(one.root_pem(), other.root_pem());

    let ports = [&one, &other].map(|pebble| {
        let acme: Uri = pebble.directory_url().parse().unwrap();
        [acme.port_u16().unwrap(), pebble.dns_port()]
    });
    for port in ports.as_flattened() {
        net::connect(*port).await.unwrap();
    }
    drop((one, other));
    for port in ports.as_flattened() {
        net::connect(*port).await.unwrap_err();
    }
}
