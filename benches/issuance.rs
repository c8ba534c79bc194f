//! What a whole certificate costs, from the order to the checked chain.
//!
//! The CA, which validates each name by a connection to the solver, runs inside the process, so its
//! work is part of what is measured. The time that packets take to a CA outside is not.

#![allow(clippy::unwrap_used)]

use certwright::jose::AccountKey;
use certwright::solver::Http01Server;
use certwright::test_ca::TestCa;
use certwright::{Account, Client};
use divan::Bencher;
use divan::counter::ItemsCount;
use tokio::runtime::Runtime;

fn main() {
    divan::main();
}

/// The items are names. The client is warm: it has an account, a nonce and a connection.
#[divan::bench(args = [1, 10, 50], max_time = 10)]
fn issue(bencher: Bencher<'_, '_>, count: usize) {
    let runtime = Runtime::new().unwrap();
    let setup = runtime.block_on(Setup::new());
    let names: Vec<_> = (0..count)
        .map(|number| format!("host-{number:03}.customers.example.test"))
        .collect();
    bencher.counter(ItemsCount::new(count)).bench_local(|| {
        let issuance = setup.account.issue(&names).solver(setup.solver.clone());
        runtime.block_on(issuance.into_future()).unwrap()
    });
}

struct Setup {
    account: Account,
    solver: Http01Server,
    /// It ends when it is dropped.
    _ca: TestCa,
}

impl Setup {
    async fn new() -> Self {
        let solver = Http01Server::bind("127.0.0.1:0").await.unwrap();
        let port = solver.local_addrs().first().unwrap().port();
        let ca = TestCa::builder().http01_port(port).start().await.unwrap();
        let client = Client::builder(ca.directory_url().as_str())
            .add_root_pem(ca.root_pem())
            .build()
            .await
            .unwrap();
        let account = client.new_account(AccountKey::generate().unwrap());
        Self {
            account: account.agree_to_terms().create().await.unwrap(),
            solver,
            _ca: ca,
        }
    }
}
