//! The ends of drains.
//!
//! Owns the deadlines of drains: the remaining connections are reset and the pins released, unless another pool of the group
//! still sends their clients to the backend. Knows no command. Invariant: each deadline takes effect once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::time::sleep_until;

use super::shared::SharedState;
use crate::types::backend_state::AdminState;
use crate::upstream::backend::{Backend, Disconnect};
use crate::upstream::pool::Pool;

/// Ends drains at their deadlines until the balancer stops.
pub(super) async fn run(state: Arc<SharedState>) {
    let mut availability = state.availability.subscribe();
    let mut expired = ExpiredDrains::new();
    loop {
        availability.borrow_and_update();
        let next = end_expired(&state, &mut expired, Instant::now());
        let due = async {
            match next {
                Some(next) => sleep_until(next.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            changed = availability.changed() => if changed.is_err() { return },
            () = state.proxy.stop.cancelled() => return,
        }
    }
}

/// The expired deadlines that have taken effect, by the address of the backend in memory; of backends that still drain.
type ExpiredDrains = HashMap<usize, Instant>;

/// Ends the drains that have expired by `now` and are not in `expired`; returns the next deadline.
fn end_expired(state: &SharedState, expired: &mut ExpiredDrains, now: Instant) -> Option<Instant> {
    let snapshot = state.proxy.snapshot.load();
    let mut next: Option<Instant> = None;
    let mut seen = ExpiredDrains::new();
    let pools = snapshot.pools.iter();
    let in_force = pools.flat_map(|pool| pool.backends.iter().map(move |of| (Some(pool), of)));
    let lingering = state.lingering.backends();
    let backends = in_force.chain(lingering.iter().map(|backend| (None, backend)));
    for (pool, backend) in backends.filter(|(_, backend)| backend.state() == AdminState::Drain) {
        let Some(deadline) = backend.deadline() else {
            continue;
        };
        if deadline.at > now {
            next = Some(next.map_or(deadline.at, |known| known.min(deadline.at)));
            continue;
        }
        let address = Arc::as_ptr(backend).addr();
        seen.insert(address, deadline.at);
        if expired.get(&address) != Some(&deadline.at) {
            end(pool, backend);
        }
    }
    *expired = seen;
    next
}

/// A backend that a reload has removed is in no `pool`, and has no pins.
fn end(pool: Option<&Arc<Pool>>, backend: &Arc<Backend>) {
    let connections = backend.in_flight();
    backend.disconnect_all(Disconnect::DrainDeadline);
    // Pins belong to the whole group. While another pool of it still sends their clients to this backend, they stay: a
    // client of this pool gets another backend, and its pin moves there.
    let kept = pool.is_some_and(|pool| pool.pins_allowed_elsewhere(backend));
    let released = match pool {
        Some(pool) if !kept => pool.release_pins(backend),
        Some(_) | None => 0,
    };
    tracing::info!(
        target: "lyncpin::server",
        pool = &*backend.pool,
        backend = &*backend.name,
        connections,
        pins = released,
        "drained: remaining connections are reset, pins {}",
        if kept { "kept for the other pools of the group" } else { "released" }
    );
}
