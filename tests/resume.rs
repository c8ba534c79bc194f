//! An issuance whose process is killed, at each of its steps, is gone on with by another process.

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
    clippy::print_stdout,
    clippy::unwrap_used
)]

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::future::pending;
use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use certwright::error::CheckpointFault;
use certwright::issuance::{Checkpoint, CheckpointStore, Event};
use certwright::jose::AccountKey;
use certwright::protocol::{ChallengeType, Identifier, Url};
use certwright::solver::{ChallengeSolver, Http01Webroot, Presentation};
use certwright::test_ca::{Issuance, ResourceKind, TestCa};
use certwright::transport::{HyperTransport, Transport, TransportError};
use certwright::x509::{CertificateKey, Csr};
use certwright::{Account, BoxError, Client, Error, Retry, issuance};
use http::{Request, Response, StatusCode};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const NAMES: [&str; 2] = ["example.com", "www.example.com"];

/// Where the process that is killed finds what it needs, and the step at which it is to be killed.
const PLACE: &str = "CERTWRIGHT_TEST_PLACE";
const LAST_STEP: &str = "CERTWRIGHT_TEST_LAST_STEP";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_gone_on_with_wherever_the_process_was_killed() {
    let steps = steps().await;
    // Each kind of step is among them.
    for kind in [
        "POST /new-account",
        "the checkpoint",
        "POST /new-order",
        "POST /authorization",
        "present",
        "POST /challenge",
        "POST /order/1 ",
        "POST /order/1/finalize",
        "clean_up",
        "POST /certificate",
    ] {
        for side in ["before", "after"] {
            let start = format!("{side} {kind}");
            let is_such = |step: &String| step.starts_with(&start);
            assert!(steps.iter().any(is_such), "{start}: {steps:?}");
        }
    }

    let mut killed = 0;
    for step in &steps {
        let place = Place::new().await;
        killed += usize::from(place.run_child(step).await.is_some());

        let stored = place.stored();
        let account = application_account(place.client().await, place.path()).await;
        let issuance = match stored.clone() {
            Some(checkpoint) => account.resume(checkpoint),
            None => account.issue(NAMES),
        };
        let issued = issuance
            .solver(Http01Webroot::new(place.webroot()))
            .checkpoint(place.store())
            .await
            .unwrap_or_else(|error| panic!("killed {step}: {error}"));

        let details = issued.chain().details().unwrap();
        assert_eq!(details.identifiers.len(), 2, "killed {step}");
        assert_eq!(issued.leftovers(), [], "killed {step}");
        assert_eq!(place.files(), 0, "killed {step}");
        let orders = place.done(ResourceKind::NewOrder);
        let order = stored.as_ref().and_then(Checkpoint::order);
        match order {
            // An order whose URL is known is not wasted.
            Some(order) => {
                assert_eq!(issued.order().url(), order, "killed {step}");
                assert_eq!(orders, 1, "killed {step}");
            }
            // At most one was made whose URL is not.
            None => assert!(orders <= 2, "killed {step}"),
        }
        match stored {
            Some(stored) => {
                let key = issued.key().to_pkcs8_pem().unwrap();
                assert_eq!(Some(key.as_str()), stored.key(), "killed {step}");
            }
            // Nothing was asked of the CA that could be lost.
            None => assert_eq!(orders, 1, "killed {step}"),
        }
        assert_eq!(place.done(ResourceKind::Finalize), 1, "killed {step}");
        assert_eq!(place.accounts(), 1, "killed {step}");
    }
    // How often the CA is asked for nonces and the order's state is left to chance, not more.
    assert!(killed + 6 >= steps.len(), "{killed} of {}", steps.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_gone_on_with_though_the_second_process_is_killed_too() {
    for (first, second) in [
        ("after the checkpoint 3", "after present 1"),
        ("after present 1", "before POST /challenge/1 1"),
        ("after present 2", "before the checkpoint 1"),
        ("before POST /challenge/1 1", "before clean_up 1"),
        (
            "after POST /challenge/1 1",
            "before POST /order/1/finalize 1",
        ),
        ("after POST /order/1 1", "after POST /order/1/finalize 1"),
        (
            "after POST /order/1/finalize 1",
            "before POST /certificate/1 1",
        ),
    ] {
        let place = Place::new().await;
        place.run_child(first).await.expect(first);
        let key = place.stored().unwrap().key().unwrap().to_owned();
        // It need not come so far as to be killed, and has done its work then.
        let again = place.run_child(second).await;
        let stop = format!("{first}, and again {again:?}");

        let account = application_account(place.client().await, place.path()).await;
        let issued = account
            .resume(place.stored().unwrap())
            .solver(Http01Webroot::new(place.webroot()))
            .await
            .unwrap_or_else(|error| panic!("killed {stop}: {error}"));
        assert_eq!(*issued.key().to_pkcs8_pem().unwrap(), *key, "killed {stop}");
        assert_eq!(place.files(), 0, "killed {stop}");
        assert_eq!(place.done(ResourceKind::NewOrder), 1, "killed {stop}");
        assert_eq!(place.done(ResourceKind::Finalize), 1, "killed {stop}");
        assert_eq!(place.accounts(), 1, "killed {stop}");
    }
}

/// The steps that an issuance takes, as a first process tells them that is not killed.
async fn steps() -> Vec<String> {
    let place = Place::new().await;
    assert_eq!(place.run_child("").await, None);
    let steps = fs::read_to_string(place.path().join("steps")).unwrap();
    steps.lines().map(str::to_owned).collect()
}

/// What runs in a process of its own, until it is killed.
#[tokio::test]
#[ignore = "part of the test above, which runs it in a process of its own"]
async fn until_it_is_killed() {
    let Some(place) = std::env::var_os(PLACE).map(PathBuf::from) else {
        return;
    };
    let steps = Arc::new(Steps {
        last: std::env::var(LAST_STEP).unwrap(),
        reached: Mutex::default(),
        told: place.join("steps"),
    });
    let inner = HyperTransport::builder()
        .add_root_pem(&fs::read_to_string(place.join("root.pem")).unwrap())
        .without_platform_roots()
        .build()
        .unwrap();
    let transport = WatchedTransport {
        inner,
        steps: steps.clone(),
    };
    let directory = fs::read_to_string(place.join("directory")).unwrap();
    let client = Client::builder(directory.as_str())
        .transport(transport)
        .build()
        .await
        .unwrap();
    let account = application_account(client, &place).await;
    let solver = WatchedSolver {
        inner: Http01Webroot::new(place.join("webroot")),
        steps: steps.clone(),
    };
    let store = WatchedStore {
        inner: FileStore(place.join("checkpoint")),
        steps,
    };
    let issuance = match fs::read(place.join("checkpoint")) {
        Ok(stored) => account.resume(serde_json::from_slice(&stored).unwrap()),
        Err(_) => account.issue(NAMES),
    };
    issuance.solver(solver).checkpoint(store).await.unwrap();
    println!("DONE");
}

#[tokio::test]
async fn an_order_that_is_of_no_use_is_made_again_with_the_same_key() {
    let place = Place::new().await;
    let account = application_account(place.client().await, place.path()).await;
    let key = CertificateKey::generate().unwrap();

    // The CA found nobody who answered.
    place.answers.store(false, Ordering::SeqCst);
    let error = account
        .issue(NAMES)
        .key(key.clone())
        .solver(Http01Webroot::new(place.webroot()))
        .checkpoint(place.store())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::ValidationFailed(_)), "{error}");
    assert_eq!(place.files(), 0);
    place.answers.store(true, Ordering::SeqCst);
    let failed = place.stored().unwrap();
    assert_eq!(failed.presented().len(), 2);

    // The CA knows nothing of the order any more.
    let mut gone = serde_json::to_value(&failed).unwrap();
    let order = failed.order().unwrap().to_string();
    gone["order"] = format!("{order}0000").into();
    let gone = serde_json::from_value(gone).unwrap();

    for checkpoint in [failed, gone] {
        let before = checkpoint.order().cloned();
        let issued = account
            .resume(checkpoint)
            .solver(Http01Webroot::new(place.webroot()))
            .checkpoint(place.store())
            .await
            .unwrap();
        assert_eq!(issued.key().public_key_info(), key.public_key_info());
        assert_ne!(Some(issued.order().url()), before.as_ref());
        assert_eq!(place.files(), 0);
        let stored = place.stored().unwrap();
        assert_eq!(stored.order(), Some(issued.order().url()));
    }
    assert_eq!(place.done(ResourceKind::NewOrder), 3);
}

