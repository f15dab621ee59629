//! Administrative states, as an administrator sets them.
//!
//! Owns which backends are meant, and when the last one of a pool stays in service. Knows no HTTP. Invariant: a change
//! holds in every pool that is meant, or in none.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::admin::view::StateChanged;
use crate::admin::{Caller, Last, LastBackend, ServesInstead, SetStateError, Unknown, WantedState};
use crate::snapshot::Snapshot;
use crate::types::backend_state::{AdminState, Health};
use crate::types::timestamp::Timestamp;
use crate::upstream::backend::{Backend, Deadline, Disconnect};
use crate::upstream::pool::Pool;

/// A backend and its pool.
type Meant<'a> = (&'a Arc<Pool>, &'a Arc<Backend>);

/// Sets the state of `backend` in `pool`, or in every pool that has a backend of that name.
pub(super) fn set(
    snapshot: &Snapshot,
    pool: Option<&str>,
    backend: &str,
    wanted: &WantedState,
) -> Result<Vec<StateChanged>, SetStateError> {
    let meant = meant(snapshot, pool, backend)?;
    if wanted.last == LastBackend::Stays {
        let last: Vec<Last> = meant
            .iter()
            .filter_map(|meant| last(*meant, wanted.state))
            .collect();
        if !last.is_empty() {
            return Err(SetStateError::Last(last));
        }
    }
    let set = |meant: &Meant<'_>| set_one(snapshot, *meant, wanted);
    Ok(meant.iter().map(set).collect())
}

/// The backends that are meant; at least one.
fn meant<'a>(
    snapshot: &'a Snapshot,
    pool: Option<&str>,
    backend: &str,
) -> Result<Vec<Meant<'a>>, SetStateError> {
    let pools: Vec<&Arc<Pool>> = match pool {
        None => snapshot.pools.iter().collect(),
        Some(name) => {
            let known = snapshot.pools.iter().find(|known| *known.name == *name);
            let names = snapshot.pools.iter().map(|known| &*known.name);
            vec![known.ok_or_else(|| SetStateError::UnknownPool(Unknown::new(name, names)))?]
        }
    };
    let backends = || {
        pools
            .iter()
            .flat_map(|pool| pool.backends.iter().map(move |backend| (*pool, backend)))
    };
    let meant: Vec<Meant<'_>> = backends()
        .filter(|(_, known)| *known.name == *backend)
        .collect();
    if meant.is_empty() {
        return Err(SetStateError::UnknownBackend {
            pool: pool.map(Into::into),
            backend: Unknown::new(backend, backends().map(|(_, known)| &*known.name)),
        });
    }
    Ok(meant)
}

/// Why the backend is the last one of its pool that may not go; `None` where it may.
///
/// A backend that the administrator has taken out already is not taken out once more, unless it goes from a drain that
/// keeps its clients to maintenance. One that is down may go while another is to serve once it is up.
fn last((pool, backend): Meant<'_>, wanted: AdminState) -> Option<Last> {
    let is_taken_out = match (backend.state(), wanted) {
        (_, AdminState::Ready)
        | (AdminState::Maintain, _)
        | (AdminState::Drain, AdminState::Drain) => false,
        (AdminState::Ready, _) => true,
        (AdminState::Drain, AdminState::Maintain) => {
            backend.takes_pinned() && backend.in_flight() > 0
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
    let serves_now = backend.takes_pinned() || backend.is_in_reserve();
    if !serves_now && others().any(|other| other.state() == AdminState::Ready && other.weight() > 0)
    {
        return None;
    }
    Some(Last {
        pool: pool.name.to_string(),
        backend: backend.name.to_string(),
        serves: serves_now,
        others: others()
            .map(|other| (other.name.to_string(), why_not(other)))
            .collect(),
        instead: instead(pool, backend),
    })
}

fn instead(pool: &Pool, without: &Arc<Backend>) -> ServesInstead {
    let mut others = pool
        .backends
        .iter()
        .filter(|other| !Arc::ptr_eq(other, without));
    if others.any(|other| other.is_in_reserve()) {
        return ServesInstead::Damped;
    }
    match &pool.backup {
        Some(backup) if backup.can_serve() => ServesInstead::Backup(backup.name.to_string()),
        Some(_) | None => ServesInstead::Nobody,
    }
}

/// Whether new clients are sent to it.
fn serves(backend: &Backend) -> bool {
    backend.takes_new() && backend.weight() > 0
}

/// Why new clients are not sent to it.
fn why_not(backend: &Backend) -> &'static str {
    match (backend.state(), backend.health()) {
        (AdminState::Maintain, _) => "is in maintenance",
        (AdminState::Drain, _) => "drains",
        (AdminState::Ready, Health::Down) if backend.is_in_reserve() => "is damped",
        (AdminState::Ready, Health::Down) => "is down",
        (AdminState::Ready, Health::Up | Health::Unknown) if backend.address().is_none() => {
            "has no address"
        }
        (AdminState::Ready, Health::Up | Health::Unknown) => "has the weight 0",
    }
}

fn set_one(snapshot: &Snapshot, (pool, backend): Meant<'_>, wanted: &WantedState) -> StateChanged {
    let state = wanted.state;
    let before = backend.state();
    let lasts = wanted.deadline.unwrap_or(snapshot.config.timeouts.drain);
    let deadline = (state == AdminState::Drain).then(|| Deadline {
        at: Instant::now() + lasts,
        shown: SystemTime::now() + lasts,
    });
    backend.set_state(state, deadline);
    if state == AdminState::Maintain {
        backend.recall(Disconnect::Maintain);
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
        deadline: deadline.map(|deadline| Timestamp(deadline.shown)),
        connections: backend.in_flight().into(),
    }
}
