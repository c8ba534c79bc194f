//! Pebble, Let's Encrypt's ACME server for tests, with a DNS server that the test controls.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fmt, io};

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::net::{self, Response};
use super::pki::{self, Identity};
use super::servers;

/// A running Pebble and its DNS server, both killed when this is dropped.
///
/// Every name has the address 127.0.0.1 and no other until the test says otherwise, so that
/// Pebble validates at [`http01_port`](Self::http01_port) and
/// [`tls_alpn01_port`](Self::tls_alpn01_port) of this machine, where nothing listens but what the
/// test starts.
pub struct Pebble {
    pebble: Process,
    challtestsrv: Process,
    ports: Ports,
    identity: Identity,
    tls: Arc<ClientConfig>,
    /// Last, so that the servers are gone before their files.
    directory: TempDir,
}

impl Pebble {
    /// A Pebble without its default unreliability; see [`Builder`].
    pub fn builder() -> Builder {
        Builder {
            nonce_reject: 0,
            authz_reuse: 0,
            va_nosleep: true,
            strict: false,
            chain_length: None,
            alternate_roots: None,
            external_accounts: BTreeMap::new(),
            settings: Map::from_iter([
                // Pebble would generate RSA keys at each start, which takes longer.
                ("keyAlgorithm".to_owned(), json!("ecdsa")),
                ("retryAfter".to_owned(), json!({ "authz": 1, "order": 1 })),
            ]),
            environment: BTreeMap::new(),
            name_server: None,
        }
    }

    /// The URL of the ACME directory.
    pub fn directory_url(&self) -> String {
        format!("https://localhost:{}/dir", self.ports.acme)
    }

    /// The URL, without a path, of Pebble's management interface.
    pub fn management_url(&self) -> String {
        format!("https://localhost:{}", self.ports.management)
    }

    /// The URL, without a path, of the DNS server's management interface.
    pub fn challtestsrv_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.challtestsrv)
    }

    /// The certificate of the CA to trust for both of Pebble's URLs. It has nothing to do with
    /// the CA that Pebble plays: that one's root is at `/roots/0` of the management interface.
    pub fn root_pem(&self) -> &str {
        &self.identity.root_pem
    }

    /// A file with [`root_pem`](Self::root_pem), for programs that take a path.
    pub fn root_path(&self) -> PathBuf {
        self.directory.path().join(ROOT_FILE)
    }

    /// A rustls configuration that trusts [`root_pem`](Self::root_pem) and nothing else.
    pub fn client_config(&self) -> ClientConfig {
        ClientConfig::clone(&self.tls)
    }

    /// The port at which Pebble asks for http-01 challenges.
    pub fn http01_port(&self) -> u16 {
        self.ports.http01
    }

    /// The port at which Pebble asks for tls-alpn-01 challenges.
    pub fn tls_alpn01_port(&self) -> u16 {
        self.ports.tls_alpn01
    }

    /// The port of 127.0.0.1 with the DNS server that Pebble asks, over UDP and TCP.
    pub fn dns_port(&self) -> u16 {
        self.ports.dns
    }

    /// The process identifiers of the two servers.
    pub fn process_ids(&self) -> [u32; 2] {
        [self.pebble.child.id(), self.challtestsrv.child.id()]
    }

    /// What Pebble logged so far, to be shown when a test fails.
    pub fn log(&self) -> String {
        self.pebble.log()
    }

    /// What the DNS server logged so far.
    pub fn challtestsrv_log(&self) -> String {
        self.challtestsrv.log()
    }

    /// A GET of Pebble's management interface, for instance of `/roots/0`.
    pub async fn management_get(&self, path: &str) -> Response {
        self.https(self.ports.management, "GET", path, b"")
            .await
            .expect("Pebble's management interface answers")
    }

    /// A POST to Pebble's management interface, for instance to `/set-renewal-info/`.
    pub async fn management_post(&self, path: &str, body: &Value) -> Response {
        self.https(
            self.ports.management,
            "POST",
            path,
            body.to_string().as_bytes(),
        )
        .await
        .expect("Pebble's management interface answers")
    }

    /// The IPv4 address of every name that has none of its own; `None` for no address.
    pub async fn set_default_ipv4(&self, address: Option<Ipv4Addr>) {
        let address = address.map(|address| address.to_string());
        self.challtestsrv(
            "set-default-ipv4",
            &json!({ "ip": address.unwrap_or_default() }),
        )
        .await;
    }

    /// The IPv6 address of every name that has none of its own; `None` for no address.
    pub async fn set_default_ipv6(&self, address: Option<Ipv6Addr>) {
        let address = address.map(|address| address.to_string());
        self.challtestsrv(
            "set-default-ipv6",
            &json!({ "ip": address.unwrap_or_default() }),
        )
        .await;
    }

    /// Gives a name IPv4 addresses instead of the default one.
    pub async fn add_a(&self, host: &str, addresses: &[Ipv4Addr]) {
        self.challtestsrv(
            "add-a",
            &json!({ "host": fqdn(host), "addresses": addresses }),
        )
        .await;
    }

    /// Gives a name IPv6 addresses.
    pub async fn add_aaaa(&self, host: &str, addresses: &[Ipv6Addr]) {
        self.challtestsrv(
            "add-aaaa",
            &json!({ "host": fqdn(host), "addresses": addresses }),
        )
        .await;
    }

    /// Adds a TXT record to those that a name has.
    pub async fn set_txt(&self, host: &str, value: &str) {
        self.challtestsrv("set-txt", &json!({ "host": fqdn(host), "value": value }))
            .await;
    }

    /// Removes all TXT records of a name.
    pub async fn clear_txt(&self, host: &str) {
        self.challtestsrv("clear-txt", &json!({ "host": fqdn(host) }))
            .await;
    }

    /// Makes a name an alias of another.
    pub async fn set_cname(&self, host: &str, target: &str) {
        self.challtestsrv(
            "set-cname",
            &json!({ "host": fqdn(host), "target": fqdn(target) }),
        )
        .await;
    }

    /// Makes every query for a name fail with SERVFAIL.
    pub async fn set_servfail(&self, host: &str) {
        self.challtestsrv("set-servfail", &json!({ "host": fqdn(host) }))
            .await;
    }

    /// Makes queries for a name succeed again.
    pub async fn clear_servfail(&self, host: &str) {
        self.challtestsrv("clear-servfail", &json!({ "host": fqdn(host) }))
            .await;
    }

    /// A POST to an endpoint of the DNS server's management interface, and the body of its
    /// answer.
    pub async fn challtestsrv(&self, endpoint: &str, body: &Value) -> String {
        challtestsrv(self.ports.challtestsrv, endpoint, body)
            .await
            .expect("the DNS server's management interface answers")
            .text()
    }

    async fn https(
        &self,
        port: u16,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> io::Result<Response> {
        https(&self.tls, port, method, path, body).await
    }
}

