//! Which solver is taken for which challenge, what happens when one fails, and what is left behind.
//!
//! dns-01 is validated by the test: the CA asks a zone that the solvers write to.

#![cfg(all(
    feature = "http-01",
    feature = "hyper",
    feature = "test-ca",
    any(feature = "aws-lc-rs", feature = "ring")
))]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use std::collections::BTreeSet;
use std::future::pending;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use certwright::error::SolverStep;
use certwright::issuance::{Event, Issuance};
use certwright::jose::{AccountKey, KeyAuthorization};
use certwright::protocol::{ChallengeResponse, ChallengeType, Identifier, Problem, ProblemType};
use certwright::solver::{AccountContext, ChallengeSolver, Http01Server, Leftover, Presentation};
use certwright::test_ca::{
    ChallengeAttempt, CustomChallenge, ResourceKind, TestCa, TestCaBuilder, Validation,
};
use certwright::{Account, BoxError, Client, Error, Replacement, Retry};
use serde::Serialize;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;

/// TXT records, as a DNS server has them.
#[derive(Clone, Default)]
struct Zone(Arc<Mutex<BTreeSet<(String, String)>>>);

impl Zone {
    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn record(identifier: &Identifier, key_authorization: &KeyAuthorization) -> (String, String) {
        let name = identifier.dns_name().unwrap().base();
        (
            format!("_acme-challenge.{name}"),
            key_authorization.dns_txt_value(),
        )
    }

    /// dns-01 as a CA validates it.
    fn challenge(&self) -> CustomChallenge {
        let zone = self.clone();
        CustomChallenge::new(ChallengeType::Dns01, move |attempt: &ChallengeAttempt| {
            let token = attempt.challenge.token().unwrap().unwrap();
            let expected = KeyAuthorization::new(&token, &attempt.thumbprint);
            let expected = Self::record(&attempt.identifier, &expected);
            match zone.0.lock().unwrap().contains(&expected) {
                true => Ok(()),
                false => Err(Problem::new(
                    ProblemType::Unauthorized,
                    format!("No TXT record found at {}", expected.0),
                )
                .into()),
            }
        })
    }

    fn solver(&self) -> ZoneSolver {
        ZoneSolver {
            zone: self.clone(),
            types: vec![ChallengeType::Dns01],
            ..ZoneSolver::default()
        }
    }
}

/// Writes to a zone; or fails, where a test wants it to.
#[derive(Clone, Default)]
struct ZoneSolver {
    zone: Zone,
    types: Vec<ChallengeType>,
    /// Presents nothing, so that the CA can't validate.
    blind: bool,
    fails_at: Vec<SolverStep>,
    hangs_at: Option<SolverStep>,
    panics: bool,
    log: Arc<Mutex<Vec<String>>>,
}

impl ZoneSolver {
    /// One that says yes to these types, for any identifier, and presents nothing.
    fn blind(types: impl IntoIterator<Item = ChallengeType>) -> Self {
        Self {
            types: types.into_iter().collect(),
            blind: true,
            ..Self::default()
        }
    }

    fn failing_at(mut self, step: SolverStep) -> Self {
        self.fails_at.push(step);
        self
    }

    fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    async fn step(&self, step: SolverStep, identifier: &Identifier) -> Result<(), BoxError> {
        let entry = format!("{step} {identifier}");
        self.log.lock().unwrap().push(entry);
        if self.hangs_at == Some(step) {
            pending::<()>().await;
        }
        match self.fails_at.contains(&step) {
            true => Err("the zone is read-only".into()),
            false => Ok(()),
        }
    }
}

#[async_trait::async_trait]
impl ChallengeSolver for ZoneSolver {
    fn can_solve(&self, _identifier: &Identifier, kind: &ChallengeType) -> bool {
        self.types.contains(kind)
    }

    async fn check(
        &self,
        identifier: &Identifier,
        account: &AccountContext,
    ) -> Result<(), BoxError> {
        assert!(account.account().as_str().starts_with("https://127.0.0.1"));
        assert!(account.directory().meta.terms_of_service.is_some());
        self.step(SolverStep::Check, identifier).await
    }

