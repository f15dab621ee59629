//! What this process is to others of the same balancer.
//!
//! Owns the roles and who is waited for in them. Knows nothing of how one follows another. Invariant: a process that drains
//! never serves again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// How many older processes this one hears out, whose pins it tells on; counts down by `Drop`.
#[derive(Debug, Clone, Default)]
pub(super) struct Followed(Arc<AtomicUsize>);

/// One of them.
pub(super) struct OneFollowed(Followed);

impl Followed {
    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    pub(super) fn one_more(&self) -> OneFollowed {
        self.0.fetch_add(1, Ordering::AcqRel);
        OneFollowed(self.clone())
    }
}

impl Drop for OneFollowed {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}
