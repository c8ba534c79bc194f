use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::RETRY_AFTER;

/// How long a CA asks to wait (RFC 9110 §10.2.3): given in seconds or as a date, in any of the three
/// forms of §5.6.7.
///
/// A date in the past is no wait; a value that is neither form is passed over. The result has no
/// upper bound: whoever waits has a deadline.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    parse(headers.get(RETRY_AFTER)?.to_str().ok()?, now)
}

/// The time that a wait from now ends, at most a year from now.
pub(crate) fn retry_at(wait: Duration, now: SystemTime) -> SystemTime {
    const YEAR: Duration = Duration::from_secs(366 * 24 * 60 * 60);
    now + wait.min(YEAR)
}

fn parse(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|octet| octet.is_ascii_digit()) {
        // All digits, so the only error is a number that is too large.
        return Some(value.parse().map_or(Duration::MAX, Duration::from_secs));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/http_headers.json")).unwrap();
        let now = httpdate::parse_http_date("Thu, 27 Apr 2017 10:00:00 GMT").unwrap();
        let mut seen = 0;
        for case in vectors["cases"].as_array().unwrap() {
            if case["kind"] != "retry_after" {
                continue;
            }
            assert_eq!(case["now"], "2017-04-27T10:00:00Z");
            let found = parse(case["value"].as_str().unwrap(), now);
            let expected = match &case["expect_seconds"] {
                serde_json::Value::Number(seconds) => {
                    Some(Duration::from_secs(seconds.as_u64().unwrap()))
                }
                serde_json::Value::String(_) => Some(Duration::MAX),
                _ => None,
            };
            assert_eq!(found, expected, "{}", case["id"]);
            seen += 1;
        }
        assert!(seen >= 7);
    }

    #[test]
    fn survives_extremes() {
        let now = SystemTime::now();
        for value in [
            "",
            " ",
            "-",
            "99999999999999999999",
            "1e9",
            "Thu, 99 Xyz 2017",
            "\u{0}",
        ] {
            if let Some(wait) = parse(value, now) {
                assert!(retry_at(wait, now) <= now + Duration::from_secs(366 * 24 * 60 * 60));
            }
        }
        assert_eq!(
            parse("18446744073709551615", now),
            Some(Duration::from_secs(u64::MAX))
        );
        assert!(retry_at(Duration::MAX, now) > now);
    }
}
