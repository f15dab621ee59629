//! What a reload removed, for as long as connections remember it.
//!
//! Owns the wait for their end: series of what is gone go with its last connection, a drain that was under way keeps its
//! deadline, a stop reaches every connection. Knows no socket. Invariant: once nothing remembers a listener or a backend,
//! no series has its name, and none comes back.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::config::model::CheckKind;
use crate::snapshot::{ActiveListener, Snapshot};
use crate::telemetry::metrics::{Registry, definitions};
use crate::upstream::backend::Backend;

/// Looks after the last change in which series are removed again: who has just ended may have counted once more.
const LOOKS: u32 = 5;

/// What is in force no more and may have connections.
#[derive(Default)]
pub(super) struct LingeringBackends {
    known: Mutex<SeriesLabels>,
}

#[derive(Default)]
struct SeriesLabels {
    listeners: Vec<(Arc<str>, Weak<ActiveListener>)>,
    backends: Vec<Arc<Backend>>,
    looks: u32,
}

impl LingeringBackends {
    /// Takes what `before` had; what `now` has of it is no loss.
    pub(super) fn retire(&self, before: &Snapshot, now: &Snapshot) {
        let kept: HashSet<usize> = now.backends().map(place).collect();
        let mut known = self.lock();
        let listeners = before.listeners.iter();
        known.listeners.extend(
            listeners.map(|listener| (listener.config.name.clone(), Arc::downgrade(listener))),
        );
        let gone = before
            .backends()
            .filter(|backend| !kept.contains(&place(backend)));
        known.backends.extend(gone.cloned());
        known.looks = LOOKS;
    }

    /// Forgets whom no connection remembers, and removes series that are nobody's. To be called every second or so; costs
    /// nothing while nothing changes.
    pub(super) fn sweep(&self, now: &Snapshot, registry: &Registry) {
        let mut known = self.lock();
        let before = known.listeners.len() + known.backends.len();
        known
            .listeners
            .retain(|(_, listener)| listener.strong_count() > 0);
        known.backends.retain(|backend| backend.in_flight() > 0);
        if known.listeners.len() + known.backends.len() != before {
            known.looks = LOOKS;
        }
        if known.looks > 0 {
            known.looks -= 1;
            known.remove_series(now, registry);
        }
    }

    /// The backends that have connections still.
    pub(super) fn backends(&self) -> Vec<Arc<Backend>> {
        self.lock().backends.clone()
    }

    fn lock(&self) -> MutexGuard<'_, SeriesLabels> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SeriesLabels {
    fn remove_series(&self, now: &Snapshot, registry: &Registry) {
        let in_force = now.listeners.iter().map(|listener| &listener.config.name);
        let remembered = self.listeners.iter().map(|(name, _)| name);
        let listeners: HashSet<&str> = in_force.chain(remembered).map(|name| &**name).collect();
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

/// The checks of each pool, by their labels, and whether each sees a certificate.
type Checks<'a> = HashMap<&'a str, Vec<(&'a str, bool)>>;

fn checks(now: &Snapshot) -> Checks<'_> {
    now.config
        .pools
        .iter()
        .map(|pool| {
            let checks = pool.health.iter().flat_map(|health| &health.checks);
            let sees =
                |kind: &CheckKind| matches!(kind, CheckKind::Tls { .. } | CheckKind::Https(_));
            let checks = checks.map(|check| (&*check.label, sees(&check.kind)));
            (&*pool.name, checks.collect())
        })
        .collect()
}

/// Whether a series that is a check's is that of one that is made. A backend that is gone is asked nothing any more.
fn is_checked(metric: &str, labels: &HashMap<&str, &str>, checks: &Checks<'_>) -> bool {
    let of_pool = || labels.get("pool").and_then(|pool| checks.get(pool));
    if let Some(check) = labels.get("check") {
        return of_pool().is_some_and(|known| known.iter().any(|(label, _)| label == check));
    }
    if metric == definitions::CERTIFICATE_EXPIRY.name {
        return of_pool().is_some_and(|known| known.iter().any(|(_, sees)| *sees));
    }
    true
}

fn place(backend: &Arc<Backend>) -> usize {
    Arc::as_ptr(backend).addr()
}
