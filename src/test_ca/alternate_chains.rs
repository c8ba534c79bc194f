//! Chains to further roots (RFC 8555 §7.4.2).

use super::ca::Ca;
use super::reply::{Refusal, Reply};
use super::route::Route;
use super::{TestCa, TestCaBuilder};

impl TestCaBuilder {
    /// How many further roots certify the intermediate. A certificate can be downloaded with a
    /// chain to each of them, to which `Link` headers of the type `alternate` lead (RFC 8555
    /// §7.4.2). By default none.
    pub fn alternate_chains(mut self, roots: usize) -> Self {
        self.alternate_chains = roots;
        self
    }
}

impl TestCa {
    /// The root certificates of the [alternate chains](TestCaBuilder::alternate_chains), in PEM and
    /// in the order of the links. The CA's own https is certified by [`root`](Self::root) only.
    pub fn alternate_root_pems(&self) -> impl Iterator<Item = &str> {
        self.0.ca.issuer.alternate_root_pems()
    }
}

impl Ca {
    /// Adds links to all chains but the one that the reply holds.
    pub(super) fn with_alternate_chains(
        &self,
        mut reply: Reply,
        id: u64,
        shown: usize,
    ) -> Result<Reply, Refusal> {
        for chain in 0..=self.issuer.alternate_root_pems().count() {
            if chain != shown {
                let url = self.url(Route::Certificate { id, chain });
                reply = reply.link(url.map_err(Refusal::internal)?, "alternate");
            }
        }
        Ok(reply)
    }
}
