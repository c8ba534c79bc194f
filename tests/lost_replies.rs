//! When a reply is lost, or the CA says no: each operation against each way to fail, with exactly
//! the requests that follow, and what the CA has in the end.
//!
//! The CA is a real one on real sockets. Only the pauses between requests are skipped, by tokio's
//! paused clock.

#![cfg(all(
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

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use certwright::error::KeyChangeFault;
use certwright::jose::AccountKey;
use certwright::jose::Signer;
use certwright::protocol::{
    AccountStatus, AuthorizationStatus, ChallengeType, OrderStatus, ProblemType,
};
use certwright::test_ca::ResourceKind::{
    self, Account as AccountRead, Authorization as AuthorizationRead, Certificate as Download,
    Challenge as ChallengeReady, Directory, Finalize, KeyChange, NewAccount, NewAuthz, NewNonce,
    NewOrder, Order as OrderRead, Orders, RenewalInfo, RevokeCert,
};
use certwright::test_ca::{Fault, Injection, RetryAfter, TestCa};
use certwright::transport::HyperTransport;
use certwright::x509::{CertificateKey, Csr};
use certwright::{Account, Certificate, Client, Error, Order, Retry};
use http::StatusCode;
use tokio::time::{self, Instant};

use support::paused::Unhurried;

/// One way to fail.
struct Case {
    name: &'static str,
    fault: Fault,
    /// Whether the CA acts all the same.
    acts: bool,
    /// Whether the reply that arrives has a nonce, so that none must be fetched.
    nonce: bool,
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    /// Nobody knows what the CA did: the connection broke, or a server did.
    Unknown,
    /// The CA says when to come back.
    Later(Duration),
    /// The CA says no, and for now it stays with that.
    Limited,
}

const WAIT: Duration = Duration::from_secs(3);

fn cases() -> Vec<Case> {
    let status = |code: u16| Fault::status(StatusCode::from_u16(code).unwrap());
    let html = Fault::Html(StatusCode::BAD_GATEWAY);
    let internal = Fault::problem(ProblemType::ServerInternal);
    let limited = Fault::problem(ProblemType::RateLimited);
    let case = |name, fault, acts, nonce, outcome| Case {
        name,
        fault,
        acts,
        nonce,
        outcome,
    };
    let later = Outcome::Later(WAIT);
    vec![
        case(
            "reset after acting",
            Fault::Reset,
            true,
            false,
            Outcome::Unknown,
        ),
        case("reset before", Fault::Reset, false, false, Outcome::Unknown),
        case("cut reply", Fault::Truncate, true, false, Outcome::Unknown),
        case("500", internal.clone(), false, true, Outcome::Unknown),
        case("500 after acting", internal, true, true, Outcome::Unknown),
        case("502 in HTML", html.clone(), false, false, Outcome::Unknown),
        case(
            "502 in HTML after acting",
            html,
            true,
            false,
            Outcome::Unknown,
        ),
        case(
            "503 with seconds",
            status(503).retry_after(RetryAfter::Seconds(3)),
            false,
            false,
            later,
        ),
        case(
            "503 with a date",
            status(503).retry_after(RetryAfter::Date(WAIT)),
            false,
            false,
            later,
        ),
        case(
            "429 with seconds",
            limited.clone().retry_after(RetryAfter::Seconds(3)),
            false,
            true,
            later,
        ),
        case("429", limited.clone(), false, true, Outcome::Limited),
        case(
            "429 for an hour",
            limited.retry_after(RetryAfter::Seconds(3_600)),
            false,
            true,
            Outcome::Limited,
        ),
    ]
}

impl Case {
    fn injection(&self, kind: ResourceKind) -> Injection {
        let injection = self.fault.clone().on(kind).nth(1);
        // A cut reply is one after the deed by its nature.
        match self.acts && self.fault != Fault::Truncate {
            true => injection.after_acting(),
            false => injection,
        }
    }
}

