//! Renewal, replacement, alternate chains and revocation, at the CA inside the process.

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

use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime};

use certwright::issuance::Issued;
use certwright::jose::AccountKey;
use certwright::protocol::{ProblemType, RevocationReason};
use certwright::renewal::{RenewalAction, RenewalPlan};
use certwright::solver::Http01Server;
use certwright::test_ca::{ResourceKind, TestCa, TestCaBuilder};
use certwright::x509::{ChainChoice, RevocationStatus};
use certwright::{Account, Client, Error, Replacement};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

struct Setup {
    ca: TestCa,
    server: Http01Server,
    account: Account,
}

impl Setup {
    async fn new(builder: TestCaBuilder) -> Self {
        let server = Http01Server::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = server.local_addrs()[0].port();
        let ca = builder.http01_port(port).start().await.unwrap();
        let account = account(&ca).await;
        Self {
            ca,
            server,
            account,
        }
    }

    async fn issue(&self, name: &str) -> Issued {
        let issuance = self.account.issue([name]).solver(self.server.clone());
        issuance.await.unwrap()
    }
}

async fn account(ca: &TestCa) -> Account {
    let client = Client::builder(ca.directory_url().as_str()).add_root_pem(ca.root_pem());
    let client = client.build().await.unwrap();
    let key = AccountKey::generate().unwrap();
    client
        .new_account(key)
        .agree_to_terms()
        .create()
        .await
        .unwrap()
}

/// What became of `replaces` in an order of this account for this name.
async fn replacing(account: &Account, name: &str, issued: &Issued) -> Replacement {
    let id = issued.chain().certificate_id().unwrap();
    let order = account
        .new_order([name])
        .replaces(id)
        .create()
        .await
        .unwrap();
    order.replacement().clone()
}

#[tokio::test]
async fn a_certificate_is_replaced_once() {
    let setup = Setup::new(TestCa::builder()).await;
    let issued = setup.issue("example.com").await;
    let id = issued.chain().certificate_id().unwrap();

    let renewed = setup.account.issue(["example.com"]).replaces(id.clone());
    let renewed = renewed.solver(setup.server.clone()).await.unwrap();
    assert!(matches!(
        renewed.order().replacement(),
        Replacement::Announced
    ));
    assert_eq!(renewed.order().state().replaces, Some(id.to_string()));

    // A second time the CA refuses it, and the order is made all the same.
    let again = replacing(&setup.account, "example.com", &issued).await;
    let Replacement::Refused(problem) = again else {
        panic!("{again:?}");
    };
    assert_eq!(problem.kind, ProblemType::AlreadyReplaced);
    let requests = setup.ca.requests();
    let orders: Vec<_> = requests
        .iter()
        .filter(|request| request.kind == ResourceKind::NewOrder)
        .map(|request| request.payload.as_ref().unwrap().get("replaces").is_some())
        .collect();
    assert_eq!(orders, [false, true, true, false]);
}

#[tokio::test]
async fn a_certificate_is_replaced_by_its_account_and_for_its_names_only() {
    let setup = Setup::new(TestCa::builder()).await;
    let issued = setup.issue("example.com").await;
    let stranger = account(&setup.ca).await;
    for (account, name) in [
        (&stranger, "example.com"),
        (&setup.account, "other.example"),
    ] {
        let outcome = replacing(account, name, &issued).await;
        assert!(matches!(outcome, Replacement::Refused(_)), "{outcome:?}");
    }

    // A CA that did not issue it; and one without renewal information, which is not even told.
    let other = Setup::new(TestCa::builder()).await;
    let outcome = replacing(&other.account, "example.com", &issued).await;
    assert!(matches!(outcome, Replacement::Refused(_)), "{outcome:?}");
    let without = Setup::new(TestCa::builder().renewal_info(false)).await;
    let outcome = replacing(&without.account, "example.com", &issued).await;
    assert!(matches!(outcome, Replacement::NotOffered), "{outcome:?}");
    assert_eq!(without.ca.count(ResourceKind::NewOrder), 1);
}

