//! RFC 3339 timestamps, as [`SystemTime`].

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serializer, de};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Reads a timestamp. `None` where the text is none.
pub(crate) fn parse(text: &str) -> Option<SystemTime> {
    OffsetDateTime::parse(text, &Rfc3339)
        .ok()
        .map(SystemTime::from)
}

/// Writes whole seconds: no member of RFC 8555 needs a finer grain, and some CAs refuse one.
pub(crate) fn format(time: SystemTime) -> String {
    write(time, OffsetDateTime::truncate_to_second)
}

fn write(time: SystemTime, rounding: impl Fn(OffsetDateTime) -> OffsetDateTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    time::Duration::try_from(since)
        .ok()
        .and_then(|since| OffsetDateTime::UNIX_EPOCH.checked_add(since))
        .and_then(|time| rounding(time).format(&Rfc3339).ok())
        // RFC 3339 ends with the year 9999.
        .unwrap_or_else(|| "9999-12-31T23:59:59Z".to_owned())
}

/// For `#[serde(with)]` on an optional timestamp.
///
/// A timestamp that can't be read is taken as absent. It never decides whether an object is usable.
pub(crate) mod option {
    use super::*;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SystemTime>, D::Error> {
        let value = Option::<serde_json::Value>::deserialize(deserializer)?;
        Ok(value
            .as_ref()
            .and_then(|value| value.as_str())
            .and_then(parse))
    }

    pub(crate) fn serialize<S: Serializer>(
        time: &Option<SystemTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let Some(time) = time else {
            return serializer.serialize_none();
        };
        serializer.serialize_str(&format(*time))
    }
}

/// For `#[serde(with)]` on a timestamp without which the object is of no use.
///
/// It is written as exactly as it was read, so that what was stored compares equal.
pub(crate) mod required {
    use super::*;

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).ok_or_else(|| de::Error::custom("a timestamp is not one of RFC 3339"))
    }

    pub(crate) fn serialize<S: Serializer>(
        time: &SystemTime,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&write(*time, |time| time))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn vectors() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/timestamps.json")).unwrap();
        let mut seen = 0;
        for case in vectors["cases"].as_array().unwrap() {
            let text = case["value"].as_str().unwrap();
            match &case["valid"] {
                serde_json::Value::Bool(true) => {
                    let since = parse(text)
                        .unwrap_or_else(|| panic!("{text} was refused"))
                        .duration_since(UNIX_EPOCH)
                        .unwrap();
                    let expected = case["unix"].as_f64().unwrap();
                    assert!((since.as_secs_f64() - expected).abs() < 0.001, "{text}");
                }
                serde_json::Value::Bool(false) => assert_eq!(parse(text), None, "{text}"),
                _ => continue,
            }
            seen += 1;
        }
        assert!(seen >= 12, "only {seen} vectors were found");
    }

    #[test]
    fn writes_whole_seconds() {
        let time = UNIX_EPOCH + Duration::from_millis(1_451_257_115_600);
        assert_eq!(format(time), "2015-12-27T22:58:35Z");
    }
}
