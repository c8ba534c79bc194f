use std::sync::Arc;

use futures_util::future::try_join_all;
use tokio::time::Instant;

use super::attempts::Attempts;
use super::checkpoint::Checkpoint;
use super::choice::Candidate;
use super::event::Event;
use super::presented::Presented;
use crate::authorization::Authorization;
use crate::challenge::tell_ready;
use crate::error::{BoxError, Error, Operation, SolverFailure, SolverStep, ValidationFailure};
use crate::order::Order;
use crate::protocol::{AuthorizationStatus, ChallengeResponse, ChallengeStatus, Url};
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
        let mut ready = Vec::new();
        // Each round rules out a solver or a type, so there are only so many. The CA has heard of
        // nothing yet, so another of the same authorization's challenges can be taken.
        while !fresh.is_empty() {
            let mut tasks = std::mem::take(&mut fresh);
            for step in Self::STEPS {
                if step == SolverStep::Present {
                    self.keep(&tasks).await?;
                }
                let failures = self.take_step(&mut tasks, step).await?;
                let mut done = Vec::with_capacity(tasks.len());
                for (task, failure) in tasks.into_iter().zip(failures) {
                    match failure {
                        Some(source) => fresh.push(self.replace(task, step, source)?),
                        None => done.push(task),
                    }
                }
                tasks = done;
            }
            ready.extend(tasks.into_iter().map(Ready::from));
        }
        self.tell_ready(&ready).await
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
        let presentation = Presentation::new(
            authorization.identifier(),
            authorization.offer(&candidate.kind)?.clone(),
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

    /// Has the solvers take a step. For each task in which that failed, the result says why.
    async fn take_step(
        &self,
        tasks: &mut [Task],
        step: SolverStep,
    ) -> Result<Vec<Option<BoxError>>, Error> {
        let futures = tasks.iter_mut().map(async |task| {
            let result = self.run(task, step).await;
            Ok(result.err())
        });
        let futures: Vec<_> = futures.collect();
        match step {
            // Mere waiting, so that all of it takes as long as the slowest.
            SolverStep::Wait => try_join_all(futures).await,
            _ => self.order.account().client().side_by_side(futures).await,
        }
    }

    async fn run(&self, task: &mut Task, step: SolverStep) -> Result<(), BoxError> {
        let presentation = &task.presentation;
        let solver = &task.candidate.solver;
        match step {
            SolverStep::Check => {
                let identifier = presentation.identifier();
                self.attempts.check(identifier, &task.candidate).await
            }
            SolverStep::Present => {
                // From here on it is taken away again, also where presenting it fails halfway.
                self.presented.add(solver.clone(), presentation.clone());
                solver.present(presentation).await?;
                self.attempts.emit(&Event::Presented { presentation });
                Ok(())
            }
            SolverStep::Wait => solver.wait(presentation).await,
            SolverStep::Response => {
                task.response = solver.response(presentation).await?;
                Ok(())
            }
            SolverStep::CleanUp => Ok(()),
        }
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

    /// Tells the CA, and returns when it is worth a look at how validation went.
    async fn tell_ready(&self, challenges: &[Ready]) -> Result<Instant, Error> {
        let account = self.order.account();
        let requests = challenges.iter().map(async |ready| {
            let sent = Instant::now();
            let Ready {
                authorization,
                presentation,
                response,
            } = ready;
            let challenge = &presentation.challenge().url;
            let told = tell_ready(account, authorization, challenge, response).await?;
            self.attempts.emit(&Event::ChallengeReady { presentation });
            // Some CAs validate before they answer.
            Ok(match told.status {
                ChallengeStatus::Valid => sent,
                _ => sent + Pace::VALIDATING,
            })
        });
        let looks = account.client().side_by_side(requests.collect()).await?;
        Ok(looks.into_iter().max().unwrap_or_else(Instant::now))
    }
}

/// A challenge to solve, and the solver for it.
struct Task {
    authorization: Authorization,
    candidate: Candidate,
    presentation: Arc<Presentation>,
    response: ChallengeResponse,
}

/// A challenge that is solved. The authorization with all its challenges is of no use any more.
struct Ready {
    authorization: Url,
    presentation: Arc<Presentation>,
    response: ChallengeResponse,
}

impl From<Task> for Ready {
    fn from(task: Task) -> Self {
        Self {
            authorization: task.authorization.url().clone(),
            presentation: task.presentation,
            response: task.response,
        }
    }
}
