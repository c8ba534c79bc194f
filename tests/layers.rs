//! Each layer imports only from those above it. `docs/architecture.md` tells what they are for.

#![allow(clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

/// From the top. A file is in the layer of the first part of its path below `src/`.
const LAYERS: &[&[&str]] = &[
    &["private_file", "provider"],
    &["protocol"],
    &["jose"],
    &["x509"],
    &["renewal"],
    &["transport"],
    &["dns"],
    &["session"],
    &[
        "client",
        "account",
        "order",
        "authorization",
        "challenge",
        "certificate",
        "auto_renewal",
        "delegation",
        "directories",
        "import",
    ],
    &["solver"],
    &["preflight"],
    &["issuance"],
];

/// Open to all; it tells the faults of the layers that do the work.
const ERROR: &str = "error";
const ERROR_MAY_USE: &[&str] = &["protocol", "jose", "x509", "transport", "solver"];

/// The CA for tests shares with the client what is the same on both sides, and nothing else.
const TEST_CA: &str = "test_ca";
const TEST_CA_MAY_USE: &[&str] = &["provider", "protocol", "jose", "x509", "error", "test_ca"];

#[test]
fn layers_import_only_from_above() {
    let mut faults = Vec::new();
    let mut imports = 0;
    for file in files(Path::new("src")) {
        let module = module(&file);
        if module == "lib" {
            continue;
        }
        let text = fs::read_to_string(&file).expect("a source file can be read");
        for import in crate_paths(&text) {
            imports += 1;
            if !may_use(&module, &import) {
                faults.push(format!("{}: {module} imports {import}", file.display()));
            }
        }
    }
    assert!(imports > 50, "only {imports} imports were found");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn may_use(module: &str, import: &str) -> bool {
    if module == import || import == ERROR {
        return module != TEST_CA || TEST_CA_MAY_USE.contains(&import);
    }
    match module {
        ERROR => ERROR_MAY_USE.contains(&import),
        TEST_CA => TEST_CA_MAY_USE.contains(&import),
        _ => layer(import) <= layer(module),
    }
}

fn layer(module: &str) -> usize {
    LAYERS
        .iter()
        .position(|layer| layer.contains(&module))
        .unwrap_or_else(|| panic!("{module} is in no layer"))
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("the sources can be listed") {
        let path = entry.expect("the sources can be listed").path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

fn module(file: &Path) -> String {
    let below = file.strip_prefix("src").expect("the file is below src");
    let first = below.iter().next().expect("the path has a part");
    let first = first.to_str().expect("the path is UTF-8");
    first.trim_end_matches(".rs").to_owned()
}

/// The first part of each path that starts with `crate::`, comments and docs left out. What is
/// exported at the crate's root counts as the module that it comes from.
fn crate_paths(text: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for line in text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
    {
        let macros = line.replace("$crate::", "");
        for (position, start) in macros.match_indices("crate::") {
            let rest = macros.get(position + start.len()..).unwrap_or_default();
            let name: String = rest
                .chars()
                .take_while(|&c| c.is_alphanumeric() || c == '_')
                .collect();
            paths.push(match name.as_str() {
                "Error" | "BoxError" | "Retry" => ERROR.to_owned(),
                "" => panic!("`use crate::{{…}}` hides the layer: {line}"),
                _ => name,
            });
        }
    }
    paths
}
