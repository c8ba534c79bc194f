//! Renewal information (RFC 9773).

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use der::Decode;
use http::{StatusCode, header};
use rustls_pki_types::CertificateDer;
use serde_json::json;
use x509_cert::Certificate;

use super::ca::Ca;
use super::issuer::certificate_id;
use super::reply::{Refusal, Reply};
use super::settings::RetryAfter;
use super::state::State;
use super::{TestCa, TestCaBuilder};
use crate::protocol::{Identifier, OrderStatus, ProblemType, format_timestamp};

impl TestCaBuilder {
    /// Whether the CA has renewal information (RFC 9773). Without it, the directory does not name
    /// it, and `replaces` in orders is passed over. By default it has.
    ///
    /// The suggested window is where a third of the lifetime is left, or half of one that is
    /// shorter than ten days; that of a certificate that was revoked is over.
    pub fn renewal_info(mut self, offered: bool) -> Self {
        self.settings.renewal.is_offered = offered;
        self
    }

    /// The `Retry-After` of renewal information (RFC 9773 §4.3), or `None` to send none. By default
    /// 6 hours.
    pub fn renewal_retry_after(mut self, retry_after: impl Into<Option<RetryAfter>>) -> Self {
        self.settings.renewal.retry_after = retry_after.into();
        self
    }
}

impl TestCa {
    /// See [`TestCaBuilder::renewal_info`].
    pub fn set_renewal_info(&self, offered: bool) {
        self.0.ca.settings().renewal.is_offered = offered;
    }

    /// See [`TestCaBuilder::renewal_retry_after`].
    pub fn set_renewal_retry_after(&self, retry_after: impl Into<Option<RetryAfter>>) {
        self.0.ca.settings().renewal.retry_after = retry_after.into();
    }

    /// Sets the window in which a certificate, or for `None` each one, should be renewed, and the
    /// page that says why (RFC 9773 §4.2). The window need not make sense.
    pub fn set_renewal_window<'a>(
        &self,
        certificate: impl Into<Option<&'a CertificateDer<'a>>>,
        window: Range<SystemTime>,
        explanation_url: impl Into<Option<&'a str>>,
    ) {
        let mut body = window_json(&window);
        if let (Some(url), Some(body)) = (explanation_url.into(), body.as_object_mut()) {
            body.insert("explanationURL".to_owned(), json!(url));
        }
        self.set_renewal_info_body(certificate, body.to_string());
    }

    /// Sets the renewal information of a certificate, or for `None` of each one, octet for octet.
    /// It need not be JSON.
    ///
    /// What is set for one certificate goes before what is set for all of them.
    pub fn set_renewal_info_body<'a>(
        &self,
        certificate: impl Into<Option<&'a CertificateDer<'a>>>,
        body: impl Into<Bytes>,
    ) {
        let mut settings = self.0.ca.settings();
        let Some(certificate) = certificate.into() else {
            settings.renewal.body_of_all = Some(body.into());
            return;
        };
        let certificate = Certificate::from_der(certificate);
        // What is no certificate of this CA is never asked for.
        if let Ok(Ok(id)) = certificate.map(|certificate| certificate_id(&certificate)) {
            settings.renewal.bodies.insert(id, body.into());
        }
    }

    /// Undoes all [`set_renewal_window`](Self::set_renewal_window) and
    /// [`set_renewal_info_body`](Self::set_renewal_info_body).
    pub fn reset_renewal_info(&self) {
        let mut settings = self.0.ca.settings();
        settings.renewal.body_of_all = None;
        settings.renewal.bodies.clear();
    }
}

#[derive(Clone, Debug)]
pub(super) struct RenewalSettings {
    pub(super) is_offered: bool,
    retry_after: Option<RetryAfter>,
    body_of_all: Option<Bytes>,
    /// By the certificates' identifiers.
    bodies: BTreeMap<String, Bytes>,
}

