//! The solvers for tls-alpn-01, asked as a CA asks them (RFC 8737), and the way to a certificate
//! through each.

#![cfg(all(
    feature = "hyper",
    feature = "test-ca",
    feature = "tls-alpn-01",
    any(feature = "aws-lc-rs", feature = "ring")
))]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod support;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use certwright::jose::{AccountKey, Signer};
use certwright::protocol::{Challenge, ChallengeType, Identifier, Problem, ProblemType, Url};
use certwright::solver::{
    ChallengeSolver, Presentation, TlsAlpn01BindError, TlsAlpn01Resolver, TlsAlpn01Server,
    TlsAlpn01SetupError,
};
use certwright::test_ca::TestCa;
use certwright::x509::AcmeCertificate;
use certwright::{Account, BoxError, Client, Error};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion, version};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use support::pki::{self, Identity};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor, TlsConnector};

const ACME: &[u8] = b"acme-tls/1";

async fn account(ca: &TestCa) -> Account {
    Client::builder(ca.directory_url().as_str())
        .add_root_pem(ca.root_pem())
        .build()
        .await
        .unwrap()
        .new_account(AccountKey::generate().unwrap())
        .agree_to_terms()
        .create()
        .await
        .unwrap()
}

fn identifiers(names: &[&str]) -> std::collections::BTreeSet<Identifier> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

/// A port that is free on both loopback addresses, and listeners on it.
async fn listen_on_both() -> (TcpListener, TcpListener) {
    loop {
        let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = v4.local_addr().unwrap().port();
        if let Ok(v6) = TcpListener::bind((Ipv6Addr::LOCALHOST, port)).await {
            return (v4, v6);
        }
    }
}

#[tokio::test]
async fn a_server_of_its_own_proves_a_name_and_addresses() {
    let both = [
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
    ];
    let solver = TlsAlpn01Server::bind(&both[..]).await.unwrap();
    let [v4, v6] = *solver.local_addrs() else {
        panic!("{solver:?}");
    };
    assert_eq!(v4.port(), v6.port());
    let ca = TestCa::builder()
        .tls_alpn01_port(v4.port())
        .start()
        .await
        .unwrap();

    let books = match cfg!(feature = "idna") {
        true => "bücher.test",
        false => "xn--bcher-kva.test",
    };
    let names = ["Example.test", books, "127.0.0.1", "::1"];
    let issued = account(&ca)
        .await
        .issue(names)
        .solver(solver.clone())
        .await
        .unwrap();
    assert_eq!(issued.chain().identifiers(), &identifiers(&names));

    // What was presented is gone.
    for name in names {
        let name = AcmeCertificate::server_name(&name.parse().unwrap()).unwrap();
        handshake(v4, &name, &[ACME]).await.unwrap_err();
    }
}

#[tokio::test]
async fn listens_on_ipv4_and_ipv6_and_frees_the_port() {
    let solver = TlsAlpn01Server::on_port(0).await.unwrap();
    let presentation = presentation("example.test");
    solver.present(&presentation).await.unwrap();
    for address in solver.local_addrs() {
        let loopback: IpAddr = match address.is_ipv4() {
            true => Ipv4Addr::LOCALHOST.into(),
            false => Ipv6Addr::LOCALHOST.into(),
        };
        let address = SocketAddr::new(loopback, address.port());
        let seen = handshake(address, "example.test", &[ACME]).await.unwrap();
        seen.assert_answers(&presentation);
    }

    solver.shut_down().await;
    let address = solver.local_addrs()[0];
    let again = TlsAlpn01Server::bind(address).await.unwrap();
    let error = TlsAlpn01Server::bind(address).await.unwrap_err();
    assert!(
        matches!(&error, TlsAlpn01BindError::Listen { address: named, .. } if *named == address),
        "{error:?}"
    );
    assert!(error.to_string().contains("TlsAlpn01Resolver"), "{error}");
    again.shut_down().await;

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let given = TlsAlpn01Server::from_listeners([listener]).await.unwrap();
    assert_eq!(given.local_addrs(), [address]);
    given.present(&presentation).await.unwrap();
    handshake(address, "example.test", &[ACME]).await.unwrap();
    assert!(matches!(
        TlsAlpn01Server::from_listeners([]).await,
        Err(TlsAlpn01BindError::NoAddress)
    ));
}

