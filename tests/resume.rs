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

use std::fs;
use std::future::pending;
use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

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
use certwright::{Account, BoxError, Client, Error, Retry};
use http::{Request, Response, StatusCode};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const NAMES: [&str; 2] = ["example.com", "www.example.com"];

/// Where the process that is killed finds what it needs, and at which step it is to be killed.
const PLACE: &str = "CERTWRIGHT_TEST_PLACE";
const LAST_STEP: &str = "CERTWRIGHT_TEST_LAST_STEP";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_gone_on_with_wherever_the_process_was_killed() {
    let mut stops = Vec::new();
    loop {
        let place = Place::new().await;
        let ca = &place.ca;
        // So that it can be killed while the order is `processing`, too.
        ca.set_issuance(Issuance::AfterLooks(1));
        ca.set_retry_after(None);
        let Some(stop) = place.run_child(stops.len()).await else {
            break;
        };

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
            .unwrap_or_else(|error| panic!("killed {stop}: {error}"));

        assert_eq!(issued.chain().details().unwrap().identifiers.len(), 2);
        assert_eq!(issued.leftovers(), [], "killed {stop}");
        assert_eq!(place.files(), 0, "killed {stop}");
        if let Some(checkpoint) = stored {
            let key = CertificateKey::from_pkcs8_pem(checkpoint.key().unwrap()).unwrap();
            let info = issued.key().public_key_info();
            assert_eq!(info, key.public_key_info(), "killed {stop}");
            // An order whose URL is known is not wasted.
            if let Some(order) = checkpoint.order() {
                assert_eq!(issued.order().url(), order, "killed {stop}");
                assert_eq!(place.done(ResourceKind::NewOrder), 1, "killed {stop}");
            }
        } else {
            assert_eq!(place.done(ResourceKind::NewOrder), 1, "killed {stop}");
        }
        assert!(place.done(ResourceKind::NewOrder) <= 2, "killed {stop}");
        assert_eq!(place.done(ResourceKind::Finalize), 1, "killed {stop}");
        assert_eq!(place.accounts(), 1, "killed {stop}");
        stops.push(stop);
    }

    // Each kind of step was among them.
    for step in [
        "before POST /new-account",
        "after POST /new-account",
        "before the checkpoint 1",
        "after the checkpoint 1",
        "before POST /new-order",
        "after POST /new-order",
        "before the checkpoint 2",
        "after the checkpoint 3",
        "before present",
        "after present",
        "before clean_up",
        "after clean_up",
    ] {
        assert!(stops.iter().any(|stop| stop == step), "{step}: {stops:?}");
    }
    for part in ["/chal", "/finalize", "/cert"] {
        for side in ["before POST", "after POST"] {
            let is_such = |stop: &String| stop.starts_with(side) && stop.contains(part);
            assert!(stops.iter().any(is_such), "{side} {part}: {stops:?}");
        }
    }
}

/// What runs in a process of its own, until it is killed.
#[tokio::test]
#[ignore = "part of the test above, which runs it in a process of its own"]
async fn until_it_is_killed() {
    let Some(place) = std::env::var_os(PLACE).map(PathBuf::from) else {
        return;
    };
    let steps = Arc::new(Steps {
        last: std::env::var(LAST_STEP).unwrap().parse().unwrap(),
        reached: AtomicUsize::new(0),
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
        stored: AtomicUsize::new(0),
    };
    let issuance = account.issue(NAMES).solver(solver).checkpoint(store);
    issuance.await.unwrap();
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
        let ca = TestCa::builder().http01_port(port).start().await.unwrap();
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
    async fn run_child(&self, last_step: usize) -> Option<String> {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--ignored", "--exact", "--nocapture", "until_it_is_killed"])
            .env(PLACE, self.path())
            .env(LAST_STEP, last_step.to_string())
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

/// The steps that a process takes, up to the last one, where it stays until it is killed.
struct Steps {
    last: usize,
    reached: AtomicUsize,
}

impl Steps {
    async fn reach(&self, step: &str) {
        let number = self.reached.fetch_add(1, Ordering::SeqCst);
        if number == self.last {
            println!("STOPPED {step}");
            std::io::stdout().flush().unwrap();
        }
        if number >= self.last {
            pending().await
        }
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
    stored: AtomicUsize,
}

#[async_trait]
impl CheckpointStore for WatchedStore {
    async fn store(&self, checkpoint: &Checkpoint) -> Result<(), BoxError> {
        let number = self.stored.fetch_add(1, Ordering::SeqCst) + 1;
        let step = format!("the checkpoint {number}");
        self.steps.reach(&format!("before {step}")).await;
        let result = self.inner.store(checkpoint).await;
        self.steps.reach(&format!("after {step}")).await;
        result
    }
}
