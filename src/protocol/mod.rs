//! The objects of RFC 8555 as typed values, with no I/O.
//!
//! Each file holds one object. What the CA sends (a *response*) and what a client sends (a
//! *request*) are different types, so a request can't carry a member that only a CA may set.
//!
//! CAs add members and values over time, and some leave out what the RFC says they send. So:
//!
//! * unknown members are kept, in a field named `other`;
//! * every enum of statuses or types has an `Other` arm that keeps the CA's text;
//! * `null` and absence mean the same, and an absent list is an empty one.

mod account;
mod authorization;
mod auto_renewal;
mod base64url;
mod challenge;
mod challenge_response;
mod delegation;
mod directory;
mod dns_persist;
mod identifier;
mod issue_value;
mod limits;
mod open_enum;
mod order;
mod problem;
mod renewal_info;
mod revocation;
mod timestamp;
mod url;

pub use self::account::{Account, AccountStatus, AccountUpdate, NewAccount};
pub use self::authorization::{Authorization, AuthorizationStatus, NewAuthorization};
pub use self::auto_renewal::{AutoRenewal, AutoRenewalLimits};
pub use self::base64url::{Base64Url, InvalidBase64Url};
pub use self::challenge::{Challenge, ChallengeStatus, ChallengeType, InvalidToken, Token};
pub use self::challenge_response::{ChallengeResponse, InvalidChallengeResponse};
pub use self::delegation::{Delegation, Delegations};
pub use self::directory::{Directory, Extension, Meta, Resource};
pub use self::dns_persist::{
    DnsPersistAccountForm, DnsPersistChallenge, DnsPersistValue, InvalidDnsPersist,
    InvalidDnsPersistValue,
};
pub use self::identifier::{
    DnsName, Identifier, IdentifierFault, Identifiers, InvalidIdentifier, OtherIdentifier,
};
pub use self::issue_value::{InvalidIssueValue, IssueValue, IssueValueFault};
pub use self::order::{Finalize, NewOrder, Order, OrderStatus};
pub use self::problem::{Problem, ProblemType};
pub use self::renewal_info::{InvalidWindow, RenewalInfo, RenewalWindow};
pub use self::revocation::{Revocation, RevocationReason};
pub use self::url::{InvalidUrl, Url, UrlFault};

pub(crate) use self::open_enum::open_enum;
pub(crate) use self::problem::printable;
pub(crate) use self::timestamp::{
    format as format_timestamp, parse as parse_timestamp, required as timestamp_member,
};
#[cfg(feature = "http-01")]
pub(crate) use self::url::{ends_in_number, host_address, resolve};

use serde::{Deserialize, Deserializer};

/// Reads `null` as the type's default: several CAs send it where the RFC has a list or an object.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
