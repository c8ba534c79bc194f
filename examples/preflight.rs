//! What would keep a CA from issuing a certificate, found without asking it.
//!
//! ```sh
//! cargo run --example preflight --features dns-01 -- --ca letsencrypt.org example.com
//! ```
//!
//! It looks at CAA records, and at whether ports 80 and 443 take connections. A program that has an
//! account and solvers gives them to the `Preflight` as well, which then looks at much more.

#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use std::error::Error;
use std::process::ExitCode;
use std::{env, process};

use certwright::dns::Dns;
use certwright::preflight::Preflight;
use certwright::solver::{Http01Responder, TlsAlpn01Resolver};

const USAGE: &str = "\
usage: preflight [options] NAME...

  --ca NAME         by which name CAA records allow the CA, such as letsencrypt.org
  --dns ADDRESS     ask this name server, such as 192.0.2.53:53; by default the system's
  --http-port PORT  instead of 80
  --tls-port PORT   instead of 443
  --private         connect to private addresses too";

#[tokio::main]
async fn main() -> ExitCode {
    let preflight = preflight(env::args().skip(1)).unwrap_or_else(|fault| {
        println!("{fault}\n\n{USAGE}");
        process::exit(2);
    });
    match preflight.run().await {
        Ok(report) => {
            println!("{report}");
            match report.is_ok() {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            println!("failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn preflight(mut arguments: impl Iterator<Item = String>) -> Result<Preflight, Box<dyn Error>> {
    let mut names = Vec::new();
    let mut identities = Vec::new();
    let mut dns = Dns::system();
    let (mut http_port, mut tls_port, mut private) = (80, 443, false);
    while let Some(argument) = arguments.next() {
        let mut value = || {
            let value = arguments.next();
            value.ok_or_else(|| format!("{argument} takes a value"))
        };
        match argument.as_str() {
            "--ca" => identities.push(value()?),
            "--dns" => dns = Dns::with_name_servers([value()?.parse()?]),
            "--http-port" => http_port = value()?.parse()?,
            "--tls-port" => tls_port = value()?.parse()?,
            "--private" => private = true,
            name if name.starts_with('-') => return Err(format!("{name} is unknown").into()),
            name => names.push(name.to_owned()),
        }
    }
    if names.is_empty() {
        return Err("which names?".into());
    }
    // The solvers say which types of challenge matter. Nothing is presented.
    Ok(Preflight::new(names)
        .without_rehearsal()
        .caa_identities(identities)
        .dns(dns)
        .http_port(http_port)
        .tls_port(tls_port)
        .allow_private_addresses(private)
        .solver(Http01Responder::default())
        .solver(TlsAlpn01Resolver::default()))
}