/// How an operation is set right, for the requests to be expected.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cure {
    /// By the same GET.
    Get,
    /// By the same request, signed anew.
    Repeat,
    /// By the same request; and these follow where the CA had acted, for it says so.
    RepeatThen(&'static [ResourceKind]),
    /// By a look at the order, and by the same request where the CA had not acted.
    LookFirst,
    /// By asking which key the account has.
    AskForKey,
}

/// An operation, its requests when all goes well, and which of them fails.
struct Operation {
    before: &'static [ResourceKind],
    kind: ResourceKind,
    after: &'static [ResourceKind],
    cure: Cure,
}

impl Operation {
    const fn new(kind: ResourceKind, cure: Cure) -> Self {
        Self {
            before: &[],
            kind,
            after: &[],
            cure,
        }
    }

    /// The requests that the CA must see.
    fn expected(&self, case: &Case) -> Vec<ResourceKind> {
        let mut requests = self.before.to_vec();
        requests.push(self.kind);
        if case.outcome == Outcome::Limited {
            return requests;
        }
        let asks_for_key = self.cure == Cure::AskForKey;
        if asks_for_key && case.name.starts_with("429") {
            return requests;
        }
        if self.cure != Cure::Get && !case.nonce {
            requests.push(NewNonce);
        }
        match self.cure {
            Cure::Get | Cure::Repeat => requests.push(self.kind),
            Cure::RepeatThen(then) => {
                requests.push(self.kind);
                if case.acts {
                    requests.extend(then);
                }
            }
            Cure::LookFirst => {
                requests.push(OrderRead);
                if !case.acts {
                    requests.push(self.kind);
                }
            }
            // The new key finds the account, or else the old one does.
            Cure::AskForKey if case.acts => requests.push(NewAccount),
            Cure::AskForKey => requests.extend([NewAccount, NewAccount]),
        }
        requests.extend(self.after);
        requests
    }

    /// Runs the operation against each way to fail.
    ///
    /// `prepare` makes what it works on, with the clock running and a CA that plays fair. `act` is
    /// the operation. `check` is told whether it must have succeeded.
    async fn run<S>(
        self,
        prepare: impl AsyncFn(&Setup) -> S,
        act: impl AsyncFn(&Setup, &S) -> Result<(), Error>,
        check: impl Fn(&Setup, &S, &Case, bool),
    ) {
        let setup = Setup::new().await;
        for case in cases() {
            let subject = prepare(&setup).await;
            setup.ca.clear_requests();
            setup.ca.inject(case.injection(self.kind));
            time::pause();
            let start = Instant::now();
            let result = act(&setup, &subject).await;
            let waited = start.elapsed();
            time::resume();
            setup.ca.clear_faults();

            let requests = setup.ca.requests();
            let kinds: Vec<_> = requests.iter().map(|request| request.kind).collect();
            assert_eq!(kinds, self.expected(&case), "{}: {result:?}", case.name);
            let played = requests.iter().filter(|request| !request.faults.is_empty());
            assert_eq!(played.count(), 1, "{}", case.name);
            let succeeded = result.is_ok();
            let gives_up = self.cure == Cure::AskForKey && !case.acts;
            match case.outcome {
                Outcome::Limited => {
                    let error = result.as_ref().unwrap_err();
                    assert!(matches!(error, Error::RateLimited(_)), "{error:?}");
                    assert_ne!(error.retry(), Retry::Never);
                }
                _ if gives_up => assert!(result.is_err(), "{}", case.name),
                Outcome::Unknown => result.expect(case.name),
                Outcome::Later(wait) => {
                    result.expect(case.name);
                    // By the paused clock. A date has no fractions of a second.
                    assert!(waited + Duration::from_secs(1) >= wait, "{waited:?}");
                    assert!(waited <= wait + Duration::from_secs(2), "{waited:?}");
                }
            }
            check(&setup, &subject, &case, succeeded);
        }
    }
}

struct Setup {
    ca: TestCa,
    client: Client,
    account: Account,
    names: AtomicUsize,
    /// A name that the account need not prove any more.
    proved: String,
    thumbprints: Arc<Mutex<Vec<String>>>,
}

