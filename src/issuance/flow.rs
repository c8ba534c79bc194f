use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use super::event::Event;
use super::presented::Presented;
use crate::account::Account;
use crate::authorization::Authorization;
use crate::certificate::Certificate;
use crate::error::{Error, NoSolver, Operation, SolverFailure, SolverStep, Timeout};
use crate::order::{Order, OrderBuilder, Replacement};
use crate::protocol::{AuthorizationStatus, ChallengeStatus, Identifier, OrderStatus, Problem};
use crate::session::Pace;
use crate::solver::{ChallengeSolver, Presentation};
use crate::x509::{ChainChoice, Csr};

/// The steps of an issuance, whatever the certificate is requested by.
pub(super) struct Flow {
    account: Account,
    pub(super) order: OrderBuilder,
    pub(super) solvers: Vec<Arc<dyn ChallengeSolver>>,
    pub(super) chain: ChainChoice,
    pub(super) chain_required: bool,
    pub(super) timeout: Duration,
    pub(super) observer: Option<Observer>,
    pub(super) consent: Option<Consent>,
}

type Observer = Arc<dyn Fn(&Event<'_>) + Send + Sync>;
type Consent = Arc<dyn Fn(&Identifier, &Problem) -> bool + Send + Sync>;

impl Flow {
    const TIMEOUT: Duration = Duration::from_secs(10 * 60);

    pub(super) fn new(account: Account, order: OrderBuilder) -> Self {
        Self {
            account,
            order,
            solvers: Vec::new(),
            chain: ChainChoice::default(),
            chain_required: false,
            timeout: Self::TIMEOUT,
            observer: None,
            consent: None,
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        let start = Instant::now();
        start
            .checked_add(self.timeout)
            .unwrap_or(start + Self::TIMEOUT)
    }

    /// Creates the order, and brings it to where the CSR can be sent.
    pub(super) async fn validated_order(
        &self,
        public_key_info: &[u8],
        deadline: Instant,
    ) -> Result<Order, Error> {
        // What would fail in the end is better known before there is an order.
        self.account.check_key(public_key_info)?;
        // A solver that can't solve anything for a name is better known before there is an order.
        for identifier in self.order.identifiers()? {
            self.check_solvable(identifier)?;
        }
        let creation = timeout_at(deadline, self.create_order()).await;
        let order = creation.unwrap_or_else(|_| {
            let url = self.account.client().session().directory_url();
            Err(Error::TimedOut(Box::new(Timeout {
                operation: Operation::NewOrder,
                url: url.clone(),
                waited: self.timeout,
                status: None,
                problem: None,
            })))
        })?;
        self.emit(&Event::OrderCreated { order: &order });
        if let Replacement::Refused(problem) = order.replacement() {
            self.emit(&Event::ReplacementRefused {
                order: &order,
                problem,
            });
        }

        // The CA may have answered with an order that the account had already.
        match order.status() {
            OrderStatus::Pending => self.prove_control(&order, deadline).await?,
            OrderStatus::Ready | OrderStatus::Processing | OrderStatus::Valid => {}
            _ => order.wait_ready_within(Duration::ZERO).await?,
        }
        Ok(order)
    }

    /// Creates the order, perhaps without some of the identifiers.
    async fn create_order(&self) -> Result<Order, Error> {
        let mut builder = self.order.clone();
        loop {
            let error = match builder.clone().create().await {
                Ok(order) => return Ok(order),
                Err(error) => error,
            };
            let (Some(consent), Error::Refused(refusal)) = (&self.consent, &error) else {
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

    pub(super) async fn finalize(
        &self,
        order: &Order,
        csr: &Csr,
        deadline: Instant,
    ) -> Result<Certificate, Error> {
        let left = deadline.saturating_duration_since(Instant::now());
        let certificate = order.finalize_within(csr, left).await?;
        let certificate = self.choose_chain(certificate, deadline).await?;
        info!(order = %order.url(), certificate = %certificate.url(), "issued");
        self.emit(&Event::Issued {
            certificate: &certificate,
        });
        Ok(certificate)
    }

    async fn choose_chain(
        &self,
        certificate: Certificate,
        deadline: Instant,
    ) -> Result<Certificate, Error> {
        // The certificate is issued: alternate chains that do not come in time do not undo that.
        let chosen = timeout_at(deadline, certificate.choose(&self.chain)).await;
        let chosen = chosen.unwrap_or_else(|_| {
            warn!(certificate = %certificate.url(), "the alternate chains did not come in time");
            certificate.unmatched()
        });
        match chosen.is_as_chosen() || !self.chain_required {
            true => Ok(chosen),
            false => Err(certificate.no_chain(&self.chain)),
        }
    }

    async fn prove_control(&self, order: &Order, deadline: Instant) -> Result<(), Error> {
        let presented = Presented::default();
        let result = self.solve(order, deadline, &presented).await;
        // Whatever happened: the order's fate is known, or of no interest any more.
        for (presentation, error) in presented.clean_up().await {
            self.emit(&Event::CleanUpFailed {
                identifier: presentation.identifier(),
                error: &error,
            });
        }
        result
    }

    async fn solve(
        &self,
        order: &Order,
        deadline: Instant,
        presented: &Presented,
    ) -> Result<(), Error> {
        let preparing = async {
            let tasks = self.choose(&order.authorizations().await?)?;
            self.present(&tasks, presented).await?;
            self.tell_ready(&tasks).await
        };
        let prepared = timeout_at(deadline, preparing).await;
        let first_look = prepared.unwrap_or_else(|_| {
            Err(Error::TimedOut(Box::new(Timeout {
                operation: Operation::Challenge,
                url: order.url().clone(),
                waited: self.timeout,
                status: Some(order.status().to_string()),
                problem: None,
            })))
        })?;

        let left = deadline.saturating_duration_since(Instant::now());
        order.wait_ready_from(first_look, left).await?;
        self.emit(&Event::Validated { order });
        Ok(())
    }

    /// For each authorization that is not valid yet, a solver and the challenge for it.
    fn choose(&self, authorizations: &[Authorization]) -> Result<Vec<Task>, Error> {
        let mut tasks = Vec::new();
        for authorization in authorizations {
            let identifier = authorization.identifier();
            if *authorization.status() == AuthorizationStatus::Valid {
                self.emit(&Event::AlreadyAuthorized {
                    identifier: &identifier,
                });
                continue;
            }
            let offered = authorization.offered();
            let choice = self.solvers.iter().find_map(|solver| {
                let kind = offered
                    .iter()
                    .find(|kind| solver.can_solve(&identifier, kind))?;
                Some((solver.clone(), kind.clone()))
            });
            let (solver, kind) = choice.ok_or_else(|| {
                Error::NoSolver(Box::new(NoSolver {
                    identifier: identifier.clone(),
                    offered,
                }))
            })?;
            let challenge = authorization.challenge(kind)?;
            let presentation = Presentation::new(
                identifier,
                challenge.state().clone(),
                self.account.url().clone(),
                self.account.thumbprint(),
            )
            .map_err(|error| Error::reply(Operation::Authorization, authorization.url(), error))?;
            tasks.push(Task {
                solver,
                challenge,
                presentation: Arc::new(presentation),
            });
        }
        Ok(tasks)
    }

    /// Presents every answer before waiting for any to be seen.
    async fn present(&self, tasks: &[Task], presented: &Presented) -> Result<(), Error> {
        let client = self.account.client();
        let presentations = tasks.iter().map(|task| async move {
            // From here on it is taken away again, also where presenting it fails halfway.
            presented.add(task.solver.clone(), task.presentation.clone());
            let result = task.solver.present(&task.presentation).await;
            result.map_err(|error| task.failed(SolverStep::Present, error))?;
            self.emit(&Event::Presented {
                presentation: &task.presentation,
            });
            Ok(())
        });
        client.side_by_side(presentations.collect()).await?;
        let waits = tasks.iter().map(|task| async move {
            let result = task.solver.wait(&task.presentation).await;
            result.map_err(|error| task.failed(SolverStep::Wait, error))
        });
        client.side_by_side(waits.collect()).await?;
        Ok(())
    }

    /// Tells the CA that it can validate, and returns when it is worth a look at how that went.
    async fn tell_ready(&self, tasks: &[Task]) -> Result<Instant, Error> {
        let requests = tasks.iter().map(|task| async move {
            let sent = Instant::now();
            let challenge = task.challenge.ready().await?;
            self.emit(&Event::ChallengeReady {
                presentation: &task.presentation,
            });
            // Some CAs validate before they answer.
            Ok(match challenge.status {
                ChallengeStatus::Valid => sent,
                _ => sent + Pace::VALIDATING,
            })
        });
        let client = self.account.client();
        let looks = client.side_by_side(requests.collect()).await?;
        Ok(looks.into_iter().max().unwrap_or_else(Instant::now))
    }

    fn check_solvable(&self, identifier: &Identifier) -> Result<(), Error> {
        let known = crate::protocol::ChallengeType::KNOWN;
        let solvable = self
            .solvers
            .iter()
            .any(|solver| known.iter().any(|kind| solver.can_solve(identifier, kind)));
        // A solver for a type without a name here can only be asked once the CA has offered it.
        let wildcard_or_address =
            identifier.is_wildcard() || matches!(identifier, Identifier::Ip(_));
        match solvable || (!self.solvers.is_empty() && !wildcard_or_address) {
            true => Ok(()),
            false => Err(Error::NoSolver(Box::new(NoSolver {
                identifier: identifier.clone(),
                offered: Vec::new(),
            }))),
        }
    }

    pub(super) fn emit(&self, event: &Event<'_>) {
        tracing::debug!(%event);
        if let Some(observer) = &self.observer {
            observer(event);
        }
    }
}

/// A challenge, and the solver for it.
struct Task {
    solver: Arc<dyn ChallengeSolver>,
    challenge: crate::challenge::Challenge,
    presentation: Arc<Presentation>,
}

impl Task {
    fn failed(&self, step: SolverStep, source: crate::BoxError) -> Error {
        Error::Solver(Box::new(SolverFailure {
            identifier: self.presentation.identifier().clone(),
            challenge_type: self.challenge.kind().clone(),
            step,
            source,
        }))
    }
}
