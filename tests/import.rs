//! Accounts of other ACME clients, used at Pebble: that of lego by the real program, those of the
//! others from files as they write them.

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

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use base64ct::{Base64UrlUnpadded, Encoding};
use certwright::import::{self, ImportFault};
use certwright::jose::AccountKey;
use certwright::protocol::{AccountStatus, Url};
use certwright::{Account, AccountCredentials, Client};
use p256::pkcs8::{DecodePrivateKey, EncodePrivateKey, LineEnding};
use serde_json::{Value, json};
use support::pebble::Pebble;
use support::servers;

async fn client(pebble: &Pebble) -> Client {
    Client::builder(pebble.directory_url())
        .add_root_pem(pebble.root_pem())
        .build()
        .await
        .unwrap()
}

/// The account that another client would have made with this key.
async fn create(client: &Client, key: AccountKey) -> Account {
    let builder = client.new_account(key).agree_to_terms();
    builder.create().await.unwrap()
}

async fn uses(client: &Client, credentials: &AccountCredentials) {
    let account = client.account(credentials).unwrap();
    let state = account.refresh().await.unwrap();
    assert_eq!(state.status, AccountStatus::Valid);
    account.new_order(["moved.example"]).create().await.unwrap();
}

fn write(directory: &Path, files: &[(&str, &str)]) {
    fs::create_dir_all(directory).unwrap();
    for (name, content) in files {
        fs::write(directory.join(name), content).unwrap();
    }
}

/// A published test key, as a JWK with its private members.
fn published_key(id: &str) -> Value {
    let keys: Value = serde_json::from_str(include_str!("vectors/keys.json")).unwrap();
    let cases = keys["cases"].as_array().unwrap();
    cases.iter().find(|key| key["id"] == id).unwrap()["jwk"].clone()
}

fn ec_key() -> p256::SecretKey {
    let pem = AccountKey::generate().unwrap().to_pkcs8_pem().unwrap();
    p256::SecretKey::from_pkcs8_pem(&pem).unwrap()
}

fn account_key(key: &p256::SecretKey) -> AccountKey {
    AccountKey::from_pkcs8_pem(&key.to_pkcs8_pem(LineEnding::LF).unwrap()).unwrap()
}

fn directory(text: &str) -> Url {
    Url::parse(text).unwrap()
}

#[tokio::test]
async fn uses_an_account_that_lego_made() {
    let Some(lego) = servers::binary("lego") else {
        return;
    };
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(lego);
    command
        .args(["--server", &pebble.directory_url()])
        .args(["--email", "ops@example.com", "--accept-tos"])
        .args(["--domains", "lego.example", "--http"])
        .args([
            "--http.port",
            &format!("127.0.0.1:{}", pebble.http01_port()),
        ])
        .arg("--path")
        .arg(home.path())
        .arg("run")
        .env("LEGO_CA_CERTIFICATES", pebble.root_path())
        .stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    assert!(output.status.success(), "{output:?}");

    let url = directory(&pebble.directory_url());
    let host = url.as_str().split('/').nth(2).unwrap().replace(':', "_");
    let folder = home
        .path()
        .join("accounts")
        .join(host)
        .join("ops@example.com");
    let credentials = import::lego_dir(&folder, url).unwrap();
    uses(&client(&pebble).await, &credentials).await;
}

#[tokio::test]
async fn uses_accounts_that_certbot_made() {
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    let client = client(&pebble).await;
    let home = tempfile::tempdir().unwrap();
    let ids = [
        "p256-xcrypto",
        #[cfg(feature = "rsa")]
        "rsa2048-xcrypto",
    ];
    for id in ids {
        let jwk = published_key(id).to_string();
        let account = create(&client, AccountKey::from_jwk(&jwk).unwrap()).await;
        let url = pebble.directory_url();
        let folder = home
            .path()
            .join("accounts")
            .join(url.strip_prefix("https://").unwrap())
            .join(format!("0123456789abcdef-{id}"));
        let registration = json!({"body": {}, "uri": account.url()}).to_string();
        let meta = r#"{"creation_dt": "2026-01-01T00:00:00Z", "creation_host": "a.example"}"#;
        write(
            &folder,
            &[
                ("regr.json", &registration),
                ("private_key.json", &jwk),
                ("meta.json", meta),
            ],
        );
        let credentials = import::certbot_dir(&folder).unwrap();
        assert_eq!(credentials.directory().as_str(), url);
        assert_eq!(credentials.account(), account.url());
        uses(&client, &credentials).await;
    }
}

