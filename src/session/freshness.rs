use std::time::Duration;

use http::HeaderMap;
use http::header::CACHE_CONTROL;

/// How long a directory is used before it is fetched again.
///
/// CAs mark it as not to be cached at all, yet it changes once in years, and fetching it for every
/// request would double the load: an hour at least, a day at most.
pub(super) fn lifetime(headers: &HeaderMap) -> Duration {
    const HOUR: Duration = Duration::from_secs(60 * 60);
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    max_age(headers).unwrap_or_default().clamp(HOUR, DAY)
}

/// The `max-age` of a response that may be cached (RFC 9111 §5.2.2).
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let mut max_age = None;
    let values = headers.get_all(CACHE_CONTROL).iter();
    for directive in values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
    {
        let (name, argument) = directive
            .trim()
            .split_once('=')
            .unwrap_or((directive.trim(), ""));
        match name.to_ascii_lowercase().as_str() {
            "no-cache" | "no-store" => return None,
            "max-age" => max_age = argument.trim_matches('"').parse().ok(),
            _ => {}
        }
    }
    max_age
        .filter(|&seconds| seconds > 0)
        .map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    #[test]
    fn vectors() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/http_headers.json")).unwrap();
        let mut seen = 0;
        for case in vectors["cases"].as_array().unwrap() {
            if case["kind"] != "directory_freshness" {
                continue;
            }
            let mut headers = HeaderMap::new();
            for (name, value) in case["headers"].as_object().unwrap() {
                let name: HeaderName = name.parse().unwrap();
                headers.insert(name, value.as_str().unwrap().parse().unwrap());
            }
            let expected = case["expect_max_age"].as_u64().map(Duration::from_secs);
            assert_eq!(max_age(&headers), expected, "{}", case["id"]);
            seen += 1;
        }
        assert!(seen >= 6);
    }

    #[test]
    fn lifetime_has_bounds() {
        let hour = Duration::from_secs(3600);
        for (value, expected) in [
            ("max-age=1", hour),
            ("max-age=7200", 2 * hour),
            ("max-age=99999999", 24 * hour),
            ("max-age=99999999999999999999999", hour),
            ("no-store", hour),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, value.parse().unwrap());
            assert_eq!(lifetime(&headers), expected, "{value}");
        }
    }
}
