//! From names to a certificate, with everything shown that happens on the way.
//!
//! Without arguments, the CA runs inside this process, and the certificate is for a name that only
//! this CA can find:
//!
//! ```sh
//! cargo run --example quickstart --features test-ca
//! ```
//!
//! With them, from a CA outside, such as Let's Encrypt's staging one, on a host that the names point
//! to:
//!
//! ```sh
//! cargo run --example quickstart --features test-ca -- \
//!     --directory https://acme-staging-v02.api.letsencrypt.org/directory \
//!     --domain example.com --domain www.example.com --http-port 80 \
//!     --contact mailto:ops@example.com --output ./certificates
//! ```

#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};
use std::{env, process};

use certwright::issuance::Issued;
use certwright::jose::AccountKey;
use certwright::solver::Http01Server;
use certwright::test_ca::TestCa;
use certwright::{Account, Client, private_file};

const USAGE: &str = "\
usage: quickstart [options]

  --directory URL   the CA's directory; without it, a CA runs inside this process
  --root FILE       trust the certificates in this PEM file too, for a CA of your own
  --domain NAME     a name or an address to get a certificate for; may be given again
  --http-port PORT  where to answer http-01 (default: 80, or any free one for the CA inside)
  --contact URL     how the CA may reach you, such as mailto:ops@example.com
  --output DIR      keep account, key and chain in this directory

With --directory you agree to the CA's terms of service.";

#[tokio::main]
async fn main() {
    let options = Options::parse(env::args().skip(1)).unwrap_or_else(|fault| {
        println!("{fault}\n\n{USAGE}");
        process::exit(2);
    });
    if let Err(error) = run(options).await {
        println!("\nfailed: {error}");
        process::exit(1);
    }
}

async fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let solver = Http01Server::on_port(options.http_port()).await?;
    let inside = match options.directory {
        Some(_) => None,
        None => Some(start_ca(&solver).await?),
    };
    let (directory, root) = match (&inside, &options.directory) {
        (Some(ca), _) => (
            ca.directory_url().to_owned(),
            Some(ca.root_pem().to_owned()),
        ),
        (None, Some(directory)) => (
            directory.clone(),
            options.root.as_ref().map(fs::read_to_string).transpose()?,
        ),
        (None, None) => return Err("there is no CA".into()),
    };

    let mut builder = Client::builder(directory.as_str()).product("certwright-quickstart");
    if let Some(root) = &root {
        builder = builder.add_root_pem(root);
    }
    let client = builder.build().await?;
    println!("directory   {directory}");
    if let Some(terms) = &client.directory().await?.meta.terms_of_service {
        println!("terms       {terms}");
    }
    let account = account(&client, &options).await?;
    println!("account     {}", account.url());

    let start = Instant::now();
    let issued = account
        .issue(&options.domains)
        .solver(solver)
        .on_event(move |event| println!("{:>7.3} s   {event}", start.elapsed().as_secs_f32()))
        .await?;
    describe(&issued, root.is_some());
    if let Some(directory) = &options.output {
        keep(directory, &issued)?;
    }
    Ok(())
}

/// Starts a CA that validates for real, by connecting to the solver's port.
async fn start_ca(solver: &Http01Server) -> Result<TestCa, Box<dyn Error>> {
    let port = solver
        .local_addrs()
        .first()
        .ok_or("the solver listens nowhere")?
        .port();
    println!("CA          inside this process; it validates http-01 on port {port}");
    Ok(TestCa::builder().http01_port(port).start().await?)
}

/// The account kept in the output directory, or a new one, kept there before it is used.
async fn account(client: &Client, options: &Options) -> Result<Account, Box<dyn Error>> {
    let stored = options
        .output
        .as_ref()
        .map(|directory| directory.join("account.json"));
    if let Some(file) = stored.as_ref().filter(|file| file.exists()) {
        return Ok(client.account(&serde_json::from_str(&fs::read_to_string(file)?)?)?);
    }

    let key = AccountKey::generate()?;
    if let Some(directory) = &options.output {
        fs::create_dir_all(directory)?;
        private_file::write(directory.join("account-key.pem"), key.to_pkcs8_pem()?)?;
    }
    let mut builder = client.new_account(key).agree_to_terms();
    if let Some(contact) = &options.contact {
        builder = builder.contact(contact);
    }
    let account = builder.create().await?;
    if let Some(file) = stored {
        private_file::write(&file, serde_json::to_vec_pretty(&account.credentials()?)?)?;
    }
    Ok(account)
}

fn describe(issued: &Issued, own_root: bool) {
    let chain = issued.chain();
    let left = chain
        .not_after()
        .duration_since(SystemTime::now())
        .unwrap_or_default();
    let names: Vec<_> = chain
        .identifiers()
        .iter()
        .map(ToString::to_string)
        .collect();
    println!("\n{}", chain.pem());
    println!(
        "These {} certificates are the chain that a server shows:",
        chain.certificates().len()
    );
    println!(
        "  the first is for {}, serial number {},",
        names.join(", "),
        chain.serial_number()
    );
    println!("    and valid for {} more days;", left.as_secs() / 86_400);
    println!("  the last is signed by `{}`,", chain.root_issuer());
    match own_root {
        true => println!("    which is trusted only by those who were told to."),
        false => println!("    which clients are expected to know."),
    }
    println!("Checked: each signs the one before, key and names are those asked for.");
}

fn keep(directory: &Path, issued: &Issued) -> Result<(), Box<dyn Error>> {
    private_file::write(directory.join("key.pem"), issued.key().to_pkcs8_pem()?)?;
    fs::write(directory.join("chain.pem"), issued.chain().pem())?;
    println!(
        "kept in {}: key.pem, chain.pem, account.json",
        directory.display()
    );
    Ok(())
}

struct Options {
    directory: Option<String>,
    root: Option<PathBuf>,
    domains: Vec<String>,
    http_port: Option<u16>,
    contact: Option<String>,
    output: Option<PathBuf>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            directory: None,
            root: None,
            domains: Vec::new(),
            http_port: None,
            contact: None,
            output: None,
        };
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{flag} needs a value"));
            match flag.as_str() {
                "--directory" => options.directory = Some(value()?),
                "--root" => options.root = Some(value()?.into()),
                "--domain" => options.domains.push(value()?),
                "--http-port" => {
                    let port = value()?;
                    options.http_port = Some(
                        port.parse()
                            .map_err(|_| format!("`{port}` is not a port"))?,
                    );
                }
                "--contact" => options.contact = Some(value()?),
                "--output" => options.output = Some(value()?.into()),
                "--help" => return Err("certwright's quickstart".to_owned()),
                _ => return Err(format!("`{flag}` is not an option")),
            }
        }
        match (&options.directory, options.domains.is_empty()) {
            (Some(_), true) => Err("--directory needs at least one --domain".to_owned()),
            (None, true) => {
                options.domains = vec!["example.test".to_owned(), "www.example.test".to_owned()];
                Ok(options)
            }
            _ => Ok(options),
        }
    }

    fn http_port(&self) -> u16 {
        let standard = if self.directory.is_some() { 80 } else { 0 };
        self.http_port.unwrap_or(standard)
    }
}
