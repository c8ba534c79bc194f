//! A client that is not ours, lego, against the CA inside the process.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::unwrap_used)]

mod support;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::SystemTime;

use certwright::protocol::Identifiers;
use certwright::test_ca::{Issuance, ResourceKind, RetryAfter, TestCa};
use certwright::x509::CertificateChain;
use tempfile::TempDir;
use tokio::process::Command;

use support::{net, servers};

#[tokio::test]
async fn obtains_renews_and_revokes() {
    let Some(lego) = Lego::new() else { return };
    let ca = TestCa::builder()
        .http01_port(lego.http_port)
        .start()
        .await
        .unwrap();

    lego.run(&ca, &NAMES, &["run"]).await;
    let first = lego.check_certificate();
    assert_eq!(ca.count(ResourceKind::NewAccount), 1);
    assert_eq!(ca.count(ResourceKind::Finalize), 1);

    // Without a terminal lego waits up to eight minutes first, to spare the CA.
    let renew = ["renew", "--days", "3650", "--no-random-sleep"];
    lego.run(&ca, &NAMES, &renew).await;
    let second = lego.check_certificate();
    assert_ne!(first.serial_number(), second.serial_number());

    // It takes each name for a certificate of its own here.
    lego.run(&ca, &NAMES[..1], &["revoke"]).await;
    assert_eq!(ca.count(ResourceKind::RevokeCert), 1);
    let problems: Vec<_> = ca
        .requests()
        .into_iter()
        .filter_map(|r| r.problem)
        .collect();
    assert!(problems.is_empty(), "{problems:?}");
}

#[tokio::test]
async fn copes_with_a_slow_ca_that_loses_nonces() {
    let Some(lego) = Lego::new() else { return };
    let ca = TestCa::builder()
        .http01_port(lego.http_port)
        .issuance(Issuance::AfterLooks(2))
        .retry_after(RetryAfter::Seconds(1))
        .reject_nonces(0.2)
        .start()
        .await
        .unwrap();
    lego.run(&ca, &NAMES, &["run"]).await;
    lego.check_certificate();
}

#[tokio::test]
async fn answers_tls_alpn01() {
    let Some(lego) = Lego::new() else { return };
    let ca = TestCa::builder()
        .tls_alpn01_port(lego.tls_port)
        .start()
        .await
        .unwrap();
    let lego = Lego {
        challenge: "--tls",
        ..lego
    };
    lego.run(&ca, &NAMES, &["run"]).await;
    lego.check_certificate();
}

struct Lego {
    program: PathBuf,
    /// The flag for the type of challenge.
    challenge: &'static str,
    http_port: u16,
    tls_port: u16,
    directory: TempDir,
}

impl Lego {
    fn new() -> Option<Self> {
        Some(Self {
            program: servers::binary("lego")?,
            challenge: "--http",
            http_port: net::free_port(),
            tls_port: net::free_port(),
            directory: TempDir::new().unwrap(),
        })
    }

    async fn run(&self, ca: &TestCa, names: &[&str], command: &[&str]) {
        let root = self.path().join("root.pem");
        fs::write(&root, ca.root_pem()).unwrap();
        let mut lego = Command::new(&self.program);
        lego.args(["--server", &ca.directory_url()])
            .args(["--email", "a@example.com", "--accept-tos", self.challenge])
            .args([
                "--http.port",
                &format!("{}:{}", Ipv4Addr::LOCALHOST, self.http_port),
            ])
            .args([
                "--tls.port",
                &format!("{}:{}", Ipv4Addr::LOCALHOST, self.tls_port),
            ])
            .arg("--path")
            .arg(self.path());
        for name in names {
            lego.args(["--domains", name]);
        }
        let Output {
            status,
            stdout,
            stderr,
        } = lego
            .args(command)
            .env("LEGO_CA_CERTIFICATES", root)
            .kill_on_drop(true)
            .output()
            .await
            .unwrap();
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        assert!(
            status.success(),
            "lego {command:?} failed:\n{}{}",
            text(&stdout),
            text(&stderr)
        );
    }

    /// Checks the chain that lego wrote.
    fn check_certificate(&self) -> CertificateChain {
        let file = format!("certificates/{}.crt", NAMES[0]);
        let pem = fs::read_to_string(self.path().join(file)).unwrap();
        let chain = CertificateChain::from_pem(&pem).unwrap();
        let names = Identifiers::collect(NAMES).unwrap();
        assert_eq!(chain.identifiers(), &names.iter().cloned().collect());
        assert!(chain.not_after() > SystemTime::now());
        assert_eq!(chain.certificates().len(), 2);
        chain
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}

const NAMES: [&str; 3] = ["a.example.test", "b.example.test", "c.example.test"];
