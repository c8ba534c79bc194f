//! One run of one library, in a process of its own, so that its time and memory are its own.

use std::error::Error;
use std::io::{BufRead as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::Library;
use crate::certwright_client::CertwrightClient;
use crate::instant_acme_client::InstantAcmeClient;

type BoxError = Box<dyn Error + Send + Sync>;

/// What a client is told, on its command line.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Task {
    pub(crate) library: Library,
    pub(crate) directory: String,
    /// A file with the root certificate of the CA's site.
    pub(crate) root: String,
    pub(crate) names: usize,
    pub(crate) orders: usize,
    pub(crate) concurrency: usize,
    pub(crate) peer_delay_ms: Option<u64>,
}

/// What it says once it has an account: nothing is measured before it is told to go on.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Ready {
    pub(crate) thumbprint: String,
}

/// What it says at the end.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Outcome {
    /// For each certificate, the time from the order on.
    pub(crate) latencies_ms: Vec<f64>,
    pub(crate) failures: Vec<String>,
    pub(crate) wall_s: f64,
    pub(crate) cpu_ms: f64,
    /// Before the first order.
    pub(crate) start_rss_kib: u64,
    pub(crate) peak_rss_kib: u64,
    pub(crate) samples: Vec<Sample>,
}

/// How the process stands after so many orders.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Sample {
    pub(crate) orders: usize,
    pub(crate) elapsed_s: f64,
    pub(crate) cpu_ms: f64,
    pub(crate) rss_kib: u64,
}

/// Either library, with an account.
#[derive(Clone)]
enum Client {
    Certwright(CertwrightClient),
    InstantAcme(InstantAcmeClient),
}

impl Client {
    async fn issue(&self, names: &[String]) -> Result<(), BoxError> {
        match self {
            Self::Certwright(client) => client.issue(names).await,
            Self::InstantAcme(client) => client.issue(names).await,
        }
    }
}

pub(crate) async fn run(task: Task) -> Result<(), BoxError> {
    let (client, thumbprint) = match task.library {
        Library::Certwright => {
            let (client, thumbprint) = CertwrightClient::new(&task).await?;
            (Client::Certwright(client), thumbprint)
        }
        Library::InstantAcme => {
            let (client, thumbprint) = InstantAcmeClient::new(&task).await?;
            (Client::InstantAcme(client), thumbprint)
        }
    };
    say(&Ready { thumbprint })?;
    std::io::stdin().lock().read_line(&mut String::new())?;

    let start_rss_kib = memory("VmRSS:")?;
    let cpu = cpu_ms();
    let start = Instant::now();
    let next = Arc::new(AtomicUsize::new(0));
    let (sender, mut results) = mpsc::unbounded_channel();
    for _ in 0..task.concurrency.min(task.orders) {
        let (client, next, sender) = (client.clone(), Arc::clone(&next), sender.clone());
        let task = task.clone();
        tokio::spawn(async move {
            loop {
                let order = next.fetch_add(1, Ordering::Relaxed);
                if order >= task.orders {
                    break;
                }
                let names: Vec<_> = (0..task.names)
                    .map(|name| format!("host-{name:03}.order-{order:05}.example.test"))
                    .collect();
                let start = Instant::now();
                let result = client.issue(&names).await;
                let latency_ms = start.elapsed().as_secs_f64() * 1_000.0;
                let _ = sender.send(result.map(|()| latency_ms).map_err(|e| describe(&*e)));
            }
        });
    }
    drop(sender);

    let mut outcome = Outcome {
        latencies_ms: Vec::with_capacity(task.orders),
        failures: Vec::new(),
        wall_s: 0.0,
        cpu_ms: 0.0,
        start_rss_kib,
        peak_rss_kib: 0,
        samples: Vec::new(),
    };
    // Ten lines of a table, where there are enough orders for one.
    let step = (task.orders / 10).max(100);
    while let Some(result) = results.recv().await {
        match result {
            Ok(latency_ms) => outcome.latencies_ms.push(latency_ms),
            Err(error) => outcome.failures.push(error),
        }
        let orders = outcome.latencies_ms.len() + outcome.failures.len();
        if orders.is_multiple_of(step) {
            outcome.samples.push(Sample {
                orders,
                elapsed_s: start.elapsed().as_secs_f64(),
                cpu_ms: cpu_ms() - cpu,
                rss_kib: memory("VmRSS:")?,
            });
        }
    }
    outcome.wall_s = start.elapsed().as_secs_f64();
    outcome.cpu_ms = cpu_ms() - cpu;
    outcome.peak_rss_kib = memory("VmHWM:")?;
    say(&outcome)?;
    Ok(())
}

fn say(message: &impl Serialize) -> Result<(), BoxError> {
    let line = serde_json::to_string(message)?;
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}")?;
    output.flush()?;
    Ok(())
}

fn describe(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// The processor time of all threads.
fn cpu_ms() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1_000.0 + time.tv_nsec as f64 / 1_000_000.0
}

fn memory(field: &str) -> Result<u64, BoxError> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number
        .ok_or("/proc/self/status is not as expected")?
        .parse()?)
}
