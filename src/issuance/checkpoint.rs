use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::account::Account;
use crate::error::{BoxError, CheckpointFault, Error};
use crate::order::OrderBuilder;
use crate::protocol::{Identifier, Url};
use crate::solver::Presentation;

/// What another process needs to go on with an issuance: the certificate's key, what is ordered, the
/// order's URL once there is one, and the answers to challenges that may be visible.
///
/// An issuance hands it to a [`CheckpointStore`] as it goes along; [`Account::resume`] takes it up.
/// It is read and written by serde. A later version of certwright reads what this one has written,
/// and one that does not know the form of a checkpoint refuses it.
///
/// It holds the certificate's private key: store it where only the program can read it. Whoever wants
/// no certificate any more has the solver take away what was [presented](Self::presented), and
/// forgets it.
#[derive(Clone, Deserialize, PartialEq, Serialize)]
pub struct Checkpoint {
    version: Version,
    account: Url,
    pub(super) identifiers: Vec<Identifier>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    profiles: Vec<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    or_default_profile: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaces: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<Zeroizing<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) order: Option<Url>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) presented: Vec<Presentation>,
}

impl Checkpoint {
    /// The URL of the account that orders.
    pub fn account(&self) -> &Url {
        &self.account
    }

    /// What the certificate is for.
    pub fn identifiers(&self) -> &[Identifier] {
        &self.identifiers
    }

    /// The certificate's key, as PKCS#8 in PEM. A secret. `None` where the certificate is requested
    /// by a CSR of the caller's.
    pub fn key(&self) -> Option<&str> {
        self.key.as_ref().map(|key| key.as_str())
    }

    /// The order's URL, once there is one.
    pub fn order(&self) -> Option<&Url> {
        self.order.as_ref()
    }

    /// The answers to challenges that were presented, or were about to be.
    pub fn presented(&self) -> &[Presentation] {
        &self.presented
    }

    /// An order for the same, as it was begun.
    pub(super) fn order_builder(&self, account: &Account) -> OrderBuilder {
        let mut order = account
            .new_order(&self.identifiers)
            .profiles(&self.profiles);
        if self.or_default_profile {
            order = order.or_default_profile();
        }
        if let Some(certificate_id) = &self.replaces {
            order = order.replaces(certificate_id);
        }
        order
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint")
            .field("account", &self.account)
            .field("identifiers", &self.identifiers)
            .field("order", &self.order)
            .field("presented", &self.presented)
            .finish_non_exhaustive()
    }
}

/// The form that is written, and the only one that is read.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(try_from = "u32", into = "u32")]
struct Version;

impl Version {
    const NUMBER: u32 = 1;
}

impl TryFrom<u32> for Version {
    type Error = String;

    fn try_from(number: u32) -> Result<Self, String> {
        match number {
            Self::NUMBER => Ok(Self),
            _ => Err(format!(
                "the checkpoint's form has the number {number}, and only {} is known",
                Self::NUMBER
            )),
        }
    }
}

impl From<Version> for u32 {
    fn from(_: Version) -> Self {
        Version::NUMBER
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Keeps the [`Checkpoint`] of one issuance.
///
/// A closure that takes a `&Checkpoint` and returns a `Result<(), BoxError>` is one, too.
#[async_trait]
pub trait CheckpointStore: Send + Sync + 'static {
    /// Stores a checkpoint in the place of the one before.
    ///
    /// Once it has returned, the checkpoint MUST outlast the process, and the machine where the
    /// issuance is to. A process that ends meanwhile MUST leave either this one or the one before,
    /// whole: [`private_file::write`](crate::private_file::write) does that.
    ///
    /// It is called before an order is made, once the order's URL is known, and before answers are
    /// presented; never twice at once. Where it fails, the issuance ends in
    /// [`Error::Checkpoint`], before the CA is asked further.
    async fn store(&self, checkpoint: &Checkpoint) -> Result<(), BoxError>;
}

#[async_trait]
impl<F> CheckpointStore for F
where
    F: Fn(&Checkpoint) -> Result<(), BoxError> + Send + Sync + 'static,
{
    async fn store(&self, checkpoint: &Checkpoint) -> Result<(), BoxError> {
        self(checkpoint)
    }
}

/// The checkpoint of an issuance that runs, where it is stored at all.
pub(super) struct Record(Option<(Mutex<Checkpoint>, Arc<dyn CheckpointStore>)>);

impl Record {
    pub(super) fn new(
        store: Option<Arc<dyn CheckpointStore>>,
        account: &Account,
        order: &OrderBuilder,
        key: Option<Zeroizing<String>>,
    ) -> Self {
        Self(store.map(|store| {
            let wishes = order.wishes();
            let checkpoint = Checkpoint {
                version: Version,
                account: account.url().clone(),
                identifiers: Vec::new(),
                profiles: wishes.profiles.to_vec(),
                or_default_profile: wishes.or_default_profile,
                replaces: wishes.replaces.map(str::to_owned),
                key,
                order: None,
                presented: Vec::new(),
            };
            (Mutex::new(checkpoint), store)
        }))
    }

