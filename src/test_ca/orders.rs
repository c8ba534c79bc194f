use std::time::{Duration, SystemTime};

use http::{StatusCode, header};

use super::ca::Ca;
use super::reply::{Refusal, Reply};
use super::request::Payload;
use super::route::Route;
use super::settings::Validation;
use super::state::{
    Issuing, State, StoredAuthorization, StoredCertificate, StoredChallenge, StoredOrder,
};
use crate::protocol::{
    Authorization, Challenge, ChallengeType, DnsName, Finalize, Identifier, NewOrder, Order,
    OrderStatus, Problem, ProblemType,
};
use crate::x509::Csr;

impl Ca {
    /// newOrder (RFC 8555 §7.4).
    pub(super) fn new_order(&self, account: u64, payload: &Payload) -> Result<Reply, Refusal> {
        let request: NewOrder = payload.json()?;
        if request.not_before.is_some() || request.not_after.is_some() {
            return Err(Refusal::malformed(
                "this CA chooses `notBefore` and `notAfter` itself",
            ));
        }
        if let Some(profile) = &request.profile {
            return Err(Refusal::new(
                ProblemType::InvalidProfile,
                format!("there is no profile `{profile}`"),
            ));
        }
        let identifiers = self.check_identifiers(request.identifiers)?;
        let reuses_authorizations = self.settings().reuses_authorizations;

        let mut state = self.state();
        let id = state.orders.next_id();
        let mut authorizations = Vec::new();
        // Backwards: §7.1.3 gives the order of authorizations no meaning, so no client may rely on
        // one.
        for identifier in identifiers.iter().rev() {
            let reused = match reuses_authorizations {
                true => state.valid_authorization(account, identifier),
                false => None,
            };
            let authorization = match reused {
                Some(authorization) => authorization,
                None => self.new_authorization(&mut state, account, identifier)?,
            };
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
        state.orders.insert(StoredOrder {
            account,
            authorizations,
            issuing: None,
            object,
        });
        state.update_order(id);

        let object = &own(&mut state, account, id)?.object;
        let reply = Reply::json(StatusCode::CREATED, object)?;
        Ok(reply.location(self.url(Route::Order(id)).map_err(Refusal::internal)?))
    }

    /// A look at an order (§7.1.3).
    pub(super) async fn order(
        &self,
        account: u64,
        id: u64,
        payload: &Payload,
    ) -> Result<Reply, Refusal> {
        payload.expect_empty()?;
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
    ) -> Result<Reply, Refusal> {
        let request: Finalize = payload.json()?;
        let (lifetime, issuance) = {
            let settings = self.settings();
            (settings.certificate_lifetime, settings.issuance)
        };
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
        let key = csr.public_key_info();
        if state.is_account_key(key) {
            return Err(Refusal::new(
                ProblemType::BadCsr,
                "the CSR's key must not be the key of an account (RFC 8555 §11.1)",
            ));
        }

        let issued = self
            .issuer
            .issue(key, csr.identifiers().clone(), SystemTime::now(), lifetime)
            .map_err(Refusal::internal)?;
        let certificate = state.certificates.insert(StoredCertificate {
            account,
            issued,
            is_revoked: false,
        });
        let order = own(&mut state, account, id)?;
        order.issuing = Some(Issuing::new(certificate, issuance));
        order.object.status = OrderStatus::Processing;
        let reply = self.order_reply(&mut state, account, id)?;
        Ok(reply.location(self.url(Route::Order(id)).map_err(Refusal::internal)?))
    }

    fn order_reply(&self, state: &mut State, account: u64, id: u64) -> Result<Reply, Refusal> {
        let validating = state.order_is_validating(id);
        let order = own(state, account, id)?;
        if let Some(issuing) = order.issuing.take_if(|issuing| issuing.is_due()) {
            let url = self.url(Route::Certificate(issuing.certificate));
            order.object.certificate = Some(url.map_err(Refusal::internal)?);
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

    fn new_authorization(
        &self,
        state: &mut State,
        account: u64,
        identifier: &Identifier,
    ) -> Result<u64, Refusal> {
        // §8.3, §8.4: only DNS can prove control of a wildcard. All that can be validated here is
        // http-01, and a challenge that can only fail is kept from those who have a choice.
        let (base, kind) = match identifier {
            Identifier::Dns(name) if name.is_wildcard() => {
                let base = DnsName::parse(name.base()).map_err(Refusal::internal)?;
                (base.into(), ChallengeType::Dns01)
            }
            identifier => (identifier.clone(), ChallengeType::Http01),
        };
        let url = self.url(Route::Challenge(state.challenges.next_id()));
        let token = self.random.token::<32>()?;
        let challenge = state.challenges.insert(StoredChallenge {
            authorization: state.authorizations.next_id(),
            object: Challenge::pending(kind, url.map_err(Refusal::internal)?, Some(token)),
        });

        let mut object = Authorization::pending(base, identifier.is_wildcard(), Vec::new());
        object.expires = SystemTime::now().checked_add(WEEK);
        Ok(state.authorizations.insert(StoredAuthorization {
            account,
            orders: Vec::new(),
            challenges: vec![challenge],
            object,
        }))
    }

    /// The identifiers in their canonical form, each once, or what is wrong with each of them.
    fn check_identifiers(&self, identifiers: Vec<Identifier>) -> Result<Vec<Identifier>, Refusal> {
        let mut unique: Vec<Identifier> = Vec::new();
        for identifier in identifiers {
            if !unique.contains(&identifier) {
                unique.push(identifier);
            }
        }
        if unique.is_empty() {
            return Err(Refusal::malformed("the order is for no identifier"));
        }
        if unique.len() > MAX_IDENTIFIERS {
            return Err(Refusal::malformed(format!(
                "the order is for more than {MAX_IDENTIFIERS} identifiers"
            )));
        }

        let mut problems: Vec<Problem> = Vec::new();
        for identifier in &unique {
            if let Some(problem) = self.identifier_problem(identifier, &unique) {
                problems.push(problem.for_identifier(identifier.clone()));
            }
        }
        let Some(first) = problems.first() else {
            return Ok(unique);
        };
        // §6.7.1: `compound` where the subproblems have nothing in common.
        let kind = match problems.iter().all(|problem| problem.kind == first.kind) {
            true => first.kind.clone(),
            false => ProblemType::Compound,
        };
        let problem = Problem::new(kind, "the CA does not issue for some of the identifiers");
        Err(Refusal::with_problem(
            StatusCode::BAD_REQUEST,
            problem.with_subproblems(problems),
        ))
    }

    fn identifier_problem(&self, identifier: &Identifier, all: &[Identifier]) -> Option<Problem> {
        let name = match identifier {
            Identifier::Dns(name) => name,
            Identifier::Ip(_) => return None,
            Identifier::Other(other) if matches!(other.type_name.as_str(), "dns" | "ip") => {
                return Some(Problem::new(
                    ProblemType::Malformed,
                    "the value is not one of its type",
                ));
            }
            Identifier::Other(_) => {
                return Some(Problem::new(
                    ProblemType::UnsupportedIdentifier,
                    "the CA issues for identifiers of the types `dns` and `ip` only",
                ));
            }
        };

        let settings = self.settings();
        let blocks = |blocked: &String| {
            let rest = name.base().strip_suffix(blocked.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        if settings.blocked.iter().any(blocks) {
            return Some(Problem::new(
                ProblemType::RejectedIdentifier,
                "the CA's policy forbids issuing for this name",
            ));
        }

        // As at Let's Encrypt: the wildcard covers the name already.
        let (_, parent) = name.as_str().split_once('.')?;
        let covers = |other: &Identifier| {
            other
                .dns_name()
                .is_some_and(|other| other.is_wildcard() && other.base() == parent)
        };
        if !name.is_wildcard() && all.iter().any(covers) {
            return Some(Problem::new(
                ProblemType::Malformed,
                format!("the name is redundant with `*.{parent}` in the same order"),
            ));
        }
        None
    }
}

/// The order, if it is the account's.
fn own(state: &mut State, account: u64, id: u64) -> Result<&mut StoredOrder, Refusal> {
    let order = state.orders.get_mut(id).ok_or_else(Refusal::not_found)?;
    match order.account == account {
        true => Ok(order),
        false => Err(Refusal::unauthorized("the order is another account's")),
    }
}

/// As at Let's Encrypt.
const MAX_IDENTIFIERS: usize = 100;
const WEEK: Duration = Duration::from_secs(7 * 24 * 3_600);
