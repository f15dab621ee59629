//! What this process is to others of the same balancer.
//!
//! Owns the roles. Knows nothing of how one follows another. Invariant: a process that drains
//! never serves again.

/// What this process is to others of the same balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// It has not taken over yet from another process, or that one has not let go yet.
    TakesOver,
    /// It serves.
    Serves,
    /// Another process has taken over, and it drains.
    Drains,
    /// It was to take over from another process, and nothing came of it: why.
    Failed(String),
}
