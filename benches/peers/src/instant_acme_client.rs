//! instant-acme as its example `provision` shows it, with http-01 in place of dns-01.

use std::error::Error;
use std::hint::black_box;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, OrderStatus,
    RetryPolicy,
};

use crate::certwright_client::complete;
use crate::client::Task;

type BoxError = Box<dyn Error + Send + Sync>;

#[derive(Clone)]
pub(crate) struct InstantAcmeClient {
    account: Account,
    polls: RetryPolicy,
}

impl InstantAcmeClient {
    pub(crate) async fn new(task: &Task) -> Result<(Self, String), BoxError> {
        let (account, _) = Account::builder_with_root(&task.root)?
            .create(
                &NewAccount {
                    contact: &[],
                    terms_of_service_agreed: true,
                    only_return_existing: false,
                },
                task.directory.clone(),
                None,
            )
            .await?;
        let polls = match task.peer_delay_ms {
            Some(delay) => RetryPolicy::default().initial_delay(Duration::from_millis(delay)),
            None => RetryPolicy::default(),
        };
        let thumbprint = account.key_thumbprint().to_owned();
        Ok((Self { account, polls }, thumbprint))
    }

    pub(crate) async fn issue(&self, names: &[String]) -> Result<(), BoxError> {
        let identifiers: Vec<_> = names.iter().cloned().map(Identifier::Dns).collect();
        let mut order = self
            .account
            .new_order(&NewOrder::new(identifiers.as_slice()))
            .await?;
        let mut authorizations = order.authorizations();
        while let Some(result) = authorizations.next().await {
            let mut authorization = result?;
            match authorization.status {
                AuthorizationStatus::Pending => {}
                AuthorizationStatus::Valid => continue,
                status => return Err(format!("an authorization is {status:?}").into()),
            }
            let mut challenge = authorization
                .challenge(ChallengeType::Http01)
                .ok_or("there is no http-01 challenge")?;
            black_box(challenge.key_authorization());
            challenge.set_ready().await?;
        }

        let status = order.poll_ready(&self.polls).await?;
        if status != OrderStatus::Ready {
            return Err(format!("the order is {status:?}").into());
        }
        let key = order.finalize().await?;
        let chain = order.poll_certificate(&self.polls).await?;
        complete(&chain, &key)
    }
}
