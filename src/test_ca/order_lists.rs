//! Lists of an account's orders, in pages (RFC 8555 §7.1.2.1).

use std::num::NonZeroUsize;

use http::StatusCode;
use serde_json::json;

use super::ca::Ca;
use super::reply::{Refusal, Reply};
use super::request::Payload;
use super::route::Route;
use super::{TestCa, TestCaBuilder};
use crate::protocol::{OrderStatus, Url};

impl TestCaBuilder {
    /// How many orders a page of an account's list has. Each but the last one links to the next
    /// (RFC 8555 §7.1.2.1). With 0, accounts have no list, as at Let's Encrypt.
    ///
    /// By default 50.
    pub fn orders_per_page(mut self, orders: usize) -> Self {
        self.settings.orders_per_page = NonZeroUsize::new(orders);
        self
    }
}

impl TestCa {
    /// See [`TestCaBuilder::orders_per_page`].
    pub fn set_orders_per_page(&self, orders: usize) {
        self.0.ca.settings().orders_per_page = NonZeroUsize::new(orders);
    }
}

impl Ca {
    /// One page of a list: what comes after an order.
    pub(super) fn orders(
        &self,
        account: u64,
        owner: u64,
        after: u64,
        payload: &Payload,
    ) -> Result<Reply, Refusal> {
        payload.expect_empty()?;
        if account != owner {
            return Err(Refusal::unauthorized("the list is another account's"));
        }
        let Some(size) = self.settings().orders_per_page else {
            return Err(Refusal::not_found());
        };

        let state = self.state();
        // §7.1.2.1: invalid ones SHOULD NOT be listed.
        let listed = state.orders.iter().filter(|(id, order)| {
            *id > after && order.account == owner && order.object.status != OrderStatus::Invalid
        });
        let ids: Vec<u64> = listed.map(|(id, _)| id).take(size.get() + 1).collect();
        let page = ids.get(..size.get()).unwrap_or(&ids);
        let urls = page.iter().map(|id| self.url(Route::Order(*id)));
        let urls: Vec<Url> = urls.collect::<Result<_, _>>().map_err(Refusal::internal)?;

        let reply = Reply::json(StatusCode::OK, &json!({ "orders": urls }))?;
        match page.last() {
            Some(&after) if ids.len() > page.len() => {
                let next = self.url(Route::Orders { owner, after });
                Ok(reply.link(next.map_err(Refusal::internal)?, "next"))
            }
            _ => Ok(reply),
        }
    }
}
