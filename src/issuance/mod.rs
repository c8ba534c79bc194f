//! One certificate, from names to a checked chain, built upon the public parts of the other layers.

mod attempts;
mod checkpoint;
mod choice;
mod event;
mod flow;
mod presented;
mod proof;

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub use self::checkpoint::{Checkpoint, CheckpointStore};
pub use self::event::Event;
use self::event::Observer;
use self::flow::Flow;
use crate::account::Account;
use crate::certificate::Certificate;
use crate::error::{CheckpointFault, Error};
use crate::order::Order;
use crate::protocol::{Identifier, InvalidIdentifier, Problem};
use crate::solver::{ChallengeSolver, Leftover};
use crate::x509::{CertificateChain, CertificateKey, ChainChoice, Csr, InvalidCsr};

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
            request: CertificateKey::generate().map_err(Error::from),
            flow: Box::new(Flow::new(self.clone(), self.new_order(identifiers))),
        }
    }

    /// Begins the issuance of a certificate for a CSR that was made elsewhere, for the names that it
    /// holds. Its key stays where it is.
    ///
    /// ```no_run
    /// # #[cfg(feature = "http-01")]
    /// # async fn example(account: certwright::Account) -> Result<(), Box<dyn std::error::Error>> {
    /// use certwright::solver::Http01Server;
    /// use certwright::x509::Csr;
    ///
    /// let csr = Csr::from_der(&std::fs::read("request.der")?)?;
    /// let issued = account
    ///     .issue_csr(csr)
    ///     .solver(Http01Server::on_port(80).await?)
    ///     .await?;
    /// std::fs::write("chain.pem", issued.chain().pem())?;
    /// # Ok(()) }
    /// ```
    pub fn issue_csr(&self, csr: Csr) -> Issuance<Csr> {
        let other = csr
            .identifiers()
            .iter()
            .find_map(|identifier| match identifier {
                Identifier::Other(_) => Some(InvalidCsr::Identifier(identifier.to_string())),
                _ => None,
            });
        Issuance {
            flow: Box::new(Flow::new(self.clone(), self.new_order(csr.identifiers()))),
            request: match other {
                Some(fault) => Err(fault.into()),
                None => Ok(csr),
            },
        }
    }
}

impl Account {
    /// Goes on with an issuance that another process began, from what
    /// [`Issuance::checkpoint`] stored.
    ///
    /// The checkpoint has the key, what is ordered, and the order's URL. The rest is set again as it
    /// was at first: the solvers, in the same order; where to store; the chain; the times.
    ///
    /// It goes on with the order where that stands. Answers to challenges that are needed still are
    /// presented again, and those that are not are taken away. Where the order is invalid, expired or
    /// gone, or fails since nobody was there to answer, another one is made, for the same key. So of
    /// each break at most one order is left unused: one that the CA made without that its URL was
    /// stored.
    ///
    /// The account must be the one that began. Others end in
    /// [`Error::Checkpoint`], before anything is sent.
    ///
    /// ```no_run
    /// # #[cfg(feature = "http-01")]
    /// # async fn example(account: certwright::Account) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::fs;
    ///
    /// use certwright::issuance::Checkpoint;
    /// use certwright::solver::Http01Webroot;
    /// use certwright::{BoxError, private_file};
    ///
    /// fn store(checkpoint: &Checkpoint) -> Result<(), BoxError> {
    ///     Ok(private_file::write("checkpoint", serde_json::to_vec(checkpoint)?)?)
    /// }
    ///
    /// let issuance = match fs::read("checkpoint") {
    ///     Ok(stored) => account.resume(serde_json::from_slice(&stored)?),
    ///     Err(_) => account.issue(["example.com"]),
    /// };
    /// let issued = issuance
    ///     .solver(Http01Webroot::new("/var/www/html"))
    ///     .checkpoint(store)
    ///     .await?;
    /// fs::write("chain.pem", issued.chain().pem())?;
    /// private_file::write("key.pem", issued.key().to_pkcs8_pem()?)?;
    /// fs::remove_file("checkpoint")?;
    /// # Ok(()) }
    /// ```
    pub fn resume(&self, checkpoint: Checkpoint) -> Issuance {
        Issuance {
            request: match checkpoint.key() {
                Some(key) => CertificateKey::from_pkcs8_pem(key).map_err(Error::from),
                None => Err(CheckpointFault::NoKey.into()),
            },
            flow: Box::new(Flow::resume(self.clone(), checkpoint)),
        }
    }

    /// Like [`resume`](Self::resume), for an issuance that [`issue_csr`](Self::issue_csr) began. It
    /// must be the same CSR, or one for the same key and names: the CA may have it already.
    pub fn resume_csr(&self, checkpoint: Checkpoint, csr: Csr) -> Issuance<Csr> {
        Issuance {
            request: match csr.check_identifiers(checkpoint.identifiers()) {
                Ok(()) => Ok(csr),
                Err(error) => Err(error.into()),
            },
            flow: Box::new(Flow::resume(self.clone(), checkpoint)),
        }
    }
}

