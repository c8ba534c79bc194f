//! What there is to do with a certificate: its chains, its renewal, its revocation.
//!
//! At Pebble, and at a CA that follows a script where Pebble can't be made to do what is tested.

#![cfg(all(
    feature = "http-01",
    feature = "hyper",
    any(feature = "aws-lc-rs", feature = "ring")
))]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod support;

use std::net::Ipv4Addr;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use certwright::error::{ConfigurationError, Operation, ReplyFault};
use certwright::issuance::Issued;
use certwright::jose::{AccountKey, Jwk};
use certwright::protocol::{ProblemType, Resource, RevocationReason, Url};
use certwright::renewal::{RenewalAction, RenewalAdvice, RenewalPlan};
use certwright::solver::Http01Server;
use certwright::transport::TransportFault;
use certwright::x509::{
    CertificateChain, CertificateKey, ChainChoice, InvalidChain, InvalidCrl, RevocationStatus,
};
use certwright::{Account, Client, Error};
use der::asn1::{BitString, Ia5String, OctetString};
use der::oid::ObjectIdentifier;
use der::oid::db::rfc5912::ECDSA_WITH_SHA_256;
use der::pem::LineEnding;
use der::{Encode, EncodePem};
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::elliptic_curve::Generate;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::examples;
use support::pebble::{Builder as PebbleBuilder, Pebble};
use support::script::{BASE, Script, raw, refusal, with_header};
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{Builder, CertificateBuilder};
use x509_cert::crl::{CertificateList, RevokedCert, TbsCertList};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::crl::CrlReason;
use x509_cert::ext::pkix::crl::dp::DistributionPoint;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, CrlDistributionPoints, SubjectAltName};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfo, SubjectPublicKeyInfoRef};
use x509_cert::time::{Time, Validity};

const HOUR: Duration = Duration::from_secs(3600);

async fn client(pebble: &Pebble) -> Client {
    Client::builder(pebble.directory_url())
        .add_root_pem(pebble.root_pem())
        .build()
        .await
        .unwrap()
}

async fn account(client: &Client) -> Account {
    let key = AccountKey::generate().unwrap();
    let account = client.new_account(key).agree_to_terms();
    account.create().await.unwrap()
}

/// A Pebble, an account at it, and a certificate.
async fn issued(builder: PebbleBuilder) -> Option<(Pebble, Account, Issued)> {
    let pebble = builder.start().await?;
    let account = account(&client(&pebble).await).await;
    let issued = account
        .issue(["certificates.example"])
        .solver(server(&pebble).await)
        .await
        .unwrap();
    Some((pebble, account, issued))
}

async fn server(pebble: &Pebble) -> Http01Server {
    let address = (Ipv4Addr::LOCALHOST, pebble.http01_port());
    Http01Server::bind(address).await.unwrap()
}

async fn root(pebble: &Pebble, number: usize) -> CertificateDer<'static> {
    let pem = pebble.management_get(&format!("/roots/{number}")).await;
    CertificateDer::from_pem_slice(&pem.body).unwrap()
}

fn common_name(name: &str) -> String {
    name.rsplit("CN=").next().unwrap().to_owned()
}

