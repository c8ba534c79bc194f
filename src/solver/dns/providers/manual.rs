use std::fmt;
use std::future::Future;
use std::io::{BufRead, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;
use tokio::sync::{Mutex as AsyncMutex, oneshot};
use tokio::time::sleep;

use crate::error::BoxError;
use crate::protocol::printable;
use crate::solver::{DnsProvider, TxtRecord};

/// Has a person, or a program's own code, write the TXT records.
///
/// The records of one order come together: whatever comes within half a second of the first is
/// shown at once, so a person edits the zone once and gives the word once. While they are at it,
/// further records wait for their turn.
///
/// The wait has no end of its own. It ends with the issuance, whose
/// [`timeout`](crate::issuance::Issuance::timeout) should be set for a person's pace.
///
/// Clones share what is to be shown.
///
/// ```
/// # #[cfg(feature = "dns-01")] {
/// use std::io::{BufReader, stderr, stdin};
/// use certwright::solver::ManualDns;
///
/// let provider = ManualDns::terminal(BufReader::new(stdin()), stderr());
/// # let _ = provider; }
/// ```
///
/// Or by code of one's own, for instance a ticket:
///
/// ```
/// # #[cfg(feature = "dns-01")] {
/// use certwright::solver::{ManualDns, ManualDnsStep};
///
/// # async fn open_ticket(_: String) -> Result<(), certwright::BoxError> { Ok(()) }
/// let provider = ManualDns::new(|step| async move {
///     match step {
///         ManualDnsStep::Add(records) => {
///             let lines = records.iter().map(|record| {
///                 format!("{}. {} TXT \"{}\"\n", record.name(), record.ttl().as_secs(), record.value())
///             });
///             open_ticket(lines.collect()).await
///         }
///         _ => Ok(()),
///     }
/// });
/// # let _ = provider; }
/// ```
#[derive(Clone)]
pub struct ManualDns {
    adding: Arc<Lane>,
    removing: Arc<Lane>,
}

/// What is to be done by hand.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ManualDnsStep {
    /// Add these values, and leave others at the same names alone. Two may have one name: both
    /// must be there.
    Add(Vec<TxtRecord>),
    /// Remove these values; they are of no use any more. Nothing waits for it.
    Remove(Vec<TxtRecord>),
}

impl ManualDns {
    /// Hands each step to this function, whose future ends when the step is done. An error in it
    /// ends the issuances whose records they are.
    ///
    /// Steps of one kind come one after the other. The future is dropped when the issuances that
    /// wait for it all are.
    pub fn new<F, S>(carry_out: F) -> Self
    where
        F: Fn(ManualDnsStep) -> S + Send + Sync + 'static,
        S: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let carry_out: Arc<CarryOut> = Arc::new(move |step| Box::pin(carry_out(step)));
        let lane = |step: fn(Vec<TxtRecord>) -> ManualDnsStep| {
            Arc::new(Lane {
                step,
                carry_out: Arc::clone(&carry_out),
                waiting: Mutex::default(),
                turn: AsyncMutex::default(),
            })
        };
        Self {
            adding: lane(ManualDnsStep::Add),
            removing: lane(ManualDnsStep::Remove),
        }
    }

    /// Shows records on a terminal, and waits for the Enter key. Removals are shown and not waited
    /// for. The end of the input is an error.
    ///
    /// Reading blocks, so it is done on a thread of its own. Where an issuance ends in between, the
    /// thread goes on reading, and the next line of input is lost.
    pub fn terminal(
        input: impl BufRead + Send + 'static,
        output: impl Write + Send + 'static,
    ) -> Self {
        let (input, output) = (Arc::new(Mutex::new(input)), Arc::new(Mutex::new(output)));
        Self::new(move |step| {
            let (input, output) = (Arc::clone(&input), Arc::clone(&output));
            async move {
                let waits = matches!(step, ManualDnsStep::Add(_));
                {
                    let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
                    output.write_all(page(&step).as_bytes())?;
                    output.flush()?;
                }
                if !waits {
                    return Ok(());
                }
                let (done, word) = oneshot::channel();
                // Tokio would wait for a blocking task of its own when the runtime ends.
                std::thread::Builder::new()
                    .name("manual DNS".to_owned())
                    .spawn(move || {
                        let mut input = input.lock().unwrap_or_else(PoisonError::into_inner);
                        // Nobody may be waiting any more.
                        let _ = done.send(skip_line(&mut *input));
                    })?;
                match word.await {
                    Ok(Ok(true)) => Ok(()),
                    Ok(Ok(false)) | Err(_) => Err("the input ended before the Enter key".into()),
                    Ok(Err(error)) => Err(error.into()),
                }
            }
        })
    }
}

