//! The look at what an issuance would fail of, with name servers, web servers and a CA on loopback
//! addresses.

#![cfg(all(
    feature = "dns-01",
    feature = "http-01",
    feature = "hyper",
    feature = "test-ca",
    feature = "tls-alpn-01",
    any(feature = "aws-lc-rs", feature = "ring")
))]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use certwright::dns::{DnsFault, ResponseCode};
use certwright::jose::AccountKey;
use certwright::preflight::{Finding, Preflight, PreflightFault, Report, Severity, TlsAlpn01Fault};
use certwright::protocol::{ChallengeType, Identifier};
use certwright::solver::{
    AccountContext, ChallengeSolver, Dns01, Dns01Error, DnsProvider, Http01Responder, Http01Server,
    Presentation, SelfCheckFault, TlsAlpn01Server, TxtRecord,
};
use certwright::test_ca::{ResourceKind, TestCa};
use certwright::{Account, BoxError, Client};
use hickory_server::proto::rr::RecordType;
use http::StatusCode;
use support::name_server::{Fault, NameServers, RESOLVER, SECOND};
use support::net::free_port;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;

/// By which name CAA records know the CA inside the process.
const CA: &str = "ca.example";
const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const OTHER_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));

struct Setup {
    servers: NameServers,
    ca: TestCa,
    account: Account,
}

async fn setup() -> Setup {
    let ca = TestCa::builder().start().await.unwrap();
    let client = Client::builder(ca.directory_url().as_str())
        .add_root_pem(ca.root_pem())
        .build()
        .await
        .unwrap();
    let account = client
        .new_account(AccountKey::generate().unwrap())
        .agree_to_terms()
        .create()
        .await
        .unwrap();
    ca.clear_requests();
    Setup {
        servers: NameServers::start().await,
        ca,
        account,
    }
}

impl Setup {
    fn preflight(&self, name: &str) -> Preflight {
        self.account
            .preflight([name])
            .dns(self.servers.dns())
            .allow_private_addresses(true)
    }

    fn dns01(&self) -> Dns01 {
        Dns01::new(self.servers.provider())
            .dns(self.servers.dns())
            .propagation_timeout(Duration::ZERO)
    }
}

async fn run(preflight: Preflight) -> Report {
    preflight.run().await.unwrap()
}

fn only(report: &Report) -> &Finding {
    assert_eq!(report.findings().len(), 1, "{report}");
    &report.findings()[0]
}

#[tokio::test]
async fn finds_nothing_where_all_is_well() {
    let setup = setup().await;
    let (servers, provider) = (&setup.servers, setup.servers.provider());
    let http = Http01Server::bind("127.0.0.1:0").await.unwrap();
    let tls = TlsAlpn01Server::bind("127.0.0.1:0").await.unwrap();
    servers.address("example.com", V4);
    servers.caa("example.com", false, "issue", "other.example");
    servers.caa("example.com", false, "issue", CA);
    servers.txt("_acme-challenge.example.com", &["of somebody else"]);

    let preflight = setup
        .account
        .preflight(["example.com", "*.example.com", "127.0.0.1"])
        .dns(servers.dns())
        .http_port(http.local_addrs()[0].port())
        .tls_port(tls.local_addrs()[0].port())
        .allow_private_addresses(true)
        .solver(http.clone())
        .solver(tls)
        .solver(Dns01::new(provider.clone()).dns(servers.dns()));
    let report = run(preflight).await;
    assert!(report.is_ok() && report.findings().is_empty(), "{report}");

    // It was written to where the CA looks, and nothing is left.
    let calls = provider.calls();
    assert_eq!(calls.len(), 4, "{calls:?}");
    for (_, name, zone, _) in calls {
        assert_eq!(name, "_acme-challenge.example.com");
        assert_eq!(zone.as_deref(), Some("example.com"));
    }
    assert_eq!(
        servers.texts("_acme-challenge.example.com"),
        ["of somebody else"]
    );
    let left = format!("{:?}", http.responder());
    assert_eq!(left, "Http01Responder { live: {} }");
    // The CA was asked for its directory at the most.
    for kind in [ResourceKind::NewOrder, ResourceKind::Challenge] {
        assert_eq!(setup.ca.count(kind), 0);
    }
}

