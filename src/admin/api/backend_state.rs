//! The endpoints of administrative states.
//!
//! Owns their body and its limits. Must not know pools ([`Control`](crate::admin::Control)). Invariant: without `force`
//! in the body the last backend in service is taken out like any other.

use std::time::SystemTime;

use hyper::StatusCode;

use super::error::ApiError;
use super::request::ApiRequest;
use crate::admin::response::{ApiResponse, json};
use crate::admin::view::{ChangedEverywhere, StateChange, StateChanged, WithPredecessors};
use crate::admin::{ForwardedChange, LastBackendPolicy, RequestedState};
use crate::config;
use crate::types::backend_state::AdminState;
use crate::types::timestamp::Timestamp;

/// In one pool.
pub(super) async fn set_in_pool(mut request: ApiRequest<'_>) -> Result<ApiResponse, ApiError> {
    let (pool, backend) = (request.name("pool")?, request.name("backend")?);
    let wanted = wanted(&request.body().await?)?;
    let control = request.control();
    let changed = control.set_state(Some(pool), backend, &wanted)?;
    let done = changed.into_iter().next().ok_or_else(|| {
        let error = "the state was not set";
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error)
    })?;
    let predecessors = control.forward(forwarded(&done)).await;
    Ok(json(
        StatusCode::OK,
        &WithPredecessors {
            result: done,
            predecessors,
        },
    ))
}

/// In every pool that has a backend of that name, or in none.
pub(super) async fn set_in_all_pools(mut request: ApiRequest<'_>) -> Result<ApiResponse, ApiError> {
    let backend = request.name("backend")?;
    let wanted = wanted(&request.body().await?)?;
    let control = request.control();
    let changed = control.set_state(None, backend, &wanted)?;
    // In parallel, so that a process that does not respond delays one pool only.
    let forwarded = changed.into_iter().map(|done| {
        let responses = tokio::spawn(control.forward(forwarded(&done)));
        (done, responses)
    });
    let forwarded: Vec<_> = forwarded.collect();
    let mut changed = Vec::with_capacity(forwarded.len());
    for (done, responses) in forwarded {
        let predecessors = responses.await.unwrap_or_default();
        changed.push(WithPredecessors {
            result: done,
            predecessors,
        });
    }
    Ok(json(StatusCode::OK, &ChangedEverywhere { changed }))
}

/// The same change, for the draining predecessors.
fn forwarded(done: &StateChanged) -> ForwardedChange {
    let left = |until: Timestamp| until.0.duration_since(SystemTime::now());
    let left = done.deadline.map(|until| left(until).unwrap_or_default());
    ForwardedChange::State {
        pool: done.pool.clone(),
        backend: done.backend.clone(),
        state: done.state,
        deadline: left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
    }
}

fn wanted(change: &StateChange) -> Result<RequestedState, ApiError> {
    let deadline = match &change.deadline {
        Some(_) if change.state != AdminState::Drain => {
            let error = "a deadline is only allowed with the state `drain`";
            return Err(ApiError::bad_request(error));
        }
        Some(text) => Some(config::deadline(text).map_err(ApiError::bad_request)?),
        None => None,
    };
    let last = match change.force {
        Some(false) => LastBackendPolicy::Protect,
        Some(true) | None => LastBackendPolicy::Allow,
    };
    Ok(RequestedState {
        state: change.state,
        deadline,
        last,
    })
}
