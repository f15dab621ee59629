//! Plain values that every layer shares.
//!
//! Owns the forms in which names, times, outcomes and backend states are written and compared. Knows no clock, no socket and no
//! configuration. Invariant: a value that exists is valid.

pub mod backend_state;
pub mod host_name;
pub mod invisible;
pub mod outcome;
pub mod timestamp;