impl fmt::Debug for Pebble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pebble")
            .field("ports", &self.ports)
            .field("directory", &self.directory.path())
            .finish_non_exhaustive()
    }
}

/// How a [`Pebble`] behaves.
///
/// What Pebble does at random is off unless a test asks for it, and inherited `PEBBLE_…`
/// variables have no effect.
#[derive(Clone, Debug)]
pub struct Builder {
    nonce_reject: u8,
    authz_reuse: u8,
    va_nosleep: bool,
    strict: bool,
    chain_length: Option<u8>,
    alternate_roots: Option<u8>,
    external_accounts: BTreeMap<String, String>,
    settings: Map<String, Value>,
    environment: BTreeMap<String, String>,
    name_server: Option<SocketAddr>,
}

impl Builder {
    /// Has Pebble ask this DNS server, rather than the one that is started with it.
    pub fn name_server(mut self, address: SocketAddr) -> Self {
        self.name_server = Some(address);
        self
    }

    /// Rejects this percentage of good nonces as `badNonce`: by default 0, and 100 for all.
    pub fn nonce_reject(mut self, percent: u8) -> Self {
        self.nonce_reject = percent;
        self
    }

    /// Takes a valid authorization of the account into a new order in this percentage of cases:
    /// by default 0, where Pebble 2.10 still does it about once in a hundred.
    pub fn authz_reuse(mut self, percent: u8) -> Self {
        self.authz_reuse = percent;
        self
    }

    /// Whether validation starts at once, as by default, rather than after a random time.
    pub fn va_nosleep(mut self, nosleep: bool) -> Self {
        self.va_nosleep = nosleep;
        self
    }

    /// Refuses some requests that RFC 8555 forbids and Pebble otherwise lets pass.
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// The number of intermediate certificates in a chain: by default, and at least, 1.
    pub fn chain_length(mut self, intermediates: u8) -> Self {
        self.chain_length = Some(intermediates);
        self
    }

    /// The number of chains to further roots that a certificate is offered with: by default 0.
    pub fn alternate_roots(mut self, roots: u8) -> Self {
        self.alternate_roots = Some(roots);
        self
    }

    /// Requires an external account binding with one of the keys so given, in base64url.
    pub fn external_account(mut self, kid: &str, mac_key: &str) -> Self {
        self.external_accounts
            .insert(kid.to_owned(), mac_key.to_owned());
        self
    }

