//! Pebble behind a proxy that resets connections.

#![cfg(all(
    feature = "http-01",
    feature = "hyper",
    feature = "test-ca",
    any(feature = "aws-lc-rs", feature = "ring")
))]
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

#[path = "../examples/common/chaos.rs"]
mod chaos;
#[path = "../examples/common/resets.rs"]
mod resets;
mod support;

use chaos::Chaos;
use support::pebble::Pebble;

#[tokio::test(flavor = "multi_thread")]
async fn orders_at_pebble_lose_nothing() {
    let builder = Pebble::builder().nonce_reject(20).retry_after(1, 1);
    let Some(pebble) = builder.start().await else {
        return;
    };
    let chaos = Chaos {
        orders: 12,
        // Pebble 2.10 can lock itself up when orders run side by side.
        concurrency: 1,
        outside: Some((pebble.directory_url(), Some(pebble.root_pem().to_owned()))),
        http_port: pebble.http01_port(),
        shows_progress: false,
        ..Chaos::default()
    };
    let report = chaos.run().await;
    let report = report.unwrap_or_else(|error| panic!("{error}\n{}", pebble.log()));
    assert!(report.lost.is_empty(), "{report}\n{}", pebble.log());
    assert_eq!(report.issued, 12);
    let (before, after) = report.resets_by_proxy.unwrap();
    assert!(before >= 3 && after >= 3, "{report}");
}
