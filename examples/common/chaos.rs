//! Many orders while everything breaks, and the count of what was lost.

#![allow(
    clippy::print_stderr,
    dead_code,
    reason = "a program for the terminal, and a test that uses a part"
)]

use std::collections::HashSet;
use std::error::Error;
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use certwright::jose::AccountKey;
use certwright::protocol::{ChallengeType, Identifier, OrderStatus};
use certwright::solver::{ChallengeSolver, Http01Server, Presentation};
use certwright::test_ca::{Fault, PlayedFault, ResourceKind, RetryAfter, TestCa};
use certwright::transport::{HyperTransport, Transport, TransportError};
use certwright::{Account, BoxError, Client};
use futures_util::stream::{self, StreamExt};
use http::header::LOCATION;
use http::{Request, Response, StatusCode};

use super::resets::ResetProxy;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What to do, and how much of it fails.
#[derive(Clone, Debug)]
pub(crate) struct Chaos {
    pub(crate) orders: usize,
    pub(crate) concurrency: usize,
    pub(crate) seed: u64,
    /// Whether all requests share a connection, whose reset is the end of all of them.
    pub(crate) http2: bool,
    /// A CA outside of this process, and the roots that its site is trusted by.
    pub(crate) outside: Option<(String, Option<String>)>,
    pub(crate) http_port: u16,
    pub(crate) shows_progress: bool,
}

impl Default for Chaos {
    fn default() -> Self {
        Self {
            orders: 1_000,
            concurrency: 32,
            seed: 7,
            http2: false,
            outside: None,
            http_port: 0,
            shows_progress: true,
        }
    }
}

/// Of all requests of a kind: these shares.
const NONCES_REFUSED: f64 = 0.20;
const RESET_BEFORE: f64 = 0.05;
const RESET_AFTER: f64 = 0.05;
const BUSY: f64 = 0.05;
const DELAYED: f64 = 0.25;

/// Where the proxy counts pieces, of which a request has several.
const PROXY_RESETS: f64 = 0.03;

/// What became of it all.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) orders: usize,
    pub(crate) issued: usize,
    pub(crate) failures: Vec<String>,
    pub(crate) took: Duration,
    /// The faults, and how often each was played.
    pub(crate) faults: Vec<PlayedFault>,
    pub(crate) resets_by_proxy: Option<(u64, u64)>,
    pub(crate) requests: usize,
    pub(crate) accounts: Option<usize>,
    pub(crate) certificates: Option<usize>,
    /// Orders at the CA whose creation the client was never told of.
    pub(crate) strays: Option<usize>,
    /// The replies to newOrder that were lost on purpose.
    pub(crate) lost_new_orders: Option<u64>,
    /// Orders that the client was told of, and that have no certificate.
    pub(crate) abandoned: Option<usize>,
    pub(crate) presented: usize,
    pub(crate) still_presented: usize,
    /// What must not be, in words.
    pub(crate) lost: Vec<String>,
}

impl Chaos {
    pub(crate) async fn run(&self) -> Result<Report> {
        let solver = Counted::new(Http01Server::bind((Ipv4Addr::LOCALHOST, self.http_port)).await?);
        let (inside, proxy) = match &self.outside {
            None => (Some(self.ca(solver.port()?).await?), None),
            Some(_) => {
                let proxy = ResetProxy::start(self.seed, PROXY_RESETS, PROXY_RESETS).await?;
                (None, Some(proxy))
            }
        };
        let (directory, root) = match (&inside, &self.outside) {
            (Some(ca), _) => (ca.directory_url(), Some(ca.root_pem().to_owned())),
            (None, Some((directory, root))) => (directory.clone(), root.clone()),
            (None, None) => return Err("there is no CA".into()),
        };
        let transport = self.transport(root.as_deref(), proxy.as_ref())?;

        let start = Instant::now();
        let client = Client::builder(directory.as_str())
            .product("certwright-chaos")
            .transport(transport.clone())
            // With so many requests, some fail more often in a row than any should in life.
            .retry_timeout(Duration::from_secs(120))
            .build()
            .await?;
        let key = AccountKey::generate()?;
        let account = client.new_account(key.clone()).agree_to_terms();
        let account = account.create().await?;
        let mut report = self.issue_all(&account, &solver).await;
        report.took = start.elapsed();

        let found = client.find_account(key).await?;
        if found.map(|found| found.url().clone()).as_ref() != Some(account.url()) {
            report.lost.push("the account".to_owned());
        }
        if let Some(ca) = &inside {
            report.inspect(ca, &transport);
        }
        report.resets_by_proxy = proxy.map(|proxy| proxy.resets());
        report.requests = transport.count();
        (report.presented, report.still_presented) = solver.counts();
        report.judge(self.http2);
        Ok(report)
    }

