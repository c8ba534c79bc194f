//! One function for each parser of what comes from outside: any octets, and no panic.
//!
//! Each goes through the crate's public interface, as far as a program would, and holds what was
//! read to some truth where there is one: what is written again is read as the same. cargo-fuzz runs
//! them without end, `tests/fuzz_replay.rs` with the corpus and what is near it.

use std::fmt::{Debug, Display};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use certwright::dns::Dns;
use certwright::error::{Error, Operation};
use certwright::jose::{AccountKey, Jwk, MacKey, Signer};
use certwright::protocol::{
    Account, Authorization, Base64Url, Delegation, Delegations, Directory, Identifier, IssueValue,
    Order, Problem, ProblemType, RenewalInfo, Url,
};
use certwright::renewal::{RenewalAdvice, RenewalPlan};
use certwright::session::{Reply, Session, SessionOptions};
use certwright::transport::{Transport, TransportError};
use certwright::x509::{CertificateChain, CertificateDetails, CertificateId, CertificateKey, Csr};
use certwright::{AccountCredentials, import};
use http::{HeaderValue, Request, Response};
use rustls_pki_types::CertificateDer;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UdpSocket;

/// Takes any octets. True where they could be read, at least in part.
pub type Target = fn(&[u8]) -> bool;

/// All of them, by the names of their corpora.
pub const TARGETS: &[(&str, Target)] = &[
    ("account", account),
    ("authorization", authorization),
    ("caa", caa),
    ("certificate", certificate),
    ("credentials", credentials),
    ("crl", crl),
    ("csr", csr),
    ("delegation", delegation),
    ("directory", directory),
    ("identifier", identifier),
    ("import", import),
    ("issue_value", issue_value),
    ("jwk", jwk),
    ("link", link),
    ("mac_key", mac_key),
    ("order", order),
    ("pem_chain", pem_chain),
    ("private_key", private_key),
    ("problem", problem),
    ("refusal", refusal),
    ("renewal_info", renewal_info),
    ("retry_after", retry_after),
    ("txt", txt),
    ("url", url),
];

/// The account object (RFC 8555 §7.1.2).
pub fn account(data: &[u8]) -> bool {
    object::<Account>(data).is_some()
}

/// The authorization object (§7.1.4), with its challenges and their tokens.
pub fn authorization(data: &[u8]) -> bool {
    let Some(authorization) = object::<Authorization>(data) else {
        return false;
    };
    show(authorization.identifier());
    for challenge in &authorization.challenges {
        if let Ok(Some(token)) = challenge.token() {
            let octets = token.as_str().bytes();
            let plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-_".contains(&octet);
            assert!(octets.clone().count() <= 200 && octets.clone().all(plain));
        }
        show(&challenge.kind);
        challenge.kind.can_validate(&authorization.base_identifier);
    }
    true
}

/// CAA records, in a DNS message.
pub fn caa(data: &[u8]) -> bool {
    let found = ask_dns(data, async |dns, _| dns.caa("www.example.test").await);
    match found {
        Ok(Some(set)) => {
            for record in &set.records {
                show(format_args!("{:?}", record.issuer()));
            }
            true
        }
        Ok(None) => false,
        Err(error) => fault(error),
    }
}

/// A certificate in DER: what it says of itself.
pub fn certificate(data: &[u8]) -> bool {
    let der = CertificateDer::from(data);
    let details = match CertificateDetails::from_der(&der) {
        Ok(details) => show(format_args!("{details:?}")),
        Err(error) => fault(error),
    };
    let id = match CertificateId::of(&der) {
        Ok(id) => {
            let again: CertificateId = id.as_str().parse().expect("an id is read again");
            assert_eq!(again, id);
            true
        }
        Err(error) => fault(error),
    };
    if let Ok(text) = str::from_utf8(data)
        && let Ok(id) = text.parse::<CertificateId>()
    {
        assert_eq!(id.as_str(), text);
    }
    details || id
}

