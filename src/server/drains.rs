//! The ends of drains.
//!
//! Owns what happens at a drain's deadline: what is left is reset, and its pins are released. Invariant: each deadline
//! is met once.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;
use tokio::time::sleep_until;

use crate::backend::{Backend, Recall};
use crate::listener::Shared;
use crate::pool::Pool;
use crate::state::State;

/// Meets every deadline until the balancer stops.
pub(super) async fn keep(shared: Arc<Shared>, mut availability: watch::Receiver<u64>) {
    let mut met = Instant::now();
    loop {
        availability.borrow_and_update();
        let now = Instant::now();
        let next = meet(&shared, met, now);
        met = now;
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

/// Meets the deadlines after `met` up to `now`, and says when the next one is.
fn meet(shared: &Shared, met: Instant, now: Instant) -> Option<Instant> {
    let snapshot = shared.snapshot.load();
    let mut next: Option<Instant> = None;
    for pool in &snapshot.pools {
        for backend in pool
            .backends
            .iter()
            .filter(|backend| backend.state() == State::Drain)
        {
            let Some(deadline) = backend.deadline() else {
                continue;
            };
            if deadline.at > now {
                next = Some(next.map_or(deadline.at, |known| known.min(deadline.at)));
            } else if deadline.at > met {
                end(pool, backend);
            }
        }
    }
    next
}

fn end(pool: &Pool, backend: &Arc<Backend>) {
    let left = backend.in_flight();
    backend.recall(Recall::DrainDeadline);
    let released = pool.release_pins_of(backend);
    tracing::info!(
        target: "lyncpin::server",
        pool = &*pool.name,
        backend = &*backend.name,
        connections = left,
        pins = released,
        "drained: connections that were left are reset, pins released"
    );
}
