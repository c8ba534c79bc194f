use std::sync::Arc;

use rustls::crypto::{CryptoProvider, GetRandomFailed};

use crate::protocol::Base64Url;

/// The randomness of tokens, nonces and serial numbers, which nobody may guess.
#[derive(Clone, Debug)]
pub(super) struct Random(Arc<CryptoProvider>);

impl Random {
    pub(super) fn new(provider: Arc<CryptoProvider>) -> Self {
        Self(provider)
    }

    pub(super) fn octets<const N: usize>(&self) -> Result<[u8; N], GetRandomFailed> {
        let mut octets = [0; N];
        self.0.secure_random.fill(&mut octets)?;
        Ok(octets)
    }

    /// `N` octets as base64url.
    pub(super) fn token<const N: usize>(&self) -> Result<String, GetRandomFailed> {
        Ok(Base64Url::from(&self.octets::<N>()?[..]).to_string())
    }
}

/// The randomness of what a test wants to happen again in the same order (SplitMix64).
#[derive(Clone, Debug)]
pub(super) struct SeededRandom(u64);

impl SeededRandom {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The randomness of a place: the same for the same numbers.
    pub(super) fn of<const N: usize>(place: [u64; N]) -> Self {
        let mix = |seed: u64, number: u64| Self(seed ^ number).next();
        Self(place.into_iter().fold(0, mix))
    }

    /// Whether an event of this probability takes place this time.
    pub(super) fn happens(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// A number in [0, 1).
    pub(super) fn unit(&mut self) -> f64 {
        // The upper 53 bits are what such a number has room for.
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_itself_by_seed() {
        let draw = |seed| {
            let mut random = SeededRandom::new(seed);
            (0..64).map(|_| random.happens(0.5)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn keeps_to_the_probability() {
        let mut random = SeededRandom::new(7);
        for (probability, expected) in [(0.0, 0..=0), (0.3, 2_800..=3_200), (1.0, 10_000..=10_000)]
        {
            let count = (0..10_000).filter(|_| random.happens(probability)).count();
            assert!(expected.contains(&count), "{probability}: {count}");
        }
    }
}
