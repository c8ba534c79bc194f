use std::fmt;

/// What certwright was doing, for errors and logs.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Operation {
    /// Fetching the directory (RFC 8555 §7.1.1).
    Directory,
    /// Getting a nonce (§7.2).
    NewNonce,
    /// Creating an account (§7.3).
    NewAccount,
    /// Finding the account that a key has (§7.3.1).
    FindAccount,
    /// Reading an account (§7.3.2).
    Account,
    /// Changing an account's contacts, or agreeing to terms (§7.3.2, §7.3.3).
    UpdateAccount,
    /// Giving an account another key (§7.3.5).
    KeyChange,
    /// Deactivating an account (§7.3.6).
    DeactivateAccount,
    /// Reading the list of an account's orders (§7.1.2.1).
    Orders,
    /// Creating an order (§7.4).
    NewOrder,
    /// Reading an order.
    Order,
    /// Ending an order that renews by itself (RFC 8739 §3.1.2).
    Cancellation,
    /// Reading what others let the account order (RFC 9115 §2.3.1).
    Delegation,
    /// Creating an authorization before any order (§7.4.1).
    NewAuthorization,
    /// Giving an authorization up (§7.5.2).
    Deactivation,
    /// Reading an authorization (§7.5).
    Authorization,
    /// Telling the CA that a challenge is ready (§7.5.1).
    Challenge,
    /// Sending the CSR (§7.4).
    Finalize,
    /// Downloading the certificate (§7.4.2).
    Certificate,
    /// Revoking a certificate (§7.6).
    Revocation,
    /// Reading renewal information (RFC 9773 §4.1).
    RenewalInfo,
    /// Fetching the list of revoked certificates (RFC 5280 §5).
    Crl,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Directory => "fetching the directory",
            Self::NewNonce => "getting a nonce",
            Self::NewAccount => "creating the account",
            Self::FindAccount => "finding the account",
            Self::Account => "reading the account",
            Self::UpdateAccount => "updating the account",
            Self::KeyChange => "changing the account's key",
            Self::DeactivateAccount => "deactivating the account",
            Self::Orders => "listing the account's orders",
            Self::NewOrder => "creating the order",
            Self::Order => "reading the order",
            Self::Cancellation => "canceling the order",
            Self::Delegation => "reading the delegations",
            Self::NewAuthorization => "creating an authorization",
            Self::Deactivation => "deactivating an authorization",
            Self::Authorization => "reading an authorization",
            Self::Challenge => "answering a challenge",
            Self::Finalize => "finalizing the order",
            Self::Certificate => "downloading the certificate",
            Self::Revocation => "revoking the certificate",
            Self::RenewalInfo => "reading the renewal information",
            Self::Crl => "fetching the CRL",
        })
    }
}
