use std::time::{Duration, SystemTime};

use http::{StatusCode, header};

use super::auto_renewal::Schedule;
use super::ca::Ca;
use super::dates::dates;
use super::issuer::Contents;
use super::reply::{Refusal, Reply};
use super::request::Payload;
use super::route::Route;
use super::settings::Validation;
use super::state::{Issuing, State, StoredCertificate, StoredOrder};
use crate::protocol::{Finalize, NewOrder, Order, OrderStatus, ProblemType};
use crate::x509::Csr;

impl Ca {
    /// newOrder (RFC 8555 §7.4).
    pub(super) fn new_order(&self, account: u64, payload: &Payload) -> Result<Reply, Refusal> {
        let request: NewOrder = payload.json()?;
        let lifetime = self.lifetime(request.profile.as_deref())?;
        let auto_renewal = self.check_auto_renewal(&request)?;
        self.check_dates(request.not_before, request.not_after, lifetime)?;
        let identifiers = self.check_identifiers(request.identifiers)?;
        let needed = self.needed(&identifiers, payload)?;

        let mut state = self.state();
        let id = state.orders.next_id();
        // A CA without renewal information passes `replaces` over.
        let mut replaces = request.replaces;
        replaces.take_if(|_| !self.settings().renewal.is_offered);
        if let Some(replaced) = &replaces {
            state.replace(replaced, id, account, &identifiers)?;
        }
        let mut authorizations = Vec::new();
        // Backwards: §7.1.3 gives the order of authorizations no meaning, so no client may rely on
        // one.
        for needed in needed.iter().rev() {
            let authorization = self.authorization_for(&mut state, account, needed)?;
            if let Some(stored) = state.authorizations.get_mut(authorization) {
                stored.orders.push(id);
            }
            authorizations.push(authorization);
        }

        let urls = authorizations.iter();
        let urls = urls.map(|id| self.url(Route::Authorization(*id)));
        let mut object = Order::pending(
            identifiers,
            urls.collect::<Result<_, _>>().map_err(Refusal::internal)?,
            self.url(Route::Finalize(id)).map_err(Refusal::internal)?,
        );
        object.expires = SystemTime::now().checked_add(WEEK);
        object.not_before = request.not_before;
        object.not_after = request.not_after;
        object.profile = request.profile;
        object.replaces = replaces;
        object.auto_renewal = auto_renewal;
        state.orders.insert(StoredOrder {
            account,
            authorizations,
            issuing: None,
            series: None,
            object,
        });
        state.update_order(id);

        let object = &own(&mut state, account, id)?.object;
        let reply = Reply::json(StatusCode::CREATED, object)?;
        Ok(reply.location(self.url(Route::Order(id)).map_err(Refusal::internal)?))
    }

    /// A look at an order (§7.1.3), or its cancellation.
    pub(super) async fn order(
        &self,
        account: u64,
        id: u64,
        payload: &Payload,
    ) -> Result<Reply, Refusal> {
        if !payload.is_empty() {
            return self.cancel(account, id, payload);
        }
        if self.settings().validation == Validation::BeforeNextLook {
            self.wait_while(|state| state.order_is_validating(id)).await;
        }

        let mut state = self.state();
        if let Some(issuing) = &mut own(&mut state, account, id)?.issuing {
            issuing.look();
        }
        self.order_reply(&mut state, account, id)
    }

    /// Finalizes an order (§7.4).
    pub(super) fn finalize(
        &self,
        account: u64,
        id: u64,
        payload: &Payload,
        stays_processing: bool,
    ) -> Result<Reply, Refusal> {
        let request: Finalize = payload.json()?;
        let issuance = (!stays_processing).then(|| self.settings().issuance);
        let mut state = self.state();
        let order = own(&mut state, account, id)?;
        if order.object.status != OrderStatus::Ready {
            return Err(Refusal::new(
                ProblemType::OrderNotReady,
                format!("the order is `{}`, not `ready`", order.object.status),
            ));
        }

        // An order whose CSR is refused stays ready, for another CSR.
        let csr = Csr::from_der(request.csr.as_bytes())
            .map_err(|error| Refusal::new(ProblemType::BadCsr, error.to_string()))?;
        let names = &order.object.identifiers;
        if csr.identifiers() != &names.iter().cloned().collect() {
            return Err(Refusal::unauthorized(
                "the CSR is not for the same identifiers as the order",
            ));
        }
        // The profile may have been withdrawn since the order was placed.
        let lifetime = self.lifetime(order.object.profile.as_deref())?;
        let auto_renewal = order.object.auto_renewal.clone();
        let schedule = match &auto_renewal {
            Some(renewal) => Some(Schedule::starting(renewal, SystemTime::now())?),
            None => None,
        };
        let dates = match schedule {
            Some(schedule) => schedule.first_dates()?,
            None => dates(&order.object, lifetime)?,
        };
        let key = csr.public_key_info();
        if state.is_account_key(key) {
            return Err(Refusal::new(
                ProblemType::BadCsr,
                "the CSR's key must not be the key of an account (RFC 8555 §11.1)",
            ));
        }

        let contents = Contents {
            public_key_info: key.to_vec(),
            identifiers: csr.identifiers().clone(),
            dates,
        };
        let issued = self.issuer.issue(contents).map_err(Refusal::internal)?;
        let certificate = state.certificates.insert(StoredCertificate {
            account,
            issued,
            is_renewed_by_order: schedule.is_some(),
            replaced_by: None,
            revoked: None,
        });
        let order = own(&mut state, account, id)?;
        order.series = schedule.map(|schedule| schedule.series(certificate));
        order.issuing = Some(Issuing::new(certificate, issuance));
        order.object.status = OrderStatus::Processing;
        let reply = self.order_reply(&mut state, account, id)?;
        Ok(reply.location(self.url(Route::Order(id)).map_err(Refusal::internal)?))
    }

    fn order_reply(&self, state: &mut State, account: u64, id: u64) -> Result<Reply, Refusal> {
        let validating = state.order_is_validating(id);
        let order = own(state, account, id)?;
        if let Some(issuing) = order.issuing.take_if(|issuing| issuing.is_due()) {
            let (route, url) = match &order.object.auto_renewal {
                Some(renewal) => {
                    order.object.expires = renewal.end_date;
                    let route = Route::StarCertificate(id);
                    (route, &mut order.object.star_certificate)
                }
                None => {
                    let id = issuing.certificate;
                    let route = Route::Certificate { id, chain: 0 };
                    (route, &mut order.object.certificate)
                }
            };
            *url = Some(self.url(route).map_err(Refusal::internal)?);
            order.object.status = OrderStatus::Valid;
        }

        let reply = Reply::json(StatusCode::OK, &order.object)?;
        let waits = validating || order.object.status == OrderStatus::Processing;
        Ok(self.with_retry_after(reply, waits))
    }

    /// Adds `Retry-After` to a reply about what is still going on.
    pub(super) fn with_retry_after(&self, reply: Reply, waits: bool) -> Reply {
        match self.settings().retry_after {
            Some(retry_after) if waits => reply.header(header::RETRY_AFTER, retry_after.value()),
            _ => reply,
        }
    }
}

/// The order, if it is the account's.
pub(super) fn own(state: &mut State, account: u64, id: u64) -> Result<&mut StoredOrder, Refusal> {
    let order = state.orders.get_mut(id).ok_or_else(Refusal::not_found)?;
    match order.account == account {
        true => Ok(order),
        false => Err(Refusal::unauthorized("the order is another account's")),
    }
}

pub(super) const WEEK: Duration = Duration::from_secs(7 * 24 * 3_600);
