//! What would fail, found before the CA is asked.
//!
//! A failed validation costs an order, and CAs limit how many may fail. A [`Preflight`] looks at all
//! that a certificate needs, for each identifier side by side, and says what to change:
//!
//! * **CAA** (RFC 8659, RFC 8657): whether the CA may issue, for this account, by the types of
//!   challenge that the solvers solve.
//! * **The solvers, in a rehearsal**: each presents the answer to a challenge that no CA has made,
//!   waits until it can be seen, and takes it away again. For dns-01 this shows that the zone is
//!   found, that it can be written to, and that all its name servers answer with the record.
//! * **http-01**: what was presented is fetched as the CA fetches it, at every address of the name.
//! * **tls-alpn-01**: the certificate is asked for as the CA asks for it, at every address of the name.
//!
//! ```no_run
//! # async fn example(
//! #     account: certwright::Account,
//! #     provider: impl certwright::solver::DnsProvider,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! use certwright::solver::Dns01;
//!
//! let report = account
//!     .preflight(["example.com", "*.example.com"])
//!     .solver(Dns01::new(provider))
//!     .run()
//!     .await?;
//! for finding in report.findings() {
//!     println!("{finding}");
//! }
//! # Ok(()) }
//! ```

mod caa;
mod fault;
mod probe;
mod rehearsal;
mod report;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use futures_util::{StreamExt, stream};
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use self::probe::{Port, Probe};
use self::rehearsal::Rehearsal;
use crate::account::Account;
use crate::dns::Dns;
use crate::error::Error;
use crate::protocol::{ChallengeType, Identifier, Identifiers, InvalidIdentifier};
#[cfg(feature = "http-01")]
use crate::solver::SelfCheck;
use crate::solver::{AccountContext, ChallengeSolver};

pub use self::fault::PreflightFault;
#[cfg(feature = "tls-alpn-01")]
pub use self::fault::TlsAlpn01Fault;
pub use self::report::{Finding, Report, Severity};

impl Account {
    /// Begins a [look](crate::preflight) at what a certificate for these names would fail of.
    pub fn preflight<I>(&self, identifiers: I) -> Preflight
    where
        I: IntoIterator<Item: TryInto<Identifier, Error: Into<InvalidIdentifier>>>,
    {
        let mut preflight = Preflight::new(identifiers);
        preflight.account = Some(self.clone());
        preflight
    }
}

/// A look at what a certificate would fail of. It is set up step by step, and then
/// [run](Self::run).
pub struct Preflight {
    identifiers: Result<Identifiers, InvalidIdentifier>,
    account: Option<Account>,
    caa_identities: Option<Vec<String>>,
    solvers: Vec<Arc<dyn ChallengeSolver>>,
    rehearse: bool,
    dns: Dns,
    #[cfg(feature = "http-01")]
    self_check: SelfCheck,
    http_port: u16,
    tls_port: u16,
    allow_private_addresses: bool,
    timeout: Duration,
}

impl Preflight {
    /// How long the look at one identifier may take, unless said otherwise: 6 minutes, somewhat more
    /// than a DNS solver waits until all name servers have its record.
    pub const TIMEOUT: Duration = Duration::from_secs(6 * 60);

    /// How long a solver may take to take away what it presented in a rehearsal.
    const CLEAN_UP_TIMEOUT: Duration = Duration::from_secs(60);

    /// How many identifiers are looked at side by side.
    const AT_ONCE: usize = 16;

    /// A look without an account: by which name CAA records know the CA is to be said by
    /// [`caa_identities`](Self::caa_identities), and CAA's `accounturi` is not checked.
    ///
    /// [`Account::preflight`] knows both.
    pub fn new<I>(identifiers: I) -> Self
    where
        I: IntoIterator<Item: TryInto<Identifier, Error: Into<InvalidIdentifier>>>,
    {
        Self {
            identifiers: Identifiers::collect(identifiers),
            account: None,
            caa_identities: None,
            solvers: Vec::new(),
            rehearse: true,
            dns: Dns::system(),
            #[cfg(feature = "http-01")]
            self_check: SelfCheck::new(),
            http_port: 80,
            tls_port: 443,
            allow_private_addresses: false,
            timeout: Self::TIMEOUT,
        }
    }

    /// Looks at the types of challenge that this solver solves. With several, it is enough for an
    /// identifier that one type is without fault, as the issuance goes on to the next.
    ///
    /// Without any, CAA alone is looked at.
    #[must_use]
    pub fn solver(mut self, solver: impl ChallengeSolver) -> Self {
        self.solvers.push(Arc::new(solver));
        self
    }

