use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::debug;

use crate::error::BoxError;
use crate::protocol::{Identifier, printable};
use crate::solver::{DnsProvider, Presentation, TxtRecord};

/// Writes TXT records by running a program, as lego's provider `exec` and certbot's manual hooks do.
/// Programs that were written for these can be used as they are.
///
/// A program is run directly and never through a shell, with the process's environment, without
/// standard input, and on Unix in a process group of its own. It must end within a
/// [`timeout`](Self::timeout), and with success; else it is killed, on Unix with its whole group. So
/// it is when an issuance is dropped. What it prints is read and, but for its first and last KB,
/// thrown away; these are in the error where it fails.
///
/// Programs are run one at a time, as lego and certbot run them, since many rely on it.
///
/// Clones share that.
///
/// ```
/// # #[cfg(feature = "dns-01")] {
/// use certwright::solver::DnsProgram;
///
/// let provider = DnsProgram::exec("/usr/local/bin/update-dns").env("DNS_VIEW", "external");
/// # let _ = provider; }
/// ```
#[derive(Clone, Debug)]
pub struct DnsProgram {
    convention: Convention,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    timeout: Duration,
    turns: Arc<Semaphore>,
    /// What certbot's authentication hooks printed, for their clean-up hooks. An entry is there
    /// while its record is.
    outputs: Arc<Mutex<HashMap<(String, String), String>>>,
}

impl DnsProgram {
    /// A program by the convention of lego's `exec`: `PROGRAM present FQDN VALUE` and
    /// `PROGRAM cleanup FQDN VALUE`, the name with a dot at its end.
    pub fn exec(program: impl Into<PathBuf>) -> Self {
        Self::following(Convention::Exec(program.into()))
    }

    /// A program by the convention of lego's `exec` with `EXEC_MODE=RAW`:
    /// `PROGRAM present -- DOMAIN TOKEN KEY_AUTHORIZATION`, and the same with `cleanup`. The program
    /// computes name and value itself, so it can't be led to another name by a CNAME.
    pub fn exec_raw(program: impl Into<PathBuf>) -> Self {
        Self::following(Convention::ExecRaw(program.into()))
    }

    /// A program by the convention of certbot's `--manual-auth-hook`, and one by that of its
    /// `--manual-cleanup-hook`, where one is needed.
    ///
    /// They are told by their environment: `CERTBOT_DOMAIN` (without `*.`), `CERTBOT_VALIDATION`,
    /// and for the second `CERTBOT_AUTH_OUTPUT`, which is what the first wrote to standard output,
    /// 64 KiB at most. Each value is told as if it were the only one of its certificate:
    /// `CERTBOT_REMAINING_CHALLENGES` is 0, and `CERTBOT_ALL_DOMAINS` is the one domain. There is no
    /// `CERTBOT_TOKEN`, which is for http-01.
    ///
    /// Certbot gives a hook's text to a shell. This is a path, and arguments go to
    /// [`arg`](Self::arg).
    pub fn certbot_hooks(authentication: impl Into<PathBuf>, clean_up: Option<PathBuf>) -> Self {
        Self::following(Convention::Certbot {
            authentication: authentication.into(),
            clean_up,
        })
    }

    fn following(convention: Convention) -> Self {
        Self {
            convention,
            arguments: Vec::new(),
            environment: Vec::new(),
            timeout: Duration::from_secs(120),
            turns: Arc::new(Semaphore::new(1)),
            outputs: Arc::default(),
        }
    }

    /// Adds an argument of one's own, which goes before those of the convention.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Sets a variable of the program's environment.
    #[must_use]
    pub fn env(mut self, variable: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let (variable, value) = (variable.as_ref().to_owned(), value.as_ref().to_owned());
        self.environment.push((variable, value));
        self
    }

    /// How long one run may take, once its turn has come: by default 120 seconds.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How many may run at once: by default 1, and never less.
    #[must_use]
    pub fn side_by_side(mut self, runs: usize) -> Self {
        self.turns = Arc::new(Semaphore::new(runs.clamp(1, Semaphore::MAX_PERMITS)));
        self
    }

