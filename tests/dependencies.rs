//! `docs/dependencies.md` tells of each dependency that `Cargo.toml` names, and of no other; and the
//! columns that can be read from elsewhere are right.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// The crates that a table of `Cargo.toml` names.
fn declared(table: &str) -> BTreeSet<String> {
    let manifest = fs::read_to_string("Cargo.toml").expect("the manifest is there");
    let (_, rest) = manifest
        .split_once(&format!("\n[{table}]\n"))
        .expect("the table is there");
    let table = rest.split("\n[").next().unwrap_or_default();
    let names = table.lines().filter_map(|line| line.split_once(" = "));
    names.map(|(name, _)| name.to_owned()).collect()
}

/// The cells of the rows below a heading, by the crate that the first one names.
fn described(heading: &str) -> BTreeMap<String, Vec<String>> {
    let page = fs::read_to_string("docs/dependencies.md").expect("the page is there");
    let (_, rest) = page
        .split_once(&format!("\n## {heading}\n"))
        .expect("the heading is there");
    let section = rest.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells = row.trim_matches('|').split('|');
        let cells: Vec<_> = cells.map(|cell| cell.trim().to_owned()).collect();
        let name = cells[0].trim_matches('`').to_owned();
        (name, cells)
    })
    .collect()
}

#[test]
fn each_dependency_is_explained() {
    for (table, heading) in [
        ("dependencies", "In the crate"),
        ("dev-dependencies", "In tests and benchmarks"),
    ] {
        let described = described(heading);
        let names: BTreeSet<_> = described.keys().cloned().collect();
        assert_eq!(declared(table), names, "{table}");
        assert!(names.len() > 5, "only {} were found", names.len());
        for (name, cells) in described {
            assert!(
                cells.iter().all(|cell| !cell.is_empty()),
                "{name} lacks a cell"
            );
        }
    }
}

#[test]
fn the_features_are_those_of_the_manifest() {
    let manifest = fs::read_to_string("Cargo.toml").expect("the manifest is there");
    let (_, rest) = manifest
        .split_once("\n[features]\n")
        .expect("there are features");
    let features = rest.split("\n[").next().unwrap_or_default();
    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut feature = String::new();
    for line in features.lines() {
        if let Some((name, _)) = line.split_once(" = [") {
            feature = name.to_owned();
        }
        for dependency in line.split('"').filter_map(|text| text.strip_prefix("dep:")) {
            let features = expected.entry(dependency.to_owned()).or_default();
            features.push(format!("`{feature}`"));
        }
    }
    for (name, cells) in described("In the crate") {
        let features = expected.get(&name);
        let features = features.map_or("always".to_owned(), |features| features.join(", "));
        assert_eq!(cells[1], features, "{name}");
    }
}