#[tokio::test]
async fn answers_by_name_and_protocol_only() {
    let solver = TlsAlpn01Server::bind("127.0.0.1:0").await.unwrap();
    let address = solver.local_addrs()[0];
    let presentation = presentation("example.test");
    handshake(address, "example.test", &[ACME])
        .await
        .unwrap_err();
    solver.present(&presentation).await.unwrap();

    for version in [&version::TLS12, &version::TLS13] {
        let seen = handshake_by(address, "Example.test", &[ACME], &[version]).await;
        let seen = seen.unwrap();
        seen.assert_answers(&presentation);
        assert_eq!(seen.data, b"");
    }
    for (name, protocols) in [
        ("www.example.test", &[ACME][..]),
        ("example", &[ACME]),
        ("127.0.0.1", &[ACME]),
        ("example.test", &[]),
        ("example.test", &[b"h2"]),
        ("example.test", &[b"acme-tls/2"]),
        ("example.test", &[ACME, b"h2"]),
        ("example.test", &[b"h2", ACME]),
    ] {
        let seen = handshake(address, name, protocols).await;
        assert!(seen.is_err(), "{name} {protocols:?}");
    }

    solver.clean_up(&presentation).await.unwrap();
    handshake(address, "example.test", &[ACME])
        .await
        .unwrap_err();
}

#[tokio::test]
async fn survives_what_is_not_tls() {
    let solver = TlsAlpn01Server::bind("127.0.0.1:0").await.unwrap();
    let address = solver.local_addrs()[0];
    let presentation = presentation("example.test");
    solver.present(&presentation).await.unwrap();
    let _idle = TcpStream::connect(address).await.unwrap();
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\x16\x03\x01\xff\xff\x01",
        b"",
    ] {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(garbage).await.unwrap();
        client.shutdown().await.unwrap();
        let _ = client.read_to_end(&mut Vec::new()).await;
    }
    let seen = handshake(address, "example.test", &[ACME]).await.unwrap();
    seen.assert_answers(&presentation);
}

#[tokio::test]
async fn orders_for_one_name_at_once_do_not_disturb_each_other() {
    let solver = TlsAlpn01Server::bind("127.0.0.1:0").await.unwrap();
    let address = solver.local_addrs()[0];
    let [first, second] = [presentation("example.test"), presentation("example.test")];
    let answer = async || handshake(address, "example.test", &[ACME]).await.unwrap();
    solver.present(&first).await.unwrap();
    solver.present(&second).await.unwrap();
    answer().await.assert_answers(&second);
    solver.clean_up(&second).await.unwrap();
    answer().await.assert_answers(&first);
    solver.present(&second).await.unwrap();
    solver.clean_up(&first).await.unwrap();
    answer().await.assert_answers(&second);
}

/// Issuance on the port of a live server, whose users come and go all the while.
#[tokio::test]
async fn users_are_served_before_during_and_after_validation() {
    for way in [Way::Installed, Way::LazyConfig] {
        let (v4, v6) = listen_on_both().await;
        let identity = Identity::generate();
        let (config, solver, challenges) = set_up(&identity, way);
        let address = v4.local_addr().unwrap();
        for listener in [v4, v6] {
            tokio::spawn(serve(listener, config.clone(), challenges.clone()));
        }
        let ca = TestCa::builder()
            .tls_alpn01_port(address.port())
            .start()
            .await
            .unwrap();
        let account = account(&ca).await;

        let users = Users::start(address, &identity);
        users.come(3).await;
        let validating = Watched::new(solver.clone());
        let names = ["localhost", "example.test", "127.0.0.1", "::1"];
        let issuance = account.issue(names).solver(validating.clone());
        let issued = tokio::spawn(async move { issuance.await });

        // The answers are live until three users have been served beside them.
        validating.presented().await;
        users.come(3).await;
        validating.go_on();
        let issued = issued.await.unwrap().unwrap();
        assert_eq!(issued.chain().identifiers(), &identifiers(&names));
        users.come(3).await;
        users.stop().await;

        handshake(address, "localhost", &[ACME]).await.unwrap_err();
    }
}

