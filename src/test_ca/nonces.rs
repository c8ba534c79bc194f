use std::collections::{HashSet, VecDeque};

use rustls::crypto::GetRandomFailed;

use super::random::{Random, SeededRandom};

/// The nonces that clients may still use, each of them once (RFC 8555 §6.5).
#[derive(Debug)]
pub(super) struct Nonces {
    fresh: HashSet<String>,
    /// By age. Used ones are left in it, and passed over when their turn comes.
    issued: VecDeque<String>,
    rejected_share: f64,
    draws: SeededRandom,
}

impl Nonces {
    /// As many as Boulder holds. A client that sits on one for longer gets `badNonce`.
    const CAPACITY: usize = 65_536;

    pub(super) fn new(seed: u64) -> Self {
        Self {
            fresh: HashSet::new(),
            issued: VecDeque::new(),
            rejected_share: 0.0,
            draws: SeededRandom::new(seed),
        }
    }

    pub(super) fn reject(&mut self, share: f64) {
        self.rejected_share = share;
    }

    pub(super) fn issue(&mut self, random: &Random) -> Result<String, GetRandomFailed> {
        let nonce = random.token::<16>()?;
        if self.issued.len() == Self::CAPACITY
            && let Some(oldest) = self.issued.pop_front()
        {
            self.fresh.remove(&oldest);
        }
        self.issued.push_back(nonce.clone());
        self.fresh.insert(nonce.clone());
        Ok(nonce)
    }

    /// Takes a nonce out of use. Tells whether it was good and no fault is to be played.
    pub(super) fn redeem(&mut self, nonce: &str) -> bool {
        self.fresh.remove(nonce) && !self.draws.happens(self.rejected_share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::crypto_provider;

    fn random() -> Random {
        Random::new(crypto_provider().unwrap())
    }

    #[test]
    fn each_is_good_once() {
        let mut nonces = Nonces::new(0);
        let nonce = nonces.issue(&random()).unwrap();
        assert!(!nonces.redeem("unknown"));
        assert!(nonces.redeem(&nonce));
        assert!(!nonces.redeem(&nonce));
    }

    #[test]
    fn the_oldest_make_room() {
        let (mut nonces, random) = (Nonces::new(0), random());
        let first = nonces.issue(&random).unwrap();
        let second = nonces.issue(&random).unwrap();
        for _ in 1..Nonces::CAPACITY {
            nonces.issue(&random).unwrap();
        }
        assert!(!nonces.redeem(&first));
        assert!(nonces.redeem(&second));
        assert_eq!(nonces.issued.len(), Nonces::CAPACITY);
    }

    #[test]
    fn rejects_the_share_it_is_told_to() {
        let (mut nonces, random) = (Nonces::new(3), random());
        for (share, expected) in [(1.0, 0..=0), (0.5, 400..=600), (0.0, 1_000..=1_000)] {
            nonces.reject(share);
            let good = (0..1_000)
                .filter(|_| {
                    let nonce = nonces.issue(&random).unwrap();
                    nonces.redeem(&nonce)
                })
                .count();
            assert!(expected.contains(&good), "{share}: {good}");
        }
    }
}
