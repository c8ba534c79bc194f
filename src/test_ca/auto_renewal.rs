//! Orders that renew their certificates by themselves (STAR, RFC 8739).

use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderName, Method, StatusCode, header};
use serde_json::{Map, Value};

use super::ca::{Ca, asks_for};
use super::issuer::Contents;
use super::orders::own;
use super::reply::{Refusal, Reply};
use super::request::Payload;
use super::state::{State, StoredCertificate};
use super::{TestCa, TestCaBuilder};
use crate::protocol::{AutoRenewal, AutoRenewalLimits, NewOrder, OrderStatus, ProblemType};

impl TestCaBuilder {
    /// Offers orders that renew their certificates by themselves (STAR, RFC 8739): none with
    /// certificates of a shorter lifetime than this, and none that lasts longer than that. By
    /// default an order's `auto-renewal` is passed over.
    ///
    /// The next certificate is there when half of a lifetime is over, or earlier where an order
    /// asks for more `lifetime-adjust` (§3.5). Lifetimes are counted in whole seconds, and may be
    /// as short as a test needs.
    pub fn auto_renewal(mut self, min_lifetime: Duration, max_duration: Duration) -> Self {
        let renewal = &mut self.settings.auto_renewal;
        renewal.is_offered = true;
        renewal.limits.min_lifetime = min_lifetime;
        renewal.limits.max_duration = max_duration;
        self
    }

    /// Whether the certificate of an order that renews by itself can be had by a GET without a
    /// signature, where the order asks for that (RFC 8739 §3.4). By default it can not.
    pub fn auto_renewal_get(mut self, allowed: bool) -> Self {
        self.settings.auto_renewal.limits.allow_certificate_get = allowed;
        self
    }
}

impl TestCa {
    /// See [`TestCaBuilder::auto_renewal_get`]. Orders that are placed already stay as they are.
    pub fn set_auto_renewal_get(&self, allowed: bool) {
        let mut settings = self.0.ca.settings();
        settings.auto_renewal.limits.allow_certificate_get = allowed;
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct AutoRenewalSettings {
    is_offered: bool,
    limits: AutoRenewalLimits,
}

impl AutoRenewalSettings {
    /// As the directory has them (§3.2).
    pub(super) fn offered(&self) -> Option<AutoRenewalLimits> {
        self.is_offered.then(|| self.limits.clone())
    }
}

/// The certificates of an order that renews by itself, one after another.
#[derive(Debug)]
pub(super) struct Series {
    /// Where the nominal renewal dates begin (§3.5).
    start: SystemTime,
    /// Which of them the client sees, counted from 0.
    number: u32,
    certificate: u64,
}

/// How an order was granted to renew by itself, from its finalization on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule<'a> {
    renewal: &'a AutoRenewal,
    start: SystemTime,
    end: SystemTime,
}

impl<'a> Schedule<'a> {
    /// The schedule of an order that is finalized now.
    pub(super) fn starting(renewal: &'a AutoRenewal, now: SystemTime) -> Result<Self, Refusal> {
        let start = renewal.start_date.map_or(now, |date| date.max(now));
        Self::resuming(renewal, whole_seconds(start))
            .filter(|schedule| start < schedule.end)
            .ok_or_else(expired)
    }

    /// The schedule of an order that was finalized before.
    fn resuming(renewal: &'a AutoRenewal, start: SystemTime) -> Option<Self> {
        let end = renewal.end_date?;
        Some(Self {
            renewal,
            start,
            end,
        })
    }

    /// The validity of the certificate that finalization issues.
    pub(super) fn first_dates(&self) -> Result<Range<SystemTime>, Refusal> {
        self.dates(self.number(self.start))
    }

    /// The series that begins with that certificate.
    pub(super) fn series(&self, certificate: u64) -> Series {
        Series {
            start: self.start,
            number: self.number(self.start),
            certificate,
        }
    }

    /// Which certificate is the current one: the last that has begun, so that each is valid when it
    /// is first seen (§3.3).
    fn number(&self, now: SystemTime) -> u32 {
        let lifetime = self.renewal.lifetime.as_nanos();
        let since = now.duration_since(self.start).unwrap_or_default();
        let since = since.saturating_add(self.renewal.lifetime_adjust);
        let begun = since.as_nanos().checked_div(lifetime).unwrap_or_default();
        // §3.3: none beyond the end.
        let whole = self.end.duration_since(self.start).unwrap_or_default();
        let all = whole.as_nanos().div_ceil(lifetime.max(1));
        u32::try_from(begun.min(all.saturating_sub(1))).unwrap_or(u32::MAX)
    }

