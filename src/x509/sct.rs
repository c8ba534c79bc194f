use std::time::{Duration, SystemTime, UNIX_EPOCH};

use thiserror::Error;

/// A log's promise to publish a certificate, as it stands within the certificate (RFC 6962 §3.2).
///
/// It is read, not verified: the logs' keys are not known here.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct SignedCertificateTimestamp {
    /// The version: 0 is v1, the only one that has been given out.
    pub version: u8,
    /// Which log it is: the SHA-256 of its public key.
    pub log_id: [u8; 32],
    /// When the log promised.
    pub time: SystemTime,
}

impl SignedCertificateTimestamp {
    /// Reads a `SignedCertificateTimestampList` (§3.3): each octet must be accounted for.
    ///
    /// A timestamp of a version that is not known is passed over, as its layout is not known either.
    pub(super) fn read_list(octets: &[u8]) -> Result<Vec<Self>, InvalidSct> {
        let mut outer = Octets(octets);
        let mut list = Octets(outer.vector()?);
        outer.end()?;
        if list.0.is_empty() {
            return Err(InvalidSct::Empty);
        }
        let mut timestamps = Vec::new();
        while !list.0.is_empty() {
            let mut serialized = Octets(list.vector()?);
            let [version] = serialized.array()?;
            if version != Self::V1 {
                continue;
            }
            timestamps.push(Self::read_v1(serialized)?);
        }
        Ok(timestamps)
    }

    const V1: u8 = 0;

    fn read_v1(mut octets: Octets<'_>) -> Result<Self, InvalidSct> {
        let log_id = octets.array()?;
        let milliseconds = u64::from_be_bytes(octets.array()?);
        let _extensions = octets.vector()?;
        let [_hash, _signature_algorithm] = octets.array()?;
        let signature = octets.vector()?;
        if signature.is_empty() {
            return Err(InvalidSct::Empty);
        }
        octets.end()?;
        Ok(Self {
            version: Self::V1,
            log_id,
            time: UNIX_EPOCH
                .checked_add(Duration::from_millis(milliseconds))
                .ok_or(InvalidSct::Time)?,
        })
    }
}

/// Octets in TLS's presentation language (RFC 8446 §3), read from the front.
///
/// The crates for it bring a derive macro along, and refuse a whole list for one unknown algorithm.
struct Octets<'a>(&'a [u8]);

impl<'a> Octets<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], InvalidSct> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(InvalidSct::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], InvalidSct> {
        self.take(N)?.try_into().map_err(|_| InvalidSct::Truncated)
    }

    /// A vector with a length of two octets.
    fn vector(&mut self) -> Result<&'a [u8], InvalidSct> {
        let length = u16::from_be_bytes(self.array()?);
        self.take(length.into())
    }

    fn end(&self) -> Result<(), InvalidSct> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(InvalidSct::Trailing),
        }
    }
}

/// A list of signed certificate timestamps that can't be read.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum InvalidSct {
    /// A part that must hold something is empty.
    #[error("a part that must hold something is empty")]
    Empty,
    /// The time is beyond what the clock can count.
    #[error("a time is beyond what the clock can count")]
    Time,
    /// Octets are left over.
    #[error("octets are left over")]
    Trailing,
    /// It ends too early.
    #[error("it ends too early")]
    Truncated,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(octets: &[u8]) -> Vec<u8> {
        let length = u16::try_from(octets.len()).unwrap();
        [&length.to_be_bytes(), octets].concat()
    }

    fn timestamp(version: u8, log: u8, milliseconds: u64) -> Vec<u8> {
        let mut octets = vec![version];
        octets.extend([log; 32]);
        octets.extend(milliseconds.to_be_bytes());
        octets.extend(vector(&[]));
        octets.extend([4, 3]);
        octets.extend(vector(&[0x30; 8]));
        octets
    }

    fn list() -> Vec<u8> {
        let parts = [timestamp(0, 1, 1_700_000_000_123), timestamp(0, 2, 5)];
        vector(&parts.map(|part| vector(&part)).concat())
    }

    #[test]
    fn reads() {
        let timestamps = SignedCertificateTimestamp::read_list(&list()).unwrap();
        assert_eq!(timestamps.len(), 2);
        assert_eq!(timestamps[0].log_id, [1; 32]);
        assert_eq!(
            timestamps[0].time,
            UNIX_EPOCH + Duration::from_millis(1_700_000_000_123)
        );
        assert_eq!((timestamps[1].version, timestamps[1].log_id[0]), (0, 2));
    }

    #[test]
    fn passes_over_versions_to_come() {
        let parts = [vec![7, 1, 2, 3], timestamp(0, 2, 5)];
        let octets = vector(&parts.map(|part| vector(&part)).concat());
        let timestamps = SignedCertificateTimestamp::read_list(&octets).unwrap();
        assert_eq!(timestamps.len(), 1);
    }

    #[test]
    fn refuses() {
        let read = SignedCertificateTimestamp::read_list;
        assert_eq!(read(&[]), Err(InvalidSct::Truncated));
        assert_eq!(read(&[0, 0]), Err(InvalidSct::Empty));
        assert_eq!(read(&[list(), vec![0]].concat()), Err(InvalidSct::Trailing));
        let longer = [timestamp(0, 1, 5), vec![0]].concat();
        assert_eq!(read(&vector(&vector(&longer))), Err(InvalidSct::Trailing));
        let late = timestamp(0, 1, u64::MAX);
        // What the clock can count differs between platforms; it must not panic.
        let _ = read(&vector(&vector(&late)));
        let octets = list();
        for end in 0..octets.len() {
            assert!(read(&octets[..end]).is_err(), "{end}");
        }
    }
}
