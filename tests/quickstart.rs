//! The README's main job: the quickstart, run as a newcomer runs it.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used
)]

mod support;

use std::fs;
use std::path::Path;
use std::process::Output;

use certwright::x509::{CertificateChain, CertificateKey};
use support::examples;
use support::pebble::Pebble;

fn quickstart(arguments: &[&str]) -> Output {
    let output = examples::run("quickstart", arguments);
    println!("{}", String::from_utf8_lossy(&output.stdout));
    println!("{}", String::from_utf8_lossy(&output.stderr));
    output
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn issues_from_the_ca_inside_the_process() {
    let output = quickstart(&[]);
    assert!(output.status.success());
    let text = text(&output);
    for expected in [
        "order https://",
        "the CA has validated all identifiers",
        "-----BEGIN CERTIFICATE-----",
        "the first is for example.test, www.example.test",
        "certwright test CA root",
    ] {
        assert!(text.contains(expected), "{expected}");
    }
}

#[tokio::test]
async fn issues_from_pebble_and_keeps_account_and_key() {
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let kept = directory.path().join("kept");
    let (url, port) = (pebble.directory_url(), pebble.http01_port().to_string());
    let root = pebble.root_path();
    let arguments = |output: &Path| {
        [
            ["--directory", &url],
            ["--root", root.to_str().unwrap()],
            ["--domain", "quick.example"],
            ["--http-port", &port],
            ["--output", output.to_str().unwrap()],
        ]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>()
    };
    let mut accounts = Vec::new();
    for _ in 0..2 {
        let arguments = arguments(&kept);
        let output = tokio::task::spawn_blocking(move || {
            quickstart(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
        })
        .await
        .unwrap();
        assert!(output.status.success());
        let text = text(&output);
        let account = text
            .lines()
            .find(|line| line.starts_with("account"))
            .unwrap();
        accounts.push(account.to_owned());
    }
    assert_eq!(accounts[0], accounts[1], "the account is used again");

    let chain = fs::read_to_string(kept.join("chain.pem")).unwrap();
    let key = fs::read_to_string(kept.join("key.pem")).unwrap();
    let chain = CertificateChain::from_pem(&chain).unwrap();
    let key = CertificateKey::from_pkcs8_pem(&key).unwrap();
    chain
        .check(
            key.public_key_info(),
            &["quick.example".parse().unwrap()],
            std::time::SystemTime::now(),
        )
        .unwrap();
    #[cfg(unix)]
    for file in ["key.pem", "account.json", "account-key.pem"] {
        use std::os::unix::fs::PermissionsExt;

        let mode = fs::metadata(kept.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[test]
fn says_how_it_is_used() {
    for arguments in [
        &["--help"][..],
        &["--directory", "https://ca.example/"],
        &["--what"],
    ] {
        let output = quickstart(arguments);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output).contains("--domain NAME"));
    }
}