impl Setup {
    async fn new() -> Self {
        let thumbprints = Arc::default();
        let ca = TestCa::builder()
            .http01_port(answer_challenges(Arc::clone(&thumbprints)))
            .pre_authorization(true)
            .reuse_authorizations(true)
            // By a clock that may jump.
            .validation_timeout(Duration::from_secs(24 * 3_600))
            .start()
            .await
            .unwrap();
        let client = client(&ca).await;
        let key = AccountKey::generate().unwrap();
        let account = client.new_account(key).agree_to_terms();
        let account = account.create().await.unwrap();
        thumbprints
            .lock()
            .unwrap()
            .push(account.thumbprint().to_string());
        let setup = Self {
            ca,
            client,
            account,
            names: AtomicUsize::new(0),
            proved: "proved.example".to_owned(),
            thumbprints,
        };
        let order = setup.account.new_order([&setup.proved]).create().await;
        prove(&order.unwrap()).await;
        setup
    }

    fn name(&self) -> String {
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        format!("name-{number}.example")
    }

    /// An account of its own, whose last reply has left one nonce.
    async fn new_account(&self) -> (Account, AccountKey) {
        let key = AccountKey::generate().unwrap();
        let account = self.client.new_account(key.clone()).agree_to_terms();
        let account = account.create().await.unwrap();
        let thumbprint = account.thumbprint().to_string();
        self.thumbprints.lock().unwrap().push(thumbprint);
        (account, key)
    }

    async fn pending(&self) -> Order {
        self.account
            .new_order([self.name()])
            .create()
            .await
            .unwrap()
    }

    async fn ready(&self) -> Order {
        let order = self.account.new_order([&self.proved]).create().await;
        let order = order.unwrap();
        assert_eq!(order.status(), OrderStatus::Ready);
        order
    }

    async fn certificate(&self, key: &CertificateKey) -> Certificate {
        let order = self.ready().await;
        let csr = Csr::new(key, &order.state().identifiers).unwrap();
        order.finalize(&csr).await.unwrap()
    }
}

/// A client that keeps no more than one nonce, as it makes one request at a time.
async fn client(ca: &TestCa) -> Client {
    let transport = HyperTransport::builder()
        .add_root_pem(ca.root_pem())
        .without_platform_roots()
        // So that the end of one connection is that of one request.
        .http1_only()
        .build()
        .unwrap();
    Client::builder(ca.directory_url().as_str())
        .transport(Unhurried(transport))
        .build()
        .await
        .unwrap()
}

async fn prove(order: &Order) {
    for authorization in order.authorizations().await.unwrap() {
        let challenge = authorization.challenge(ChallengeType::Http01).unwrap();
        challenge.ready().await.unwrap();
    }
    order.wait_ready().await.unwrap();
}

/// Answers http-01 for the last account, in a thread that knows no paused clock. Gives the port.
fn answer_challenges(thumbprints: Arc<Mutex<Vec<String>>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut octet = [0];
                match stream.read(&mut octet) {
                    Ok(1..) => head.push(octet[0]),
                    _ => break,
                }
            }
            let head = String::from_utf8(head).unwrap();
            let path = head.split(' ').nth(1).unwrap_or_default();
            let token = path.rsplit('/').next().unwrap();
            let thumbprint = thumbprints.lock().unwrap().first().cloned().unwrap();
            let body = format!("{token}.{thumbprint}");
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
        }
    });
    port
}

#[tokio::test]
async fn directory() {
    Operation::new(Directory, Cure::Get)
        .run(
            async |_| (),
            async |setup, ()| {
                let transport = HyperTransport::builder()
                    .add_root_pem(setup.ca.root_pem())
                    .without_platform_roots()
                    .http1_only()
                    .build()?;
                let client = Client::builder(setup.ca.directory_url().as_str());
                client.transport(Unhurried(transport)).build().await?;
                Ok(())
            },
            |_, (), _, _| {},
        )
        .await;
}

