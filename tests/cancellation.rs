//! A future that is dropped, at whichever of its await points, leaves nothing behind: no answer to a
//! challenge, no task, no lock, nothing that the next operation would miss.

#![cfg(all(
    feature = "http-01",
    feature = "hyper",
    feature = "test-ca",
    any(feature = "aws-lc-rs", feature = "ring")
))]
#![allow(
    clippy::async_yields_async,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use std::collections::HashSet;
use std::future::poll_fn;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use certwright::issuance::{Checkpoint, Event};
use certwright::jose::AccountKey;
use certwright::protocol::{ChallengeType, Identifier};
use certwright::solver::{ChallengeSolver, Http01Server, Presentation};
use certwright::test_ca::{Issuance, ResourceKind, TestCa};
use certwright::transport::{HyperTransport, Transport, TransportError};
use certwright::x509::{CertificateKey, Csr};
use certwright::{Account, BoxError, Client, Error, Order};
use http::{Request, Response};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

/// So many requests of one order a client has under way at once, by default.
const CONCURRENCY: usize = 16;

#[test]
fn an_issuance_can_be_dropped_at_every_poll() {
    run(async |bench| {
        for moment in Moment::ALL {
            let polls = for_every_poll(moment, async |polls| {
                let name = bench.new_name();
                let issuance = bench
                    .account
                    .issue([&name, &format!("www.{name}"), &format!("api.{name}")])
                    .solver(bench.solver.clone())
                    .checkpoint(|_: &Checkpoint| Ok(()));
                let dropped = drop_after(issuance.into_future(), polls, moment).await;
                bench.assert_all_is_as_before(polls).await;
                dropped.transpose().unwrap().is_some()
            })
            .await;
            // There are at least as many as there are requests one after the other.
            assert!(polls > 8, "it took {polls} polls");
            bench.issue().await;
        }
        // So many presentations as there were were taken away, each of them once.
        let solver = &bench.solver;
        assert!(solver.presented.load(Ordering::SeqCst) > 20);
        assert_eq!(
            solver.presented.load(Ordering::SeqCst),
            solver.taken_away.load(Ordering::SeqCst)
        );
    });
}

#[test]
fn each_operation_can_be_dropped_at_every_poll() {
    run(async |bench| {
        for moment in Moment::ALL {
            for (name, operation) in OPERATIONS {
                let polls = for_every_poll(moment, async |polls| {
                    let future = operation(bench.clone()).await;
                    let dropped = drop_after(future, polls, moment).await;
                    bench.assert_all_is_as_before(polls).await;
                    match dropped {
                        Some(result) => {
                            result.unwrap_or_else(|error| panic!("{name}: {error}"));
                            true
                        }
                        None => false,
                    }
                })
                .await;
                assert!(polls > 0, "{name} never had to wait");
            }
            bench.issue().await;
        }
    });
}

type Operation = fn(Bench) -> Pin<Box<dyn Future<Output = Prepared>>>;
type Prepared = Pin<Box<dyn Future<Output = Result<(), Error>>>>;

/// What is to be dropped, once all that it needs is there.
const OPERATIONS: [(&str, Operation); 10] = [
    ("new_account", |bench| {
        prepared(async move {
            let key = AccountKey::generate().unwrap();
            let creating = bench.client.new_account(key).agree_to_terms().create();
            prepared_result(creating)
        })
    }),
    ("new_order", |bench| {
        prepared(
            async move { prepared_result(bench.account.new_order([bench.new_name()]).create()) },
        )
    }),
    ("authorizations", |bench| {
        prepared(async move {
            let order = bench.order().await;
            prepared_result(async move { order.authorizations().await })
        })
    }),
    ("ready", |bench| {
        prepared(async move {
            let order = bench.order().await;
            let authorizations = order.authorizations().await.unwrap();
            let challenge = authorizations[0].challenge(ChallengeType::Http01).unwrap();
            prepared_result(async move { challenge.ready().await })
        })
    }),
    ("wait_ready", |bench| {
        prepared(async move {
            let order = bench.ready_order().await;
            prepared_result(async move { order.wait_ready().await })
        })
    }),
    ("finalize", |bench| {
        prepared(async move {
            let order = bench.ready_order().await;
            let key = CertificateKey::generate().unwrap();
            let csr = Csr::new(&key, &order.state().identifiers).unwrap();
            prepared_result(async move { order.finalize(&csr).await })
        })
    }),
    ("download", |bench| {
        prepared(async move {
            let url = bench.issue().await.certificate().url().clone();
            prepared_result(async move { bench.account.certificate(url).await })
        })
    }),
    ("revoke", |bench| {
        prepared(async move {
            let issued = bench.issue().await;
            prepared_result(async move { issued.certificate().revoke(None).await })
        })
    }),
    ("update", |bench| {
        prepared(async move {
            let update = bench.account.update().contact("mailto:ops@example.com");
            prepared_result(update.send())
        })
    }),
    ("change_key", |bench| {
        prepared(async move {
            // An account of its own, for it is not known afterwards which key is in force.
            let key = AccountKey::generate().unwrap();
            let creating = bench.client.new_account(key).agree_to_terms().create();
            let account = creating.await.unwrap();
            let key = AccountKey::generate().unwrap();
            prepared_result(async move { account.change_key(key).await })
        })
    }),
];