#[tokio::test]
async fn chooses_among_the_chains_of_pebble() {
    let Some((pebble, account, issued)) = issued(Pebble::builder().alternate_roots(2)).await else {
        return;
    };
    let certificate = issued.certificate();
    let alternates = certificate.alternates().await.unwrap();
    assert_eq!(alternates.len(), 2);
    for alternate in &alternates {
        assert_eq!(alternate.leaf(), certificate.chain().leaf());
        assert_ne!(alternate.root_issuer(), certificate.chain().root_issuer());
    }

    // Each of the three chains, by each property that no other has.
    for number in 0..3 {
        let root = root(&pebble, number).await;
        let by_root = certificate
            .require(&ChainChoice::root(root.clone()).unwrap())
            .await
            .unwrap();
        let chain = by_root.chain();
        let issuer = chain.certificates().last().unwrap();
        let fingerprint: String = Sha256::digest(issuer)
            .iter()
            .map(|octet| format!("{octet:02X}"))
            .collect();
        for choice in [
            ChainChoice::root_name(common_name(&chain.root_issuer())),
            ChainChoice::issuer_name(common_name(&chain.root_issuer())),
            ChainChoice::fingerprint(&fingerprint).unwrap(),
            ChainChoice::trusted_by([root]).unwrap(),
        ] {
            let chosen = certificate.choose(&choice).await;
            assert!(chosen.is_as_chosen(), "{choice}");
            assert_eq!(chosen.chain().pem(), chain.pem(), "{choice}");
        }
    }
    let shortest = certificate.choose(&ChainChoice::shortest()).await;
    assert_eq!(shortest.chain().pem(), certificate.chain().pem());

    // What was chosen can be undone.
    let other = certificate
        .choose(&ChainChoice::root(root(&pebble, 1).await).unwrap())
        .await;
    let back = other.choose(&ChainChoice::offered()).await;
    assert_eq!(back.chain().pem(), certificate.chain().pem());

    // An issuance chooses, and falls back where it may.
    let name = common_name(&alternates[1].root_issuer());
    let server = server(&pebble).await;
    let again = account
        .issue(["again.example"])
        .solver(server.clone())
        .chain(ChainChoice::root_name(&name))
        .await
        .unwrap();
    assert!(again.certificate().is_as_chosen());
    assert_eq!(common_name(&again.chain().root_issuer()), name);

    let nobody = || ChainChoice::root_name("Nobody's Root");
    let fallen = account
        .issue(["fallen.example"])
        .solver(server.clone())
        .chain(nobody())
        .await
        .unwrap();
    assert!(!fallen.certificate().is_as_chosen());
    let error = account
        .issue(["required.example"])
        .solver(server)
        .require_chain(nobody())
        .await
        .unwrap_err();
    let Error::NoChain(missing) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(missing.offered, 3);
    assert!(error.to_string().contains("Nobody's Root"), "{error}");
    // The certificate is there all the same.
    let certificate = account
        .certificate(missing.certificate.clone())
        .await
        .unwrap();
    let names = certificate.chain().identifiers();
    assert_eq!(names, &["required.example".parse().unwrap()].into());
}

