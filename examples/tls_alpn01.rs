//! A certificate for a TLS server that is live already, on the one port that it serves: the challenge
//! tls-alpn-01 is answered beside the server's own certificates.
//!
//! The server starts without any certificate, so its first users are turned away. Once it has got
//! one, it serves them, and renews in the same way without turning anybody away.
//!
//! Without arguments, the CA runs inside this process:
//!
//! ```sh
//! cargo run --example tls_alpn01 --features test-ca
//! ```
//!
//! With them, from a CA outside, on a host that the name points to:
//!
//! ```sh
//! cargo run --example tls_alpn01 --features test-ca -- \
//!     --directory https://acme-staging-v02.api.letsencrypt.org/directory --domain example.com
//! ```

#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::{env, fs, io, process};

use certwright::issuance::Issued;
use certwright::jose::AccountKey;
use certwright::solver::TlsAlpn01Resolver;
use certwright::test_ca::TestCa;
use certwright::{Account, Client};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const USAGE: &str = "\
usage: tls_alpn01 [options]

  --directory URL  the CA's directory; without it, a CA runs inside this process
  --root FILE      trust the certificates in this PEM file too, for a CA of your own
  --domain NAME    the name to get a certificate for
  --port PORT      where the server listens (default: 443, or any free port for the CA inside)

With --directory you agree to the CA's terms of service.";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

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

async fn run(options: Options) -> Result<()> {
    // An application has one provider for all that it does with TLS.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());

    // The server, as it is without the challenge ...
    let certificates = Arc::new(Certificates::default());
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificates.clone());
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // ... and all that the challenge takes.
    let solver = TlsAlpn01Resolver::install(&mut config)?;

    let listener = TcpListener::bind(("0.0.0.0", options.port)).await?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, listener.local_addr()?.port()));
    println!("server      port {}", address.port());
    let server = tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(config))));

    // The CA inside lives as long as the last of these.
    let (directory, root, inside) = match &options.directory {
        Some(directory) => {
            let root = options.root.as_ref().map(fs::read_to_string).transpose()?;
            (directory.clone(), root, None)
        }
        None => {
            let ca = TestCa::builder().tls_alpn01_port(address.port());
            let ca = ca.start().await?;
            (ca.directory_url(), Some(ca.root_pem().to_owned()), Some(ca))
        }
    };
    println!("directory   {directory}");
    let visitor = inside.map(|ca| Visitor {
        root_pem: ca.root_pem().to_owned(),
        provider: provider.clone(),
        address,
        name: options.domain.clone(),
        _ca: ca,
    });

    let account = account(&directory, root.as_deref()).await?;
    println!("account     {}", account.url());
    if let Some(visitor) = &visitor {
        println!("a visitor   {}", visitor.visit().await);
    }

    // The second time is a renewal: the same thing, while the server has users.
    for _ in 0..2 {
        let issued = account
            .issue([&options.domain])
            .solver(solver.clone())
            .on_event(|event| println!("            {event}"))
            .await?;
        certificates.swap(&provider, &issued)?;
        println!("serving     {}", issued.chain().serial_number());
        if let Some(visitor) = &visitor {
            println!("a visitor   {}", visitor.visit().await);
        }
        if options.directory.is_some() {
            // CAs limit how often a name may be certified.
            break;
        }
    }
    server.abort();
    Ok(())
}

async fn account(directory: &str, root: Option<&str>) -> Result<Account> {
    let mut client = Client::builder(directory).product("certwright-tls-alpn01");
    if let Some(root) = root {
        client = client.add_root_pem(root);
    }
    // A program that runs more than once stores the account, as the quickstart does.
    let account = client.build().await?.new_account(AccountKey::generate()?);
    Ok(account.agree_to_terms().create().await?)
}

/// The server's certificate, which can be replaced while connections come in.
#[derive(Debug, Default)]
struct Certificates(RwLock<Option<Arc<CertifiedKey>>>);

impl Certificates {
    fn swap(&self, provider: &CryptoProvider, issued: &Issued) -> Result<()> {
        let chain = issued.chain().certificates().to_vec();
        let key = CertifiedKey::from_der(chain, issued.key().to_private_key_der()?, provider)?;
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *current = Some(Arc::new(key));
        Ok(())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(answer(stream, acceptor.clone()));
            }
            Err(error) => println!("            cannot accept: {error}"),
        }
    }
}

async fn answer(stream: TcpStream, acceptor: TlsAcceptor) -> io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    // The CA has seen what it came for, and wants no answer to a request that it does not make.
    if !TlsAlpn01Resolver::is_challenge(stream.get_ref().1) {
        stream.write_all(WELCOME).await?;
    }
    stream.shutdown().await
}

/// Somebody with a browser who trusts the CA inside.
struct Visitor {
    root_pem: String,
    provider: Arc<CryptoProvider>,
    address: SocketAddr,
    name: String,
    _ca: TestCa,
}

impl Visitor {
    async fn visit(&self) -> String {
        match self.get().await {
            Ok(text) => format!("reads {:?}", text.lines().last().unwrap_or_default()),
            Err(error) => format!("is turned away: {error}"),
        }
    }

    async fn get(&self) -> Result<String> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.root_pem.as_bytes())?)?;
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from(self.name.clone())?;
        let connector = TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect(name, stream).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }
}

struct Options {
    directory: Option<String>,
    root: Option<String>,
    domain: String,
    port: u16,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> std::result::Result<Self, String> {
        let (mut directory, mut root, mut domain, mut port) = (None, None, None, None);
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{flag} needs a value"));
            match flag.as_str() {
                "--directory" => directory = Some(value()?),
                "--root" => root = Some(value()?),
                "--domain" => domain = Some(value()?),
                "--port" => {
                    let text = value()?;
                    let parsed = text
                        .parse()
                        .map_err(|_| format!("`{text}` is not a port"))?;
                    port = Some(parsed);
                }
                "--help" => return Err("a certificate for a live TLS server".to_owned()),
                _ => return Err(format!("`{flag}` is not an option")),
            }
        }

        let standard_port = if directory.is_some() { 443 } else { 0 };
        let domain = match (domain, &directory) {
            (Some(domain), _) => domain,
            (None, None) => "example.test".to_owned(),
            (None, Some(_)) => return Err("--directory needs a --domain".to_owned()),
        };
        Ok(Self {
            directory,
            root,
            domain,
            port: port.unwrap_or(standard_port),
        })
    }
}

const WELCOME: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nWelcome";