#[tokio::test]
async fn users_and_cas_never_see_the_others_certificate() {
    let identity = Identity::generate();
    let own = CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes()).unwrap();
    for way in [Way::Installed, Way::LazyConfig] {
        let (config, solver, challenges) = set_up(&identity, way);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, config, challenges));
        let presentation = presentation("localhost");

        for is_live in [false, true, false] {
            if is_live {
                solver.present(&presentation).await.unwrap();
            } else {
                solver.clean_up(&presentation).await.unwrap();
            }
            let offers: [&[&[u8]]; 3] = [&[], &[b"h2"], &[b"http/1.1", b"h2"]];
            for protocols in offers {
                let seen = handshake(address, "localhost", protocols).await.unwrap();
                assert_eq!(seen.certificate, own, "{protocols:?}");
            }
            // Who offers both is neither a user nor a CA.
            for protocols in [[ACME, b"h2"], [b"h2", ACME]] {
                let protocols = &protocols;
                if let Ok(seen) = handshake(address, "localhost", protocols).await {
                    assert_eq!(way, Way::LazyConfig);
                    assert_eq!(seen.protocol.as_deref(), Some(&b"h2"[..]));
                    assert_eq!(seen.certificate, own);
                }
            }
            handshake(address, "other.test", &[ACME]).await.unwrap_err();
            match (is_live, handshake(address, "localhost", &[ACME]).await) {
                (true, Ok(seen)) => {
                    seen.assert_answers(&presentation);
                    // The server has closed the connection without a word.
                    assert_eq!(seen.data, b"");
                }
                (false, Err(_)) => {}
                (_, seen) => panic!("{is_live} {seen:?}"),
            }
        }
    }
}

/// No certificate is sent where a session is resumed, so rustls' checks are not all there is.
#[tokio::test]
async fn resumption_does_not_cross_over() {
    let identity = Identity::generate();
    let (config, solver, _) = set_up(&identity, Way::Installed);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, config, None));

    // One store of sessions, for two configurations.
    let mut user = pki::trusting(&identity.root_pem);
    user.alpn_protocols = vec![b"h2".to_vec()];
    let mut ca = user.clone();
    ca.alpn_protocols = vec![ACME.to_vec()];
    let (user, ca) = (Arc::new(user), Arc::new(ca));
    for _ in 0..2 {
        connect(address, "localhost", user.clone()).await.unwrap();
        connect(address, "localhost", ca.clone()).await.unwrap_err();
    }
    let presentation = presentation("localhost");
    solver.present(&presentation).await.unwrap();
    // Who was a user before has its session still, but is told nothing under this protocol.
    let seen = connect(address, "localhost", ca).await.unwrap();
    assert_eq!(seen.protocol.as_deref(), Some(ACME));
    assert_eq!(seen.data, b"");
    let seen = connect(address, "localhost", user).await.unwrap();
    assert_eq!(seen.data, GREETING);
}

#[test]
fn a_server_without_protocols_is_left_alone() {
    let mut config = server_config(Arc::new(NoCertificate));
    config.alpn_protocols.clear();
    let error = TlsAlpn01Resolver::install(&mut config).unwrap_err();
    assert!(matches!(error, TlsAlpn01SetupError::NoProtocols), "{error}");
    assert!(error.to_string().contains("challenge_config"), "{error}");
    assert!(config.alpn_protocols.is_empty());

    // Nor does the protocol come twice.
    config.alpn_protocols = vec![b"h2".to_vec(), ACME.to_vec()];
    TlsAlpn01Resolver::install(&mut config).unwrap();
    assert_eq!(config.alpn_protocols, [b"h2", ACME]);
}

#[tokio::test]
async fn a_port_where_nothing_listens_is_told() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let problem = refusal(closed, TlsAlpn01Resolver::default()).await;
    assert_eq!(problem.kind, ProblemType::Connection);
    let detail = problem.detail.unwrap();
    assert!(detail.contains("Connection refused"), "{detail}");
}

#[tokio::test]
async fn a_server_that_does_not_know_the_challenge_is_told() {
    // The solver that is asked is not the one that listens.
    let server = TlsAlpn01Server::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addrs()[0].port();
    let problem = refusal(port, TlsAlpn01Resolver::default()).await;
    assert_eq!(problem.kind, ProblemType::Tls);
    let detail = problem.detail.unwrap();
    assert!(detail.contains("127.0.0.1: "), "{detail}");
    assert!(detail.contains("AccessDenied"), "{detail}");
}

