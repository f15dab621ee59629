//! Warnings about pools.
//!
//! Owns which pools and backends get no client, and which settings of a group lose pins. Must not know how clients are
//! routed. Invariant: as in the parent module.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::config::diagnostics::{Diagnostic, Diagnostics};
use crate::config::model::{Config, ListenerConfig, PoolConfig, PoolId, ServerHost};
use crate::config::schema::pool::ParsedPool;

/// Adds the warnings about all pools.
pub(super) fn find(pools: &[ParsedPool], config: &Config, diagnostics: &mut Diagnostics) {
    for pool in pools {
        zero_weights(pool, diagnostics);
        numeric_names(pool, diagnostics);
        no_deciding_check(pool, diagnostics);
    }
    unused_pools(pools, config, diagnostics);
    different_backends(pools, diagnostics);
}

fn zero_weights(pool: &ParsedPool, diagnostics: &mut Diagnostics) {
    if pool.backends().all(|(backend, _)| backend.weight == 0) {
        let message = format!("every backend of pool `{}` has weight 0", pool.config.name);
        diagnostics.lint(Diagnostic::new(pool.at, message).hint("the pool accepts no new client"));
    }
}

/// Names that a resolver may treat as addresses.
fn numeric_names(pool: &ParsedPool, diagnostics: &mut Diagnostics) {
    for (backend, at) in pool.backends() {
        let ServerHost::Name(name) = &backend.address.host else {
            continue;
        };
        let last = name.as_str().rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|byte| byte.is_ascii_digit()) {
            let message = format!("`{name}` cannot be the name of a server");
            let hint = "resolvers treat a name whose last label is a number as an address";
            diagnostics.lint(Diagnostic::new(at, message).hint(hint));
        }
    }
}

fn no_deciding_check(pool: &ParsedPool, diagnostics: &mut Diagnostics) {
    let PoolConfig { name, health, .. } = &pool.config;
    let Some(health) = health else {
        return;
    };
    if !health.checks.iter().any(|check| check.decides) {
        let message = format!("every check of pool `{name}` has `decides: false`");
        let hint = "its backends are up whatever the results";
        diagnostics.lint(Diagnostic::new(pool.health_at, message).hint(hint));
    }
}

fn unused_pools(pools: &[ParsedPool], config: &Config, diagnostics: &mut Diagnostics) {
    let mut used: HashSet<PoolId> = HashSet::new();
    let mut next: Vec<PoolId> = config
        .listeners
        .iter()
        .flat_map(ListenerConfig::pools)
        .collect();
    while let Some(id) = next.pop() {
        if used.insert(id) {
            next.extend(config.pool(id).backup);
        }
    }
    for (index, pool) in pools.iter().enumerate() {
        if !used.contains(&PoolId(index)) {
            let message = format!("no listener uses pool `{}`", pool.config.name);
            let hint = "its backends are checked but get no clients";
            diagnostics.lint(Diagnostic::new(pool.at, message).hint(hint));
        }
    }
}

/// Pins of a group are shared by backend name, so its pools should have the same backends.
fn different_backends(pools: &[ParsedPool], diagnostics: &mut Diagnostics) {
    let names = |pool: &ParsedPool| -> BTreeSet<_> {
        let backends = pool.config.backends.iter();
        backends.map(|backend| backend.name.clone()).collect()
    };
    let mut firsts: HashMap<&str, &ParsedPool> = HashMap::new();
    for pool in pools {
        let Some(affinity) = &pool.config.affinity else {
            continue;
        };
        let first = *firsts.entry(&affinity.group).or_insert(pool);
        let (ours, theirs) = (names(pool), names(first));
        if let Some(missing) = ours.symmetric_difference(&theirs).next() {
            let message = format!(
                "pools `{}` and `{}` share affinity group `{}`, but only one has backend `{missing}`",
                first.config.name, pool.config.name, affinity.group
            );
            let hint = "pins are shared by backend name; use the same `name` in both pools";
            diagnostics.lint(Diagnostic::new(pool.affinity_at, message).hint(hint));
        }
    }
}