    async fn present(&self, presentation: &Presentation) -> Result<(), BoxError> {
        let identifier = presentation.identifier();
        self.step(SolverStep::Present, identifier).await?;
        if !self.blind {
            let record = Zone::record(identifier, presentation.key_authorization().unwrap());
            self.zone.0.lock().unwrap().insert(record);
        }
        Ok(())
    }

    async fn wait(&self, presentation: &Presentation) -> Result<(), BoxError> {
        self.step(SolverStep::Wait, presentation.identifier()).await
    }

    async fn response(&self, presentation: &Presentation) -> Result<ChallengeResponse, BoxError> {
        let identifier = presentation.identifier();
        self.step(SolverStep::Response, identifier).await?;
        Ok(ChallengeResponse::empty())
    }

    async fn clean_up(&self, presentation: &Presentation) -> Result<(), BoxError> {
        let identifier = presentation.identifier();
        assert!(!self.panics, "a solver's fault");
        self.step(SolverStep::CleanUp, identifier).await?;
        if let Some(answer) = presentation.key_authorization() {
            let record = Zone::record(identifier, answer);
            self.zone.0.lock().unwrap().remove(&record);
        }
        Ok(())
    }
}

struct Setup {
    ca: TestCa,
    account: Account,
    server: Http01Server,
    zone: Zone,
}

/// A CA that validates http-01 and dns-01, and an account in a client that knows the directory.
async fn setup(configure: impl FnOnce(TestCaBuilder) -> TestCaBuilder) -> Setup {
    let zone = Zone::default();
    let server = Http01Server::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let builder = TestCa::builder()
        .http01_port(server.local_addrs()[0].port())
        .challenge(zone.challenge());
    let ca = configure(builder).start().await.unwrap();
    let client = Client::builder(ca.directory_url().as_str()).add_root_pem(ca.root_pem());
    let account = client
        .build()
        .await
        .unwrap()
        .new_account(AccountKey::generate().unwrap())
        .agree_to_terms()
        .create()
        .await
        .unwrap();
    ca.clear_requests();
    Setup {
        ca,
        account,
        server,
        zone,
    }
}

/// What was asked of the CA, nonces left out.
fn kinds(ca: &TestCa) -> Vec<ResourceKind> {
    let requests = ca.requests().into_iter().map(|request| request.kind);
    requests
        .filter(|kind| *kind != ResourceKind::NewNonce)
        .collect()
}

/// An issuance that notes its events, by their names.
fn noted(issuance: Issuance) -> (Issuance, Arc<Mutex<Vec<String>>>) {
    let events = Arc::new(Mutex::new(Vec::new()));
    let log = events.clone();
    let issuance = issuance.on_event(move |event| {
        let name = format!("{event:?}");
        let name = name.split([' ', '{']).next().unwrap().to_owned();
        log.lock().unwrap().push(name);
    });
    (issuance, events)
}

#[tokio::test]
async fn the_next_solver_takes_a_new_order_where_the_ca_could_not_validate() {
    let setup = setup(|ca| ca).await;
    let blind = ZoneSolver::blind([ChallengeType::Http01]);
    let (issuance, events) = noted(
        setup
            .account
            .issue(["example.com"])
            .solver(blind.clone())
            .solver(setup.zone.solver()),
    );
    let issued = issuance.await.unwrap();

    use ResourceKind::{Authorization, Certificate, Challenge, Finalize, NewOrder, Order};
    let first = [NewOrder, Authorization, Challenge, Order, Authorization];
    let second = [NewOrder, Authorization, Challenge, Order];
    let expected = [&first[..], &second, &[Finalize, Certificate]].concat();
    assert_eq!(kinds(&setup.ca), expected);
    assert_eq!(
        *events.lock().unwrap(),
        [
            "OrderCreated",
            "Presented",
            "ChallengeReady",
            "OrderFailed",
            "OrderCreated",
            "Presented",
            "ChallengeReady",
            "Validated",
            "Finalizing",
            "Issued"
        ]
    );
    // Each is asked once to check, and cleaned up after.
    let steps = ["check", "present", "see", "compose", "take away"];
    assert_eq!(blind.log(), steps.map(|step| format!("{step} example.com")));
    assert_eq!(setup.zone.len(), 0);
    assert!(issued.leftovers().is_empty());
}

