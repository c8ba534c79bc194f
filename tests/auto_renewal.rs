//! Orders that renew by themselves (RFC 8739), at the CA inside the process.

#![cfg(all(
    feature = "http-01",
    feature = "hyper",
    feature = "test-ca",
    any(feature = "aws-lc-rs", feature = "ring")
))]
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime};

use certwright::jose::AccountKey;
use certwright::protocol::{AutoRenewal, ChallengeType, OrderStatus, ProblemType};
use certwright::solver::{ChallengeSolver, Http01Server, Presentation};
use certwright::test_ca::{ResourceKind, TestCa};
use certwright::x509::{CertificateKey, Csr};
use certwright::{Account, Client, Order, Retry};

const DAY: Duration = Duration::from_secs(86_400);
const SECOND: Duration = Duration::from_secs(1);

async fn account(ca: &TestCa) -> Account {
    let client = Client::builder(ca.directory_url().as_str())
        .add_root_pem(ca.root_pem())
        .build()
        .await
        .unwrap();
    let key = AccountKey::generate().unwrap();
    let account = client.new_account(key).agree_to_terms().create();
    account.await.unwrap()
}

async fn authorize(order: &Order, server: &Http01Server) {
    let account = order.account();
    for authorization in order.authorizations().await.unwrap() {
        let challenge = authorization.challenge(ChallengeType::Http01).unwrap();
        let presentation = Presentation::new(
            challenge.identifier().clone(),
            challenge.state().clone(),
            account.url().clone(),
            account.thumbprint(),
        )
        .unwrap();
        server.present(&presentation).await.unwrap();
        challenge.ready().await.unwrap();
    }
    order.wait_ready().await.unwrap();
}

#[tokio::test]
async fn renew_until_they_are_canceled() {
    let server = Http01Server::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let ca = TestCa::builder()
        .http01_port(server.local_addrs()[0].port())
        .auto_renewal(SECOND, 90 * DAY)
        .auto_renewal_get(true)
        .start()
        .await
        .unwrap();
    let account = account(&ca).await;
    for unsigned in [false, true] {
        let mut renewal = AutoRenewal::until(SystemTime::now() + DAY, 6 * SECOND);
        if unsigned {
            renewal = renewal.allow_certificate_get();
        }
        let builder = account.new_order(["www.example", "127.0.0.1"]);
        let order = builder.auto_renewal(renewal).create().await.unwrap();
        authorize(&order, &server).await;
        let key = CertificateKey::generate().unwrap();
        let csr = Csr::new(&key, &order.state().identifiers).unwrap();
        let first = order.finalize(&csr).await.unwrap();
        assert_eq!(order.status(), OrderStatus::Valid);

        // Half of a lifetime is 3 seconds.
        let next = loop {
            tokio::time::sleep(SECOND / 5).await;
            let current = order.current_certificate(&csr).await.unwrap();
            if current.chain().pem() != first.chain().pem() {
                break current;
            }
        };
        assert!(next.chain().not_before() < first.chain().not_after());
        assert!(next.chain().not_after() > first.chain().not_after());

        let leaf = &next.chain().certificates()[0];
        let revoked = account.revoke(leaf, None).await;
        assert_eq!(
            revoked.unwrap_err().problem().unwrap().kind,
            ProblemType::AutoRenewalRevocationNotSupported
        );
        order.cancel().await.unwrap();
        order.cancel().await.unwrap();
        assert_eq!(order.status(), OrderStatus::Canceled);
        let error = order.current_certificate(&csr).await.unwrap_err();
        assert_eq!(
            error.problem().unwrap().kind,
            ProblemType::AutoRenewalCanceled
        );
        assert_eq!(error.retry(), Retry::Never);
    }

    // Whoever fetches it without a signature needs no nonce and no key.
    let requests = ca.requests().into_iter();
    let fetches = requests.filter(|request| request.kind == ResourceKind::Certificate);
    assert!(fetches.clone().any(|fetch| fetch.kid.is_none()));
    assert!(fetches.clone().any(|fetch| fetch.kid.is_some()));
}

#[tokio::test]
async fn end_by_themselves() {
    let server = Http01Server::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let ca = TestCa::builder()
        .http01_port(server.local_addrs()[0].port())
        .auto_renewal(SECOND, 90 * DAY)
        .start()
        .await
        .unwrap();
    let account = account(&ca).await;
    let end = SystemTime::now() + 10 * SECOND;
    let builder = account.new_order(["www.example"]);
    let builder = builder.auto_renewal(AutoRenewal::until(end, 6 * SECOND));
    let order = builder.create().await.unwrap();
    authorize(&order, &server).await;
    let key = CertificateKey::generate().unwrap();
    let csr = Csr::new(&key, &order.state().identifiers).unwrap();
    let certificate = order.finalize(&csr).await.unwrap();
    assert!(certificate.chain().not_after() <= end);

    let left = end.duration_since(SystemTime::now()).unwrap_or_default();
    tokio::time::sleep(left + SECOND / 10).await;
    let error = order.current_certificate(&csr).await.unwrap_err();
    assert_eq!(
        error.problem().unwrap().kind,
        ProblemType::AutoRenewalExpired
    );
    // The order itself stays as it is (§3.3).
    order.refresh().await.unwrap();
    assert_eq!(order.status(), OrderStatus::Valid);
}
