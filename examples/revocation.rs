//! Revokes a certificate, in the name of its account or of its own key (RFC 8555 §7.6).
//!
//! ```sh
//! cargo run --example revocation --features test-ca # at a CA inside this process
//! cargo run --example revocation --features test-ca -- \
//!     --directory https://acme-staging-v02.api.letsencrypt.org/directory --domain example.com \
//!     --by account
//! ```

#![allow(clippy::print_stdout, reason = "a program for the terminal")]

mod common;

use std::process::ExitCode;

use certwright::protocol::RevocationReason;
use common::{Options, Result};

#[tokio::main]
async fn main() -> ExitCode {
    common::main("--by", run).await
}

async fn run(options: Options) -> Result<()> {
    let account = options.account().await?;
    let issued = options.issue(&account).await?;
    let certificate = issued.certificate();
    let details = issued.chain().details()?;
    println!("serial       {}", details.serial_number);
    println!("issuer       {}", details.issuer);
    for url in &details.crl_urls {
        println!("CRL          {url}");
    }
    println!("before       {:?}", certificate.revocation_status().await?);

    match options.own.as_deref() {
        None | Some("account") => {
            let reason = RevocationReason::Superseded;
            certificate.revoke(Some(reason)).await?;
        }
        Some("key") => {
            // No account is needed. A CA may block the key for ever.
            let (leaf, reason) = (issued.chain().leaf(), RevocationReason::KeyCompromise);
            let client = account.client();
            client
                .revoke_with_key(leaf, issued.key(), Some(reason))
                .await?;
        }
        Some(other) => return Err(format!("`--by {other}`: account or key").into()),
    }
    println!(
        "revoked      by {}",
        options.own.as_deref().unwrap_or("account")
    );
    // A second time, as after a lost reply.
    certificate.revoke(None).await?;
    println!("again        taken as done");
    println!("after        {:?}", certificate.revocation_status().await?);
    Ok(())
}