#[tokio::test]
async fn orders_are_bounded_and_the_first_failure_is_kept() {
    let setup = setup(|ca| {
        let refused = |_: &ChallengeAttempt| {
            let problem = Problem::new(ProblemType::IncorrectResponse, "it is none");
            Err(problem.into())
        };
        ca.challenge(CustomChallenge::new("example-01".into(), refused))
            .reuse_authorizations(true)
    })
    .await;
    let types = || {
        [
            "example-01".into(),
            ChallengeType::Http01,
            ChallengeType::Dns01,
            ChallengeType::TlsAlpn01,
        ]
    };
    let failed_by = |error: &Error| {
        let Error::ValidationFailed(failure) = error else {
            panic!("{error:?}");
        };
        failure.failures[0].challenge_type.clone().unwrap()
    };
    for (number, (max_orders, expected)) in [
        (None, 3),
        (Some(0), 1),
        (Some(1), 1),
        (Some(2), 2),
        // One for each type, and then none is left.
        (Some(9), 4),
    ]
    .into_iter()
    .enumerate()
    {
        setup.ca.clear_requests();
        let name = format!("name-{number}.example");
        let mut issuance = setup.account.issue([name]);
        if let Some(max_orders) = max_orders {
            issuance = issuance.max_orders(max_orders);
        }
        let error = issuance.solver(ZoneSolver::blind(types())).await;
        let error = error.unwrap_err();
        assert_eq!(setup.ca.count(ResourceKind::NewOrder), expected);
        assert_eq!(setup.ca.count(ResourceKind::Challenge), expected);

        // What a solver can solve is tried in the order of the types' registration, those without a
        // name here last.
        let order = [
            ChallengeType::Http01,
            ChallengeType::Dns01,
            ChallengeType::TlsAlpn01,
            "example-01".into(),
        ];
        let earlier: Vec<_> = error.earlier().iter().map(failed_by).collect();
        assert_eq!(earlier, order[..expected - 1]);
        assert_eq!(failed_by(error.cause()), order[expected - 1]);
        // Whoever reads the text learns of all.
        for kind in &order[..expected] {
            assert!(error.to_string().contains(kind.as_str()), "{error}");
        }
        assert_eq!(error.problem(), error.cause().problem());
        assert_eq!(error.by_identifier().len(), 1);
        assert_eq!(error.retry(), error.cause().retry());
    }
}

#[tokio::test]
async fn no_order_is_made_where_another_solver_can_not_help() {
    for kind in [
        ProblemType::Caa,
        ProblemType::RateLimited,
        ProblemType::RejectedIdentifier,
    ] {
        let refusal = kind.clone();
        let setup = setup(|ca| {
            ca.challenge(CustomChallenge::new(ChallengeType::Dns01, move |_| {
                Err(Problem::new(refusal.clone(), "the policy forbids it").into())
            }))
        })
        .await;
        let error = setup
            .account
            .issue(["example.com"])
            .solver(ZoneSolver::blind([ChallengeType::Dns01]))
            .solver(setup.server.clone())
            .await
            .unwrap_err();
        assert!(matches!(error, Error::ValidationFailed(_)), "{error:?}");
        assert_eq!(error.problem().unwrap().kind, kind);
        assert_eq!(setup.ca.count(ResourceKind::NewOrder), 1, "{kind}");
    }
}

#[tokio::test]
async fn the_same_order_goes_on_where_the_ca_was_not_asked() {
    for step in [SolverStep::Present, SolverStep::Wait, SolverStep::Response] {
        let setup = setup(|ca| ca).await;
        let failing = setup.zone.solver().failing_at(step);
        let (issuance, events) = noted(
            setup
                .account
                .issue(["a.example", "b.example"])
                .solver(failing.clone())
                .solver(setup.server.clone()),
        );
        let issued = issuance.await.unwrap();
        assert_eq!(setup.ca.count(ResourceKind::NewOrder), 1);
        assert_eq!(setup.ca.count(ResourceKind::Authorization), 2);
        assert_eq!(setup.ca.count(ResourceKind::Challenge), 2);
        let events = events.lock().unwrap();
        let failures = events.iter().filter(|name| *name == "SolverFailed");
        assert_eq!(failures.count(), 2, "{events:?}");
        // Also what was presented in vain is taken away.
        assert_eq!(setup.zone.len(), 0);
        let cleaned = failing.log();
        let cleaned = cleaned.iter().filter(|entry| entry.contains("take away"));
        assert_eq!(cleaned.count(), 2);
        assert!(issued.leftovers().is_empty());
    }
}

