//! The examples about solvers, run as a reader runs them.

#![cfg(all(
    feature = "hyper",
    feature = "test-ca",
    any(feature = "aws-lc-rs", feature = "ring")
))]
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod support;

use support::examples;

fn assert_tells(text: &str, expected: &[&str]) {
    for part in expected {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn own_solver_answers_on_every_node_and_leaves_nothing() {
    let text = examples::text(&examples::run("own_solver", [""; 0]));
    let served = text.matches("serves the answer for").count();
    assert_eq!(served, 4, "two nodes for two names:\n{text}");
    let expected = ["certificate  https://", "0 answers are left in the store"];
    assert_tells(&text, &expected);
}

#[test]
fn own_challenge_type_proves_control_by_what_it_sends() {
    let text = examples::text(&examples::run("own_challenge_type", [""; 0]));
    let expected = [
        "certificate  https://",
        "another key  the CA could not validate device-2.example by device-attest-01",
        "badAttestationStatement",
    ];
    assert_tells(&text, &expected);
}
