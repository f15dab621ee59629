//! Draining predecessors: older processes that have connections from before an upgrade, as the API shows them.
//!
//! Owns the names and the meaning of these fields. Must not know how they are queried. Invariant: as for the other views.

use std::ops::Deref;

use serde::{Deserialize, Serialize};

use crate::types::timestamp::Timestamp;

/// One draining predecessor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PredecessorView {
    /// Its process id.
    pub pid: u32,
    /// When its successor took over.
    pub since: Timestamp,
    /// Whether it responded within the last seconds; otherwise the other fields are its last known values.
    pub answers: bool,
    /// Its connections.
    pub connections: u64,
    /// When it resets the remaining ones; `null` until it has reported that.
    pub until: Option<Timestamp>,
    /// The backends of its connections.
    pub backends: Vec<HeldBackend>,
}

/// Connections of a predecessor to one backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldBackend {
    /// The pool.
    pub pool: String,
    /// The backend.
    pub backend: String,
    /// Connections to it, including those being established.
    pub connections: u64,
}

/// The result of a change in one predecessor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PredecessorResult {
    /// Its process id.
    pub pid: u32,
    /// Whether it responded in time; otherwise nothing was changed there.
    pub answered: bool,
    /// Its connections to the backend, or with a pin that was moved or removed. If it did not respond, its last known number
    /// of connections.
    pub connections: u64,
    /// Why it rejected the change; `null` if it did not.
    pub error: Option<String>,
}

/// The response to a change, with the results in draining predecessors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithPredecessors<T> {
    /// The result in this process.
    #[serde(flatten)]
    pub result: T,
    /// One for each draining predecessor; left out if there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub predecessors: Vec<PredecessorResult>,
}

impl<T> Deref for WithPredecessors<T> {
    type Target = T;

    /// The result in this process.
    fn deref(&self) -> &T {
        &self.result
    }
}
