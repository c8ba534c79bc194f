//! Gets a short-lived certificate for an IP address (RFC 8738) under a profile.
//!
//! Let's Encrypt issues for addresses under the profile `shortlived` only. On the host that has the
//! address:
//!
//! ```sh
//! cargo run --example short_lived_ip -- --domain 192.0.2.1 --http-port 80 \
//!     --directory https://acme-staging-v02.api.letsencrypt.org/directory
//! ```

#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use std::error::Error;
use std::net::IpAddr;
use std::time::SystemTime;
use std::{env, fs, process};

use certwright::jose::AccountKey;
use certwright::solver::Http01Server;
use certwright::{Client, LetsEncrypt};

const USAGE: &str = "\
usage: short_lived_ip [options]

  --domain ADDRESS  the address to get a certificate for (default: 127.0.0.1)
  --directory URL   the CA's directory (default: Let's Encrypt's staging one)
  --root FILE       trust the certificates in this PEM file too, for a CA of your own
  --http-port PORT  where to answer http-01 (default: 80)
  --profile NAME    the profile (default: shortlived)

You agree to the CA's terms of service.";

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
    let mut builder = Client::builder(options.directory.as_str()).product("certwright-ip");
    if let Some(file) = &options.root {
        builder = builder.add_root_pem(&fs::read_to_string(file)?);
    }
    let client = builder.build().await?;
    let account = client
        .new_account(AccountKey::generate()?)
        .agree_to_terms()
        .create()
        .await?;
    let issued = account
        .issue([options.address])
        .profile(options.profile)
        .solver(Http01Server::on_port(options.http_port).await?)
        .on_event(|event| println!("{event}"))
        .await?;

    let chain = issued.chain();
    let left = chain.not_after().duration_since(SystemTime::now())?;
    println!("{}", chain.pem());
    println!(
        "for {}, and valid for {} hours more",
        options.address,
        left.as_secs() / 3600
    );
    Ok(())
}

struct Options {
    address: IpAddr,
    directory: String,
    root: Option<String>,
    http_port: u16,
    profile: String,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            address: IpAddr::from([127, 0, 0, 1]),
            directory: LetsEncrypt::Staging.url().to_owned(),
            root: None,
            http_port: 80,
            profile: "shortlived".to_owned(),
        };
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{flag} needs a value"));
            match flag.as_str() {
                "--domain" => {
                    let address = value()?;
                    options.address = address
                        .parse()
                        .map_err(|_| format!("`{address}` is not an address"))?;
                }
                "--directory" => options.directory = value()?,
                "--root" => options.root = Some(value()?),
                "--http-port" => {
                    let port = value()?;
                    options.http_port = port
                        .parse()
                        .map_err(|_| format!("`{port}` is not a port"))?;
                }
                "--profile" => options.profile = value()?,
                "--help" => return Err("a certificate for an address".to_owned()),
                _ => return Err(format!("`{flag}` is not an option")),
            }
        }
        Ok(options)
    }
}