impl Default for RenewalSettings {
    fn default() -> Self {
        Self {
            is_offered: true,
            retry_after: Some(RetryAfter::Seconds(6 * 3_600)),
            body_of_all: None,
            bodies: BTreeMap::new(),
        }
    }
}

impl Ca {
    /// The renewal information of a certificate (RFC 9773 §4.1), for anybody.
    pub(super) fn renewal_info(&self, id: &str) -> Result<Reply, Refusal> {
        let state = self.state();
        let settings = self.settings();
        let renewal = &settings.renewal;
        if !renewal.is_offered {
            return Err(Refusal::not_found());
        }
        let mut certificates = state.certificates.iter();
        let certificate = certificates
            .find(|(_, certificate)| certificate.issued.id == id)
            .map(|(_, certificate)| certificate)
            .ok_or_else(Refusal::not_found)?;

        let set = renewal.bodies.get(id).or(renewal.body_of_all.as_ref());
        let body = match set {
            Some(body) => body.clone(),
            None => {
                let window = match certificate.revoked.is_some() {
                    true => past_window(),
                    false => usual_window(&certificate.issued.contents.dates),
                };
                window_json(&window).to_string().into()
            }
        };
        let reply = Reply::empty(StatusCode::OK).body("application/json", body);
        Ok(match renewal.retry_after {
            Some(retry_after) => reply.header(header::RETRY_AFTER, retry_after.value()),
            None => reply,
        })
    }
}

impl State {
    /// Notes that a new order is to replace a certificate (RFC 9773 §5).
    pub(super) fn replace(
        &mut self,
        replaced: &str,
        order: u64,
        account: u64,
        identifiers: &[Identifier],
    ) -> Result<(), Refusal> {
        let found = self
            .certificates
            .iter()
            .find(|(_, certificate)| certificate.issued.id == replaced);
        let Some((id, certificate)) = found else {
            let refusal = Refusal::malformed("the certificate to replace is not of this CA");
            return Err(refusal.status(StatusCode::NOT_FOUND));
        };
        if certificate.account != account {
            return Err(Refusal::unauthorized(
                "the certificate to replace is another account's",
            ));
        }
        let names = &certificate.issued.contents.identifiers;
        if !identifiers.iter().any(|name| names.contains(name)) {
            return Err(Refusal::malformed(
                "the order has no identifier in common with the certificate to replace",
            ));
        }
        // From the order on, not only from its certificate, and until it is invalid: as at Boulder.
        let other = certificate.replaced_by.and_then(|id| self.orders.get(id));
        if other.is_some_and(|order| order.object.status != OrderStatus::Invalid) {
            return Err(Refusal::new(
                ProblemType::AlreadyReplaced,
                "another order replaces the certificate already",
            ));
        }
        if let Some(certificate) = self.certificates.get_mut(id) {
            certificate.replaced_by = Some(order);
        }
        Ok(())
    }
}

fn window_json(window: &Range<SystemTime>) -> serde_json::Value {
    json!({
        "suggestedWindow": {
            "start": format_timestamp(window.start),
            "end": format_timestamp(window.end),
        }
    })
}

/// As at Boulder: a hundredth of the lifetime to each side of the best moment.
fn usual_window(dates: &Range<SystemTime>) -> Range<SystemTime> {
    let lifetime = dates.end.duration_since(dates.start).unwrap_or_default();
    let left = match lifetime < SHORT {
        true => lifetime / 2,
        false => lifetime / 3,
    };
    let margin = lifetime / 100;
    dates.end - left - margin..dates.end - left + margin
}

/// At once, that is.
fn past_window() -> Range<SystemTime> {
    let now = SystemTime::now();
    now - 2 * HALF_AN_HOUR..now - HALF_AN_HOUR
}

const HALF_AN_HOUR: Duration = Duration::from_secs(1_800);
const SHORT: Duration = Duration::from_secs(10 * 24 * 3_600);