    async fn call(&self, action: Action, record: &TxtRecord) -> Result<(), DnsProgramError> {
        let Some(program) = self.convention.program(action) else {
            return Ok(());
        };
        let mut command = Command::new(program);
        command.args(&self.arguments);
        command.envs(
            self.environment
                .iter()
                .map(|(variable, value)| (variable, value)),
        );
        let key = (record.name().to_owned(), record.value().to_owned());
        match &self.convention {
            Convention::Exec(_) => {
                command.args([
                    action.word(),
                    &format!("{}.", record.name()),
                    record.value(),
                ]);
            }
            Convention::ExecRaw(_) => {
                let raw = record.presentation().and_then(|presentation| {
                    let token = presentation.token()?.as_str();
                    let answer = presentation.key_authorization()?.as_str();
                    Some((domain(presentation), token, answer))
                });
                let (domain, token, answer) = raw.ok_or_else(|| DnsProgramError::NoToken {
                    program: program.to_owned(),
                })?;
                command.args([action.word(), "--", &domain, token, answer]);
            }
            Convention::Certbot { .. } => {
                let domain = match record.presentation() {
                    Some(presentation) => domain(presentation),
                    None => {
                        let name = record.name();
                        name.strip_prefix("_acme-challenge.")
                            .unwrap_or(name)
                            .to_owned()
                    }
                };
                command
                    .env("CERTBOT_DOMAIN", &domain)
                    .env("CERTBOT_VALIDATION", record.value())
                    .env("CERTBOT_REMAINING_CHALLENGES", "0")
                    .env("CERTBOT_ALL_DOMAINS", &domain);
                match action {
                    Action::Present => command.env_remove("CERTBOT_AUTH_OUTPUT"),
                    Action::CleanUp => {
                        let output = self.outputs().get(&key).cloned().unwrap_or_default();
                        command.env("CERTBOT_AUTH_OUTPUT", output)
                    }
                };
            }
        }

        let keep = match (&self.convention, action) {
            (Convention::Certbot { .. }, Action::Present) => AUTH_OUTPUT,
            _ => 0,
        };
        // It is never closed.
        let _turn = self.turns.acquire().await;
        let output = run(command, program, action, self.timeout, keep).await?;
        match (keep, action) {
            (0, Action::Present) => {}
            (_, Action::Present) => {
                let text = String::from_utf8_lossy(&output).replace('\0', "");
                self.outputs().insert(key, text.trim().to_owned());
            }
            (_, Action::CleanUp) => {
                self.outputs().remove(&key);
            }
        }
        debug!(program = %program.display(), action = action.word(), name = record.name(), "program run");
        Ok(())
    }