impl fmt::Debug for ManualDns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManualDns").finish_non_exhaustive()
    }
}

#[async_trait]
impl DnsProvider for ManualDns {
    async fn add(&self, record: &TxtRecord) -> Result<(), BoxError> {
        Ok(self.adding.submit(record).await?)
    }

    async fn remove(&self, record: &TxtRecord) -> Result<(), BoxError> {
        Ok(self.removing.submit(record).await?)
    }
}

type CarryOut = dyn Fn(ManualDnsStep) -> Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>
    + Send
    + Sync;

/// A record, and who waits for it.
type Submitted = (TxtRecord, oneshot::Sender<Result<(), ManualDnsError>>);

/// The steps of one kind.
struct Lane {
    step: fn(Vec<TxtRecord>) -> ManualDnsStep,
    carry_out: Arc<CarryOut>,
    waiting: Mutex<Vec<Submitted>>,
    turn: AsyncMutex<()>,
}

impl Lane {
    async fn submit(self: &Arc<Self>, record: &TxtRecord) -> Result<(), ManualDnsError> {
        let (answer, answered) = oneshot::channel();
        let is_first = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.push((record.clone(), answer));
            waiting.len() == 1
        };
        if is_first {
            // A task, so that the others are served where the first is given up.
            tokio::spawn(Arc::clone(self).carry_out());
        }
        answered.await.unwrap_or(Err(ManualDnsError::Ended))
    }

    async fn carry_out(self: Arc<Self>) {
        let _turn = self.turn.lock().await;
        sleep(GATHER).await;
        let mut submitted = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *waiting)
        };
        submitted.retain(|(_, answer)| !answer.is_closed());
        let (records, mut answers): (Vec<_>, Vec<_>) = submitted.into_iter().unzip();
        if records.is_empty() {
            return;
        }
        let all_gone = async {
            for answer in &mut answers {
                answer.closed().await;
            }
        };
        let result = tokio::select! {
            result = (self.carry_out)((self.step)(records)) => result,
            () = all_gone => return,
        };
        let result = result.map_err(|error| ManualDnsError::Declined(Arc::from(error)));
        for answer in answers {
            // Who gave up needs no answer.
            let _ = answer.send(result.clone());
        }
    }
}

/// Why [`ManualDns`] got no word that a record is there.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ManualDnsError {
    /// What was asked to do it failed.
    #[error("the record was not published by hand: {0}")]
    Declined(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// What was asked to do it panicked, or the runtime is ending.
    #[error("what publishes records by hand ended before it had answered")]
    Ended,
}

/// Reads a line and forgets it. The answer is whether there was one.
fn skip_line(input: &mut impl BufRead) -> std::io::Result<bool> {
    let mut any = false;
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(any);
        }
        any = true;
        let end = buffer.iter().position(|octet| *octet == b'\n');
        let used = end.map_or(buffer.len(), |end| end.saturating_add(1));
        input.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

/// What a person is shown.
fn page(step: &ManualDnsStep) -> String {
    let (title, records, prompt) = match step {
        ManualDnsStep::Add(records) => (
            "Add these TXT records, and leave others at the same names as they are:",
            records,
            "Press Enter when all of them are published. ",
        ),
        ManualDnsStep::Remove(records) => ("These TXT records may be removed:", records, ""),
    };
    let lines = records.iter().map(|record| {
        let (name, value) = (printable(record.name()), printable(record.value()));
        let value = value.replace('\\', "\\\\").replace('"', "\\\"");
        format!("  {name}. {} IN TXT \"{value}\"\n", record.ttl().as_secs())
    });
    let lines: String = lines.collect();
    format!("\n{title}\n\n{lines}\n{prompt}")
}

