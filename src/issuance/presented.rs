use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::event::{Event, Observer};
use crate::solver::{ChallengeSolver, Leftover, Presentation};

/// The answers that are, or may be, visible. When this is dropped, they are taken away.
pub(super) struct Presented {
    answers: Mutex<Vec<Answer>>,
    observer: Observer,
    timeout: Duration,
}

type Answer = (Arc<dyn ChallengeSolver>, Arc<Presentation>);

impl Presented {
    /// `timeout` is how long taking them away may take.
    pub(super) fn new(observer: Observer, timeout: Duration) -> Self {
        Self {
            answers: Mutex::default(),
            observer,
            timeout,
        }
    }

    /// Notes that an answer is about to be presented.
    pub(super) fn add(&self, solver: Arc<dyn ChallengeSolver>, presentation: Arc<Presentation>) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        // One that an earlier process presented is presented again, and taken away once.
        let known = answers
            .iter()
            .any(|(other, answer)| Arc::ptr_eq(other, &solver) && answer.is_same(&presentation));
        if !known {
            answers.push((solver, presentation));
        }
    }

    /// Notes that an earlier process has presented an answer, perhaps. By which solver is not known,
    /// so all that can are asked to take it away. Returns what nobody can.
    pub(super) fn inherit(
        &self,
        solvers: &[Arc<dyn ChallengeSolver>],
        presentation: &Presentation,
    ) -> Option<Leftover> {
        let kind = &presentation.challenge().kind;
        let mut able = solvers
            .iter()
            .filter(|solver| solver.can_solve(presentation.identifier(), kind))
            .peekable();
        if able.peek().is_none() {
            let reason = "no solver of this issuance can take it away";
            return Some(report(presentation, reason, &self.observer));
        }
        let presentation = Arc::new(presentation.clone());
        for solver in able {
            self.add(solver.clone(), presentation.clone());
        }
        None
    }

    /// Begins to take all answers away, in a task of its own, so that it ends also where its caller
    /// is dropped meanwhile.
    pub(super) fn clean_up(mut self) -> CleanUp {
        CleanUp(self.begin())
    }

    fn begin(&mut self) -> Option<JoinHandle<Vec<Leftover>>> {
        let answers = self.answers.get_mut();
        let answers = std::mem::take(answers.unwrap_or_else(PoisonError::into_inner));
        if answers.is_empty() {
            return None;
        }
        let observer = self.observer.clone();
        match Handle::try_current() {
            Ok(runtime) => Some(runtime.spawn(take_away(answers, observer, self.timeout))),
            Err(_) => {
                for (_, presentation) in answers {
                    report(&presentation, "there is no runtime to do it", &observer);
                }
                None
            }
        }
    }
}

impl Drop for Presented {
    fn drop(&mut self) {
        self.begin();
    }
}

/// Answers that are being taken away. Dropping this stops nothing.
#[must_use]
pub(super) struct CleanUp(Option<JoinHandle<Vec<Leftover>>>);

impl CleanUp {
    /// Waits until it is over. Returns what could not be taken away.
    pub(super) async fn leftovers(self) -> Vec<Leftover> {
        match self.0 {
            // The task can only fail by the observer's panic, which tokio reports by itself.
            Some(task) => task.await.unwrap_or_default(),
            None => Vec::new(),
        }
    }
}

/// Takes all answers away, side by side, and returns those where that failed.
async fn take_away(answers: Vec<Answer>, observer: Observer, timeout: Duration) -> Vec<Leftover> {
    let start = Instant::now();
    // A time without end is cut to what the clock can count.
    let deadline = start
        .checked_add(timeout)
        .unwrap_or(start + Duration::from_secs(86_400));
    let observer = &observer;
    let results = answers
        .into_iter()
        .map(|(solver, presentation)| async move {
            // In a task of its own, since a solver that panics must not leave the others' answers.
            let mut task = tokio::spawn({
                let presentation = presentation.clone();
                async move { solver.clean_up(&presentation).await }
            });
            let reason = match timeout_at(deadline, &mut task).await {
                Ok(Ok(Ok(()))) => return None,
                Ok(Ok(Err(error))) => error.to_string(),
                Ok(Err(_)) => "the solver panicked".to_owned(),
                Err(_) => {
                    task.abort();
                    format!("the solver was not done after {} s", timeout.as_secs_f64())
                }
            };
            Some(report(&presentation, &reason, observer))
        });
    join_all(results).await.into_iter().flatten().collect()
}

fn report(presentation: &Presentation, reason: &str, observer: &Observer) -> Leftover {
    let leftover = Leftover::new(presentation.clone(), reason);
    warn!(%leftover, "an answer to a challenge could not be taken away");
    observer.emit(&Event::CleanUpFailed {
        leftover: &leftover,
    });
    leftover
}