#[tokio::test]
async fn tells_where_caa_forbids() {
    let setup = setup().await;
    let servers = &setup.servers;
    let account = setup.account.url();

    // The closest name with records counts, and where it is an alias, those of its target.
    servers.caa("example.com", false, "issue", "other.example");
    for name in ["example.com", "a.b.example.com", "*.example.com"] {
        let report = run(setup.preflight(name)).await;
        let finding = only(&report);
        assert_eq!(finding.severity(), Severity::Error);
        assert_eq!(finding.challenge_type(), None);
        let PreflightFault::CaaForbids {
            at,
            tag,
            values,
            identities,
        } = finding.fault()
        else {
            panic!("{report}");
        };
        assert_eq!((at.as_str(), tag.as_str()), ("example.com", "issue"));
        assert_eq!(values, &["other.example"]);
        assert_eq!(identities, &[CA]);
        assert!(report.to_string().contains("CAA 0 issue \"ca.example\""));
    }
    servers.caa("nearer.example.com", false, "issue", CA);
    servers.cname("alias.example.com", "nearer.example.com");
    for name in [
        "nearer.example.com",
        "x.nearer.example.com",
        "alias.example.com",
    ] {
        assert!(run(setup.preflight(name)).await.findings().is_empty());
    }

    servers.caa("wild.example.com", false, "issue", CA);
    servers.caa("wild.example.com", false, "issuewild", ";");
    assert!(run(setup.preflight("wild.example.com")).await.is_ok());
    let report = run(setup.preflight("*.wild.example.com")).await;
    let PreflightFault::CaaForbids { tag, .. } = only(&report).fault() else {
        panic!("{report}");
    };
    assert_eq!(tag, "issuewild");

    servers.caa("critical.example.com", false, "issue", CA);
    servers.caa("critical.example.com", true, "tbs", "unknown");
    let report = run(setup.preflight("critical.example.com")).await;
    let PreflightFault::CaaCritical { tag, .. } = only(&report).fault() else {
        panic!("{report}");
    };
    assert_eq!(tag, "tbs");

    let value = format!("{CA}; accounturi={account}");
    servers.caa("mine.example.com", false, "issue", &value);
    assert!(run(setup.preflight("mine.example.com")).await.is_ok());
    let value = format!("{CA}; accounturi={account}0");
    servers.caa("theirs.example.com", false, "issue", &value);
    let report = run(setup.preflight("theirs.example.com")).await;
    let PreflightFault::CaaAccount {
        allowed,
        account: told,
        ..
    } = only(&report).fault()
    else {
        panic!("{report}");
    };
    assert_eq!(allowed, &[format!("{account}0")]);
    assert_eq!(told, account);
}

#[tokio::test]
async fn tells_where_caa_cannot_be_looked_up() {
    let setup = setup().await;
    // The name itself has an answer: none. The CA climbs on.
    setup
        .servers
        .fault(RESOLVER, "example.com", RecordType::CAA, Fault::ServFail);
    let report = run(setup.preflight("www.example.com")).await;
    let PreflightFault::CaaLookup(error) = only(&report).fault() else {
        panic!("{report}");
    };
    assert_eq!(error.name, "example.com");
    assert!(matches!(
        error.fault,
        DnsFault::Response(ResponseCode::ServFail)
    ));
    assert!(!report.is_ok());
}

