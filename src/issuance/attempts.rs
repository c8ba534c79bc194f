use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep, timeout_at};
use tracing::info;

use super::checkpoint::{Checkpoint, Record};
use super::choice::{Candidate, Choice, may_be_the_solvers};
use super::event::Event;
use super::flow::Flow;
use super::presented::{CleanUp, Presented};
use super::proof::Proof;
use crate::authorization::Authorization;
use crate::error::{
    BoxError, Error, IssuanceFailure, Operation, SolverFailure, SolverStep, Timeout,
    ValidationFailure,
};
use crate::order::{Order, OrderBuilder, Replacement};
use crate::protocol::{Identifier, OrderStatus, Problem, ProblemType, Url};
use crate::session::Pace;
use crate::solver::{AccountContext, Leftover};

/// The orders of one issuance, until one is validated.
pub(super) struct Attempts<'a> {
    flow: &'a Flow,
    pub(super) choice: Choice,
    pub(super) record: Record,
    deadline: Instant,
    history: Mutex<History>,
}

impl Attempts<'_> {
    /// Validation of one name takes CAs some seconds, and begins for all names at once.
    const LONGEST_SETTLING: Duration = Duration::from_secs(30);

    /// Creates orders until one is where the CSR can be sent.
    pub(super) async fn run(flow: &Flow, deadline: Instant) -> Result<Validated, Error> {
        let (store, key) = (flow.store.clone(), flow.key.clone());
        let attempts = Attempts {
            flow,
            choice: Choice::new(flow.solvers.clone()),
            record: Record::new(store, &flow.account, &flow.order, key),
            deadline,
            history: Mutex::default(),
        };
        let result = attempts.make().await;
        let history = attempts.history.into_inner();
        let history = history.unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok((order, clean_up)) => Ok(Validated {
                order,
                clean_up,
                history,
            }),
            Err(error) => Err(history.end(error)),
        }
    }

    async fn make(&self) -> Result<(Order, CleanUp), Error> {
        let flow = self.flow;
        if let Some(checkpoint) = &flow.resumed
            && let Some(taken_up) = Box::pin(self.take_up(checkpoint)).await?
        {
            return Ok(taken_up);
        }
        // What one order leaves out, the next one leaves out too.
        let mut builder = flow.order.clone();
        let mut orders = 0;
        loop {
            let order = self.order(&mut builder).await?;
            orders += 1;
            let presented = Presented::new(flow.observer.clone(), flow.clean_up_timeout);
            let result = self.validate(&order, &presented).await;
            // Whatever happened: the order's fate is known, or of no interest any more.
            let clean_up = presented.clean_up();
            let Err(error) = result else {
                return Ok((order, clean_up));
            };
            let leftovers = clean_up.leftovers().await;
            self.note(|history| history.leftovers.extend(leftovers));

            let may_go_on = orders < flow.max_orders && Instant::now() < self.deadline;
            if !may_go_on || !self.has_other_solvers(&error) {
                return Err(error);
            }
            self.emit(&Event::OrderFailed {
                order: &order,
                error: &error,
            });
            self.note(|history| history.earlier.push(error));
        }
    }

    /// Goes on with the order of a checkpoint, where there is one that is of use still.
    async fn take_up(&self, checkpoint: &Checkpoint) -> Result<Option<(Order, CleanUp)>, Error> {
        let flow = self.flow;
        let Checkpoint {
            identifiers,
            order,
            presented: inherited,
            ..
        } = checkpoint;
        self.record.note(|record| {
            record.identifiers.clone_from(identifiers);
            record.order.clone_from(order);
            record.presented.clone_from(inherited);
        });
        let presented = Presented::new(flow.observer.clone(), flow.clean_up_timeout);
        for presentation in inherited {
            let leftover = presented.inherit(&flow.solvers, presentation);
            self.note(|history| history.leftovers.extend(leftover));
        }

        let result = match self.earlier_order(order.as_ref()).await {
            Ok(Some(order)) => {
                self.emit(&Event::OrderResumed { order: &order });
                let result = self.validate(&order, &presented).await;
                result
                    .map_err(|error| (Some(order.clone()), error))
                    .map(|()| Some(order))
            }
            Ok(None) => Ok(None),
            Err(error) => Err((None, error)),
        };
        let clean_up = presented.clean_up();
        if let Ok(Some(order)) = result {
            return Ok(Some((order, clean_up)));
        }
        let leftovers = clean_up.leftovers().await;
        self.note(|history| history.leftovers.extend(leftovers));
        match result {
            // It may have failed for nobody was there to answer, so it is not counted.
            Err((Some(order), error)) if self.may_be_of_the_break(&error) => {
                self.emit(&Event::OrderFailed {
                    order: &order,
                    error: &error,
                });
                self.note(|history| history.earlier.push(error));
                Ok(None)
            }
            Err((_, error)) => Err(error),
            Ok(_) => Ok(None),
        }
    }

    /// The order of a checkpoint. `None` where there is none, or none that is of use still.
    async fn earlier_order(&self, url: Option<&Url>) -> Result<Option<Order>, Error> {
        let Some(url) = url else {
            return Ok(None);
        };
        let account = &self.flow.account;
        let fetched = timeout_at(self.deadline, account.order(url.clone())).await;
        let order =
            match fetched.unwrap_or_else(|_| Err(self.timed_out(Operation::Order, url, None))) {
                Ok(order) => order,
                Err(error) if is_gone(&error) => {
                    info!(order = %url, %error, "the order is gone, and another is made");
                    return Ok(None);
                }
                Err(error) => return Err(error),
            };
        let state = order.state();
        let is_of_use = match state.status {
            // An order that the CA has given up stays as it was at some CAs.
            OrderStatus::Pending | OrderStatus::Ready => !state.has_expired(SystemTime::now()),
            OrderStatus::Processing | OrderStatus::Valid => true,
            _ => false,
        };
        if !is_of_use {
            info!(order = %url, status = %state.status, "the order is of no use any more, and another is made");
        }
        Ok(is_of_use.then_some(order))
    }

    /// Whether an order may have failed since the process that presented the answers was gone.
    fn may_be_of_the_break(&self, error: &Error) -> bool {
        Instant::now() < self.deadline
            && match error {
                Error::OrderFailed(_) => true,
                Error::ValidationFailed(failure) => failure
                    .failures
                    .iter()
                    .all(|failed| failed.problem.as_ref().is_none_or(may_be_the_solvers)),
                _ => false,
            }
    }

    /// Whether other solvers may do better where the CA could not validate.
    fn has_other_solvers(&self, error: &Error) -> bool {
        match error {
            Error::ValidationFailed(failure) => failure
                .failures
                .iter()
                .all(|failed| self.choice.has_other(failed)),
            _ => false,
        }
    }

    async fn order(&self, builder: &mut OrderBuilder) -> Result<Order, Error> {
        let creating = async {
            // A solver that can't solve anything for a name is better known before there is an order.
            let identifiers = builder.identifiers()?;
            let checks = identifiers
                .iter()
                .map(|identifier| self.prepare(identifier));
            let client = self.flow.account.client();
            client.side_by_side(checks.collect()).await?;
            self.begin_record(builder).await?;
            self.create_order(builder).await
        };
        let created = timeout_at(self.deadline, creating).await;
        let order = created.unwrap_or_else(|_| {
            let url = self.flow.account.client().session().directory_url();
            Err(self.timed_out(Operation::NewOrder, url, None))
        })?;
        self.emit(&Event::OrderCreated { order: &order });
        if let Replacement::Refused(problem) = order.replacement() {
            self.emit(&Event::ReplacementRefused {
                order: &order,
                problem,
            });
        }
        self.record_order(&order, builder).await?;
        Ok(order)
    }

    /// Keeps what is about to be ordered, and what is presented of earlier orders.
    async fn begin_record(&self, builder: &OrderBuilder) -> Result<(), Error> {
        let identifiers = builder.identifiers()?.to_vec();
        let mut presented = Vec::new();
        self.note(|history| {
            let leftovers = history.leftovers.iter();
            presented.extend(leftovers.map(|leftover| leftover.presentation().clone()));
        });
        let begin = |checkpoint: &mut Checkpoint| {
            checkpoint.identifiers = identifiers;
            checkpoint.order = None;
            checkpoint.presented = presented;
        };
        self.record.change(begin).await
    }

    /// Keeps the order's URL, and which of the identifiers the CA took.
    async fn record_order(&self, order: &Order, builder: &OrderBuilder) -> Result<(), Error> {
        let identifiers = builder.identifiers()?.to_vec();
        let url = order.url().clone();
        let note = |checkpoint: &mut Checkpoint| {
            checkpoint.identifiers = identifiers;
            checkpoint.order = Some(url);
        };
        let stored = timeout_at(self.deadline, self.record.change(note)).await;
        stored.unwrap_or_else(|_| {
            let status = Some(order.status().to_string());
            Err(self.timed_out(Operation::NewOrder, order.url(), status))
        })
    }

    fn timed_out(&self, operation: Operation, url: &Url, status: Option<String>) -> Error {
        Error::TimedOut(Box::new(Timeout {
            operation,
            url: url.clone(),
            waited: self.flow.timeout,
            status,
            problem: None,
        }))
    }

    /// Has the solver that will probably be taken for an identifier check what it needs.
    async fn prepare(&self, identifier: &Identifier) -> Result<(), Error> {
        let mut last: Option<SolverFailure> = None;
        loop {
            let Some(candidate) = self.choice.candidate(identifier) else {
                let may_have_other = self.choice.may_have_other(identifier);
                return match last {
                    Some(failure) if may_have_other => {
                        self.go_on_after(failure);
                        Ok(())
                    }
                    Some(failure) => Err(Error::Solver(Box::new(failure))),
                    None if may_have_other => Ok(()),
                    None => Err(self.choice.none(identifier)),
                };
            };
            if let Some(failure) = last.take() {
                self.go_on_after(failure);
            }
            let Err(source) = self.check(identifier, &candidate).await else {
                return Ok(());
            };
            let failure = SolverFailure {
                identifier: identifier.clone(),
                challenge_type: candidate.kind.clone(),
                step: SolverStep::Check,
                source,
            };
            self.rule_out(&candidate, &failure);
            last = Some(failure);
        }
    }

    /// Has a solver check what it needs for an identifier, where it has not done so.
    pub(super) async fn check(
        &self,
        identifier: &Identifier,
        candidate: &Candidate,
    ) -> Result<(), BoxError> {
        if !self.choice.begin_check(identifier, candidate) {
            return Ok(());
        }
        let account = &self.flow.account;
        let directory = account.client().directory().await?;
        let context = AccountContext::new(account.url().clone(), *account.thumbprint(), directory);
        candidate.solver.check(identifier, &context).await
    }

    /// Creates the order, perhaps without some of the identifiers.
    async fn create_order(&self, builder: &mut OrderBuilder) -> Result<Order, Error> {
        loop {
            self.prepare_nonces(builder).await?;
            let error = match builder.order().await {
                Ok(order) => return Ok(order),
                Err(error) => error,
            };
            let (Some(consent), Error::Refused(refusal)) = (&self.flow.consent, &error) else {
                return Err(error);
            };
            let ordered = builder.identifiers()?;
            let mut rejected = refusal.problem.by_identifier();
            rejected.retain(|(identifier, _)| ordered.contains(identifier));
            let none_left = rejected.len() >= ordered.len();
            let refused =
                |&(identifier, problem): &(&Identifier, &Problem)| !consent(identifier, problem);
            if rejected.is_empty() || none_left || rejected.iter().any(refused) {
                return Err(error);
            }
            for &(identifier, problem) in &rejected {
                self.emit(&Event::Dropped {
                    identifier,
                    problem,
                });
            }
            let unwanted: Vec<_> = rejected
                .iter()
                .map(|&(identifier, _)| identifier.clone())
                .collect();
            builder.without(&unwanted)?;
        }
    }

    /// Has nonces come for the authorizations while newOrder is under way, one for each of those that
    /// will be fetched at once.
    async fn prepare_nonces(&self, builder: &OrderBuilder) -> Result<(), Error> {
        let client = self.flow.account.client();
        let requests = builder.identifiers()?.len().min(client.concurrency());
        client.session().prepare_nonces(requests).await
    }

    async fn validate(&self, order: &Order, presented: &Presented) -> Result<(), Error> {
        // The CA may have answered with an order that the account had already.
        match order.status() {
            OrderStatus::Pending => {}
            OrderStatus::Ready | OrderStatus::Processing | OrderStatus::Valid => return Ok(()),
            _ => return order.wait_ready_within(Duration::ZERO).await,
        }

        let proof = Proof {
            attempts: self,
            order,
            presented,
        };
        let given = timeout_at(self.deadline, proof.give()).await;
        let first_look = given.unwrap_or_else(|_| {
            let status = Some(order.status().to_string());
            Err(self.timed_out(Operation::Challenge, order.url(), status))
        })?;
        let left = self.deadline.saturating_duration_since(Instant::now());
        match order.wait_ready_from(first_look, left).await {
            Ok(()) => {
                self.emit(&Event::Validated { order });
                Ok(())
            }
            Err(Error::ValidationFailed(failure)) => {
                let failure = self.settled(*failure).await;
                Err(Error::ValidationFailed(Box::new(failure)))
            }
            Err(error) => Err(error),
        }
    }

    /// Waits until the CA has come to an end with the other authorizations of an order that failed.
    /// Till then their answers have to stay, and it is not known which of them fail, too.
    async fn settled(&self, mut failure: ValidationFailure) -> ValidationFailure {
        let longest = Instant::now() + Self::LONGEST_SETTLING;
        let pace = Pace::new(Instant::now(), longest.min(self.deadline));
        while !failure.pending.is_empty() {
            let Some(pause) = pace.pause(None, Instant::now()) else {
                break;
            };
            sleep(pause).await;
            let account = &self.flow.account;
            let looks = std::mem::take(&mut failure.pending).into_iter();
            let looks = looks.map(|url| Authorization::fetch(account.clone(), url));
            let Ok(looks) = account.client().side_by_side(looks.collect()).await else {
                break;
            };
            for authorization in looks {
                failure.failures.extend(authorization.failure());
                if authorization.is_being_validated() {
                    failure.pending.push(authorization.url().clone());
                }
            }
        }
        failure
    }

    /// Takes a solver that failed out of the choice. One whose check failed can't solve any type.
    pub(super) fn rule_out(&self, candidate: &Candidate, failure: &SolverFailure) {
        match failure.step {
            SolverStep::Check => self.choice.rule_out_solver(&failure.identifier, candidate),
            _ => self.choice.rule_out(&failure.identifier, candidate),
        }
    }

    /// Notes that a solver failed whose place another one takes.
    pub(super) fn go_on_after(&self, failure: SolverFailure) {
        self.emit(&Event::SolverFailed { failure: &failure });
        let error = Error::Solver(Box::new(failure));
        self.note(|history| history.earlier.push(error));
    }

    pub(super) fn emit(&self, event: &Event<'_>) {
        self.flow.emit(event);
    }

    fn note(&self, note: impl FnOnce(&mut History)) {
        note(&mut self.history.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Whether the CA has no such order any more. Let's Encrypt says `malformed` with the status 404.
fn is_gone(error: &Error) -> bool {
    match error {
        Error::Refused(refusal) => {
            matches!(refusal.status, 404 | 410) || refusal.problem.kind == ProblemType::Malformed
        }
        _ => false,
    }
}

/// An order that can be finalized, while its answers are being taken away.
pub(super) struct Validated {
    pub(super) order: Order,
    clean_up: CleanUp,
    history: History,
}

impl Validated {
    /// Waits until the answers are taken away, and adds to the result what could not be.
    pub(super) async fn end<T>(
        self,
        result: Result<T, Error>,
    ) -> Result<(T, Vec<Leftover>), Error> {
        let mut history = self.history;
        history.leftovers.extend(self.clean_up.leftovers().await);
        match result {
            Ok(value) => Ok((value, history.leftovers)),
            Err(error) => Err(history.end(error)),
        }
    }
}

/// What an issuance has to tell in the end, beside its result.
#[derive(Default)]
struct History {
    earlier: Vec<Error>,
    leftovers: Vec<Leftover>,
}

impl History {
    /// The error of the whole issuance.
    fn end(self, cause: Error) -> Error {
        if self.earlier.is_empty() && self.leftovers.is_empty() {
            return cause;
        }
        Error::Issuance(Box::new(IssuanceFailure {
            cause,
            earlier: self.earlier,
            leftovers: self.leftovers,
        }))
    }
}
