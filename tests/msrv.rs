//! The minimum Rust version that the manifest states is enough for every crate that it brings along.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::HashMap;
use std::process::Command;

use serde_json::Value;

#[test]
fn no_dependency_needs_a_newer_rust() {
    let compiler = run(Command::new("rustc").arg("-vV"));
    let host = compiler
        .lines()
        .find_map(|line| line.strip_prefix("host: "));
    // For this platform only: crates for others need not be on this machine.
    let output = run(Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version=1",
            "--locked",
            "--offline",
            "--all-features",
        ])
        .args(["--filter-platform", host.expect("rustc tells its host")]));
    let metadata: Value = serde_json::from_str(&output).expect("cargo prints JSON");

    let packages: HashMap<_, _> = list(&metadata["packages"])
        .map(|package| (text(&package["id"]), package))
        .collect();
    let nodes: HashMap<_, _> = list(&metadata["resolve"]["nodes"])
        .map(|node| (text(&node["id"]), node))
        .collect();
    let root = text(&metadata["resolve"]["root"]);
    let stated = version(&packages[root]["rust_version"]).expect("the manifest states one");

    let (mut seen, mut next) = (vec![root], vec![root]);
    while let Some(id) = next.pop() {
        for dependency in list(&nodes[id]["deps"]) {
            let id = text(&dependency["pkg"]);
            // Crates for tests alone may be newer.
            let needed = list(&dependency["dep_kinds"]).any(|kind| kind["kind"] != "dev");
            if needed && !seen.contains(&id) {
                seen.push(id);
                next.push(id);
            }
        }
    }
    assert!(seen.len() > 50, "only {} crates were found", seen.len());
    for package in seen.iter().map(|id| packages[id]) {
        let needed = version(&package["rust_version"]).unwrap_or_default();
        assert!(
            needed <= stated,
            "{} needs Rust {needed:?}",
            package["name"]
        );
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("the toolchain can be run");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("the toolchain prints UTF-8")
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn version(value: &Value) -> Option<(u32, u32)> {
    let mut parts = value
        .as_str()?
        .split('.')
        .map(|part| part.parse().unwrap_or_default());
    Some((parts.next()?, parts.next().unwrap_or_default()))
}
