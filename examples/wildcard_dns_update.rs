//! Gets a certificate for a name and its wildcard, with TXT records through the API of a DNS host.
//!
//! The crate `dns-update` knows some seventy; this example has four of them, and any other is one
//! line more. The API's token is taken from the environment, where other users do not see it:
//!
//! ```sh
//! DNS_TOKEN=… cargo run --example wildcard_dns_update --features dns-update -- \
//!     --host cloudflare --domain example.com
//! ```

#![allow(clippy::print_stdout, reason = "a program for the terminal")]

#[path = "common/wildcard.rs"]
mod wildcard;

use std::env;
use std::process::ExitCode;

use base64ct::{Base64, Encoding};
use certwright::solver::DnsUpdate;
use certwright::solver::dns_update::{DnsUpdater, TsigAlgorithm};
use wildcard::{Options, Result, USAGE};

const OWN: &str = "\
usage: wildcard_dns_update options, with a token in the variable DNS_TOKEN

  --host HOST       cloudflare, desec, digitalocean, hetzner or rfc2136
  --server URL      for rfc2136: the name server, such as tcp://192.0.2.1:53
  --key-name NAME   for rfc2136: the name of an hmac-sha256 key, whose secret DNS_TOKEN is";

#[tokio::main]
async fn main() -> ExitCode {
    match provider() {
        Err(fault) => {
            println!("{fault}\n\n{OWN}\n{USAGE}");
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

fn provider() -> Result<(Options, DnsUpdate)> {
    let options = Options::parse(&["--host", "--server", "--key-name"])?;
    options.needed("--domain")?;
    let token = env::var("DNS_TOKEN").map_err(|_| "DNS_TOKEN is not set")?;
    let updater = match options.needed("--host")? {
        "cloudflare" => DnsUpdater::new_cloudflare(token, None),
        "desec" => DnsUpdater::new_desec(token, None),
        "digitalocean" => DnsUpdater::new_digitalocean(token, None),
        "hetzner" => DnsUpdater::new_hetzner(token, None),
        "rfc2136" => DnsUpdater::new_rfc2136_tsig(
            options.needed("--server")?,
            options.needed("--key-name")?,
            Base64::decode_vec(&token).map_err(|_| "the key's secret is not base64")?,
            TsigAlgorithm::HmacSha256,
        ),
        host => return Err(format!("`{host}` is not one of the hosts").into()),
    };
    let updater = updater.map_err(|error| error.to_string())?;
    Ok((options, DnsUpdate::new(updater)))
}
