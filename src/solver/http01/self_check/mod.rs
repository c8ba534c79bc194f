mod fault;
mod fetch;
mod lookup;
mod target;

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use http::HeaderValue;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use self::fetch::{Reply, fetch};
use self::lookup::Lookup;
use self::target::{Rules, Target};
use super::{Http01Responder, Http01Server, Http01Webroot};
use crate::error::BoxError;
use crate::protocol::{ChallengeType, Identifier, Token};
use crate::solver::special_address::is_special;
use crate::solver::{AccountContext, ChallengeResponse, ChallengeSolver, Presentation};

pub use self::fault::{RedirectFault, SelfCheckError, SelfCheckFailure, SelfCheckFault};

/// Fetches the answer to http-01 (RFC 8555 §8.3) the way a CA does, before the CA is asked to.
///
/// A validation that fails costs the order, and CAs limit how many may fail; and what the CA tells
/// of it is what it saw from afar. This check fails before the CA hears of anything, and says which
/// address, after which redirect, answered what.
///
/// It asks **every** address of the name, IPv6 and IPv4, as the CA may take any of them, and holds
/// each to what Let's Encrypt's validation demands:
///
/// * a connection to port 80, for a `GET` with the name as its `Host`;
/// * status 200, and a body of fewer than 128 octets that is the key authorization, white space at
///   its end aside;
/// * or one of the redirects 301, 302, 307 and 308, ten of them at the most, to `http` at port 80 or
///   `https` at port 443 of a name, or of a public address, without coming by one URL twice. Again
///   all addresses of that name are asked. Certificates are not verified, as they are not by the CA.
///
/// A CA that can't connect over IPv6 tries IPv4 once. That is no reason to let it: the check fails
/// for an AAAA record that leads nowhere. Only where this host has no IPv6 at all, the addresses
/// that it can't ask are passed over, with a warning in the log, as long as there is another.
///
/// It is made for hosts that reach their own public addresses. Behind a NAT that does not lead
/// connections back in, give it the addresses to ask by [`resolve`](Self::resolve).
///
/// ```no_run
/// # async fn example(account: certwright::Account) -> Result<(), Box<dyn std::error::Error>> {
/// use certwright::solver::{Http01Webroot, SelfCheck};
///
/// let solver = Http01Webroot::new("/var/www/html").self_checked(SelfCheck::new());
/// let issued = account.issue(["example.com"]).solver(solver).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct SelfCheck {
    rules: Rules,
    timeout: Duration,
    lookup: Lookup,
    user_agent: HeaderValue,
}

impl SelfCheck {
    /// The check as a public CA would do it, with the addresses that the system's resolver finds.
    pub fn new() -> Self {
        Self {
            rules: Rules {
                http_port: 80,
                https_port: 443,
                allow_special: false,
            },
            timeout: Self::TIMEOUT,
            lookup: Lookup::default(),
            user_agent: HeaderValue::from_static(Self::USER_AGENT),
        }
    }

    const TIMEOUT: Duration = Duration::from_secs(10);
    const USER_AGENT: &'static str = concat!("certwright-self-check/", env!("CARGO_PKG_VERSION"));

    /// How long the check of one name may take, redirects and all. Default: 10 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The port that stands for 80. Public CAs have no choice here; CAs for tests do.
    #[must_use]
    pub fn http_port(mut self, port: u16) -> Self {
        self.rules.http_port = port;
        self
    }

    /// The port that stands for 443 in redirects.
    #[must_use]
    pub fn https_port(mut self, port: u16) -> Self {
        self.rules.https_port = port;
        self
    }

    /// Whether private, loopback and other special addresses may be asked, and names without a dot
    /// be redirected to. Default: no, as a public CA does not ask them.
    ///
    /// It is for a CA in one's own network. With it, whoever answers for a name can have this
    /// process send a `GET` to a machine in that network.
    #[must_use]
    pub fn allow_private_addresses(mut self, allow: bool) -> Self {
        self.rules.allow_special = allow;
        self
    }

