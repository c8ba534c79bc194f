//! Runs the CA for tests as a program, for ACME clients of any kind.
//!
//! ```sh
//! cargo run --example test_ca --features test-ca -- \
//!     --listen 127.0.0.1:14000 --http-port 5002 --root-out root.pem
//! ```

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a program talks to its user"
)]

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs};

use certwright::jose::MacKey;
use certwright::test_ca::TestCa;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("test_ca: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let Some(arguments) = Arguments::parse(env::args().skip(1))? else {
        println!("{USAGE}");
        return Ok(());
    };

    let mut builder = TestCa::builder()
        .bind(arguments.listen)
        .http01_port(arguments.http_port)
        .tls_alpn01_port(arguments.tls_port)
        .alternate_chains(arguments.alternate_chains)
        .crl(arguments.crl);
    for (kid, key) in arguments.external_accounts {
        builder = builder.external_account(kid, key);
    }
    for (name, days) in arguments.profiles {
        let lifetime = Duration::from_secs(24 * 3_600).saturating_mul(days);
        builder = builder.profile(name, format!("Valid for {days} days"), lifetime);
    }
    let ca = builder.start().await?;
    fs::write(&arguments.root_out, ca.root_pem())?;

    let directory = ca.directory_url();
    let root = arguments.root_out.display();
    let port = arguments.http_port;
    println!("Directory: {directory}");
    println!("Root:      {root}");
    println!("http-01:   validated at port {port} of this machine, whatever the name");
    println!("tls-alpn-01: validated at port {}", arguments.tls_port);
    if let Some(url) = ca.crl_url() {
        println!("CRL:       {url}");
    }
    println!();
    println!("For instance, with lego:");
    println!();
    println!("    LEGO_CA_CERTIFICATES={root} lego --server {directory} \\");
    println!("        --accept-tos --email you@example.com --domains www.example.com \\");
    println!("        --http --http.port 127.0.0.1:{port} run");
    println!();
    println!("or with certbot:");
    println!();
    println!("    REQUESTS_CA_BUNDLE={root} certbot certonly --server {directory} \\");
    println!("        --agree-tos --email you@example.com --domain www.example.com \\");
    println!("        --standalone --http-01-port {port}");
    println!();
    println!("Ctrl-C ends the CA, and nothing of it remains.");

    tokio::signal::ctrl_c().await?;
    ca.shutdown().await;
    Ok(())
}

struct Arguments {
    listen: SocketAddr,
    http_port: u16,
    tls_port: u16,
    root_out: PathBuf,
    alternate_chains: usize,
    crl: bool,
    external_accounts: Vec<(String, MacKey)>,
    profiles: Vec<(String, u32)>,
}

impl Arguments {
    /// `None` where the user asks for help.
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Self>, Box<dyn Error>> {
        let mut arguments = Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 14000)),
            http_port: 5002,
            tls_port: 5001,
            root_out: PathBuf::from("root.pem"),
            alternate_chains: 0,
            crl: false,
            external_accounts: Vec::new(),
            profiles: Vec::new(),
        };
        while let Some(flag) = words.next() {
            match flag.as_str() {
                "-h" | "--help" => return Ok(None),
                "--crl" => {
                    arguments.crl = true;
                    continue;
                }
                _ => {}
            }
            let value = words.next().ok_or_else(|| format!("{flag} needs a value"));
            match flag.as_str() {
                "--listen" => arguments.listen = value?.parse()?,
                "--http-port" => arguments.http_port = value?.parse()?,
                "--tls-port" => arguments.tls_port = value?.parse()?,
                "--root-out" => arguments.root_out = value?.into(),
                "--alternate-chains" => arguments.alternate_chains = value?.parse()?,
                "--external-account" => {
                    let (kid, key) = pair(&value?)?;
                    let key = MacKey::parse(&key)?;
                    arguments.external_accounts.push((kid, key));
                }
                "--profile" => {
                    let (name, days) = pair(&value?)?;
                    arguments.profiles.push((name, days.parse()?));
                }
                _ => return Err(format!("unknown flag {flag}\n\n{USAGE}").into()),
            }
        }
        Ok(Some(arguments))
    }
}

/// What stands before and after the first colon.
fn pair(value: &str) -> Result<(String, String), String> {
    let (left, right) = value
        .split_once(':')
        .ok_or_else(|| format!("`{value}` has no colon\n\n{USAGE}"))?;
    Ok((left.to_owned(), right.to_owned()))
}

const USAGE: &str = "\
Usage: test_ca [FLAG VALUE]...

  --listen ADDRESS:PORT       where to listen, on loopback only (127.0.0.1:14000)
  --http-port PORT            the port at which http-01 challenges are validated (5002)
  --tls-port PORT             the port at which tls-alpn-01 challenges are validated (5001)
  --root-out FILE             the file that the root certificate is written to (root.pem)
  --external-account KID:KEY  an external account, with its MAC key as base64url; once there is
                              one, new accounts need a binding
  --profile NAME:DAYS         a profile that orders can name, and its certificates' lifetime
  --alternate-chains NUMBER   further chains, each to a root of its own (0)
  --crl                       have certificates say where the revocation list is";
