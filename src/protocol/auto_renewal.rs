use std::time::{Duration, SystemTime};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{null_as_default, timestamp};

/// How an order renews its certificate by itself (STAR, RFC 8739 §3.1.1): what the client asks for,
/// and what the CA made of it, which may differ.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct AutoRenewal {
    /// The earliest `notBefore` of the first certificate. Without it, as soon as it can be.
    #[serde(
        default,
        with = "timestamp::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub start_date: Option<SystemTime>,

    /// The latest `notAfter` of the last certificate. Every request has one.
    #[serde(
        default,
        with = "timestamp::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub end_date: Option<SystemTime>,

    /// How long each certificate is valid, at most, in whole seconds.
    #[serde(default, with = "seconds")]
    pub lifetime: Duration,

    /// By how much `notBefore` is dated back, for clients whose clocks are behind, in whole seconds.
    /// None by default.
    #[serde(default, with = "seconds", skip_serializing_if = "Duration::is_zero")]
    pub lifetime_adjust: Duration,

    /// Whether the certificate can be had by a GET without a signature (§3.4).
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub allow_certificate_get: bool,
}

impl AutoRenewal {
    /// Certificates of this lifetime, one after another until the end.
    pub fn until(end: SystemTime, lifetime: Duration) -> Self {
        Self {
            end_date: Some(end),
            lifetime,
            ..Self::default()
        }
    }

    /// Lets the first certificate be valid from this time on, and not from as soon as it can be.
    #[must_use]
    pub fn starting(mut self, start: SystemTime) -> Self {
        self.start_date = Some(start);
        self
    }

    /// Dates `notBefore` back by this much, for clients whose clocks are behind (§4.1).
    #[must_use]
    pub fn lifetime_adjust(mut self, adjust: Duration) -> Self {
        self.lifetime_adjust = adjust;
        self
    }

    /// Lets the certificate be had by a GET without a signature (§3.4), so that hosts without the
    /// account's key can fetch it. Whoever knows the URL can, then.
    #[must_use]
    pub fn allow_certificate_get(mut self) -> Self {
        self.allow_certificate_get = true;
        self
    }
}

/// What a CA says of orders that renew by themselves, in its directory (RFC 8739 §3.2).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct AutoRenewalLimits {
    /// The shortest lifetime of a certificate.
    #[serde(default, with = "seconds")]
    pub min_lifetime: Duration,

    /// The longest time from the start to the end.
    #[serde(default, with = "seconds")]
    pub max_duration: Duration,

    /// Whether certificates can be had by a GET without a signature, where an order asks for it.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub allow_certificate_get: bool,
}

mod seconds {
    use super::*;

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        null_as_default(deserializer).map(Duration::from_secs)
    }

    pub(super) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(duration.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_the_example_of_section_3_5() {
        let text = r#"{"start-date":"2016-01-10T00:00:00Z","end-date":"2016-01-20T00:00:00Z","lifetime":345600,"lifetime-adjust":259200}"#;
        let renewal: AutoRenewal = serde_json::from_str(text).unwrap();
        assert_eq!(renewal.lifetime, Duration::from_secs(4 * 86_400));
        assert_eq!(serde_json::to_string(&renewal).unwrap(), text);

        let made = AutoRenewal::until(renewal.end_date.unwrap(), renewal.lifetime)
            .starting(renewal.start_date.unwrap())
            .lifetime_adjust(renewal.lifetime_adjust);
        assert_eq!(made, renewal);
    }

    #[test]
    fn sends_only_what_is_set() {
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
        let renewal = AutoRenewal::until(end, Duration::from_secs(3600)).allow_certificate_get();
        assert_eq!(
            serde_json::to_string(&renewal).unwrap(),
            r#"{"end-date":"1970-01-02T00:00:00Z","lifetime":3600,"allow-certificate-get":true}"#
        );
    }
}