fn prepared(
    future: impl Future<Output = Prepared> + 'static,
) -> Pin<Box<dyn Future<Output = Prepared>>> {
    Box::pin(future)
}

fn prepared_result<T>(future: impl Future<Output = Result<T, Error>> + 'static) -> Prepared {
    Box::pin(async move { future.await.map(|_| ()) })
}

/// When a future is dropped.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// As soon as it has to wait.
    AtOnce,
    /// When what it waits for has happened, which it is not told any more.
    WhenWoken,
}

impl Moment {
    const ALL: [Self; 2] = [Self::AtOnce, Self::WhenWoken];
}

/// Calls this for 0 polls, for 1, and so on, until it says that the future has come to its end.
/// Returns how many it took.
async fn for_every_poll(moment: Moment, mut step: impl AsyncFnMut(usize) -> bool) -> usize {
    for polls in 0..1_000 {
        if step(polls).await {
            return polls;
        }
    }
    panic!("it has come to no end ({moment:?})");
}

/// Polls a future so often, and drops it. `None` where it has not come to its end before.
async fn drop_after<F: Future>(future: F, polls: usize, moment: Moment) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut left = polls;
    poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match (future.as_mut().poll(context), moment) {
            (Poll::Ready(output), _) => Poll::Ready(Some(output)),
            (Poll::Pending, Moment::AtOnce) if left == 0 => Poll::Ready(None),
            (Poll::Pending, _) => Poll::Pending,
        }
    })
    .await
}

/// Runs a test in a runtime that has the client's tasks and no others: the CA and the servers have
/// one of their own.
fn run(test: impl AsyncFnOnce(Bench)) {
    let servers = Runtime::new().unwrap();
    let (ca, server) = servers.block_on(async {
        let server = Http01Server::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let ca = TestCa::builder()
            .http01_port(server.local_addrs()[0].port())
            .reuse_authorizations(true)
            .issuance(Issuance::AfterLooks(1))
            .retry_after(None)
            .start()
            .await
            .unwrap();
        (ca, server)
    });
    let client = Builder::new_current_thread().enable_all().build().unwrap();
    client.block_on(async {
        let bench = Bench::new(ca.clone(), server).await;
        test(bench.clone()).await;
        bench.assert_the_client_is_whole().await;
    });
}

#[derive(Clone)]
struct Bench {
    ca: TestCa,
    client: Client,
    account: Account,
    solver: CountingSolver,
    gate: Gate,
    /// How many tasks there are when nothing is under way.
    idle: usize,
    names: Arc<AtomicUsize>,
}

impl Bench {
    async fn new(ca: TestCa, server: Http01Server) -> Self {
        let inner = HyperTransport::builder()
            .add_root_pem(ca.root_pem())
            .without_platform_roots()
            .build()
            .unwrap();
        let gate = Gate::default();
        let client = Client::builder(ca.directory_url().as_str())
            .transport(GatedTransport {
                inner,
                gate: gate.clone(),
            })
            .build()
            .await
            .unwrap();
        let creating = client.new_account(AccountKey::generate().unwrap());
        let account = creating.agree_to_terms().create().await.unwrap();
        let solver = CountingSolver {
            server,
            live: Arc::default(),
            presented: Arc::default(),
            taken_away: Arc::default(),
        };
        let mut bench = Self {
            ca,
            client,
            account,
            solver,
            gate,
            idle: 0,
            names: Arc::default(),
        };
        bench.issue().await;
        // What is left is what keeps the connection.
        sleep(Duration::from_millis(200)).await;
        bench.idle = Handle::current().metrics().num_alive_tasks();
        bench
    }

    fn new_name(&self) -> String {
        let number = self.names.fetch_add(1, Ordering::SeqCst);
        format!("name-{number}.example")
    }

    async fn issue(&self) -> certwright::issuance::Issued {
        let issuance = self.account.issue([self.new_name()]);
        issuance.solver(self.solver.clone()).await.unwrap()
    }

    async fn order(&self) -> Order {
        let order = self.account.new_order([self.new_name()]);
        order.create().await.unwrap()
    }

    /// An order for a name that is authorized already.
    async fn ready_order(&self) -> Order {
        let order = self.account.new_order(["name-0.example"]);
        let order = order.create().await.unwrap();
        assert_eq!(order.status(), certwright::protocol::OrderStatus::Ready);
        order
    }

