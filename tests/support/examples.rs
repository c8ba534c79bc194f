//! The example programs, run as a reader runs them.

use std::env;
use std::ffi::OsStr;
use std::process::{Command, Output};

/// Runs an example with all features. Cargo has built it already where all tests are run.
pub fn run(example: &str, arguments: impl IntoIterator<Item: AsRef<OsStr>>) -> Output {
    command(example)
        .args(arguments)
        .output()
        .expect("cargo can be run")
}

/// The command that runs an example, its arguments to be added.
pub fn command(example: &str) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    // What cargo tells a test of its package makes build scripts of dependencies run again.
    for (variable, _) in env::vars() {
        if variable.starts_with("CARGO_PKG_") || variable.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(variable);
        }
    }
    cargo.args(["run", "--quiet", "--locked", "--all-features"]);
    cargo.args(["--example", example, "--"]);
    cargo
}

/// What an example printed, where it succeeded.
pub fn text(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    text
}
