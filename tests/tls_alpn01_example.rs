//! The example for tls-alpn-01, run as a reader runs it.

#![cfg(all(
    feature = "aws-lc-rs",
    feature = "hyper",
    feature = "test-ca",
    feature = "tls-alpn-01"
))]
#![allow(clippy::indexing_slicing, clippy::panic)]

mod support;

use support::examples;

#[test]
fn serves_users_once_it_has_a_certificate_and_through_its_renewal() {
    let text = examples::text(&examples::run("tls_alpn01", [] as [&str; 0]));
    let visits: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("a visitor   "))
        .collect();
    let [before, first, renewed] = visits[..] else {
        panic!("{text}");
    };
    assert!(before.starts_with("is turned away: "), "{text}");
    assert_eq!(first, r#"reads "Welcome""#, "{text}");
    assert_eq!(renewed, first, "{text}");

    let serving: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("serving     "))
        .collect();
    assert_eq!(serving.len(), 2, "{text}");
    assert_ne!(serving[0], serving[1], "{text}");
}
