//! Changes that draining predecessors have to make too, after an upgrade.
//!
//! Owns what is forwarded to them. Must not know how it gets there. Invariant: a response names every predecessor, also
//! one that did not respond, with its last known number of connections.

use serde::{Deserialize, Serialize};

use super::view::{PinFilter, PinsChanged, PredecessorResult};
use crate::types::backend_state::AdminState;

/// A change that was made here, for each process that has connections from before an upgrade.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForwardedChange {
    /// A backend's administrative state.
    State {
        /// The pool.
        pool: String,
        /// The backend.
        backend: String,
        /// The new state.
        state: AdminState,
        /// Milliseconds until the end of a drain.
        deadline: Option<u64>,
    },
    /// Moves pins to another backend, and resets the connections that hold them.
    Move {
        /// The pins.
        filter: PinFilter,
        /// The backend: `BACKEND`, or `POOL/BACKEND`.
        to: String,
    },
    /// Removes pins.
    Clear {
        /// The pins.
        filter: PinFilter,
    },
}

/// Adds the connections of the predecessors to those that were affected here.
pub(super) fn add(changed: &mut PinsChanged, predecessors: &[PredecessorResult]) {
    let responded = predecessors.iter().filter(|one| one.answered);
    changed.connections += responded.map(|one| one.connections).sum::<u64>();
}
