//! What the examples about certificates share: their options, and a certificate to show things on.

#![allow(
    clippy::print_stdout,
    dead_code,
    reason = "programs for the terminal, each of which uses a part"
)]

use std::error::Error;
use std::future::Future;
use std::process::ExitCode;
use std::{env, fs};

use certwright::issuance::Issued;
use certwright::jose::AccountKey;
use certwright::solver::Http01Server;
use certwright::{Account, Client};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "\
  --directory URL   the CA's directory; you agree to its terms of service
  --root FILE       trust the certificates in this PEM file too
  --http-port PORT  where to answer http-01 (default: 80)
  --domain NAME     a name that points to this host; may be given again";

/// What an example is told on its command line.
#[derive(Debug)]
pub(crate) struct Options {
    directory: String,
    root: Option<String>,
    http_port: u16,
    domains: Vec<String>,
    /// The value of the example's own option.
    pub(crate) own: Option<String>,
}

impl Options {
    /// An account at the CA, with a new key that is not kept.
    pub(crate) async fn account(&self) -> Result<Account> {
        let mut builder = Client::builder(self.directory.as_str()).product("certwright-example");
        if let Some(root) = &self.root {
            builder = builder.add_root_pem(&fs::read_to_string(root)?);
        }
        let client = builder.build().await?;
        let account = client.new_account(AccountKey::generate()?).agree_to_terms();
        Ok(account.create().await?)
    }

    /// A certificate for the names.
    pub(crate) async fn issue(&self, account: &Account) -> Result<Issued> {
        let solver = Http01Server::on_port(self.http_port).await?;
        let issued = account.issue(&self.domains).solver(solver).await?;
        println!("certificate  {}", issued.certificate().url());
        Ok(issued)
    }

    /// Reads the command line. `own` is an option that only this example has.
    fn parse(own: &str) -> Result<Self> {
        let mut options = Self {
            directory: String::new(),
            root: None,
            http_port: 80,
            domains: Vec::new(),
            own: None,
        };
        let mut arguments = env::args().skip(1);
        while let Some(flag) = arguments.next() {
            let value = arguments.next().ok_or("an option lacks its value")?;
            match flag.as_str() {
                "--directory" => options.directory = value,
                "--root" => options.root = Some(value),
                "--http-port" => options.http_port = value.parse()?,
                "--domain" => options.domains.push(value),
                flag if !own.is_empty() && flag == own => options.own = Some(value),
                _ => return Err(format!("`{flag}` is not an option").into()),
            }
        }
        match options.directory.is_empty() || options.domains.is_empty() {
            true => Err("--directory and --domain are needed".into()),
            false => Ok(options),
        }
    }
}

/// Runs an example, and tells how it ended.
pub(crate) async fn main<F>(own: &str, run: impl FnOnce(Options) -> F) -> ExitCode
where
    F: Future<Output = Result<()>>,
{
    let options = match Options::parse(own) {
        Ok(options) => options,
        Err(fault) => {
            println!("{fault}\n\n{USAGE}");
            if !own.is_empty() {
                println!("  {own} VALUE");
            }
            return ExitCode::from(2);
        }
    };
    match run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("failed: {error}");
            ExitCode::FAILURE
        }
    }
}