/// Stored credentials, and the key in them.
pub fn credentials(data: &[u8]) -> bool {
    let Some(credentials) = object::<AccountCredentials>(data) else {
        return false;
    };
    show(format_args!("{credentials:?}"));
    match AccountKey::from_pkcs8_pem(credentials.key()) {
        Ok(_) => true,
        Err(error) => fault(error),
    }
}

/// A CRL: as it is, and with a signature of the right issuer, behind which more of it is read.
pub fn crl(data: &[u8]) -> bool {
    let chain = include_str!("../fixtures/chain.pem");
    let chain = CertificateChain::from_pem(chain).expect("the fixture is a chain");
    let key = include_str!("../fixtures/issuer-key.pem");
    let key = CertificateKey::from_pkcs8_pem(key).expect("the fixture is a key");
    // The fixtures' lists are current at this time.
    let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let signed = block_on(key.sign(data)).expect("the key signs");
    let read = |crl: &[u8]| match chain.revocation_status(crl, now) {
        Ok(status) => show(format_args!("{status:?}")),
        Err(error) => fault(error),
    };
    read(data) | read(&signed_crl(data, &signed))
}

/// A CSR in DER, as a caller gives it.
pub fn csr(data: &[u8]) -> bool {
    match Csr::from_der(data) {
        Ok(csr) => {
            assert_eq!(csr.der().as_ref(), data);
            show(format_args!("{:?}", csr.identifiers()))
        }
        Err(error) => fault(error),
    }
}

/// The delegation object and the list of them (RFC 9115 §2.3.1).
pub fn delegation(data: &[u8]) -> bool {
    object::<Delegation>(data).is_some() | object::<Delegations>(data).is_some()
}

/// The directory (RFC 8555 §7.1.1), by itself and as a session reads it.
pub fn directory(data: &[u8]) -> bool {
    object::<Directory>(data);
    let session = session(Answer::new(200, data));
    match block_on(session.directory()) {
        Ok(directory) => {
            for url in [&directory.new_nonce, &directory.new_order] {
                assert!(url.as_ref().expect("it is required").is_https());
            }
            true
        }
        Err(error) => failure(&error),
    }
}

/// A name or an address, as a caller gives it or a certificate has it.
pub fn identifier(data: &[u8]) -> bool {
    if object::<Identifier>(data).is_some() {
        return true;
    }
    let Ok(text) = str::from_utf8(data) else {
        return false;
    };
    match text.parse::<Identifier>() {
        Ok(identifier) => {
            let again: Identifier = identifier.value().parse().expect("it is read again");
            assert_eq!(again, identifier);
            true
        }
        Err(error) => fault(error),
    }
}

/// The accounts of other clients: two files, parted by a form feed.
pub fn import(data: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(data) else {
        return false;
    };
    let (first, second) = text.split_once('\x0c').unwrap_or((text, ""));
    let directory = || Url::parse("https://ca.example/directory").expect("it is a URL");
    let results = [
        import::acme_sh(first, second, directory()),
        import::certbot(first, second, directory()),
        import::instant_acme(first, None),
        import::instant_acme(first, directory()),
        import::lego(first, second, directory()),
    ];
    let read = results.map(|result| match result {
        Ok(credentials) => {
            AccountKey::from_pkcs8_pem(credentials.key()).expect("the key is read again");
            true
        }
        Err(error) => fault(error),
    });
    read.contains(&true)
}

/// The value of a CAA record that says who may issue (RFC 8659 §4.2).
pub fn issue_value(data: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(data) else {
        return false;
    };
    match IssueValue::parse(text) {
        Ok(value) => {
            show(format_args!("{value:?}"));
            show(format_args!("{:?}", value.validation_methods()));
            show(format_args!("{:?}", value.repeated_tag()))
        }
        Err(error) => fault(error),
    }
}

