//! Pebble and the DNS server that it asks.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::test_ca::root_path;

type BoxError = Box<dyn Error + Send + Sync>;

/// Both are killed when this is dropped.
pub(crate) struct Pebble {
    pub(crate) address: SocketAddr,
    requests: Arc<AtomicU64>,
    bad_nonces: Arc<AtomicU64>,
    _processes: [Child; 2],
}

impl Pebble {
    pub(crate) async fn start(
        directory: &Path,
        http01_port: u16,
        reject_nonces: u8,
    ) -> Result<Self, BoxError> {
        let programs = programs()?;
        let [acme, management, dns, dns_management] = [(); 4].map(|()| free_port());
        let (acme, dns) = (acme?, dns?);
        write_files(directory, acme, management?, http01_port)?;

        let dns_management = dns_management?;
        let dns_server = Command::new(programs.join("pebble-challtestsrv"))
            .args(["-dnsserver", &dns.to_string()])
            .args(["-management", &dns_management.to_string()])
            .args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""])
            .args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", ""])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let mut pebble = Command::new(programs.join("pebble"))
            .current_dir(directory)
            .args(["-config", "pebble.json", "-dnsserver", &dns.to_string()])
            .env_clear()
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_AUTHZREUSE", "0")
            .env("PEBBLE_WFE_NONCEREJECT", reject_nonces.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;

        let output = pebble.stdout.take().ok_or("no standard output")?;
        let (requests, bad_nonces) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let counters = (Arc::clone(&requests), Arc::clone(&bad_nonces));
        tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                // Pebble logs this for each request that it has a resource for.
                if line.ends_with("-> calling handler()") {
                    counters.0.fetch_add(1, Ordering::Relaxed);
                }
                if line.contains("badNonce") {
                    counters.1.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        for address in [dns_management, acme] {
            let connected = timeout(Duration::from_secs(30), async {
                while TcpStream::connect(address).await.is_err() {
                    sleep(Duration::from_millis(10)).await;
                }
            });
            connected
                .await
                .map_err(|_| format!("nothing listens at {address}: Pebble has not started"))?;
        }
        Ok(Self {
            address: acme,
            requests,
            bad_nonces,
            _processes: [pebble, dns_server],
        })
    }

    /// All requests so far, and those that were refused for their nonce. The log lags a little, so
    /// a moment is given to it.
    pub(crate) async fn counts(&self) -> (u64, u64) {
        sleep(Duration::from_millis(50)).await;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(&self.requests), count(&self.bad_nonces))
    }
}

/// Where the programs are: the repository's own tests fetch them there, too.
fn programs() -> Result<PathBuf, BoxError> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let fetched = repository.join("target/servers/pebble/usr/bin");
    if !fetched.join("pebble").exists() {
        let script = repository.join("tests/fetch-server.sh");
        let status = std::process::Command::new(script)
            .args(["pebble", "sid"])
            .env("CARGO_TARGET_DIR", repository.join("target"))
            .status()?;
        if !status.success() {
            return Err(
                "Pebble could not be fetched; with `--server test-ca` it is not needed".into(),
            );
        }
    }
    Ok(fetched)
}

/// Between this and the server's bind another process may take it; then the run fails.
fn free_port() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn write_files(
    directory: &Path,
    acme: SocketAddr,
    management: SocketAddr,
    http01_port: u16,
) -> Result<(), BoxError> {
    let mut root = CertificateParams::new(Vec::new())?;
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.distinguished_name
        .push(DnType::CommonName, "certwright peers");
    let root = CertifiedIssuer::self_signed(root, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let site = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    let site = site.signed_by(&key, &root)?;

    // The `retryAfter` is that of the configuration which Pebble is shipped with.
    let configuration = json!({ "pebble": {
        "listenAddress": acme,
        "managementListenAddress": management,
        "certificate": "certificate.pem",
        "privateKey": "key.pem",
        "httpPort": http01_port,
        "tlsPort": 1,
        "keyAlgorithm": "ecdsa",
        "retryAfter": { "authz": 3, "order": 5 },
    }});
    std::fs::write(root_path(directory), root.pem())?;
    for (name, text) in [
        ("certificate.pem", site.pem()),
        ("key.pem", key.serialize_pem()),
        ("pebble.json", configuration.to_string()),
    ] {
        std::fs::write(directory.join(name), text)?;
    }
    Ok(())
}
