//! Where connections go: backends, and pools that choose among them.
//!
//! Owns eligibility, policies and permits. Must not know sockets or the configuration file. Invariant: a connection counts for
//! a backend from the permit to its drop.

pub mod backend;
pub mod balance;
pub mod pool;
