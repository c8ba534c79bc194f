use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use der::Decode;
use tokio::time::Instant;
use x509_cert::spki::SubjectPublicKeyInfoRef;

use super::auto_renewal::Series;
use super::issuer::Issued;
use super::settings::Issuance;
use crate::jose::Jwk;
use crate::protocol::{
    Account, Authorization, AuthorizationStatus, Challenge, ChallengeStatus, Identifier, Order,
    OrderStatus, Problem, RevocationReason,
};

/// All objects of the CA.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) accounts: Table<StoredAccount>,
    pub(super) orders: Table<StoredOrder>,
    pub(super) authorizations: Table<StoredAuthorization>,
    pub(super) challenges: Table<StoredChallenge>,
    pub(super) certificates: Table<StoredCertificate>,
}

impl State {
    /// The account that a key belongs to.
    pub(super) fn account_of(&self, key: &Jwk) -> Option<u64> {
        let mut accounts = self.accounts.iter();
        accounts.find_map(|(id, account)| (&account.key == key).then_some(id))
    }

    /// Whether the key of a DER `SubjectPublicKeyInfo` is an account's.
    pub(super) fn is_account_key(&self, public_key_info: &[u8]) -> bool {
        let mut accounts = self.accounts.iter();
        accounts.any(|(_, account)| is_same_key(&account.key, public_key_info))
    }

    /// Whether an account may prove control of this identifier without a challenge.
    pub(super) fn valid_authorization(&self, account: u64, identifier: &Identifier) -> Option<u64> {
        let mut authorizations = self.authorizations.iter();
        authorizations.find_map(|(id, stored)| {
            let is_valid = stored.account == account
                && stored.object.status == AuthorizationStatus::Valid
                && &stored.object.identifier() == identifier;
            is_valid.then_some(id)
        })
    }

    /// An authorization that the account asked for before any order (RFC 8555 §7.4.1).
    pub(super) fn pre_authorization(&self, account: u64, identifier: &Identifier) -> Option<u64> {
        let mut authorizations = self.authorizations.iter();
        authorizations.find_map(|(id, stored)| {
            let is_usable = stored.account == account
                && stored.is_pre_authorization
                && matches!(
                    stored.object.status,
                    AuthorizationStatus::Pending | AuthorizationStatus::Valid
                )
                && &stored.object.identifier() == identifier;
            is_usable.then_some(id)
        })
    }

    /// An authorization as it is sent: with its challenges.
    pub(super) fn authorization(&self, id: u64) -> Option<Authorization> {
        let stored = self.authorizations.get(id)?;
        let challenges = stored.challenges.iter();
        let challenges = challenges.filter_map(|id| self.challenges.get(*id));
        let mut object = stored.object.clone();
        object.challenges = challenges.map(|stored| stored.object.clone()).collect();
        Some(object)
    }

    pub(super) fn authorization_is_validating(&self, id: u64) -> bool {
        let authorization = self.authorizations.get(id);
        authorization.is_some_and(|stored| {
            let mut challenges = stored.challenges.iter();
            challenges.any(|id| self.challenge_is_validating(*id))
        })
    }

    pub(super) fn challenge_is_validating(&self, id: u64) -> bool {
        self.challenges
            .get(id)
            .is_some_and(|stored| stored.object.status == ChallengeStatus::Processing)
    }

    pub(super) fn order_is_validating(&self, id: u64) -> bool {
        self.orders.get(id).is_some_and(|stored| {
            let mut authorizations = stored.authorizations.iter();
            authorizations.any(|id| self.authorization_is_validating(*id))
        })
    }

    /// Ends a validation (RFC 8555 §7.1.6): the challenge, its authorization, and the orders that
    /// wait for it.
    pub(super) fn conclude(&mut self, challenge: u64, outcome: Result<(), Problem>) {
        let Some(stored) = self.challenges.get_mut(challenge) else {
            return;
        };
        let status = match outcome {
            Ok(()) => {
                stored.object.status = ChallengeStatus::Valid;
                stored.object.validated = Some(SystemTime::now());
                AuthorizationStatus::Valid
            }
            Err(problem) => {
                stored.object.status = ChallengeStatus::Invalid;
                stored.object.error = Some(Box::new(problem));
                AuthorizationStatus::Invalid
            }
        };

        let id = stored.authorization;
        let Some(authorization) = self.authorizations.get_mut(id) else {
            return;
        };
        // It was deactivated meanwhile.
        if authorization.object.status != AuthorizationStatus::Pending {
            return;
        }
        // §7.5.1: the CA has no use for the others any more.
        authorization.challenges.retain(|id| *id == challenge);
        self.set_authorization_status(id, status);
    }