#[tokio::test]
async fn takes_chains_of_any_length() {
    for length in 1..=3 {
        let builder = Pebble::builder().chain_length(length);
        let Some((_pebble, account, issued)) = issued(builder).await else {
            return;
        };
        let chain = issued.chain();
        assert_eq!(chain.certificates().len(), 1 + usize::from(length));

        // By its URL, the same one is had again.
        let url = issued.certificate().url().clone();
        let again = account.certificate(url).await.unwrap();
        assert_eq!(again.chain().pem(), chain.pem());
        assert!(again.alternates().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_there_can_not_be_read() {
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    let account = account(&client(&pebble).await).await;
    let url = pebble.directory_url().replace("/dir", "/certZ/none");
    let url = Url::parse(&url).unwrap();
    let error = account.certificate(url).await.unwrap_err();
    assert!(matches!(error, Error::Refused(_)), "{error:?}");
}

#[tokio::test]
async fn reads_renewal_information_and_follows_it() {
    let Some((pebble, account, issued)) = issued(Pebble::builder()).await else {
        return;
    };
    let chain = issued.chain();
    let now = SystemTime::now();
    let advice = issued.certificate().renewal_info().await.unwrap();
    let window = advice.info.suggested_window;
    assert!(now < window.start() && window.end() < chain.not_after());
    assert_eq!(advice.poll_after, 6 * HOUR);

    let mut plan = RenewalPlan::new(chain.not_before(), chain.not_after());
    assert_eq!(plan.next(now), RenewalAction::Poll);
    plan.advise(&advice, now, 1 << 63);
    assert_eq!(plan.next(now), RenewalAction::Wait(now + 6 * HOUR));
    let moment = plan.renew_at();
    assert!(window.start() < moment && moment < window.end());
    assert!(plan.should_renew(window.end()));

    // The CA moves the window into the past, as it does where it must revoke.
    let past = json!({
        "suggestedWindow": {
            "start": "2024-01-02T04:00:00Z",
            "end": "2024-01-03T04:00:00Z",
        },
        "explanationURL": "https://ca.example/incident",
    });
    set_renewal_info(&pebble, chain, &past.to_string()).await;
    // No account is needed.
    let advice = account.client().renewal_info(chain).await.unwrap();
    plan.advise(&advice, now, 0);
    assert_eq!(plan.next(now), RenewalAction::Renew);
    assert_eq!(plan.explanation_url(), Some("https://ca.example/incident"));

    let mut fresh = RenewalPlan::new(chain.not_before(), chain.not_after());
    for garbage in [
        "{not json",
        "[]",
        r#"{"suggestedWindow": {}}"#,
        r#"{"suggestedWindow": {"start": "2025-01-02T04:00:00Z", "end": "2025-01-02T04:00:00Z"}}"#,
    ] {
        set_renewal_info(&pebble, chain, garbage).await;
        let error = issued.certificate().renewal_info().await.unwrap_err();
        let Error::Reply(fault) = &error else {
            panic!("{garbage}: {error:?}");
        };
        assert_eq!(fault.operation, Operation::RenewalInfo);
        assert!(matches!(fault.fault, ReplyFault::Json { .. }), "{error}");
        fresh.fail(&error, now);
        assert_eq!(fresh.poll_at(), Some(now + 6 * HOUR));
    }
}

async fn set_renewal_info(pebble: &Pebble, chain: &CertificateChain, body: &str) {
    let pem = chain.pem();
    let end = pem.find("-----END CERTIFICATE-----").unwrap();
    let leaf = format!("{}-----END CERTIFICATE-----\n", &pem[..end]);
    let request = json!({ "Certificate": leaf, "ARIResponse": body });
    let response = pebble.management_post("/set-renewal-info/", &request).await;
    let status = response.status;
    assert_eq!(status, 200, "{}", response.text());
}

#[tokio::test]
async fn revokes_in_the_name_of_the_account() {
    let Some((pebble, account, issued)) = issued(Pebble::builder()).await else {
        return;
    };
    let certificate = issued.certificate();
    let leaf = certificate.chain().leaf();
    assert_eq!(status(&pebble, &issued).await["Status"], "Valid");

    // Another account has nothing to do with it, nor has another key.
    let stranger = self::account(account.client()).await;
    let error = stranger.revoke(leaf, None).await.unwrap_err();
    assert_eq!(error.problem().unwrap().kind, ProblemType::Unauthorized);
    let key = CertificateKey::generate().unwrap();
    let client = account.client();
    let error = client.revoke_with_key(leaf, &key, None).await.unwrap_err();
    assert_eq!(error.problem().unwrap().kind, ProblemType::Unauthorized);

    // Refused by Pebble's own rules, and by ours before it is asked.
    let error = certificate
        .revoke(Some(RevocationReason::Other(7)))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::Configuration(ConfigurationError::RevocationReason(7))
        ),
        "{error:?}"
    );
    assert_eq!(status(&pebble, &issued).await["Status"], "Valid");

    let reason = Some(RevocationReason::Superseded);
    account.revoke(leaf, reason).await.unwrap();
    assert_eq!(status(&pebble, &issued).await["Status"], "Revoked");
    // Once more is a success too.
    certificate.revoke(reason).await.unwrap();
    let key = issued.key();
    client.revoke_with_key(leaf, key, reason).await.unwrap();
}

#[tokio::test]
async fn revokes_in_the_name_of_the_certificates_key() {
    let Some((pebble, _, issued)) = issued(Pebble::builder()).await else {
        return;
    };
    // No account: only the chain and the key are at hand.
    let client = client(&pebble).await;
    let (leaf, key) = (issued.chain().leaf(), issued.key());
    let reason = Some(RevocationReason::KeyCompromise);
    client.revoke_with_key(leaf, key, reason).await.unwrap();
    assert_eq!(status(&pebble, &issued).await["Status"], "Revoked");
    client.revoke_with_key(leaf, key, reason).await.unwrap();
}

async fn status(pebble: &Pebble, issued: &Issued) -> Value {
    let serial = issued.chain().serial_number();
    let path = format!("/cert-status-by-serial/{serial}");
    serde_json::from_slice(&pebble.management_get(&path).await.body).unwrap()
}

#[tokio::test]
async fn says_what_is_in_a_certificate_of_pebble() {
    let Some((_pebble, _, issued)) = issued(Pebble::builder()).await else {
        return;
    };
    let chain = issued.chain();
    let details = chain.details().unwrap();
    assert_eq!(&details.identifiers, chain.identifiers());
    assert_eq!(details.serial_number, chain.serial_number());
    assert!(
        details.issuer.contains("Pebble Intermediate CA"),
        "{details:?}"
    );
    assert!(details.authority_key_identifier.is_some());
    assert!(!details.must_staple && details.signed_certificate_timestamps.is_empty());
    // Pebble publishes no list.
    assert_eq!(
        issued.certificate().revocation_status().await.unwrap(),
        RevocationStatus::NoDistributionPoint
    );
}

#[tokio::test]
async fn the_examples_run() {
    for (example, expected) in [
        ("chain_choice", "certwright test CA alternate root 2"),
        ("renewal_info", "ask again in"),
        ("revocation", "reason: Some(Superseded)"),
    ] {
        let text = examples::text(&examples::run(example, [""; 0]));
        assert!(text.contains(expected), "{text}");
    }

    let Some(pebble) = Pebble::builder().alternate_roots(1).start().await else {
        return;
    };
    for (example, own, expected) in [
        (
            "chain_choice",
            ["--root-name", "Nobody"],
            "for the CA has no such chain",
        ),
        ("renewal_info", ["--domain", "b.example"], "ask again in"),
        ("revocation", ["--by", "account"], "taken as done"),
        ("revocation", ["--by", "key"], "taken as done"),
    ] {
        let output = examples::command(example)
            .args(["--directory", &pebble.directory_url()])
            .args(["--root", pebble.root_path().to_str().unwrap()])
            .args(["--http-port", &pebble.http01_port().to_string()])
            .args(["--domain", "a.example"])
            .args(own)
            .output()
            .expect("cargo can be run");
        let text = examples::text(&output);
        assert!(text.contains(expected), "{text}");
    }
}

/// A certificate's issuer, which a script can make anything with.
struct Issuer {
    key: SigningKey,
    root: SigningKey,
}

struct Profile(&'static str, &'static str, Vec<Extension>);

impl BuilderProfile for Profile {
    fn get_issuer(&self, _: &Name) -> Name {
        Name::from_str(self.1).unwrap()
    }

    fn get_subject(&self) -> Name {
        Name::from_str(self.0).unwrap()
    }

    fn build_extensions(
        &self,
        _: SubjectPublicKeyInfoRef<'_>,
        _: SubjectPublicKeyInfoRef<'_>,
        _: &x509_cert::TbsCertificate,
    ) -> x509_cert::builder::Result<Vec<Extension>> {
        Ok(self.2.clone())
    }
}

impl Issuer {
    const SERIAL: [u8; 5] = [0x00, 0x87, 0x65, 0x43, 0x21];

    fn new() -> Self {
        Self {
            key: SigningKey::generate(),
            root: SigningKey::generate(),
        }
    }

    fn leaf(&self, crl_urls: &[&str]) -> String {
        let authority = AuthorityKeyIdentifier {
            key_identifier: Some(OctetString::new([1, 2, 3]).unwrap()),
            ..AuthorityKeyIdentifier::default()
        };
        let names = vec![GeneralName::DnsName(Ia5String::new("a.example").unwrap())];
        let mut extensions = vec![
            extension("2.5.29.17", SubjectAltName(names)),
            extension("2.5.29.35", authority),
        ];
        if !crl_urls.is_empty() {
            let points = crl_urls.iter().map(|url| DistributionPoint {
                distribution_point: Some(DistributionPointName::FullName(vec![
                    GeneralName::UniformResourceIdentifier(Ia5String::new(*url).unwrap()),
                ])),
                reasons: None,
                crl_issuer: None,
            });
            extensions.push(extension(
                "2.5.29.31",
                CrlDistributionPoints(points.collect()),
            ));
        }
        let key = SigningKey::generate();
        let profile = Profile("CN=a.example", "CN=issuer", extensions);
        certificate(profile, &key, &self.key)
    }

    /// The issuer's own certificate, below a root.
    fn below(&self, root: &'static str) -> String {
        certificate(Profile("CN=issuer", root, vec![]), &self.key, &self.root)
    }

    fn chain(&self, crl_urls: &[&str]) -> CertificateChain {
        let pem = format!("{}{}", self.leaf(crl_urls), self.below("CN=root"));
        CertificateChain::from_pem(&pem).unwrap()
    }

    /// A list that has the leaf revoked, or not.
    fn crl(&self, revoked: bool) -> Vec<u8> {
        let algorithm = AlgorithmIdentifierOwned {
            oid: ECDSA_WITH_SHA_256,
            parameters: None,
        };
        let time = |time: SystemTime| Time::try_from(time).unwrap();
        let entry = RevokedCert {
            serial_number: SerialNumber::new(&Self::SERIAL[1..]).unwrap(),
            revocation_date: time(SystemTime::UNIX_EPOCH + HOUR),
            crl_entry_extensions: Some(vec![extension("2.5.29.21", CrlReason::KeyCompromise)]),
        };
        let list: TbsCertList = TbsCertList {
            version: x509_cert::Version::V2,
            signature: algorithm.clone(),
            issuer: Name::from_str("CN=issuer").unwrap(),
            this_update: time(SystemTime::now() - HOUR),
            next_update: Some(time(SystemTime::now() + HOUR)),
            revoked_certificates: revoked.then(|| vec![entry]),
            crl_extensions: None,
        };
        let signature: DerSignature = self.key.sign(&list.to_der().unwrap());
        CertificateList {
            tbs_cert_list: list,
            signature_algorithm: algorithm,
            signature: BitString::from_bytes(signature.as_bytes()).unwrap(),
        }
        .to_der()
        .unwrap()
    }
}

fn certificate(profile: Profile, key: &SigningKey, signer: &SigningKey) -> String {
    CertificateBuilder::new(
        profile,
        SerialNumber::new(&Issuer::SERIAL[1..]).unwrap(),
        Validity::from_now(HOUR).unwrap(),
        SubjectPublicKeyInfo::from_key(key.verifying_key()).unwrap(),
    )
    .unwrap()
    .build::<_, DerSignature>(signer)
    .unwrap()
    .to_pem(LineEnding::LF)
    .unwrap()
}

fn extension(oid: &str, value: impl Encode) -> Extension {
    Extension {
        extn_id: ObjectIdentifier::from_str(oid).unwrap(),
        critical: false,
        extn_value: OctetString::new(value.to_der().unwrap()).unwrap(),
    }
}

/// A directory with this base of renewal information.
fn directory(renewal_info: &str) -> String {
    json!({
        "newNonce": format!("{BASE}/nonce"),
        "newAccount": format!("{BASE}/new-account"),
        "newOrder": format!("{BASE}/new-order"),
        "renewalInfo": format!("{BASE}{renewal_info}"),
    })
    .to_string()
}

/// Answers the certificate's URL with a chain, and links to the alternates.
fn offer(script: &Script, chain: String, alternates: &'static [&'static str]) {
    script.on("/certificate/1", move |_| {
        let mut response = raw(200, chain.clone());
        for path in alternates {
            let link = format!("<{BASE}{path}>;rel=\"alternate\"");
            response = with_header(response, "link", &link);
        }
        Ok(response)
    });
}

