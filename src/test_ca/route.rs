use std::fmt;

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
    /// The download of a certificate (§7.4.2).
    Certificate,
    /// The revocation of a certificate (§7.6).
    RevokeCert,
    /// The change of an account's key (§7.3.5).
    KeyChange,
    /// A path that the CA does not know.
    Unknown,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Route {
    Directory,
    NewNonce,
    NewAccount,
    Account(u64),
    NewOrder,
    Order(u64),
    Finalize(u64),
    Authorization(u64),
    Challenge(u64),
    Certificate(u64),
    RevokeCert,
    KeyChange,
}

impl Route {
    pub(super) fn parse(path: &str) -> Option<Self> {
        let mut segments = path.strip_prefix('/')?.split('/');
        let collection = segments.next()?;
        let id = segments.next().map(str::parse::<u64>).transpose().ok()?;
        let route = match (collection, id, segments.next()) {
            ("directory", None, None) => Self::Directory,
            ("new-nonce", None, None) => Self::NewNonce,
            ("new-account", None, None) => Self::NewAccount,
            ("account", Some(id), None) => Self::Account(id),
            ("new-order", None, None) => Self::NewOrder,
            ("order", Some(id), None) => Self::Order(id),
            ("order", Some(id), Some("finalize")) => Self::Finalize(id),
            ("authorization", Some(id), None) => Self::Authorization(id),
            ("challenge", Some(id), None) => Self::Challenge(id),
            ("certificate", Some(id), None) => Self::Certificate(id),
            ("revoke-cert", None, None) => Self::RevokeCert,
            ("key-change", None, None) => Self::KeyChange,
            _ => return None,
        };
        // One resource has one URL: `/order/01` is none.
        (route.to_string() == path).then_some(route)
    }

    pub(super) fn kind(self) -> ResourceKind {
        match self {
            Self::Directory => ResourceKind::Directory,
            Self::NewNonce => ResourceKind::NewNonce,
            Self::NewAccount => ResourceKind::NewAccount,
            Self::Account(_) => ResourceKind::Account,
            Self::NewOrder => ResourceKind::NewOrder,
            Self::Order(_) => ResourceKind::Order,
            Self::Finalize(_) => ResourceKind::Finalize,
            Self::Authorization(_) => ResourceKind::Authorization,
            Self::Challenge(_) => ResourceKind::Challenge,
            Self::Certificate(_) => ResourceKind::Certificate,
            Self::RevokeCert => ResourceKind::RevokeCert,
            Self::KeyChange => ResourceKind::KeyChange,
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
            Self::NewOrder => f.write_str("/new-order"),
            Self::Order(id) => write!(f, "/order/{id}"),
            Self::Finalize(id) => write!(f, "/order/{id}/finalize"),
            Self::Authorization(id) => write!(f, "/authorization/{id}"),
            Self::Challenge(id) => write!(f, "/challenge/{id}"),
            Self::Certificate(id) => write!(f, "/certificate/{id}"),
            Self::RevokeCert => f.write_str("/revoke-cert"),
            Self::KeyChange => f.write_str("/key-change"),
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
            Route::NewOrder,
            Route::Order(2),
            Route::Finalize(3),
            Route::Authorization(4),
            Route::Challenge(5),
            Route::Certificate(u64::MAX),
            Route::RevokeCert,
            Route::KeyChange,
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
        ] {
            assert_eq!(Route::parse(path), None, "{path}");
        }
    }
}
