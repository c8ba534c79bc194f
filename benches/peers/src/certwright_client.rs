//! certwright as its front page shows it.

use std::error::Error;

use certwright::jose::{AccountKey, Signer as _};
use certwright::protocol::{ChallengeType, Identifier};
use certwright::solver::{ChallengeSolver, Presentation};
use certwright::transport::HyperTransport;
use certwright::{Account, BoxError, Client};

use crate::client::Task;

#[derive(Clone)]
pub(crate) struct CertwrightClient {
    account: Account,
}

impl CertwrightClient {
    pub(crate) async fn new(task: &Task) -> Result<(Self, String), BoxError> {
        // As instant-acme does it with a root of one's own: no other is trusted.
        let transport = HyperTransport::builder()
            .add_root_pem(&std::fs::read_to_string(&task.root)?)
            .without_platform_roots()
            .build()?;
        let client = Client::builder(task.directory.as_str())
            .transport(transport)
            .build()
            .await?;
        let key = AccountKey::generate()?;
        let thumbprint = key.public_key().thumbprint().to_string();
        let account = client.new_account(key).agree_to_terms().create().await?;
        Ok((Self { account }, thumbprint))
    }

    pub(crate) async fn issue(&self, names: &[String]) -> Result<(), BoxError> {
        let issued = self.account.issue(names).solver(Stateless).await?;
        let key = issued.key().to_pkcs8_pem()?;
        complete(issued.chain().pem(), &key)
    }
}

/// Both libraries hand out a chain and a key in PEM.
pub(crate) fn complete(chain: &str, key: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
    let is_pem = |text: &str, label: &str| text.contains(&format!("-----END {label}-----"));
    match is_pem(chain, "CERTIFICATE") && is_pem(key, "PRIVATE KEY") {
        true => Ok(()),
        false => Err("there is no chain, or no key".into()),
    }
}

/// The responder answers by the thumbprint alone.
struct Stateless;

#[async_trait::async_trait]
impl ChallengeSolver for Stateless {
    fn can_solve(&self, identifier: &Identifier, kind: &ChallengeType) -> bool {
        *kind == ChallengeType::Http01 && kind.can_validate(identifier)
    }

    async fn present(&self, _: &Presentation) -> Result<(), BoxError> {
        Ok(())
    }

    async fn clean_up(&self, _: &Presentation) -> Result<(), BoxError> {
        Ok(())
    }
}
