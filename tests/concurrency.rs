//! One client, used by very many tasks at once.

#![cfg(all(
    feature = "http-01",
    feature = "hyper",
    feature = "test-ca",
    any(feature = "aws-lc-rs", feature = "ring")
))]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use std::collections::HashSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use certwright::Client;
use certwright::jose::AccountKey;
use certwright::solver::Http01Server;
use certwright::test_ca::{ResourceKind, TestCa};
use certwright::transport::HyperTransport;
use certwright::x509::CertificateKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_issuances_share_one_client_within_bounds() {
    const TASKS: usize = 1_000;

    let server = Http01Server::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let ca = TestCa::builder()
        .http01_port(server.local_addrs()[0].port())
        .start()
        .await
        .unwrap();
    let proxy = Proxy::start(ca.address()).await;
    let transport = HyperTransport::builder()
        .add_root_pem(ca.root_pem())
        .without_platform_roots()
        .proxy(&format!("http://{}", proxy.address))
        .build()
        .unwrap();
    let client = Client::builder(ca.directory_url().as_str())
        .transport(transport)
        .concurrency(1)
        .build()
        .await
        .unwrap();
    let creating = client.new_account(AccountKey::generate().unwrap());
    let account = creating.agree_to_terms().create().await.unwrap();
    ca.clear_requests();

    // The same key for all, since to make one takes longer than all the rest.
    let key = CertificateKey::generate().unwrap();
    let mut tasks = JoinSet::new();
    for number in 0..TASKS {
        let names = [format!("{number}.example"), format!("www.{number}.example")];
        let issuance = account
            .issue(names)
            .key(key.clone())
            .solver(server.clone())
            .timeout(std::time::Duration::from_secs(3_600));
        tasks.spawn(async move { issuance.await.map(|issued| issued.leftovers().len()) });
    }
    while let Some(result) = tasks.join_next().await {
        assert_eq!(result.unwrap().unwrap(), 0);
    }

    // All of them came to their end, and nothing was done twice.
    let requests = ca.requests();
    assert_eq!(ca.count(ResourceKind::NewOrder), TASKS);
    assert_eq!(ca.count(ResourceKind::Challenge), 2 * TASKS);
    assert_eq!(ca.count(ResourceKind::Finalize), TASKS);
    assert_eq!(ca.count(ResourceKind::Certificate), TASKS);
    assert!(requests.iter().all(|request| request.problem.is_none()));

    // An order has one request under way at once, as the client was told.
    assert!(ca.max_in_flight() <= TASKS, "{}", ca.max_in_flight());

    // No nonce is used twice, and none is fetched but for a request that finds no other: each
    // request brings the one for the next.
    let nonces: Vec<_> = requests
        .iter()
        .filter_map(|request| request.nonce.as_ref())
        .collect();
    let distinct: HashSet<_> = nonces.iter().collect();
    assert_eq!(distinct.len(), nonces.len(), "a nonce was used twice");
    let fetched = ca.count(ResourceKind::NewNonce);
    assert!(fetched <= TASKS, "{fetched} nonces were fetched");

    // What it costs is counted, not timed.
    assert!(proxy.most() <= 2, "{} connections at once", proxy.most());
    assert_eq!(proxy.opened(), proxy.most(), "connections were kept");
}

/// The locks of std can't be held while a future waits: clippy sees to that
/// (`await_holding_lock`). Those of tokio can, so each has a reason. None guards what requests to a
/// CA have in common.
#[test]
fn locks_that_can_be_held_while_waiting_are_few() {
    let reasons = [
        // Turns: a session has so many signed requests under way at most. Each turn ends with the
        // transport's timeout, and with its future.
        "src/session/mod.rs",
        // The nonces that there are; they are fetched in tasks, and not by those who wait for them.
        "src/session/nonces.rs",
        // Held while a server's tasks are aborted and joined, by whoever shuts it down.
        "src/solver/listeners.rs",
        // Held while a file is written or deleted: who comes next has to see the outcome.
        "src/solver/http01/webroot.rs",
        // Turns: a DNS host is changed by one request at a time, or by a bounded number of them, for
        // each name or zone. Each turn ends with its own timeout, and with its future.
        "src/solver/dns/providers/acme_dns.rs",
        "src/solver/dns/providers/dns_update.rs",
        "src/solver/dns/providers/program.rs",
        "src/solver/dns/providers/rfc2136.rs",
        // One question at a time to the person at the terminal.
        "src/solver/dns/providers/manual.rs",
    ];
    let mut found = Vec::new();
    for file in sources(Path::new("src")) {
        let text = fs::read_to_string(&file).unwrap();
        let path = file.to_str().unwrap().replace('\\', "/");
        let exempt = ["await_holding_lock", "await_holding_refcell_ref"];
        let exempt = exempt.iter().any(|lint| text.contains(lint));
        assert!(!exempt, "{path} has clippy look away");
        let locks = ["Mutex", "RwLock", "Semaphore"];
        let imports = text
            .split("tokio::sync::")
            .skip(1)
            .filter_map(|rest| rest.split(';').next());
        let mut imports = imports.filter(|import| locks.iter().any(|lock| import.contains(lock)));
        // The CA for tests is a server of its own.
        if !path.starts_with("src/test_ca/") && imports.next().is_some() {
            found.push(path);
        }
    }
    found.sort();
    let mut expected = reasons.to_vec();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(sources(&path)),
            false if path.extension().is_some_and(|extension| extension == "rs") => {
                found.push(path);
            }
            false => {}
        }
    }
    found
}

/// An HTTP proxy that counts its connections to one server.
struct Proxy {
    address: SocketAddr,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    opened: AtomicUsize,
    open: AtomicUsize,
    most: AtomicUsize,
}

impl Proxy {
    async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Arc::<Counts>::default();
        let counted = counts.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let counts = counted.clone();
                tokio::spawn(async move {
                    counts.opened.fetch_add(1, Ordering::SeqCst);
                    let open = counts.open.fetch_add(1, Ordering::SeqCst) + 1;
                    counts.most.fetch_max(open, Ordering::SeqCst);
                    let _ = tunnel(&mut stream, server).await;
                    counts.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, counts }
    }

    fn opened(&self) -> usize {
        self.counts.opened.load(Ordering::SeqCst)
    }

    fn most(&self) -> usize {
        self.counts.most.load(Ordering::SeqCst)
    }
}

async fn tunnel(stream: &mut TcpStream, server: SocketAddr) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let mut server = TcpStream::connect(server).await?;
    stream
        .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        .await?;
    copy_bidirectional(stream, &mut server).await?;
    Ok(())
}
