use std::collections::HashSet;

use crate::account::Account;
use crate::error::{Error, Operation};
use crate::protocol::{Delegation, Delegations, Extension, Url};

impl Account {
    /// The delegations that others have configured for this account (RFC 9115 §2.3.1), by URL, for
    /// [`delegation`](Self::delegation) and
    /// [`OrderBuilder::delegation`](crate::OrderBuilder::delegation).
    ///
    /// Empty where the account has no such list. Fails where the CA does not offer delegation.
    pub async fn delegations(&self) -> Result<Vec<Url>, Error> {
        self.client().require(Extension::Delegation).await?;
        let state = match self.state() {
            Some(state) => state,
            None => self.refresh().await?,
        };
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        let mut page = state.delegations.clone();
        while let Some(url) = page.take() {
            // A list that leads back into itself, or never ends, ends here.
            if !seen.insert(url.clone()) || seen.len() > Self::MOST_PAGES {
                break;
            }
            let reply = self.read(Operation::Delegation, &url).await?;
            found.extend(reply.json::<Delegations>()?.delegations);
            page = reply.links("next").into_iter().next();
        }
        Ok(found)
    }

    /// Reads a delegation: above all, the template that a CSR must follow (RFC 9115 §4).
    pub async fn delegation(&self, url: &Url) -> Result<Delegation, Error> {
        self.read(Operation::Delegation, url).await?.json()
    }

    const MOST_PAGES: usize = 1_000;
}
