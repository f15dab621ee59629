//! What one configuration changes of another.
//!
//! Owns the sentences for who asked, and the pins of what is gone. Must not know how a reload is done. Invariant: what a
//! reload cannot change is refused or warned of, never left out in silence.

use std::collections::HashSet;
use std::sync::Arc;

use crate::config::Loaded;
use crate::config::model::{ListenerConfig, PoolConfig, Target};
use crate::snapshot::Snapshot;
use crate::types::timestamp::counted;

use super::workers;

/// What is taken, and hardly meant or not in force before a restart.
pub(super) fn warnings(loaded: &Loaded, running: usize) -> Vec<String> {
    let lints = loaded.lints.iter().map(|lint| {
        let fault = lint.as_fault();
        let (file, line, column) = (&fault.file, fault.line, fault.column);
        format!("{file}:{line}:{column}: {}", fault.message)
    });
    let mut warnings: Vec<String> = lints.collect();
    let wanted = workers::count(loaded.config.workers);
    if wanted != running {
        warnings.push(format!(
            "workers stays at {running} until the process is started anew: the configuration says {wanted}"
        ));
    }
    warnings
}

/// What has changed, a sentence each.
pub(super) fn between(before: &Snapshot, now: &Snapshot) -> Vec<String> {
    let mut said = Vec::new();
    let listeners = |snapshot: &Snapshot| snapshot.config.listeners.clone();
    for old in listeners(before) {
        match now.listener(&old.name) {
            None => said.push(format!("listener {:?} is gone", old.name)),
            Some(new) if !same(&old, before, &new.config, now) => {
                said.push(format!("listener {:?} has changed", old.name));
            }
            Some(_) => {}
        }
    }
    for new in listeners(now) {
        if before.listener(&new.name).is_none() {
            said.push(format!("listener {:?} is new", new.name));
        }
    }
    pools(before, now, &mut said);
    groups(before, now, &mut said);
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
    said.extend(changed.map(|(name, _)| format!("`{name}` has changed")));
    said
}

/// Pools are places in their configuration, so they are compared by name.
fn same(old: &ListenerConfig, before: &Snapshot, new: &ListenerConfig, now: &Snapshot) -> bool {
    let with = |listener: &ListenerConfig| ListenerConfig {
        routes: Vec::new(),
        no_name: Target::Refuse,
        unknown_name: Target::Refuse,
        pool: None,
        ..listener.clone()
    };
    let leads = |listener: &ListenerConfig, snapshot: &Snapshot| {
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
    with(old) == with(new) && leads(old, before) == leads(new, now)
}

fn pools(before: &Snapshot, now: &Snapshot, said: &mut Vec<String>) {
    for old in &before.config.pools {
        let mut pools = now.config.pools.iter();
        let Some(new) = pools.find(|pool| pool.name == old.name) else {
            said.push(format!("pool {:?} is gone", old.name));
            continue;
        };
        backends(old, new, said);
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
            said.push(format!("pool {:?} has changed", old.name));
        }
    }
    for pool in &now.config.pools {
        if before.pool(&pool.name).is_none() {
            said.push(format!("pool {:?} is new", pool.name));
        }
    }
}

fn backends(old: &PoolConfig, new: &PoolConfig, said: &mut Vec<String>) {
    let pool = &new.name;
    for before in &old.backends {
        let (name, mut backends) = (&before.name, new.backends.iter());
        let Some(now) = backends.find(|known| known.name == *name) else {
            said.push(format!("pool {pool:?}: backend {name:?} is gone"));
            continue;
        };
        if now.address != before.address {
            let (now, before) = (&now.address, &before.address);
            said.push(format!(
                "pool {pool:?}: backend {name:?} is at {now}, was at {before}"
            ));
        }
        if now.weight != before.weight {
            let (now, before) = (now.weight, before.weight);
            said.push(format!(
                "pool {pool:?}: backend {name:?} has weight {now}, had {before}"
            ));
        }
    }
    for backend in &new.backends {
        if !old.backends.iter().any(|known| known.name == backend.name) {
            said.push(format!("pool {pool:?}: backend {:?} is new", backend.name));
        }
    }
}

fn groups(before: &Snapshot, now: &Snapshot, said: &mut Vec<String>) {
    for old in &before.groups {
        match now.group(old.group()) {
            None => said.push(format!(
                "affinity group {:?} is gone, with {}",
                old.group(),
                counted(old.len() as u64, "pin")
            )),
            Some(new) if !Arc::ptr_eq(old, new) => said.push(format!(
                "affinity group {:?} has other keys: {} of its {} pins are kept",
                old.group(),
                new.len().min(old.len()),
                old.len()
            )),
            Some(_) => {}
        }
    }
}

/// Forgets the pins that lead to what no pool of their group has any more: nothing else would, and their clients would
/// find a backend of nobody.
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
    let (before, kept) = (members(before), members(now));
    for (group, backend) in before.difference(&kept) {
        let pins = now.group(group);
        let Some((pins, member)) = pins.and_then(|pins| Some((pins, pins.known_member(backend)?)))
        else {
            continue;
        };
        let released = pins.release(member);
        tracing::info!(
            target: "lyncpin::server",
            group = &**group,
            backend = &**backend,
            pins = released,
            "the backend is in no pool of its affinity group any more: its pins are released"
        );
    }
}
