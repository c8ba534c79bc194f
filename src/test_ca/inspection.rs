//! What the CA has, for a test to look at: the truth that its replies may not have told.

use rustls_pki_types::CertificateDer;

use super::TestCa;
use super::route::Route;
use crate::jose::Jwk;
use crate::protocol::{Account, Authorization, Order, Url};

impl TestCa {
    /// All accounts, whatever their status, with their URLs and in the order of their creation.
    pub fn accounts(&self) -> Vec<(Url, Account)> {
        let state = self.0.ca.state();
        let accounts = state.accounts.iter();
        let accounts = accounts.map(|(id, stored)| (Route::Account(id), stored.object.clone()));
        self.located(accounts)
    }

    /// The account that has a key at present.
    pub fn account_of(&self, key: &Jwk) -> Option<Url> {
        let id = self.0.ca.state().account_of(key)?;
        self.0.ca.url(Route::Account(id)).ok()
    }

    /// All orders, of all accounts and in the order of their creation. One that waits for its
    /// certificate is shown as the client saw it last.
    pub fn orders(&self) -> Vec<(Url, Order)> {
        let state = self.0.ca.state();
        let orders = state.orders.iter();
        let orders = orders.map(|(id, stored)| (Route::Order(id), stored.object.clone()));
        self.located(orders)
    }

    /// All authorizations, of all accounts and in the order of their creation.
    pub fn authorizations(&self) -> Vec<(Url, Authorization)> {
        let state = self.0.ca.state();
        let authorizations = state.authorizations.iter();
        let authorizations = authorizations
            .filter_map(|(id, _)| Some((Route::Authorization(id), state.authorization(id)?)));
        self.located(authorizations)
    }

    /// How many certificates the CA has issued.
    pub fn issued(&self) -> usize {
        self.0.ca.state().certificates.iter().count()
    }

    /// Whether a certificate is revoked.
    pub fn is_revoked(&self, certificate: &CertificateDer<'_>) -> bool {
        let state = self.0.ca.state();
        let mut certificates = state.certificates.iter();
        certificates.any(|(_, stored)| {
            stored.issued.leaf == certificate.as_ref() && stored.revoked.is_some()
        })
    }

    fn located<T>(&self, objects: impl Iterator<Item = (Route, T)>) -> Vec<(Url, T)> {
        // The base is a URL, so nothing is left out.
        objects
            .filter_map(|(route, object)| Some((self.0.ca.url(route).ok()?, object)))
            .collect()
    }
}
