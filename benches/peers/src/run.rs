use std::collections::HashMap;
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::PoisonError;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{ChildStdout, Command};
use tokio::task::JoinHandle;

use crate::Library;
use crate::arguments::{Arguments, Server};
use crate::client::{Outcome, Ready, Task};
use crate::pebble::Pebble;
use crate::proxy;
use crate::report::{Report, percentile};
use crate::responder::{self, Thumbprint};
use crate::test_ca::{RemoteCa, Seen, Settings, root_path};

type BoxError = Box<dyn Error + Send + Sync>;

/// What all runs share: the responder, and the counts that need no second time.
pub(crate) struct Bench {
    http01_port: u16,
    thumbprint: Thumbprint,
    round_trips: HashMap<(Library, usize), usize>,
}

/// The parameters of one run.
#[derive(Clone, Copy)]
struct Point {
    library: Library,
    server: Server,
    names: usize,
    rtt_ms: u64,
    concurrency: usize,
    reject_nonces: u8,
}

impl Bench {
    pub(crate) async fn new() -> Result<Self, BoxError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let http01_port = listener.local_addr()?.port();
        let thumbprint = Thumbprint::default();
        tokio::spawn(responder::run(listener, thumbprint.clone()));
        Ok(Self {
            http01_port,
            thumbprint,
            round_trips: HashMap::new(),
        })
    }

    pub(crate) async fn run(mut self, arguments: &Arguments) -> Result<Vec<Report>, BoxError> {
        let mut reports = Vec::new();
        for round in 0..arguments.repeat {
            for point in points(arguments, round) {
                let report = self.measure(point, arguments).await?;
                println!("{}", serde_json::to_string(&report)?);
                reports.push(report);
            }
        }
        Ok(reports)
    }

    /// One run, against a server of its own.
    async fn measure(&mut self, point: Point, arguments: &Arguments) -> Result<Report, BoxError> {
        let sequential_round_trips = self.round_trips(point).await?;
        let task = |directory, root| Task {
            library: point.library,
            directory,
            root,
            names: point.names,
            orders: arguments.orders,
            concurrency: point.concurrency,
            peer_delay_ms: arguments.peer_delay_ms,
        };
        let files = tempfile::tempdir()?;
        let root = root_path(files.path());
        let (outcome, requests, bad_nonces) = match point.server {
            Server::Pebble => {
                let pebble =
                    Pebble::start(files.path(), self.http01_port, point.reject_nonces).await?;
                let way = Listener::new(point.rtt_ms).await?.forward(pebble.address);
                let port = way.address.unwrap_or(pebble.address).port();
                let task = task(format!("https://localhost:{port}/dir"), root);
                let client = self.ready(Client::start(&task).await?);
                let before = pebble.counts().await;
                let outcome = client.go().await?;
                let after = pebble.counts().await;
                (outcome, after.0 - before.0, after.1 - before.1)
            }
            _ => {
                let proxy = Listener::new(point.rtt_ms).await?;
                let mut ca = RemoteCa::start(&Settings {
                    advertise: proxy.address(),
                    http01_port: self.http01_port,
                    root: root.clone(),
                    reject_nonces: f64::from(point.reject_nonces) / 100.0,
                    reply_after_ms: None,
                })
                .await?;
                let _path = proxy.forward(ca.address);
                let (outcome, seen) = self.at(&mut ca, |directory| task(directory, root)).await?;
                (outcome, seen.requests, seen.bad_nonces)
            }
        };
        Ok(summary(
            point,
            arguments.orders,
            sequential_round_trips,
            &outcome,
            requests,
            bad_nonces,
        ))
    }

    /// How many requests of the first order of a client follow each other.
    ///
    /// By a CA that answers each after 25 ms: what is under way at once thus overlaps there, however
    /// quick the CA is otherwise. Validation is never unfinished when the client asks.
    async fn round_trips(&mut self, point: Point) -> Result<usize, BoxError> {
        let key = (point.library, point.names);
        if let Some(&known) = self.round_trips.get(&key) {
            return Ok(known);
        }
        let files = tempfile::tempdir()?;
        let root = root_path(files.path());
        let mut ca = RemoteCa::start(&Settings {
            advertise: None,
            http01_port: self.http01_port,
            root: root.clone(),
            reject_nonces: 0.0,
            reply_after_ms: Some(25),
        })
        .await?;
        let task = |directory| Task {
            library: point.library,
            directory,
            root,
            names: point.names,
            orders: 1,
            concurrency: 1,
            peer_delay_ms: None,
        };
        let (outcome, seen) = self.at(&mut ca, task).await?;
        if let Some(failure) = outcome.failures.first() {
            return Err(failure.clone().into());
        }
        self.round_trips.insert(key, seen.chain);
        Ok(seen.chain)
    }

    async fn at(
        &self,
        ca: &mut RemoteCa,
        task: impl FnOnce(String) -> Task,
    ) -> Result<(Outcome, Seen), BoxError> {
        let client = self.ready(Client::start(&task(ca.directory.clone())).await?);
        ca.forget().await?;
        let outcome = client.go().await?;
        Ok((outcome, ca.seen().await?))
    }

    fn ready(&self, (client, ready): (Client, Ready)) -> Client {
        let mut thumbprint = self
            .thumbprint
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *thumbprint = ready.thumbprint;
        client
    }
}

