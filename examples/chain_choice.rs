//! Shows the chains that a CA offers for a certificate, and chooses one (RFC 8555 §7.4.2).
//!
//! ```sh
//! cargo run --example chain_choice --features test-ca # at a CA inside this process
//! cargo run --example chain_choice --features test-ca -- \
//!     --directory https://acme-staging-v02.api.letsencrypt.org/directory --domain example.com \
//!     --root-name "(STAGING) Yearning Yucca Root YR"
//! ```

#![allow(clippy::print_stdout, reason = "a program for the terminal")]

mod common;

use std::process::ExitCode;

use certwright::x509::{CertificateChain, ChainChoice};
use common::{Options, Result};

#[tokio::main]
async fn main() -> ExitCode {
    common::main("--root-name", run).await
}

async fn run(options: Options) -> Result<()> {
    let account = options.account().await?;
    let issued = options.issue(&account).await?;
    let certificate = issued.certificate();
    println!("offered      {}", describe(certificate.chain()));
    for alternate in certificate.alternates().await? {
        println!("alternate    {}", describe(&alternate));
    }

    let mut choices = vec![ChainChoice::shortest()];
    choices.extend(options.own.map(ChainChoice::root_name));
    for choice in choices {
        // An issuance does this by itself where it is told to by `Issuance::chain`.
        let chosen = certificate.choose(&choice).await;
        println!("\nwanted       {choice}");
        println!("chosen       {}", describe(chosen.chain()));
        if !chosen.is_as_chosen() {
            println!("             for the CA has no such chain");
        }
    }
    Ok(())
}

fn describe(chain: &CertificateChain) -> String {
    let length = chain.certificates().len();
    format!("{length} certificates, below `{}`", chain.root_issuer())
}
