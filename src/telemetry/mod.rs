//! Metrics and the log.
//!
//! Owns their names and formats. Must not know why something is reported. Invariant: reporting never blocks a connection.

pub mod log;
pub mod metrics;
