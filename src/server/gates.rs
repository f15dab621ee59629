//! Opening and closing ports with the pools behind them.
//!
//! Owns what a listener's ports are to do, and what is told of it. Knows no worker and no socket. Invariant: at the start
//! and when it is new a port is bound and does not listen: it opens when it is known that something behind it may serve.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::explain::{is_open, why_closed};
use super::sockets::{PortAction, Sockets};
use crate::proxy::acceptor::ProxyContext;
use crate::snapshot::{ActiveListener, Snapshot};
use crate::types::backend_state::Health;

/// How long names and first checks have before a port that waits for them is said to be closed.
const PATIENCE: Duration = Duration::from_secs(3);

/// Keeps every port as the pools behind it want it, until the balancer stops.
pub(super) async fn keep(
    sockets: Arc<Sockets>,
    shared: Arc<ProxyContext>,
    mut availability: watch::Receiver<u64>,
) {
    let mut told = ReportedClosed::default();
    loop {
        availability.borrow_and_update();
        follow(&sockets, &shared);
        let again = if sockets.has_left() {
            None
        } else {
            told.tell(&shared.snapshot.load_full())
        };
        tokio::select! {
            changed = availability.changed() => if changed.is_err() { break },
            () = until(again) => {}
            () = shared.stop.cancelled() => break,
        }
    }
    for listener in &shared.snapshot.load().listeners {
        listener.open.set(0.0);
    }
}

/// Brings every port to what is wanted of it now.
pub(super) fn follow(sockets: &Sockets, shared: &ProxyContext) {
    if shared.stop.is_cancelled() {
        return;
    }
    for listener in &shared.snapshot.load().listeners {
        let open = is_open(listener);
        let wanted = if open {
            PortAction::Open
        } else {
            PortAction::Closed
        };
        sockets.turn(&listener.config, wanted);
        listener.open.set(f64::from(u8::from(open)));
    }
}

/// What the log says of each port.
#[derive(Default)]
struct ReportedClosed {
    /// Of this snapshot. After another one, every port that stays closed is told again.
    snapshot: Option<Arc<Snapshot>>,
    /// By listener: whether it was open.
    open: HashMap<Arc<str>, bool>,
    /// By listener: since when it waits for names and first checks.
    waiting: HashMap<Arc<str>, Instant>,
}

impl ReportedClosed {
    /// Tells what has changed; says when to look again, where a port waits for what is not known yet.
    fn tell(&mut self, snapshot: &Arc<Snapshot>) -> Option<Instant> {
        let known = self.snapshot.as_ref();
        if known.is_none_or(|known| !Arc::ptr_eq(known, snapshot)) {
            let names = |name: &Arc<str>| snapshot.listener(name).is_some();
            self.open.retain(|name, open| *open && names(name));
            self.waiting.retain(|name, _| names(name));
            self.snapshot = Some(snapshot.clone());
        }
        let mut again: Option<Instant> = None;
        for listener in &snapshot.listeners {
            let wait = self.tell_of(listener);
            again = again.into_iter().chain(wait).min();
        }
        again
    }

    fn tell_of(&mut self, listener: &ActiveListener) -> Option<Instant> {
        let name = &listener.config.name;
        let open = is_open(listener);
        if self.open.get(name) == Some(&open) {
            return None;
        }
        if !open && !self.open.contains_key(name) && waits(listener) {
            let since = *self
                .waiting
                .entry(name.clone())
                .or_insert_with(Instant::now);
            let until = since + PATIENCE;
            if Instant::now() < until {
                return Some(until);
            }
        }
        self.waiting.remove(name);
        self.open.insert(name.clone(), open);
        if open {
            tracing::info!(target: "lyncpin::listener", listener = &**name, "open");
        } else {
            let why = why_closed(listener);
            tracing::warn!(target: "lyncpin::listener", listener = &**name, why, "closed: no pool behind it can serve");
        }
        None
    }
}

/// Whether nothing is known yet of a backend behind it, so that the port may open in a moment.
fn waits(listener: &ActiveListener) -> bool {
    let mut pools: Vec<_> = listener.pools().iter().collect();
    while let Some(pool) = pools.pop() {
        let mut backends = pool.backends.iter();
        if backends.any(|backend| backend.wants_pinned() && backend.health() == Health::Unknown) {
            return true;
        }
        pools.extend(&pool.backup);
    }
    false
}

/// Completes at that moment; never, where there is none.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