/// Waits until all of an order's challenges are waited for.
struct Gathering(Barrier, ZoneSolver);

#[async_trait::async_trait]
impl ChallengeSolver for Gathering {
    fn can_solve(&self, identifier: &Identifier, kind: &ChallengeType) -> bool {
        self.1.can_solve(identifier, kind)
    }

    async fn present(&self, presentation: &Presentation) -> Result<(), BoxError> {
        self.1.present(presentation).await
    }

    async fn wait(&self, _presentation: &Presentation) -> Result<(), BoxError> {
        self.0.wait().await;
        Ok(())
    }

    async fn clean_up(&self, presentation: &Presentation) -> Result<(), BoxError> {
        self.1.clean_up(presentation).await
    }
}

#[tokio::test]
async fn all_waits_are_one() {
    // More than the client has requests under way at once.
    const NAMES: usize = 40;
    let setup = setup(|ca| ca).await;
    let names: Vec<_> = (0..NAMES).map(|n| format!("name-{n}.example")).collect();
    let solver = Gathering(Barrier::new(NAMES), setup.zone.solver());
    let issuance = setup.account.issue(names).solver(solver);
    // Were some of them to wait for others to end, none would.
    issuance.await.unwrap();
}

#[tokio::test]
async fn when_all_solvers_fail_the_ca_is_not_asked() {
    let setup = setup(|ca| ca).await;
    let first = ZoneSolver::blind([ChallengeType::Http01]).failing_at(SolverStep::Present);
    let second = setup.zone.solver().failing_at(SolverStep::Wait);
    let issuance = setup.account.issue(["example.com"]);
    let error = issuance.solver(first).solver(second).await.unwrap_err();
    let step = |error: &Error| match error {
        Error::Solver(failure) => (failure.step, failure.challenge_type.clone()),
        error => panic!("{error:?}"),
    };
    let present = (SolverStep::Present, ChallengeType::Http01);
    assert_eq!(
        step(error.cause()),
        (SolverStep::Wait, ChallengeType::Dns01)
    );
    assert_eq!(
        error.earlier().iter().map(step).collect::<Vec<_>>(),
        [present]
    );
    assert_eq!(error.retry(), Retry::Later);
    assert_eq!(setup.ca.count(ResourceKind::NewOrder), 1);
    assert_eq!(setup.ca.count(ResourceKind::Challenge), 0);
}

#[tokio::test]
async fn a_check_that_fails_makes_no_order() {
    let setup = setup(|ca| ca).await;
    let failing = setup.zone.solver().failing_at(SolverStep::Check);
    let issuance = setup.account.issue(["a.example", "*.example.org"]);
    let error = issuance.solver(failing.clone()).await.unwrap_err();
    let Error::Solver(failure) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(failure.step, SolverStep::Check);
    let text = "failed to check the answer to dns-01 for a.example: the zone is read-only";
    assert!(error.to_string().contains(text), "{error}");
    assert_eq!(kinds(&setup.ca), []);

    // Another one takes its place, and it is not asked to present anything.
    let issuance = setup.account.issue(["a.example"]).solver(failing.clone());
    issuance.solver(setup.server.clone()).await.unwrap();
    assert_eq!(setup.ca.count(ResourceKind::NewOrder), 1);
    assert!(failing.log().iter().all(|entry| entry.starts_with("check")));
}

