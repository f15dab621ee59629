//! Values that every layer shares.
//!
//! Owns how names, times, outcomes and backend states are written and compared. Must not know clocks, sockets or the
//! configuration. Invariant: every value of these types is valid.

pub mod backend_state;
pub mod host_name;
pub mod invisible;
pub mod outcome;
pub mod timestamp;
