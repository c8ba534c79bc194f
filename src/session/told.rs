use std::time::SystemTime;

use super::limits;
use crate::protocol::{Url, parse_timestamp};

/// What the words of a rate limit tell. They are a last resort: a header, where there is one, is
/// what the CA means programs to read.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Told {
    /// The time from which trying again can help: Boulder writes `retry after 2006-01-02 15:04:05
    /// UTC`.
    pub(super) retry_at: Option<SystemTime>,
    /// A page that explains the limit: Boulder writes `see https://…`.
    pub(super) help: Option<Url>,
    /// A page that a person is asked to visit, as where Let's Encrypt has paused an account for an
    /// identifier: the text gives a URL, and not for reference.
    pub(super) visit: Option<Url>,
}

impl Told {
    pub(super) fn read(detail: &str) -> Self {
        let mut told = Self {
            retry_at: retry_at(detail),
            ..Self::default()
        };
        for (start, _) in detail.match_indices("https://").take(limits::TOLD_URLS) {
            let (before, from) = detail.split_at(start);
            let Some(url) = url(from) else {
                continue;
            };
            let introduction = before.trim_end_matches([' ', ':', '<', '(', '"']);
            let place = match introduction.to_ascii_lowercase().ends_with("see") {
                true => &mut told.help,
                false => &mut told.visit,
            };
            place.get_or_insert(url);
        }
        told
    }
}

fn retry_at(detail: &str) -> Option<SystemTime> {
    const LENGTH: usize = "2006-01-02 15:04:05".len();
    let (_, after) = detail.split_once("retry after ")?;
    let time = after.get(..LENGTH)?;
    parse_timestamp(&format!("{}Z", time.replacen(' ', "T", 1)))
}

/// The URL that a text starts with, without the punctuation that ends the sentence, and without a
/// fragment, which no [`Url`] has.
fn url(text: &str) -> Option<Url> {
    let end = text.find(|c: char| c.is_whitespace() || matches!(c, '"' | '<' | '>'));
    let url = text.get(..end.unwrap_or(text.len()))?;
    let url = url.trim_end_matches(['.', ',', ';', ':', ')', '\'']);
    let (url, _) = url.split_once('#').unwrap_or((url, ""));
    Url::parse(url).ok()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn reads_what_boulder_writes() {
        let told = Told::read(
            "too many certificates (5) already issued for this exact set of identifiers in the \
             last 168h0m0s, retry after 2026-11-21 19:31:07 UTC: see \
             https://letsencrypt.org/docs/rate-limits/#new-certificates-per-exact-set-of-identifiers",
        );
        assert_eq!(
            told.retry_at,
            Some(UNIX_EPOCH + Duration::from_secs(1_795_289_467))
        );
        assert_eq!(
            told.help.unwrap().as_str(),
            "https://letsencrypt.org/docs/rate-limits/"
        );
        assert_eq!(told.visit, None);

        let told = Told::read(
            "Your account is temporarily prevented from requesting certificates for \
             paused.example and possibly others. Please visit: \
             https://portal.example/sfe/v1/unpause?jwt=eyJ.eyJ-_.x",
        );
        assert_eq!((told.retry_at, told.help), (None, None));
        assert_eq!(
            told.visit.unwrap().as_str(),
            "https://portal.example/sfe/v1/unpause?jwt=eyJ.eyJ-_.x"
        );
    }

    #[test]
    fn survives_anything() {
        for text in [
            "",
            "retry after ",
            "retry after tomorrow, perhaps",
            "retry after 2026-11-21T19:31:0é",
            "retry after 2026-99-99 99:99:99 UTC",
            "https://",
            "see https://, see <https://>",
            "https://#",
            "please visit https://user@ca.example/",
        ] {
            assert_eq!(Told::read(text), Told::default(), "{text}");
        }
    }
}