#[tokio::test]
async fn an_order_that_fails_since_nobody_answered_is_made_again() {
    let place = Place::new().await;
    let account = application_account(place.client().await, place.path()).await;
    let checkpoint = place.stop_after(account.issue(NAMES), 2).await;
    let order = checkpoint.order().unwrap().clone();

    // The web server of before is gone, and comes back when the order has failed.
    place.answers.store(false, Ordering::SeqCst);
    let answers = place.answers.clone();
    let issued = account
        .resume(checkpoint.clone())
        .solver(Http01Webroot::new(place.webroot()))
        .checkpoint(place.store())
        .max_orders(1)
        .on_event(move |event| {
            if let Event::OrderFailed { .. } = event {
                answers.store(true, Ordering::SeqCst);
            }
        })
        .await
        .unwrap();
    assert_ne!(*issued.order().url(), order);
    let key = issued.key().to_pkcs8_pem().unwrap();
    assert_eq!(Some(key.as_str()), checkpoint.key());
    assert_eq!(place.done(ResourceKind::NewOrder), 2);
    assert_eq!(place.files(), 0);

    // Where it comes back not at all, there is one more order and no further one.
    let checkpoint = place.stop_after(account.issue(["example.org"]), 2).await;
    place.answers.store(false, Ordering::SeqCst);
    place.ca.clear_requests();
    let resumed = account
        .resume(checkpoint)
        .solver(Http01Webroot::new(place.webroot()))
        .max_orders(1);
    let error = resumed.await.unwrap_err();
    assert!(
        matches!(error.cause(), Error::ValidationFailed(_)),
        "{error}"
    );
    assert_eq!(error.earlier().len(), 1);
    assert_eq!(place.done(ResourceKind::NewOrder), 1);
    assert_eq!(place.files(), 0);
}