    fn outputs(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), String>> {
        self.outputs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl DnsProvider for DnsProgram {
    async fn add(&self, record: &TxtRecord) -> Result<(), BoxError> {
        Ok(self.call(Action::Present, record).await?)
    }

    async fn remove(&self, record: &TxtRecord) -> Result<(), BoxError> {
        Ok(self.call(Action::CleanUp, record).await?)
    }
}

#[derive(Clone, Debug)]
enum Convention {
    Exec(PathBuf),
    ExecRaw(PathBuf),
    Certbot {
        authentication: PathBuf,
        clean_up: Option<PathBuf>,
    },
}

impl Convention {
    fn program(&self, action: Action) -> Option<&Path> {
        match (self, action) {
            (Self::Exec(program) | Self::ExecRaw(program), _) => Some(program),
            (Self::Certbot { authentication, .. }, Action::Present) => Some(authentication),
            (Self::Certbot { clean_up, .. }, Action::CleanUp) => clean_up.as_deref(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Present,
    CleanUp,
}

impl Action {
    fn word(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::CleanUp => "cleanup",
        }
    }
}

/// The name of a challenge's identifier, without `*.`.
fn domain(presentation: &Presentation) -> String {
    match presentation.identifier() {
        Identifier::Dns(name) => {
            let name = name.as_str();
            name.strip_prefix("*.").unwrap_or(name).to_owned()
        }
        other => other.to_string(),
    }
}

/// Runs a program to its end, and gives the first `keep` octets of its standard output.
async fn run(
    mut command: Command,
    program: &Path,
    action: Action,
    limit: Duration,
    keep: usize,
) -> Result<Vec<u8>, DnsProgramError> {
    let error = |fault| {
        let (program, action) = (program.to_owned(), action.word());
        move |source| DnsProgramError::Io {
            program,
            action,
            fault,
            source,
        }
    };
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    #[cfg(unix)]
    command.process_group(0);
    let mut running = Running(command.spawn().map_err(error("be started"))?);
    let (stdout, stderr) = (running.0.stdout.take(), running.0.stderr.take());
    let (mut out, mut err) = (Excerpt::keeping(keep), Excerpt::keeping(0));

    let ended = {
        let mut reading = std::pin::pin!(async {
            tokio::join!(read(stdout, &mut out), read(stderr, &mut err));
        });
        let waiting = async {
            tokio::select! {
                status = running.0.wait() => {
                    // A process that it left behind may hold the pipes open. What comes from that
                    // is not waited for.
                    let _ = timeout(Duration::from_secs(1), reading).await;
                    status
                }
                // A program may close its output long before it ends.
                () = &mut reading => running.0.wait().await,
            }
        };
        timeout(limit, waiting).await
    };
    match ended {
        Ok(Ok(status)) if status.success() => Ok(out.kept),
        Ok(Ok(status)) => Err(DnsProgramError::Failed {
            program: program.to_owned(),
            action: action.word(),
            status,
            stdout: out.text(),
            stderr: err.text(),
        }),
        Ok(Err(source)) => Err(error("be waited for")(source)),
        Err(_) => Err(DnsProgramError::Timeout {
            program: program.to_owned(),
            action: action.word(),
            limit,
            stdout: out.text(),
            stderr: err.text(),
        }),
    }
}

/// A child that is killed with its process group, unless it has ended by itself.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // There is an identifier as long as nobody has waited for the child, so that it is not
        // another process's. The child itself is killed by tokio, which then waits for it.
        #[cfg(unix)]
        if let Some(group) = self
            .0
            .id()
            .and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?))
        {
            // An error means that the group is gone.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

/// Reads to the end, or to an error, which for a pipe is an end too.
async fn read(from: Option<impl AsyncRead + Unpin>, to: &mut Excerpt) {
    let Some(mut from) = from else {
        return;
    };
    let mut buffer = [0; 8 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        to.push(buffer.get(..length).unwrap_or_default());
    }
}

/// The start and the end of what a program printed.
struct Excerpt {
    /// What is needed beyond the excerpt.
    kept: Vec<u8>,
    keep: usize,
    first: Vec<u8>,
    last: Vec<u8>,
    left_out: u64,
}

impl Excerpt {
    fn keeping(keep: usize) -> Self {
        Self {
            kept: Vec::new(),
            keep,
            first: Vec::new(),
            last: Vec::new(),
            left_out: 0,
        }
    }

    fn push(&mut self, octets: &[u8]) {
        let room = self.keep.saturating_sub(self.kept.len());
        self.kept.extend(octets.iter().take(room));
        let room = EXCERPT.saturating_sub(self.first.len());
        let (first, rest) = octets.split_at_checked(room).unwrap_or((octets, &[]));
        self.first.extend_from_slice(first);
        self.last.extend_from_slice(rest);
        let surplus = self.last.len().saturating_sub(EXCERPT);
        self.last.drain(..surplus);
        self.left_out = self.left_out.saturating_add(surplus as u64);
    }

    fn text(&self) -> String {
        let last = String::from_utf8_lossy(&self.last);
        let mut text = String::from_utf8_lossy(&self.first).into_owned();
        if self.left_out > 0 {
            let _ = write!(text, " […{} octets…] ", self.left_out);
        }
        text.push_str(&last);
        text.truncate(text.trim_end().len());
        text
    }
}

/// Why [`DnsProgram`] could not add or remove a record.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DnsProgramError {
    /// The program ended otherwise than with success.
    #[error("`{} … {action}` ended with {status}{}", .program.display(), printed(.stdout, .stderr))]
    Failed {
        /// The program.
        program: PathBuf,
        /// `present` or `cleanup`.
        action: &'static str,
        /// Its exit code or the signal that ended it.
        status: ExitStatus,
        /// The first and the last KB of its standard output.
        stdout: String,
        /// The first and the last KB of its standard error.
        stderr: String,
    },
    /// The system could not run the program.
    #[error("`{}` cannot {fault} ({action}): {source}", .program.display())]
    Io {
        /// The program.
        program: PathBuf,
        /// `present` or `cleanup`.
        action: &'static str,
        /// What failed, as in "cannot *be started*".
        fault: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The record is for no challenge with a token, which [`DnsProgram::exec_raw`] needs.
    #[error(
        "`{}` wants the challenge's token, and there is none: use DnsProgram::exec",
        .program.display()
    )]
    NoToken {
        /// The program.
        program: PathBuf,
    },
    /// The program ran longer than this, and was killed.
    #[error(
        "`{} … {action}` did not end within {} s and was killed{}",
        .program.display(), .limit.as_secs_f32(), printed(.stdout, .stderr)
    )]
    Timeout {
        /// The program.
        program: PathBuf,
        /// `present` or `cleanup`.
        action: &'static str,
        /// How long it might have run.
        limit: Duration,
        /// The first and the last KB of its standard output.
        stdout: String,
        /// The first and the last KB of its standard error.
        stderr: String,
    },
}

fn printed(stdout: &str, stderr: &str) -> String {
    let mut text = String::new();
    for (stream, printed) in [("error", stderr), ("output", stdout)] {
        if !printed.is_empty() {
            let _ = write!(text, "; standard {stream}: {}", printable(printed));
        }
    }
    text
}

/// As much of the start, and of the end, of what a program prints is in an error, in octets.
const EXCERPT: usize = 1024;
/// As much as Linux takes in one variable is twice this.
const AUTH_OUTPUT: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_start_and_end_of_much_output() {
        for size in [1, 7, 1000, 5000] {
            let mut excerpt = Excerpt::keeping(10);
            let octets: Vec<u8> = (0..5000_u32).map(|n| b'a' + (n % 26) as u8).collect();
            for chunk in octets.chunks(size) {
                excerpt.push(chunk);
            }
            let text = excerpt.text();
            let (first, last) = text.split_once(" […2952 octets…] ").unwrap();
            assert_eq!(first.as_bytes(), &octets[..1024]);
            assert_eq!(last.as_bytes(), &octets[5000 - 1024..]);
            assert_eq!(excerpt.kept, &octets[..10]);
        }
    }

    #[test]
    fn keeps_little_output_whole() {
        let mut excerpt = Excerpt::keeping(0);
        excerpt.push(&[b'x'; 1500]);
        excerpt.push(b"\n");
        assert_eq!(excerpt.text(), "x".repeat(1500));
    }
}