    /// Adds a profile. Without any, Pebble has one of its own, called `default`.
    pub fn profile(mut self, name: &str, description: &str, validity: Duration) -> Self {
        self.settings.entry("profiles").or_insert_with(|| json!({}))[name] =
            json!({ "description": description, "validityPeriod": validity.as_secs() });
        self
    }

    /// The seconds in the `Retry-After` of pending authorizations and of orders in processing:
    /// by default 1 each.
    pub fn retry_after(self, authz: u32, order: u32) -> Self {
        self.setting("retryAfter", json!({ "authz": authz, "order": order }))
    }

    /// Names that Pebble issues no certificate for.
    pub fn domain_blocklist(self, domains: &[&str]) -> Self {
        self.setting("domainBlocklist", json!(domains))
    }

    /// Any other key of Pebble's configuration.
    pub fn setting(mut self, key: &str, value: Value) -> Self {
        self.settings.insert(key.to_owned(), value);
        self
    }

    /// Any other of Pebble's environment variables, for instance `PEBBLE_WFE_ORDERS_PER_PAGE`.
    pub fn environment(mut self, variable: &str, value: &str) -> Self {
        self.environment
            .insert(variable.to_owned(), value.to_owned());
        self
    }

    /// Starts the servers and waits until they answer.
    ///
    /// `None` where the programs cannot be had, see [`servers::binary`]: then the test returns.
    ///
    /// # Panics
    ///
    /// When a server does not start, with what it logged.
    pub async fn start(self) -> Option<Pebble> {
        let programs = Programs {
            pebble: servers::binary("pebble")?,
            challtestsrv: servers::binary("pebble-challtestsrv")?,
        };

        // Between the choice of a port and the server's bind another process may take it.
        for _ in 0..5 {
            match self.start_once(&programs).await {
                Ok(pebble) => return Some(pebble),
                Err(Failure::PortTaken) => continue,
                Err(Failure::Other(reason)) => panic!("{reason}"),
            }
        }
        panic!("other processes took the ports for Pebble five times over");
    }

    async fn start_once(&self, programs: &Programs) -> Result<Pebble, Failure> {
        let directory = tempfile::Builder::new()
            .prefix("certwright-pebble-")
            .tempdir()
            .unwrap();
        let ports = Ports::choose();
        let identity = Identity::generate();
        let tls = Arc::new(pki::trusting(&identity.root_pem));
        self.write_files(directory.path(), &ports, &identity);

        let mut challtestsrv = Process::spawn(
            Command::new(&programs.challtestsrv)
                .arg("-dnsserver")
                .arg(net::loopback(ports.dns).to_string())
                .arg("-management")
                .arg(net::loopback(ports.challtestsrv).to_string())
                .args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""])
                // Its own answers to challenges: the solvers under test answer them.
                .args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", ""]),
            directory.path().join("challtestsrv.log"),
        );
        let mut pebble = Process::spawn(
            Command::new(&programs.pebble)
                .current_dir(directory.path())
                .args(["-config", CONFIGURATION_FILE])
                .arg("-dnsserver")
                .arg(
                    self.name_server
                        .unwrap_or(net::loopback(ports.dns))
                        .to_string(),
                )
                .arg(format!("-strict={}", self.strict))
                .env_clear()
                .envs(self.pebble_environment()),
            directory.path().join("pebble.log"),
        );

        // The random name of the directory shows that the answers come from this DNS server and
        // not from another test's. Unlike Pebble, it stays alive when it cannot bind.
        let token = directory.path().file_name().unwrap().to_string_lossy();
        let name = "ready.certwright.invalid.";
        challtestsrv
            .wait_until(async || {
                let record = json!({ "host": name, "value": token });
                let set = self::challtestsrv(ports.challtestsrv, "set-txt", &record).await?;
                Ok(set.status == 200 && net::has_txt(ports.dns, name, &token).await?)
            })
            .await?;
        for endpoint in ["clear-txt", "clear-request-history"] {
            let _ = self::challtestsrv(
                ports.challtestsrv,
                endpoint,
                &json!({ "host": name, "type": "dns" }),
            )
            .await;
        }

        // Here it is the certificate that shows it.
        pebble
            .wait_until(async || {
                let directory = https(&tls, ports.acme, "GET", "/dir", b"").await?;
                let root = https(&tls, ports.management, "GET", "/roots/0", b"").await?;
                Ok(directory.status == 200 && root.status == 200)
            })
            .await?;

        Ok(Pebble {
            pebble,
            challtestsrv,
            ports,
            identity,
            tls,
            directory,
        })
    }

    fn write_files(&self, directory: &Path, ports: &Ports, identity: &Identity) {
        let mut pebble = self.settings.clone();
        pebble.extend([
            ("listenAddress".to_owned(), json!(net::loopback(ports.acme))),
            (
                "managementListenAddress".to_owned(),
                json!(net::loopback(ports.management)),
            ),
            ("certificate".to_owned(), json!(CERTIFICATE_FILE)),
            ("privateKey".to_owned(), json!(KEY_FILE)),
            ("httpPort".to_owned(), json!(ports.http01)),
            ("tlsPort".to_owned(), json!(ports.tls_alpn01)),
        ]);
        if !self.external_accounts.is_empty() {
            pebble.extend([
                ("externalAccountBindingRequired".to_owned(), json!(true)),
                (
                    "externalAccountMACKeys".to_owned(),
                    json!(self.external_accounts),
                ),
            ]);
        }

        for (name, content) in [
            (
                CONFIGURATION_FILE,
                json!({ "pebble": pebble }).to_string().as_str(),
            ),
            (ROOT_FILE, &identity.root_pem),
            (CERTIFICATE_FILE, &identity.certificate_pem),
            (KEY_FILE, &identity.key_pem),
        ] {
            fs::write(directory.join(name), content).unwrap();
        }
    }

    fn pebble_environment(&self) -> BTreeMap<String, String> {
        let numbers = [
            ("PEBBLE_WFE_NONCEREJECT", Some(self.nonce_reject)),
            ("PEBBLE_AUTHZREUSE", Some(self.authz_reuse)),
            ("PEBBLE_VA_NOSLEEP", self.va_nosleep.then_some(1)),
            ("PEBBLE_CHAIN_LENGTH", self.chain_length),
            ("PEBBLE_ALTERNATE_ROOTS", self.alternate_roots),
        ];
        let mut environment: BTreeMap<_, _> = numbers
            .into_iter()
            .filter_map(|(variable, number)| Some((variable.to_owned(), number?.to_string())))
            .collect();
        environment.extend(self.environment.clone());
        environment
    }
}