/// All combinations. The libraries take turns, and in every other round the other one is first.
fn points(arguments: &Arguments, round: usize) -> Vec<Point> {
    let mut libraries = arguments.libraries.clone();
    if round % 2 == 1 {
        libraries.reverse();
    }
    let mut points = Vec::new();
    for &names in &arguments.names {
        for &rtt_ms in &arguments.rtt_ms {
            for &concurrency in &arguments.concurrency {
                for &reject_nonces in &arguments.reject_nonces {
                    points.extend(libraries.iter().map(|&library| Point {
                        library,
                        server: arguments.server.resolve(concurrency),
                        names,
                        rtt_ms,
                        concurrency,
                        reject_nonces,
                    }));
                }
            }
        }
    }
    points
}

fn summary(
    point: Point,
    orders: usize,
    sequential_round_trips: usize,
    outcome: &Outcome,
    requests: u64,
    bad_nonces: u64,
) -> Report {
    for failure in outcome.failures.iter().take(3) {
        eprintln!("{}: {failure}", point.library.name());
    }
    let issued = outcome.latencies_ms.len();
    let per_certificate = |value: f64| value / issued as f64;
    let mut latencies = outcome.latencies_ms.clone();
    latencies.sort_by(f64::total_cmp);
    let grown = outcome.peak_rss_kib.saturating_sub(outcome.start_rss_kib);
    Report {
        library: point.library,
        server: point.server.name(),
        names: point.names,
        rtt_ms: point.rtt_ms,
        orders,
        concurrency: point.concurrency,
        reject_nonces_percent: point.reject_nonces,
        issued,
        wall_s: outcome.wall_s,
        p50_ms: percentile(&latencies, 50),
        p99_ms: percentile(&latencies, 99),
        certificates_per_s: issued as f64 / outcome.wall_s,
        requests_per_certificate: per_certificate(requests as f64),
        bad_nonces_per_certificate: per_certificate(bad_nonces as f64),
        sequential_round_trips,
        cpu_ms_per_certificate: per_certificate(outcome.cpu_ms),
        start_rss_kib: outcome.start_rss_kib,
        peak_rss_kib: outcome.peak_rss_kib,
        rss_kib_per_concurrent_order: grown as f64 / point.concurrency.min(orders) as f64,
        samples: outcome.samples.clone(),
    }
}

/// The way to the server, which has to be known before the server is started: by the proxy, where
/// there is a round-trip time to speak of.
struct Listener {
    listener: Option<TcpListener>,
    rtt: Duration,
}

impl Listener {
    async fn new(rtt_ms: u64) -> Result<Self, BoxError> {
        let listener = match rtt_ms {
            0 => None,
            _ => Some(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?),
        };
        Ok(Self {
            listener,
            rtt: Duration::from_millis(rtt_ms),
        })
    }

    fn address(&self) -> Option<SocketAddr> {
        self.listener.as_ref()?.local_addr().ok()
    }

    fn forward(self, server: SocketAddr) -> Way {
        let address = self.address();
        let rtt = self.rtt;
        let proxy = self
            .listener
            .map(|listener| tokio::spawn(proxy::run(listener, server, rtt)));
        Way { address, proxy }
    }
}

struct Way {
    address: Option<SocketAddr>,
    proxy: Option<JoinHandle<()>>,
}

impl Drop for Way {
    fn drop(&mut self) {
        if let Some(proxy) = &self.proxy {
            proxy.abort();
        }
    }
}

/// A client's process.
struct Client {
    process: tokio::process::Child,
    output: Lines<BufReader<ChildStdout>>,
}

impl Client {
    async fn start(task: &Task) -> Result<(Self, Ready), BoxError> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("--client")
            .arg(serde_json::to_string(task)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = process.stdout.take().ok_or("no standard output")?;
        let mut output = BufReader::new(output).lines();
        let ready = read(&mut output).await?;
        Ok((Self { process, output }, ready))
    }

    async fn go(mut self) -> Result<Outcome, BoxError> {
        let mut input = self.process.stdin.take().ok_or("no standard input")?;
        input.write_all(b"go\n").await?;
        let outcome = read(&mut self.output).await?;
        self.process.wait().await?;
        Ok(outcome)
    }
}

async fn read<T: DeserializeOwned>(
    output: &mut Lines<BufReader<ChildStdout>>,
) -> Result<T, BoxError> {
    let line = output.next_line().await?;
    let line = line.ok_or("a client has ended without a result")?;
    Ok(serde_json::from_str(&line)?)
}
