//! The check of http-01 that fetches as a CA does, against servers on loopback addresses.

#![cfg(all(
    feature = "http-01",
    feature = "hyper",
    feature = "test-ca",
    any(feature = "aws-lc-rs", feature = "ring")
))]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used
)]

mod support;

use std::error::Error as StdError;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use certwright::jose::{AccountKey, Signer};
use certwright::protocol::{Challenge, ChallengeType, Identifier, Url};
use certwright::solver::{
    ChallengeSolver, Http01Responder, Http01Server, Http01Webroot, Presentation, RedirectFault,
    SelfCheck, SelfCheckError, SelfCheckFailure, SelfCheckFault, SelfChecked,
};
use certwright::test_ca::{ResourceKind, TestCa};
use certwright::{BoxError, Client, Error};
use http::StatusCode;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use support::net::free_port;
use support::pki::Identity;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const TOKEN: &str = "DGyRejmCefe7v4NfDGDKfADGyRejmCef";
const PATH: &str = "/.well-known/acme-challenge/DGyRejmCefe7v4NfDGDKfADGyRejmCef";
const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const OTHER_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// A server that answers as the test has it, and keeps what it was asked.
struct Site {
    requests: Arc<Mutex<Vec<String>>>,
}

enum Reply {
    Whole(String),
    /// After which the connection stays open.
    Part(String),
}