/// A JSON Web Key (RFC 7517), public and private.
pub fn jwk(data: &[u8]) -> bool {
    if let Some(key) = object::<Jwk>(data) {
        show(format_args!("{:?}", key.thumbprint()));
    }
    let Ok(text) = str::from_utf8(data) else {
        return false;
    };
    if let Ok(octets) = Base64Url::decode(text) {
        assert_eq!(octets.to_string(), text);
    }
    match AccountKey::from_jwk(text) {
        Ok(key) => {
            block_on(key.sign(b"message")).expect("the key signs");
            true
        }
        Err(error) => fault(error),
    }
}

/// The `Link` header (RFC 8288).
pub fn link(data: &[u8]) -> bool {
    let Ok(reply) = get(Answer::new(200, b"").header("link", data)) else {
        return false;
    };
    let mut found = false;
    for relation in ["alternate", "next", "index", ""] {
        let links = reply.links(relation);
        assert!(links.len() <= 100);
        for url in links {
            assert!(url.as_str().len() <= Url::MAX_LENGTH);
            found = true;
        }
    }
    found
}

/// The key of an external account, as an operator pastes it.
pub fn mac_key(data: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(data) else {
        return false;
    };
    match MacKey::parse(text) {
        Ok(key) => show(format_args!("{key:?}")),
        Err(error) => fault(error),
    }
}

/// The order object (RFC 8555 §7.1.3).
pub fn order(data: &[u8]) -> bool {
    object::<Order>(data).is_some_and(|order| {
        order.has_expired(SystemTime::now());
        show(&order.status)
    })
}

/// A certificate chain in PEM (§9.1).
pub fn pem_chain(data: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(data) else {
        return false;
    };
    match CertificateChain::from_pem(text) {
        Ok(chain) => {
            assert_eq!(chain.pem(), text);
            assert!((1..=16).contains(&chain.certificates().len()));
            show(chain.root_issuer());
            show(chain.serial_number());
            show(format_args!("{:?}", chain.details()));
            show(format_args!("{:?}", chain.certificate_id()));
            show(format_args!("{:?}", chain.check(b"", [], UNIX_EPOCH)))
        }
        Err(error) => fault(error),
    }
}

/// A private key in PEM.
pub fn private_key(data: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(data) else {
        return false;
    };
    match AccountKey::from_pem(text) {
        Ok(key) => {
            block_on(key.sign(b"message")).expect("the key signs");
            let pem = key.to_pkcs8_pem().expect("the key is written");
            assert_eq!(AccountKey::from_pkcs8_pem(&pem).expect("and read"), key);
            true
        }
        Err(error) => fault(error),
    }
}

/// The problem document (RFC 9457, RFC 8555 §6.7).
pub fn problem(data: &[u8]) -> bool {
    let problem = object::<Problem>(data);
    if let Some(problem) = &problem {
        let text = problem.to_string();
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert!(problem.by_identifier().len() <= 1_000_000);
    }
    if let Ok(text) = str::from_utf8(data) {
        let kind = ProblemType::from(text);
        assert_eq!(ProblemType::from(kind.urn().as_str()), kind);
    }
    problem.is_some()
}

/// A refusal: the first octet chooses the status, the rest is the body.
pub fn refusal(data: &[u8]) -> bool {
    let Some((&choice, body)) = data.split_first() else {
        return false;
    };
    let statuses = [400, 401, 403, 404, 409, 429, 500, 501, 503, 599];
    let status = statuses[usize::from(choice) % statuses.len()];
    match get(Answer::new(status, body)) {
        Ok(_) => panic!("{status} is no success"),
        Err(error) => failure(&error),
    }
}

