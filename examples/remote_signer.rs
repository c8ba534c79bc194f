//! An account whose key is elsewhere: in a task that signs for others, and gives signatures in DER, as
//! a KMS or an HSM does. The key itself never comes here.
//!
//! ```sh
//! cargo run --example remote_signer --features test-ca
//! cargo run --example remote_signer --features test-ca -- \
//!     --directory https://localhost:14000/dir --root pebble.minica.pem
//! ```
//!
//! Without `--directory`, the CA runs inside this process.

#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use std::{env, fs};

use certwright::jose::{AccountKey, Jwk, SignatureAlgorithm, Signer, fixed_width_signature};
use certwright::test_ca::TestCa;
use certwright::{BoxError, Client};
use p256::ecdsa::Signature;
use tokio::sync::{mpsc, oneshot};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let (directory, root, _ca) = match option("--directory") {
        Some(directory) => (directory, option("--root").map(fs::read_to_string), None),
        None => {
            let ca = TestCa::builder().start().await?;
            let root = ca.root_pem().to_owned();
            (ca.directory_url().to_owned(), Some(Ok(root)), Some(ca))
        }
    };
    let mut builder = Client::builder(directory.as_str());
    if let Some(root) = root {
        builder = builder.add_root_pem(&root?);
    }
    let client = builder.build().await?;

    let signer = RemoteSigner::connect(start_kms()?).await?;
    let account = client.new_account(signer.clone()).agree_to_terms();
    let account = account.create().await?;
    println!("account     {}", account.url());
    match account.credentials() {
        Ok(_) => println!("its key is here after all"),
        Err(error) => println!("to store    its URL only: {error}"),
    }

    // In another process: the URL, and a signer for the same key.
    let account = client.account_with(account.url().clone(), signer);
    let order = account.new_order(["example.com"]).create().await?;
    println!("order       {}", order.url());
    Ok(())
}

/// A key that another task holds.
#[derive(Clone, Debug)]
struct RemoteSigner {
    kms: mpsc::Sender<Request>,
    public_key: Jwk,
}

impl RemoteSigner {
    /// Asks for the public key once: it never changes.
    async fn connect(kms: mpsc::Sender<Request>) -> Result<Self, BoxError> {
        let (reply, answer) = oneshot::channel();
        kms.send(Request::PublicKey(reply)).await?;
        Ok(Self {
            kms,
            public_key: answer.await?,
        })
    }
}

#[async_trait::async_trait]
impl Signer for RemoteSigner {
    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::Es256
    }

    fn public_key(&self) -> &Jwk {
        &self.public_key
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, BoxError> {
        let (reply, answer) = oneshot::channel();
        self.kms
            .send(Request::Sign(message.to_vec(), reply))
            .await?;
        let der = answer.await??;
        // A JWS has r and s of fixed width (RFC 7518 §3.4).
        Ok(fixed_width_signature(&der, &self.algorithm())?)
    }
}

enum Request {
    PublicKey(oneshot::Sender<Jwk>),
    Sign(Vec<u8>, oneshot::Sender<Result<Vec<u8>, BoxError>>),
}

/// Stands in for a KMS: holds the key, and answers for as long as somebody may ask.
fn start_kms() -> Result<mpsc::Sender<Request>, BoxError> {
    let key = AccountKey::generate()?;
    let (requests, mut inbox) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Some(request) = inbox.recv().await {
            // Whoever asked may have gone.
            let _ = match request {
                Request::PublicKey(reply) => reply.send(key.public_key().clone()).is_ok(),
                Request::Sign(message, reply) => reply.send(sign_der(&key, &message).await).is_ok(),
            };
        }
    });
    Ok(requests)
}

async fn sign_der(key: &AccountKey, message: &[u8]) -> Result<Vec<u8>, BoxError> {
    let signature = Signature::from_slice(&key.sign(message).await?)?;
    Ok(signature.to_der().as_bytes().to_vec())
}

fn option(name: &str) -> Option<String> {
    env::args().skip_while(|argument| argument != name).nth(1)
}