    /// Presents nothing: only asks solvers for what they [check](ChallengeSolver::check) anyway, and
    /// whether ports 80 and 443 take connections.
    #[must_use]
    pub fn without_rehearsal(mut self) -> Self {
        self.rehearse = false;
        self
    }

    /// The names by which CAA records allow the CA. By default those that its directory tells.
    #[must_use]
    pub fn caa_identities<I>(mut self, identities: I) -> Self
    where
        I: IntoIterator<Item: Into<String>>,
    {
        self.caa_identities = Some(identities.into_iter().map(Into::into).collect());
        self
    }

    /// Asks the DNS by this, for CAA records and addresses; [`Dns::system`] by default. Solvers have
    /// their own.
    #[must_use]
    pub fn dns(mut self, dns: Dns) -> Self {
        self.dns = dns;
        self
    }

    /// The port that stands for 80. Public CAs have no choice here; CAs for tests do.
    #[must_use]
    pub fn http_port(mut self, port: u16) -> Self {
        self.http_port = port;
        self
    }

    /// The port that stands for 443.
    #[must_use]
    pub fn tls_port(mut self, port: u16) -> Self {
        self.tls_port = port;
        self
    }

    /// Whether private, loopback and other special addresses may be asked, for a CA in one's own
    /// network. Default: no, as a public CA does not ask them.
    #[must_use]
    pub fn allow_private_addresses(mut self, allow: bool) -> Self {
        self.allow_private_addresses = allow;
        self
    }

    /// Fetches what is presented for http-01 by this check, for its time limit, its `User-Agent` and
    /// the addresses that it was given. Ports and private addresses are those of the preflight, and
    /// names that it was not given are looked up by the preflight's [`dns`](Self::dns).
    #[cfg(feature = "http-01")]
    #[must_use]
    pub fn self_check(mut self, check: SelfCheck) -> Self {
        self.self_check = check;
        self
    }

    /// How long the look at one identifier may take; [`TIMEOUT`](Self::TIMEOUT) by default. What is
    /// not done by then is a finding. What was presented is taken away afterwards.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Looks at all of it.
    ///
    /// What it finds is no error of this call, but in the report. Where the call is dropped, what was
    /// presented is taken away in a task of its own.
    ///
    /// # Errors
    ///
    /// Fails where a name is none, or where the CA's directory can't be had.
    pub async fn run(self) -> Result<Report, Error> {
        let identifiers = self.identifiers.clone()?;
        let context = match &self.account {
            Some(account) => Some(AccountContext::new(
                account.url().clone(),
                *account.thumbprint(),
                account.client().directory().await?,
            )),
            None => None,
        };
        let look = Look {
            identities: self.identities(context.as_ref()),
            preflight: &self,
            context,
        };
        let looks = identifiers.iter().map(|identifier| look.at(identifier));
        let findings: Vec<_> = stream::iter(looks.collect::<Vec<_>>())
            .buffered(Self::AT_ONCE)
            .collect()
            .await;
        Ok(Report::new(findings.into_iter().flatten().collect()))
    }

    fn identities(&self, context: Option<&AccountContext>) -> Vec<String> {
        match (&self.caa_identities, context) {
            (Some(identities), _) => identities.clone(),
            (None, Some(context)) => context.directory().meta.caa_identities.clone(),
            (None, None) => Vec::new(),
        }
    }

    fn port(&self, number: u16) -> Port {
        Port {
            number,
            dns: self.dns.clone(),
            allow_private_addresses: self.allow_private_addresses,
        }
    }

    #[cfg(feature = "http-01")]
    fn http_check(&self) -> SelfCheck {
        let dns = self.dns.clone();
        self.self_check
            .clone()
            .http_port(self.http_port)
            .https_port(self.tls_port)
            .allow_private_addresses(self.allow_private_addresses)
            .resolve_with_default(move |name| {
                let dns = dns.clone();
                async move { Ok(dns.addresses(&name).await?) }
            })
    }
}

impl std::fmt::Debug for Preflight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Preflight")
            .field("identifiers", &self.identifiers)
            .field("caa_identities", &self.caa_identities)
            .field("solvers", &self.solvers.len())
            .field("rehearse", &self.rehearse)
            .field("dns", &self.dns)
            .field("http_port", &self.http_port)
            .field("tls_port", &self.tls_port)
            .field("allow_private_addresses", &self.allow_private_addresses)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// One run.
struct Look<'a> {
    preflight: &'a Preflight,
    context: Option<AccountContext>,
    identities: Vec<String>,
}

