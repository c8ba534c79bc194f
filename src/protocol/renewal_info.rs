use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use super::timestamp;

/// When a CA would like a certificate to be renewed (RFC 9773 §4.2).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RenewalInfo {
    /// The time within which to renew.
    pub suggested_window: RenewalWindow,

    /// A page that says why, for a person to read. certwright never fetches it, and it may be
    /// anything: show it as text.
    #[serde(
        default,
        rename = "explanationURL",
        skip_serializing_if = "Option::is_none"
    )]
    pub explanation_url: Option<String>,

    /// Members that certwright has no name for.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A time within which to renew a certificate: it ends after it starts.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(try_from = "Bounds", into = "Bounds")]
pub struct RenewalWindow {
    start: SystemTime,
    end: SystemTime,
}

impl RenewalWindow {
    /// The window between these times. RFC 9773 §4.2 has a client treat one that does not end after
    /// it starts as if the CA had not answered.
    pub fn new(start: SystemTime, end: SystemTime) -> Result<Self, InvalidWindow> {
        match start < end {
            true => Ok(Self { start, end }),
            false => Err(InvalidWindow),
        }
    }

    /// When it starts.
    pub fn start(&self) -> SystemTime {
        self.start
    }

    /// When it ends.
    pub fn end(&self) -> SystemTime {
        self.end
    }
}

/// A window that does not end after it starts.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("the suggested window does not end after it starts (RFC 9773 §4.2)")]
pub struct InvalidWindow;

#[derive(Deserialize, Serialize)]
struct Bounds {
    #[serde(with = "timestamp::required")]
    start: SystemTime,
    #[serde(with = "timestamp::required")]
    end: SystemTime,
}

impl TryFrom<Bounds> for RenewalWindow {
    type Error = InvalidWindow;

    fn try_from(bounds: Bounds) -> Result<Self, InvalidWindow> {
        Self::new(bounds.start, bounds.end)
    }
}

impl From<RenewalWindow> for Bounds {
    fn from(window: RenewalWindow) -> Self {
        Self {
            start: window.start,
            end: window.end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors() {
        let vectors: Value =
            serde_json::from_str(include_str!("../../tests/vectors/ari_window.json")).unwrap();
        let cases = vectors["cases"].as_array().unwrap();
        assert!(cases.len() >= 7);
        for case in cases {
            let info = serde_json::from_value::<RenewalInfo>(case["body"].clone());
            assert_eq!(
                info.is_ok(),
                case["valid"].as_bool().unwrap(),
                "{}: {info:?}",
                case["id"]
            );
            let Ok(info) = info else {
                continue;
            };
            assert!(info.suggested_window.start() < info.suggested_window.end());
            let explanation = case["body"]["explanationURL"].as_str();
            assert_eq!(info.explanation_url.as_deref(), explanation);
        }
    }

    #[test]
    fn round_trips() {
        let text = r#"{"suggestedWindow":{"start":"2025-01-02T04:00:00Z","end":"2025-01-03T04:00:00Z"},"new":1}"#;
        let info: RenewalInfo = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&info).unwrap(), text);
    }

    #[test]
    fn refuses_what_is_no_time() {
        for window in [
            r#"null"#,
            r#"{"start":"soon","end":"2025-01-03T04:00:00Z"}"#,
            r#"{"start":1,"end":2}"#,
            r#"{"start":"2025-01-03T04:00:00Z"}"#,
        ] {
            let text = format!(r#"{{"suggestedWindow":{window}}}"#);
            assert!(
                serde_json::from_str::<RenewalInfo>(&text).is_err(),
                "{text}"
            );
        }
    }
}