async fn read(script: &Script) -> certwright::Certificate {
    let account = script.account().await;
    let url = Url::parse(&format!("{BASE}/certificate/1")).unwrap();
    account.certificate(url).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn alternates_that_are_none_are_passed_over() {
    let issuer = Issuer::new();
    let leaf = issuer.leaf(&[]);
    let script = Script::default();
    offer(
        &script,
        format!("{leaf}{}", issuer.below("CN=first")),
        &[
            "/other",
            "/gone",
            "/broken",
            "/junk",
            "/certificate/1",
            "/good",
            "/good",
        ],
    );
    let other = format!("{}{}", issuer.leaf(&[]), issuer.below("CN=other"));
    script.on_body("/other", 200, other);
    script.on("/broken", |_| Err(TransportFault::Interrupted.into()));
    script.on_body("/junk", 200, "<html></html>");
    let good = format!("{leaf}{}", issuer.below("CN=good"));
    script.on_body("/good", 200, good);

    let certificate = read(&script).await;
    let good = ChainChoice::root_name("good");
    let chosen = certificate.choose(&good).await;
    assert_eq!(chosen.chain().root_issuer(), "CN=good");
    assert_eq!(
        script.asked("/good").len(),
        1,
        "linked to twice, asked once"
    );
    assert_eq!(script.asked("/certificate/1").len(), 1);

    let fallen = certificate.choose(&ChainChoice::root_name("other")).await;
    assert!(!fallen.is_as_chosen());
    assert_eq!(fallen.chain().root_issuer(), "CN=first");

    // Who wants all of them is told what is wrong with one.
    match certificate.alternates().await.unwrap_err() {
        Error::Certificate(bad) => {
            assert_eq!(bad.fault, InvalidChain::OtherLeaf);
            assert!(bad.url.as_str().ends_with("/other"));
        }
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn alternates_are_not_asked_for_without_need_nor_without_end() {
    let issuer = Issuer::new();
    let script = Script::default();
    let chain = format!("{}{}", issuer.leaf(&[]), issuer.below("CN=first"));
    const PATHS: [&str; 12] = [
        "/0", "/1", "/2", "/3", "/4", "/5", "/6", "/7", "/8", "/9", "/10", "/11",
    ];
    offer(&script, chain.clone(), &PATHS);
    for path in PATHS {
        script.on_body(path, 200, &chain);
    }
    let asked = || {
        PATHS
            .iter()
            .filter(|path| !script.asked(path).is_empty())
            .count()
    };
    let certificate = read(&script).await;
    certificate.choose(&ChainChoice::offered()).await;
    assert_eq!(asked(), 0);
    certificate.choose(&ChainChoice::root_name("nobody")).await;
    assert_eq!(asked(), 8);
}

#[tokio::test]
async fn a_bare_leaf_is_a_chain() {
    let script = Script::default();
    offer(&script, Issuer::new().leaf(&[CRL]), &[]);
    let certificate = read(&script).await;
    assert_eq!(certificate.chain().certificates().len(), 1);
    let shortest = certificate.choose(&ChainChoice::shortest()).await;
    assert!(shortest.is_as_chosen());
    let status = certificate.revocation_status().await.unwrap();
    assert_eq!(status, RevocationStatus::IssuerUnknown);
}

fn window() -> String {
    json!({"suggestedWindow": {"start": "2030-01-02T04:00:00Z", "end": "2030-01-03T04:00:00Z"}})
        .to_string()
}

#[tokio::test]
async fn renewal_information_is_asked_for_unsigned_and_by_the_certificates_id() {
    let chain = Issuer::new().chain(&[]);
    assert_eq!(chain.certificate_id().unwrap().as_str(), "AQID.AIdlQyE");
    for base in ["/renewal", "/renewal/"] {
        for (retry_after, expected) in [
            (None, RenewalAdvice::USUAL_POLL),
            (Some("0"), RenewalAdvice::SHORTEST_POLL),
            (Some("7200"), 2 * HOUR),
            (Some("99999999999999999999"), RenewalAdvice::LONGEST_POLL),
            (
                Some("Fri, 31 Dec 9999 23:59:59 GMT"),
                RenewalAdvice::LONGEST_POLL,
            ),
            (Some("soon"), RenewalAdvice::USUAL_POLL),
        ] {
            let script = Script::default();
            script.on_body("/directory", 200, directory(base));
            let path = "/renewal/AQID.AIdlQyE";
            script.on(path, move |_| {
                let response = raw(200, window());
                Ok(match retry_after {
                    Some(value) => with_header(response, "retry-after", value),
                    None => response,
                })
            });
            let advice = script.client().await.renewal_info(&chain).await.unwrap();
            assert_eq!(advice.poll_after, expected, "{retry_after:?}");
            let asked = script.asked(path);
            assert_eq!((asked.len(), asked[0].method.as_str()), (1, "GET"));
            assert_eq!(script.asked("/nonce").len(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn renewal_information_that_is_not_there_is_a_typed_error() {
    let chain = Issuer::new().chain(&[]);
    let script = Script::default();
    let error = script
        .client()
        .await
        .renewal_info(&chain)
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Unsupported(Resource::RenewalInfo)),
        "{error:?}"
    );

    let path = "/renewal/AQID.AIdlQyE";
    let now = SystemTime::now();
    for (status, polled_after) in [(404, 6 * HOUR), (503, Duration::from_secs(60))] {
        let script = Script::default();
        script.on_body("/directory", 200, directory("/renewal"));
        script.on_body(path, status, "");
        let error = script
            .client()
            .await
            .renewal_info(&chain)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Refused(_)), "{error:?}");
        let mut plan = RenewalPlan::new(now, now + 2000 * HOUR);
        plan.fail(&error, now);
        assert_eq!(plan.poll_at(), Some(now + polled_after), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_revocation_is_sent_again_when_its_reply_is_lost() {
    let chain = Issuer::new().chain(&[]);
    let script = Script::default();
    script.on("/revoke", |asked| match asked.before {
        0 => Err(TransportFault::Interrupted.into()),
        _ => Ok(refusal(400, "alreadyRevoked")),
    });
    let account = script.account().await;
    let reason = Some(RevocationReason::CessationOfOperation);
    account.revoke(chain.leaf(), reason).await.unwrap();
    let asked = script.asked("/revoke");
    assert_eq!(asked.len(), 2);
    for request in asked {
        let header = request.header.clone().unwrap();
        assert_eq!(header.kid, Some(format!("{BASE}/account/1")));
        assert_eq!(header.jwk, None);
        assert_eq!(request.payload["reason"], 5);
    }

    script.on("/revoke", |_| Ok(refusal(403, "unauthorized")));
    let error = account.revoke(chain.leaf(), None).await.unwrap_err();
    assert_eq!(error.problem().unwrap().kind, ProblemType::Unauthorized);
    assert!(
        error.to_string().starts_with("revoking the certificate"),
        "{error}"
    );
}

#[tokio::test]
async fn a_revocation_by_the_certificates_key_names_no_account() {
    let chain = Issuer::new().chain(&[]);
    let script = Script::default();
    let client = script.client().await;
    let key = CertificateKey::generate().unwrap();
    client
        .revoke_with_key(chain.leaf(), &key, None)
        .await
        .unwrap();
    let asked = script.asked("/revoke");
    let header = asked[0].header.clone().unwrap();
    assert!(matches!(header.jwk, Some(Jwk::Ec { .. })));
    assert_eq!(header.kid, None);
    // Without a reason, the member is left out.
    assert_eq!(asked[0].payload.as_object().unwrap().len(), 1);

    for code in [7, 11, 255] {
        let reason = Some(RevocationReason::Other(code));
        let error = client.revoke_with_key(chain.leaf(), &key, reason).await;
        assert!(matches!(error, Err(Error::Configuration(_))), "{code}");
    }
    assert_eq!(script.asked("/revoke").len(), 1, "none of these was sent");

    let mut without: Value = serde_json::from_str(&directory("/renewal")).unwrap();
    without.as_object_mut().unwrap().remove("revokeCert");
    script.on_body("/directory", 200, without.to_string());
    let client = script.client().await;
    let error = client.revoke_with_key(chain.leaf(), &key, None).await;
    assert!(matches!(
        error,
        Err(Error::Unsupported(Resource::RevokeCert))
    ));
}

const CRL: &str = "http://crl.example/1.crl";

#[tokio::test]
async fn the_list_of_revoked_certificates_is_asked() {
    let issuer = Issuer::new();
    let chain = issuer.chain(&["ldap://crl.example/", CRL]);
    let script = Script::default();
    let client = script.client().await;

    script.on_body(CRL, 200, issuer.crl(false));
    let good = client.revocation_status(&chain).await.unwrap();
    assert!(matches!(good, RevocationStatus::Good { .. }), "{good:?}");
    script.on_body(CRL, 200, issuer.crl(true));
    assert_eq!(
        client.revocation_status(&chain).await.unwrap(),
        RevocationStatus::Revoked {
            time: SystemTime::UNIX_EPOCH + HOUR,
            reason: Some(RevocationReason::KeyCompromise),
        }
    );

    let none = issuer.chain(&[]);
    let status = client.revocation_status(&none).await.unwrap();
    assert_eq!(status, RevocationStatus::NoDistributionPoint);
    let bare = CertificateChain::from_pem(&issuer.leaf(&[CRL])).unwrap();
    let status = client.revocation_status(&bare).await.unwrap();
    assert_eq!(status, RevocationStatus::IssuerUnknown);
    assert_eq!(script.asked(CRL).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_says_nothing_is_an_error_unless_another_does() {
    let issuer = Issuer::new();
    let other = "http://other.example/1.crl";
    let chain = issuer.chain(&[CRL, other]);
    let script = Script::default();
    let client = script.client().await;
    script.on_body(CRL, 200, Issuer::new().crl(false));
    script.on_body(other, 200, "nonsense");
    let error = client.revocation_status(&chain).await.unwrap_err();
    let Error::Crl(bad) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(
        (bad.url.as_str(), &bad.fault),
        (other, &InvalidCrl::Structure)
    );

    script.on_body(other, 200, issuer.crl(false));
    let good = client.revocation_status(&chain).await.unwrap();
    assert!(matches!(good, RevocationStatus::Good { .. }), "{good:?}");
}

#[tokio::test]
async fn a_list_does_not_lead_to_private_machines_nor_fill_the_memory() {
    let issuer = Issuer::new();
    let chain = issuer.chain(&[CRL]);
    let script = Script::default();
    let client = script.client().await;
    for target in [
        "http://169.254.169.254/latest/meta-data",
        "http://127.0.0.1/x",
        "http://[::1]/x",
        "http://localhost/x",
        "http://0x7f.1/x",
    ] {
        script.on(CRL, move |_| {
            Ok(with_header(raw(302, ""), "location", target))
        });
        let error = client.revocation_status(&chain).await.unwrap_err();
        let Error::Reply(fault) = &error else {
            panic!("{error:?}");
        };
        assert!(matches!(fault.fault, ReplyFault::PrivateHost(_)), "{error}");
        assert!(script.asked(target).is_empty());
    }
    script.on(CRL, |_| {
        Ok(with_header(
            raw(301, ""),
            "location",
            "https://other.example/crl",
        ))
    });
    script.on_body("https://other.example/crl", 200, issuer.crl(false));
    client.revocation_status(&chain).await.unwrap();

    script.on(CRL, |_| Ok(raw(200, vec![0; (16 << 20) + 1])));
    let error = client.revocation_status(&chain).await.unwrap_err();
    assert!(
        error.to_string().contains("larger than 16777216 octets"),
        "{error}"
    );
}