#[tokio::test]
async fn wildcards_go_by_dns_and_addresses_never_whatever_a_solver_says() {
    let setup = setup(|ca| ca).await;
    let everywhere = || ZoneSolver::blind([ChallengeType::Http01, ChallengeType::TlsAlpn01]);
    let issuance = setup.account.issue(["*.example.com"]).solver(everywhere());
    let error = issuance.await.unwrap_err();
    assert!(matches!(error, Error::NoSolver(_)), "{error:?}");
    let issuance = setup.account.issue(["127.0.0.1"]);
    let error = issuance.solver(setup.zone.solver()).await.unwrap_err();
    assert!(matches!(error, Error::NoSolver(_)), "{error:?}");
    assert_eq!(kinds(&setup.ca), []);

    // Given both, each takes its own, in whichever order they are given.
    let names = ["*.example.com", "example.com", "127.0.0.1"];
    for http_first in [true, false] {
        let zone = setup.zone.solver();
        let issuance = setup.account.issue(names);
        let issuance = match http_first {
            true => issuance.solver(setup.server.clone()).solver(zone.clone()),
            false => issuance.solver(zone.clone()).solver(setup.server.clone()),
        };
        issuance.await.unwrap();
        let log = zone.log();
        let presented = log.iter().filter(|entry| entry.starts_with("present"));
        assert_eq!(presented.count(), if http_first { 1 } else { 2 }, "{log:?}");
        assert!(log.contains(&"present *.example.com".to_owned()), "{log:?}");
        assert!(
            !log.iter().any(|entry| entry.contains("127.0.0.1")),
            "{log:?}"
        );
    }
}

#[tokio::test]
async fn what_is_authorized_already_is_left_alone() {
    let setup = setup(|ca| ca.reuse_authorizations(true)).await;
    let (issuance, events) = noted(
        setup
            .account
            .issue(["a.example", "*.example.org"])
            // Fails for the first name; the wildcard is not for it.
            .solver(ZoneSolver::blind([ChallengeType::Http01]))
            .solver(setup.zone.solver()),
    );
    issuance.await.unwrap();
    assert_eq!(setup.ca.count(ResourceKind::NewOrder), 2);
    // Two in the first order; in the second, the wildcard is valid still.
    assert_eq!(setup.ca.count(ResourceKind::Challenge), 3);
    let events = events.lock().unwrap();
    let skipped = events.iter().filter(|name| *name == "AlreadyAuthorized");
    assert_eq!(skipped.count(), 1, "{events:?}");
}

/// A name whose validation is slow keeps its answer when the order has failed by another name.
#[tokio::test]
async fn answers_stay_until_the_ca_has_come_to_an_end() {
    let setup = setup(|ca| {
        ca.reuse_authorizations(true)
            .validation(Validation::InBackground)
    })
    .await;
    let front = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    setup.ca.set_http01_port(front.local_addr().unwrap().port());
    let (ca, back) = (setup.ca.clone(), setup.server.local_addrs()[0]);
    tokio::spawn(async move {
        let (mut incoming, _) = front.accept().await.unwrap();
        // Both authorizations were read, and read again to learn why the order failed.
        while ca.count(ResourceKind::Authorization) < 4 {
            tokio::task::yield_now().await;
        }
        let mut server = TcpStream::connect(back).await.unwrap();
        copy_bidirectional(&mut incoming, &mut server)
            .await
            .unwrap();
    });

    let failing = ZoneSolver::blind([ChallengeType::Dns01]);
    let error = setup
        .account
        .issue(["*.example.org", "slow.example"])
        .solver(setup.server.clone())
        .solver(failing)
        .await
        .unwrap_err();
    let Error::ValidationFailed(failure) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(failure.failures.len(), 1, "{error}");
    let order = setup.account.new_order(["slow.example"]).create().await;
    let authorizations = order.unwrap().authorizations().await.unwrap();
    assert_eq!(authorizations[0].status().as_str(), "valid");
}

#[tokio::test]
async fn the_next_order_is_like_the_first() {
    let setup = setup(|ca| ca.block("bad.example")).await;
    let issuance = setup.account.issue(["example.com"]);
    let old = issuance.solver(setup.server.clone()).await.unwrap();
    let id = old.chain().certificate_id().unwrap().to_string();
    setup.ca.clear_requests();

    let (issuance, events) = noted(
        setup
            .account
            .issue(["example.com", "bad.example"])
            .replaces(id.clone())
            .drop_rejected(|_, _| true)
            .solver(ZoneSolver::blind([ChallengeType::Http01]))
            .solver(setup.zone.solver()),
    );
    let issued = issuance.await.unwrap();
    assert_eq!(*issued.order().replacement(), Replacement::Announced);
    // One that is refused for the bad name, and two without it.
    let requests = setup.ca.requests();
    let orders: Vec<_> = requests
        .iter()
        .filter(|request| request.kind == ResourceKind::NewOrder)
        .map(|request| request.payload.clone().unwrap())
        .collect();
    assert_eq!(orders.len(), 3);
    assert!(orders.iter().all(|order| order["replaces"] == id.as_str()));
    assert_eq!(orders[1], orders[2]);
    let events = events.lock().unwrap();
    let dropped = events.iter().filter(|name| *name == "Dropped");
    assert_eq!(dropped.count(), 1, "{events:?}");
}

