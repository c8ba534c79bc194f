//! What the fuzz targets run; see `targets.rs`.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

pub mod targets;
