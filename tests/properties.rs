//! What holds for every value: it is read as it was written, and nothing that comes from outside
//! makes a panic.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use certwright::AccountCredentials;
use certwright::error::Operation;
use certwright::jose::{AccountKey, Jwk, MacKey};
use certwright::protocol::{
    Authorization, Base64Url, Directory, Identifier, IssueValue, NewOrder, Order, Problem,
    ProblemType, RenewalInfo, RenewalWindow, Token, Url,
};
use certwright::renewal::{RenewalAdvice, RenewalPlan};
use certwright::session::{Reply, Session, SessionOptions};
use certwright::transport::{Transport, TransportError};
use certwright::x509::{CertificateChain, CertificateId, CertificateKey, Csr};
use http::{HeaderMap, HeaderValue, Request, Response};
use proptest::collection::{btree_set, hash_map, vec};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokio::runtime::{Builder, Runtime};

/// Written and read again, it is the same.
fn returns<T: DeserializeOwned + PartialEq + Serialize + std::fmt::Debug>(value: &T) {
    let written = serde_json::to_string(value).unwrap();
    assert_eq!(
        &serde_json::from_str::<T>(&written).unwrap(),
        value,
        "{written}"
    );
}

fn label() -> impl Strategy<Value = String> {
    // Without hyphens at the third and fourth place, which are for A-labels.
    "[a-z0-9]([a-z0-9]{0,20}[a-z0-9])?".prop_map(String::from)
}

fn name() -> impl Strategy<Value = String> {
    // A last label of digits only would be an address.
    (vec(label(), 1..4), "[a-z]{2,10}", any::<bool>()).prop_map(|(labels, last, wildcard)| {
        let star = if wildcard { "*." } else { "" };
        format!("{star}{}.{last}", labels.join("."))
    })
}

fn identifier() -> impl Strategy<Value = Identifier> {
    prop_oneof![
        name().prop_map(|name| name.parse().unwrap()),
        any::<IpAddr>().prop_map(|address| address.to_string().parse().unwrap()),
    ]
}

fn url() -> impl Strategy<Value = String> {
    (
        name(),
        "(/[a-zA-Z0-9._~%-]{0,10}){0,3}",
        any::<Option<u16>>(),
    )
        .prop_map(|(host, path, port)| {
            let host = host.trim_start_matches("*.");
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            format!("https://{host}{port}{path}")
        })
}

/// A time that RFC 3339 has, in whole seconds, with some centuries left.
fn time() -> impl Strategy<Value = SystemTime> {
    (0..252_000_000_000_u64).prop_map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Any JSON; numbers are whole, as fractions may change in their last bit.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            hash_map("[a-zA-Z]{1,8}", inner, 0..4)
                .prop_map(|members| members.into_iter().collect::<Map<_, _>>().into()),
        ]
    })
}

/// Members that no object of the protocol has.
fn unknown_members() -> impl Strategy<Value = Map<String, Value>> {
    hash_map("x-[a-z]{1,6}", json_value(), 0..3).prop_map(|members| members.into_iter().collect())
}

fn with(mut object: Value, members: &Map<String, Value>) -> Value {
    object.as_object_mut().unwrap().extend(members.clone());
    object
}

