//! The differences between two configurations.
//!
//! Owns their texts in the reply and in the log, and the release of pins of backends that are gone. Must not know how a
//! reload is done. Invariant: what a reload cannot change is rejected or reported as a warning, never left out silently.

use std::collections::HashSet;
use std::sync::Arc;

use crate::config::Loaded;
use crate::config::model::{ListenerConfig, PoolConfig, Target};
use crate::snapshot::Snapshot;
use crate::types::timestamp::pluralized;

use crate::server::workers;

/// Accepted settings that are suspicious, or that take effect only after a restart.
pub(super) fn warnings(loaded: &Loaded, running: usize) -> Vec<String> {
    let lints = loaded.lints.iter().map(|lint| {
        let error = lint.as_error();
        let (file, line, column) = (&error.file, error.line, error.column);
        format!("{file}:{line}:{column}: {}", error.message)
    });
    let mut warnings: Vec<String> = lints.collect();
    let wanted = workers::count(loaded.config.workers);
    if wanted != running {
        warnings.push(format!(
            "workers stays at {running} until a restart: the configuration has {wanted}"
        ));
    }
    warnings
}

/// What has changed, one sentence for each change.
pub(super) fn between(before: &Snapshot, now: &Snapshot) -> Vec<String> {
    let mut changes = Vec::new();
    let listeners = |snapshot: &Snapshot| snapshot.config.listeners.clone();
    for old in listeners(before) {
        match now.listener(&old.name) {
            None => changes.push(format!("listener {:?} is removed", old.name)),
            Some(new) if !same(&old, before, &new.config, now) => {
                changes.push(format!("listener {:?} has changed", old.name));
            }
            Some(_) => {}
        }
    }
    for new in listeners(now) {
        if before.listener(&new.name).is_none() {
            changes.push(format!("listener {:?} is new", new.name));
        }
    }
    pools(before, now, &mut changes);
    groups(before, now, &mut changes);
    let config = |snapshot: &Snapshot| snapshot.config.clone();
    let (before, now) = (config(before), config(now));
    let settings = [
        ("timeouts", before.timeouts == now.timeouts),
        ("limits", before.limits == now.limits),
        ("admin", before.admin == now.admin),
        ("log", before.log == now.log),
        (
            "affinity_store",
            before.affinity_store == now.affinity_store,
        ),
    ];
    let changed = settings.iter().filter(|(_, same)| !same);
    changes.extend(changed.map(|(name, _)| format!("`{name}` has changed")));
    changes
}

/// A pool is an index into its configuration, so pools are compared by name.
fn same(old: &ListenerConfig, before: &Snapshot, new: &ListenerConfig, now: &Snapshot) -> bool {
    let with = |listener: &ListenerConfig| ListenerConfig {
        routes: Vec::new(),
        no_name: Target::Refuse,
        unknown_name: Target::Refuse,
        pool: None,
        ..listener.clone()
    };
    let targets = |listener: &ListenerConfig, snapshot: &Snapshot| {
        let name = |id| snapshot.config.pool(id).name.clone();
        let routes = listener.routes.iter();
        let routes: Vec<_> = routes
            .map(|route| (route.names.clone(), name(route.pool)))
            .collect();
        let others = [
            listener.no_name.pool(),
            listener.unknown_name.pool(),
            listener.pool,
        ];
        (routes, others.map(|pool| pool.map(name)))
    };
    with(old) == with(new) && targets(old, before) == targets(new, now)
}

fn pools(before: &Snapshot, now: &Snapshot, changes: &mut Vec<String>) {
    for old in &before.config.pools {
        let mut pools = now.config.pools.iter();
        let Some(new) = pools.find(|pool| pool.name == old.name) else {
            changes.push(format!("pool {:?} is removed", old.name));
            continue;
        };
        backends(old, new, changes);
        let backup = |pool: &PoolConfig, snapshot: &Snapshot| {
            let name = |id| snapshot.config.pool(id).name.clone();
            pool.backup.map(name)
        };
        let rest = |pool: &PoolConfig| PoolConfig {
            backends: Vec::new(),
            backup: None,
            ..pool.clone()
        };
        if rest(old) != rest(new) || backup(old, before) != backup(new, now) {
            changes.push(format!("pool {:?} has changed", old.name));
        }
    }
    for pool in &now.config.pools {
        if before.pool(&pool.name).is_none() {
            changes.push(format!("pool {:?} is new", pool.name));
        }
    }
}

fn backends(old: &PoolConfig, new: &PoolConfig, changes: &mut Vec<String>) {
    let pool = &new.name;
    for before in &old.backends {
        let (name, mut backends) = (&before.name, new.backends.iter());
        let Some(now) = backends.find(|known| known.name == *name) else {
            changes.push(format!("pool {pool:?}: backend {name:?} is removed"));
            continue;
        };
        if now.address != before.address {
            let (now, before) = (&now.address, &before.address);
            changes.push(format!(
                "pool {pool:?}: backend {name:?} is at {now}, was at {before}"
            ));
        }
        if now.weight != before.weight {
            let (now, before) = (now.weight, before.weight);
            changes.push(format!(
                "pool {pool:?}: backend {name:?} has weight {now}, had {before}"
            ));
        }
    }
    for backend in &new.backends {
        if !old.backends.iter().any(|known| known.name == backend.name) {
            changes.push(format!("pool {pool:?}: backend {:?} is new", backend.name));
        }
    }
}

fn groups(before: &Snapshot, now: &Snapshot, changes: &mut Vec<String>) {
    for old in &before.groups {
        match now.group(old.group()) {
            None => changes.push(format!(
                "affinity group {:?} is removed, with {}",
                old.group(),
                pluralized(old.len() as u64, "pin")
            )),
            Some(new) if !Arc::ptr_eq(old, new) => changes.push(format!(
                "affinity group {:?} has other keys: {} of its {} pins are kept",
                old.group(),
                new.len().min(old.len()),
                old.len()
            )),
            Some(_) => {}
        }
    }
}

/// Releases pins of backends that no pool of their group has any more. Nothing else would, and their clients would be sent
/// to a backend that does not exist.
pub(super) fn release_pins(before: &Snapshot, now: &Snapshot) {
    let members = |snapshot: &Snapshot| -> HashSet<(Arc<str>, Arc<str>)> {
        let pools = snapshot.pools.iter();
        let of_group = pools.filter_map(|pool| Some((pool.affinity.as_ref()?, &pool.backends)));
        let names = of_group.flat_map(|(affinity, backends)| {
            let group = affinity.pins.group();
            backends
                .iter()
                .map(|backend| (group.clone(), backend.name.clone()))
        });
        names.collect()
    };
    let (before, now_members) = (members(before), members(now));
    for (group, backend) in before.difference(&now_members) {
        let pins = now.group(group);
        let Some((pins, member)) = pins.and_then(|pins| Some((pins, pins.known_member(backend)?)))
        else {
            continue;
        };
        let released = pins.clear_member(member);
        tracing::info!(
            target: "lyncpin::server",
            group = &**group,
            backend = &**backend,
            pins = released,
            "no pool of the affinity group has the backend any more: its pins are released"
        );
    }
}