#[tokio::test]
async fn a_plan_follows_what_the_ca_advises() {
    let setup = Setup::new(TestCa::builder()).await;
    let issued = setup.issue("example.com").await;
    let (chain, now) = (issued.chain(), SystemTime::now());
    let mut plan = RenewalPlan::new(chain.not_before(), chain.not_after());
    assert_eq!(plan.next(now), RenewalAction::Poll);

    let advice = issued.certificate().renewal_info().await.unwrap();
    plan.advise(&advice, now, 7);
    assert!(!plan.should_renew(now));
    let polls = setup.ca.requests();
    let poll = polls.last().unwrap();
    assert_eq!(poll.kind, ResourceKind::RenewalInfo);
    assert_eq!((poll.method.as_str(), &poll.kid), ("GET", &None));

    // An incident: the window is past, so the time is now.
    let page = "https://ca.example/incident";
    let window = now - 2 * DAY..now - DAY;
    setup.ca.set_renewal_window(None, window, Some(page));
    let advice = issued.certificate().renewal_info().await.unwrap();
    plan.advise(&advice, now, 7);
    assert_eq!(plan.next(now), RenewalAction::Renew);
    assert_eq!(plan.explanation_url(), Some(page));

    // Garbage leaves the plan as it was, and a CA without renewal information too.
    setup.ca.set_renewal_info_body(None, "{not json");
    let error = issued.certificate().renewal_info().await.unwrap_err();
    assert!(matches!(error, Error::Reply(_)), "{error:?}");
    plan.fail(&error, now);
    assert!(plan.should_renew(now));
    let without = Setup::new(TestCa::builder().renewal_info(false)).await;
    let issued = without.issue("example.com").await;
    let error = issued.certificate().renewal_info().await.unwrap_err();
    assert!(matches!(error, Error::Unsupported(_)), "{error:?}");
}

#[tokio::test]
async fn the_chain_is_chosen_among_those_that_the_ca_offers() {
    let setup = Setup::new(TestCa::builder().alternate_chains(2)).await;
    let issued = setup.issue("example.com").await;
    let alternates = issued.certificate().alternates().await.unwrap();
    assert_eq!(alternates.len(), 2);

    let wanted = alternates[1].root_issuer();
    let name = wanted
        .split(',')
        .find_map(|part| part.strip_prefix("CN="))
        .unwrap();
    let chosen = setup
        .account
        .issue(["example.org"])
        .chain(ChainChoice::root_name(name))
        .solver(setup.server.clone())
        .await
        .unwrap();
    assert!(chosen.certificate().is_as_chosen());
    assert_eq!(chosen.chain().root_issuer(), wanted);
    assert_ne!(chosen.chain().root_issuer(), issued.chain().root_issuer());
}

#[tokio::test]
async fn a_revoked_certificate_is_on_the_list() {
    let setup = Setup::new(TestCa::builder().crl(true)).await;
    let issued = setup.issue("example.com").await;
    let certificate = issued.certificate();
    let status = certificate.revocation_status().await.unwrap();
    assert!(
        matches!(status, RevocationStatus::Good { .. }),
        "{status:?}"
    );

    certificate
        .revoke(Some(RevocationReason::Superseded))
        .await
        .unwrap();
    certificate
        .revoke(None)
        .await
        .expect("revoked already is as good");
    let status = certificate.revocation_status().await.unwrap();
    let RevocationStatus::Revoked { reason, .. } = status else {
        panic!("{status:?}");
    };
    assert_eq!(reason, Some(RevocationReason::Superseded));

    // By its own key, from a client that has no account.
    let issued = setup.issue("example.org").await;
    let client = setup.account.client();
    let leaf = issued.chain().leaf();
    client
        .revoke_with_key(leaf, issued.key(), None)
        .await
        .unwrap();
    let status = issued.certificate().revocation_status().await.unwrap();
    let RevocationStatus::Revoked { reason, .. } = status else {
        panic!("{status:?}");
    };
    assert_eq!(reason, Some(RevocationReason::KeyCompromise));
}