#[tokio::test]
async fn what_was_asked_for_is_asked_for_again() {
    let place = Place::new().await;
    let account = application_account(place.client().await, place.path()).await;
    let first = account
        .issue(["example.com"])
        .solver(Http01Webroot::new(place.webroot()))
        .await
        .unwrap();
    place.ca.block("blocked.example");
    let replaced = first.chain().certificate_id().unwrap().to_string();
    let issuance = account
        .issue(["example.com", "blocked.example"])
        .profiles(["missing", "short"])
        .or_default_profile()
        .replaces(&replaced)
        .drop_rejected(|_, _| true);
    place.ca.clear_requests();
    let checkpoint = place.stop_after(issuance, 2).await;
    // What the CA took is what the checkpoint has.
    assert_eq!(checkpoint.identifiers().len(), 1);

    let mut gone = serde_json::to_value(&checkpoint).unwrap();
    gone["order"] = format!("{}0000", checkpoint.order().unwrap()).into();
    let resumed = account.resume(serde_json::from_value(gone).unwrap());
    resumed
        .solver(Http01Webroot::new(place.webroot()))
        .await
        .unwrap();
    let requests = place.ca.requests();
    let orders: Vec<_> = requests
        .iter()
        .filter(|request| request.kind == ResourceKind::NewOrder)
        .filter_map(|request| request.payload.as_ref())
        .collect();
    // Refused with the one name, taken without it, and made again. This CA counts the certificate as
    // replaced by the order that only we take for gone, so it is made without `replaces` at last.
    assert_eq!(orders.len(), 4);
    assert_eq!(orders[2], orders[1]);
    assert_eq!(orders[2]["profile"], "short");
    assert_eq!(orders[2]["replaces"], *replaced);
    assert_eq!(orders[3].get("replaces"), None);
}

#[tokio::test]
async fn what_is_done_already_is_not_done_again() {
    let place = Place::new().await;
    let account = application_account(place.client().await, place.path()).await;
    let issued = account
        .issue(NAMES)
        .solver(Http01Webroot::new(place.webroot()))
        .checkpoint(place.store())
        .await
        .unwrap();
    let checkpoint = place.stored().unwrap();

    // Neither a solver nor a new order is needed, and an answer that is there still is taken away.
    let answer = &checkpoint.presented()[0];
    let earlier_process = Http01Webroot::new(place.webroot());
    earlier_process.present(answer).await.unwrap();
    assert_eq!(place.files(), 1);
    place.ca.clear_requests();
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = events.clone();
    let again = account
        .resume(checkpoint.clone())
        .solver(Http01Webroot::new(place.webroot()))
        .on_event(move |event| {
            let name = match event {
                Event::OrderResumed { .. } => "resumed",
                Event::Finalizing { .. } => "finalizing",
                Event::Issued { .. } => "issued",
                _ => "other",
            };
            seen.lock().unwrap().push(name);
        })
        .await
        .unwrap();
    assert_eq!(again.certificate().url(), issued.certificate().url());
    assert_eq!(again.chain().pem(), issued.chain().pem());
    assert_eq!(place.files(), 0);
    assert_eq!(*events.lock().unwrap(), ["resumed", "finalizing", "issued"]);
    assert_eq!(place.ca.count(ResourceKind::Order), 1);
    assert_eq!(place.ca.count(ResourceKind::Certificate), 1);
    for kind in [
        ResourceKind::NewOrder,
        ResourceKind::Authorization,
        ResourceKind::Challenge,
        ResourceKind::Finalize,
    ] {
        assert_eq!(place.ca.count(kind), 0, "{kind:?}");
    }

    // Without a solver, what may be presented is told.
    let again = account.resume(checkpoint).await.unwrap();
    assert_eq!(again.leftovers().len(), 2);
}