    async fn ca(&self, http_port: u16) -> Result<TestCa> {
        let busy = Fault::status(StatusCode::SERVICE_UNAVAILABLE);
        let again = busy.clone().retry_after(RetryAfter::Seconds(1));
        let builder = TestCa::builder()
            .http01_port(http_port)
            .seed(self.seed)
            .inject(
                Fault::RandomDelay(Duration::from_millis(40))
                    .on_any()
                    .share(DELAYED),
            )
            .inject(Fault::RefuseNonce.on_any().share(NONCES_REFUSED))
            .inject(Fault::Reset.on_any().share(RESET_BEFORE))
            .inject(Fault::Reset.on_any().share(RESET_AFTER).after_acting())
            .inject(busy.on_any().share(BUSY / 2.0))
            .inject(again.on_any().share(BUSY / 2.0));
        Ok(builder.start().await?)
    }

    fn transport(&self, root: Option<&str>, proxy: Option<&ResetProxy>) -> Result<Observed> {
        let mut builder = HyperTransport::builder();
        if let Some(root) = root {
            builder = builder.add_root_pem(root).without_platform_roots();
        }
        if let Some(proxy) = proxy {
            builder = builder.proxy(&proxy.url());
        }
        if !self.http2 {
            builder = builder.http1_only();
        }
        Ok(Observed {
            inner: builder.build()?,
            seen: Arc::default(),
        })
    }

    async fn issue_all(&self, account: &Account, solver: &Counted) -> Report {
        let issuances = (0..self.orders).map(|number| async move {
            let name = format!("order-{number}.example");
            let issued = account.issue([&name]).solver(solver.clone()).await;
            issued.map_err(|error| format!("{name}: {error}"))
        });
        let mut results = stream::iter(issuances).buffer_unordered(self.concurrency.max(1));
        let mut report = Report {
            orders: self.orders,
            ..Report::default()
        };
        let step = (self.orders / 100).max(1);
        let mut leaves = HashSet::new();
        while let Some(result) = results.next().await {
            match result {
                // Its chain, key and names were checked before it came here.
                Ok(issued) => {
                    leaves.insert(issued.chain().leaf().to_vec());
                    report.issued += 1;
                }
                Err(failure) => report.failures.push(failure),
            }
            let done = report.issued + report.failures.len();
            if self.shows_progress && (done.is_multiple_of(step) || done == self.orders) {
                eprint!("\r{done} of {} orders", self.orders);
            }
        }
        if self.shows_progress {
            eprintln!();
        }
        if leaves.len() != report.issued {
            report.lost.push("a certificate that came twice".to_owned());
        }
        report
    }
}

impl Report {
    /// Compares what the client knows with what the CA has.
    fn inspect(&mut self, ca: &TestCa, transport: &Observed) {
        let told = transport.locations();
        let orders = ca.orders();
        let (known, strays): (Vec<_>, Vec<_>) = orders
            .iter()
            .partition(|(url, _)| told.contains(url.as_str()));
        let abandoned = known.iter();
        let abandoned = abandoned.filter(|(_, order)| order.status != OrderStatus::Valid);
        self.faults = ca.faults();
        let lost = self.faults.iter().filter(|played| {
            played.kind == ResourceKind::NewOrder && played.fault.ends_with("reset after acting")
        });
        self.lost_new_orders = Some(lost.map(|played| played.count).sum());
        self.abandoned = Some(abandoned.count());
        self.strays = Some(strays.len());
        self.accounts = Some(ca.accounts().len());
        self.certificates = Some(ca.issued());
    }