#[tokio::test]
async fn uses_accounts_that_acme_sh_made() {
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    let client = client(&pebble).await;
    let key = ec_key();
    let sec1 = key.to_sec1_pem(LineEnding::LF).unwrap().to_string();
    #[cfg_attr(not(feature = "rsa"), allow(unused_mut))]
    let mut keys = vec![(account_key(&key), sec1)];
    #[cfg(feature = "rsa")]
    {
        use rsa::pkcs1::EncodeRsaPrivateKey;

        let key = AccountKey::from_jwk(&published_key("rsa2048-acme4j").to_string()).unwrap();
        let pem = key.to_pkcs8_pem().unwrap();
        let pkcs1 = rsa::RsaPrivateKey::from_pkcs8_pem(&pem).unwrap();
        keys.push((key, pkcs1.to_pkcs1_pem(LineEnding::LF).unwrap().to_string()));
    }
    for (key, pem) in keys {
        let account = create(&client, key).await;
        let home = tempfile::tempdir().unwrap();
        // acme.sh leaves the port out.
        let folder = home.path().join("ca/localhost/dir");
        let configuration = format!(
            "ACCOUNT_URL='https://localhost/old'\nCA_KEY_HASH='AAAA='\nACCOUNT_URL='{}'\n",
            account.url()
        );
        write(
            &folder,
            &[
                ("ca.conf", &configuration),
                ("account.key", &pem),
                ("account.json", r#"{"status": "valid"}"#),
            ],
        );
        let credentials = import::acme_sh_dir(&folder).unwrap();
        assert_eq!(credentials.directory().as_str(), pebble.directory_url());
        uses(&client, &credentials).await;
    }
}

#[tokio::test]
async fn uses_accounts_that_instant_acme_made() {
    let Some(pebble) = Pebble::builder().start().await else {
        return;
    };
    let client = client(&pebble).await;
    let key = ec_key();
    let account = create(&client, account_key(&key)).await;
    let der = Base64UrlUnpadded::encode_string(key.to_pkcs8_der().unwrap().as_bytes());
    let url = pebble.directory_url();
    let new = json!({"id": account.url(), "key_pkcs8": der, "directory": url});
    let credentials = import::instant_acme(&new.to_string(), None).unwrap();
    assert_eq!(credentials.directory().as_str(), url);
    uses(&client, &credentials).await;

    let urls = json!({"newNonce": "https://localhost/n", "newAccount": "https://localhost/a"});
    let old = json!({"id": account.url(), "key_pkcs8": der, "urls": urls}).to_string();
    let error = import::instant_acme(&old, None).unwrap_err();
    assert!(error.to_string().ends_with("lacks `directory`"), "{error}");
    let credentials = import::instant_acme(&old, directory(&url)).unwrap();
    uses(&client, &credentials).await;
}

#[test]
fn names_the_file_and_the_member_that_are_wrong() {
    let url = || directory("https://ca.example/directory");
    let jwk = published_key("p256-xcrypto").to_string();
    let pem = AccountKey::generate().unwrap().to_pkcs8_pem().unwrap();
    let conf = "ACCOUNT_URL='https://ca.example/1'";
    let lego = r#"{"registration": {"uri": "https://ca.example/1"}}"#;
    for (result, expected) in [
        (import::certbot("{}", &jwk, url()), "regr.json lacks `uri`"),
        (
            import::certbot(r#"{"uri": "nowhere"}"#, &jwk, url()),
            "regr.json has no URL as its `uri`: ",
        ),
        (
            import::certbot(r#"{"uri": "https://ca.example/1"}"#, "{", url()),
            "private_key.json is not the JSON object expected: line 1",
        ),
        (
            import::certbot(
                r#"{"uri": "https://ca.example/1"}"#,
                r#"{"kty": "EC"}"#,
                url(),
            ),
            "private_key.json holds no usable key: ",
        ),
        (
            import::lego(r#"{"email": "a@b.example"}"#, &pem, url()),
            "account.json lacks `registration.uri`",
        ),
        (
            import::lego(lego, "nonsense", url()),
            "keys/*.key holds no usable key: ",
        ),
        (
            import::acme_sh("CA_EMAIL='a@b.example'", &pem, url()),
            "ca.conf lacks `ACCOUNT_URL`",
        ),
        (
            import::acme_sh(conf, "", url()),
            "account.key holds no usable key: ",
        ),
        (
            import::instant_acme("[]", None),
            "AccountCredentials is not the JSON object expected: ",
        ),
        (
            import::instant_acme(
                r#"{"id": "https://ca.example/1", "key_pkcs8": "secret="}"#,
                url(),
            ),
            "AccountCredentials has no base64url as its `key_pkcs8`",
        ),
    ] {
        let text = result.unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
}

#[test]
fn names_the_path_of_a_file_that_cannot_be_read() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("accounts/ca.example/directory/0a");
    let error = import::certbot_dir(&folder).unwrap_err();
    assert!(matches!(error.fault, ImportFault::Io(_)), "{error:?}");
    assert_eq!(error.file, folder.join("regr.json").display().to_string());

    write(&folder, &[("account.json", "{}"), ("ca.conf", "")]);
    let error = import::lego_dir(&folder, directory("https://ca.example/")).unwrap_err();
    assert_eq!(error.file, folder.join("keys/0a.key").display().to_string());
    let error = import::acme_sh_dir(&folder).unwrap_err();
    assert_eq!(error.file, folder.join("ca.conf").display().to_string());

    // A folder whose path does not tell the CA's directory.
    let error = import::certbot_dir(home.path()).unwrap_err();
    assert!(
        matches!(error.fault, ImportFault::Directory(_)),
        "{error:?}"
    );
}
