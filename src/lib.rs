//! certwright
