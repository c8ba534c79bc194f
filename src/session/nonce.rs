use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use tokio::time::Instant;

pub(super) static REPLAY_NONCE: HeaderName = HeaderName::from_static("replay-nonce");

/// A nonce that a CA handed out (RFC 8555 §6.5).
#[derive(Clone, Eq, PartialEq)]
pub(super) struct Nonce(String);

impl Nonce {
    /// Longer values are no nonces but an attempt to fill memory.
    const MAX_LENGTH: usize = 512;

    /// The nonce of a response. A value that is not base64url is passed over (§6.5.1).
    pub(super) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        headers
            .get(&REPLAY_NONCE)?
            .to_str()
            .ok()
            .and_then(Self::parse)
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(text: &str) -> Option<Self> {
        let plain = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_';
        let usable = (1..=Self::MAX_LENGTH).contains(&text.len()) && text.bytes().all(plain);
        usable.then(|| Self(text.to_owned()))
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nonce({})", self.0)
    }
}

/// The nonces that a CA handed out and that are not used yet.
///
/// The newest goes out first, as a CA forgets the oldest first. Time is an argument, so that the
/// pool can be tested without any.
#[derive(Debug, Default)]
pub(super) struct NoncePool {
    /// Oldest first.
    nonces: VecDeque<(Nonce, Instant)>,
}

impl NoncePool {
    /// Enough for as many requests side by side; a nonce takes some tens of octets.
    const CAPACITY: usize = 1024;

    /// CAs keep a nonce for an hour or longer; one refused costs a round trip, as a new one does.
    const MAX_AGE: Duration = Duration::from_secs(30 * 60);

    pub(super) fn put(&mut self, nonce: Nonce, now: Instant) {
        if self.nonces.len() == Self::CAPACITY {
            self.nonces.pop_front();
        }
        self.nonces.push_back((nonce, now));
    }

    pub(super) fn take(&mut self, now: Instant) -> Option<Nonce> {
        let (nonce, since) = self.nonces.pop_back()?;
        if Self::is_usable(since, now) {
            return Some(nonce);
        }
        // All others are older still.
        self.nonces.clear();
        None
    }

    /// How many are not too old.
    pub(super) fn usable(&self, now: Instant) -> usize {
        let too_old = |(_, since): &(Nonce, Instant)| !Self::is_usable(*since, now);
        self.nonces.len() - self.nonces.partition_point(too_old)
    }

    fn is_usable(since: Instant, now: Instant) -> bool {
        now.saturating_duration_since(since) <= Self::MAX_AGE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/http_headers.json")).unwrap();
        let mut seen = 0;
        for case in vectors["cases"].as_array().unwrap() {
            if case["kind"] != "replay_nonce" {
                continue;
            }
            let found = Nonce::parse(case["value"].as_str().unwrap());
            assert_eq!(
                found.is_some(),
                case["valid"].as_bool().unwrap(),
                "{}",
                case["id"]
            );
            seen += 1;
        }
        assert!(seen >= 5);
        assert_eq!(Nonce::parse(&"a".repeat(10_000)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn newest_first_bounded_and_aged_out() {
        let nonce = |number: usize| Nonce::parse(&format!("nonce-{number}")).unwrap();
        let mut pool = NoncePool::default();
        let start = Instant::now();
        for number in 0..NoncePool::CAPACITY + 10 {
            pool.put(nonce(number), start);
        }
        assert_eq!(pool.usable(start), NoncePool::CAPACITY);
        for number in (10..NoncePool::CAPACITY + 10).rev() {
            assert_eq!(pool.take(start), Some(nonce(number)));
        }
        assert_eq!(pool.take(start), None);

        pool.put(nonce(1), start);
        pool.put(nonce(2), start + NoncePool::MAX_AGE);
        let later = start + NoncePool::MAX_AGE + Duration::from_secs(1);
        assert_eq!(pool.usable(later), 1);
        assert_eq!(pool.take(later), Some(nonce(2)));
        assert_eq!(pool.usable(later), 0);
        assert_eq!(pool.take(later), None);
        assert_eq!(pool.take(start), None);
    }
}