#[tokio::test]
async fn what_can_not_be_taken_away_is_told_and_can_be_later() {
    let setup = setup(|ca| ca).await;
    let failing = || setup.zone.solver().failing_at(SolverStep::CleanUp);
    let issuance = setup.account.issue(["example.com"]).solver(failing());
    let issued = issuance.await.unwrap();
    let [leftover] = issued.leftovers() else {
        panic!("{:?}", issued.leftovers());
    };
    assert_eq!(leftover.reason(), "the zone is read-only");
    assert_eq!(
        leftover.presentation().identifier().to_string(),
        "example.com"
    );
    assert_eq!(setup.zone.len(), 1);

    // Another process: another solver, and what was stored.
    let stored = serde_json::to_string(issued.leftovers()).unwrap();
    let leftovers: Vec<Leftover> = serde_json::from_str(&stored).unwrap();
    assert_eq!(leftovers, issued.leftovers());
    leftovers[0].remove(&setup.zone.solver()).await.unwrap();
    assert_eq!(setup.zone.len(), 0);

    // After failure.
    let blind = ZoneSolver::blind([ChallengeType::Http01]).failing_at(SolverStep::CleanUp);
    let issuance = setup.account.issue(["a.example"]).solver(blind);
    let error = issuance.await.unwrap_err();
    assert!(
        matches!(error.cause(), Error::ValidationFailed(_)),
        "{error:?}"
    );
    assert_eq!(error.leftovers().len(), 1);
    let text = "the answer to http-01 for a.example may still be presented: the zone is read-only";
    assert!(error.to_string().contains(text), "{error}");
}

#[tokio::test]
async fn what_is_left_is_told_when_the_time_is_up_and_when_the_future_is_dropped() {
    let setup = setup(|ca| ca).await;
    let solver = ZoneSolver {
        hangs_at: Some(SolverStep::Wait),
        ..setup.zone.solver().failing_at(SolverStep::CleanUp)
    };
    let issuance = setup.account.issue(["example.com"]).solver(solver.clone());
    let timeout = Duration::from_secs(2);
    let error = issuance.timeout(timeout).await.unwrap_err();
    assert!(matches!(error.cause(), Error::TimedOut(_)), "{error:?}");
    assert_eq!(error.leftovers().len(), 1);

    let (sender, mut leftovers) = tokio::sync::mpsc::unbounded_channel();
    let (presented, mut is_presented) = tokio::sync::mpsc::unbounded_channel();
    let issuance = setup.account.issue(["example.org"]).solver(solver);
    let issuance = issuance.on_event(move |event| match event {
        Event::Presented { .. } => presented.send(()).unwrap(),
        Event::CleanUpFailed { leftover } => sender.send((*leftover).clone()).unwrap(),
        _ => {}
    });
    let running = tokio::spawn(issuance.into_future());
    is_presented.recv().await.unwrap();
    running.abort();
    let leftover = leftovers.recv().await.unwrap();
    assert_eq!(
        leftover.presentation().identifier().to_string(),
        "example.org"
    );
    assert_eq!(setup.zone.len(), 2);
    leftover.remove(&setup.zone.solver()).await.unwrap();
    assert_eq!(setup.zone.len(), 1);
}