/// Renewal information (RFC 9773 §4.2), and the plan made of it.
pub fn renewal_info(data: &[u8]) -> bool {
    let Some(info) = object::<RenewalInfo>(data) else {
        return false;
    };
    let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let not_after = now + Duration::from_secs(90 * 86_400);
    for random in [0, u64::MAX / 3, u64::MAX] {
        let mut plan = RenewalPlan::new(now, not_after);
        let wait = Some(Duration::from_secs(random));
        plan.advise(&RenewalAdvice::new(info.clone(), wait), now, random);
        show(format_args!("{:?}", plan.next(now)));
        // Where the CA's window ends too late, the plan is its own.
        assert!(plan.renew_at() <= not_after || plan.window().is_some());
    }
    true
}

/// The `Retry-After` header (RFC 9110 §10.2.3), on success and on refusal.
pub fn retry_after(data: &[u8]) -> bool {
    let answer = |status| Answer::new(status, b"").header("retry-after", data);
    match get(answer(429)) {
        Ok(_) => panic!("429 is no success"),
        Err(error) => failure(&error),
    };
    get(answer(200)).is_ok_and(|reply| reply.retry_after().is_some())
}

/// TXT records, in a DNS message.
pub fn txt(data: &[u8]) -> bool {
    match ask_dns(data, async |dns, server| {
        dns.txt_at(server, "_acme-challenge.example.test").await
    }) {
        Ok(values) => show(format_args!("{values:?}")),
        Err(error) => fault(error),
    }
}

/// A URL that a CA sent, by itself and as a reference to be resolved.
pub fn url(data: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(data) else {
        return false;
    };
    if let Ok(url) = Url::parse(text) {
        assert_eq!(url.as_str(), text);
        assert!(text.len() <= Url::MAX_LENGTH && !text.contains('#'));
        let authority = text.split('/').nth(2).expect("it has an authority");
        let authority = authority.split('?').next().unwrap_or_default();
        assert!(!authority.contains('@'));
        url.is_loopback();
    }
    let base = Url::parse("https://ca.example/acme/order/1").expect("it is a URL");
    match base.join(text) {
        Ok(joined) => {
            assert_eq!(Url::parse(joined.as_str()), Ok(joined));
            true
        }
        Err(error) => fault(error),
    }
}

/// Reads an object; and reads what it is written as, which must say the same.
fn object<T: DeserializeOwned + Serialize>(data: &[u8]) -> Option<T> {
    let value = match serde_json::from_slice::<T>(data) {
        Ok(value) => value,
        Err(error) => {
            show(error);
            return None;
        }
    };
    let written = serde_json::to_value(&value).expect("what was read can be written");
    let again: T = serde_json::from_str(&written.to_string()).expect("and is read again");
    let again = serde_json::to_value(&again).expect("and written");
    assert_eq!(without_fractions(again), without_fractions(written));
    Some(value)
}

/// serde_json reads a fraction to the last bit but one.
fn without_fractions(value: Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => Value::Null,
        Value::Array(list) => list.into_iter().map(without_fractions).collect(),
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| (name, without_fractions(value)))
            .collect(),
        value => value,
    }
}

/// What is shown must not panic either.
fn show(value: impl Display) -> bool {
    value.to_string();
    true
}

fn fault(error: impl Debug + Display) -> bool {
    show(format_args!("{error} {error:?} {error:#?}"));
    false
}

/// A refusal that became an error was read, too.
fn failure(error: &Error) -> bool {
    fault(error);
    show(format_args!(
        "{:?} {:?}",
        error.retry(),
        error.by_identifier()
    ));
    matches!(error, Error::Refused(refusal) if refusal.excerpt.is_none())
}

/// A CA that gives one answer to everything.
#[derive(Clone, Debug)]
struct Answer {
    status: u16,
    header: Option<(&'static str, HeaderValue)>,
    body: Bytes,
}

impl Answer {
    fn new(status: u16, body: &[u8]) -> Self {
        Self {
            status,
            header: None,
            body: Bytes::copy_from_slice(body),
        }
    }

