use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::attempts::{Attempts, Validated};
use super::checkpoint::{Checkpoint, CheckpointStore};
use super::event::{Event, Observer};
use crate::account::Account;
use crate::certificate::Certificate;
use crate::error::{CheckpointFault, Error};
use crate::order::{Order, OrderBuilder};
use crate::protocol::{Identifier, Problem};
use crate::solver::ChallengeSolver;
use crate::x509::{CertificateKey, ChainChoice, Csr};

/// The steps of an issuance, whatever the certificate is requested by.
pub(super) struct Flow {
    pub(super) account: Account,
    pub(super) order: OrderBuilder,
    pub(super) solvers: Vec<Arc<dyn ChallengeSolver>>,
    pub(super) chain: ChainChoice,
    pub(super) chain_required: bool,
    pub(super) max_orders: u32,
    pub(super) timeout: Duration,
    pub(super) clean_up_timeout: Duration,
    pub(super) observer: Observer,
    pub(super) consent: Option<Consent>,
    pub(super) store: Option<Arc<dyn CheckpointStore>>,
    /// The certificate's key, as it is stored.
    pub(super) key: Option<Zeroizing<String>>,
    pub(super) resumed: Option<Checkpoint>,
}

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
            max_orders: 3,
            timeout: Self::TIMEOUT,
            clean_up_timeout: Duration::from_secs(2 * 60),
            observer: Observer::default(),
            consent: None,
            store: None,
            key: None,
            resumed: None,
        }
    }

    pub(super) fn resume(account: Account, checkpoint: Checkpoint) -> Self {
        let order = checkpoint.order_builder(&account);
        Self {
            resumed: Some(checkpoint),
            ..Self::new(account, order)
        }
    }

    /// Notes the certificate's key, where it is to be stored.
    pub(super) fn keep_key(&mut self, key: &CertificateKey) -> Result<(), Error> {
        if self.store.is_some() {
            self.key = Some(key.to_pkcs8_pem()?);
        }
        Ok(())
    }

    pub(super) fn deadline(&self) -> Instant {
        let start = Instant::now();
        start
            .checked_add(self.timeout)
            .unwrap_or(start + Self::TIMEOUT)
    }

    /// Creates the order, and brings it to where the CSR can be sent. Where the CA could not validate
    /// and another solver may do better, it creates another one.
    pub(super) async fn validated_order(
        &self,
        public_key_info: &[u8],
        deadline: Instant,
    ) -> Result<Validated, Error> {
        // What would fail in the end is better known before there is an order.
        self.account.check_key(public_key_info)?;
        if let Some(checkpoint) = &self.resumed
            && checkpoint.account() != self.account.url()
        {
            return Err(CheckpointFault::OtherAccount(checkpoint.account().clone()).into());
        }
        Attempts::run(self, deadline).await
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

    pub(super) fn emit(&self, event: &Event<'_>) {
        self.observer.emit(event);
    }
}
