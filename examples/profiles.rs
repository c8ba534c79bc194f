//! Shows the certificate profiles that a CA offers (draft-ietf-acme-profiles), and orders by a list
//! of preferences.
//!
//! ```sh
//! cargo run --example profiles -- \
//!     --directory https://acme-staging-v02.api.letsencrypt.org/directory
//! ```
//!
//! With `--domain`, it also orders a certificate and says which profile the CA took. It proves
//! nothing, so the order expires by itself.

#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use std::error::Error;
use std::{env, fs, process};

use certwright::jose::AccountKey;
use certwright::{Client, LetsEncrypt};

const USAGE: &str = "\
usage: profiles [options]

  --directory URL   the CA's directory (default: Let's Encrypt's staging one)
  --root FILE       trust the certificates in this PEM file too, for a CA of your own
  --domain NAME     order a certificate for this name; may be given again
  --profile NAME    the profile to order; may be given again, the most wanted first

With --domain you agree to the CA's terms of service.";

#[tokio::main]
async fn main() {
    let options = Options::parse(env::args().skip(1)).unwrap_or_else(|fault| {
        println!("{fault}\n\n{USAGE}");
        process::exit(2);
    });
    if let Err(error) = run(options).await {
        println!("failed: {error}");
        process::exit(1);
    }
}

async fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let mut builder = Client::builder(options.directory.as_str()).product("certwright-profiles");
    if let Some(file) = &options.root {
        builder = builder.add_root_pem(&fs::read_to_string(file)?);
    }
    let client = builder.build().await?;
    let directory = client.directory().await?;
    if directory.meta.profiles.is_empty() {
        println!("the CA has no profiles");
    }
    for (name, description) in &directory.meta.profiles {
        println!("{name:<12}  {description}");
    }
    if options.domains.is_empty() {
        return Ok(());
    }

    let account = client
        .new_account(AccountKey::generate()?)
        .agree_to_terms()
        .create()
        .await?;
    let order = account
        .new_order(&options.domains)
        .profiles(&options.profiles)
        .or_default_profile()
        .create()
        .await?;
    match &order.state().profile {
        Some(profile) => println!("order {} has the profile {profile}", order.url()),
        None => println!("order {} has no profile", order.url()),
    }
    Ok(())
}

struct Options {
    directory: String,
    root: Option<String>,
    domains: Vec<String>,
    profiles: Vec<String>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            directory: LetsEncrypt::Staging.url().to_owned(),
            root: None,
            domains: Vec::new(),
            profiles: Vec::new(),
        };
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{flag} needs a value"));
            match flag.as_str() {
                "--directory" => options.directory = value()?,
                "--root" => options.root = Some(value()?),
                "--domain" => options.domains.push(value()?),
                "--profile" => options.profiles.push(value()?),
                "--help" => return Err("the profiles of a CA".to_owned()),
                _ => return Err(format!("`{flag}` is not an option")),
            }
        }
        Ok(options)
    }
}