impl Site {
    async fn http(
        address: impl Into<IpAddr>,
        port: u16,
        reply: impl Fn(&str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::start(address.into(), port, None, reply).await
    }

    async fn https(
        address: impl Into<IpAddr>,
        port: u16,
        reply: impl Fn(&str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let identity = Identity::generate();
        let config = ServerConfig::builder_with_provider(support::pki::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::start(address.into(), port, Some(acceptor), reply).await
    }

    async fn start(
        address: IpAddr,
        port: u16,
        tls: Option<TlsAcceptor>,
        reply: impl Fn(&str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((address, port)).await.unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = requests.clone();
        let reply = Arc::new(reply);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, log, reply) = (tls.clone(), log.clone(), reply.clone());
                tokio::spawn(async move {
                    match tls {
                        None => answer(stream, &log, &*reply).await,
                        Some(tls) => answer(tls.accept(stream).await.unwrap(), &log, &*reply).await,
                    }
                });
            }
        });
        Self { requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    log: &Mutex<Vec<String>>,
    reply: &(dyn Fn(&str) -> Reply + Send + Sync),
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    log.lock().unwrap().push(head);
    match reply(&path) {
        Reply::Whole(text) => {
            stream.write_all(text.as_bytes()).await.unwrap();
            let _ = stream.shutdown().await;
        }
        Reply::Part(text) => {
            stream.write_all(text.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            std::future::pending::<()>().await;
        }
    }
}

fn ok(body: &str) -> Reply {
    Reply::Whole(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

fn status(status: &str) -> Reply {
    Reply::Whole(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"))
}

fn redirect(code: u16, location: &str) -> Reply {
    Reply::Whole(format!(
        "HTTP/1.1 {code} Elsewhere\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    ))
}

fn presentation(identifier: &str) -> Presentation {
    let challenge = Challenge::pending(
        ChallengeType::Http01,
        Url::parse("https://ca.example/challenge/1").unwrap(),
        Some(TOKEN.to_owned()),
    );
    Presentation::new(
        identifier.parse().unwrap(),
        challenge,
        Url::parse("https://ca.example/account/1").unwrap(),
        &AccountKey::generate().unwrap().public_key().thumbprint(),
    )
    .unwrap()
}

fn answer_to(presentation: &Presentation) -> String {
    presentation.key_authorization().unwrap().to_string()
}

/// A check of `example.com` at these addresses.
fn check(port: u16, addresses: &[IpAddr]) -> SelfCheck {
    SelfCheck::new()
        .http_port(port)
        .allow_private_addresses(true)
        .resolve("example.com", addresses.iter().copied())
}

async fn failures(check: &SelfCheck, presentation: &Presentation) -> Vec<SelfCheckFailure> {
    let error = check.check(presentation).await.expect_err("it fails");
    // Whatever is wrong, the text names the URL.
    assert!(error.to_string().contains(PATH), "{error}");
    match error {
        SelfCheckError::Failed { failures, .. } => failures,
        other => panic!("{other}"),
    }
}

async fn only_failure(check: &SelfCheck, presentation: &Presentation) -> SelfCheckFailure {
    let mut failures = failures(check, presentation).await;
    assert_eq!(failures.len(), 1, "{failures:?}");
    failures.remove(0)
}

fn has_ipv6() -> bool {
    let has = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !has {
        eprintln!("SKIPPED: the host has no ::1, so IPv6 is not tested");
    }
    has
}

#[tokio::test]
async fn asks_each_address_over_ipv4_and_ipv6() {
    let port = free_port();
    let presentation = presentation("example.com");
    let body = answer_to(&presentation);
    let mut addresses = vec![V4, OTHER_V4];
    addresses.extend(has_ipv6().then_some(V6));
    let mut sites = Vec::new();
    for &address in &addresses {
        // White space at the end is no fault, for CAs.
        let body = format!("{body} \r\n");
        sites.push(Site::http(address, port, move |_| ok(&body)).await);
    }

    let check = check(port, &addresses);
    check.check(&presentation).await.unwrap();
    for site in sites {
        let requests = site.requests();
        assert_eq!(requests.len(), 1);
        let request = requests[0].to_ascii_lowercase();
        assert!(request.starts_with(&format!("get {}", PATH.to_lowercase())));
        assert!(request.contains(&format!("host: example.com:{port}\r\n")));
        assert!(request.contains("user-agent: certwright-self-check/"));
        assert!(request.contains("accept: */*\r\n"));
    }
}

#[tokio::test]
async fn validates_addresses_as_identifiers() {
    let port = free_port();
    let identifiers = [(V4, "127.0.0.1", "127.0.0.1"), (V6, "::1", "[::1]")];
    for (address, identifier, host) in identifiers {
        if address.is_ipv6() && !has_ipv6() {
            continue;
        }
        let presentation = presentation(identifier);
        let body = answer_to(&presentation);
        let site = Site::http(address, port, move |_| ok(&body)).await;
        check(port, &[]).check(&presentation).await.unwrap();
        let request = site.requests()[0].to_ascii_lowercase();
        assert!(request.contains(&format!("host: {host}:{port}\r\n")));
    }
}

#[tokio::test]
async fn names_the_address_that_has_a_wrong_answer() {
    let port = free_port();
    let presentation = presentation("example.com");
    let body = answer_to(&presentation);
    let _right = Site::http(V4, port, move |_| ok(&body)).await;
    let _wrong = Site::http(OTHER_V4, port, |_| ok(&format!("{TOKEN}.other-account"))).await;

    let failure = only_failure(&check(port, &[V4, OTHER_V4]), &presentation).await;
    assert_eq!(failure.address(), Some(SocketAddr::new(OTHER_V4, port)));
    assert!(failure.redirected_from().is_empty());
    let SelfCheckFault::WrongBody { found, expected } = failure.fault() else {
        panic!("{failure}");
    };
    assert_eq!(found, &format!("{TOKEN}.other-account"));
    assert_eq!(expected, &answer_to(&presentation));
    assert!(failure.to_string().contains("another account's key"));
}

#[tokio::test]
async fn a_broken_ipv6_address_is_a_fault_although_ipv4_works() {
    if !has_ipv6() {
        return;
    }
    let port = free_port();
    let presentation = presentation("example.com");
    let body = answer_to(&presentation);
    let _site = Site::http(V4, port, move |_| ok(&body)).await;
    let failure = only_failure(&check(port, &[V4, V6]), &presentation).await;
    assert_eq!(failure.address(), Some(SocketAddr::new(V6, port)));
    assert!(matches!(failure.fault(), SelfCheckFault::Connect(_)));
    assert!(failure.to_string().contains("AAAA record"), "{failure}");

    // It answers, but not as the server on IPv4 does.
    let _other = Site::http(V6, port, |_| status("404 Not Found")).await;
    let failure = only_failure(&check(port, &[V4, V6]), &presentation).await;
    assert!(matches!(
        failure.fault(),
        SelfCheckFault::Status(StatusCode::NOT_FOUND)
    ));
    assert!(failure.to_string().contains("CAs prefer IPv6"), "{failure}");
}

#[tokio::test]
async fn follows_redirects_of_four_kinds() {
    for code in [301, 302, 307, 308] {
        let (port, https_port) = (free_port(), free_port());
        let presentation = presentation("example.com");
        let body = answer_to(&presentation);
        let to = format!("https://www.example.com:{https_port}{PATH}?a=b");
        let _first = Site::http(V4, port, move |path| match path {
            "/again" => redirect(code, &to),
            _ => redirect(code, "/again#fragment"),
        })
        .await;
        // Its certificate is for another name, of a CA that nobody trusts.
        let last = Site::https(OTHER_V4, https_port, move |_| ok(&body)).await;
        let check = check(port, &[V4])
            .https_port(https_port)
            .resolve("WWW.example.com.", [OTHER_V4]);
        check.check(&presentation).await.unwrap();
        assert!(last.requests()[0].starts_with(&format!("GET {PATH}?a=b HTTP/1.1\r\n")));
    }
}

#[tokio::test]
async fn names_the_redirects_that_led_to_a_fault() {
    let port = free_port();
    let presentation = presentation("example.com");
    let to = format!("http://www.example.com:{port}/moved");
    let _first = Site::http(V4, port, move |_| redirect(302, &to)).await;
    let _other = Site::http(OTHER_V4, port, |_| status("403 Forbidden")).await;
    let check = check(port, &[V4]).resolve("www.example.com", [OTHER_V4]);

    let failure = only_failure(&check, &presentation).await;
    assert_eq!(failure.address(), Some(SocketAddr::new(OTHER_V4, port)));
    assert_eq!(
        failure.url(),
        format!("http://www.example.com:{port}/moved")
    );
    assert_eq!(
        failure.redirected_from(),
        [format!("http://example.com:{port}{PATH}")]
    );
    assert!(matches!(
        failure.fault(),
        SelfCheckFault::Status(StatusCode::FORBIDDEN)
    ));
}

#[tokio::test]
async fn follows_no_redirect_that_a_ca_does_not() {
    for (code, location, expected) in [
        (302, "http://example.com:1/", Some(RedirectFault::Port(1))),
        (302, "ftp://example.com/", Some(RedirectFault::Scheme)),
        (302, "https://", Some(RedirectFault::Syntax)),
        (
            301,
            "https://example.com.well-known/acme-challenge/x",
            Some(RedirectFault::MissingSlash),
        ),
        (303, "/elsewhere", None),
        (300, "/elsewhere", None),
    ] {
        let port = free_port();
        let presentation = presentation("example.com");
        let site = Site::http(V4, port, move |_| redirect(code, location)).await;
        let failure = only_failure(&check(port, &[V4]), &presentation).await;
        match (failure.fault(), expected) {
            (
                SelfCheckFault::Redirect {
                    location: found,
                    fault,
                },
                Some(expected),
            ) => {
                assert_eq!((found.as_str(), fault), (location, &expected));
            }
            (SelfCheckFault::RedirectStatus(status), None) => assert_eq!(status.as_u16(), code),
            (other, _) => panic!("{location}: {other}"),
        }
        assert_eq!(site.requests().len(), 1);
    }
}

#[tokio::test]
async fn finds_loops_and_ends_after_ten_redirects() {
    let port = free_port();
    let presentation = presentation("example.com");
    let _loop = Site::http(V4, port, |path| match path {
        "/other" => redirect(301, PATH),
        _ => redirect(301, "/other"),
    })
    .await;
    let failure = only_failure(&check(port, &[V4]), &presentation).await;
    let SelfCheckFault::RedirectLoop(url) = failure.fault() else {
        panic!("{failure}");
    };
    assert_eq!(url, &format!("http://example.com:{port}{PATH}"));
    assert_eq!(failure.redirected_from().len(), 1);

    // The body comes after so many redirects.
    for (redirects, follows) in [(10, true), (11, false)] {
        let port = free_port();
        let body = answer_to(&presentation);
        let site = Site::http(V4, port, move |path| {
            let number: u32 = path.trim_start_matches('/').parse().unwrap_or(0);
            match number == redirects {
                true => ok(&body),
                false => redirect(302, &format!("/{}", number + 1)),
            }
        })
        .await;
        let check = check(port, &[V4]);
        if follows {
            check.check(&presentation).await.unwrap();
        } else {
            let failure = only_failure(&check, &presentation).await;
            assert!(matches!(failure.fault(), SelfCheckFault::TooManyRedirects));
        }
        assert_eq!(site.requests().len(), 11);
    }
}

#[tokio::test]
async fn asks_each_address_of_the_target_once() {
    let port = free_port();
    let presentation = presentation("example.com");
    let to = format!("http://www.example.com:{port}/moved");
    let reply = move |path: &str| match path {
        "/moved" => status("404 Not Found"),
        _ => redirect(302, &to),
    };
    let first = Site::http(V4, port, reply.clone()).await;
    let second = Site::http(OTHER_V4, port, reply).await;
    let both = [V4, OTHER_V4];
    let check = check(port, &both).resolve("www.example.com", both);
    assert_eq!(failures(&check, &presentation).await.len(), 2);
    assert_eq!(first.requests().len(), 2);
    assert_eq!(second.requests().len(), 2);
}

#[tokio::test]
async fn takes_no_more_of_a_body_than_a_ca() {
    let presentation = presentation("example.com");
    let body = answer_to(&presentation);
    for (length, passes) in [(127, true), (128, false)] {
        let port = free_port();
        let padded = format!("{body:length$}");
        assert_eq!(padded.len(), length);
        let _site = Site::http(V4, port, move |_| ok(&padded)).await;
        let check = check(port, &[V4]);
        if passes {
            check.check(&presentation).await.unwrap();
            continue;
        }
        let failure = only_failure(&check, &presentation).await;
        let SelfCheckFault::TooLarge { limit, start } = failure.fault() else {
            panic!("{failure}");
        };
        assert_eq!(*limit, 128);
        assert!(start.starts_with(&body));
    }

    // Nor does it wait for the rest.
    let port = free_port();
    let _endless = Site::http(V4, port, |_| {
        Reply::Part(format!("HTTP/1.1 200 OK\r\n\r\n<html>{}", "x".repeat(500)))
    })
    .await;
    let failure = only_failure(&check(port, &[V4]), &presentation).await;
    assert!(matches!(failure.fault(), SelfCheckFault::TooLarge { .. }));
}

#[tokio::test]
async fn gives_up_when_its_time_is_over() {
    let presentation = presentation("example.com");
    for part in [
        "",
        "HTTP/1.1 200 OK\r\nContent-Length: 87\r\n\r\nDGyR",
        "HTTP/1.1 200 ",
    ] {
        let port = free_port();
        let _site = Site::http(V4, port, move |_| Reply::Part(part.to_owned())).await;
        let limit = Duration::from_millis(200);
        let check = check(port, &[V4]).timeout(limit);
        let failure = only_failure(&check, &presentation).await;
        let SelfCheckFault::TimedOut { phase, limit: told } = failure.fault() else {
            panic!("{failure}");
        };
        assert_eq!((*phase, *told), ("waiting for the reply", limit));
    }

    let check = SelfCheck::new()
        .timeout(Duration::from_millis(50))
        .resolve_with(|_| std::future::pending());
    let failure = only_failure(&check, &presentation).await;
    assert!(
        failure.to_string().contains("looking up the name"),
        "{failure}"
    );
}

#[tokio::test]
async fn asks_no_private_address_unless_allowed() {
    let port = free_port();
    let presentation = presentation("example.com");
    let to = format!("http://127.0.0.1:{port}/");
    let site = Site::http(V4, port, move |_| redirect(302, &to)).await;
    let public = SelfCheck::new()
        .http_port(port)
        .resolve("example.com", [V4, "10.0.0.1".parse().unwrap()]);
    for failure in failures(&public, &presentation).await {
        assert!(matches!(failure.fault(), SelfCheckFault::SpecialAddress));
    }
    assert!(site.requests().is_empty());

    // Where they are allowed, by redirect as well.
    let check = check(port, &[V4]);
    let failure = only_failure(&check, &presentation).await;
    assert!(matches!(failure.fault(), SelfCheckFault::RedirectLoop(_)));
    assert_eq!(site.requests().len(), 2);
}

#[tokio::test]
async fn tells_what_is_wrong_below_http() {
    let presentation = presentation("example.com");

    let port = free_port();
    let failure = only_failure(&check(port, &[V4]), &presentation).await;
    assert!(matches!(failure.fault(), SelfCheckFault::Connect(_)));
    assert!(failure.to_string().contains("nothing listens there"));

    for garbage in [
        "",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx",
    ] {
        let port = free_port();
        let _site = Site::http(V4, port, move |_| Reply::Whole(garbage.to_owned())).await;
        let failure = only_failure(&check(port, &[V4]), &presentation).await;
        assert!(
            matches!(failure.fault(), SelfCheckFault::Http(_)),
            "{failure}"
        );
    }

    // A redirect to https, where plain HTTP is spoken.
    let (port, https_port) = (free_port(), free_port());
    let to = format!("https://example.com:{https_port}/");
    let _site = Site::http(V4, port, move |_| redirect(301, &to)).await;
    let _plain = TcpListener::bind((V4, https_port)).await.unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = _plain.accept().await.unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        std::future::pending::<()>().await;
    });
    let check = check(port, &[V4]).https_port(https_port);
    let failure = only_failure(&check, &presentation).await;
    assert!(
        matches!(failure.fault(), SelfCheckFault::Tls(_)),
        "{failure}"
    );
}

#[tokio::test]
async fn tells_names_without_address() {
    let presentation = presentation("example.com");
    let failure = only_failure(&check(80, &[]), &presentation).await;
    assert!(matches!(failure.fault(), SelfCheckFault::NoAddress));
    assert_eq!(failure.address(), None);

    let check =
        SelfCheck::new().resolve_with(|name| async move { Err(format!("no {name}").into()) });
    let failure = only_failure(&check, &presentation).await;
    assert!(matches!(failure.fault(), SelfCheckFault::Resolve(_)));
    assert!(failure.to_string().contains("no example.com"));
}

#[tokio::test]
async fn a_body_that_could_harm_a_terminal_does_not() {
    let port = free_port();
    let presentation = presentation("example.com");
    let _site = Site::http(V4, port, |_| ok("\u{1b}[2J\u{7}evil")).await;
    let failure = only_failure(&check(port, &[V4]), &presentation).await;
    assert!(!failure.to_string().contains(char::is_control));
}

#[tokio::test]
async fn has_nothing_to_fetch_for_a_wildcard() {
    let presentation = presentation("*.example.com");
    let error = check(80, &[V4]).check(&presentation).await.unwrap_err();
    assert!(matches!(error, SelfCheckError::Unsuitable(_)), "{error}");
}

/// The webroot of one host, while the name has another as well.
#[tokio::test]
async fn finds_a_webroot_that_is_not_on_all_hosts() {
    let port = free_port();
    let root = tempfile::tempdir().unwrap();
    let solver = Http01Webroot::new(root.path()).self_checked(check(port, &[V4, OTHER_V4]));
    let served = root.path().to_owned();
    let _files = Site::http(V4, port, move |path| file(&served, path)).await;
    let other = tempfile::tempdir().unwrap();
    let served = other.path().to_owned();
    let _others = Site::http(OTHER_V4, port, move |path| file(&served, path)).await;

    let presentation = presentation("example.com");
    solver.present(&presentation).await.unwrap();
    let error = solver.wait(&presentation).await.unwrap_err().to_string();
    solver.clean_up(&presentation).await.unwrap();
    assert!(error.contains(&format!("127.0.0.2:{port}")), "{error}");
    assert!(!error.contains(&format!("127.0.0.1:{port}")), "{error}");
    assert!(error.contains("404"), "{error}");
}

fn file(root: &Path, path: &str) -> Reply {
    match std::fs::read_to_string(root.join(path.trim_start_matches('/'))) {
        Ok(content) => ok(&content),
        Err(_) => status("404 Not Found"),
    }
}

struct Setup {
    ca: TestCa,
    account: certwright::Account,
}

async fn setup(http_port: u16) -> Setup {
    let ca = TestCa::builder()
        .http01_port(http_port)
        .start()
        .await
        .unwrap();
    let client = Client::builder(ca.directory_url().as_str())
        .add_root_pem(ca.root_pem())
        .build()
        .await
        .unwrap();
    let account = client
        .new_account(AccountKey::generate().unwrap())
        .agree_to_terms()
        .create()
        .await
        .unwrap();
    Setup { ca, account }
}

fn local_check(port: u16) -> SelfCheck {
    SelfCheck::new()
        .http_port(port)
        .allow_private_addresses(true)
        .resolve_with(|_| async { Ok(vec![V4]) })
}

#[tokio::test]
async fn the_ca_is_told_once_the_check_has_passed() {
    let server = Http01Server::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = server.local_addrs()[0].port();
    let Setup { ca, account } = setup(port).await;
    account
        .issue(["one.example", "two.example"])
        .solver(server.self_checked(local_check(port)))
        .await
        .unwrap();
    assert_eq!(ca.count(ResourceKind::Challenge), 2);
}

#[tokio::test]
async fn the_ca_is_not_told_where_the_check_fails() {
    let server = Http01Server::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = server.local_addrs()[0].port();
    let Setup { ca, account } = setup(port).await;

    // What is presented is not what is served at the port that the CA asks.
    let elsewhere = Http01Responder::default();
    let solver = SelfChecked::new(elsewhere.clone(), local_check(port));
    let result = account
        .issue(["one.example", "two.example"])
        .solver(solver)
        .await;
    let error = result.expect_err("the check fails");
    assert!(matches!(error, Error::Solver(_)), "{error}");
    let mut source: Option<&(dyn StdError + 'static)> = Some(&error);
    let mut found = None;
    while let Some(cause) = source {
        found = found.or(cause.downcast_ref::<SelfCheckError>());
        source = cause.source();
    }
    assert!(
        matches!(found, Some(SelfCheckError::Failed { failures, .. })
        if matches!(failures[0].fault(), SelfCheckFault::Status(StatusCode::NOT_FOUND)))
    );

    assert_eq!(ca.count(ResourceKind::NewOrder), 1);
    assert_eq!(ca.count(ResourceKind::Challenge), 0);
    assert_eq!(elsewhere.respond(PATH), None);
    assert_eq!(format!("{elsewhere:?}"), "Http01Responder { live: {} }");
}

/// A solver of one's own, for two types of challenge.
struct Own {
    waited: Arc<Mutex<usize>>,
}

#[async_trait]
impl ChallengeSolver for Own {
    fn can_solve(&self, _: &Identifier, kind: &ChallengeType) -> bool {
        [ChallengeType::Http01, ChallengeType::Dns01].contains(kind)
    }

    async fn present(&self, _: &Presentation) -> Result<(), BoxError> {
        Ok(())
    }

    async fn wait(&self, _: &Presentation) -> Result<(), BoxError> {
        *self.waited.lock().unwrap() += 1;
        Ok(())
    }

    async fn clean_up(&self, _: &Presentation) -> Result<(), BoxError> {
        Ok(())
    }
}

#[tokio::test]
async fn checks_http01_only_and_after_the_solvers_own_wait() {
    let waited = Arc::new(Mutex::new(0));
    let own = Own {
        waited: waited.clone(),
    };
    let solver = SelfChecked::new(own, check(free_port(), &[V4]));
    let dns = Presentation::new(
        "example.com".parse().unwrap(),
        Challenge::pending(
            ChallengeType::Dns01,
            Url::parse("https://ca.example/challenge/1").unwrap(),
            Some(TOKEN.to_owned()),
        ),
        Url::parse("https://ca.example/account/1").unwrap(),
        &AccountKey::generate().unwrap().public_key().thumbprint(),
    )
    .unwrap();
    solver.wait(&dns).await.unwrap();
    assert_eq!(*waited.lock().unwrap(), 1);
    let error = solver.wait(&presentation("example.com")).await.unwrap_err();
    assert!(error.is::<SelfCheckError>());
    assert_eq!(*waited.lock().unwrap(), 2);
}
