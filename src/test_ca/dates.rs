//! When certificates begin and end (RFC 8555 §7.4).

use std::ops::Range;
use std::time::{Duration, SystemTime};

use super::ca::Ca;
use super::issuer::lasting;
use super::reply::Refusal;
use super::{TestCa, TestCaBuilder};
use crate::protocol::Order;

impl TestCaBuilder {
    /// Whether `notBefore` and `notAfter` of an order become those of the certificate (RFC 8555
    /// §7.4), as long as they are not further apart than the lifetime of other certificates. By
    /// default orders that have one are refused, as at Let's Encrypt.
    pub fn honour_dates(mut self, honour: bool) -> Self {
        self.settings.honours_dates = honour;
        self
    }
}

impl TestCa {
    /// See [`TestCaBuilder::honour_dates`].
    pub fn set_honour_dates(&self, honour: bool) {
        self.0.ca.settings().honours_dates = honour;
    }
}

impl Ca {
    /// §7.4: an order that can't be fulfilled as it is must be refused.
    pub(super) fn check_dates(
        &self,
        not_before: Option<SystemTime>,
        not_after: Option<SystemTime>,
        lifetime: Duration,
    ) -> Result<(), Refusal> {
        if not_before.is_none() && not_after.is_none() {
            return Ok(());
        }
        if !self.settings().honours_dates {
            return Err(Refusal::malformed(
                "this CA chooses `notBefore` and `notAfter` itself",
            ));
        }
        let now = SystemTime::now();
        let Some(not_after) = not_after else {
            return Ok(());
        };
        if not_after <= now {
            return Err(Refusal::malformed("`notAfter` is in the past"));
        }
        match not_after.duration_since(not_before.unwrap_or(now)) {
            Ok(length) if length > lifetime => Err(Refusal::malformed(format!(
                "certificates are valid for {} seconds at the most",
                lifetime.as_secs()
            ))),
            Ok(length) if !length.is_zero() => Ok(()),
            _ => Err(Refusal::malformed("`notAfter` is not after `notBefore`")),
        }
    }
}

/// The dates of an order's certificate: those that it asks for, and for the others a lifetime from
/// now on.
pub(super) fn dates(order: &Order, lifetime: Duration) -> Result<Range<SystemTime>, Refusal> {
    let start = order.not_before.unwrap_or_else(SystemTime::now);
    let usual = lasting(start, lifetime).map_err(Refusal::internal)?;
    Ok(order.not_before.unwrap_or(usual.start)..order.not_after.unwrap_or(usual.end))
}
