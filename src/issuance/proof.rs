use std::sync::Arc;

use futures_util::future::try_join_all;
use tokio::time::Instant;

use super::checkpoint::Checkpoint;
use super::choice::Candidate;
use super::event::Event;
use super::flow::Attempts;
use super::presented::Presented;
use crate::authorization::Authorization;
use crate::challenge::Challenge;
use crate::error::{BoxError, Error, Operation, SolverFailure, SolverStep, ValidationFailure};
use crate::order::Order;
use crate::protocol::{AuthorizationStatus, ChallengeResponse, ChallengeStatus};
use crate::session::Pace;
use crate::solver::Presentation;

/// The proof of control of one order's identifiers.
pub(super) struct Proof<'a> {
    pub(super) attempts: &'a Attempts<'a>,
    pub(super) order: &'a Order,
    pub(super) presented: &'a Presented,
}

impl Proof<'_> {
    /// The solvers' steps, each of them for all challenges before the next one.
    const STEPS: [SolverStep; 4] = [
        SolverStep::Check,
        SolverStep::Present,
        SolverStep::Wait,
        SolverStep::Response,
    ];

    /// Solves the challenges, tells the CA, and returns when it is worth a look at how that went.
    pub(super) async fn give(&self) -> Result<Instant, Error> {
        let mut fresh = self.tasks(self.order.authorizations().await?)?;
        let mut prepared = Vec::new();
        // Each round rules out a solver or a type, so there are only so many. The CA has heard of
        // nothing yet, so another of the same authorization's challenges can be taken.
        while !fresh.is_empty() {
            let mut tasks = std::mem::take(&mut fresh);
            for step in Self::STEPS {
                if step == SolverStep::Present {
                    self.keep(&tasks).await?;
                }
                let mut done = Vec::new();
                for outcome in self.take_step(tasks, step).await? {
                    match outcome {
                        Outcome::Done(task) => done.push(task),
                        Outcome::Replaced(task) => fresh.push(task),
                    }
                }
                tasks = done;
            }
            prepared.extend(tasks);
        }
        self.tell_ready(&prepared).await
    }

    /// A task for each authorization that is not valid yet. Of one that is dead, no challenge can be
    /// solved any more.
    fn tasks(&self, authorizations: Vec<Authorization>) -> Result<Vec<Task>, Error> {
        let choice = &self.attempts.choice;
        let dead = |authorization: &&Authorization| {
            matches!(
                authorization.status(),
                AuthorizationStatus::Deactivated
                    | AuthorizationStatus::Expired
                    | AuthorizationStatus::Invalid
                    | AuthorizationStatus::Revoked
            )
        };
        let dead = authorizations.iter().filter(dead);
        let failures: Vec<_> = dead.filter_map(Authorization::failure).collect();
        if !failures.is_empty() {
            let order = self.order.url().clone();
            let failure = ValidationFailure::new(order, failures);
            return Err(Error::ValidationFailed(Box::new(failure)));
        }

        let mut tasks = Vec::new();
        for authorization in authorizations {
            let identifier = authorization.identifier();
            if *authorization.status() == AuthorizationStatus::Valid {
                self.attempts.emit(&Event::AlreadyAuthorized {
                    identifier: &identifier,
                });
                continue;
            }
            choice.offer(&identifier, authorization.offered());
            let candidate = choice
                .candidate(&identifier)
                .ok_or_else(|| choice.none(&identifier))?;
            tasks.push(self.task(authorization, candidate)?);
        }
        Ok(tasks)
    }

    fn task(&self, authorization: Authorization, candidate: Candidate) -> Result<Task, Error> {
        let account = self.order.account();
        let challenge = authorization.challenge(candidate.kind.clone())?;
        let presentation = Presentation::new(
            authorization.identifier(),
            challenge.state().clone(),
            account.url().clone(),
            account.thumbprint(),
        )
        .map_err(|error| Error::reply(Operation::Authorization, authorization.url(), error))?;
        self.attempts
            .choice
            .try_next(presentation.identifier(), &candidate);
        Ok(Task {
            authorization,
            candidate,
            challenge,
            presentation: Arc::new(presentation),
            response: ChallengeResponse::empty(),
        })
    }

    /// Keeps what is about to be presented, so that another process can take it away.
    async fn keep(&self, tasks: &[Task]) -> Result<(), Error> {
        let about_to_be = tasks.iter().map(|task| &*task.presentation);
        let keep = |checkpoint: &mut Checkpoint| {
            let presented = &mut checkpoint.presented;
            for presentation in about_to_be {
                if !presented.iter().any(|known| known.is_same(presentation)) {
                    presented.push(presentation.clone());
                }
            }
        };
        match tasks.is_empty() {
            true => Ok(()),
            false => self.attempts.record.change(keep).await,
        }
    }

    async fn take_step(&self, tasks: Vec<Task>, step: SolverStep) -> Result<Vec<Outcome>, Error> {
        let futures: Vec<_> = tasks.into_iter().map(|task| self.run(task, step)).collect();
        match step {
            // Mere waiting, so that all of it takes as long as the slowest.
            SolverStep::Wait => try_join_all(futures).await,
            _ => self.order.account().client().side_by_side(futures).await,
        }
    }

    async fn run(&self, mut task: Task, step: SolverStep) -> Result<Outcome, Error> {
        let presentation = &task.presentation;
        let solver = &task.candidate.solver;
        let result = match step {
            SolverStep::Check => {
                let identifier = presentation.identifier();
                self.attempts.check(identifier, &task.candidate).await
            }
            SolverStep::Present => {
                // From here on it is taken away again, also where presenting it fails halfway.
                self.presented.add(solver.clone(), presentation.clone());
                solver.present(presentation).await
            }
            SolverStep::Wait => solver.wait(presentation).await,
            SolverStep::Response => match solver.response(presentation).await {
                Ok(response) => {
                    task.response = response;
                    Ok(())
                }
                Err(error) => Err(error),
            },
            SolverStep::CleanUp => Ok(()),
        };
        if let Err(source) = result {
            return self.replace(task, step, source).map(Outcome::Replaced);
        }
        if step == SolverStep::Present {
            self.attempts.emit(&Event::Presented {
                presentation: &task.presentation,
            });
        }
        Ok(Outcome::Done(task))
    }

    /// Another solver for the same authorization.
    fn replace(&self, task: Task, step: SolverStep, source: BoxError) -> Result<Task, Error> {
        let identifier = task.presentation.identifier().clone();
        let failure = SolverFailure {
            identifier: identifier.clone(),
            challenge_type: task.candidate.kind.clone(),
            step,
            source,
        };
        self.attempts.rule_out(&task.candidate, &failure);
        match self.attempts.choice.candidate(&identifier) {
            Some(candidate) => {
                self.attempts.go_on_after(failure);
                self.task(task.authorization, candidate)
            }
            None => Err(Error::Solver(Box::new(failure))),
        }
    }

    async fn tell_ready(&self, tasks: &[Task]) -> Result<Instant, Error> {
        let requests = tasks.iter().map(|task| async move {
            let sent = Instant::now();
            let challenge = task.challenge.ready_with(&task.response).await?;
            self.attempts.emit(&Event::ChallengeReady {
                presentation: &task.presentation,
            });
            // Some CAs validate before they answer.
            Ok(match challenge.status {
                ChallengeStatus::Valid => sent,
                _ => sent + Pace::VALIDATING,
            })
        });
        let client = self.order.account().client();
        let looks = client.side_by_side(requests.collect()).await?;
        Ok(looks.into_iter().max().unwrap_or_else(Instant::now))
    }
}

/// A challenge, and the solver for it.
struct Task {
    authorization: Authorization,
    candidate: Candidate,
    challenge: Challenge,
    presentation: Arc<Presentation>,
    response: ChallengeResponse,
}

/// What became of a task in a step.
enum Outcome {
    Done(Task),
    /// The solver failed, and this takes its place.
    Replaced(Task),
}
