//! The solvers over DNS: records in zones on loopback addresses, and a CA inside the process that
//! validates them.

#![cfg(all(
    feature = "dns-01",
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

mod support;

use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime};

use certwright::jose::{
    AccountKey, DnsPersistAccount, DnsPersistRecord, KeyAuthorization, Signer, Thumbprint,
};
use certwright::protocol::{
    Challenge, ChallengeType, DnsName, DnsPersistAccountForm, Identifier, ProblemType, Url,
};
use certwright::solver::{
    ChallengeSolver, Dns01, Dns01Error, DnsPersist01, DnsPersist01Error, Http01Server,
    NotPropagated, Presentation, Seen,
};
use certwright::test_ca::{DnsPersist, ResourceKind, TestCa, TestCaBuilder};
use certwright::{Account, BoxError, Client, Error};
use hickory_server::proto::rr::RecordType as Wire;

use self::support::name_server::{FIRST, Fault, NameServers, Provider, RESOLVER, SECOND};

const CHALLENGE: &str = "_acme-challenge.example.com";

struct Setup {
    servers: NameServers,
    provider: Provider,
    ca: TestCa,
    account: Account,
    key: Thumbprint,
}

async fn setup() -> Setup {
    setup_with(|builder| builder).await
}

async fn setup_with(change: impl FnOnce(TestCaBuilder) -> TestCaBuilder) -> Setup {
    let servers = NameServers::start().await;
    let builder = TestCa::builder().resolver(servers.resolver());
    let ca = change(builder).start().await.unwrap();
    let key = AccountKey::generate().unwrap();
    let thumbprint = key.public_key().thumbprint();
    let client = Client::builder(ca.directory_url().as_str())
        .add_root_pem(ca.root_pem())
        .build()
        .await
        .unwrap();
    let account = client
        .new_account(key)
        .agree_to_terms()
        .create()
        .await
        .unwrap();
    ca.clear_requests();
    Setup {
        provider: servers.provider(),
        servers,
        ca,
        account,
        key: thumbprint,
    }
}

impl Setup {
    fn dns01(&self) -> Dns01 {
        brief(Dns01::new(self.provider.clone()), &self.servers)
    }

    fn persist(&self) -> DnsPersist01 {
        DnsPersist01::new().dns(self.servers.dns())
    }

    /// Publishes the record for a name, changed in some way.
    async fn publish(&self, name: &str, change: impl FnOnce(DnsPersistRecord) -> DnsPersistRecord) {
        let directory = self.account.client().session().directory().await.unwrap();
        let account = DnsPersistAccount::new(
            self.account.url(),
            self.account.thumbprint(),
            &directory.meta,
        );
        let name = DnsName::parse(name).unwrap();
        let record = change(DnsPersistRecord::new(&name, "ca.example", &account));
        let strings = record.strings();
        let strings: Vec<_> = strings.iter().map(String::as_str).collect();
        self.servers.txt(record.name(), &strings);
    }

    fn presentation(&self, name: &str, token: &str) -> Presentation {
        presentation(name, token, &self.key)
    }
}

fn brief(solver: Dns01, servers: &NameServers) -> Dns01 {
    solver
        .dns(servers.dns().timeout(Duration::from_secs(1)))
        .propagation_timeout(Duration::ZERO)
}

const TOKENS: [&str; 2] = [
    "DGyRejmCefe7v4NfDGDKfADGyRejmCef",
    "pNvmJivs0WCko2suV7fhe-59oFqyYx_y",
];

fn presentation(name: &str, token: &str, key: &Thumbprint) -> Presentation {
    let url = |path: &str| Url::parse(&format!("https://ca.example/{path}")).unwrap();
    let challenge = Challenge::pending(
        ChallengeType::Dns01,
        url("challenge/1"),
        Some(token.to_owned()),
    );
    let name: Identifier = name.parse().unwrap();
    Presentation::new(name, challenge, url("account/1"), key).unwrap()
}

