//! Gets a certificate for a name and its wildcard, with TXT records by dynamic update (RFC 2136).
//!
//! The name server must know the key, and let it update the TXT records of the zone. For BIND,
//! `tsig-keygen acme > acme.key` makes one; `include` that file in its configuration, and put
//! `update-policy { grant acme zonesub TXT; };` in the zone. Then:
//!
//! ```sh
//! cargo run --example wildcard_rfc2136 --features rfc2136 -- \
//!     --server ns1.example.com --key-file acme.key --domain example.com
//! ```

#![allow(clippy::print_stdout, reason = "a program for the terminal")]

#[path = "common/wildcard.rs"]
mod wildcard;

use std::fs;
use std::process::ExitCode;

use certwright::solver::{Rfc2136, TsigKey};
use wildcard::{Options, Result, USAGE};

#[tokio::main]
async fn main() -> ExitCode {
    match provider() {
        Err(fault) => {
            println!("{fault}\n\nusage: wildcard_rfc2136 options\n");
            println!("  --server HOST     the zone's primary name server, or HOST:PORT");
            println!("  --key-file FILE   its key, as tsig-keygen writes it\n{USAGE}");
            ExitCode::from(2)
        }
        Ok((options, provider)) => match options.issue(provider).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                println!("failed: {error}");
                ExitCode::FAILURE
            }
        },
    }
}

fn provider() -> Result<(Options, Rfc2136)> {
    let options = Options::parse(&["--server", "--key-file"])?;
    options.needed("--domain")?;
    let key = fs::read_to_string(options.needed("--key-file")?)?;
    let key = TsigKey::from_bind(&key)?;
    let provider = Rfc2136::new(options.needed("--server")?)?.tsig(key);
    Ok((options, provider))
}