    /// Gives the addresses of a name, which then is not looked up.
    ///
    /// It is for split DNS, and for hosts that don't reach their public addresses from inside.
    /// Private ones need [`allow_private_addresses`](Self::allow_private_addresses) as well.
    #[must_use]
    pub fn resolve(mut self, name: &str, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        self.lookup.set(name, addresses.into_iter().collect());
        self
    }

    /// Looks up names by this function, which gets them without a dot at their end. Default: the
    /// system's resolver.
    ///
    /// ```
    /// # use certwright::solver::SelfCheck;
    /// let check = SelfCheck::new().resolve_with(|name: String| async move {
    ///     let found = tokio::net::lookup_host((name, 0)).await?;
    ///     Ok(found.map(|address| address.ip()).collect())
    /// });
    /// ```
    #[must_use]
    pub fn resolve_with<F, R>(mut self, resolve: F) -> Self
    where
        F: Fn(String) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Vec<IpAddr>, BoxError>> + Send + 'static,
    {
        self.lookup.set_default(resolve);
        self
    }

    /// As [`resolve_with`](Self::resolve_with), where nothing was said.
    #[cfg(feature = "dns-01")]
    pub(crate) fn resolve_with_default<F, R>(self, resolve: F) -> Self
    where
        F: Fn(String) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Vec<IpAddr>, BoxError>> + Send + 'static,
    {
        match self.lookup.has_default() {
            true => self,
            false => self.resolve_with(resolve),
        }
    }

    /// The `User-Agent` header. Default: `certwright-self-check/` and certwright's version.
    #[must_use]
    pub fn user_agent(mut self, user_agent: HeaderValue) -> Self {
        self.user_agent = user_agent;
        self
    }

    /// Fetches the answer at each address.
    ///
    /// It fails where the CA would fail at any of them, with all that was found.
    pub async fn check(&self, presentation: &Presentation) -> Result<(), SelfCheckError> {
        let identifier = presentation.identifier();
        let (Some(token), Some(expected)) =
            (presentation.token(), presentation.key_authorization())
        else {
            return Err(SelfCheckError::NoToken);
        };
        let walk = Walk {
            check: self,
            expected: expected.as_str(),
            deadline: Instant::now()
                .checked_add(self.timeout)
                .unwrap_or_else(|| Instant::now() + Self::TIMEOUT),
        };
        let failures = walk.from(self.first(identifier, token)?).await;
        match failures.is_empty() {
            true => Ok(()),
            false => Err(SelfCheckError::Failed {
                identifier: identifier.clone(),
                failures,
            }),
        }
    }

    fn first(&self, identifier: &Identifier, token: &Token) -> Result<Target, SelfCheckError> {
        let host = match identifier {
            Identifier::Dns(name) if !name.is_wildcard() => Some(name.to_string()),
            Identifier::Ip(IpAddr::V4(address)) => Some(address.to_string()),
            Identifier::Ip(IpAddr::V6(address)) => Some(format!("[{address}]")),
            _ => None,
        };
        let path = format!("{}{token}", Http01Responder::PATH_PREFIX);
        host.map(|host| Target::first(host, path, &self.rules))
            .ok_or_else(|| SelfCheckError::Unsuitable(identifier.clone()))
    }
}

impl Default for SelfCheck {
    fn default() -> Self {
        Self::new()
    }
}

/// One check: the walk through all addresses and redirects.
struct Walk<'a> {
    check: &'a SelfCheck,
    expected: &'a str,
    deadline: Instant,
}