fn problem() -> impl Strategy<Value = Problem> {
    let kind = prop_oneof![
        Just(ProblemType::Blank),
        Just(ProblemType::RateLimited),
        Just(ProblemType::Caa),
        "[a-z:]{1,20}".prop_map(|text| ProblemType::from(text.as_str())),
    ];
    let one = (
        kind,
        any::<Option<String>>(),
        proptest::option::of(identifier()),
        any::<Option<u16>>(),
        unknown_members(),
    )
        .prop_map(|(kind, detail, identifier, status, other)| {
            let mut problem = Problem::new(kind, "");
            problem.detail = detail;
            problem.identifier = identifier;
            problem.status = status;
            problem.other = other;
            problem
        });
    one.prop_recursive(3, 12, 4, |inner| {
        (inner.clone(), vec(inner, 0..4))
            .prop_map(|(problem, parts)| problem.with_subproblems(parts))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn identifiers_return(identifier in identifier()) {
        let text = identifier.value();
        prop_assert_eq!(&text.parse::<Identifier>().unwrap(), &identifier);
        prop_assert_eq!(&text.to_uppercase().parse::<Identifier>().unwrap(), &identifier);
        if identifier.dns_name().is_some() {
            prop_assert_eq!(&format!("{text}.").parse::<Identifier>().unwrap(), &identifier);
        }
        returns(&identifier);
    }

    #[test]
    fn names_with_a_labels_return(first in "[a-z0-9ü-]{1,20}") {
        let labels = format!("xn--{first}.example").parse::<Identifier>();
        if let Ok(identifier) = labels {
            prop_assert!(identifier.value().is_ascii());
            prop_assert_eq!(&identifier.value().parse::<Identifier>().unwrap(), &identifier);
        }
    }

    #[test]
    fn identifiers_survive(text in any::<String>()) {
        if let Ok(identifier) = text.parse::<Identifier>() {
            prop_assert_eq!(identifier.value().parse::<Identifier>().unwrap(), identifier);
        }
    }

    #[cfg(feature = "idna")]
    #[test]
    fn internationalised_names_become_ascii(text in "[a-zäöüßéñ日本語]{1,20}\\.example") {
        let identifier: Identifier = text.parse().unwrap();
        prop_assert!(identifier.value().is_ascii());
        prop_assert_eq!(identifier.value().parse::<Identifier>().unwrap(), identifier);
    }

    #[test]
    fn urls_keep_their_octets(text in url()) {
        let parsed = Url::parse(&text).unwrap();
        prop_assert_eq!(parsed.as_str(), &text);
        prop_assert!(parsed.is_https());
        returns(&parsed);
    }

    #[test]
    fn urls_survive(text in any::<String>(), base in url()) {
        let _ = Url::parse(&text);
        if let Ok(joined) = Url::parse(&base).unwrap().join(&text) {
            prop_assert_eq!(Url::parse(joined.as_str()).unwrap(), joined);
        }
    }

    #[test]
    fn base64url_returns(octets in vec(any::<u8>(), 0..100)) {
        let encoded = Base64Url::from(&octets[..]);
        let text = encoded.to_string();
        prop_assert!(text.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_".contains(&octet)));
        let decoded = Base64Url::decode(&text).unwrap();
        prop_assert_eq!(decoded.as_bytes(), &octets);
        let padded = format!("{text}=");
        prop_assert!(Base64Url::decode(&padded).is_err());
    }

    #[test]
    fn base64url_has_one_form(text in "[A-Za-z0-9_=+/-]{0,12}") {
        if let Ok(decoded) = Base64Url::decode(&text) {
            prop_assert_eq!(decoded.to_string(), text);
        }
    }

    #[test]
    fn timestamps_return(start in time(), seconds in 1..1_000_000_000_u64) {
        let window = RenewalWindow::new(start, start + Duration::from_secs(seconds)).unwrap();
        returns(&window);
        let mut order = NewOrder::new(Vec::new());
        order.not_before = Some(start);
        returns(&order);
    }

    #[test]
    fn tokens_have_no_other_characters(text in any::<String>()) {
        if let Ok(token) = Token::parse(&text) {
            prop_assert!(token.as_str().bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_".contains(&octet)));
        }
        let _ = IssueValue::parse(&text);
        let _ = MacKey::parse(&text);
        let _ = text.parse::<CertificateId>();
        let _ = CertificateChain::from_pem(&text);
    }

    #[test]
    fn mac_keys_are_read_in_each_form(octets in vec(any::<u8>(), 1..80)) {
        use base64ct::{Base64, Base64Unpadded, Base64Url, Base64UrlUnpadded, Encoding};

        let signed = |text: &str| {
            let url = Url::parse("https://ca.example/new-account").unwrap();
            let key = KEY.public_key_of();
            MacKey::parse(text).unwrap().bind(Default::default(), "kid", &url, &key).unwrap()
        };
        let expected = signed(&Base64UrlUnpadded::encode_string(&octets));
        for text in [
            Base64::encode_string(&octets),
            Base64Unpadded::encode_string(&octets),
            Base64Url::encode_string(&octets),
            format!(" {}\n", Base64UrlUnpadded::encode_string(&octets)),
        ] {
            prop_assert_eq!(signed(&text), expected.clone(), "{}", text);
        }
    }

    #[test]
    fn certificate_ids_return(key in vec(any::<u8>(), 1..40), serial in vec(any::<u8>(), 1..20)) {
        let id = CertificateId::new(&key, &serial);
        let read: CertificateId = id.as_str().parse().unwrap();
        prop_assert_eq!(&read, &id);
        returns(&id);
    }

    #[test]
    fn problems_return(problem in problem()) {
        returns(&problem);
        let text = problem.to_string();
        prop_assert!(!text.chars().any(char::is_control), "{:?}", text);
        for (identifier, part) in problem.by_identifier() {
            prop_assert_eq!(part.identifier.as_ref(), Some(identifier));
        }
    }

    #[test]
    fn problem_types_return(text in "[a-zA-Z:]{0,40}") {
        let kind = ProblemType::from(text.as_str());
        prop_assert_eq!(&ProblemType::from(kind.urn().as_str()), &kind);
        returns(&kind);
    }

    #[test]
    fn orders_return_and_keep_what_they_do_not_know(
        status in "[a-z]{1,12}",
        identifiers in vec(identifier(), 0..5),
        urls in vec(url(), 1..5),
        expires in time(),
        error in proptest::option::of(problem()),
        other in unknown_members(),
    ) {
        let object = with(json!({
            "status": status,
            "identifiers": identifiers,
            "authorizations": urls,
            "finalize": urls[0],
            "error": error,
        }), &other);
        let mut order: Order = serde_json::from_value(object).unwrap();
        order.expires = Some(expires);
        returns(&order);
        prop_assert_eq!(&order.other, &other);
        prop_assert_eq!(order.identifiers, identifiers);
        prop_assert_eq!(serde_json::to_value(&order.status).unwrap(), status);
    }

    #[test]
    fn authorizations_and_directories_keep_what_they_do_not_know(
        identifier in identifier(),
        kind in "[a-z0-9-]{1,20}",
        url in url(),
        other in unknown_members(),
    ) {
        let challenge = with(json!({"type": kind, "url": url, "status": "odd"}), &other);
        let object = with(json!({
            "status": "pending",
            "identifier": identifier,
            "challenges": [challenge],
        }), &other);
        let authorization: Authorization = serde_json::from_value(object).unwrap();
        returns(&authorization);
        prop_assert_eq!(&authorization.other, &other);
        prop_assert_eq!(&authorization.challenges[0].other, &other);

        let meta = with(json!({"profiles": {"a": "b"}}), &other);
        let object = with(json!({"newNonce": url, "meta": meta}), &other);
        let directory: Directory = serde_json::from_value(object).unwrap();
        returns(&directory);
        prop_assert_eq!(&directory.other, &other);
        prop_assert_eq!(&directory.meta.other, &other);
    }

    #[test]
    fn any_json_is_survived(value in json_value(), member in "[a-zA-Z]{1,14}") {
        let mut objects = vec![value.clone(), json!({member.clone(): value.clone()})];
        for member in ["status", "identifiers", "identifier", "challenges", "authorizations", "type",
            "error", "subproblems", "suggestedWindow", "meta", "newNonce", "expires", "kty", "x"] {
            objects.push(json!({member: value.clone(), "finalize": "https://ca.example/f",
                "status": "pending", member: value.clone()}));
        }
        for object in objects {
            let text = object.to_string();
            let _ = serde_json::from_str::<Order>(&text);
            let _ = serde_json::from_str::<Authorization>(&text);
            let _ = serde_json::from_str::<Directory>(&text);
            let _ = serde_json::from_str::<RenewalInfo>(&text);
            let _ = serde_json::from_str::<Jwk>(&text);
            let _ = serde_json::from_str::<AccountCredentials>(&text);
            if let Ok(problem) = serde_json::from_str::<Problem>(&text) {
                let _ = problem.to_string();
            }
        }
    }

    #[test]
    fn plans_survive_any_window_and_stay_within_it(
        start in time(),
        length in 1..10_000_000_u64,
        now in time(),
        retry_after in any::<Option<u64>>(),
        random in any::<u64>(),
    ) {
        let window = RenewalWindow::new(start, start + Duration::from_secs(length)).unwrap();
        let info = serde_json::from_value(json!({"suggestedWindow": window})).unwrap();
        let advice = RenewalAdvice::new(info, retry_after.map(Duration::from_secs));
        prop_assert!(advice.poll_after >= RenewalAdvice::SHORTEST_POLL);
        prop_assert!(advice.poll_after <= RenewalAdvice::LONGEST_POLL);
        let mut plan = RenewalPlan::new(now, now + Duration::from_secs(90 * 86_400));
        plan.advise(&advice, now, random);
        let end = now + Duration::from_secs(90 * 86_400);
        match window.start() < end {
            true => {
                prop_assert!(plan.renew_at() >= window.start());
                prop_assert!(plan.renew_at() <= window.end().min(end));
            }
            false => prop_assert!(plan.renew_at() <= end),
        }
        let _ = plan.next(now);
        returns(&plan);
    }

    #[test]
    fn links_are_found_again(
        urls in vec(url(), 1..6),
        relations in vec("[a-z]{1,8}( [a-z]{1,8})?", 1..6),
        title in "[ -~]{0,12}",
        one_header in any::<bool>(),
    ) {
        let quoted = title.replace('\\', "\\\\").replace('"', "\\\"");
        let links: Vec<_> = urls.iter().zip(&relations).collect();
        let values = links.iter().map(|(url, relation)| {
            format!("<{url}> ; title=\"{quoted}\";rel=\"{relation}\"; type=a/b")
        });
        let values: Vec<_> = match one_header {
            true => vec![values.collect::<Vec<_>>().join(" , ")],
            false => values.collect(),
        };
        let reply = reply(values.iter().map(|value| ("link", value.as_str())));
        for (_, relation) in &links {
            for name in relation.split(' ') {
                let expected: Vec<_> = links.iter()
                    .filter(|(_, relation)| relation.split(' ').any(|other| other == name))
                    .map(|(url, _)| url.as_str())
                    .collect();
                let found = reply.links(&name.to_uppercase());
                let found: Vec<_> = found.iter().map(Url::as_str).collect();
                prop_assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn headers_survive(value in "[ -~\\t]{0,60}", octets in vec(any::<u8>(), 0..40)) {
        for value in [value.as_bytes(), &octets] {
            let Ok(value) = HeaderValue::from_bytes(value) else {
                continue;
            };
            let mut headers = HeaderMap::new();
            for name in ["link", "retry-after", "location", "content-type", "replay-nonce"] {
                headers.insert(name, value.clone());
            }
            let reply = answered(headers);
            let _ = (reply.links("alternate"), reply.retry_after(), reply.location());
            let _ = reply.json::<Order>();
        }
    }

    #[test]
    fn retry_after_is_read_in_each_form(seconds in 0..4_000_000_000_u64, ahead in 0..100_000_u64) {
        let found = reply([("retry-after", seconds.to_string().as_str())]).retry_after();
        prop_assert_eq!(found, Some(Duration::from_secs(seconds)));

        // A date has whole seconds, and the clock goes on.
        let date = SystemTime::now() + Duration::from_secs(ahead);
        let text = httpdate::fmt_http_date(date);
        let found = reply([("retry-after", text.as_str())]).retry_after().unwrap();
        let tolerance = Duration::from_secs(60);
        prop_assert!(found <= Duration::from_secs(ahead));
        prop_assert!(found + tolerance >= Duration::from_secs(ahead), "{:?} of {}", found, ahead);
    }

    #[test]
    fn credentials_return(directory in url(), account in url(), key in any::<String>()) {
        let [directory, account] = [directory, account].map(|url| Url::parse(&url).unwrap());
        let credentials = AccountCredentials::new(directory.clone(), account.clone(), key.clone());
        let written = serde_json::to_string(&credentials).unwrap();
        let read: AccountCredentials = serde_json::from_str(&written).unwrap();
        prop_assert!(read == credentials);
        prop_assert_eq!(read.key(), &key);
        let other = AccountCredentials::new(directory, account, format!("{key}."));
        prop_assert!(read != other);
        let shown = format!("{read:?}");
        prop_assert!(key.len() < 12 || !shown.contains(&key));
    }
}

proptest! {
    // Each of these makes keys or signatures.
    #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn keys_and_their_jwks_return(_ in any::<u8>()) {
        let key = AccountKey::generate().unwrap();
        let pem = key.to_pkcs8_pem().unwrap();
        let read = AccountKey::from_pkcs8_pem(&pem).unwrap();
        prop_assert_eq!(&read, &key);
        let jwk = key.public_key_of();
        let written = serde_json::to_string(&jwk).unwrap();
        let again: Jwk = serde_json::from_str(&written).unwrap();
        prop_assert_eq!(again.thumbprint(), jwk.thumbprint());
        prop_assert_eq!(again, jwk);
    }

    #[test]
    fn requests_for_certificates_keep_their_names(names in btree_set(identifier(), 1..8)) {
        let csr = Csr::new(&CERTIFICATE_KEY, &names).unwrap();
        let read = Csr::from_der(csr.der()).unwrap();
        prop_assert_eq!(read.identifiers(), &names);
        prop_assert_eq!(read.public_key_info(), CERTIFICATE_KEY.public_key_info());
    }

    #[test]
    fn a_changed_request_is_refused(place in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let names = ["example.com".parse().unwrap()];
        let mut der = Csr::new(&CERTIFICATE_KEY, &names).unwrap().der().to_vec();
        let place = place.index(der.len());
        der[place] ^= 1 << bit;
        prop_assert!(Csr::from_der(&der).is_err());
    }
}

static KEY: LazyLock<AccountKey> = LazyLock::new(|| AccountKey::generate().unwrap());
static CERTIFICATE_KEY: LazyLock<CertificateKey> =
    LazyLock::new(|| CertificateKey::generate().unwrap());
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().unwrap());

trait PublicKey {
    fn public_key_of(&self) -> Jwk;
}

impl PublicKey for AccountKey {
    fn public_key_of(&self) -> Jwk {
        certwright::jose::Signer::public_key(self).clone()
    }
}

/// Answers with these headers, and an empty body.
#[derive(Debug)]
struct Headers(HeaderMap);

#[async_trait::async_trait]
impl Transport for Headers {
    async fn send(&self, _: Request<Bytes>) -> Result<Response<Bytes>, TransportError> {
        let mut response = Response::new(Bytes::new());
        *response.headers_mut() = self.0.clone();
        Ok(response)
    }
}

fn answered(headers: HeaderMap) -> Reply {
    let url = Url::parse("https://ca.example/directory").unwrap();
    let session = Session::new(Arc::new(Headers(headers)), url, SessionOptions::default());
    let get = session.get(Operation::Directory, session.directory_url());
    RUNTIME.block_on(get).unwrap()
}

fn reply<'a>(headers: impl IntoIterator<Item = (&'static str, &'a str)>) -> Reply {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(name, value.parse().unwrap());
    }
    answered(map)
}
