//! What the examples about wildcards share: the CA, the names, and the order.

#![allow(clippy::print_stdout, reason = "programs for the terminal")]

use std::collections::HashMap;
use std::error::Error;
use std::net::SocketAddr;
use std::{env, fs};

use certwright::dns::Dns;
use certwright::jose::AccountKey;
use certwright::solver::{Dns01, DnsProvider};
use certwright::{Client, LetsEncrypt};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

pub(crate) const USAGE: &str = "\
  --domain NAME     the name to get a certificate for, with all names one level below it
  --directory URL   the CA's directory (default: Let's Encrypt's staging one); you agree to its
                    terms of service
  --root FILE       trust the certificates in this PEM file too, for a CA of your own
  --dns ADDR:PORT   ask this name server rather than the system's resolvers, and all name servers
                    at its port; for trying it out";

/// What is given on the command line: options, each with a value.
pub(crate) struct Options(HashMap<String, String>);

impl Options {
    /// Reads the options; those of the example itself are `own`.
    pub(crate) fn parse(own: &[&str]) -> Result<Self> {
        let mut options = HashMap::new();
        let mut arguments = env::args().skip(1);
        while let Some(flag) = arguments.next() {
            let shared = ["--domain", "--directory", "--root", "--dns"];
            if !shared.contains(&flag.as_str()) && !own.contains(&flag.as_str()) {
                return Err(format!("`{flag}` is not an option").into());
            }
            let value = arguments.next().ok_or(format!("{flag} needs a value"))?;
            options.insert(flag, value);
        }
        Ok(Self(options))
    }

    /// The value of an option that must be there.
    pub(crate) fn needed(&self, flag: &str) -> Result<&str> {
        let value = self.0.get(flag).map(String::as_str);
        value.ok_or_else(|| format!("{flag} is missing").into())
    }

    /// Gets a certificate for the domain and its wildcard, with TXT records by this provider.
    pub(crate) async fn issue(&self, provider: impl DnsProvider) -> Result<()> {
        let domain = self.needed("--domain")?;
        let directory = self.0.get("--directory").map(String::as_str);
        let directory = directory.unwrap_or(LetsEncrypt::Staging.url());
        let mut builder = Client::builder(directory).product("certwright-wildcard");
        if let Some(file) = self.0.get("--root") {
            builder = builder.add_root_pem(&fs::read_to_string(file)?);
        }
        let client = builder.build().await?;
        let account = client.new_account(AccountKey::generate()?).agree_to_terms();
        let account = account.create().await?;

        let mut solver = Dns01::new(provider);
        if let Some(server) = self.0.get("--dns") {
            let server: SocketAddr = server.parse()?;
            let dns = Dns::with_name_servers([server]).authoritative_port(server.port());
            solver = solver.dns(dns);
        }
        let issued = account
            .issue([format!("*.{domain}").as_str(), domain])
            .solver(solver)
            .on_event(|event| println!("{event}"))
            .await?;
        println!("{}", issued.chain().pem());
        Ok(())
    }
}