#[tokio::test]
async fn goes_by_the_names_that_the_ca_is_said_to_have() {
    let servers = NameServers::start().await;
    servers.caa(
        "example.com",
        false,
        "issue",
        "ca.test; accounturi=https://ca.test/1",
    );
    let preflight = || Preflight::new(["example.com"]).dns(servers.dns());
    let report = run(preflight().caa_identities(["CA.test"])).await;
    assert!(report.findings().is_empty(), "{report}");

    let report = run(preflight()).await;
    assert!(matches!(
        only(&report).fault(),
        PreflightFault::CaaUnknownCa { .. }
    ));
    assert_eq!(only(&report).severity(), Severity::Warning);
    assert!(report.is_ok());
    assert_eq!(report.into_result().unwrap().len(), 1);
}

#[tokio::test]
async fn a_fault_of_one_type_is_a_warning_where_another_works() {
    let setup = setup().await;
    let servers = &setup.servers;
    servers.address("example.com", V4);
    let value = format!("{CA}; validationmethods=dns-01");
    servers.caa("example.com", false, "issue", &value);
    let http = Http01Server::bind("127.0.0.1:0").await.unwrap();
    let port = http.local_addrs()[0].port();

    let report = run(setup
        .preflight("example.com")
        .http_port(port)
        .solver(http.clone()))
    .await;
    let PreflightFault::CaaMethod {
        allowed, method, ..
    } = only(&report).fault()
    else {
        panic!("{report}");
    };
    assert_eq!(allowed, &["dns-01"]);
    assert_eq!(*method, ChallengeType::Http01);
    assert!(!report.is_ok());

    let both = setup.preflight("example.com").http_port(port);
    let report = run(both.solver(http).solver(setup.dns01())).await;
    assert_eq!(only(&report).severity(), Severity::Warning);
    assert_eq!(only(&report).challenge_type(), Some(&ChallengeType::Http01));
    assert!(report.is_ok());
}

#[tokio::test]
async fn fetches_what_is_presented_at_each_address() {
    let setup = setup().await;
    setup.servers.address("example.com", V4);
    setup.servers.address("example.com", OTHER_V4);
    let http = Http01Server::bind("127.0.0.1:0").await.unwrap();
    let port = http.local_addrs()[0].port();

    // Nothing listens at one of them.
    let report = run(setup
        .preflight("example.com")
        .http_port(port)
        .solver(http.clone()))
    .await;
    let PreflightFault::Http01(failure) = only(&report).fault() else {
        panic!("{report}");
    };
    assert_eq!(failure.address(), Some(SocketAddr::new(OTHER_V4, port)));
    assert!(matches!(failure.fault(), SelfCheckFault::Connect(_)));
    assert!(!report.is_ok());

    // Another server does.
    let _other = Http01Server::bind((OTHER_V4, port)).await.unwrap();
    let report = run(setup
        .preflight("example.com")
        .http_port(port)
        .solver(http.clone()))
    .await;
    let PreflightFault::Http01(failure) = only(&report).fault() else {
        panic!("{report}");
    };
    assert!(matches!(
        failure.fault(),
        SelfCheckFault::Status(StatusCode::NOT_FOUND)
    ));

    // That is not to be seen where nothing is presented.
    let preflight = setup.preflight("example.com").http_port(port).solver(http);
    let report = run(preflight.without_rehearsal()).await;
    assert!(report.findings().is_empty(), "{report}");
}

#[tokio::test]
async fn tells_ports_that_take_no_connection() {
    let setup = setup().await;
    setup.servers.address("example.com", V4);
    setup.servers.address("example.com", OTHER_V4);
    let closed = free_port();
    let preflight = setup.preflight("127.0.0.1").http_port(closed);
    let preflight = preflight.solver(Http01Responder::default());
    let report = run(preflight.without_rehearsal()).await;
    let PreflightFault::Connect { address, .. } = only(&report).fault() else {
        panic!("{report}");
    };
    assert_eq!(*address, SocketAddr::new(V4, closed));

    if std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return;
    }
    let open = std::net::TcpListener::bind((V4, 0)).unwrap();
    let port = open.local_addr().unwrap().port();
    setup.servers.address("six.example.com", V4);
    setup
        .servers
        .address("six.example.com", Ipv6Addr::LOCALHOST.into());
    let preflight = setup.preflight("six.example.com").http_port(port);
    let preflight = preflight.solver(Http01Responder::default());
    let report = run(preflight.without_rehearsal()).await;
    assert!(matches!(
        only(&report).fault(),
        PreflightFault::Connect { has_v4: true, .. }
    ));
    assert!(report.to_string().contains("AAAA record"), "{report}");
}