/// The issuance of one certificate. Await it to run it.
///
/// It creates the order; presents the answers to all challenges side by side; tells the CA that they
/// are ready; polls the order; sends a CSR; downloads the chain and checks it; and takes the answers
/// away again, whatever happened before. What the CA has done already, such as to authorize a name
/// or to validate the whole order, is not done again.
///
/// Dropped halfway, it still takes the answers away, in a task of its own. Where the whole process
/// may end halfway, a [`checkpoint`](Issuance::checkpoint) lets another one go on.
///
/// `R` is what the certificate is requested by: a key of certwright's, or a [`Csr`] of the caller's.
#[must_use = "nothing happens before it is awaited"]
pub struct Issuance<R = CertificateKey> {
    request: Result<R, Error>,
    flow: Box<Flow>,
}

impl Issuance {
    /// Uses this key. By default a new one is generated for each certificate; [`Event::Finalizing`]
    /// hands it out before the CA hears of it.
    pub fn key(mut self, key: CertificateKey) -> Self {
        self.request = Ok(key);
        self
    }

    /// Goes on without those identifiers that the CA refuses to order, where this function agrees
    /// to each of them; it is given what the CA says of it.
    ///
    /// Off by default: a certificate lacks no name that was asked for. [`Event::Dropped`] tells what
    /// was left out. It helps only where the CA tells the identifiers apart, by subproblems
    /// (RFC 8555 §6.7.1), and only before validation: a name that the CA could not validate makes
    /// the issuance fail all the same.
    pub fn drop_rejected(
        mut self,
        consent: impl Fn(&Identifier, &Problem) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.flow.consent = Some(Arc::new(consent));
        self
    }

    async fn run(self) -> Result<Issued, Error> {
        let key = self.request?;
        let mut flow = self.flow;
        flow.keep_key(&key)?;
        let deadline = flow.deadline();
        // Each step in a box of its own, so that what the first one takes is free for the second.
        let ordering = flow.validated_order(key.public_key_info(), deadline);
        let validated = Box::pin(ordering).await?;
        let order = validated.order.clone();
        let certificate = async {
            let csr = Csr::new(&key, &order.state().identifiers)?;
            flow.emit(&Event::Finalizing {
                order: &order,
                key: &key,
            });
            Box::pin(flow.finalize(&order, &csr, deadline)).await
        }
        .await;
        let (certificate, leftovers) = validated.end(certificate).await?;
        Ok(Issued {
            certificate,
            request: key,
            order,
            leftovers,
        })
    }
}

impl Issuance<Csr> {
    async fn run(self) -> Result<Issued<Csr>, Error> {
        let csr = self.request?;
        let flow = self.flow;
        let deadline = flow.deadline();
        let ordering = flow.validated_order(csr.public_key_info(), deadline);
        let validated = Box::pin(ordering).await?;
        let order = validated.order.clone();
        let certificate = async {
            flow.emit(&Event::FinalizingCsr {
                order: &order,
                csr: &csr,
            });
            Box::pin(flow.finalize(&order, &csr, deadline)).await
        }
        .await;
        let (certificate, leftovers) = validated.end(certificate).await?;
        Ok(Issued {
            certificate,
            request: csr,
            order,
            leftovers,
        })
    }
}

impl<R> Issuance<R> {
    /// Adds a solver. For each identifier the first is taken that can solve a challenge which the
    /// CA offers, and that the protocol allows for it: a wildcard takes a DNS type, and an IP address
    /// takes none.
    ///
    /// Where it fails before the CA was asked to validate, the next one is taken for the same order.
    /// Where the CA could not validate, the next one takes another order; see
    /// [`max_orders`](Self::max_orders).
    pub fn solver(mut self, solver: impl ChallengeSolver) -> Self {
        self.flow.solvers.push(Arc::new(solver));
        self
    }

    /// Adds a solver that is shared already.
    pub fn shared_solver(mut self, solver: Arc<dyn ChallengeSolver>) -> Self {
        self.flow.solvers.push(solver);
        self
    }

    /// Asks for a profile; see [`OrderBuilder::profile`](crate::OrderBuilder::profile).
    pub fn profile(mut self, profile: impl Into<String>) -> Self {
        self.flow.order = self.flow.order.profile(profile);
        self
    }

    /// Asks for the first of these profiles that the CA has; see
    /// [`OrderBuilder::profiles`](crate::OrderBuilder::profiles).
    pub fn profiles(mut self, profiles: impl IntoIterator<Item: Into<String>>) -> Self {
        self.flow.order = self.flow.order.profiles(profiles);
        self
    }

    /// Takes whichever profile the CA chooses, where it has none of those asked for.
    pub fn or_default_profile(mut self) -> Self {
        self.flow.order = self.flow.order.or_default_profile();
        self
    }

