//! The endpoints of administrative states.
//!
//! Owns their body and its bounds. Must not know pools ([`Control`]). Invariant: where `force` is not said, nothing is
//! asked.

use std::time::SystemTime;

use hyper::StatusCode;

use super::{ApiError, json};
use crate::admin::response::ApiResponse;
use crate::admin::view::{ChangedEverywhere, Reached, StateChange, StateChanged};
use crate::admin::{Control, LastBackend, Order, SetStateError, WantedState};
use crate::config;
use crate::types::backend_state::AdminState;
use crate::types::timestamp::Timestamp;

/// In one pool.
pub(super) async fn set_in_pool(
    control: &dyn Control,
    pool: &str,
    backend: &str,
    change: &StateChange,
) -> Result<ApiResponse, ApiError> {
    let changed = control.set_state(Some(pool), backend, &wanted(change)?)?;
    let one = changed.into_iter().next().ok_or_else(|| {
        let error = "the state was not set";
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error)
    })?;
    let predecessors = control.forward(order(&one)).await;
    let done = one;
    Ok(json(StatusCode::OK, &Reached { done, predecessors }))
}

/// In every pool that has a backend of that name, or in none.
pub(super) async fn set_everywhere(
    control: &dyn Control,
    backend: &str,
    change: &StateChange,
) -> Result<ApiResponse, ApiError> {
    let changed = control.set_state(None, backend, &wanted(change)?)?;
    // Each in a task: one that does not answer holds up no other.
    let orders = changed.into_iter().map(|done| {
        let answers = tokio::spawn(control.forward(order(&done)));
        (done, answers)
    });
    let orders: Vec<_> = orders.collect();
    let mut reached = Vec::with_capacity(orders.len());
    for (done, answers) in orders {
        let predecessors = answers.await.unwrap_or_default();
        reached.push(Reached { done, predecessors });
    }
    let answer = ChangedEverywhere { changed: reached };
    Ok(json(StatusCode::OK, &answer))
}

/// The same change in older processes.
fn order(done: &StateChanged) -> Order {
    let left = |until: Timestamp| until.0.duration_since(SystemTime::now());
    let left = done.deadline.map(|until| left(until).unwrap_or_default());
    Order::State {
        pool: done.pool.clone(),
        backend: done.backend.clone(),
        state: done.state,
        deadline: left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
    }
}

fn wanted(change: &StateChange) -> Result<WantedState, ApiError> {
    let deadline = match &change.deadline {
        Some(_) if change.state != AdminState::Drain => {
            return Err(ApiError::wrong("a deadline goes with `drain` alone"));
        }
        Some(text) => Some(config::deadline(text).map_err(ApiError::wrong)?),
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

impl From<SetStateError> for ApiError {
    fn from(error: SetStateError) -> Self {
        let status = match error {
            SetStateError::UnknownPool(_) | SetStateError::UnknownBackend { .. } => {
                StatusCode::NOT_FOUND
            }
            SetStateError::Last(_) | SetStateError::HandingOver => StatusCode::CONFLICT,
        };
        Self::new(status, error.to_string())
    }
}
