use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::time::{Duration, SystemTime};

use super::auto_renewal::AutoRenewalSettings;
use super::custom_challenge::CustomChallenge;
#[cfg(feature = "dns-01")]
use super::dns::DnsSettings;
use super::profiles::Profiles;
use super::rate_limits::RateLimits;
use super::renewal_info::RenewalSettings;
use crate::jose::MacKey;

/// What a test may change while the CA runs.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) addresses: BTreeMap<String, IpAddr>,
    pub(super) authorizes_subdomains: bool,
    pub(super) auto_renewal: AutoRenewalSettings,
    pub(super) bad_chain: Option<BadChain>,
    pub(super) blocked: BTreeSet<String>,
    pub(super) certificate_lifetime: Duration,
    pub(super) custom_challenges: Vec<CustomChallenge>,
    #[cfg(feature = "dns-01")]
    pub(super) dns: DnsSettings,
    pub(super) external_accounts: BTreeMap<String, MacKey>,
    pub(super) honours_dates: bool,
    pub(super) http01_port: u16,
    pub(super) issuance: Issuance,
    pub(super) latency: Duration,
    pub(super) profiles: Profiles,
    pub(super) rate_limits: RateLimits,
    pub(super) renewal: RenewalSettings,
    pub(super) retry_after: Option<RetryAfter>,
    pub(super) orders_per_page: Option<NonZeroUsize>,
    pub(super) pre_authorizes: bool,
    pub(super) reuses_authorizations: bool,
    pub(super) terms_of_service: String,
    pub(super) tls_alpn01_port: u16,
    pub(super) validation: Validation,
    pub(super) validation_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            addresses: BTreeMap::new(),
            authorizes_subdomains: false,
            auto_renewal: AutoRenewalSettings::default(),
            bad_chain: None,
            blocked: BTreeSet::new(),
            certificate_lifetime: Duration::from_secs(90 * 24 * 3_600),
            custom_challenges: Vec::new(),
            #[cfg(feature = "dns-01")]
            dns: DnsSettings::default(),
            external_accounts: BTreeMap::new(),
            honours_dates: false,
            http01_port: 5002,
            issuance: Issuance::AtOnce,
            latency: Duration::ZERO,
            orders_per_page: NonZeroUsize::new(50),
            pre_authorizes: false,
            profiles: Profiles::default(),
            rate_limits: RateLimits::default(),
            renewal: RenewalSettings::default(),
            retry_after: Some(RetryAfter::Seconds(1)),
            reuses_authorizations: false,
            terms_of_service: TERMS_OF_SERVICE.to_owned(),
            tls_alpn01_port: 5001,
            validation: Validation::BeforeNextLook,
            validation_timeout: Duration::from_secs(5),
        }
    }
}

impl Settings {
    pub(super) fn block(&mut self, name: &str) {
        self.blocked.insert(name.to_ascii_lowercase());
    }

    pub(super) fn resolve(&mut self, name: &str, address: IpAddr) {
        self.addresses.insert(name.to_ascii_lowercase(), address);
    }
}

/// When a client learns how the validation of a challenge ended.
///
/// Validation takes its time, so with a real CA the count of a client's requests is left to chance.
/// With the first two of these it is not.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Validation {
    /// At the next look. The challenge's reply says `processing`, as with a real CA; a later
    /// request for the challenge, its authorization or its order is answered once validation is
    /// over.
    #[default]
    BeforeNextLook,
    /// At once: the challenge's reply itself waits until validation is over.
    BeforeReply,
    /// When it is over, as with a real CA: no reply waits, and the client has to poll.
    InBackground,
}

/// When an order becomes `valid` after it was finalized (RFC 8555 §7.4).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Issuance {
    /// At once: the reply to finalize says `valid`.
    #[default]
    AtOnce,
    /// At the nth look at the order. Until then it is `processing`. 0 is the same as
    /// [`AtOnce`](Self::AtOnce).
    AfterLooks(u32),
    /// At the first look after this time. Until then it is `processing`.
    After(Duration),
}

/// The `Retry-After` of replies about what is still going on (RFC 8555 §7.4, §7.5.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum RetryAfter {
    /// As a number of seconds.
    Seconds(u32),
    /// As an HTTP date, which is this far away: rounded up to a second, and a year at the most.
    Date(Duration),
}

impl RetryAfter {
    pub(super) fn value(self) -> String {
        match self {
            Self::Seconds(seconds) => seconds.to_string(),
            Self::Date(delay) => {
                // HTTP dates have no fractions, and end with the year 9999.
                let delay = delay.min(YEAR) + Duration::from_nanos(999_999_999);
                let time = SystemTime::now() + delay;
                httpdate::fmt_http_date(time)
            }
        }
    }
}

/// A chain that is not what the client asked for, in place of the one that was issued.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum BadChain {
    /// The server's certificate expired yesterday.
    Expired,
    /// The text is a page of HTML.
    Html,
    /// The server's certificate is valid from tomorrow on.
    NotYetValid,
    /// The server's certificate has another public key.
    OtherKey,
    /// The server's certificate is for another name.
    OtherNames,
    /// The text ends halfway through the server's certificate.
    Truncated,
    /// The second certificate has the issuer's name, but another key.
    Unlinked,
}

const TERMS_OF_SERVICE: &str = "data:text/plain,Certificates%20of%20this%20CA%20are%20for%20tests.";
const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);