#[tokio::test]
async fn nothing_is_asked_of_the_ca_that_was_not_stored() {
    let place = Place::new().await;
    let account = application_account(place.client().await, place.path()).await;
    for (stores, orders, authorizations) in [(0, 0, 0), (1, 1, 0), (2, 1, 2)] {
        place.ca.clear_requests();
        let left = AtomicUsize::new(stores);
        let error = account
            .issue(NAMES)
            .solver(Http01Webroot::new(place.webroot()))
            .checkpoint(move |_: &Checkpoint| {
                let had = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                    left.checked_sub(1)
                });
                had.map(|_| ()).map_err(|_| "the disk is full".into())
            })
            .await
            .unwrap_err();
        let Error::Checkpoint(fault) = &error else {
            panic!("{error:?}");
        };
        assert!(matches!(**fault, CheckpointFault::Store(_)));
        assert!(error.to_string().contains("the disk is full"), "{error}");
        assert_eq!(error.retry(), Retry::Later);
        assert_eq!(place.ca.count(ResourceKind::NewOrder), orders);
        assert_eq!(place.ca.count(ResourceKind::Authorization), authorizations);
        assert_eq!(place.ca.count(ResourceKind::Challenge), 0);
        assert_eq!(place.files(), 0);
    }
}

#[tokio::test]
async fn goes_on_with_a_csr_and_refuses_what_does_not_belong_together() {
    let place = Place::new().await;
    let account = application_account(place.client().await, place.path()).await;
    let key = CertificateKey::generate().unwrap();
    let identifiers: Vec<Identifier> = NAMES.map(|name| name.parse().unwrap()).to_vec();
    let csr = Csr::new(&key, &identifiers).unwrap();
    let issuance = account
        .issue_csr(csr.clone())
        .solver(Broken)
        .checkpoint(place.store());
    let error = issuance.await.unwrap_err();
    assert!(matches!(error, Error::Solver(_)), "{error}");
    let checkpoint = place.stored().unwrap();
    assert_eq!(checkpoint.key(), None);
    assert_eq!(checkpoint.identifiers(), identifiers);
    place.ca.clear_requests();

    let error = account.resume(checkpoint.clone()).await.unwrap_err();
    assert!(matches!(
        &error,
        Error::Checkpoint(fault) if matches!(**fault, CheckpointFault::NoKey)
    ));
    let other_names = Csr::new(&key, &identifiers[..1]).unwrap();
    let resumed = account.resume_csr(checkpoint.clone(), other_names);
    assert!(matches!(resumed.await.unwrap_err(), Error::Csr(_)));
    let url = Url::parse(&format!("{}0000", account.url())).unwrap();
    let other = account
        .client()
        .account_with(url, AccountKey::generate().unwrap());
    let error = other
        .resume_csr(checkpoint.clone(), csr.clone())
        .await
        .unwrap_err();
    assert!(matches!(
        &error,
        Error::Checkpoint(fault) if matches!(**fault, CheckpointFault::OtherAccount(_))
    ));
    assert_eq!(error.retry(), Retry::Never);
    assert!(place.ca.requests().is_empty());

    let issued = account
        .resume_csr(checkpoint, csr)
        .solver(Http01Webroot::new(place.webroot()))
        .await
        .unwrap();
    assert_eq!(issued.chain().details().unwrap().identifiers.len(), 2);
    assert_eq!(place.done(ResourceKind::NewOrder), 0);
}

/// Presents nothing.
struct Broken;

#[async_trait]
impl ChallengeSolver for Broken {
    fn can_solve(&self, _: &Identifier, kind: &ChallengeType) -> bool {
        *kind == ChallengeType::Http01
    }

    async fn present(&self, _: &Presentation) -> Result<(), BoxError> {
        Err("it is broken".into())
    }

