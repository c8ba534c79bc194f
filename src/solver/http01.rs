//! Solvers for http-01 (RFC 8555 §8.3).