impl Look<'_> {
    async fn at(&self, identifier: &Identifier) -> Vec<Finding> {
        let start = Instant::now();
        let deadline = start
            .checked_add(self.preflight.timeout)
            .unwrap_or(start + Preflight::TIMEOUT);
        let methods = self.methods(identifier);
        let kinds: Vec<_> = methods.iter().map(|(kind, _)| kind.clone()).collect();
        let trials = methods.iter().map(|(kind, solver)| async {
            let trial = self.try_out(identifier, kind, solver, deadline);
            let faults = trial.await;
            faults.into_iter().map(|fault| (Some(kind.clone()), fault))
        });
        let caa = self.within(deadline, "looking up CAA", self.caa(identifier, &kinds));
        let (mut faults, trials) = join(caa, join_all(trials)).await;
        if !self.preflight.solvers.is_empty() && kinds.is_empty() {
            faults.push((None, PreflightFault::NoSolver));
        }
        faults.extend(trials.into_iter().flatten());
        debug!(%identifier, ?faults, "preflight");
        report::weigh(identifier, &kinds, faults)
    }

    /// The types of challenge that can be solved, each with the solver that the issuance would take.
    fn methods(&self, identifier: &Identifier) -> Vec<(ChallengeType, Arc<dyn ChallengeSolver>)> {
        let mut methods: Vec<(ChallengeType, Arc<dyn ChallengeSolver>)> = Vec::new();
        for solver in &self.preflight.solvers {
            for kind in ChallengeType::KNOWN {
                if kind.can_validate(identifier)
                    && solver.can_solve(identifier, kind)
                    && !methods.iter().any(|(known, _)| known == kind)
                {
                    methods.push((kind.clone(), solver.clone()));
                }
            }
        }
        methods
    }

    async fn within<F>(
        &self,
        deadline: Instant,
        doing: &'static str,
        future: F,
    ) -> Vec<(Option<ChallengeType>, PreflightFault)>
    where
        F: Future<Output = Vec<(Option<ChallengeType>, PreflightFault)>>,
    {
        timeout_at(deadline, future)
            .await
            .unwrap_or_else(|_| vec![(None, self.timed_out(doing))])
    }

    fn timed_out(&self, doing: &'static str) -> PreflightFault {
        PreflightFault::TimedOut {
            doing,
            limit: self.preflight.timeout,
        }
    }

    async fn caa(
        &self,
        identifier: &Identifier,
        kinds: &[ChallengeType],
    ) -> Vec<(Option<ChallengeType>, PreflightFault)> {
        // CAA records are there for names only (RFC 8738 §8).
        let Some(name) = identifier.dns_name() else {
            return Vec::new();
        };
        match self.preflight.dns.caa(name.base()).await {
            Ok(None) => Vec::new(),
            Ok(Some(set)) => caa::judge(
                &set,
                &caa::Request {
                    identities: &self.identities,
                    account: self.context.as_ref().map(AccountContext::account),
                    is_wildcard: name.is_wildcard(),
                    methods: kinds,
                },
            ),
            Err(error) => vec![(None, PreflightFault::CaaLookup(error))],
        }
    }

    /// What is wrong with one way to validate an identifier.
    async fn try_out(
        &self,
        identifier: &Identifier,
        kind: &ChallengeType,
        solver: &Arc<dyn ChallengeSolver>,
        deadline: Instant,
    ) -> Vec<PreflightFault> {
        if let Some(context) = &self.context {
            match timeout_at(deadline, solver.check(identifier, context)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return vec![PreflightFault::Check(error)],
                Err(_) => return vec![self.timed_out("in the solver's own check")],
            }
        }
        let probe = match kind {
            #[cfg(feature = "http-01")]
            ChallengeType::Http01 if self.preflight.rehearse => {
                Probe::Answer(self.preflight.http_check())
            }
            ChallengeType::Http01 => Probe::Port(self.preflight.port(self.preflight.http_port)),
            #[cfg(feature = "tls-alpn-01")]
            ChallengeType::TlsAlpn01 if self.preflight.rehearse => {
                Probe::Certificate(self.preflight.port(self.preflight.tls_port))
            }
            ChallengeType::TlsAlpn01 => Probe::Port(self.preflight.port(self.preflight.tls_port)),
            _ => Probe::Nothing,
        };
        // dns-persist-01 has a record of its own, which is checked above, and no token.
        if self.preflight.rehearse && *kind != ChallengeType::DnsPersist01 {
            let rehearsal = Rehearsal {
                solver: solver.clone(),
                identifier: identifier.clone(),
                kind: kind.clone(),
                context: self.context.clone(),
                probe,
                deadline,
                limit: self.preflight.timeout,
            };
            return rehearsal.run(Preflight::CLEAN_UP_TIMEOUT).await;
        }
        let Probe::Port(port) = probe else {
            return Vec::new();
        };
        let reached = timeout_at(deadline, port.at(identifier)).await;
        reached.unwrap_or_else(|_| vec![self.timed_out("connecting")])
    }
}
