use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::error::BoxError;

/// How the check finds the addresses of a name.
#[derive(Clone, Default)]
pub(super) struct Lookup {
    fixed: HashMap<String, Vec<IpAddr>>,
    default: Option<Arc<Resolve>>,
}

type Resolve =
    dyn Fn(String) -> BoxFuture<'static, Result<Vec<IpAddr>, BoxError>> + Send + Sync + 'static;

impl Lookup {
    pub(super) fn set(&mut self, name: &str, addresses: Vec<IpAddr>) {
        self.fixed.insert(canonical(name), addresses);
    }

    pub(super) fn set_default<F, R>(&mut self, resolve: F)
    where
        F: Fn(String) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Vec<IpAddr>, BoxError>> + Send + 'static,
    {
        self.default = Some(Arc::new(move |name| resolve(name).boxed()));
    }

    #[cfg(feature = "dns-01")]
    pub(super) fn has_default(&self) -> bool {
        self.default.is_some()
    }

    /// The addresses of a name, each once, IPv6 first as CAs have it. A name that has none has an
    /// empty list.
    pub(super) async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, BoxError> {
        let name = canonical(name);
        let mut addresses = match (self.fixed.get(&name), &self.default) {
            (Some(addresses), _) => addresses.clone(),
            (None, Some(resolve)) => resolve(name).await?,
            (None, None) => system(name).await?,
        };
        addresses.sort_by_key(|address| address.is_ipv4());
        let mut distinct = Vec::new();
        for address in addresses {
            if !distinct.contains(&address) {
                distinct.push(address);
            }
        }
        Ok(distinct)
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup")
            .field("fixed", &self.fixed)
            .field("system", &self.default.is_none())
            .finish()
    }
}

fn canonical(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

async fn system(name: String) -> io::Result<Vec<IpAddr>> {
    // With the dot no search domain is tried: the CA knows none.
    let found = tokio::net::lookup_host((format!("{name}."), 0)).await?;
    Ok(found.map(|address| address.ip()).collect())
}