/// How long after the first record others may come to be shown with it.
const GATHER: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};
    use std::sync::mpsc;

    use super::*;

    fn record(value: &str) -> TxtRecord {
        TxtRecord::new("_acme-challenge.example.com", value)
    }

    /// What a function is handed, and its answer to each.
    fn steps() -> (ManualDns, Arc<Mutex<Vec<Vec<String>>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let provider = ManualDns::new(move |step| {
            let (word, records) = match step {
                ManualDnsStep::Add(records) => ("add", records),
                ManualDnsStep::Remove(records) => ("remove", records),
            };
            let values = records.iter().map(|record| record.value().to_owned());
            let step = std::iter::once(word.to_owned()).chain(values).collect();
            log.lock().unwrap().push(step);
            async { Ok(()) }
        });
        (provider, seen)
    }

    #[tokio::test(start_paused = true)]
    async fn records_that_come_together_are_shown_together() {
        let (provider, seen) = steps();
        let (a, b) = (record("a"), record("b"));
        let both = tokio::join!(provider.add(&a), provider.add(&b));
        assert!(both.0.is_ok() && both.1.is_ok());
        provider.add(&record("c")).await.unwrap();
        provider.remove(&a).await.unwrap();
        let seen = seen.lock().unwrap().clone();
        assert_eq!(
            seen,
            [vec!["add", "a", "b"], vec!["add", "c"], vec!["remove", "a"]]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_record_that_was_given_up_is_not_shown() {
        let (provider, seen) = steps();
        let (a, b) = (record("a"), record("b"));
        let given_up = tokio::time::timeout(GATHER / 2, provider.add(&a));
        let (given_up, shown) = tokio::join!(given_up, provider.add(&b));
        assert!(given_up.is_err() && shown.is_ok());
        assert_eq!(*seen.lock().unwrap(), [["add", "b"]]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_told_to_all() {
        let provider = ManualDns::new(|_| async { Err("the zone is frozen".into()) });
        let (a, b) = (record("a"), record("b"));
        let (a, b) = tokio::join!(provider.add(&a), provider.add(&b));
        for error in [a.unwrap_err(), b.unwrap_err()] {
            assert!(error.to_string().contains("the zone is frozen"), "{error}");
        }
    }

    /// What is written to a terminal.
    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(octets)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// A keyboard: gives what was typed, and waits for more.
    struct Keyboard(mpsc::Receiver<&'static [u8]>);

    impl Read for Keyboard {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let mut typed = self.0.recv().unwrap_or_default();
            typed.read(buffer)
        }
    }

    #[tokio::test]
    async fn a_person_presses_enter_once_for_all() {
        let screen = Screen::default();
        let (keys, typed) = mpsc::channel();
        let provider = ManualDns::terminal(BufReader::new(Keyboard(typed)), screen.clone());
        let text = || String::from_utf8(screen.0.lock().unwrap().clone()).unwrap();

        let (a, b) = (record("a"), record("b\x1b[2J\""));
        let adding = async { tokio::join!(provider.add(&a), provider.add(&b)) };
        let typing = async {
            while !text().contains("Press Enter") {
                tokio::task::yield_now().await;
            }
            keys.send(&b"\n"[..]).unwrap();
        };
        let ((first, second), ()) = tokio::join!(adding, typing);
        assert!(first.is_ok() && second.is_ok());
        assert_eq!(text().matches("Press Enter").count(), 1);
        assert!(text().contains("  _acme-challenge.example.com. 60 IN TXT \"a\"\n"));
        assert!(text().contains("TXT \"b [2J\\\"\"\n"), "{}", text());

        provider.remove(&a).await.unwrap();
        assert!(text().contains("may be removed"));
        drop(keys);
        let error = provider.add(&a).await.unwrap_err();
        assert!(error.to_string().contains("the input ended"), "{error}");
    }
}
