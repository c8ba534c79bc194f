use std::collections::HashSet;

use serde::Deserialize;

use super::Account;
use crate::error::{Error, Operation, ReplyFault};
use crate::protocol::{Url, null_as_default};

/// How many pages of orders are read. At the few that CAs put on a page, thousands of orders; and a
/// list without end must not fill the memory.
const PAGE_LIMIT: usize = 1_000;

/// How many orders are read, however many are on a page.
const ORDER_LIMIT: usize = 100_000;

pub(super) async fn orders(account: &Account) -> Result<Vec<Url>, Error> {
    let state = account.refresh().await?;
    let list = state.orders.clone();
    let mut next = list.ok_or_else(|| Error::NoOrderList(account.url().clone()))?;

    let mut orders = Vec::new();
    let mut read = HashSet::new();
    loop {
        let reply = account.read(Operation::Orders, &next).await?;
        orders.extend(reply.json::<Page>()?.into_orders());
        read.insert(next);
        // §7.1.2.1: the page after this one.
        let Some(link) = reply.links("next").into_iter().next() else {
            return Ok(orders);
        };
        if read.contains(&link) || read.len() == PAGE_LIMIT || orders.len() >= ORDER_LIMIT {
            return Err(reply.fault(ReplyFault::OrderList(read.len())));
        }
        next = link;
    }
}

/// A page of the list. step-ca, and Caddy by it, send the bare array.
#[derive(Deserialize)]
#[serde(untagged)]
enum Page {
    Object {
        #[serde(deserialize_with = "null_as_default")]
        orders: Vec<Url>,
    },
    Array(Vec<Url>),
}

impl Page {
    fn into_orders(self) -> Vec<Url> {
        match self {
            Self::Object { orders } | Self::Array(orders) => orders,
        }
    }
}
