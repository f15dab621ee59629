//! Pools and their backends.
//!
//! Owns the choice of a backend. Knows no socket and no listener. Invariant: whoever holds a pick holds a permit at its backend.

pub mod backend;
pub mod balance;
pub mod pool;