#[tokio::test]
async fn new_nonce() {
    Operation {
        after: &[AccountRead],
        ..Operation::new(NewNonce, Cure::Get)
    }
    .run(
        // One that has no nonce yet.
        async |setup| {
            let client = client(&setup.ca).await;
            let credentials = setup.account.credentials().unwrap();
            client.account(&credentials).unwrap()
        },
        async |_, account| account.refresh().await.map(|_| ()),
        |_, _, _, _| {},
    )
    .await;
}

#[tokio::test]
async fn new_account() {
    Operation::new(NewAccount, Cure::Repeat)
        .run(
            async |setup| {
                setup.account.refresh().await.unwrap();
                (AccountKey::generate().unwrap(), setup.ca.accounts().len())
            },
            async |setup, (key, _)| {
                let account = setup.client.new_account(key.clone()).agree_to_terms();
                let account = account.create().await?;
                assert_eq!(
                    setup.ca.account_of(key.public_key()).as_ref(),
                    Some(account.url())
                );
                Ok(())
            },
            // Never two.
            |setup, (_, before), _, succeeded| {
                assert_eq!(setup.ca.accounts().len(), before + usize::from(succeeded));
            },
        )
        .await;
}

#[tokio::test]
async fn find_account() {
    Operation::new(NewAccount, Cure::Repeat)
        .run(
            async |setup| setup.new_account().await,
            async |setup, (account, key)| {
                let found = setup.client.find_account(key.clone()).await?;
                assert_eq!(found.unwrap().url(), account.url());
                Ok(())
            },
            |_, _, _, _| {},
        )
        .await;
}

#[tokio::test]
async fn account_update() {
    Operation::new(AccountRead, Cure::Repeat)
        .run(
            async |setup| setup.new_account().await.0,
            async |_, account| {
                let update = account.update().contact("mailto:ops@example.com");
                let state = update.send().await?;
                assert_eq!(state.contact, ["mailto:ops@example.com"]);
                Ok(())
            },
            |setup, account, _, succeeded| {
                let accounts = setup.ca.accounts();
                let (_, state) = accounts
                    .iter()
                    .find(|(url, _)| url == account.url())
                    .unwrap();
                assert_eq!(state.contact.len(), usize::from(succeeded));
            },
        )
        .await;
}

#[tokio::test]
async fn account_deactivation() {
    Operation::new(AccountRead, Cure::RepeatThen(&[NewAccount]))
        .run(
            async |setup| setup.new_account().await.0,
            async |_, account| account.deactivate().await,
            |setup, account, _, succeeded| {
                let accounts = setup.ca.accounts();
                let (_, state) = accounts
                    .iter()
                    .find(|(url, _)| url == account.url())
                    .unwrap();
                let deactivated = state.status == AccountStatus::Deactivated;
                assert_eq!(deactivated, succeeded);
            },
        )
        .await;
}

#[tokio::test]
async fn key_change() {
    Operation::new(KeyChange, Cure::AskForKey)
        .run(
            async |setup| {
                let (account, old_key) = setup.new_account().await;
                (account, old_key, AccountKey::generate().unwrap())
            },
            async |_, (account, _, new_key)| {
                let changed = account.change_key(new_key.clone()).await;
                // It is never left open which key is in force.
                if let Err(Error::KeyChange(failure)) = &changed {
                    assert!(!matches!(failure.fault, KeyChangeFault::Unsettled(_)));
                }
                changed.map(|_| ())
            },
            |setup, (account, old_key, new_key), case, succeeded| {
                assert_eq!(succeeded, case.acts);
                let (key, other) = match case.acts {
                    true => (new_key, old_key),
                    false => (old_key, new_key),
                };
                let owner = setup.ca.account_of(key.public_key());
                assert_eq!(owner.as_ref(), Some(account.url()));
                assert_eq!(setup.ca.account_of(other.public_key()), None);
            },
        )
        .await;
}

