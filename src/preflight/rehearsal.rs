use std::sync::Arc;
use std::time::Duration;

use p256::elliptic_curve::common::getrandom::SysRng;
use p256::elliptic_curve::rand_core::TryRng;
use tokio::time::{Instant, timeout, timeout_at};

use super::PreflightFault;
use super::probe::Probe;
use crate::error::BoxError;
use crate::jose::{AccountKey, Signer};
use crate::protocol::{Base64Url, Challenge, ChallengeType, Identifier, Url};
use crate::solver::{AccountContext, ChallengeSolver, Presentation};

/// A challenge that no CA has made, solved all the same.
pub(super) struct Rehearsal {
    pub(super) solver: Arc<dyn ChallengeSolver>,
    pub(super) identifier: Identifier,
    pub(super) kind: ChallengeType,
    pub(super) context: Option<AccountContext>,
    /// What is looked at while the answer is there.
    pub(super) probe: Probe,
    pub(super) deadline: Instant,
    pub(super) limit: Duration,
}

impl Rehearsal {
    /// In a task of its own, so that what was presented is taken away even where nobody waits for
    /// the outcome any more.
    pub(super) async fn run(self, clean_up_limit: Duration) -> Vec<PreflightFault> {
        let task = tokio::spawn(async move {
            let presentation = match self.presentation() {
                Ok(presentation) => presentation,
                Err(error) => return vec![PreflightFault::Present(error)],
            };
            let mut faults = timeout_at(self.deadline, self.solve(&presentation))
                .await
                .unwrap_or_else(|_| {
                    vec![PreflightFault::TimedOut {
                        doing: "in the solver's rehearsal",
                        limit: self.limit,
                    }]
                });
            let cleaning = self.solver.clean_up(&presentation);
            match timeout(clean_up_limit, cleaning).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => faults.push(PreflightFault::CleanUp(error)),
                Err(elapsed) => faults.push(PreflightFault::CleanUp(elapsed.into())),
            }
            faults
        });
        task.await
            .unwrap_or_else(|error| vec![PreflightFault::Present(error.into())])
    }

    async fn solve(&self, presentation: &Presentation) -> Vec<PreflightFault> {
        if let Err(error) = self.solver.present(presentation).await {
            return vec![PreflightFault::Present(error)];
        }
        if let Err(error) = self.solver.wait(presentation).await {
            return vec![PreflightFault::Wait(error)];
        }
        self.probe.of_presented(presentation).await
    }

    fn presentation(&self) -> Result<Presentation, BoxError> {
        let mut random = [0; 18];
        SysRng.try_fill_bytes(&mut random)?;
        let random = Base64Url::from(&random[..]).to_string();
        let challenge = Challenge::pending(
            self.kind.clone(),
            Url::parse(NOWHERE)?,
            // So that whoever finds it left behind knows what it is.
            Some(format!("certwright-preflight-{random}")),
        );
        let (account, thumbprint) = match &self.context {
            Some(context) => (context.account().clone(), *context.thumbprint()),
            // Nobody verifies it.
            None => (
                Url::parse(NOWHERE)?,
                AccountKey::generate()?.public_key().thumbprint(),
            ),
        };
        Ok(Presentation::new(
            self.identifier.clone(),
            challenge,
            account,
            &thumbprint,
        )?)
    }
}

/// The URL of what the CA knows nothing of (RFC 6761 §6.4).
const NOWHERE: &str = "https://preflight.invalid/";
