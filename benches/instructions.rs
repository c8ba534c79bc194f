//! How many instructions the computation of a request and of a certificate takes, as callgrind counts
//! them. Unlike times, these are the same in each run, so that a change shows at once.
//!
//! ```sh
//! cargo bench --bench instructions
//! ```
//!
//! It runs itself under valgrind, and says so where there is none. Each operation is run by two
//! counts of repetitions: what the longer run takes more is what the repetitions take.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program that talks to its user"
)]

use std::env;
use std::hint::black_box;
use std::process::Command;

use certwright::jose::{AccountKey, Jws, KeyReference, Signer};
use certwright::protocol::{Authorization, Identifiers, Order, Url};
use certwright::x509::{CertificateKey, Csr};
use futures_util::FutureExt;
use serde_json::json;

/// The fewer repetitions warm up what is set up once, such as tables.
const FEW: u32 = 20;
const MANY: u32 = 120;

fn main() {
    let arguments: Vec<_> = env::args().skip(1).collect();
    if let [operation, count] = arguments.as_slice()
        && let Ok(count) = count.parse()
        && let Some((_, run)) = OPERATIONS.iter().find(|(name, _)| name == operation)
    {
        return run(count);
    }
    // `cargo test` builds and starts benches, too.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("instructions: there is no valgrind here, so nothing is counted");
        return;
    }
    println!("| operation | instructions |\n|---|--:|");
    for (name, _) in OPERATIONS {
        let more = instructions(name, MANY).saturating_sub(instructions(name, FEW));
        println!("| {name} | {} |", more / u64::from(MANY - FEW));
    }
}

fn instructions(operation: &str, count: u32) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe().unwrap())
        .args([operation, &count.to_string()])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.lines()
        .find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok())
        .unwrap_or_else(|| panic!("callgrind has not counted:\n{text}"))
}

type Operation = (&'static str, fn(u32));

const OPERATIONS: &[Operation] = &[
    ("sign a newOrder by ES256", sign),
    ("thumbprint", thumbprint),
    ("parse an order of 100 names", parse_order),
    ("parse an authorization", parse_authorization),
    ("generate a key on P-256", generate_key),
    ("make a CSR for 1 name", |count| make_csr(count, 1)),
    ("make a CSR for 100 names", |count| make_csr(count, 100)),
];

fn sign(count: u32) {
    let key = AccountKey::generate().unwrap();
    let (account, order) = (url("/acct/1"), url("/new-order"));
    let payload = br#"{"identifiers":[{"type":"dns","value":"www.example.com"}]}"#;
    for _ in 0..count {
        let reference = KeyReference::Kid(&account);
        let jws = Jws::sign(&key, reference, Some("nonce"), &order, black_box(payload));
        let _ = black_box(jws.now_or_never().expect("a key in memory signs at once"));
    }
}

fn thumbprint(count: u32) {
    let key = AccountKey::generate().unwrap();
    for _ in 0..count {
        black_box(black_box(key.public_key()).thumbprint());
    }
}

fn parse_order(count: u32) {
    let text = json!({
        "status": "pending",
        "expires": "2030-01-01T00:00:00Z",
        "identifiers": names(100)
            .map(|name| json!({"type": "dns", "value": name}))
            .collect::<Vec<_>>(),
        "authorizations": (0..100)
            .map(|number| url(&format!("/authz/1/{number}")))
            .collect::<Vec<_>>(),
        "finalize": url("/finalize/1/1"),
    })
    .to_string();
    for _ in 0..count {
        black_box(serde_json::from_str::<Order>(black_box(&text)).unwrap());
    }
}

fn parse_authorization(count: u32) {
    let text = json!({
        "identifier": {"type": "dns", "value": "www.example.com"},
        "status": "pending",
        "expires": "2030-01-01T00:00:00Z",
        "challenges": [{
            "type": "http-01",
            "url": url("/chall/1/1/1"),
            "status": "pending",
            "token": "DGyRejmCefe7v4NfDGDKfADGyRejmCefe7v4NfDGDKf",
        }],
    })
    .to_string();
    for _ in 0..count {
        black_box(serde_json::from_str::<Authorization>(black_box(&text)).unwrap());
    }
}

fn generate_key(count: u32) {
    for _ in 0..count {
        black_box(CertificateKey::generate().unwrap());
    }
}

fn make_csr(count: u32, size: usize) {
    let key = CertificateKey::generate().unwrap();
    let identifiers = Identifiers::collect(names(size)).unwrap();
    for _ in 0..count {
        black_box(Csr::new(&key, black_box(&identifiers)).unwrap());
    }
}

fn names(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("host-{number:03}.customers.example.test"))
}

fn url(path: &str) -> Url {
    Url::parse(&format!("https://acme.ca.example/acme{path}")).unwrap()
}
