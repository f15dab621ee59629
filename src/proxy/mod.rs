//! The path of one connection, from accept to close.
//!
//! Owns the stages and their order (`session`). Must not know files, administrators or Lync. Invariant: every resource that a
//! connection takes is released by `Drop`.

pub mod acceptor;
pub mod admission;
pub mod connect;
pub mod connection_record;
pub mod preread;
mod proxy_header;
pub mod rejection;
pub mod relay;
pub mod session;
