//! The ends of drains.
//!
//! Owns what happens at a drain's deadline: what is left is reset, and its pins are released, unless the backend still
//! has them in another pool of the group. Invariant: each deadline is met once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;
use tokio::time::sleep_until;

use crate::proxy::acceptor::ProxyContext;
use crate::types::backend_state::AdminState;
use crate::upstream::backend::{Backend, Disconnect};
use crate::upstream::pool::Pool;

use super::lingering::LingeringBackends;

/// Meets every deadline until the balancer stops.
pub(super) async fn keep(
    shared: Arc<ProxyContext>,
    retired: Arc<LingeringBackends>,
    mut availability: watch::Receiver<u64>,
) {
    let mut met = HashMap::new();
    loop {
        availability.borrow_and_update();
        let next = meet(&shared, &retired, &mut met, Instant::now());
        let due = async {
            match next {
                Some(next) => sleep_until(next.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            changed = availability.changed() => if changed.is_err() { return },
            () = shared.stop.cancelled() => return,
        }
    }
}

/// The deadlines that have been met, by the backend's place in memory; of backends that drain still.
type ExpiredDrains = HashMap<usize, Instant>;

/// Meets the deadlines up to `now` that are not in `met`, and says when the next one is.
fn meet(
    shared: &ProxyContext,
    retired: &LingeringBackends,
    met: &mut ExpiredDrains,
    now: Instant,
) -> Option<Instant> {
    let snapshot = shared.snapshot.load();
    let mut next: Option<Instant> = None;
    let mut over = ExpiredDrains::new();
    let pools = snapshot.pools.iter();
    let in_force = pools.flat_map(|pool| pool.backends.iter().map(move |of| (Some(pool), of)));
    let retired = retired.backends();
    let backends = in_force.chain(retired.iter().map(|backend| (None, backend)));
    for (pool, backend) in backends.filter(|(_, backend)| backend.state() == AdminState::Drain) {
        let Some(deadline) = backend.deadline() else {
            continue;
        };
        if deadline.at > now {
            next = Some(next.map_or(deadline.at, |known| known.min(deadline.at)));
            continue;
        }
        let place = Arc::as_ptr(backend).addr();
        over.insert(place, deadline.at);
        if met.get(&place) != Some(&deadline.at) {
            end(pool, backend);
        }
    }
    *met = over;
    next
}

/// A backend that a reload has removed is in no `pool`, and has no pins.
fn end(pool: Option<&Arc<Pool>>, backend: &Arc<Backend>) {
    let left = backend.in_flight();
    backend.recall(Disconnect::DrainDeadline);
    // Pins are those of the whole group. While another pool of it still sends their clients to this backend, they stay:
    // a client that comes to this pool gets another backend, and its pin goes there with it.
    let kept = pool.is_some_and(|pool| pool.pins_serve_elsewhere(backend));
    let released = match pool {
        Some(pool) if !kept => pool.release_pins_of(backend),
        Some(_) | None => 0,
    };
    tracing::info!(
        target: "lyncpin::server",
        pool = &*backend.pool,
        backend = &*backend.name,
        connections = left,
        pins = released,
        "drained: connections that were left are reset, pins {}",
        if kept { "kept for the other pools of the group" } else { "released" }
    );
}
