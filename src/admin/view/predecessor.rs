//! Older processes that have connections from before an upgrade, as the API shows them.
//!
//! Owns the names and the meaning of these fields. Invariant: that of the whole view.

use std::ops::Deref;

use serde::{Deserialize, Serialize};

use crate::types::timestamp::Timestamp;

/// One older process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PredecessorView {
    /// Its process id.
    pub pid: u32,
    /// When it handed over.
    pub since: Timestamp,
    /// Whether it has been heard from in the last seconds; else the rest is what it said last.
    pub answers: bool,
    /// Connections that it has.
    pub connections: u64,
    /// When it resets what is left of them; `null` before it has said so.
    pub until: Option<Timestamp>,
    /// The backends that its connections are at.
    pub backends: Vec<HeldBackend>,
}

/// Connections of an older process at one backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldBackend {
    /// The pool.
    pub pool: String,
    /// The backend.
    pub backend: String,
    /// Connections that it holds or that are on their way to it.
    pub connections: u64,
}

/// What became of a change in one older process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PredecessorAnswer {
    /// Its process id.
    pub pid: u32,
    /// Whether it answered in time; else nothing was done there.
    pub answered: bool,
    /// Connections that were meant there: at the backend, or with a pin that was moved or forgotten. Of one that did not
    /// answer, those that it was last known to have.
    pub connections: u64,
    /// Why it did not do it; `null` where it did.
    pub error: Option<String>,
}

/// An answer to a change, with what became of it in older processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached<T> {
    /// What was done.
    #[serde(flatten)]
    pub done: T,
    /// One for each older process that has connections; left out where there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub predecessors: Vec<PredecessorAnswer>,
}

impl<T> Deref for Reached<T> {
    type Target = T;

    /// What was done.
    fn deref(&self) -> &T {
        &self.done
    }
}
