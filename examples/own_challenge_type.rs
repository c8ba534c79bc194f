//! Proves control by a challenge of a type that certwright has no solver for: a device attests, and
//! the attestation is what is sent to the CA, as for device-attest-01.
//!
//! ```sh
//! cargo run --example own_challenge_type --features test-ca # at a CA inside this process
//! ```

#![allow(clippy::print_stdout, reason = "a program for the terminal")]

use std::error::Error;

use async_trait::async_trait;
use certwright::jose::{AccountKey, Jwk, SignatureAlgorithm, Signer};
use certwright::protocol::{
    Base64Url, ChallengeResponse, ChallengeType, Identifier, Problem, ProblemType,
};
use certwright::solver::{ChallengeSolver, Presentation};
use certwright::test_ca::{ChallengeAttempt, CustomChallenge, TestCa};
use certwright::{BoxError, Client};
use serde::{Deserialize, Serialize};

/// What the CA is sent. A real one has the device's certificates beside the signature.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Attestation {
    att_obj: Base64Url,
}

/// A device that signs by a key which its maker vouches for.
struct Device {
    key: AccountKey,
}

#[async_trait]
impl ChallengeSolver for Device {
    fn can_solve(&self, _identifier: &Identifier, challenge_type: &ChallengeType) -> bool {
        *challenge_type == ChallengeType::DeviceAttest01
    }

    /// Nothing has to be visible to the CA.
    async fn present(&self, _presentation: &Presentation) -> Result<(), BoxError> {
        Ok(())
    }

    async fn response(&self, presentation: &Presentation) -> Result<ChallengeResponse, BoxError> {
        let key_authorization = presentation
            .key_authorization()
            .ok_or("the challenge has no token")?;
        let att_obj = self.key.sign(key_authorization.as_str().as_bytes()).await?;
        Ok(ChallengeResponse::new(&Attestation {
            att_obj: att_obj.into(),
        })?)
    }

    async fn clean_up(&self, _presentation: &Presentation) -> Result<(), BoxError> {
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let device = AccountKey::generate()?;
    let known = device.public_key().clone();
    let challenge = CustomChallenge::new(ChallengeType::DeviceAttest01, move |attempt| {
        validate(attempt, &known)
    });
    let ca = TestCa::builder().challenge(challenge).start().await?;
    let client = Client::builder(ca.directory_url().as_str())
        .add_root_pem(ca.root_pem())
        .build()
        .await?;
    let account = client
        .new_account(AccountKey::generate()?)
        .agree_to_terms()
        .create()
        .await?;

    let issued = account
        .issue(["device-1.example"])
        .solver(Device { key: device })
        .await?;
    println!("certificate  {}", issued.certificate().url());

    let stranger = Device {
        key: AccountKey::generate()?,
    };
    match account.issue(["device-2.example"]).solver(stranger).await {
        Ok(issued) => Err(format!("{} was issued", issued.certificate().url()).into()),
        Err(error) => {
            println!("another key  {error}");
            Ok(())
        }
    }
}

/// What the CA does.
fn validate(attempt: &ChallengeAttempt, device: &Jwk) -> Result<(), Box<Problem>> {
    let bad = |fault: String| Box::new(Problem::new(ProblemType::BadAttestationStatement, fault));
    let response = serde_json::Value::Object(attempt.response.clone());
    let attestation: Attestation =
        serde_json::from_value(response).map_err(|error| bad(error.to_string()))?;
    let token = attempt.challenge.raw_token.as_deref().unwrap_or_default();
    let expected = format!("{token}.{}", attempt.thumbprint);
    let signature = attestation.att_obj.as_bytes();
    device
        .verify(&SignatureAlgorithm::Es256, expected.as_bytes(), signature)
        .map_err(|fault| bad(fault.to_string()))
}
