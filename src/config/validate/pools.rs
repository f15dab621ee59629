//! Pools: unique backends, backups without cycles, groups with equal settings.
//!
//! Owns the rules between pools and between the backends of one. Must not know of listeners. Invariant: without an error,
//! a chain of backups ends, and an affinity group has one set of settings.

use std::collections::HashMap;

use super::PoolNames;
use crate::config::diagnostics::{Diagnostic, Diagnostics};
use crate::config::model::{AffinitySettings, PoolConfig, PoolId};
use crate::config::scalar::print_duration;
use crate::config::schema::pool::ParsedPool;

/// Validates all pools.
pub(super) fn validate(
    pools: &[ParsedPool],
    names: &PoolNames<'_>,
    diagnostics: &mut Diagnostics,
) -> Vec<PoolConfig> {
    let mut validated = Vec::new();
    for pool in pools {
        check_unique_backends(pool, diagnostics);
        let backup = pool.backup.as_ref();
        validated.push(PoolConfig {
            backup: backup.map(|name| names.find(name, &["none"], diagnostics)),
            ..pool.config.clone()
        });
    }
    check_backup_cycles(pools, names, diagnostics);
    check_affinity_groups(pools, diagnostics);
    validated
}

fn check_unique_backends(pool: &ParsedPool, diagnostics: &mut Diagnostics) {
    let mut by_name = HashMap::new();
    let mut by_address = HashMap::new();
    let owner = &pool.config.name;
    for (backend, at) in pool.backends() {
        if let Some(first) = by_name.insert(&backend.name, at) {
            let message = format!("pool `{owner}` has two backends `{}`", backend.name);
            let hint = format!("{}; set `name` to tell two apart", first.first_hint());
            diagnostics.error(Diagnostic::new(at, message).hint(hint));
        } else if let Some(first) = by_address.insert(&backend.address, at) {
            let message = format!("pool `{owner}` has `{}` twice", backend.address);
            let hint = format!(
                "{}; to send it more clients, set `weight`",
                first.first_hint()
            );
            diagnostics.error(Diagnostic::new(at, message).hint(hint));
        }
    }
}

/// Follows every chain of backups. Each pool is visited once, so a cycle is reported once.
fn check_backup_cycles(pools: &[ParsedPool], names: &PoolNames<'_>, diagnostics: &mut Diagnostics) {
    let next = |id: PoolId| {
        let backup = pools[id.0].backup.as_ref()?;
        Some((*names.ids.get(&*backup.value)?, backup.at))
    };
    // The start of the chain on which a pool was visited.
    let mut visited_from: Vec<Option<usize>> = vec![None; pools.len()];
    for start in 0..pools.len() {
        let mut chain = Vec::new();
        let mut id = PoolId(start);
        while visited_from[id.0].is_none() {
            visited_from[id.0] = Some(start);
            chain.push(id);
            let Some((backup, at)) = next(id) else { break };
            if visited_from[backup.0] == Some(start) {
                let first = chain.iter().position(|earlier| *earlier == backup);
                let cycle = chain[first.unwrap_or(0)..].iter().chain([&backup]);
                let cycle: Vec<&str> = cycle.map(|id| &*pools[id.0].config.name).collect();
                let message = match cycle.as_slice() {
                    [own, _] => format!("pool `{own}` is its own backup"),
                    _ => format!("circular backups: {}", cycle.join(" -> ")),
                };
                diagnostics.error(Diagnostic::new(at, message));
                break;
            }
            id = backup;
        }
    }
}

/// Reports pools of one group with different settings: they share a table.
fn check_affinity_groups(pools: &[ParsedPool], diagnostics: &mut Diagnostics) {
    let mut groups: HashMap<&str, (&ParsedPool, &AffinitySettings)> = HashMap::new();
    for pool in pools.iter().filter(|pool| pool.complete) {
        let Some(affinity) = &pool.config.affinity else {
            continue;
        };
        let (first, theirs) = *groups.entry(&affinity.group).or_insert((pool, affinity));
        let differences = differences(affinity, theirs);
        if !differences.is_empty() {
            let message = format!(
                "pools `{}` and `{}` share affinity group `{}` but differ in {}",
                first.config.name,
                pool.config.name,
                affinity.group,
                differences.join(", ")
            );
            let hint = "pools of one group need the same settings";
            diagnostics.error(Diagnostic::new(pool.affinity_at, message).hint(hint));
        }
    }
}

fn differences(a: &AffinitySettings, b: &AffinitySettings) -> Vec<String> {
    let mut differences = Vec::new();
    let by =
        |affinity: &AffinitySettings| (affinity.by_source, affinity.by_name, affinity.by_session);
    if by(a) != by(b) {
        differences.push("`by`".to_owned());
    }
    if a.source_prefix != b.source_prefix {
        differences.push("`source_prefix`".to_owned());
    }
    if a.ttl != b.ttl {
        let (first, second) = (print_duration(b.ttl), print_duration(a.ttl));
        differences.push(format!("`ttl` ({first} and {second})"));
    }
    if a.max_entries != b.max_entries {
        let (first, second) = (b.max_entries, a.max_entries);
        differences.push(format!("`max_entries` ({first} and {second})"));
    }
    differences
}
