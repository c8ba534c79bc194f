use std::fmt;

use http::Method;

/// What a request is for: the kinds of resources that RFC 8555 §7.1 lists.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ResourceKind {
    /// The directory (§7.1.1).
    Directory,
    /// A new nonce (§7.2).
    NewNonce,
    /// A new account, or the search for one (§7.3).
    NewAccount,
    /// An account (§7.3.2, §7.3.6).
    Account,
    /// The list of an account's orders (§7.1.2.1).
    Orders,
    /// A new authorization (§7.4.1).
    NewAuthz,
    /// A new order (§7.4).
    NewOrder,
    /// An order (§7.1.3).
    Order,
    /// The finalization of an order (§7.4).
    Finalize,
    /// An authorization (§7.5).
    Authorization,
    /// A challenge (§7.5.1).
    Challenge,
    /// The download of a certificate (§7.4.2), also of one that its order renews (RFC 8739 §3.3).
    Certificate,
    /// The revocation of a certificate (§7.6).
    RevokeCert,
    /// The change of an account's key (§7.3.5).
    KeyChange,
    /// Renewal information (RFC 9773 §4.1).
    RenewalInfo,
    /// The list of revoked certificates (RFC 5280 §5), which is no resource of ACME.
    Crl,
    /// The page where a person agrees to changed terms (§7.3.3).
    Agreement,
    /// A path that the CA does not know.
    Unknown,
}

/// Where a request goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Route {
    Directory,
    NewNonce,
    NewAccount,
    Account(u64),
    /// After an order; 0 is before the first one.
    Orders {
        owner: u64,
        after: u64,
    },
    NewAuthz,
    NewOrder,
    Order(u64),
    Finalize(u64),
    Authorization(u64),
    Challenge(u64),
    /// By one of the chains that it can have; 0 is the main one.
    Certificate {
        id: u64,
        chain: usize,
    },
    /// The current certificate of an order that renews by itself.
    StarCertificate(u64),
    RevokeCert,
    KeyChange,
    Agreement,
    /// The base that a certificate's identifier is appended to.
    RenewalInfo,
    RenewalInfoOf(String),
}

impl Route {
    pub(super) fn parse(target: &str) -> Option<Self> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut segments = path.strip_prefix('/')?.split('/');
        let collection = segments.next()?;
        let id = segments.next();
        if let ("renewal-info", Some(id)) = (collection, id) {
            let route = Self::RenewalInfoOf(id.to_owned());
            return (route.to_string() == target).then_some(route);
        }
        let id = id.map(str::parse::<u64>).transpose().ok()?;
        let route = match (collection, id, segments.next()) {
            ("directory", None, None) => Self::Directory,
            ("new-nonce", None, None) => Self::NewNonce,
            ("new-account", None, None) => Self::NewAccount,
            ("account", Some(id), None) => Self::Account(id),
            ("account", Some(owner), Some("orders")) => {
                let after = query.strip_prefix("after=").unwrap_or("0");
                let after = after.parse().ok()?;
                Self::Orders { owner, after }
            }
            ("new-authz", None, None) => Self::NewAuthz,
            ("new-order", None, None) => Self::NewOrder,
            ("order", Some(id), None) => Self::Order(id),
            ("order", Some(id), Some("finalize")) => Self::Finalize(id),
            ("authorization", Some(id), None) => Self::Authorization(id),
            ("challenge", Some(id), None) => Self::Challenge(id),
            ("certificate", Some(id), chain) => {
                let chain = chain.unwrap_or("0").parse().ok()?;
                Self::Certificate { id, chain }
            }
            ("star-certificate", Some(order), None) => Self::StarCertificate(order),
            ("revoke-cert", None, None) => Self::RevokeCert,
            ("key-change", None, None) => Self::KeyChange,
            ("agreement", None, None) => Self::Agreement,
            ("renewal-info", None, None) => Self::RenewalInfo,
            _ => return None,
        };
        // One resource has one URL: `/order/01` is none.
        (route.to_string() == target).then_some(route)
    }

    /// The methods that a resource has. All but a few have POST only (§6.3).
    pub(super) fn methods(&self) -> &'static [Method] {
        match self {
            Self::Directory => &[Method::GET, Method::POST],
            Self::NewNonce => &[Method::GET, Method::HEAD, Method::POST],
            Self::StarCertificate(_) => &[Method::GET, Method::POST],
            Self::Agreement | Self::RenewalInfo | Self::RenewalInfoOf(_) => &[Method::GET],
            _ => &[Method::POST],
        }
    }

    /// Whether only an account that has agreed to the present terms of service may use it.
    pub(super) fn needs_agreement(&self) -> bool {
        !matches!(self, Self::Account(_) | Self::Directory | Self::NewNonce)
    }

    pub(super) fn kind(&self) -> ResourceKind {
        match self {
            Self::Directory => ResourceKind::Directory,
            Self::NewNonce => ResourceKind::NewNonce,
            Self::NewAccount => ResourceKind::NewAccount,
            Self::Account(_) => ResourceKind::Account,
            Self::Orders { .. } => ResourceKind::Orders,
            Self::NewAuthz => ResourceKind::NewAuthz,
            Self::NewOrder => ResourceKind::NewOrder,
            Self::Order(_) => ResourceKind::Order,
            Self::Finalize(_) => ResourceKind::Finalize,
            Self::Authorization(_) => ResourceKind::Authorization,
            Self::Challenge(_) => ResourceKind::Challenge,
            Self::Certificate { .. } | Self::StarCertificate(_) => ResourceKind::Certificate,
            Self::RevokeCert => ResourceKind::RevokeCert,
            Self::KeyChange => ResourceKind::KeyChange,
            Self::Agreement => ResourceKind::Agreement,
            Self::RenewalInfo | Self::RenewalInfoOf(_) => ResourceKind::RenewalInfo,
        }
    }
}