#[tokio::test]
async fn asks_for_the_certificate_at_each_address() {
    let setup = setup().await;
    setup.servers.address("example.com", V4);
    setup.servers.address("example.com", OTHER_V4);
    let tls = TlsAlpn01Server::bind("127.0.0.1:0").await.unwrap();
    let port = tls.local_addrs()[0].port();
    let preflight = || {
        setup
            .preflight("example.com")
            .tls_port(port)
            .solver(tls.clone())
    };
    let report = run(preflight()).await;
    let PreflightFault::Connect {
        address, has_v4, ..
    } = only(&report).fault()
    else {
        panic!("{report}");
    };
    assert_eq!(
        (*address, *has_v4),
        (SocketAddr::new(OTHER_V4, port), false)
    );

    // One that presents nothing, and one that is in plain text.
    let other = TlsAlpn01Server::bind((OTHER_V4, port)).await.unwrap();
    let report = run(preflight()).await;
    let PreflightFault::TlsAlpn01 { address, .. } = only(&report).fault() else {
        panic!("{report}");
    };
    assert_eq!(*address, SocketAddr::new(OTHER_V4, port));
    other.shut_down().await;
    let _plain = Http01Server::bind((OTHER_V4, port)).await.unwrap();
    let report = run(preflight()).await;
    assert!(matches!(
        only(&report).fault(),
        PreflightFault::TlsAlpn01 {
            fault: TlsAlpn01Fault::Handshake(_),
            ..
        }
    ));
}

#[tokio::test]
async fn tells_addresses_that_no_ca_connects_to() {
    let setup = setup().await;
    setup.servers.address("example.com", V4);
    let http = Http01Server::bind("127.0.0.1:0").await.unwrap();
    let port = http.local_addrs()[0].port();
    let preflight = |rehearse: bool| {
        let preflight = setup.preflight("example.com").http_port(port);
        let preflight = preflight
            .allow_private_addresses(false)
            .solver(http.clone());
        match rehearse {
            true => preflight,
            false => preflight.without_rehearsal(),
        }
    };
    let report = run(preflight(true)).await;
    let PreflightFault::Http01(failure) = only(&report).fault() else {
        panic!("{report}");
    };
    assert!(matches!(failure.fault(), SelfCheckFault::SpecialAddress));
    let report = run(preflight(false)).await;
    assert!(matches!(
        only(&report).fault(),
        PreflightFault::SpecialAddress(V4)
    ));
}

#[tokio::test]
async fn tells_names_without_address() {
    let setup = setup().await;
    for (rehearse, name) in [(false, "no.example.com"), (true, "no.example.com")] {
        let mut preflight = setup.preflight(name).solver(Http01Responder::default());
        if !rehearse {
            preflight = preflight.without_rehearsal();
        }
        let report = run(preflight).await;
        match only(&report).fault() {
            PreflightFault::NoAddress => assert!(!rehearse),
            PreflightFault::Http01(failure) => {
                assert!(rehearse && matches!(failure.fault(), SelfCheckFault::NoAddress));
            }
            other => panic!("{other}"),
        }
        assert!(report.to_string().contains("A or"), "{report}");
    }
}

#[tokio::test]
async fn writes_where_an_alias_leads() {
    let setup = setup().await;
    let servers = &setup.servers;
    servers.zone("delegated.test");
    servers.cname("_acme-challenge.example.com", "x.delegated.test");
    let provider = servers.provider();
    let solver = Dns01::new(provider.clone()).dns(servers.dns());
    let report = run(setup.preflight("*.example.com").solver(solver)).await;
    assert!(report.findings().is_empty(), "{report}");
    let calls = provider.calls();
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert_eq!(calls[0].1, "x.delegated.test");
    assert_eq!(calls[0].2.as_deref(), Some("delegated.test"));
    assert!(servers.texts("x.delegated.test").is_empty());
}