impl Walk<'_> {
    /// What fails, of all that the CA may come by. Redirects are followed level by level, so each
    /// address of each URL is asked once in a level.
    async fn from(&self, first: Target) -> Vec<SelfCheckFailure> {
        let mut failures = Vec::new();
        let mut steps = vec![Step {
            before: Vec::new(),
            target: first,
        }];
        let mut fetches = 0;
        while !steps.is_empty() {
            let visits = join_all(steps.iter().map(|step| self.visit(step))).await;
            let mut next: Vec<Step> = Vec::new();
            let mut known = HashSet::new();
            for (step, visits) in steps.iter().zip(visits) {
                fetches += visits.len();
                let passed_v4 = visits
                    .iter()
                    .any(|visit| visit.result.is_ok() && visit.is_v4());
                let passed = visits.iter().any(|visit| visit.result.is_ok());
                for Visit { address, result } in visits {
                    let fault = match result {
                        Ok(None) => continue,
                        Ok(Some(target)) => match step.follow(target) {
                            Ok(_) if fetches >= MOST_FETCHES => SelfCheckFault::TooManyRedirects,
                            Ok(following) => {
                                if known.insert(following.target.to_string()) {
                                    next.push(following);
                                }
                                continue;
                            }
                            Err(fault) => fault,
                        },
                        Err(SelfCheckFault::NoRoute(error)) if passed => {
                            warn!(
                                url = %step.target, address = %Shown(address), %error,
                                "http-01 self-check can't ask this address from this host"
                            );
                            continue;
                        }
                        Err(fault) => fault,
                    };
                    let is_v6 = address.is_some_and(|address| address.is_ipv6());
                    failures.push(SelfCheckFailure::new(
                        step.urls(),
                        address,
                        fault,
                        is_v6 && passed_v4,
                    ));
                }
            }
            steps = next;
        }
        failures
    }

    /// Asks all addresses of one URL, side by side.
    async fn visit(&self, step: &Step) -> Vec<Visit> {
        let lookup = async {
            match step.target.address() {
                Some(address) => Ok(vec![address]),
                None => self.check.lookup.look_up(step.target.host()).await,
            }
        };
        let addresses = match timeout_at(self.deadline, lookup).await {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(error)) => return vec![Visit::without_address(SelfCheckFault::Resolve(error))],
            Err(_) => {
                return vec![Visit::without_address(
                    self.timed_out("looking up the name"),
                )];
            }
        };
        if addresses.is_empty() {
            return vec![Visit::without_address(SelfCheckFault::NoAddress)];
        }
        let asked = addresses.into_iter().take(MOST_ADDRESSES);
        let visits = asked.map(|address| async move {
            let address = SocketAddr::new(address, step.target.port());
            let result = self.ask(&step.target, address).await;
            debug!(url = %step.target, %address, ?result, "http-01 self-check");
            Visit {
                address: Some(address),
                result,
            }
        });
        join_all(visits).await
    }

    /// Asks one address: `None` where it has the answer, else where it redirects to.
    async fn ask(
        &self,
        target: &Target,
        address: SocketAddr,
    ) -> Result<Option<Target>, SelfCheckFault> {
        if is_special(address.ip()) && !self.check.rules.allow_special {
            return Err(SelfCheckFault::SpecialAddress);
        }
        // A CA of other tokens than Let's Encrypt's, which are longer, has to take longer bodies.
        let limit = BODY_LIMIT.max(self.expected.len() + 3);
        let mut phase = "connecting";
        let fetching = fetch(target, address, &self.check.user_agent, limit, &mut phase);
        let reply = match timeout_at(self.deadline, fetching).await {
            Ok(reply) => reply?,
            Err(_) => return Err(self.timed_out(phase)),
        };
        match reply {
            Reply::Redirect(location) => target.redirected(&location, &self.check.rules).map(Some),
            Reply::Body(body) => {
                let end = body.iter().rposition(|octet| !b" \t\r\n".contains(octet));
                let trimmed = body.get(..end.map_or(0, |end| end + 1));
                if trimmed == Some(self.expected.as_bytes()) {
                    return Ok(None);
                }
                let found = String::from_utf8_lossy(&body).into_owned();
                Err(SelfCheckFault::WrongBody {
                    found,
                    expected: self.expected.to_owned(),
                })
            }
        }
    }

    fn timed_out(&self, phase: &'static str) -> SelfCheckFault {
        SelfCheckFault::TimedOut {
            phase,
            limit: self.check.timeout,
        }
    }
}

