//! A thousand orders while everything breaks: nonces are refused, connections reset, replies lost,
//! and the CA is busy. At the end, what the client has is compared with what the CA has.
//!
//! ```sh
//! cargo run --release --example chaos --features test-ca -- \
//!     --orders 1000 --concurrency 32 --seed 7
//! ```
//!
//! The CA runs inside this process and plays the faults itself. With `--directory`, the CA is one
//! outside, and a proxy in between resets connections:
//!
//! ```sh
//! cargo run --release --example chaos --features test-ca -- \
//!     --orders 20 --concurrency 1 --directory https://localhost:14000/dir --root pebble.pem \
//!     --http-port 5002
//! ```
//!
//! The seed decides for each fault, by the number of a request among those of its kind, whether it is
//! played. So the nth newOrder, say, meets the same faults in each run. Whose order it is, and how
//! many requests there are in all, depends on how the orders overlap: with `--concurrency 1` a run
//! repeats itself, but for the pauses between tries.

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a program for the terminal"
)]

#[path = "common/chaos.rs"]
mod chaos;
#[path = "common/resets.rs"]
mod resets;

use std::process::ExitCode;
use std::{env, fs};

use self::chaos::{Chaos, Report, Result};

const USAGE: &str = "\
usage: chaos [options]

  --orders N        how many orders (default: 1000)
  --concurrency N   how many of them side by side (default: 32)
  --seed N          the seed of the faults (default: 7)
  --http2           all requests over one connection, so that each reset hits all that are under way
  --directory URL   the directory of a CA outside; you agree to its terms of service
  --root FILE       trust the certificates in this PEM file, and no others
  --http-port PORT  where to answer http-01, on 127.0.0.1 (default: any free port)";

#[tokio::main]
async fn main() -> ExitCode {
    let chaos = match parse(env::args().skip(1)) {
        Ok(chaos) => chaos,
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    println!(
        "{} orders, {} side by side, seed {}\n",
        chaos.orders, chaos.concurrency, chaos.seed
    );
    match chaos.run().await {
        Ok(report) => end(&report),
        Err(error) => {
            eprintln!("failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn end(report: &Report) -> ExitCode {
    println!("{report}");
    match report.lost.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Chaos> {
    let mut chaos = Chaos::default();
    let (mut directory, mut root) = (None, None);
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{flag} needs a value"));
        match flag.as_str() {
            "--orders" => chaos.orders = value()?.parse()?,
            "--concurrency" => chaos.concurrency = value()?.parse()?,
            "--seed" => chaos.seed = value()?.parse()?,
            "--http2" => chaos.http2 = true,
            "--directory" => directory = Some(value()?),
            "--root" => root = Some(fs::read_to_string(value()?)?),
            "--http-port" => chaos.http_port = value()?.parse()?,
            _ => return Err(format!("`{flag}` is not an option").into()),
        }
    }
    chaos.outside = directory.map(|directory| (directory, root));
    Ok(chaos)
}
