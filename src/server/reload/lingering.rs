//! Listeners and backends that a reload removed while connections still use them.
//!
//! Owns the wait for their end: metric series are removed with the last connection, a drain keeps its deadline, and a stop
//! reaches every connection. Knows no socket. Invariant: once no connection uses a listener or a backend, no series has its
//! name, and none reappears.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::config::model::CheckKind;
use crate::snapshot::{ActiveListener, Snapshot};
use crate::telemetry::metrics::{Registry, definitions};
use crate::upstream::backend::Backend;

/// Sweeps after the last change in which series are removed again: a connection that has just ended may count once more.
const SWEEPS_AFTER_CHANGE: u32 = 5;

/// Listeners and backends that are no longer in force and may have connections.
#[derive(Default)]
pub(in crate::server) struct LingeringBackends {
    known: Mutex<LingeringParts>,
}

#[derive(Default)]
struct LingeringParts {
    listeners: Vec<(Arc<str>, Weak<ActiveListener>)>,
    backends: Vec<Arc<Backend>>,
    sweeps_left: u32,
}

impl LingeringBackends {
    /// Adds what `before` has and `now` does not.
    pub(in crate::server) fn add(&self, before: &Snapshot, now: &Snapshot) {
        let in_force: HashSet<usize> = now.backends().map(address).collect();
        let mut known = self.lock();
        let listeners = before.listeners.iter();
        known.listeners.extend(
            listeners.map(|listener| (listener.config.name.clone(), Arc::downgrade(listener))),
        );
        let gone = before
            .backends()
            .filter(|backend| !in_force.contains(&address(backend)));
        known.backends.extend(gone.cloned());
        known.sweeps_left = SWEEPS_AFTER_CHANGE;
    }

    /// Drops what no connection uses any more, and removes its series. To be called about once a second; costs nothing as
    /// long as nothing changes.
    pub(in crate::server) fn sweep(&self, now: &Snapshot, registry: &Registry) {
        let mut known = self.lock();
        let before = known.listeners.len() + known.backends.len();
        known
            .listeners
            .retain(|(_, listener)| listener.strong_count() > 0);
        known.backends.retain(|backend| backend.in_flight() > 0);
        if known.listeners.len() + known.backends.len() != before {
            known.sweeps_left = SWEEPS_AFTER_CHANGE;
        }
        if known.sweeps_left > 0 {
            known.sweeps_left -= 1;
            known.remove_series(now, registry);
        }
    }

    /// The backends that still have connections.
    pub(in crate::server) fn backends(&self) -> Vec<Arc<Backend>> {
        self.lock().backends.clone()
    }

    fn lock(&self) -> MutexGuard<'_, LingeringParts> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LingeringParts {
    fn remove_series(&self, now: &Snapshot, registry: &Registry) {
        let in_force = now.listeners.iter().map(|listener| &listener.config.name);
        let lingering = self.listeners.iter().map(|(name, _)| name);
        let listeners: HashSet<&str> = in_force.chain(lingering).map(|name| &**name).collect();
        let backends: HashSet<(&str, &str)> = now
            .backends()
            .chain(&self.backends)
            .map(|backend| (&*backend.pool, &*backend.name))
            .collect();
        let checks = checks(now);
        registry.retain(|metric, labels| {
            let listener = labels.get("listener");
            let backend = labels.get("pool").zip(labels.get("backend"));
            let backend = backend.map(|(pool, name)| (*pool, *name));
            listener.is_none_or(|name| name.is_empty() || listeners.contains(name))
                && backend.is_none_or(|of| of == ("", "") || backends.contains(&of))
                && labels
                    .get("group")
                    .is_none_or(|group| now.group(group).is_some())
                && is_checked(metric, labels, &checks)
        });
    }
}

/// The checks of each pool: their labels, and whether each of them reads a certificate.
type Checks<'a> = HashMap<&'a str, Vec<(&'a str, bool)>>;

fn checks(now: &Snapshot) -> Checks<'_> {
    now.config
        .pools
        .iter()
        .map(|pool| {
            let checks = pool.health.iter().flat_map(|health| &health.checks);
            let reads_certificate =
                |kind: &CheckKind| matches!(kind, CheckKind::Tls { .. } | CheckKind::Https(_));
            let checks = checks.map(|check| (&*check.label, reads_certificate(&check.kind)));
            (&*pool.name, checks.collect())
        })
        .collect()
}

/// Whether the check of a series is still configured; true for series of no check. Removed backends are not checked.
fn is_checked(metric: &str, labels: &HashMap<&str, &str>, checks: &Checks<'_>) -> bool {
    let of_pool = || labels.get("pool").and_then(|pool| checks.get(pool));
    if let Some(check) = labels.get("check") {
        return of_pool().is_some_and(|known| known.iter().any(|(label, _)| label == check));
    }
    if metric == definitions::CERTIFICATE_EXPIRY.name {
        return of_pool().is_some_and(|known| {
            known
                .iter()
                .any(|(_, reads_certificate)| *reads_certificate)
        });
    }
    true
}

fn address(backend: &Arc<Backend>) -> usize {
    Arc::as_ptr(backend).addr()
}
