//! What clients and servers say on the wire.
//!
//! Owns the parsers and the bytes of rejections. Knows no socket. Invariant: parsing never waits, never panics, and is bounded.

pub mod http1;
pub mod tls;