    /// Once the tasks that clean up have come to their end, nothing is presented, there are no more
    /// tasks than before, and the client goes on.
    async fn assert_all_is_as_before(&self, polls: usize) {
        let patience = Instant::now() + PATIENCE;
        loop {
            let tasks = Handle::current().metrics().num_alive_tasks();
            let live = self.solver.live.lock().unwrap().len();
            if tasks <= self.idle && live == 0 {
                break;
            }
            assert!(
                Instant::now() < patience,
                "after {polls} polls, {tasks} tasks in place of {}, and {live} answers",
                self.idle
            );
            sleep(Duration::from_millis(1)).await;
        }
        timeout(PATIENCE, self.order())
            .await
            .expect("the client holds no lock");
    }

    /// No nonce was used twice or thrown at the CA stale, and as many requests can be under way as
    /// ever, and no more.
    async fn assert_the_client_is_whole(&self) {
        let requests = self.ca.requests();
        let nonces: Vec<_> = requests
            .iter()
            .filter_map(|request| request.nonce.as_ref())
            .collect();
        let distinct: HashSet<_> = nonces.iter().collect();
        assert_eq!(distinct.len(), nonces.len(), "a nonce was used twice");
        assert!(requests.iter().all(|request| {
            request.problem != Some(certwright::protocol::ProblemType::BadNonce)
        }));
        // A nonce that went down with its request is fetched anew, and none but those.
        let fetched = self.ca.count(ResourceKind::NewNonce);
        assert!(fetched > 1, "no request was dropped");
        assert!(fetched < nonces.len() / 2, "{fetched} nonces were fetched");

        let names: Vec<_> = (0..2 * CONCURRENCY).map(|_| self.new_name()).collect();
        let gate = self.gate.clone();
        let issuance = self
            .account
            .issue(names)
            .solver(self.solver.clone())
            .on_event(move |event| {
                if let Event::OrderCreated { .. } = event {
                    gate.hold_until(CONCURRENCY);
                }
            });
        let issued = timeout(PATIENCE, issuance.into_future()).await;
        issued.expect("all places are free").unwrap();
        assert_eq!(self.gate.most(), CONCURRENCY);
    }
}

/// Counts what it has the server present.
#[derive(Clone)]
struct CountingSolver {
    server: Http01Server,
    live: Arc<Mutex<Vec<Presentation>>>,
    presented: Arc<AtomicUsize>,
    taken_away: Arc<AtomicUsize>,
}

#[async_trait]
impl ChallengeSolver for CountingSolver {
    fn can_solve(&self, identifier: &Identifier, kind: &ChallengeType) -> bool {
        self.server.can_solve(identifier, kind)
    }

    async fn present(&self, presentation: &Presentation) -> Result<(), BoxError> {
        self.presented.fetch_add(1, Ordering::SeqCst);
        self.live.lock().unwrap().push(presentation.clone());
        // A solver whose work takes some awaiting.
        tokio::task::yield_now().await;
        self.server.present(presentation).await
    }

    async fn wait(&self, _: &Presentation) -> Result<(), BoxError> {
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn clean_up(&self, presentation: &Presentation) -> Result<(), BoxError> {
        tokio::task::yield_now().await;
        self.server.clean_up(presentation).await?;
        self.taken_away.fetch_add(1, Ordering::SeqCst);
        let mut live = self.live.lock().unwrap();
        let place = live.iter().position(|other| other == presentation);
        live.remove(place.expect("what is taken away was presented"));
        Ok(())
    }
}

/// Holds requests, once it is told to, until so many are under way at once.
#[derive(Clone)]
struct Gate {
    wanted: Arc<AtomicUsize>,
    under_way: Arc<watch::Sender<(usize, usize)>>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            wanted: Arc::default(),
            under_way: Arc::new(watch::Sender::new((0, 0))),
        }
    }
}

impl Gate {
    fn hold_until(&self, requests: usize) {
        self.under_way.send_modify(|(now, most)| *most = *now);
        self.wanted.store(requests, Ordering::SeqCst);
    }

    /// The most requests that were under way at once since it was told to hold them.
    fn most(&self) -> usize {
        self.under_way.borrow().1
    }

    async fn pass(&self) -> Passing {
        self.under_way.send_modify(|(now, most)| {
            *now += 1;
            *most = (*now).max(*most);
        });
        let passing = Passing(self.clone());
        let wanted = self.wanted.load(Ordering::SeqCst);
        let mut under_way = self.under_way.subscribe();
        let opened = under_way.wait_for(|(_, most)| *most >= wanted);
        opened.await.unwrap();
        passing
    }
}

struct Passing(Gate);

impl Drop for Passing {
    fn drop(&mut self) {
        self.0.under_way.send_modify(|(now, _)| *now -= 1);
    }
}

struct GatedTransport {
    inner: HyperTransport,
    gate: Gate,
}

impl std::fmt::Debug for GatedTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GatedTransport")
    }
}

#[async_trait]
impl Transport for GatedTransport {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, TransportError> {
        let _passing = self.gate.pass().await;
        self.inner.send(request).await
    }
}

/// Far more than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
