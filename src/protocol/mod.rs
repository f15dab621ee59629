//! The protocols of clients and servers, as bytes.
//!
//! Owns the parsers and the bytes of rejections. Must not know sockets. Invariant: parsing never blocks, never panics, and is
//! limited in time and memory.

pub mod http1;
pub mod proxy;
pub mod tls;