#[tokio::test]
async fn tells_zones_that_are_missing() {
    let setup = setup().await;
    let report = run(setup.preflight("elsewhere.test").solver(setup.dns01())).await;
    let PreflightFault::Present(source) = only(&report).fault() else {
        panic!("{report}");
    };
    assert!(source.is::<Dns01Error>(), "{source}");
    assert!(
        report
            .to_string()
            .contains("_acme-challenge.elsewhere.test"),
        "{report}"
    );
    assert!(!report.is_ok());
}

/// Refuses to write, as with a token that lacks a right; or writes nothing.
struct Unwilling {
    refuses: bool,
}

#[async_trait]
impl DnsProvider for Unwilling {
    async fn add(&self, _: &TxtRecord) -> Result<(), BoxError> {
        match self.refuses {
            true => Err("the token may not edit this zone".into()),
            false => Ok(()),
        }
    }

    async fn remove(&self, _: &TxtRecord) -> Result<(), BoxError> {
        Ok(())
    }
}

#[tokio::test]
async fn tells_providers_that_refuse_to_write() {
    let setup = setup().await;
    let solver = Dns01::new(Unwilling { refuses: true }).dns(setup.servers.dns());
    let report = run(setup.preflight("example.com").solver(solver)).await;
    assert!(matches!(only(&report).fault(), PreflightFault::Present(_)));
    assert!(
        report
            .to_string()
            .contains("the token may not edit this zone"),
        "{report}"
    );
    assert_eq!(only(&report).challenge_type(), Some(&ChallengeType::Dns01));
}

#[tokio::test]
async fn tells_servers_that_do_not_have_what_was_written() {
    let setup = setup().await;
    let name = "_acme-challenge.example.com";
    setup
        .servers
        .fault(SECOND, name, RecordType::TXT, Fault::Stale(usize::MAX));
    let report = run(setup.preflight("example.com").solver(setup.dns01())).await;
    let PreflightFault::Wait(source) = only(&report).fault() else {
        panic!("{report}");
    };
    let text = source.to_string();
    assert!(text.contains("ns2.servers.test"), "{text}");
    assert!(setup.servers.texts(name).is_empty());

    // The provider says that it wrote, and did not.
    let solver = Dns01::new(Unwilling { refuses: false })
        .dns(setup.servers.dns())
        .propagation_timeout(Duration::ZERO);
    let report = run(setup.preflight("www.example.com").solver(solver)).await;
    let PreflightFault::Wait(source) = only(&report).fault() else {
        panic!("{report}");
    };
    let Some(Dns01Error::NotPropagated(report)) = source.downcast_ref() else {
        panic!("{source}");
    };
    assert_eq!(report.servers.len(), 2);
}

#[tokio::test]
async fn tells_identifiers_that_no_solver_can_solve() {
    let setup = setup().await;
    let preflight = setup
        .preflight("*.example.com")
        .solver(Http01Responder::default());
    let report = run(preflight).await;
    assert!(matches!(only(&report).fault(), PreflightFault::NoSolver));
    let preflight = setup.preflight("127.0.0.1").solver(setup.dns01());
    let report = run(preflight).await;
    assert!(matches!(only(&report).fault(), PreflightFault::NoSolver));
    assert!(setup.preflight("under_score.example").run().await.is_err());
}

/// A solver that fails, or hangs, where it is told to; and keeps what it was asked.
#[derive(Clone, Default)]
struct Scripted {
    check: Option<&'static str>,
    hangs: bool,
    cleans: bool,
    calls: Arc<Mutex<Vec<String>>>,
    cleaned: Arc<Notify>,
}