    /// Changes an authorization, and with it the orders that need it.
    pub(super) fn set_authorization_status(&mut self, id: u64, status: AuthorizationStatus) {
        let Some(authorization) = self.authorizations.get_mut(id) else {
            return;
        };
        authorization.object.status = status;
        for order in authorization.orders.clone() {
            self.update_order(order);
        }
    }

    /// Moves an order from `pending` to `ready`, or to `invalid`, as its authorizations demand.
    pub(super) fn update_order(&mut self, id: u64) {
        let Some(order) = self.orders.get_mut(id) else {
            return;
        };
        if !matches!(
            order.object.status,
            OrderStatus::Pending | OrderStatus::Ready
        ) {
            return;
        }
        let mut status = OrderStatus::Ready;
        for authorization in &order.authorizations {
            let authorization = self.authorizations.get(*authorization);
            match authorization.map(|stored| &stored.object.status) {
                Some(AuthorizationStatus::Valid) => {}
                Some(AuthorizationStatus::Pending) => status = OrderStatus::Pending,
                _ => {
                    status = OrderStatus::Invalid;
                    break;
                }
            }
        }
        order.object.status = status;
    }
}

#[derive(Debug)]
pub(super) struct StoredAccount {
    pub(super) key: Jwk,
    /// The terms of service that its holder agreed to last.
    pub(super) agreed_to: String,
    pub(super) object: Account,
}

/// Whether a JWK is the key of a DER `SubjectPublicKeyInfo`.
pub(super) fn is_same_key(key: &Jwk, public_key_info: &[u8]) -> bool {
    let info = SubjectPublicKeyInfoRef::from_der(public_key_info);
    match (info, key.public_key_octets()) {
        (Ok(info), Ok(octets)) => info.subject_public_key.raw_bytes() == octets,
        _ => false,
    }
}

#[derive(Debug)]
pub(super) struct StoredOrder {
    pub(super) account: u64,
    pub(super) authorizations: Vec<u64>,
    /// The certificate, from finalization on, whether the client may know of it or not yet.
    pub(super) issuing: Option<Issuing>,
    /// The certificates, from finalization on, if the order renews by itself.
    pub(super) series: Option<Series>,
    pub(super) object: Order,
}

#[derive(Debug)]
pub(super) struct StoredAuthorization {
    pub(super) account: u64,
    pub(super) is_pre_authorization: bool,
    pub(super) orders: Vec<u64>,
    pub(super) challenges: Vec<u64>,
    /// Without its challenges, which have a table of their own.
    pub(super) object: Authorization,
}

#[derive(Debug)]
pub(super) struct StoredChallenge {
    pub(super) authorization: u64,
    pub(super) object: Challenge,
}

#[derive(Debug)]
pub(super) struct StoredCertificate {
    pub(super) account: u64,
    pub(super) issued: Issued,
    /// Whether it is of an order that renews by itself.
    pub(super) is_renewed_by_order: bool,
    /// The latest order that is to replace it (RFC 9773 §5).
    pub(super) replaced_by: Option<u64>,
    pub(super) revoked: Option<Revoked>,
}

/// The revocation of a certificate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Revoked {
    pub(super) at: SystemTime,
    pub(super) reason: Option<RevocationReason>,
}

/// A certificate that its order does not show yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Issuing {
    pub(super) certificate: u64,
    due: Due,
}

impl Issuing {
    /// Without a pace, the order never comes to show it.
    pub(super) fn new(certificate: u64, issuance: Option<Issuance>) -> Self {
        let due = match issuance {
            Some(Issuance::AtOnce) => Due::Looks(0),
            Some(Issuance::AfterLooks(looks)) => Due::Looks(looks),
            Some(Issuance::After(time)) => Due::Time(Instant::now(), time),
            None => Due::Never,
        };
        Self { certificate, due }
    }

    pub(super) fn is_due(&self) -> bool {
        match self.due {
            Due::Looks(looks) => looks == 0,
            Due::Never => false,
            Due::Time(since, time) => since.elapsed() >= time,
        }
    }

    /// Counts a look at the order.
    pub(super) fn look(&mut self) {
        if let Due::Looks(looks) = &mut self.due {
            *looks = looks.saturating_sub(1);
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Due {
    Looks(u32),
    Never,
    Time(Instant, Duration),
}

/// Objects by their number, which is the last part of their URL.
#[derive(Debug)]
pub(super) struct Table<T>(BTreeMap<u64, T>);

impl<T> Table<T> {
    /// The number that the next object will have.
    pub(super) fn next_id(&self) -> u64 {
        self.0.last_key_value().map_or(1, |(id, _)| id + 1)
    }

    pub(super) fn insert(&mut self, object: T) -> u64 {
        let id = self.next_id();
        self.0.insert(id, object);
        id
    }

    pub(super) fn get(&self, id: u64) -> Option<&T> {
        self.0.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut T> {
        self.0.get_mut(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.0.iter().map(|(id, object)| (*id, object))
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}
