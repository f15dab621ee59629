//! The path of one connection, from accept to the end.
//!
//! Owns the stages and their order (`session`). Knows no file, no person and no Lync. Invariant: whatever a connection takes, it
//! gives back by `Drop`.

pub mod acceptor;
pub mod admission;
pub mod connect;
pub mod connection_record;
pub mod preread;
pub mod rejection;
pub mod relay;
pub mod session;