/// A URL to ask, and those that led to it.
struct Step {
    before: Vec<String>,
    target: Target,
}

impl Step {
    fn urls(&self) -> Vec<String> {
        let mut urls = self.before.clone();
        urls.push(self.target.to_string());
        urls
    }

    fn follow(&self, target: Target) -> Result<Self, SelfCheckFault> {
        let before = self.urls();
        let url = target.to_string();
        match before.contains(&url) {
            true => Err(SelfCheckFault::RedirectLoop(url)),
            false if before.len() > MOST_REDIRECTS => Err(SelfCheckFault::TooManyRedirects),
            false => Ok(Self { before, target }),
        }
    }
}

struct Visit {
    address: Option<SocketAddr>,
    result: Result<Option<Target>, SelfCheckFault>,
}

impl Visit {
    fn without_address(fault: SelfCheckFault) -> Self {
        Self {
            address: None,
            result: Err(fault),
        }
    }

    fn is_v4(&self) -> bool {
        self.address.is_some_and(|address| address.is_ipv4())
    }
}

struct Shown(Option<SocketAddr>);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("-"),
        }
    }
}

/// A solver whose [`wait`](ChallengeSolver::wait) ends with a [`SelfCheck`] of what it presented for
/// http-01.
///
/// What it presents for other types of challenge is not checked.
///
/// ```
/// use certwright::solver::{Http01Responder, SelfCheck, SelfChecked};
///
/// let solver = SelfChecked::new(Http01Responder::default(), SelfCheck::new());
/// ```
#[derive(Clone, Debug)]
pub struct SelfChecked<S> {
    solver: S,
    check: SelfCheck,
}

impl<S: ChallengeSolver> SelfChecked<S> {
    /// Has the check done once the solver's own wait is over.
    pub fn new(solver: S, check: SelfCheck) -> Self {
        Self { solver, check }
    }

    /// The solver.
    pub fn solver(&self) -> &S {
        &self.solver
    }
}

#[async_trait]
impl<S: ChallengeSolver> ChallengeSolver for SelfChecked<S> {
    fn can_solve(&self, identifier: &Identifier, challenge_type: &ChallengeType) -> bool {
        self.solver.can_solve(identifier, challenge_type)
    }

    async fn check(
        &self,
        identifier: &Identifier,
        account: &AccountContext,
    ) -> Result<(), BoxError> {
        self.solver.check(identifier, account).await
    }

    async fn present(&self, presentation: &Presentation) -> Result<(), BoxError> {
        self.solver.present(presentation).await
    }

    async fn wait(&self, presentation: &Presentation) -> Result<(), BoxError> {
        self.solver.wait(presentation).await?;
        if presentation.challenge().kind == ChallengeType::Http01 {
            self.check.check(presentation).await?;
        }
        Ok(())
    }

    async fn response(&self, presentation: &Presentation) -> Result<ChallengeResponse, BoxError> {
        self.solver.response(presentation).await
    }

    async fn clean_up(&self, presentation: &Presentation) -> Result<(), BoxError> {
        self.solver.clean_up(presentation).await
    }
}

macro_rules! self_checked {
    ($($solver:ty),+) => {$(
        impl $solver {
            /// Fetches each answer as the CA will, once it is presented, and fails where that fails.
            #[must_use]
            pub fn self_checked(self, check: SelfCheck) -> SelfChecked<Self> {
                SelfChecked::new(self, check)
            }
        }
    )+};
}

self_checked!(Http01Responder, Http01Server, Http01Webroot);

/// A body of this length is too long for Let's Encrypt already.
const BODY_LIMIT: usize = 128;
const MOST_REDIRECTS: usize = 10;
/// More than any name has that is served by hosts of one operator.
const MOST_ADDRESSES: usize = 32;
const MOST_FETCHES: usize = 256;
