//! No secret is in a log, a `Debug` or an error: the whole life of an account and of certificates,
//! with what can go wrong, and then a search for each key in each form that it could be written in.

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
    clippy::unwrap_used
)]

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt::{Debug, Write as _};
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64ct::{Base64, Base64UrlUnpadded, Encoding};
use certwright::issuance::Issued;
use certwright::jose::{AccountKey, MacKey};
use certwright::protocol::{Identifiers, RevocationReason};
use certwright::renewal::RenewalPlan;
use certwright::solver::Http01Server;
use certwright::test_ca::{BadChain, RateLimit, ResourceKind, TestCa};
use certwright::x509::{CertificateKey, Csr};
use certwright::{Account, AccountCredentials, Client, Error, import};
use p256::pkcs8::DecodePrivateKey;
use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

const EAB_KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";

/// All that was logged, shown and told.
#[derive(Clone, Default)]
struct Capture(Arc<Mutex<Vec<u8>>>);

impl Capture {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    fn push(&self, text: &str) {
        self.0.lock().unwrap().extend_from_slice(text.as_bytes());
    }

    fn debug(&self, value: &impl Debug) {
        self.push(&format!("{value:?}\n{value:#?}\n{value:x?}\n"));
    }

    /// What a program tells of an error, in each way that there is.
    fn error(&self, error: &(dyn StdError + 'static)) {
        let mut text = format!("error: {error:#?}\n");
        let mut next = Some(error);
        while let Some(error) = next {
            writeln!(text, "caused by: {error} {error:?} {error:x?}").unwrap();
            next = error.source();
        }
        self.push(&text);
    }
}

impl io::Write for Capture {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Capture {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// The texts by which octets can be told, without white space, each for a half of them: half a key
/// is a leak, too.
fn forms(octets: &[u8]) -> Vec<String> {
    let mut forms = Vec::new();
    for half in octets.chunks(octets.len() / 2) {
        let each = |separator: &str, form: fn(&u8) -> String| {
            let forms: Vec<_> = half.iter().map(form).collect();
            forms.join(separator)
        };
        forms.extend([
            each("", |octet| format!("{octet:02x}")),
            each("", |octet| format!("{octet:02X}")),
            each(":", |octet| format!("{octet:02x}")),
            each(":", |octet| format!("{octet:02X}")),
            each(",", |octet| format!("{octet}")),
            each(",", |octet| format!("{octet:x}")),
            each(",", |octet| format!("{octet:02x}")),
            each(",", |octet| format!("0x{octet:02x}")),
            half.escape_ascii().to_string(),
        ]);
        // In the base64 of something longer, an octet may be the first, second or third of a group.
        for before in 0..3 {
            let shifted = [&vec![0; before], half].concat();
            let whole = before.div_ceil(3) * 4..shifted.len() / 3 * 4;
            forms.push(Base64::encode_string(&shifted)[whole.clone()].to_owned());
            forms.push(Base64UrlUnpadded::encode_string(&shifted)[whole].to_owned());
        }
    }
    forms
}

/// The forms of a private key: of its number, and of the lines of its PEM.
fn key_forms(pem: &str) -> Vec<String> {
    let key = p256::SecretKey::from_pkcs8_pem(pem).unwrap();
    let mut forms = forms(&key.to_bytes());
    let lines = pem.lines().filter(|line| !line.starts_with('-'));
    // The first line starts as that of every such key, and the last ones are of the public key.
    forms.extend(lines.take(2).map(|line| line[28..].to_owned()));
    forms
}

fn without_white_space(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

/// The first place where one of the forms is, with what is around it.
fn found(text: &str, forms: &[String]) -> Option<String> {
    let place = forms.iter().find_map(|form| text.find(form.as_str()))?;
    let around = place.saturating_sub(300)..(place + 100).min(text.len());
    Some(String::from_utf8_lossy(&text.as_bytes()[around]).into_owned())
}

#[test]
fn a_secret_is_found_in_each_form() {
    let octets: Vec<u8> = (0..32)
        .map(|n: u8| n.wrapping_mul(37).wrapping_add(201))
        .collect();
    let forms = forms(&octets);
    assert!(forms.iter().all(|form| form.len() >= 16), "{forms:?}");
    let longer = |before: usize| [&vec![7; before][..], &octets, &[9; 5]].concat();
    for planted in [
        format!("key={octets:?}"),
        format!("{octets:#?}"),
        format!("{octets:x?}"),
        format!("{octets:02x?}"),
        octets.escape_ascii().to_string(),
        octets.iter().map(|octet| format!("{octet:02X}:")).collect(),
        octets
            .iter()
            .map(|octet| format!("0x{octet:02x}, "))
            .collect(),
        format!("{:?}", &octets[..16]),
        Base64::encode_string(&octets),
        Base64UrlUnpadded::encode_string(&octets),
        Base64::encode_string(&longer(33)),
        Base64::encode_string(&longer(34)),
        Base64::encode_string(&longer(35)),
    ] {
        let text = without_white_space(&format!("before {planted} after"));
        assert!(found(&text, &forms).is_some(), "{planted}");
    }
    assert_eq!(found("nothing of it", &forms), None);

    let key = AccountKey::generate().unwrap();
    let pem = key.to_pkcs8_pem().unwrap();
    let forms = key_forms(&pem);
    assert!(found(&without_white_space(&pem), &forms).is_some());
    for line in pem.lines().skip(1).take(2) {
        assert!(found(line, &forms).is_some(), "{line}");
    }
    let other = AccountKey::generate().unwrap().to_pkcs8_pem().unwrap();
    assert_eq!(found(&without_white_space(&other), &forms), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_logged_shown_or_told() {
    let capture = Capture::default();
    tracing_subscriber::fmt()
        .with_writer(capture.clone())
        .with_ansi(false)
        .with_max_level(Level::TRACE)
        .init();

    let keys = Keys::generate();
    live(&keys, &capture).await;
    misuse(&keys, &capture);

    let text = capture.text();
    let plain = without_white_space(&text);
    for (name, forms) in keys.forms() {
        assert_eq!(found(&plain, &forms), None, "{name} was told");
    }

    // The search was in all of it, and would have found one.
    for logged in [
        "TRACE",
        "DEBUG",
        "INFO",
        "certwright::session",
        "certwright::issuance",
        "h2::",
        "badNonce",
        "rateLimited",
        "error: ",
        "caused by: ",
        "AccountCredentials",
        "CertificateKey",
        "MacKey",
    ] {
        assert!(text.contains(logged), "{logged} is not in the capture");
    }
    assert!(
        text.len() > 500_000,
        "only {} octets were captured",
        text.len()
    );
    let planted = format!("{plain}{}", without_white_space(&keys.certificate));
    assert!(found(&planted, &keys.forms()["the certificate's key"]).is_some());

    // What is signed is not logged either.
    let is_log = |line: &&str| line.contains(" certwright::");
    let signed = text.lines().filter(is_log).find(|line| {
        ["\"protected\"", "\"payload\"", "\"signature\""]
            .iter()
            .any(|member| line.contains(member))
    });
    assert_eq!(signed, None);
    assert!(text.lines().filter(is_log).count() > 100);
}

/// All secrets of the flow, in PEM where they are keys.
struct Keys {
    account: String,
    next_account: String,
    other_account: String,
    certificate: String,
    renewed: String,
}

impl Keys {
    fn generate() -> Self {
        let key = || {
            AccountKey::generate()
                .unwrap()
                .to_pkcs8_pem()
                .unwrap()
                .to_string()
        };
        Self {
            account: key(),
            next_account: key(),
            other_account: key(),
            certificate: key(),
            renewed: key(),
        }
    }

    fn forms(&self) -> BTreeMap<&'static str, Vec<String>> {
        let mut external = forms(&Base64UrlUnpadded::decode_vec(EAB_KEY).unwrap());
        external.push(EAB_KEY.to_owned());
        BTreeMap::from([
            ("the account's key", key_forms(&self.account)),
            ("the account's next key", key_forms(&self.next_account)),
            ("the other account's key", key_forms(&self.other_account)),
            ("the certificate's key", key_forms(&self.certificate)),
            ("the renewed certificate's key", key_forms(&self.renewed)),
            ("the external account's key", external),
        ])
    }
}

/// The life of an account, and what can go wrong in it.
async fn live(keys: &Keys, capture: &Capture) {
    let server = Http01Server::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mac_key = MacKey::parse(EAB_KEY).unwrap();
    let ca = TestCa::builder()
        .http01_port(server.local_addrs()[0].port())
        .external_account("kid-1", mac_key.clone())
        .reject_nonces(0.3)
        .start()
        .await
        .unwrap();
    let builder = Client::builder(ca.directory_url().as_str()).add_root_pem(ca.root_pem());
    capture.debug(&builder);
    let client = builder.build().await.unwrap();
    let account_key = AccountKey::from_pkcs8_pem(&keys.account).unwrap();
    capture.debug(&(&ca, &client, &mac_key, &account_key, &server));

    let unbound = client.new_account(account_key.clone()).agree_to_terms();
    capture.debug(&unbound);
    capture.error(&unbound.create().await.unwrap_err());
    let wrong = MacKey::parse(&EAB_KEY.replace('z', "y")).unwrap();
    let wrong = client
        .new_account(account_key.clone())
        .agree_to_terms()
        .external_account("kid-1", wrong);
    capture.error(&wrong.create().await.unwrap_err());
    let bound = client
        .new_account(account_key.clone())
        .contact("mailto:ops@example.com")
        .agree_to_terms()
        .external_account("kid-1", mac_key.clone());
    capture.debug(&bound);
    let account = bound.create().await.unwrap();
    let stored = serde_json::to_string(&account.credentials().unwrap()).unwrap();
    let credentials: AccountCredentials = serde_json::from_str(&stored).unwrap();
    capture.debug(&credentials);
    let account = client.account(&credentials).unwrap();
    let update = account.update().contact("mailto:admin@example.com");
    capture.debug(&update);
    capture.debug(&update.send().await.unwrap());
    capture.debug(&account);

    let issued = issue(&account, &server, &keys.certificate, capture).await;
    step_by_step(&account, capture).await;
    let key = CertificateKey::from_pkcs8_pem(&keys.renewed).unwrap();
    let id = issued.chain().certificate_id().unwrap();
    let renewed = account
        .issue(["example.test"])
        .replaces(id.to_string())
        .key(key.clone())
        .solver(server.clone());
    let renewed = renewed.await.unwrap();
    capture.debug(&renewed);
    let mut plan = RenewalPlan::new(renewed.chain().not_before(), renewed.chain().not_after());
    match renewed.certificate().renewal_info().await {
        Ok(advice) => plan.advise(&advice, std::time::SystemTime::now(), 7),
        Err(error) => capture.error(&error),
    }
    capture.debug(&plan);

    fail(&ca, &account, &server, capture).await;

    let leaf = renewed.chain().leaf();
    let reason = Some(RevocationReason::KeyCompromise);
    client.revoke_with_key(leaf, &key, reason).await.unwrap();
    issued.certificate().revoke(None).await.unwrap();
    change_keys(&client, account, mac_key, keys, capture).await;
}

async fn issue(account: &Account, server: &Http01Server, pem: &str, capture: &Capture) -> Issued {
    let key = CertificateKey::from_pkcs8_pem(pem).unwrap();
    capture.debug(&key);
    let observer = capture.clone();
    let issuance = account
        .issue(["example.test", "www.example.test"])
        .key(key)
        .solver(server.clone())
        .on_event(move |event| {
            observer.debug(&event);
            observer.push(&event.to_string());
        });
    capture.debug(&issuance);
    let issued = issuance.await.unwrap();
    capture.debug(&issued);
    capture.debug(&(issued.key(), issued.chain(), issued.order()));
    capture.debug(&issued.order().state());
    issued
}

async fn step_by_step(account: &Account, capture: &Capture) {
    let builder = account.new_order(["steps.example.test"]);
    capture.debug(&builder);
    let order = builder.create().await.unwrap();
    for authorization in order.authorizations().await.unwrap() {
        capture.debug(&authorization);
        for challenge in authorization.state().challenges.clone() {
            capture.debug(&challenge);
        }
        let kind = certwright::protocol::ChallengeType::Http01;
        capture.debug(&authorization.challenge(kind).unwrap());
    }
    let names = Identifiers::collect(["steps.example.test"]).unwrap();
    let csr = Csr::new(&CertificateKey::generate().unwrap(), &names).unwrap();
    let wait = Duration::from_millis(10);
    capture.error(&order.finalize_within(&csr, wait).await.unwrap_err());
    capture.error(&order.wait_ready_within(wait).await.unwrap_err());
}

/// Each fault that the CA can show.
async fn fail(ca: &TestCa, account: &Account, server: &Http01Server, capture: &Capture) {
    let try_it = async || {
        let issuance = account.issue(["fault.example.test"]).solver(server.clone());
        let error = issuance.timeout(Duration::from_secs(20)).await.unwrap_err();
        capture.error(&error);
        capture.push(&format!("{:?} {:?}", error.retry(), error.by_identifier()));
        error
    };
    for bad_chain in [
        BadChain::Html,
        BadChain::OtherKey,
        BadChain::OtherNames,
        BadChain::Truncated,
        BadChain::Unlinked,
    ] {
        ca.set_bad_chain(bad_chain);
        assert!(matches!(try_it().await, Error::Certificate(_)));
    }
    ca.set_bad_chain(None);

    let limit = RateLimit::Per {
        requests: 0,
        period: Duration::from_secs(3_600),
    };
    ca.set_rate_limit(ResourceKind::NewOrder, limit);
    assert!(matches!(try_it().await, Error::RateLimited(_)));
    ca.set_rate_limit(ResourceKind::NewOrder, RateLimit::Paused);
    assert!(matches!(try_it().await, Error::Paused(_)));
    ca.set_rate_limit(ResourceKind::NewOrder, None);

    ca.block("fault.example.test");
    assert!(matches!(try_it().await, Error::Refused(_)));
    ca.reject_nonces(1.0);
    capture.error(&account.refresh().await.unwrap_err());
    ca.reject_nonces(0.3);

    let port = ca.address().port();
    ca.set_http01_port(port);
    let issuance = account
        .issue(["nobody.example.test"])
        .solver(server.clone());
    let error = issuance.await.unwrap_err();
    assert!(matches!(error, Error::ValidationFailed(_)), "{error:?}");
    capture.error(&error);
}

async fn change_keys(
    client: &Client,
    account: Account,
    mac_key: MacKey,
    keys: &Keys,
    capture: &Capture,
) {
    let other_key = AccountKey::from_pkcs8_pem(&keys.other_account).unwrap();
    let other = client
        .new_account(other_key.clone())
        .agree_to_terms()
        .external_account("kid-1", mac_key);
    other.create().await.unwrap();
    capture.error(&account.change_key(other_key).await.unwrap_err());

    let next_key = AccountKey::from_pkcs8_pem(&keys.next_account).unwrap();
    let changed = account.change_key(next_key.clone()).await.unwrap();
    capture.debug(&changed);
    capture.debug(&changed.credentials().unwrap());
    capture.error(&account.refresh().await.unwrap_err());
    capture.debug(&client.find_account(next_key).await.unwrap());
    changed.deactivate().await.unwrap();
    capture.error(
        &changed
            .new_order(["example.test"])
            .create()
            .await
            .unwrap_err(),
    );
}

/// Secrets where they do not belong, and such as are damaged.
fn misuse(keys: &Keys, capture: &Capture) {
    let pem = keys.account.as_str();
    let url = "https://ca.example/directory";
    let damaged = |place: usize| {
        let mut damaged = pem.to_owned();
        damaged.replace_range(place..=place, "!");
        damaged
    };
    for pem in [
        damaged(40),
        damaged(120),
        pem.replace("PRIVATE KEY", "RSA PRIVATE KEY"),
        pem.replace("PRIVATE KEY", "EC PRIVATE KEY"),
        pem.replace("PRIVATE KEY", "SOMETHING ELSE"),
        pem.lines().take(2).collect(),
        pem.replace("-----", ""),
    ] {
        capture.error(&AccountKey::from_pem(&pem).unwrap_err());
        capture.error(&AccountKey::from_pkcs8_pem(&pem).unwrap_err());
        capture.error(&AccountKey::from_jwk(&pem).unwrap_err());
        capture.error(&CertificateKey::from_pem(&pem).unwrap_err());
        let directory = || url.try_into().unwrap();
        let account =
            r#"{"uri":"https://ca.example/1","registration":{"uri":"https://ca.example/1"}}"#;
        for error in [
            import::lego(account, &pem, directory()),
            import::certbot(account, &pem, directory()),
            import::acme_sh("ACCOUNT_URL=https://ca.example/1", &pem, directory()),
            import::instant_acme(&pem, directory()),
            // The two files, the other way round.
            import::lego(&pem, account, directory()),
            import::certbot(&pem, account, directory()),
            import::acme_sh(&pem, account, directory()),
        ] {
            capture.error(&error.unwrap_err());
        }
    }

    let key = p256::SecretKey::from_pkcs8_pem(pem).unwrap();
    let d = Base64UrlUnpadded::encode_string(&key.to_bytes());
    for jwk in [
        format!(r#"{{"kty":"EC","crv":"P-256","x":"AA","y":"AA","d":"{d}"}}"#),
        format!(r#"{{"kty":"EC","crv":"P-999","x":"AA","y":"AA","d":"{d}"}}"#),
        format!(r#"{{"kty":"EC","crv":"P-256","x":"AA","y":"AA","d":"{d}="}}"#),
        format!(r#"{{"kty":"EC","crv":"P-256","x":"AA","y":"AA","d":["{d}"]}}"#),
        format!(r#"{{"kty":"RSA","n":"AQAB","e":"AQAB","d":"{d}","p":"{d}","q":"{d}"}}"#),
        format!(r#"{{"kty":"EC","d":"{d}""#),
    ] {
        capture.error(&AccountKey::from_jwk(&jwk).unwrap_err());
    }

    for text in [
        format!("{EAB_KEY}!"),
        format!("\"{EAB_KEY}\""),
        format!("{EAB_KEY}/_"),
    ] {
        capture.error(&MacKey::parse(&text).unwrap_err());
    }

    for stored in [
        serde_json::json!({"directory": url, "account": url, "key": [pem]}),
        serde_json::json!({"directory": url, "key": pem}),
        serde_json::json!({"directory": url, "account": 7, "key": pem}),
        serde_json::json!(pem),
        serde_json::json!([pem]),
    ] {
        let stored = stored.to_string();
        capture.error(&serde_json::from_str::<AccountCredentials>(&stored).unwrap_err());
    }
}
