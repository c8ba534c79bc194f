//! What the integration tests share: real ACME servers and clients, started per test.
//!
//! Every test crate compiles this module for itself and uses only part of it. A failure in here
//! is the failure of a test, so the shortcuts that the library may not take are in order.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    dead_code,
    missing_debug_implementations,
    unreachable_pub,
    reason = "shared by test crates that each use a part"
)]

pub mod bind;
pub mod distant;
pub mod examples;
#[cfg(feature = "dns-01")]
pub mod name_server;
pub mod net;
pub mod paused;
pub mod pebble;
pub mod pki;
pub mod script;
pub mod servers;