#[tokio::test]
async fn an_answer_to_another_challenge_is_told() {
    let server = TlsAlpn01Server::bind("127.0.0.1:0").await.unwrap();
    server.present(&presentation("example.test")).await.unwrap();
    let port = server.local_addrs()[0].port();
    let problem = refusal(port, TlsAlpn01Resolver::default()).await;
    assert_eq!(problem.kind, ProblemType::Unauthorized);
    let detail = problem.detail.unwrap();
    assert!(detail.contains("has the digest"), "{detail}");
}

#[tokio::test]
async fn a_wildcard_is_refused_before_any_order() {
    let ca = TestCa::start().await.unwrap();
    let account = account(&ca).await;
    ca.clear_requests();
    let solver = TlsAlpn01Resolver::default();
    let error = account.issue(["*.example.test"]).solver(solver).await;
    assert!(matches!(error, Err(Error::NoSolver(_))), "{error:?}");
    assert!(ca.requests().is_empty());
}

/// What the CA says of `example.test` when the solver's answer is not what is on the port.
async fn refusal(port: u16, solver: TlsAlpn01Resolver) -> Problem {
    let ca = TestCa::builder()
        .tls_alpn01_port(port)
        .start()
        .await
        .unwrap();
    let error = account(&ca)
        .await
        .issue(["example.test"])
        .solver(solver.clone())
        .await
        .unwrap_err();
    let by_identifier = error.by_identifier();
    let [(identifier, problem)] = &by_identifier[..] else {
        panic!("{error:?}");
    };
    assert_eq!(identifier.to_string(), "example.test");
    // Cleaned up after the failure, too.
    let shown = format!("{solver:?}");
    assert_eq!(shown, "TlsAlpn01Resolver { live: {}, .. }");
    Problem::clone(problem)
}

fn presentation(name: &str) -> Presentation {
    let challenge = Challenge::pending(
        ChallengeType::TlsAlpn01,
        Url::parse("https://ca.example/challenge/1").unwrap(),
        Some("DGyRejmCefe7v4NfDGDKfADGyRejmCef".to_owned()),
    );
    Presentation::new(
        name.parse().unwrap(),
        challenge,
        Url::parse("https://ca.example/account/1").unwrap(),
        &AccountKey::generate().unwrap().public_key().thumbprint(),
    )
    .unwrap()
}

/// How the solver is put into a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    Installed,
    LazyConfig,
}

fn set_up(
    identity: &Identity,
    way: Way,
) -> (
    Arc<ServerConfig>,
    TlsAlpn01Resolver,
    Option<Arc<ServerConfig>>,
) {
    let certificates = CertificateDer::pem_slice_iter(identity.certificate_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .unwrap();
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap();
    let key = provider().key_provider.load_private_key(key).unwrap();
    let key = CertifiedKey::new(certificates, key);
    let mut config = server_config(Arc::new(rustls::sign::SingleCertAndKey::from(key)));
    match way {
        Way::Installed => {
            let solver = TlsAlpn01Resolver::install(&mut config).unwrap();
            (Arc::new(config), solver, None)
        }
        Way::LazyConfig => {
            let solver = TlsAlpn01Resolver::default();
            let challenges = solver.challenge_config().unwrap();
            (Arc::new(config), solver, Some(challenges))
        }
    }
}

fn server_config(certificates: Arc<dyn ResolvesServerCert>) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

fn provider() -> Arc<CryptoProvider> {
    pki::trusting(&Identity::generate().root_pem)
        .crypto_provider()
        .clone()
}

#[derive(Debug)]
struct NoCertificate;

impl ResolvesServerCert for NoCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

/// A server such as a user of the library writes, which greets its users.
async fn serve(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    challenges: Option<Arc<ServerConfig>>,
) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(greet(stream, config.clone(), challenges.clone()));
    }
}

async fn greet(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    challenges: Option<Arc<ServerConfig>>,
) -> io::Result<()> {
    let mut stream = match challenges {
        None => TlsAcceptor::from(config).accept(stream).await?,
        Some(challenges) => {
            let start = LazyConfigAcceptor::new(Default::default(), stream).await?;
            let asked = TlsAlpn01Resolver::is_asked_by(&start.client_hello());
            start
                .into_stream(if asked { challenges } else { config })
                .await?
        }
    };
    if !TlsAlpn01Resolver::is_challenge(stream.get_ref().1) {
        stream.write_all(GREETING).await?;
    }
    stream.shutdown().await
}