    /// Finds what was lost.
    fn judge(&mut self, http2: bool) {
        let mut lost = std::mem::take(&mut self.lost);
        let mut check = |holds: bool, what: String| {
            if !holds {
                lost.push(what);
            }
        };
        let missing = self.orders - self.issued;
        check(missing == 0, format!("{missing} certificates"));
        let accounts = self.accounts.unwrap_or(1);
        check(
            accounts == 1,
            format!("{accounts} accounts in place of one"),
        );
        let certificates = self.certificates.unwrap_or(self.issued);
        check(
            certificates == self.issued,
            format!("{certificates} certificates issued, {} had", self.issued),
        );
        let abandoned = self.abandoned.unwrap_or_default();
        check(abandoned == 0, format!("{abandoned} orders abandoned"));
        // Over HTTP/2, a reset of one request loses the replies to others, too.
        if let (Some(strays), Some(explained), false) = (self.strays, self.lost_new_orders, http2) {
            let strays = u64::try_from(strays).unwrap_or(u64::MAX);
            check(
                strays <= explained,
                format!("{strays} stray orders, of which lost replies explain {explained}"),
            );
        }
        let still = self.still_presented;
        check(still == 0, format!("{still} challenges still presented"));
        self.lost = lost;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<34} {:<14} {:>7}", "fault", "requests", "times")?;
        for played in &self.faults {
            writeln!(f, "{played}")?;
        }
        let mut total = std::collections::BTreeMap::<_, u64>::new();
        for played in &self.faults {
            *total.entry(&played.fault).or_default() += played.count;
        }
        for (fault, count) in total {
            writeln!(f, "{fault:<34} {:<14} {count:>7}", "all")?;
        }
        if let Some((before, after)) = self.resets_by_proxy {
            writeln!(
                f,
                "{:<34} {:<14} {before:>7}",
                "reset by proxy", "to the CA"
            )?;
            writeln!(
                f,
                "{:<34} {:<14} {after:>7}",
                "reset by proxy", "from the CA"
            )?;
        }
        writeln!(f)?;
        let seconds = self.took.as_secs_f64();
        writeln!(f, "orders                  {:>7}", self.orders)?;
        writeln!(f, "certificates checked    {:>7}", self.issued)?;
        writeln!(f, "requests sent           {:>7}", self.requests)?;
        writeln!(f, "seconds                 {seconds:>9.1}")?;
        for (what, count) in [
            ("certificates at the CA", self.certificates),
            ("accounts at the CA", self.accounts),
            ("orders abandoned", self.abandoned),
            ("orders never told of", self.strays),
        ] {
            if let Some(count) = count {
                writeln!(f, "{what:<23} {count:>7}")?;
            }
        }
        if let Some(lost) = self.lost_new_orders {
            writeln!(f, "newOrder replies lost   {lost:>7}")?;
        }
        writeln!(f, "challenges presented    {:>7}", self.presented)?;
        writeln!(f, "still presented         {:>7}", self.still_presented)?;
        for failure in self.failures.iter().take(10) {
            writeln!(f, "\nfailed: {failure}")?;
        }
        match self.lost.is_empty() {
            true => writeln!(f, "\nnothing was lost"),
            false => writeln!(f, "\nLOST: {}", self.lost.join("; ")),
        }
    }
}

/// A transport that notes which resources the client was told of.
#[derive(Clone, Debug)]
struct Observed {
    inner: HyperTransport,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    requests: usize,
    locations: HashSet<String>,
}

impl Observed {
    fn locations(&self) -> HashSet<String> {
        lock(&self.seen).locations.clone()
    }

    fn count(&self) -> usize {
        lock(&self.seen).requests
    }
}

#[async_trait]
impl Transport for Observed {
    async fn send(
        &self,
        request: Request<Bytes>,
    ) -> std::result::Result<Response<Bytes>, TransportError> {
        lock(&self.seen).requests += 1;
        let response = self.inner.send(request).await?;
        let location = response.headers().get(LOCATION);
        let location = location.and_then(|location| location.to_str().ok());
        if let (StatusCode::CREATED, Some(location)) = (response.status(), location) {
            lock(&self.seen).locations.insert(location.to_owned());
        }
        Ok(response)
    }
}

/// A solver that counts what it presents.
#[derive(Clone)]
struct Counted {
    server: Http01Server,
    presented: Arc<Mutex<(usize, HashSet<String>)>>,
}

impl Counted {
    fn new(server: Http01Server) -> Self {
        Self {
            server,
            presented: Arc::default(),
        }
    }

    fn port(&self) -> Result<u16> {
        let addresses = self.server.local_addrs();
        let address = addresses.first().ok_or("the solver listens nowhere")?;
        Ok(address.port())
    }

    /// How many were presented in all, and how many still are.
    fn counts(&self) -> (usize, usize) {
        let presented = lock(&self.presented);
        (presented.0, presented.1.len())
    }
}

#[async_trait]
impl ChallengeSolver for Counted {
    fn can_solve(&self, identifier: &Identifier, challenge_type: &ChallengeType) -> bool {
        self.server.can_solve(identifier, challenge_type)
    }

    async fn present(&self, presentation: &Presentation) -> std::result::Result<(), BoxError> {
        self.server.present(presentation).await?;
        let mut presented = lock(&self.presented);
        presented.0 += 1;
        presented.1.insert(token(presentation));
        Ok(())
    }

    async fn clean_up(&self, presentation: &Presentation) -> std::result::Result<(), BoxError> {
        self.server.clean_up(presentation).await?;
        lock(&self.presented).1.remove(&token(presentation));
        Ok(())
    }
}

fn token(presentation: &Presentation) -> String {
    presentation
        .token()
        .map(ToString::to_string)
        .unwrap_or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