    /// The validity of a certificate (§3.5).
    fn dates(&self, number: u32) -> Result<Range<SystemTime>, Refusal> {
        let AutoRenewal {
            lifetime,
            lifetime_adjust,
            ..
        } = self.renewal;
        let due = lifetime.checked_mul(number);
        let due = due.and_then(|after| self.start.checked_add(after));
        let begin = due.and_then(|due| due.checked_sub(*lifetime_adjust));
        let (Some(due), Some(begin)) = (due, begin) else {
            return Err(Refusal::internal("no certificate can hold these dates"));
        };
        let end = due.checked_add(*lifetime);
        let end = end.map_or(self.end, |end| end.min(self.end));
        let begin = self
            .renewal
            .start_date
            .map_or(begin, |date| begin.max(date));
        Ok(whole_seconds(begin)..whole_seconds(end))
    }
}

impl Ca {
    /// How an order may renew by itself, if it asks for that (§3.1.1).
    pub(super) fn check_auto_renewal(
        &self,
        request: &NewOrder,
    ) -> Result<Option<AutoRenewal>, Refusal> {
        let limits = self.settings().auto_renewal.offered();
        // A CA that can't do so passes it over, as any member that it does not know.
        let (Some(renewal), Some(limits)) = (&request.auto_renewal, limits) else {
            return Ok(None);
        };
        if request.not_before.is_some() || request.not_after.is_some() {
            return Err(Refusal::malformed(
                "`notBefore` and `notAfter` must not be with `auto-renewal`",
            ));
        }
        if renewal.lifetime < limits.min_lifetime.max(SECOND) {
            return Err(Refusal::malformed(format!(
                "`lifetime` must be {} seconds at the least",
                limits.min_lifetime.max(SECOND).as_secs()
            )));
        }
        let end = renewal.end_date;
        let end = end.ok_or_else(|| Refusal::malformed("there is no `end-date`"))?;
        let now = SystemTime::now();
        let start = renewal.start_date.unwrap_or(now);
        if end <= start.max(now) {
            return Err(Refusal::malformed(
                "`end-date` must be after the start and now",
            ));
        }
        let duration = end.duration_since(start).unwrap_or_default();
        if duration.max(renewal.lifetime) > limits.max_duration {
            return Err(Refusal::malformed(format!(
                "orders renew by themselves for {} seconds at the most",
                limits.max_duration.as_secs()
            )));
        }

        let mut granted = renewal.clone();
        granted.allow_certificate_get &= limits.allow_certificate_get;
        // §3.5. The CA's share is a half, rounded up as the member has whole seconds.
        let half = Duration::from_secs(renewal.lifetime.as_secs().div_ceil(2));
        granted.lifetime_adjust = renewal.lifetime_adjust.clamp(half, renewal.lifetime);
        Ok(Some(granted))
    }

    /// The current certificate of an order that renews by itself (§3.3), for an account or, where
    /// the order allows it, anybody.
    pub(super) fn star_certificate(&self, account: Option<u64>, id: u64) -> Result<Reply, Refusal> {
        let mut state = self.state();
        let certificate = self.current(&mut state, account, id)?;
        let issued = &certificate.issued;
        let dates = &issued.contents.dates;
        let reply = Reply::empty(StatusCode::OK).body(
            "application/pem-certificate-chain",
            self.pem(issued, 0, None)?,
        );
        Ok(reply
            .header(CERT_NOT_BEFORE, httpdate::fmt_http_date(dates.start))
            .header(CERT_NOT_AFTER, httpdate::fmt_http_date(dates.end)))
    }

    /// Issues the certificate that is due, unless it is there already. One that nobody asked for
    /// while it was current is left out.
    fn current<'a>(
        &self,
        state: &'a mut State,
        account: Option<u64>,
        id: u64,
    ) -> Result<&'a StoredCertificate, Refusal> {
        let order = match account {
            Some(account) => own(state, account, id)?,
            None => state.orders.get_mut(id).ok_or_else(Refusal::not_found)?,
        };
        let owner = order.account;
        // Not before the order shows its URL.
        let is_shown = order.object.star_certificate.is_some();
        let (Some(series), Some(renewal), true) =
            (&order.series, &order.object.auto_renewal, is_shown)
        else {
            return Err(Refusal::not_found());
        };
        if account.is_none() && !renewal.allow_certificate_get {
            return Err(
                Refusal::malformed("the order does not allow unsigned requests")
                    .status(StatusCode::METHOD_NOT_ALLOWED)
                    .header(header::ALLOW, Method::POST.as_str()),
            );
        }
        if order.object.status == OrderStatus::Canceled {
            return Err(Refusal::new(
                ProblemType::AutoRenewalCanceled,
                "the order was canceled",
            ));
        }
        let now = SystemTime::now();
        let schedule = Schedule::resuming(renewal, series.start);
        let schedule = schedule
            .filter(|schedule| now < schedule.end)
            .ok_or_else(expired)?;