#[tokio::test]
async fn orders_list() {
    Operation {
        before: &[AccountRead],
        ..Operation::new(Orders, Cure::Repeat)
    }
    .run(
        async |setup| setup.pending().await,
        async |setup, order| {
            assert!(setup.account.orders().await?.contains(order.url()));
            Ok(())
        },
        |_, _, _, _| {},
    )
    .await;
}

#[tokio::test]
async fn new_order() {
    Operation::new(NewOrder, Cure::Repeat)
        .run(
            async |setup| {
                setup.account.refresh().await.unwrap();
                setup.ca.orders().len()
            },
            async |setup, _| {
                let order = setup.account.new_order([setup.name()]).create().await?;
                assert_eq!(&setup.ca.orders().last().unwrap().0, order.url());
                Ok(())
            },
            // One stray order at most, and only where a lost reply explains it.
            |setup, before, case, succeeded| {
                let made = setup.ca.orders().len() - before;
                assert_eq!(made, usize::from(succeeded) + usize::from(case.acts));
            },
        )
        .await;
}

#[tokio::test]
async fn new_order_that_replaces() {
    let operation = Operation {
        // The lost order replaces it already, so the next one is made without.
        cure: Cure::RepeatThen(&[NewOrder]),
        ..Operation::new(NewOrder, Cure::Repeat)
    };
    operation
        .run(
            async |setup| {
                let key = CertificateKey::generate().unwrap();
                let certificate = setup.certificate(&key).await;
                let id = certificate.chain().certificate_id().unwrap();
                (id, setup.ca.orders().len())
            },
            async |setup, (id, _)| {
                let order = setup
                    .account
                    .new_order([&setup.proved])
                    .replaces(id.to_string());
                order.create().await.map(|_| ())
            },
            |setup, (id, before), case, succeeded| {
                let orders = setup.ca.orders();
                let made = &orders[*before..];
                assert_eq!(made.len(), usize::from(succeeded) + usize::from(case.acts));
                // Whether the client heard of it or not: the first one tells what it replaces.
                let replacing = made.iter().filter(|(_, order)| order.replaces.is_some());
                assert_eq!(replacing.count(), usize::from(!made.is_empty()), "{id}");
            },
        )
        .await;
}

#[tokio::test]
async fn new_authorization() {
    Operation::new(NewAuthz, Cure::Repeat)
        .run(
            async |setup| {
                setup.account.refresh().await.unwrap();
                setup.ca.authorizations().len()
            },
            async |setup, _| {
                let created = setup.account.new_authorization(setup.name().as_str());
                created.create().await.map(|_| ())
            },
            |setup, before, case, succeeded| {
                let made = setup.ca.authorizations().len() - before;
                assert_eq!(made, usize::from(succeeded) + usize::from(case.acts));
            },
        )
        .await;
}

#[tokio::test]
async fn authorization() {
    Operation::new(AuthorizationRead, Cure::Repeat)
        .run(
            async |setup| setup.pending().await,
            async |_, order| {
                assert_eq!(order.authorizations().await?.len(), 1);
                Ok(())
            },
            |_, _, _, _| {},
        )
        .await;
}

#[tokio::test]
async fn authorization_deactivation() {
    // The second request is refused, and the authorization says why.
    Operation::new(AuthorizationRead, Cure::RepeatThen(&[AuthorizationRead]))
        .run(
            async |setup| {
                let order = setup.pending().await;
                let mut authorizations = order.authorizations().await.unwrap();
                authorizations.pop().unwrap()
            },
            async |setup, authorization| {
                let result = authorization.deactivate_pending().await;
                let authorizations = setup.ca.authorizations();
                let found = authorizations
                    .iter()
                    .find(|(url, _)| url == authorization.url());
                if let Ok(deactivated) = &result {
                    assert_eq!(deactivated.status(), &found.unwrap().1.status);
                    assert_eq!(deactivated.status(), &AuthorizationStatus::Deactivated);
                }
                result.map(|_| ())
            },
            |_, _, _, _| {},
        )
        .await;
}

