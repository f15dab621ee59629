//! Pools: that backends are told apart, backups come to an end, and groups agree.
//!
//! Owns what pools must fit: each other. Must not know of listeners. Invariant: without a fault, following backups ends,
//! and one affinity group has one set of settings.

use std::collections::HashMap;
use std::sync::Arc;

use super::PoolNames;
use crate::config::diagnostics::{Note, Notes};
use crate::config::model::{self, AffinitySettings, PoolId};
use crate::config::scalar::print_duration;
use crate::config::written::{At, WrittenFile, WrittenPool};

/// Resolves all pools.
pub(super) fn resolve(
    written: &WrittenFile,
    names: &PoolNames<'_>,
    notes: &mut Notes,
) -> Vec<model::PoolConfig> {
    let pools: Vec<model::PoolConfig> = written
        .pools
        .iter()
        .map(|pool| resolve_one(pool, names, notes))
        .collect();
    backups_end(written, names, notes);
    groups_agree(written, notes);
    pools
}

fn resolve_one(pool: &WrittenPool, names: &PoolNames<'_>, notes: &mut Notes) -> model::PoolConfig {
    backends_are_unique(pool, notes);
    model::PoolConfig {
        name: Arc::clone(&pool.name.value),
        backends: pool
            .backends
            .iter()
            .map(|backend| backend.value.clone())
            .collect(),
        backup: pool
            .backup
            .as_ref()
            .map(|name| names.find(name, &["none"], notes)),
        balance: pool.balance,
        affinity: pool.affinity.value.clone(),
        health: pool.health.value.clone(),
        on_down: pool.on_down,
        slow_start: pool.slow_start,
        max_connections: pool.max_connections,
    }
}

fn backends_are_unique(pool: &WrittenPool, notes: &mut Notes) {
    let mut by_name = HashMap::new();
    let mut by_address = HashMap::new();
    for At { value: backend, at } in &pool.backends {
        let owner = &pool.name.value;
        if let Some(first) = by_name.insert(&backend.name, at) {
            let message = format!("pool `{owner}` has two backends `{}`", backend.name);
            let hint = format!(
                "the first is in line {}; a `name` of its own tells two apart",
                first.line
            );
            notes.fault(Note::new(*at, message).hint(hint));
        } else if let Some(first) = by_address.insert(&backend.address, at) {
            let message = format!("pool `{owner}` has `{}` twice", backend.address);
            let hint = format!(
                "the first is in line {}; to give it more clients use `weight`",
                first.line
            );
            notes.fault(Note::new(*at, message).hint(hint));
        }
    }
}

/// Follows every chain of backups; each pool is visited once, so a cycle is found once.
fn backups_end(written: &WrittenFile, names: &PoolNames<'_>, notes: &mut Notes) {
    let next = |id: PoolId| {
        let backup = written.pools[id.0].backup.as_ref()?;
        Some((*names.ids.get(&*backup.value)?, backup.at))
    };
    // The start of the chain on which a pool was visited.
    let mut seen_from: Vec<Option<usize>> = vec![None; written.pools.len()];
    for start in 0..written.pools.len() {
        let mut chain = Vec::new();
        let mut id = PoolId(start);
        while seen_from[id.0].is_none() {
            seen_from[id.0] = Some(start);
            chain.push(id);
            let Some((backup, at)) = next(id) else { break };
            if seen_from[backup.0] == Some(start) {
                let first = chain
                    .iter()
                    .position(|earlier| *earlier == backup)
                    .unwrap_or(0);
                let name = |id: &PoolId| &*written.pools[id.0].name.value;
                let cycle: Vec<&str> = chain[first..].iter().chain([&backup]).map(name).collect();
                let note = match cycle.as_slice() {
                    [own, _] => Note::new(at, format!("pool `{own}` is its own backup")),
                    _ => Note::new(at, format!("the backups go round: {}", cycle.join(" -> "))),
                };
                notes.fault(note);
                break;
            }
            id = backup;
        }
    }
}

/// Pools of one group share a table, so its settings are said once or alike.
fn groups_agree(written: &WrittenFile, notes: &mut Notes) {
    let mut groups: HashMap<&str, (&WrittenPool, &AffinitySettings)> = HashMap::new();
    for pool in written.pools.iter().filter(|pool| pool.whole) {
        let Some(affinity) = &pool.affinity.value else {
            continue;
        };
        let (first, theirs) = *groups.entry(&affinity.group).or_insert((pool, affinity));
        let differing = differences(affinity, theirs);
        if !differing.is_empty() {
            let message = format!(
                "pools `{}` and `{}` share affinity group `{}` and differ in {}",
                first.name.value,
                pool.name.value,
                affinity.group,
                differing.join(", ")
            );
            let hint = "pools of one group need the same settings";
            notes.fault(Note::new(pool.affinity.at, message).hint(hint));
        }
    }
}

fn differences(a: &AffinitySettings, b: &AffinitySettings) -> Vec<String> {
    let mut differing = Vec::new();
    let by =
        |affinity: &AffinitySettings| (affinity.by_source, affinity.by_name, affinity.by_session);
    if by(a) != by(b) {
        differing.push("`by`".to_owned());
    }
    if a.source_prefix != b.source_prefix {
        differing.push("`source_prefix`".to_owned());
    }
    if a.ttl != b.ttl {
        differing.push(format!(
            "`ttl` ({} and {})",
            print_duration(b.ttl),
            print_duration(a.ttl)
        ));
    }
    if a.max_entries != b.max_entries {
        differing.push(format!(
            "`max_entries` ({} and {})",
            b.max_entries, a.max_entries
        ));
    }
    differing
}
