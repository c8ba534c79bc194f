//! One certificate, from names to a checked chain, built upon the public parts of the other layers.

mod event;
mod presented;

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tracing::info;

pub use self::event::Event;
use self::presented::Presented;
use crate::account::Account;
use crate::authorization::Authorization;
use crate::certificate::Certificate;
use crate::error::{Error, NoSolver, Operation, SolverFailure, SolverStep, Timeout};
use crate::order::{Order, OrderBuilder};
use crate::protocol::{AuthorizationStatus, Identifier, InvalidIdentifier, OrderStatus};
use crate::solver::{ChallengeSolver, Presentation};
use crate::x509::{CertificateChain, CertificateKey, Csr};

impl Account {
    /// Begins the issuance of a certificate for these names.
    ///
    /// ```no_run
    /// # #[cfg(feature = "http-01")]
    /// # async fn example(account: certwright::Account) -> Result<(), Box<dyn std::error::Error>> {
    /// use certwright::solver::Http01Server;
    ///
    /// let issued = account
    ///     .issue(["example.com", "www.example.com"])
    ///     .solver(Http01Server::on_port(80).await?)
    ///     .await?;
    /// std::fs::write("chain.pem", issued.chain().pem())?;
    /// # Ok(()) }
    /// ```
    pub fn issue<I>(&self, identifiers: I) -> Issuance
    where
        I: IntoIterator<Item: TryInto<Identifier, Error: Into<InvalidIdentifier>>>,
    {
        Issuance {
            account: self.clone(),
            order: self.new_order(identifiers),
            solvers: Vec::new(),
            key: None,
            timeout: Self::ISSUE_TIMEOUT,
            observer: None,
        }
    }

    const ISSUE_TIMEOUT: Duration = Duration::from_secs(10 * 60);
}

/// The issuance of one certificate. Await it to run it.
///
/// It creates the order; presents the answers to all challenges side by side; tells the CA that they
/// are ready; polls the order; sends a CSR; downloads the chain and checks it; and takes the answers
/// away again, whatever happened before.
///
/// Dropped halfway, it still takes the answers away, in a task of its own.
#[must_use = "nothing happens before it is awaited"]
pub struct Issuance {
    account: Account,
    order: OrderBuilder,
    solvers: Vec<Arc<dyn ChallengeSolver>>,
    key: Option<CertificateKey>,
    timeout: Duration,
    observer: Option<Observer>,
}

type Observer = Arc<dyn Fn(&Event<'_>) + Send + Sync>;

impl Issuance {
    /// Adds a solver. For each identifier the first is taken that can solve a challenge which the
    /// CA offers.
    pub fn solver(mut self, solver: impl ChallengeSolver) -> Self {
        self.solvers.push(Arc::new(solver));
        self
    }

    /// Adds a solver that is shared already.
    pub fn shared_solver(mut self, solver: Arc<dyn ChallengeSolver>) -> Self {
        self.solvers.push(solver);
        self
    }

    /// Uses this key. By default a new one is generated for each certificate; [`Event::Finalizing`]
    /// hands it out before the CA hears of it.
    pub fn key(mut self, key: CertificateKey) -> Self {
        self.key = Some(key);
        self
    }

    /// Asks for a profile that the CA's directory lists (draft-ietf-acme-profiles).
    pub fn profile(mut self, profile: impl Into<String>) -> Self {
        self.order = self.order.profile(profile);
        self
    }

    /// How long all of it may take, from the order to the certificate. Default: 10 minutes. Taking
    /// the answers away comes on top.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Calls this with each step, as it happens, to show progress. It must not block.
    pub fn on_event(mut self, observer: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    async fn run(self) -> Result<Issued, Error> {
        // A solver that can't solve anything for a name is better known before there is an order.
        for identifier in self.order.identifiers()? {
            self.check_solvable(identifier)?;
        }
        let start = Instant::now();
        let deadline = start
            .checked_add(self.timeout)
            .unwrap_or(start + Account::ISSUE_TIMEOUT);
        let key = match &self.key {
            Some(key) => key.clone(),
            None => CertificateKey::generate()?,
        };
        self.account.check_key(key.public_key_info())?;

        let creation = timeout_at(deadline, self.order.clone().create()).await;
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

        if order.status() == OrderStatus::Pending {
            self.prove_control(&order, deadline).await?;
        }
        let csr = Csr::new(&key, &order.state().identifiers)?;
        self.emit(&Event::Finalizing {
            order: &order,
            key: &key,
        });
        let left = deadline.saturating_duration_since(Instant::now());
        let certificate = order.finalize_within(&csr, left).await?;
        info!(order = %order.url(), certificate = %certificate.url(), "issued");
        self.emit(&Event::Issued {
            certificate: &certificate,
        });
        Ok(Issued {
            certificate,
            key,
            order,
        })
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
        prepared.unwrap_or_else(|_| {
            Err(Error::TimedOut(Box::new(Timeout {
                operation: Operation::Challenge,
                url: order.url().clone(),
                waited: self.timeout,
                status: Some(order.status().to_string()),
                problem: None,
            })))
        })?;

        let left = deadline.saturating_duration_since(Instant::now());
        order.wait_ready_within(left).await?;
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

    async fn tell_ready(&self, tasks: &[Task]) -> Result<(), Error> {
        let requests = tasks.iter().map(|task| async move {
            task.challenge.ready().await?;
            self.emit(&Event::ChallengeReady {
                presentation: &task.presentation,
            });
            Ok(())
        });
        self.account
            .client()
            .side_by_side(requests.collect())
            .await?;
        Ok(())
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

    fn emit(&self, event: &Event<'_>) {
        tracing::debug!(%event);
        if let Some(observer) = &self.observer {
            observer(event);
        }
    }
}

impl IntoFuture for Issuance {
    type Output = Result<Issued, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for Issuance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuance")
            .field("order", &self.order)
            .finish_non_exhaustive()
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

/// A certificate, with its key: what an [`Issuance`] ends in.
#[derive(Clone, Debug)]
pub struct Issued {
    certificate: Certificate,
    key: CertificateKey,
    order: Order,
}

impl Issued {
    /// The certificate chain, checked against the names, the key and the time.
    pub fn chain(&self) -> &CertificateChain {
        self.certificate.chain()
    }

    /// The certificate's key.
    pub fn key(&self) -> &CertificateKey {
        &self.key
    }

    /// The certificate, as the CA keeps it.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The order that the certificate came of.
    pub fn order(&self) -> &Order {
        &self.order
    }
}