        let (mut number, mut certificate) = (series.number, series.certificate);
        if schedule.number(now) > number {
            number = schedule.number(now);
            let dates = schedule.dates(number)?;
            let last = state.certificates.get(certificate);
            let last = last.ok_or_else(Refusal::not_found)?;
            let contents = Contents {
                dates,
                ..last.issued.contents.clone()
            };
            let issued = self.issuer.issue(contents).map_err(Refusal::internal)?;
            certificate = state.certificates.insert(StoredCertificate {
                account: owner,
                issued,
                is_renewed_by_order: true,
                replaced_by: None,
                revoked: None,
            });
        }
        if let Some(series) = state
            .orders
            .get_mut(id)
            .and_then(|order| order.series.as_mut())
        {
            (series.number, series.certificate) = (number, certificate);
        }
        let certificate = state.certificates.get(certificate);
        certificate.ok_or_else(Refusal::not_found)
    }

    /// Ends an order that renews by itself (§3.1.2).
    pub(super) fn cancel(
        &self,
        account: u64,
        id: u64,
        payload: &Payload,
    ) -> Result<Reply, Refusal> {
        let request: Map<String, Value> = payload.json()?;
        if !asks_for(&request, "canceled") {
            return Err(Refusal::malformed(
                "an order can only be looked at, or be canceled",
            ));
        }
        let mut state = self.state();
        let order = own(&mut state, account, id)?;
        let certificate = match (&order.series, &order.object.status) {
            (Some(series), OrderStatus::Valid) => series.certificate,
            _ => {
                return Err(Refusal::new(
                    ProblemType::AutoRenewalCancellationInvalid,
                    "the order does not renew by itself, or is not `valid`",
                ));
            }
        };

        // Until its last certificate has ended, the order matters.
        let last = state.certificates.get(certificate);
        let expires = last.map(|certificate| certificate.issued.contents.dates.end);
        let order = own(&mut state, account, id)?;
        order.object.status = OrderStatus::Canceled;
        order.object.expires = expires;
        Reply::json(StatusCode::OK, &order.object)
    }
}

fn expired() -> Refusal {
    Refusal::new(
        ProblemType::AutoRenewalExpired,
        "the order has come to its `end-date`",
    )
}

/// Certificates and HTTP dates have no fractions.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

const CERT_NOT_AFTER: HeaderName = HeaderName::from_static("cert-not-after");
const CERT_NOT_BEFORE: HeaderName = HeaderName::from_static("cert-not-before");
const SECOND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::format_timestamp;

    const DAY: Duration = Duration::from_secs(24 * 3_600);
    // 2016-01-10.
    const START: Duration = Duration::from_secs(1_452_384_000);

    #[test]
    fn dates_are_those_of_the_example_of_section_3_5() {
        let start = UNIX_EPOCH + START;
        let renewal = AutoRenewal::until(start + 10 * DAY, 4 * DAY)
            .starting(start)
            .lifetime_adjust(3 * DAY);
        let schedule = Schedule::starting(&renewal, start - DAY).unwrap();
        for (number, begin, end) in [(0, 10, 14), (1, 11, 18), (2, 15, 20)] {
            let dates = schedule.dates(number).unwrap();
            let day = |day| format!("2016-01-{day}T00:00:00Z");
            assert_eq!(format_timestamp(dates.start), day(begin));
            assert_eq!(format_timestamp(dates.end), day(end));
            // It is seen from its own beginning on.
            assert_eq!(schedule.number(dates.start), number);
            assert_eq!(
                schedule.number(dates.start - SECOND),
                number.saturating_sub(1)
            );
        }
        assert_eq!(schedule.number(start + 30 * DAY), 2);
        assert_eq!(schedule.number(start - 30 * DAY), 0);
    }

    #[test]
    fn what_can_be_dated_back_is() {
        let now = UNIX_EPOCH + START;
        let renewal = AutoRenewal::until(now + DAY, DAY).lifetime_adjust(DAY / 2);
        let schedule = Schedule::starting(&renewal, now + SECOND / 2).unwrap();
        assert_eq!(schedule.dates(0).unwrap(), now - DAY / 2..now + DAY);
        assert_eq!(schedule.number(now + DAY), 0);
        Schedule::starting(&renewal, now + DAY).unwrap_err();
    }
}
