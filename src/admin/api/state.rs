//! The endpoints of administrative states.
//!
//! Owns their body and its bounds. Must not know pools ([`Control`]). Invariant: where `force` is not said, nothing is
//! asked.

use hyper::StatusCode;

use super::{Answer, Refusal, json};
use crate::admin::view::{ChangedEverywhere, StateChange};
use crate::admin::{Control, LastBackend, SetStateError, WantedState};
use crate::config;
use crate::state::State;

/// In one pool.
pub(super) fn set_in_pool(
    control: &dyn Control,
    pool: &str,
    backend: &str,
    change: &StateChange,
) -> Result<Answer, Refusal> {
    let changed = control.set_state(Some(pool), backend, &wanted(change)?)?;
    let one = changed.first().ok_or_else(|| {
        let error = "the state was not set";
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error)
    })?;
    Ok(json(StatusCode::OK, one))
}

/// In every pool that has a backend of that name, or in none.
pub(super) fn set_everywhere(
    control: &dyn Control,
    backend: &str,
    change: &StateChange,
) -> Result<Answer, Refusal> {
    let changed = control.set_state(None, backend, &wanted(change)?)?;
    Ok(json(StatusCode::OK, &ChangedEverywhere { changed }))
}

fn wanted(change: &StateChange) -> Result<WantedState, Refusal> {
    let deadline = match &change.deadline {
        Some(_) if change.state != State::Drain => {
            return Err(Refusal::wrong("a deadline goes with `drain` alone"));
        }
        Some(text) => Some(config::deadline(text).map_err(Refusal::wrong)?),
        None => None,
    };
    let last = match change.force {
        Some(false) => LastBackend::Stays,
        Some(true) | None => LastBackend::Takes,
    };
    Ok(WantedState {
        state: change.state,
        deadline,
        last,
    })
}

impl From<SetStateError> for Refusal {
    fn from(error: SetStateError) -> Self {
        let status = match error {
            SetStateError::UnknownPool(_) | SetStateError::UnknownBackend { .. } => {
                StatusCode::NOT_FOUND
            }
            SetStateError::Last(_) => StatusCode::CONFLICT,
        };
        Self::new(status, error.to_string())
    }
}