#[tokio::test]
async fn challenge_ready() {
    // The second request is refused, and the authorization says that validation has begun.
    Operation {
        after: &[OrderRead],
        ..Operation::new(ChallengeReady, Cure::RepeatThen(&[AuthorizationRead]))
    }
    .run(
        async |setup| {
            let order = setup.pending().await;
            let authorizations = order.authorizations().await.unwrap();
            let challenge = authorizations[0].challenge(ChallengeType::Http01);
            (order, challenge.unwrap())
        },
        async |_, (order, challenge)| {
            challenge.ready().await?;
            assert_eq!(order.refresh().await?.status, OrderStatus::Ready);
            Ok(())
        },
        |setup, (order, _), _, succeeded| {
            let orders = setup.ca.orders();
            let (_, state) = orders.iter().find(|(url, _)| url == order.url()).unwrap();
            assert_eq!(state.status == OrderStatus::Ready, succeeded);
        },
    )
    .await;
}

#[tokio::test]
async fn order_poll() {
    Operation::new(OrderRead, Cure::Repeat)
        .run(
            async |setup| setup.ready().await,
            async |_, order| order.wait_ready().await,
            |_, _, _, _| {},
        )
        .await;
}

#[tokio::test]
async fn finalize() {
    Operation {
        after: &[Download],
        ..Operation::new(Finalize, Cure::LookFirst)
    }
    .run(
        async |setup| (setup.ready().await, setup.ca.issued()),
        async |_, (order, _)| {
            let key = CertificateKey::generate().unwrap();
            let csr = Csr::new(&key, &order.state().identifiers).unwrap();
            order.finalize(&csr).await.map(|_| ())
        },
        // Issued once, for the key of the request that succeeded or was lost.
        |setup, (_, before), _, succeeded| {
            assert_eq!(setup.ca.issued(), before + usize::from(succeeded));
        },
    )
    .await;
}

#[tokio::test]
async fn certificate_download() {
    Operation::new(Download, Cure::Repeat)
        .run(
            async |setup| {
                let key = CertificateKey::generate().unwrap();
                setup.certificate(&key).await
            },
            async |setup, certificate| {
                let again = setup.account.certificate(certificate.url().clone()).await?;
                assert_eq!(again.chain().pem(), certificate.chain().pem());
                Ok(())
            },
            |_, _, _, _| {},
        )
        .await;
}

#[tokio::test]
async fn revocation() {
    // `alreadyRevoked` is a success.
    Operation::new(RevokeCert, Cure::Repeat)
        .run(
            async |setup| {
                let key = CertificateKey::generate().unwrap();
                setup.certificate(&key).await
            },
            async |_, certificate| certificate.revoke(None).await,
            |setup, certificate, _, succeeded| {
                let leaf = certificate.chain().leaf();
                assert_eq!(setup.ca.is_revoked(leaf), succeeded);
            },
        )
        .await;
}

#[tokio::test]
async fn revocation_by_the_certificates_key() {
    Operation::new(RevokeCert, Cure::Repeat)
        .run(
            async |setup| {
                let key = CertificateKey::generate().unwrap();
                let certificate = setup.certificate(&key).await;
                (key, certificate)
            },
            async |setup, (key, certificate)| {
                let leaf = certificate.chain().leaf();
                setup.client.revoke_with_key(leaf, key, None).await
            },
            |setup, (_, certificate), _, succeeded| {
                let leaf = certificate.chain().leaf();
                assert_eq!(setup.ca.is_revoked(leaf), succeeded);
            },
        )
        .await;
}

#[tokio::test]
async fn renewal_info() {
    Operation::new(RenewalInfo, Cure::Get)
        .run(
            async |setup| {
                let key = CertificateKey::generate().unwrap();
                setup.certificate(&key).await
            },
            async |setup, certificate| {
                let advice = setup.client.renewal_info(certificate.chain()).await?;
                let window = advice.info.suggested_window;
                assert!(window.start() < window.end());
                Ok(())
            },
            |_, _, _, _| {},
        )
        .await;
}