/// Users that come to a server one after another, all of them at the server's own certificate.
struct Users {
    served: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Users {
    fn start(address: SocketAddr, identity: &Identity) -> Self {
        let mut config = pki::trusting(&identity.root_pem);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Each of them is new.
        config.resumption = rustls::client::Resumption::disabled();
        let config = Arc::new(config);
        let served = Arc::new(AtomicUsize::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (count, end) = (served.clone(), stop.clone());
        let task = tokio::spawn(async move {
            while !end.load(Ordering::SeqCst) {
                let seen = connect(address, "localhost", config.clone()).await.unwrap();
                assert_eq!(seen.data, GREETING);
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { served, stop, task }
    }

    /// Waits until so many more have been served.
    async fn come(&self, users: usize) {
        let until = self.served.load(Ordering::SeqCst) + users;
        while self.served.load(Ordering::SeqCst) < until {
            assert!(!self.task.is_finished(), "a user was turned away");
            tokio::task::yield_now().await;
        }
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap();
    }
}

/// Holds an issuance up while its answers are live.
#[derive(Clone)]
struct Watched {
    solver: TlsAlpn01Resolver,
    presented: Arc<tokio::sync::Notify>,
    goes_on: Arc<tokio::sync::Semaphore>,
}

impl Watched {
    fn new(solver: TlsAlpn01Resolver) -> Self {
        Self {
            solver,
            presented: Arc::default(),
            goes_on: Arc::new(tokio::sync::Semaphore::new(0)),
        }
    }

    async fn presented(&self) {
        self.presented.notified().await;
    }

    fn go_on(&self) {
        self.goes_on.close();
    }
}

#[async_trait::async_trait]
impl ChallengeSolver for Watched {
    fn can_solve(&self, identifier: &Identifier, challenge_type: &ChallengeType) -> bool {
        self.solver.can_solve(identifier, challenge_type)
    }

    async fn present(&self, presentation: &Presentation) -> Result<(), BoxError> {
        self.solver.present(presentation).await
    }

    async fn wait(&self, _: &Presentation) -> Result<(), BoxError> {
        self.presented.notify_one();
        // It opens by being closed.
        let _ = self.goes_on.acquire().await;
        Ok(())
    }

    async fn clean_up(&self, presentation: &Presentation) -> Result<(), BoxError> {
        self.solver.clean_up(presentation).await
    }
}

/// What a client sees of a server.
#[derive(Debug)]
struct Seen {
    certificate: CertificateDer<'static>,
    protocol: Option<Vec<u8>>,
    data: Vec<u8>,
}

impl Seen {
    fn assert_answers(&self, presentation: &Presentation) {
        assert_eq!(self.protocol.as_deref(), Some(ACME));
        AcmeCertificate::check(
            &self.certificate,
            presentation.identifier(),
            presentation.key_authorization().unwrap(),
        )
        .unwrap();
    }
}

async fn handshake(address: SocketAddr, name: &str, protocols: &[&[u8]]) -> io::Result<Seen> {
    handshake_by(address, name, protocols, rustls::ALL_VERSIONS).await
}

/// A handshake of a client that takes any certificate.
async fn handshake_by(
    address: SocketAddr,
    name: &str,
    protocols: &[&[u8]],
    versions: &[&'static SupportedProtocolVersion],
) -> io::Result<Seen> {
    let provider = provider();
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pki::AnyCertificate(provider)))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    connect(address, name, Arc::new(config)).await
}

async fn connect(address: SocketAddr, name: &str, config: Arc<ClientConfig>) -> io::Result<Seen> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let stream = TcpStream::connect(address).await?;
    let mut stream = TlsConnector::from(config).connect(name, stream).await?;
    // In TLS 1.3 the client is done first: that the server is, too, shows when it closes.
    let mut data = Vec::new();
    stream.read_to_end(&mut data).await?;
    let (_, connection) = stream.get_ref();
    let certificates = connection.peer_certificates().unwrap();
    Ok(Seen {
        certificate: certificates[0].clone(),
        protocol: connection.alpn_protocol().map(<[u8]>::to_vec),
        data,
    })
}

const GREETING: &[u8] = b"Welcome";
