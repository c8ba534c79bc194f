//! The CA for tests, in a process of its own: its work is no client's.

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use certwright::protocol::ProblemType;
use certwright::test_ca::{LoggedRequest, RetryAfter, TestCa, Validation};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;

type BoxError = Box<dyn Error + Send + Sync>;

/// How the CA shall be, on its command line.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Settings {
    pub(crate) advertise: Option<SocketAddr>,
    pub(crate) http01_port: u16,
    /// A file that the root certificate is written to.
    pub(crate) root: String,
    pub(crate) reject_nonces: f64,
    /// Each reply waits so long, and none has to be asked for again: this is how round trips are
    /// counted, not how time is measured.
    pub(crate) reply_after_ms: Option<u64>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Started {
    address: SocketAddr,
    directory: String,
}

/// What the CA saw since it was told to forget.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Seen {
    pub(crate) requests: u64,
    pub(crate) bad_nonces: u64,
    pub(crate) max_in_flight: usize,
    /// The most requests of which each came when the one before it was answered.
    pub(crate) chain: usize,
}

/// The CA's own process. It does what each line on standard input says, and ends with the input.
pub(crate) async fn serve(settings: Settings) -> Result<(), BoxError> {
    let mut builder = TestCa::builder()
        .http01_port(settings.http01_port)
        .validation_timeout(Duration::from_secs(60))
        .reject_nonces(settings.reject_nonces);
    builder = match settings.reply_after_ms {
        Some(latency) => builder.latency(Duration::from_millis(latency)),
        // As at Let's Encrypt: validation goes on behind the replies, and a pending order names no
        // time to come back.
        None => builder
            .validation(Validation::InBackground)
            .retry_after(None::<RetryAfter>),
    };
    if let Some(address) = settings.advertise {
        builder = builder.advertise(address);
    }
    let ca = builder.start().await?;
    std::fs::write(&settings.root, ca.root_pem())?;
    let started = Started {
        address: ca.address(),
        directory: ca.directory_url(),
    };
    println!("{}", serde_json::to_string(&started)?);

    let mut forgotten = 0;
    let (sender, mut lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let lines = std::io::stdin().lines().map_while(Result::ok);
        lines.map(|line| sender.send(line)).take_while(Result::is_ok).count()
    });
    while let Some(line) = lines.recv().await {
        let requests = ca.requests();
        let last = requests.last().map_or(forgotten, |last| last.sequence);
        if line == "forget" {
            forgotten = last;
            ca.clear_requests();
            println!("{{}}");
            continue;
        }
        let bad_nonce = |request: &&LoggedRequest| request.problem == Some(ProblemType::BadNonce);
        let seen = Seen {
            requests: last - forgotten,
            bad_nonces: requests.iter().filter(bad_nonce).count() as u64,
            max_in_flight: ca.max_in_flight(),
            chain: chain(&requests),
        };
        println!("{}", serde_json::to_string(&seen)?);
    }
    Ok(())
}

/// Of all that are answered before another comes, that which is answered first is always a good
/// choice, so going through them by the time of the answer finds the longest chain.
fn chain(requests: &[LoggedRequest]) -> usize {
    let mut spans: Vec<_> = requests
        .iter()
        .filter_map(|request| Some((request.finished?, request.started)))
        .collect();
    spans.sort_unstable();
    let mut free = Duration::ZERO;
    let mut length = 0;
    for (finished, started) in spans {
        if started >= free {
            free = finished;
            length += 1;
        }
    }
    length
}

/// The process, as the bench sees it.
pub(crate) struct RemoteCa {
    pub(crate) address: SocketAddr,
    pub(crate) directory: String,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    /// It is killed when this is dropped.
    _process: Child,
}

impl RemoteCa {
    pub(crate) async fn start(settings: &Settings) -> Result<Self, BoxError> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("--serve")
            .arg(serde_json::to_string(settings)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let input = process.stdin.take().ok_or("no standard input")?;
        let output = process.stdout.take().ok_or("no standard output")?;
        let mut output = BufReader::new(output).lines();
        let line = output.next_line().await?.ok_or("the CA did not start")?;
        let Started { address, directory } = serde_json::from_str(&line)?;
        Ok(Self {
            address,
            directory,
            input,
            output,
            _process: process,
        })
    }

    pub(crate) async fn forget(&mut self) -> Result<(), BoxError> {
        self.ask("forget\n").await.map(|_| ())
    }

    pub(crate) async fn seen(&mut self) -> Result<Seen, BoxError> {
        Ok(serde_json::from_str(&self.ask("report\n").await?)?)
    }

    async fn ask(&mut self, line: &str) -> Result<String, BoxError> {
        self.input.write_all(line.as_bytes()).await?;
        let answer = self.output.next_line().await?;
        Ok(answer.ok_or("the CA has ended")?)
    }
}

pub(crate) fn root_path(directory: &Path) -> String {
    directory.join("root.pem").to_string_lossy().into_owned()
}