    /// Notes what is so already, without storing it.
    pub(super) fn note(&self, note: impl FnOnce(&mut Checkpoint)) -> Option<Checkpoint> {
        let (checkpoint, _) = self.0.as_ref()?;
        let mut checkpoint = checkpoint.lock().unwrap_or_else(PoisonError::into_inner);
        note(&mut checkpoint);
        Some(checkpoint.clone())
    }

    /// Changes the checkpoint, and waits until it is stored.
    pub(super) async fn change(
        &self,
        change: impl FnOnce(&mut Checkpoint) + Send,
    ) -> Result<(), Error> {
        let (Some(changed), Some((_, store))) = (self.note(change), &self.0) else {
            return Ok(());
        };
        let stored = store.store(&changed).await;
        stored.map_err(|source| CheckpointFault::Store(source).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORED: &str = r#"{"version":1,"account":"https://ca.example/acct/1","identifiers":[{"type":"dns","value":"example.com"},{"type":"ip","value":"192.0.2.1"}],"profiles":["shortlived"],"or_default_profile":true,"replaces":"AYhc.AIdlQ","key":"SECRET","order":"https://ca.example/order/3","presented":[{"identifier":{"type":"dns","value":"example.com"},"challenge":{"type":"http-01","url":"https://ca.example/chall/7","status":"pending","token":"DGyRejmCefe7v4NfDGDKfADGyRejmCef"},"account":"https://ca.example/acct/1","thumbprint":"NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"}]}"#;
    const LEAST: &str = r#"{"version":1,"account":"https://ca.example/acct/1","identifiers":[{"type":"dns","value":"example.com"}]}"#;

    #[test]
    fn what_was_stored_can_be_read_by_later_versions() {
        let checkpoint: Checkpoint = serde_json::from_str(STORED).unwrap();
        assert_eq!(checkpoint.identifiers().len(), 2);
        assert_eq!(checkpoint.key(), Some("SECRET"));
        let order = checkpoint.order().map(Url::as_str);
        assert_eq!(order, Some("https://ca.example/order/3"));
        assert_eq!(checkpoint.presented().len(), 1);
        assert_eq!(serde_json::to_string(&checkpoint).unwrap(), STORED);

        let least: Checkpoint = serde_json::from_str(LEAST).unwrap();
        assert_eq!((least.key(), least.order()), (None, None));
        assert_eq!(serde_json::to_string(&least).unwrap(), LEAST);

        // What a later version adds without changing the form is passed over.
        let more = LEAST.replace("\"version\":1", "\"version\":1,\"more\":true");
        assert_eq!(serde_json::from_str::<Checkpoint>(&more).unwrap(), least);
    }

    #[test]
    fn another_form_is_refused_and_the_key_is_not_shown() {
        let later = LEAST.replace("\"version\":1", "\"version\":2");
        let error = serde_json::from_str::<Checkpoint>(&later).unwrap_err();
        assert!(error.to_string().contains("the number 2"), "{error}");
        let none = LEAST.replace("\"version\":1,", "");
        assert!(serde_json::from_str::<Checkpoint>(&none).is_err());

        let checkpoint: Checkpoint = serde_json::from_str(STORED).unwrap();
        assert!(!format!("{checkpoint:?}").contains("SECRET"));
    }
}