    /// Without the header, where HTTP would not let it through.
    fn header(mut self, name: &'static str, value: &[u8]) -> Self {
        self.header = HeaderValue::from_bytes(value)
            .ok()
            .map(|value| (name, value));
        self
    }
}

#[async_trait::async_trait]
impl Transport for Answer {
    async fn send(&self, _: Request<Bytes>) -> Result<Response<Bytes>, TransportError> {
        let mut response = Response::builder().status(self.status);
        if let Some((name, value)) = &self.header {
            response = response.header(*name, value);
        }
        let response = response.body(self.body.clone());
        Ok(response.expect("its parts are good"))
    }
}

fn session(answer: Answer) -> Session {
    let url = Url::parse("https://ca.example/directory").expect("it is a URL");
    Session::new(Arc::new(answer), url, SessionOptions::default())
}

fn get(answer: Answer) -> Result<Reply, Error> {
    let session = session(answer);
    block_on(session.get(Operation::Directory, session.directory_url()))
}

/// Runs on a clock that jumps over pauses.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    runtime(true).block_on(future)
}

fn runtime(paused: bool) -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(paused)
        .build()
        .expect("a runtime is made")
}

/// Asks a name server that answers each question with the same octets behind the header and the
/// question: the first one says how many of the records are answers, the second how many are not.
fn ask_dns<T>(data: &[u8], ask: impl AsyncFnOnce(Dns, SocketAddr) -> T) -> T {
    runtime(false).block_on(async {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let socket = socket.expect("a port is free");
        let server = socket.local_addr().expect("the port is known");
        let dns = Dns::with_name_servers([server])
            .authoritative_port(server.port())
            .timeout(Duration::from_millis(20));
        let (counts, records) = data.split_at(data.len().min(2));
        let count = |place: usize| counts.get(place).map_or(0, |count| count % 4);
        let answering = async {
            let mut query = [0; 1_024];
            loop {
                let received = socket.recv_from(&mut query).await;
                let (length, client) = received.expect("a question comes");
                // The header has 12 octets; the question ends with the root's label, type and class.
                let labels = query[12..length].iter().position(|&octet| octet == 0);
                let end = 12 + labels.expect("the name ends") + 5;
                let mut reply = query[..2].to_vec();
                reply.extend([0x84, 0, 0, 1, 0, count(0), 0, count(1), 0, 0]);
                reply.extend(&query[12..end]);
                reply.extend(records);
                socket.send_to(&reply, client).await.ok();
            }
        };
        tokio::select! {
            found = ask(dns, server) => found,
            () = answering => unreachable!("it answers without end"),
        }
    })
}

/// The list with these octets as what is signed (RFC 5280 §5.1), and an ECDSA signature for it.
fn signed_crl(to_be_signed: &[u8], signature: &[u8]) -> Vec<u8> {
    const ECDSA_WITH_SHA256: [u8; 12] = [
        0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02,
    ];
    let (r, s) = signature.split_at(signature.len() / 2);
    let sequence = element(0x30, &[integer(r), integer(s)].concat());
    let bits = element(0x03, &[&[0], &sequence[..]].concat());
    let parts = [to_be_signed, &ECDSA_WITH_SHA256, &bits].concat();
    element(0x30, &parts)
}

fn integer(octets: &[u8]) -> Vec<u8> {
    let zeros = octets.iter().take_while(|&&octet| octet == 0).count();
    let octets = &octets[zeros..];
    match octets.first() {
        Some(0x80..) => element(0x02, &[&[0], octets].concat()),
        _ => element(0x02, octets),
    }
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u32).to_be_bytes();
    let mut element = vec![tag, 0x84];
    match content.len() {
        short @ 0..0x80 => element[1] = short as u8,
        // DER wants the shortest form.
        0x80..0x100 => {
            element[1] = 0x81;
            element.extend(&length[3..]);
        }
        0x100..0x1_0000 => {
            element[1] = 0x82;
            element.extend(&length[2..]);
        }
        0x1_0000..0x100_0000 => {
            element[1] = 0x83;
            element.extend(&length[1..]);
        }
        _ => element.extend(&length),
    }
    element.extend(content);
    element
}
