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
use certwright::test_ca::TestCa;
use certwright::{Account, Client};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "\
  --directory URL   the CA's directory; you agree to its terms of service. Without it, a CA runs
                    inside this process
  --root FILE       trust the certificates in this PEM file too
  --http-port PORT  where to answer http-01 (default: 80, or any free one for the CA inside)
  --domain NAME     a name that points to this host; may be given again";

/// What an example is told on its command line.
#[derive(Debug)]
pub(crate) struct Options {
    directory: Option<String>,
    root: Option<String>,
    http_port: Option<u16>,
    domains: Vec<String>,
    solver: Option<Http01Server>,
    inside: Option<TestCa>,
    /// The value of the example's own option.
    pub(crate) own: Option<String>,
}

impl Options {
    /// An account at the CA, with a new key that is not kept.
    pub(crate) async fn account(&self) -> Result<Account> {
        let (directory, root) = match (&self.inside, &self.directory) {
            (Some(ca), _) => (ca.directory_url(), Some(ca.root_pem().to_owned())),
            (None, Some(directory)) => {
                let root = self.root.as_ref().map(fs::read_to_string).transpose()?;
                (directory.clone(), root)
            }
            (None, None) => return Err("there is no CA".into()),
        };
        let mut builder = Client::builder(directory.as_str()).product("certwright-example");
        if let Some(root) = &root {
            builder = builder.add_root_pem(root);
        }
        let client = builder.build().await?;
        let account = client.new_account(AccountKey::generate()?).agree_to_terms();
        Ok(account.create().await?)
    }

    /// A certificate for the names.
    pub(crate) async fn issue(&self, account: &Account) -> Result<Issued> {
        let solver = self.solver.clone().ok_or("there is no solver")?;
        let issued = account.issue(&self.domains).solver(solver).await?;
        println!("certificate  {}", issued.certificate().url());
        Ok(issued)
    }

    /// Listens for the CA's validation, and starts a CA where none is named.
    async fn start(&mut self) -> Result<()> {
        let standard = if self.directory.is_some() { 80 } else { 0 };
        let solver = Http01Server::on_port(self.http_port.unwrap_or(standard)).await?;
        let address = solver
            .local_addrs()
            .first()
            .ok_or("the solver listens nowhere")?;
        if self.directory.is_none() {
            let ca = TestCa::builder().http01_port(address.port());
            self.inside = Some(ca.alternate_chains(2).crl(true).start().await?);
        }
        self.solver = Some(solver);
        Ok(())
    }

    /// Reads the command line. `own` is an option that only this example has.
    fn parse(own: &str) -> Result<Self> {
        let mut options = Self {
            directory: None,
            root: None,
            http_port: None,
            domains: Vec::new(),
            solver: None,
            inside: None,
            own: None,
        };
        let mut arguments = env::args().skip(1);
        while let Some(flag) = arguments.next() {
            let value = arguments.next().ok_or("an option lacks its value")?;
            match flag.as_str() {
                "--directory" => options.directory = Some(value),
                "--root" => options.root = Some(value),
                "--http-port" => options.http_port = Some(value.parse()?),
                "--domain" => options.domains.push(value),
                flag if !own.is_empty() && flag == own => options.own = Some(value),
                _ => return Err(format!("`{flag}` is not an option").into()),
            }
        }
        match (&options.directory, options.domains.is_empty()) {
            (Some(_), true) => Err("--directory needs at least one --domain".into()),
            (None, true) => {
                options.domains = vec!["example.test".to_owned()];
                Ok(options)
            }
            _ => Ok(options),
        }
    }
}

/// Runs an example, and tells how it ended.
pub(crate) async fn main<F>(own: &str, run: impl FnOnce(Options) -> F) -> ExitCode
where
    F: Future<Output = Result<()>>,
{
    let mut options = match Options::parse(own) {
        Ok(options) => options,
        Err(fault) => {
            println!("{fault}\n\n{USAGE}");
            if !own.is_empty() {
                println!("  {own} VALUE");
            }
            return ExitCode::from(2);
        }
    };
    let ended = match options.start().await {
        Ok(()) => run(options).await,
        Err(error) => Err(error),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("failed: {error}");
            ExitCode::FAILURE
        }
    }
}