    /// Tells the CA which certificate the new one replaces; see
    /// [`OrderBuilder::replaces`](crate::OrderBuilder::replaces).
    pub fn replaces(mut self, certificate_id: impl Into<String>) -> Self {
        self.flow.order = self.flow.order.replaces(certificate_id);
        self
    }

    /// Takes this one of the chains that the CA offers. Where it offers no such chain, the one that
    /// it offers first is taken, with a warning in the log, and
    /// [`Certificate::is_as_chosen`](crate::Certificate::is_as_chosen) says so.
    pub fn chain(mut self, choice: ChainChoice) -> Self {
        self.flow.chain = choice;
        self.flow.chain_required = false;
        self
    }

    /// Takes this one of the chains that the CA offers, and no other. Where it offers no such chain,
    /// the issuance ends in [`Error::NoChain`], which says where the certificate is. Its key is
    /// handed out by [`Event::Finalizing`] only.
    pub fn require_chain(mut self, choice: ChainChoice) -> Self {
        self.flow.chain = choice;
        self.flow.chain_required = true;
        self
    }

    /// How many orders may be made in all, where the CA could not validate and for each identifier
    /// that failed there is another solver, or another type of challenge that the same one can solve.
    /// Default: 3. With 1 (or 0), a failed validation ends the issuance.
    ///
    /// No order is made after what another solver can't help against, such as a CAA record that
    /// forbids issuance. Let's Encrypt allows five failed validations in an hour for one name.
    pub fn max_orders(mut self, orders: u32) -> Self {
        self.flow.max_orders = orders;
        self
    }

    /// How long taking away the answers of one order may take. Default: 2 minutes.
    ///
    /// It does not count towards [`timeout`](Self::timeout), and begins when that is over, if not
    /// before. What is not taken away by then is reported as left behind:
    /// [`Issued::leftovers`], [`Error::leftovers`].
    pub fn clean_up_timeout(mut self, timeout: Duration) -> Self {
        self.flow.clean_up_timeout = timeout;
        self
    }

    /// How long all of it may take, from the order to the certificate. Default: 10 minutes. Taking
    /// the answers away comes on top.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.flow.timeout = timeout;
        self
    }

    /// Stores what another process needs to go on with this issuance: [`Account::resume`].
    ///
    /// The key is stored before the CA is asked for anything, the order's URL before anything is
    /// done for it, and each answer to a challenge before it is presented. Where it can't be stored,
    /// the issuance ends in [`Error::Checkpoint`]. When the certificate is
    /// there, and has been stored, the checkpoint is to be forgotten.
    ///
    /// A closure's argument needs its type:
    ///
    /// ```no_run
    /// # fn put(_: &str, _: &[u8]) -> std::io::Result<()> { Ok(()) }
    /// # async fn example(account: certwright::Account) -> Result<(), certwright::Error> {
    /// use certwright::issuance::Checkpoint;
    ///
    /// let issuance = account
    ///     .issue(["example.com"])
    ///     .checkpoint(|checkpoint: &Checkpoint| {
    ///         put("example.com", &serde_json::to_vec(checkpoint)?)?;
    ///         Ok(())
    ///     });
    /// # Ok(()) }
    /// ```
    pub fn checkpoint(mut self, store: impl CheckpointStore) -> Self {
        self.flow.store = Some(Arc::new(store));
        self
    }

    /// Calls this with each step, as it happens, to show progress. It must not block.
    pub fn on_event(mut self, observer: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        self.flow.observer = Observer::new(observer);
        self
    }
}

impl IntoFuture for Issuance {
    type Output = Result<Issued, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl IntoFuture for Issuance<Csr> {
    type Output = Result<Issued<Csr>, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl<R> fmt::Debug for Issuance<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuance")
            .field("order", &self.flow.order)
            .finish_non_exhaustive()
    }
}

/// A certificate, with what it was requested by: what an [`Issuance`] ends in.
#[derive(Clone, Debug)]
pub struct Issued<R = CertificateKey> {
    certificate: Certificate,
    request: R,
    order: Order,
    leftovers: Vec<Leftover>,
}

impl Issued {
    /// The certificate's key.
    pub fn key(&self) -> &CertificateKey {
        &self.request
    }
}

impl Issued<Csr> {
    /// The CSR that the certificate was issued for.
    pub fn csr(&self) -> &Csr {
        &self.request
    }
}

impl<R> Issued<R> {
    /// The certificate chain, checked against the names, the key and the time.
    pub fn chain(&self) -> &CertificateChain {
        self.certificate.chain()
    }

    /// The certificate, as the CA keeps it.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The order that the certificate came of.
    pub fn order(&self) -> &Order {
        &self.order
    }

    /// What was presented and could not be taken away; mostly nothing. It can be stored, and taken
    /// away later: [`Leftover::remove`].
    pub fn leftovers(&self) -> &[Leftover] {
        &self.leftovers
    }
}