#[async_trait]
impl ChallengeSolver for Scripted {
    fn can_solve(&self, _: &Identifier, kind: &ChallengeType) -> bool {
        *kind == ChallengeType::Dns01
    }

    async fn check(&self, _: &Identifier, account: &AccountContext) -> Result<(), BoxError> {
        assert!(account.account().as_str().starts_with("https://"));
        match self.check {
            Some(fault) => Err(fault.into()),
            None => Ok(()),
        }
    }

    async fn present(&self, presentation: &Presentation) -> Result<(), BoxError> {
        let token = presentation.token().unwrap().to_string();
        assert!(token.starts_with("certwright-preflight-"));
        self.calls.lock().unwrap().push(token);
        Ok(())
    }

    async fn wait(&self, _: &Presentation) -> Result<(), BoxError> {
        match self.hangs {
            true => std::future::pending().await,
            false => Ok(()),
        }
    }

    async fn clean_up(&self, presentation: &Presentation) -> Result<(), BoxError> {
        let token = presentation.token().unwrap().to_string();
        self.calls.lock().unwrap().retain(|known| *known != token);
        self.cleaned.notify_one();
        match self.cleans {
            true => Ok(()),
            false => Err("it stays".into()),
        }
    }
}

#[tokio::test]
async fn tells_what_the_solvers_own_check_finds_and_what_is_left_behind() {
    let setup = setup().await;
    let solver = Scripted {
        check: Some("no record of yours"),
        ..Scripted::default()
    };
    let report = run(setup.preflight("example.com").solver(solver)).await;
    assert!(matches!(only(&report).fault(), PreflightFault::Check(_)));
    assert!(report.to_string().contains("no record of yours"));

    let report = run(setup.preflight("example.com").solver(Scripted::default())).await;
    assert!(matches!(only(&report).fault(), PreflightFault::CleanUp(_)));
    assert!(report.is_ok());
}

#[tokio::test]
async fn takes_away_what_was_presented_when_its_time_is_over_or_nobody_waits() {
    let setup = setup().await;
    let solver = Scripted {
        hangs: true,
        cleans: true,
        ..Scripted::default()
    };
    let limit = Duration::from_millis(300);
    let preflight = setup.preflight("example.com").timeout(limit);
    let report = run(preflight.solver(solver.clone())).await;
    assert!(
        matches!(only(&report).fault(), PreflightFault::TimedOut { limit: told, .. } if *told == limit)
    );
    assert!(solver.calls.lock().unwrap().is_empty());
    solver.cleaned.notified().await;

    // Dropped while the solver waits.
    let preflight = setup.preflight("example.com").timeout(limit);
    let running = tokio::spawn(run(preflight.solver(solver.clone())));
    while solver.calls.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    let cleaned = tokio::time::timeout(Duration::from_secs(30), solver.cleaned.notified());
    cleaned.await.unwrap();
    assert!(solver.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_example_tells_what_it_finds() {
    let servers = NameServers::start().await;
    servers.address("example.com", V4);
    servers.caa("example.com", false, "issue", "other.example");
    let http = Http01Server::bind("127.0.0.1:0").await.unwrap();
    let resolver = servers.resolver().to_string();
    let http_port = http.local_addrs()[0].port().to_string();
    let tls_port = free_port().to_string();
    let run = async |ca: &'static str| {
        let arguments = [
            "--ca",
            ca,
            "--dns",
            &resolver,
            "--http-port",
            &http_port,
            "--tls-port",
            &tls_port,
            "--private",
            "example.com",
        ];
        let arguments = arguments.map(str::to_owned);
        let output = spawn_blocking(move || support::examples::run("preflight", arguments)).await;
        let output = output.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.success(), text)
    };
    let (success, text) = run("ca.example").await;
    assert!(!success);
    assert!(
        text.contains("error: example.com: CAA at example.com"),
        "{text}"
    );
    let (success, text) = run("other.example").await;
    assert!(success, "{text}");
    assert!(
        text.contains("warning: example.com by tls-alpn-01"),
        "{text}"
    );
}
