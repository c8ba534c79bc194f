use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;
use tokio::runtime::Handle;
use tracing::warn;

use crate::error::BoxError;
use crate::solver::{ChallengeSolver, Presentation};

/// The answers that are, or may be, visible. None of them outlives this.
#[derive(Default)]
pub(super) struct Presented {
    answers: Mutex<Vec<Answer>>,
}

type Answer = (Arc<dyn ChallengeSolver>, Arc<Presentation>);

impl Presented {
    /// Notes that an answer is about to be presented.
    pub(super) fn add(&self, solver: Arc<dyn ChallengeSolver>, presentation: Arc<Presentation>) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.push((solver, presentation));
    }

    /// Takes all answers away, side by side, and returns those where that failed.
    ///
    /// It runs in a task of its own, so that it ends also where its caller is dropped meanwhile.
    pub(super) async fn clean_up(mut self) -> Vec<(Arc<Presentation>, BoxError)> {
        let answers = self.take();
        if answers.is_empty() {
            return Vec::new();
        }
        // The task can only fail by a solver's panic, which tokio reports by itself.
        tokio::spawn(clean_up(answers)).await.unwrap_or_default()
    }

    fn take(&mut self) -> Vec<Answer> {
        std::mem::take(
            self.answers
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

impl Drop for Presented {
    fn drop(&mut self) {
        let answers = self.take();
        if answers.is_empty() {
            return;
        }
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(clean_up(answers))),
            Err(_) => {
                warn!(
                    "answers to challenges stay presented: there is no runtime to take them away"
                );
            }
        }
    }
}

async fn clean_up(answers: Vec<Answer>) -> Vec<(Arc<Presentation>, BoxError)> {
    let results = answers.into_iter().map(|(solver, presentation)| async move {
        let error = solver.clean_up(&presentation).await.err()?;
        warn!(identifier = %presentation.identifier(), %error, "the answer to a challenge stays presented");
        Some((presentation, error))
    });
    join_all(results).await.into_iter().flatten().collect()
}
