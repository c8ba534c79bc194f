//! A certificate for a name that an axum server serves already: the responder for http-01 stands
//! beside the server's own routes, so nothing else has to listen on port 80.
//!
//! Without arguments, the CA runs inside this process:
//!
//! ```sh
//! cargo run --example http01_axum --features test-ca
//! ```
//!
//! With them, from a CA outside, on a host that the name points to:
//!
//! ```sh
//! cargo run --example http01_axum --features test-ca -- \
//!     --directory https://acme-staging-v02.api.letsencrypt.org/directory --domain example.com
//! ```

#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use std::error::Error;
use std::{env, fs, process};

use axum::Router;
use axum::routing::get;
use certwright::Client;
use certwright::jose::AccountKey;
use certwright::solver::Http01Responder;
use certwright::test_ca::TestCa;
use tokio::net::TcpListener;

const USAGE: &str = "\
usage: http01_axum [options]

  --directory URL   the CA's directory; without it, a CA runs inside this process
  --root FILE       trust the certificates in this PEM file too, for a CA of your own
  --domain NAME     the name to get a certificate for
  --http-port PORT  where the server listens (default: 80, or any free port for the CA inside)

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
    // One clone of the responder answers in the server, the other is the issuance's solver.
    let responder = Http01Responder::default();
    let app = Router::new()
        .route("/", get(async || "Welcome\n"))
        .route_service(Http01Responder::ROUTE, responder.clone());
    let listener = TcpListener::bind(("0.0.0.0", options.http_port)).await?;
    let address = listener.local_addr()?;
    println!("server      {address}");
    let server = tokio::spawn(async move { axum::serve(listener, app).await });

    // The CA inside lives as long as the last of these.
    let (directory, root, _inside) = match options.directory {
        Some(directory) => {
            let root = options.root.map(fs::read_to_string).transpose()?;
            (directory, root, None)
        }
        None => {
            let ca = TestCa::builder()
                .http01_port(address.port())
                .start()
                .await?;
            (ca.directory_url(), Some(ca.root_pem().to_owned()), Some(ca))
        }
    };
    println!("directory   {directory}");

    let mut client = Client::builder(directory.as_str()).product("certwright-http01-axum");
    if let Some(root) = &root {
        client = client.add_root_pem(root);
    }
    // A program that runs more than once stores the account, as the quickstart does.
    let account = client
        .build()
        .await?
        .new_account(AccountKey::generate()?)
        .agree_to_terms()
        .create()
        .await?;
    println!("account     {}", account.url());

    let issued = account
        .issue([&options.domain])
        .solver(responder)
        .on_event(|event| println!("            {event}"))
        .await?;
    println!("\n{}", issued.chain().pem());
    server.abort();
    Ok(())
}

struct Options {
    directory: Option<String>,
    root: Option<String>,
    domain: String,
    http_port: u16,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut directory, mut root, mut domain, mut http_port) = (None, None, None, None);
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{flag} needs a value"));
            match flag.as_str() {
                "--directory" => directory = Some(value()?),
                "--root" => root = Some(value()?),
                "--domain" => domain = Some(value()?),
                "--http-port" => {
                    let port = value()?;
                    let parsed = port
                        .parse()
                        .map_err(|_| format!("`{port}` is not a port"))?;
                    http_port = Some(parsed);
                }
                "--help" => return Err("a certificate for an axum server".to_owned()),
                _ => return Err(format!("`{flag}` is not an option")),
            }
        }

        let standard_port = if directory.is_some() { 80 } else { 0 };
        let domain = match (domain, &directory) {
            (Some(domain), _) => domain,
            (None, None) => "example.test".to_owned(),
            (None, Some(_)) => return Err("--directory needs a --domain".to_owned()),
        };
        Ok(Self {
            directory,
            root,
            domain,
            http_port: http_port.unwrap_or(standard_port),
        })
    }
}