#[tokio::test]
async fn a_clean_up_that_hangs_or_panics_holds_up_nothing() {
    let setup = setup(|ca| ca).await;
    let hanging = ZoneSolver {
        hangs_at: Some(SolverStep::CleanUp),
        ..setup.zone.solver()
    };
    let panicking = ZoneSolver {
        panics: true,
        ..setup.zone.solver()
    };
    for (solver, expected) in [
        (hanging, "the solver was not done after 0.2 s"),
        (panicking, "the solver panicked"),
    ] {
        let issued = setup
            .account
            .issue(["*.example.com", "example.com"])
            .solver(setup.server.clone())
            .solver(solver)
            .clean_up_timeout(Duration::from_millis(200))
            .await
            .unwrap();
        let [leftover] = issued.leftovers() else {
            panic!("{:?}", issued.leftovers());
        };
        assert_eq!(leftover.reason(), expected);
    }
}

/// Answers by what it sends, and presents nothing.
struct Attester {
    kind: ChallengeType,
    key: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Attestation {
    att_obj: String,
}

#[async_trait::async_trait]
impl ChallengeSolver for Attester {
    fn can_solve(&self, _identifier: &Identifier, kind: &ChallengeType) -> bool {
        *kind == self.kind
    }

    async fn present(&self, _presentation: &Presentation) -> Result<(), BoxError> {
        Ok(())
    }

    async fn response(&self, presentation: &Presentation) -> Result<ChallengeResponse, BoxError> {
        let nonce = &presentation.challenge().other["nonce"];
        let att_obj = format!("{} {nonce} {}", self.key, presentation.thumbprint());
        Ok(ChallengeResponse::new(&Attestation { att_obj })?)
    }

    async fn clean_up(&self, _presentation: &Presentation) -> Result<(), BoxError> {
        Ok(())
    }
}

#[tokio::test]
async fn any_type_of_challenge_can_be_solved_by_a_payload() {
    for kind in [
        ChallengeType::DeviceAttest01,
        ChallengeType::OnionCsr01,
        ChallengeType::EmailReply00,
        ChallengeType::Tkauth01,
        ChallengeType::from("bp-nodeid-00"),
    ] {
        let validate = |attempt: &ChallengeAttempt| {
            assert_eq!(attempt.challenge.token(), Ok(None));
            let expected = format!("good 7 {}", attempt.thumbprint);
            match attempt.response["attObj"] == expected.as_str() {
                true => Ok(()),
                false => Err(Problem::new(
                    ProblemType::BadAttestationStatement,
                    "the signature does not fit",
                )
                .into()),
            }
        };
        let challenge = CustomChallenge::new(kind.clone(), validate);
        let challenge = challenge.without_token().member("nonce", 7);
        let setup = setup(|ca| ca.challenge(challenge)).await;
        let attester = |key| Attester {
            kind: kind.clone(),
            key,
        };
        let issuance = setup.account.issue(["device.example", "*.device.example"]);
        issuance.solver(attester("good")).await.unwrap();
        let sent: Vec<_> = setup
            .ca
            .requests()
            .into_iter()
            .filter(|request| request.kind == ResourceKind::Challenge)
            .map(|request| request.payload.unwrap())
            .collect();
        let expected = format!("good 7 {}", setup.account.thumbprint());
        let expected = serde_json::json!({ "attObj": expected });
        assert_eq!(sent, [expected.clone(), expected]);

        let issuance = setup.account.issue(["device.example"]);
        let error = issuance.solver(attester("bad")).await.unwrap_err();
        let problem = error.problem().unwrap();
        assert_eq!(problem.kind, ProblemType::BadAttestationStatement);

        // By the handles; other types take an empty object only.
        let order = setup.account.new_order(["device.example"]).create().await;
        let authorizations = order.unwrap().authorizations().await.unwrap();
        let http = authorizations[0].challenge(ChallengeType::Http01).unwrap();
        let response = ChallengeResponse::new(&Attestation {
            att_obj: "good".to_owned(),
        });
        let error = http.ready_with(&response.unwrap()).await.unwrap_err();
        assert_eq!(error.problem().unwrap().kind, ProblemType::Malformed);
        let challenge = authorizations[0].challenge(kind.clone()).unwrap();
        let response = Attestation {
            att_obj: format!("good 7 {}", setup.account.thumbprint()),
        };
        let response = ChallengeResponse::new(&response).unwrap();
        challenge.ready_with(&response).await.unwrap();
        let authorization = authorizations[0].refresh().await.unwrap();
        assert_eq!(authorization.status().as_str(), "valid");
    }
}
