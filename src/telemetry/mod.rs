//! What the balancer reports: metrics and log lines.
//!
//! Owns names and formats. Knows nothing of why something is reported. Invariant: reporting never blocks a connection.

pub mod log;
pub mod metrics;
