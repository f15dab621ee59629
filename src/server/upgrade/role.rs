//! The role of this process among those of the same balancer.
//!
//! Owns the roles. Must not know how one follows another. Invariant: a process that drains never serves again.

/// The role of this process among those of the same balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// It has not taken over yet, or its predecessor has not released yet what only one process can have.
    TakingOver,
    /// It serves.
    Serving,
    /// Another process has taken over, and this one drains.
    Draining,
    /// It was to take over from another process and failed, with the reason.
    Failed(String),
}