impl fmt::Display for Route {
    /// The path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory => f.write_str("/directory"),
            Self::NewNonce => f.write_str("/new-nonce"),
            Self::NewAccount => f.write_str("/new-account"),
            Self::Account(id) => write!(f, "/account/{id}"),
            Self::Orders { owner, after: 0 } => write!(f, "/account/{owner}/orders"),
            Self::Orders { owner, after } => write!(f, "/account/{owner}/orders?after={after}"),
            Self::NewAuthz => f.write_str("/new-authz"),
            Self::NewOrder => f.write_str("/new-order"),
            Self::Order(id) => write!(f, "/order/{id}"),
            Self::Finalize(id) => write!(f, "/order/{id}/finalize"),
            Self::Authorization(id) => write!(f, "/authorization/{id}"),
            Self::Challenge(id) => write!(f, "/challenge/{id}"),
            Self::Certificate { id, chain: 0 } => write!(f, "/certificate/{id}"),
            Self::Certificate { id, chain } => write!(f, "/certificate/{id}/{chain}"),
            Self::StarCertificate(order) => write!(f, "/star-certificate/{order}"),
            Self::RevokeCert => f.write_str("/revoke-cert"),
            Self::KeyChange => f.write_str("/key-change"),
            Self::Agreement => f.write_str("/agreement"),
            Self::RenewalInfo => f.write_str("/renewal-info"),
            Self::RenewalInfoOf(id) => write!(f, "/renewal-info/{id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        for route in [
            Route::Directory,
            Route::NewNonce,
            Route::NewAccount,
            Route::Account(1),
            Route::Orders { owner: 1, after: 0 },
            Route::Orders { owner: 1, after: 9 },
            Route::NewAuthz,
            Route::NewOrder,
            Route::Order(2),
            Route::Finalize(3),
            Route::Authorization(4),
            Route::Challenge(5),
            Route::Certificate {
                id: u64::MAX,
                chain: 0,
            },
            Route::Certificate { id: 1, chain: 2 },
            Route::StarCertificate(6),
            Route::RevokeCert,
            Route::KeyChange,
            Route::Agreement,
            Route::RenewalInfo,
            Route::RenewalInfoOf("a.b".to_owned()),
        ] {
            assert_eq!(Route::parse(&route.to_string()), Some(route));
        }
    }

    #[test]
    fn refuses_other_paths() {
        for path in [
            "",
            "/",
            "directory",
            "/directory/",
            "/Directory",
            "/order",
            "/order/",
            "/order/01",
            "/order/+1",
            "/order/-1",
            "/order/18446744073709551616",
            "/order/1/finalize/",
            "/order/1/other",
            "/new-order/1",
            "/new-order?a=b",
            "/account/1?after=1",
            "/certificate/1/0",
            "/renewal-info/a/b",
            "/account/1/orders?after=0",
            "/account/1/orders?after=x",
            "/account/1/orders?page=1",
        ] {
            assert_eq!(Route::parse(path), None, "{path}");
        }
    }
}
