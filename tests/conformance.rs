//! Each test that `docs/conformance.md` names exists.

#![allow(clippy::expect_used)]

use std::fs;

#[test]
fn every_test_that_is_named_exists() {
    let document = fs::read_to_string("docs/conformance.md").expect("the document is there");
    let named: Vec<_> = document
        .split('`')
        .filter_map(|text| text.split_once(".rs::"))
        .collect();
    assert!(named.len() > 150, "only {} tests are named", named.len());
    let mut missing = Vec::new();
    for (file, test) in named {
        let path = format!("{file}.rs");
        let source = fs::read_to_string(&path).unwrap_or_default();
        let attributes = source
            .split(&format!("fn {test}("))
            .next()
            .unwrap_or_default();
        let declared = attributes.len() < source.len();
        let is_test = attributes
            .trim_end_matches(|c: char| c.is_alphabetic() || c == ' ')
            .trim_end()
            .ends_with(']');
        if !declared || !is_test {
            missing.push(format!("{path}::{test}"));
        }
    }
    assert!(missing.is_empty(), "not found:\n{}", missing.join("\n"));
}
