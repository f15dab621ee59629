//! Administrative states, as an administrator sets them.
//!
//! Owns which backends a change applies to, and when the last backend of a pool stays in service. Knows no HTTP. Invariant: a
//! change applies to every selected pool, or to none.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::admin::view::StateChanged;
use crate::admin::{
    Caller, Fallback, LastBackendPolicy, LastInService, RequestedState, SetStateError, UnknownName,
};
use crate::snapshot::Snapshot;
use crate::types::backend_state::{AdminState, Health};
use crate::types::timestamp::Timestamp;
use crate::upstream::backend::{Backend, Deadline, Disconnect};
use crate::upstream::pool::Pool;

/// A pool and one of its backends.
type PoolBackend<'a> = (&'a Arc<Pool>, &'a Arc<Backend>);

/// Sets the state of `backend` in `pool`, or in every pool that has a backend of that name.
pub(in crate::server) fn set(
    snapshot: &Snapshot,
    pool: Option<&str>,
    backend: &str,
    wanted: &RequestedState,
) -> Result<Vec<StateChanged>, SetStateError> {
    let selected = select(snapshot, pool, backend)?;
    if wanted.last == LastBackendPolicy::Protect {
        let last: Vec<LastInService> = selected
            .iter()
            .filter_map(|selected| last(*selected, wanted.state))
            .collect();
        if !last.is_empty() {
            return Err(SetStateError::LastInService(last));
        }
    }
    let set = |selected: &PoolBackend<'_>| set_one(snapshot, *selected, wanted);
    Ok(selected.iter().map(set).collect())
}

/// Sets a backend's state in a process that drains, where it may be the last one of its pool.
pub(in crate::server) fn set_draining(
    snapshot: &Snapshot,
    pool: &str,
    backend: &str,
    state: AdminState,
    deadline: Option<Duration>,
) -> Result<Vec<StateChanged>, SetStateError> {
    let wanted = RequestedState {
        state,
        deadline,
        last: LastBackendPolicy::Allow,
    };
    set(snapshot, Some(pool), backend, &wanted)
}

/// The backends of that name; at least one.
fn select<'a>(
    snapshot: &'a Snapshot,
    pool: Option<&str>,
    backend: &str,
) -> Result<Vec<PoolBackend<'a>>, SetStateError> {
    let pools: Vec<&Arc<Pool>> = match pool {
        None => snapshot.pools.iter().collect(),
        Some(name) => {
            let known = snapshot.pools.iter().find(|known| *known.name == *name);
            let names = snapshot.pools.iter().map(|known| &*known.name);
            vec![known.ok_or_else(|| SetStateError::UnknownPool(UnknownName::new(name, names)))?]
        }
    };
    let backends = || {
        pools
            .iter()
            .flat_map(|pool| pool.backends.iter().map(move |backend| (*pool, backend)))
    };
    let selected: Vec<PoolBackend<'_>> = backends()
        .filter(|(_, known)| *known.name == *backend)
        .collect();
    if selected.is_empty() {
        return Err(SetStateError::UnknownBackend {
            pool: pool.map(Into::into),
            backend: UnknownName::new(backend, backends().map(|(_, known)| &*known.name)),
        });
    }
    Ok(selected)
}

/// What to report if the backend must not leave service because it is the last one of its pool; `None` if it may leave.
///
/// A backend that the administrator has taken out already is not taken out again, unless it changes from a drain that still
/// serves clients to maintenance. A backend that is down may leave while another one will serve once it is up.
fn last((pool, backend): PoolBackend<'_>, wanted: AdminState) -> Option<LastInService> {
    let is_taken_out = match (backend.state(), wanted) {
        (_, AdminState::Ready)
        | (AdminState::Maintain, _)
        | (AdminState::Drain, AdminState::Drain) => false,
        (AdminState::Ready, _) => true,
        (AdminState::Drain, AdminState::Maintain) => {
            backend.accepts_pinned() && backend.in_flight() > 0
        }
    };
    let others = || {
        pool.backends
            .iter()
            .filter(|other| !Arc::ptr_eq(other, backend))
    };
    if !is_taken_out || others().any(|other| serves(other)) {
        return None;
    }
    let serves_now = backend.accepts_pinned() || backend.is_only_damped();
    if !serves_now && others().any(|other| other.state() == AdminState::Ready && other.weight() > 0)
    {
        return None;
    }
    Some(LastInService {
        pool: pool.name.to_string(),
        backend: backend.name.to_string(),
        serves: serves_now,
        others: others()
            .map(|other| (other.name.to_string(), why_not(other)))
            .collect(),
        fallback: instead(pool, backend),
    })
}

fn instead(pool: &Pool, without: &Arc<Backend>) -> Fallback {
    let mut others = pool
        .backends
        .iter()
        .filter(|other| !Arc::ptr_eq(other, without));
    if others.any(|other| other.is_only_damped()) {
        return Fallback::Damped;
    }
    match &pool.backup {
        Some(backup) if backup.can_serve() => Fallback::Backup(backup.name.to_string()),
        Some(_) | None => Fallback::Nothing,
    }
}

/// Whether new clients are sent to it.
fn serves(backend: &Backend) -> bool {
    backend.accepts_new() && backend.weight() > 0
}

/// Why new clients are not sent to it.
fn why_not(backend: &Backend) -> &'static str {
    match (backend.state(), backend.health()) {
        (AdminState::Maintain, _) => "is in maintenance",
        (AdminState::Drain, _) => "drains",
        (AdminState::Ready, Health::Down) if backend.is_only_damped() => "is damped",
        (AdminState::Ready, Health::Down) => "is down",
        (AdminState::Ready, Health::Up | Health::Unknown) if backend.address().is_none() => {
            "has no address"
        }
        (AdminState::Ready, Health::Up | Health::Unknown) => "has the weight 0",
    }
}

fn set_one(
    snapshot: &Snapshot,
    (pool, backend): PoolBackend<'_>,
    wanted: &RequestedState,
) -> StateChanged {
    let state = wanted.state;
    let before = backend.state();
    let duration = wanted.deadline.unwrap_or(snapshot.config.timeouts.drain);
    let deadline = (state == AdminState::Drain).then(|| Deadline {
        at: Instant::now() + duration,
        wall_time: SystemTime::now() + duration,
    });
    backend.set_state(state, deadline);
    if state == AdminState::Maintain {
        backend.disconnect_all(Disconnect::Maintain);
    }
    let caller = Caller::current();
    tracing::info!(
        target: "lyncpin::server",
        by = caller.by.as_str(),
        from = caller.from,
        pool = &*pool.name,
        backend = &*backend.name,
        before = before.as_str(),
        state = state.as_str(),
        connections = backend.in_flight(),
        "administrative state"
    );
    StateChanged {
        pool: pool.name.to_string(),
        backend: backend.name.to_string(),
        before,
        state,
        deadline: deadline.map(|deadline| Timestamp(deadline.wall_time)),
        connections: backend.in_flight().into(),
    }
}
