//! The example `chaos` in short: many orders while everything breaks, and nothing is lost.

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

use chaos::Chaos;

#[tokio::test(flavor = "multi_thread")]
async fn sixty_orders_lose_nothing() {
    let chaos = Chaos {
        orders: 60,
        concurrency: 16,
        shows_progress: false,
        ..Chaos::default()
    };
    let report = chaos.run().await.unwrap();
    assert!(report.lost.is_empty(), "{report}");
    assert_eq!(report.issued, 60, "{report}");
    // That it was no easy run.
    for fault in [
        "nonce refused",
        "connection reset",
        "connection reset after acting",
        "503",
        "delay",
    ] {
        let played = report.faults.iter().filter(|played| played.fault == fault);
        let count: u64 = played.map(|played| played.count).sum();
        assert!(count >= 5, "{fault}: {report}");
    }
    assert!(report.presented >= 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_on_one_connection_lose_nothing_either() {
    let chaos = Chaos {
        orders: 20,
        concurrency: 8,
        seed: 8,
        http2: true,
        shows_progress: false,
        ..Chaos::default()
    };
    let report = chaos.run().await.unwrap();
    assert!(report.lost.is_empty(), "{report}");
    assert_eq!(report.issued, 20, "{report}");
}