    async fn clean_up(&self, _: &Presentation) -> Result<(), BoxError> {
        Ok(())
    }
}

/// A CA, a web server's root that it validates by, and what an application keeps.
struct Place {
    ca: TestCa,
    directory: TempDir,
    /// Whether the web server finds its files.
    answers: Arc<AtomicBool>,
}

impl Place {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let answers = Arc::new(AtomicBool::new(true));
        let root = directory.path().join("webroot");
        fs::create_dir(&root).unwrap();
        let port = serve_files(root, answers.clone()).await;
        let ca = TestCa::builder()
            .http01_port(port)
            .profile("short", "a day", Duration::from_secs(24 * 60 * 60))
            // So that a process can be killed while the order is `processing`, too.
            .issuance(Issuance::AfterLooks(1))
            .retry_after(None)
            .start()
            .await
            .unwrap();
        fs::write(directory.path().join("directory"), ca.directory_url()).unwrap();
        fs::write(directory.path().join("root.pem"), ca.root_pem()).unwrap();
        let key = AccountKey::generate().unwrap().to_pkcs8_pem().unwrap();
        fs::write(directory.path().join("account.pem"), key).unwrap();
        Self {
            ca,
            directory,
            answers,
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn webroot(&self) -> PathBuf {
        self.path().join("webroot")
    }

    fn files(&self) -> usize {
        fs::read_dir(self.webroot().join(".well-known/acme-challenge")).map_or(0, Iterator::count)
    }

    async fn client(&self) -> Client {
        Client::builder(self.ca.directory_url().as_str())
            .add_root_pem(self.ca.root_pem())
            .build()
            .await
            .unwrap()
    }

    fn store(&self) -> FileStore {
        FileStore(self.path().join("checkpoint"))
    }

    fn stored(&self) -> Option<Checkpoint> {
        let stored = fs::read(self.path().join("checkpoint")).ok()?;
        Some(serde_json::from_slice(&stored).expect("a checkpoint is whole"))
    }

    /// Ends an issuance after so many checkpoints, and returns the last of them.
    async fn stop_after(&self, issuance: issuance::Issuance, checkpoints: usize) -> Checkpoint {
        let store = LimitedStore {
            inner: self.store(),
            left: AtomicUsize::new(checkpoints),
        };
        let issuance = issuance.solver(Http01Webroot::new(self.webroot()));
        let error = issuance.checkpoint(store).await.unwrap_err();
        assert!(matches!(error, Error::Checkpoint(_)), "{error}");
        self.stored().unwrap()
    }

    /// How many requests of a kind the CA did.
    fn done(&self, kind: ResourceKind) -> usize {
        let requests = self.ca.requests();
        let done = requests.iter().filter(|request| {
            request.kind == kind && request.status.is_some_and(|status| status.is_success())
        });
        done.count()
    }

    /// How many accounts the CA made.
    fn accounts(&self) -> usize {
        let requests = self.ca.requests();
        let made = requests.iter().filter(|request| {
            request.kind == ResourceKind::NewAccount && request.status == Some(StatusCode::CREATED)
        });
        made.count()
    }

    /// Runs an issuance in a process of its own, and kills it once it has come to a step. Returns
    /// the step; `None` where it came to its end before.
    async fn run_child(&self, last_step: &str) -> Option<String> {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--ignored", "--exact", "--nocapture", "until_it_is_killed"])
            .env(PLACE, self.path())
            .env(LAST_STEP, last_step)
            .stdout(Stdio::piped());
        tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let mut told = Vec::new();
            for line in lines {
                let line = line.unwrap();
                if let Some((_, step)) = line.split_once("STOPPED ") {
                    // SIGKILL: the process does nothing more, not even clean up.
                    child.kill().unwrap();
                    assert!(!child.wait().unwrap().success());
                    return Some(step.to_owned());
                }
                told.push(line);
            }
            assert!(child.wait().unwrap().success(), "{told:#?}");
            assert!(told.iter().any(|line| line.contains("DONE")), "{told:#?}");
            None
        })
        .await
        .unwrap()
    }
}

/// The account of an application that may be killed before it knows the account's URL: it asks by
/// the key that it stored first.
async fn application_account(client: Client, place: &Path) -> Account {
    let key = fs::read_to_string(place.join("account.pem")).unwrap();
    client
        .new_account(AccountKey::from_pkcs8_pem(&key).unwrap())
        .agree_to_terms()
        .create()
        .await
        .unwrap()
}

