//! The status by server: one line per backend name, over all pools that have it.
//!
//! Invariant: pins of pools that share a table count once.

use std::collections::BTreeMap;

use super::full;
use crate::admin::view::{BackendView, PoolView, StatusView};
use crate::cli::table::table;

/// The whole output.
pub(super) fn text(status: &StatusView, whole: &StatusView) -> String {
    let mut servers: BTreeMap<&str, Vec<(&PoolView, &BackendView)>> = BTreeMap::new();
    for pool in &status.pools {
        for backend in &pool.backends {
            servers
                .entry(&backend.name)
                .or_default()
                .push((pool, backend));
        }
    }
    let rows = servers.iter().map(|(name, backends)| row(name, backends));
    let mut text = full::head(status, whole);
    text += "\n";
    text += &table(
        &["SERVER", "IN SERVICE", "CONNECTIONS", "PINS", "STATE"],
        &[1, 2, 3],
        rows.collect(),
    );
    text
}

fn row(name: &str, backends: &[(&PoolView, &BackendView)]) -> Vec<String> {
    let serving = backends
        .iter()
        .filter(|(_, backend)| full::in_service(backend));
    let connections: u64 = backends
        .iter()
        .map(|(_, backend)| backend.connections)
        .sum();
    let mut pins: BTreeMap<&str, u64> = BTreeMap::new();
    let mut states: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (pool, backend) in backends {
        if let (Some(group), Some(count)) = (&pool.affinity_group, backend.pins) {
            let known = pins.entry(group).or_default();
            *known = count.max(*known);
        }
        states
            .entry(condition(backend))
            .or_default()
            .push(&pool.name);
    }
    let state = match states.first_key_value() {
        Some((condition, pools)) if states.len() == 1 && pools.len() > 1 => {
            format!("{condition} in all {} pools", pools.len())
        }
        _ => {
            let each = states
                .iter()
                .map(|(condition, pools)| format!("{condition} in {}", pools.join(", ")));
            each.collect::<Vec<_>>().join("; ")
        }
    };
    vec![
        name.to_owned(),
        format!("{}/{}", serving.count(), backends.len()),
        connections.to_string(),
        if pins.is_empty() {
            "-".to_owned()
        } else {
            pins.values().sum::<u64>().to_string()
        },
        state,
    ]
}

/// Health and state, and a weight of 0.
fn condition(backend: &BackendView) -> String {
    let health = if backend.damped_until.is_some() {
        "damped"
    } else {
        backend.health.as_str()
    };
    let weight = if backend.weight == 0 {
        ", weight 0"
    } else {
        ""
    };
    format!("{health}, {}{weight}", backend.state.as_str())
}
