//! Changes that older processes have to make too, after an upgrade.
//!
//! Owns what is passed on to them, and what the answer says of each. Knows nothing of how it gets there. Invariant: a
//! process that did not answer is named in the answer, with the connections that it was last known to have.

use serde::{Deserialize, Serialize};

use super::view::{PinFilter, PinsChanged, PredecessorAnswer};
use crate::types::backend_state::AdminState;

/// A change that was made here and is to be made by each process that has connections from before an upgrade.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// A backend's administrative state.
    State {
        /// The pool.
        pool: String,
        /// The backend.
        backend: String,
        /// What it is to be.
        state: AdminState,
        /// Milliseconds until the end of a drain.
        deadline: Option<u64>,
    },
    /// Pins that are to lead to another backend, with a reset for the connections that hold them.
    Move {
        /// Which.
        filter: PinFilter,
        /// Where: `BACKEND`, or `POOL/BACKEND`.
        to: String,
    },
    /// Pins that are to be forgotten.
    Clear {
        /// Which.
        filter: PinFilter,
    },
}

/// Adds what older processes did to what was done here.
pub(super) fn add(touched: &mut PinsChanged, predecessors: &[PredecessorAnswer]) {
    let reached = predecessors.iter().filter(|one| one.answered);
    touched.connections += reached.map(|one| one.connections).sum::<u64>();
}
