//! How far a session goes along with what a CA answers.

use std::time::Duration;

/// How often a request is sent anew that the CA refused for its nonce.
///
/// Each refusal brings a fresh nonce, so the next try is immediate. Pebble refuses a share of nonces
/// on purpose; of a CA that refuses this many in a row no more is to be hoped.
pub(super) const BAD_NONCES: usize = 20;

/// How many redirects of a GET are followed. A signed request follows none.
pub(super) const REDIRECTS: usize = 3;

/// How long after its first try a request may be sent again, unless the session's
/// [`retry_timeout`](super::SessionOptions::retry_timeout) is longer. What is under way then may
/// still end, within the transport's own time.
pub(super) const TRYING: Duration = Duration::from_secs(3 * 60);

/// The largest body that is looked at, in octets, whatever a transport lets through.
pub(super) const BODY: usize = 16 << 20;

/// The links of one reply that are looked at. CAs send three or four.
pub(super) const LINKS: usize = 100;

/// The longest value of a `Link` header that is looked at, in octets.
pub(super) const LINK_LENGTH: usize = 64 << 10;

/// The URLs in the words of a rate limit that are looked at.
pub(super) const TOLD_URLS: usize = 8;

/// The other hosts than the directory's that are remembered, so that each is warned of once.
pub(super) const OTHER_HOSTS: usize = 16;

/// How many signed requests of one session are under way at once, whatever the number of orders.
///
/// Every server of HTTP/2 should take as many on one connection (RFC 9113 §6.5.2 has 100), and each
/// of them takes some 10 KiB of memory. Let's Encrypt takes 250 requests a second from one address,
/// so it is more than enough where a reply takes less than a quarter of a second.
pub(super) const UNDER_WAY: usize = 64;

/// How many nonces of one session are asked for at once. Let's Encrypt takes ten such requests at
/// once from one address, and 20 a second; and each request brings the next one's nonce.
pub(super) const NEW_NONCES: usize = 10;