/// A web server for a directory. Returns its port.
async fn serve_files(root: PathBuf, answers: Arc<AtomicBool>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (root, answers) = (root.clone(), answers.clone());
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await?);
                }
                let head = String::from_utf8(head).unwrap();
                let path = head.split(' ').nth(1).unwrap().trim_start_matches('/');
                let found = fs::read_to_string(root.join(path));
                let (status, body) = match found {
                    Ok(body) if answers.load(Ordering::SeqCst) => ("200 OK", body),
                    _ => ("404 Not Found", String::new()),
                };
                let length = body.len();
                let reply = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                );
                stream.write_all(reply.as_bytes()).await?;
                stream.shutdown().await
            });
        }
    });
    port
}

/// A file that is replaced as a whole.
struct FileStore(PathBuf);

#[async_trait]
impl CheckpointStore for FileStore {
    async fn store(&self, checkpoint: &Checkpoint) -> Result<(), BoxError> {
        let new = self.0.with_extension("new");
        fs::write(&new, serde_json::to_vec(checkpoint)?)?;
        Ok(fs::rename(new, &self.0)?)
    }
}

/// A store that is full after so many checkpoints.
struct LimitedStore {
    inner: FileStore,
    left: AtomicUsize,
}

#[async_trait]
impl CheckpointStore for LimitedStore {
    async fn store(&self, checkpoint: &Checkpoint) -> Result<(), BoxError> {
        if self.left.load(Ordering::SeqCst) == 0 {
            return Err("the disk is full".into());
        }
        self.left.fetch_sub(1, Ordering::SeqCst);
        self.inner.store(checkpoint).await
    }
}

/// The steps that a process takes, up to the last one, where it stays until it is killed. Each is
/// named by what it is, and by how many of its kind came before, itself included.
struct Steps {
    last: String,
    reached: Mutex<Reached>,
    /// A file that has all of them, one in a line.
    told: PathBuf,
}

#[derive(Default)]
struct Reached {
    counts: HashMap<String, usize>,
    is_last: bool,
}

impl Steps {
    async fn reach(&self, kind: &str) {
        if self.is_last(kind) {
            pending::<()>().await;
        }
    }

    fn is_last(&self, kind: &str) -> bool {
        let mut reached = self.reached.lock().unwrap();
        if reached.is_last {
            return true;
        }
        let count = reached.counts.entry(kind.to_owned()).or_default();
        *count += 1;
        let step = format!("{kind} {count}");
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&self.told)
            .unwrap();
        writeln!(file, "{step}").unwrap();
        reached.is_last = step == self.last;
        if reached.is_last {
            println!("STOPPED {step}");
            std::io::stdout().flush().unwrap();
        }
        reached.is_last
    }
}

/// It is killed before the CA has a request, and after the CA has acted, without the reply.
struct WatchedTransport {
    inner: HyperTransport,
    steps: Arc<Steps>,
}

impl std::fmt::Debug for WatchedTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WatchedTransport")
    }
}

#[async_trait]
impl Transport for WatchedTransport {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TransportError> {
        let step = format!("{} {}", request.method(), request.uri().path());
        self.steps.reach(&format!("before {step}")).await;
        let result = self.inner.send(request).await;
        self.steps.reach(&format!("after {step}")).await;
        result
    }
}

#[derive(Clone)]
struct WatchedSolver {
    inner: Http01Webroot,
    steps: Arc<Steps>,
}

#[async_trait]
impl ChallengeSolver for WatchedSolver {
    fn can_solve(&self, identifier: &Identifier, kind: &ChallengeType) -> bool {
        self.inner.can_solve(identifier, kind)
    }

    async fn present(&self, presentation: &Presentation) -> Result<(), BoxError> {
        self.steps.reach("before present").await;
        let result = self.inner.present(presentation).await;
        self.steps.reach("after present").await;
        result
    }

    async fn clean_up(&self, presentation: &Presentation) -> Result<(), BoxError> {
        self.steps.reach("before clean_up").await;
        let result = self.inner.clean_up(presentation).await;
        self.steps.reach("after clean_up").await;
        result
    }
}

struct WatchedStore {
    inner: FileStore,
    steps: Arc<Steps>,
}

#[async_trait]
impl CheckpointStore for WatchedStore {
    async fn store(&self, checkpoint: &Checkpoint) -> Result<(), BoxError> {
        self.steps.reach("before the checkpoint").await;
        let result = self.inner.store(checkpoint).await;
        self.steps.reach("after the checkpoint").await;
        result
    }
}