struct Programs {
    pebble: PathBuf,
    challtestsrv: PathBuf,
}

#[derive(Debug)]
struct Ports {
    acme: u16,
    management: u16,
    http01: u16,
    tls_alpn01: u16,
    dns: u16,
    challtestsrv: u16,
}

impl Ports {
    fn choose() -> Self {
        Self {
            acme: net::free_port(),
            management: net::free_port(),
            http01: net::free_port(),
            tls_alpn01: net::free_port(),
            dns: net::free_port(),
            challtestsrv: net::free_port(),
        }
    }
}

/// Why a server did not start.
enum Failure {
    PortTaken,
    Other(String),
}

/// A server with its output in a file, killed when this is dropped.
struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    fn spawn(command: &mut Command, log: PathBuf) -> Self {
        let file = File::create(&log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self { child, log }
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    async fn wait_until(
        &mut self,
        mut ready: impl AsyncFnMut() -> io::Result<bool>,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            // A listener of another process may take the connection and stay silent.
            let last = match timeout(Duration::from_secs(5), ready()).await {
                Ok(Ok(true)) => return Ok(()),
                Ok(Ok(false)) => "it gives wrong answers".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(elapsed) => elapsed.to_string(),
            };

            let exited = self.child.try_wait().unwrap();
            let log = self.log();
            if log.contains("address already in use") {
                return Err(Failure::PortTaken);
            }
            let state = match exited {
                Some(status) => format!("ended with {status}"),
                None if Instant::now() > deadline => format!("is not ready in time: {last}"),
                None => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            };
            let name = self.log.file_stem().unwrap().to_string_lossy();
            return Err(Failure::Other(format!("{name} {state}; it logged:\n{log}")));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn challtestsrv(port: u16, endpoint: &str, body: &Value) -> io::Result<Response> {
    let stream = net::connect(port).await?;
    let path = format!("/{endpoint}");
    net::exchange(stream, "POST", &path, body.to_string().as_bytes()).await
}

async fn https(
    tls: &Arc<ClientConfig>,
    port: u16,
    method: &str,
    path: &str,
    body: &[u8],
) -> io::Result<Response> {
    let stream = net::connect(port).await?;
    let stream = TlsConnector::from(Arc::clone(tls))
        .connect(ServerName::try_from("localhost").unwrap(), stream)
        .await?;
    net::exchange(stream, method, path, body).await
}

/// The DNS server knows names by their absolute form only.
fn fqdn(host: &str) -> String {
    format!("{}.", host.trim_end_matches('.'))
}

const CONFIGURATION_FILE: &str = "pebble.json";
const ROOT_FILE: &str = "root.pem";
const CERTIFICATE_FILE: &str = "certificate.pem";
const KEY_FILE: &str = "key.pem";
