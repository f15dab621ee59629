//! Opening and closing ports with the pools behind them.
//!
//! Owns the wanted state of each listener's ports, and the log lines about it. Knows no worker and no socket. Invariant: a
//! port is bound but does not listen at the start and when it is new; it opens once something behind it may serve.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::sockets::PortState;
use crate::proxy::acceptor::ProxyContext;
use crate::server::explain::{is_open, why_closed};
use crate::server::shared::SharedState;
use crate::snapshot::{ActiveListener, Snapshot};
use crate::types::backend_state::Health;

/// For names to resolve and first checks to end, before a port that waits for them is logged as closed.
const FIRST_CHECKS: Duration = Duration::from_secs(3);

/// Opens and closes ports with the pools behind them, until the balancer stops.
pub(in crate::server) async fn run(state: Arc<SharedState>) {
    let proxy: &ProxyContext = &state.proxy;
    let mut availability = state.availability.subscribe();
    let mut logged = LoggedStates::default();
    loop {
        availability.borrow_and_update();
        apply(&state);
        let again = if state.sockets.is_suspended() {
            None
        } else {
            logged.log_changes(&proxy.snapshot.load_full())
        };
        tokio::select! {
            changed = availability.changed() => if changed.is_err() { break },
            () = until(again) => {}
            () = proxy.stop.cancelled() => break,
        }
    }
    for listener in &proxy.snapshot.load().listeners {
        listener.open.set(0.0);
    }
}

/// Brings every port to its wanted state.
pub(in crate::server) fn apply(state: &SharedState) {
    let proxy = &state.proxy;
    if proxy.stop.is_cancelled() {
        return;
    }
    for listener in &proxy.snapshot.load().listeners {
        let is_open = is_open(listener);
        let wanted = if is_open {
            PortState::Open
        } else {
            PortState::Closed
        };
        state.sockets.set_state(&listener.config, wanted);
        listener.open.set(f64::from(u8::from(is_open)));
    }
}

/// What has been logged of each port.
#[derive(Default)]
struct LoggedStates {
    /// The snapshot that this applies to. After another one, every port that stays closed is logged again.
    snapshot: Option<Arc<Snapshot>>,
    /// By listener: whether it was open.
    open: HashMap<Arc<str>, bool>,
    /// By listener: when it began to wait for names and first checks.
    waiting: HashMap<Arc<str>, Instant>,
}

impl LoggedStates {
    /// Logs what has changed; returns when to check again, if a port waits for names or first checks.
    fn log_changes(&mut self, snapshot: &Arc<Snapshot>) -> Option<Instant> {
        let known = self.snapshot.as_ref();
        if known.is_none_or(|known| !Arc::ptr_eq(known, snapshot)) {
            let has = |name: &Arc<str>| snapshot.listener(name).is_some();
            self.open.retain(|name, open| *open && has(name));
            self.waiting.retain(|name, _| has(name));
            self.snapshot = Some(snapshot.clone());
        }
        let mut again: Option<Instant> = None;
        for listener in &snapshot.listeners {
            let wait = self.log_change(listener);
            again = again.into_iter().chain(wait).min();
        }
        again
    }

    fn log_change(&mut self, listener: &ActiveListener) -> Option<Instant> {
        let name = &listener.config.name;
        let open = is_open(listener);
        if self.open.get(name) == Some(&open) {
            return None;
        }
        if !open && !self.open.contains_key(name) && may_open_soon(listener) {
            let since = *self
                .waiting
                .entry(name.clone())
                .or_insert_with(Instant::now);
            let until = since + FIRST_CHECKS;
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

/// Whether the health of a backend behind it is still unknown, so that the port may open in a moment.
fn may_open_soon(listener: &ActiveListener) -> bool {
    let mut pools: Vec<_> = listener.pools().iter().collect();
    while let Some(pool) = pools.pop() {
        let mut backends = pool.backends.iter();
        if backends.any(|backend| backend.allows_pinned() && backend.health() == Health::Unknown) {
            return true;
        }
        pools.extend(&pool.backup);
    }
    false
}

/// Completes at `deadline`; never, if there is none.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