fn not_propagated(error: &BoxError) -> &NotPropagated {
    match error.downcast_ref() {
        Some(Dns01Error::NotPropagated(report)) => report,
        _ => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_wildcard_and_its_apex_have_two_values_at_one_name() {
    let setup = setup().await;
    setup.servers.txt(CHALLENGE, &["somebody else's"]);
    setup
        .account
        .issue(["example.com", "*.example.com", "a.b.example.com"])
        .solver(setup.dns01())
        .await
        .unwrap();

    let calls = setup.provider.calls();
    let added = |name: &str| {
        let calls = calls.iter();
        calls
            .filter(|call| (call.0, call.1.as_str()) == ("add", name))
            .count()
    };
    assert_eq!(
        (added(CHALLENGE), added("_acme-challenge.a.b.example.com")),
        (2, 1)
    );
    assert!(
        calls
            .iter()
            .all(|call| call.2.as_deref() == Some("example.com"))
    );
    // All that was added is gone, and no more.
    assert_eq!(calls.len(), 6);
    assert_eq!(setup.servers.texts(CHALLENGE), ["somebody else's"]);
    assert!(
        setup
            .servers
            .texts("_acme-challenge.a.b.example.com")
            .is_empty()
    );
}

#[tokio::test]
async fn an_alias_delegates_control_to_another_zone() {
    let setup = setup().await;
    setup.servers.zone("acme.other.test");
    setup
        .servers
        .cname(CHALLENGE, "example-com.acme.other.test");
    setup
        .account
        .issue(["example.com"])
        .solver(setup.dns01())
        .await
        .unwrap();
    let calls = setup.provider.calls();
    assert_eq!(calls.len(), 2);
    for call in calls {
        assert_eq!(call.1, "example-com.acme.other.test");
        assert_eq!(call.2.as_deref(), Some("acme.other.test"));
    }
    assert!(
        setup
            .servers
            .texts("example-com.acme.other.test")
            .is_empty()
    );
}

#[tokio::test]
async fn an_alias_that_leads_in_a_circle_costs_no_validation() {
    let setup = setup().await;
    setup.servers.cname(CHALLENGE, "x.example.com");
    setup.servers.cname("x.example.com", CHALLENGE);
    let error = setup
        .account
        .issue(["example.com"])
        .solver(setup.dns01())
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("CNAME records lead in a circle"),
        "{error}"
    );
    assert_eq!(setup.ca.count(ResourceKind::Challenge), 0);
    assert!(setup.provider.calls().is_empty());
}

#[tokio::test]
async fn dns_account_01_has_a_name_of_the_accounts_own() {
    let setup = setup().await;
    let solver = brief(Dns01::for_account(setup.provider.clone()), &setup.servers);
    let name = DnsName::parse("example.com").unwrap();
    let expected = solver.record_name(&name, setup.account.url());
    setup
        .account
        .issue(["example.com", "*.example.com"])
        .solver(solver)
        .await
        .unwrap();
    let calls = setup.provider.calls();
    assert_eq!(calls.len(), 4);
    assert!(calls.iter().all(|call| call.1 == expected), "{calls:?}");
    assert!(expected.starts_with('_') && expected.ends_with("._acme-challenge.example.com"));
}

#[tokio::test]
async fn a_value_that_is_missing_at_one_server_spends_no_order() {
    let setup = setup().await;
    setup.servers.txt(CHALLENGE, &["old value"]);
    let only_old = Fault::Stale(usize::MAX);
    setup.servers.fault(SECOND, CHALLENGE, Wire::TXT, only_old);
    let error = setup
        .account
        .issue(["example.com"])
        .solver(setup.dns01())
        .await
        .unwrap_err();
    let Error::Solver(failure) = &error else {
        panic!("{error}");
    };
    let report = not_propagated(&failure.source);
    assert_eq!(
        (report.name.as_str(), report.zone.as_deref()),
        (CHALLENGE, Some("example.com"))
    );
    assert!(matches!(report.servers[0].seen, Seen::Present));
    assert!(matches!(report.servers[1].seen, Seen::Nothing));
    let told = error.to_string();
    let second = format!(
        "ns2.servers.test ({}) has no TXT record there",
        setup.servers.at(SECOND)
    );
    assert!(told.contains(&second), "{told}");
    // The CA was not told, so it has not failed at anything; and nothing is left behind.
    assert_eq!(setup.ca.count(ResourceKind::Challenge), 0);
    assert_eq!(setup.servers.texts(CHALLENGE), ["old value"]);
}

#[tokio::test]
async fn each_server_is_told_with_what_it_says() {
    let setup = setup().await;
    let solver = setup.dns01();
    let presentation = setup.presentation("example.com", TOKENS[0]);
    solver.present(&presentation).await.unwrap();
    for (fault, expected) in [
        (Fault::ServFail, "SERVFAIL"),
        (Fault::Refused, "REFUSED"),
        (Fault::Lame, "not authoritative"),
        (Fault::Silent, "no answer came within 1 s"),
    ] {
        setup.servers.fault(FIRST, CHALLENGE, Wire::TXT, fault);
        let error = solver.wait(&presentation).await.unwrap_err();
        let report = not_propagated(&error);
        assert!(
            matches!(&report.servers[0].seen, Seen::Failed(_)),
            "{error}"
        );
        assert!(matches!(&report.servers[1].seen, Seen::Present), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }

    // Other values are told as well.
    setup
        .servers
        .fault(FIRST, CHALLENGE, Wire::TXT, Fault::Truncated);
    solver.wait(&presentation).await.unwrap();
    solver.clean_up(&presentation).await.unwrap();
    setup.servers.txt(CHALLENGE, &["other"]);
    let error = solver.wait(&presentation).await.unwrap_err();
    let report = not_propagated(&error);
    let others = |seen: &Seen| matches!(seen, Seen::Others(values) if values == &["other"]);
    assert!(
        report.servers.iter().all(|server| others(&server.seen)),
        "{error}"
    );
}

#[tokio::test]
async fn waits_until_the_last_server_has_the_value() {
    let setup = setup().await;
    setup
        .servers
        .fault(FIRST, CHALLENGE, Wire::TXT, Fault::Stale(2));
    setup
        .servers
        .fault(SECOND, CHALLENGE, Wire::TXT, Fault::Stale(4));
    let solver = setup
        .dns01()
        .propagation_timeout(Duration::from_secs(60))
        .poll_interval(Duration::from_millis(10));
    setup
        .account
        .issue(["example.com"])
        .solver(solver)
        .await
        .unwrap();
    let asked = setup.servers.asked();
    let looks = |server: Ipv4Addr| {
        let asked = asked.iter();
        let texts = asked.filter(|asked| asked.record_type == Wire::TXT);
        texts
            .filter(|asked| asked.server == server && asked.name == CHALLENGE)
            .count()
    };
    assert_eq!((looks(FIRST), looks(SECOND)), (5, 5));
    // The one who looks things up for others was not asked too early by us: only the CA asked it.
    assert_eq!(looks(RESOLVER), 1);
}

#[tokio::test]
async fn resolvers_are_asked_after_the_authorities() {
    let setup = setup().await;
    setup
        .servers
        .fault(FIRST, CHALLENGE, Wire::TXT, Fault::Stale(1));
    setup
        .servers
        .fault(RESOLVER, CHALLENGE, Wire::TXT, Fault::Stale(1));
    let solver = setup.dns01().also_at([setup.servers.resolver()]);
    let presentation = setup.presentation("example.com", TOKENS[0]);
    solver.present(&presentation).await.unwrap();

    // The authorities do not have it, so nobody else is asked.
    let error = solver.wait(&presentation).await.unwrap_err();
    assert_eq!(not_propagated(&error).servers.len(), 2);
    // They have it, and the resolver does not yet.
    let error = solver.wait(&presentation).await.unwrap_err();
    let servers = &not_propagated(&error).servers;
    assert_eq!((servers.len(), servers[2].server.as_str()), (3, "resolver"));
    assert!(matches!(servers[2].seen, Seen::Nothing));
    solver.wait(&presentation).await.unwrap();
}

#[tokio::test]
async fn addresses_that_cannot_be_reached_from_here_are_left_out() {
    let setup = setup().await;
    // Of the range for what is to be discarded (RFC 6666).
    setup
        .servers
        .address("ns1.servers.test", "100::1".parse().unwrap());
    let solver = setup.dns01();
    let presentation = setup.presentation("example.com", TOKENS[0]);
    solver.present(&presentation).await.unwrap();
    let reachable = std::net::UdpSocket::bind("[::]:0")
        .and_then(|socket| socket.connect("[100::1]:53"))
        .is_ok();
    match solver.wait(&presentation).await {
        // The host has a route to that address, so it counts, and is silent.
        Err(error) if reachable => {
            assert!(matches!(
                not_propagated(&error).servers[1].seen,
                Seen::Failed(_)
            ));
        }
        result => result.unwrap(),
    }
}

#[tokio::test]
async fn without_check_nobody_is_asked() {
    let setup = setup().await;
    let solver = setup
        .dns01()
        .without_aliases()
        .without_zone_lookup()
        .without_check(Duration::from_millis(1));
    let presentation = setup.presentation("example.com", TOKENS[0]);
    solver.present(&presentation).await.unwrap();
    solver.wait(&presentation).await.unwrap();
    solver.clean_up(&presentation).await.unwrap();
    assert!(setup.servers.asked().is_empty());
    let calls = setup.provider.calls();
    assert_eq!(calls.len(), 2);
    assert!(
        calls
            .iter()
            .all(|call| call.2.is_none() && call.1 == CHALLENGE)
    );
}

#[tokio::test]
async fn a_new_solver_takes_away_what_another_one_presented() {
    let setup = setup().await;
    setup.servers.zone("other.test");
    setup.servers.cname(CHALLENGE, "x.other.test");
    let presentations = TOKENS.map(|token| setup.presentation("*.example.com", token));
    let solver = setup.dns01();
    for presentation in &presentations {
        solver.present(presentation).await.unwrap();
    }
    drop(solver);
    assert_eq!(setup.servers.texts("x.other.test").len(), 2);

    let other = setup.dns01();
    let stored = serde_json::to_string(&presentations[0]).unwrap();
    other
        .clean_up(&serde_json::from_str(&stored).unwrap())
        .await
        .unwrap();
    let left = presentations[1].key_authorization().unwrap();
    assert_eq!(setup.servers.texts("x.other.test"), [left.dns_txt_value()]);
    // There is nothing to take away any more, and that is fine.
    other.clean_up(&presentations[0]).await.unwrap();
    assert_eq!(setup.servers.texts("x.other.test").len(), 1);
}

#[tokio::test]
async fn a_value_stays_while_another_order_needs_it() {
    let setup = setup().await;
    let presentation = setup.presentation("example.com", TOKENS[0]);
    let value = KeyAuthorization::dns_txt_value(presentation.key_authorization().unwrap());
    let solver = setup.dns01();
    solver.present(&presentation).await.unwrap();
    // The same authorization, in an order that runs at once.
    solver.present(&presentation).await.unwrap();
    solver.clean_up(&presentation).await.unwrap();
    assert_eq!(setup.servers.texts(CHALLENGE), [value]);
    solver.clean_up(&presentation).await.unwrap();
    assert!(setup.servers.texts(CHALLENGE).is_empty());
}

#[tokio::test]
async fn what_was_never_added_is_not_removed() {
    let setup = setup().await;
    setup
        .servers
        .fault(RESOLVER, CHALLENGE, Wire::CNAME, Fault::ServFail);
    let solver = setup.dns01();
    let presentation = setup.presentation("example.com", TOKENS[0]);
    let error = solver.present(&presentation).await.unwrap_err();
    assert!(error.to_string().contains("without_aliases"), "{error}");
    solver.clean_up(&presentation).await.unwrap();
    assert!(setup.provider.calls().is_empty());
}

#[tokio::test]
async fn the_ca_says_what_is_wrong_with_the_dns() {
    let setup = setup().await;
    setup.servers.txt(CHALLENGE, &["wrong"]);
    for (fault, kind, detail) in [
        (Fault::ServFail, ProblemType::Dns, "SERVFAIL"),
        (
            Fault::Stale(9),
            ProblemType::Unauthorized,
            "No TXT record found",
        ),
    ] {
        setup.servers.fault(RESOLVER, CHALLENGE, Wire::TXT, fault);
        let error = setup
            .account
            .issue(["example.com"])
            .solver(setup.dns01())
            .await
            .unwrap_err();
        let problem = error.problem().unwrap();
        assert_eq!(problem.kind, kind);
        assert!(problem.detail.as_ref().unwrap().contains(detail), "{error}");
    }
}

#[tokio::test]
async fn addresses_are_looked_up_where_there_is_a_resolver() {
    let server = Http01Server::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = server.local_addrs()[0].port();
    let setup = setup_with(|builder| builder.http01_port(port)).await;
    let issue = || {
        setup
            .account
            .issue(["www.example.com"])
            .solver(server.clone())
    };
    let error = issue().await.unwrap_err();
    assert_eq!(error.problem().unwrap().kind, ProblemType::Dns, "{error}");
    setup.servers.cname("www.example.com", "host.example.com");
    setup
        .servers
        .address("host.example.com", Ipv4Addr::LOCALHOST.into());
    issue().await.unwrap();
}

const VERSIONS: [DnsPersist; 2] = [DnsPersist::AccountUrl, DnsPersist::AccountHash];

#[tokio::test]
async fn dns_persist_01_takes_a_record_that_is_there_already() {
    for version in VERSIONS {
        let setup = setup_with(|builder| builder.dns_persist(version)).await;
        setup.publish("*.example.com", |record| record).await;
        let name = "_validation-persist.example.com";
        setup.servers.txt(
            name,
            &["other-ca.example; accounturi=https://other.example/1"],
        );
        let before = setup.servers.texts(name);
        for names in [vec!["example.com"], vec!["example.com", "*.example.com"]] {
            setup
                .account
                .issue(names)
                .solver(setup.persist())
                .await
                .unwrap_or_else(|error| panic!("{version:?}: {error}"));
        }
        // It stays.
        assert_eq!(setup.servers.texts(name), before);
        let url = setup.account.url().as_str();
        let has_url = before.iter().any(|text| text.contains(url));
        assert_eq!(has_url, version == DnsPersist::AccountUrl);
    }
}

#[tokio::test]
async fn dns_persist_01_takes_a_record_that_is_the_same_for_all_names() {
    let setup = setup_with(|builder| builder.dns_persist(DnsPersist::AccountHash)).await;
    let directory = setup.account.client().session().directory().await.unwrap();
    let account = DnsPersistAccount::new(
        setup.account.url(),
        setup.account.thumbprint(),
        &directory.meta,
    );
    setup
        .publish("example.com", |record| record.shared(&account))
        .await;
    let issuance = setup.account.issue(["example.com"]).solver(setup.persist());
    issuance.await.unwrap();
}

#[tokio::test]
async fn an_authorization_may_be_valid_at_once() {
    let version = DnsPersist::AccountHash;
    let setup = setup_with(|builder| builder.dns_persist(version).reuse_authorizations(true)).await;
    setup.publish("example.com", |record| record).await;
    for challenges in [1, 1] {
        let issuance = setup.account.issue(["example.com"]).solver(setup.persist());
        issuance.await.unwrap();
        // The second order is ready from the start, so no challenge is answered.
        assert_eq!(setup.ca.count(ResourceKind::Challenge), challenges);
    }
}

#[tokio::test]
async fn without_a_record_that_counts_there_is_no_order() {
    for version in VERSIONS {
        let setup = setup_with(|builder| builder.dns_persist(version)).await;
        let name = "_validation-persist.example.com";
        let issue = async |name: &str| {
            let error = setup
                .account
                .issue([name])
                .solver(setup.persist())
                .await
                .unwrap_err();
            assert_eq!(setup.ca.count(ResourceKind::NewOrder), 0, "{error}");
            error.to_string()
        };
        let told = issue("example.com").await;
        assert!(
            told.contains("there is none at all of the name servers"),
            "{told}"
        );
        let record = format!("{name}. IN TXT (\"ca.example; accounturi=");
        assert!(told.contains(&record), "{told}");

        setup.publish("example.com", |record| record).await;
        let told = issue("*.example.com").await;
        assert!(told.contains("no policy=wildcard"), "{told}");

        let other = setup_with(|builder| builder.dns_persist(version)).await;
        let past = SystemTime::now() - Duration::from_secs(10);
        other
            .publish("example.com", |record| record.persist_until(past))
            .await;
        let error = other
            .account
            .issue(["example.com"])
            .solver(other.persist())
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("persistUntil is past"),
            "{error}"
        );
        assert_eq!(other.ca.count(ResourceKind::NewOrder), 0);
    }
}

#[tokio::test]
async fn a_record_with_the_other_version_does_not_count() {
    for version in VERSIONS {
        let setup = setup_with(|builder| builder.dns_persist(version)).await;
        let form = match version {
            DnsPersist::AccountUrl => {
                DnsPersistAccountForm::Hash(format!("{}account-hash/", setup.account.url()))
            }
            _ => DnsPersistAccountForm::Uri(setup.account.url().to_string()),
        };
        let account =
            DnsPersistAccount::with_form(setup.account.url(), setup.account.thumbprint(), form);
        let name = DnsName::parse("example.com").unwrap();
        let record = DnsPersistRecord::new(&name, "ca.example", &account);
        setup
            .servers
            .txt(record.name(), &[&record.value().to_string()]);
        let error = setup
            .account
            .issue(["example.com"])
            .solver(setup.persist())
            .await
            .unwrap_err();
        assert!(error.to_string().contains("another account"), "{error}");

        // Where the solver does not look, the CA finds the same.
        let error = setup
            .account
            .issue(["example.com"])
            .solver(setup.persist().without_check())
            .await
            .unwrap_err();
        assert_eq!(error.problem().unwrap().kind, ProblemType::Unauthorized);
    }
}

#[tokio::test]
async fn a_malformed_record_is_told() {
    let setup = setup_with(|builder| builder.dns_persist(DnsPersist::AccountUrl)).await;
    let url = setup.account.url();
    let text = format!("ca.example; accounturi={url}; policy=wildcard;");
    setup
        .servers
        .txt("_validation-persist.example.com", &[&text]);
    let issue = |solver| setup.account.issue(["example.com"]).solver(solver);
    let error = issue(setup.persist()).await.unwrap_err();
    assert!(
        error.to_string().contains("a semicolon is at the end"),
        "{error}"
    );
    let error = issue(setup.persist().without_check()).await.unwrap_err();
    assert_eq!(error.problem().unwrap().kind, ProblemType::Malformed);
}

#[tokio::test]
async fn a_challenge_that_breaks_the_draft_is_not_answered() {
    let setup = setup().await;
    let solver = setup.persist();
    for members in [
        r#""issuer-domain-names":["CA.example"],"accounturi":"https://ca.example/account/1""#,
        r#""issuer-domain-names":["ca.example"],"accounturi":"https://ca.example/account/2""#,
        r#""issuerDomainNames":["ca.example"]"#,
    ] {
        let challenge = format!(
            r#"{{"type":"dns-persist-01","url":"https://ca.example/challenge/1",{members}}}"#
        );
        let challenge: Challenge = serde_json::from_str(&challenge).unwrap();
        let account = Url::parse("https://ca.example/account/1").unwrap();
        let name = "example.com".parse().unwrap();
        let presentation = Presentation::new(name, challenge, account, &setup.key).unwrap();
        let error = solver.present(&presentation).await.unwrap_err();
        let error: &DnsPersist01Error = error.downcast_ref().unwrap();
        assert!(matches!(error, DnsPersist01Error::Challenge(_)), "{error}");
    }
}
