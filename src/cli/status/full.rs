//! The full status: the balancer, its listeners, and each backend of each pool.
//!
//! Owns the form of its tables and lines. Invariant: nothing that came over the network reaches the terminal as a control sequence.

use std::time::SystemTime;

use super::checks::checks;
use super::routing::{port, reaches, serves};
use crate::admin::view::{BackendView, ListenerView, PoolView, StatusView};
use crate::cli::predecessors;
use crate::cli::table::{ago, bytes, printable, table};
use crate::types::backend_state::{AdminState, Health};
use crate::types::timestamp::{pluralized, short_duration};

/// The pools of `shown`, which is `whole` or a part of it, as tables.
pub(super) fn text(shown: &StatusView, whole: &StatusView) -> String {
    let mut text = head(shown, whole);
    for pool in &shown.pools {
        text += &format!("\n{}\n", pool_line(pool, whole));
        text += &backends(&pool.backends, whole);
    }
    text + &affinity(shown, whole)
}

/// The balancer, and the listeners that route to the pools of `shown`, which is `status` or a part of it.
pub(super) fn head(shown: &StatusView, status: &StatusView) -> String {
    let mut text = headline(status);
    text += &predecessors::lines(&status.predecessors, status.now.0);
    text += &backends_line(status);
    let row = |listener| listener_row(listener, status);
    let is_part = shown.pools.len() < status.pools.len();
    let listeners = status.listeners.iter();
    let rows: Vec<Vec<String>> = listeners
        .filter(|listener| !is_part || reaches(listener, shown, status))
        .map(row)
        .collect();
    if rows.is_empty() && is_part {
        return text + "no listener routes here\n";
    }
    text += "\n";
    text += &table(
        &["LISTENER", "PROTOCOL", "PORT", "CONNECTIONS", "BIND"],
        &[3],
        rows,
    );
    text
}

/// Backends of one pool, with notable checks and certificates.
pub(super) fn backends<'a>(
    backends: impl IntoIterator<Item = &'a BackendView>,
    status: &StatusView,
) -> String {
    let now = status.now.0;
    let backends: Vec<&BackendView> = backends.into_iter().collect();
    let rows = backends.iter().map(|backend| backend_row(backend, now));
    let mut text = table(
        &[
            "BACKEND",
            "ADDRESS",
            "WEIGHT",
            "STATE",
            "HEALTH",
            "FOR",
            "CONNECTIONS",
            "TO BACKEND",
            "TO CLIENT",
            "PINS",
            "WHY",
        ],
        &[2, 6, 7, 8, 9],
        rows.collect(),
    );
    for backend in backends {
        text += &checks(backend, now);
    }
    text
}

/// The affinity groups of the pools of `shown`, which is `status` or a part of it.
pub(super) fn affinity(shown: &StatusView, status: &StatusView) -> String {
    let is_part = shown.pools.len() < status.pools.len();
    let is_shown = |group: &String| {
        let mut pools = shown.pools.iter();
        !is_part || pools.any(|pool| pool.affinity_group.as_ref() == Some(group))
    };
    let tables = status
        .affinity
        .iter()
        .filter(|table| is_shown(&table.group));
    let rows: Vec<Vec<String>> = tables
        .map(|table| {
            vec![
                table.group.clone(),
                table.entries.to_string(),
                table.max_entries.to_string(),
            ]
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let heads = ["AFFINITY GROUP", "PINS", "LIMIT"];
    "\n".to_owned() + &table(&heads, &[1, 2], rows)
}

/// Whether it takes new clients.
pub(super) fn in_service(backend: &BackendView) -> bool {
    backend.health == Health::Up
        && backend.state == AdminState::Ready
        && backend.damped_until.is_none()
        && backend.weight > 0
}

/// Whether any of its checks fails, including observing ones.
pub(super) fn is_failing(backend: &BackendView) -> bool {
    let mut checks = backend.checks.iter();
    checks.any(|check| check.passing == Some(false))
}

fn headline(status: &StatusView) -> String {
    let state = match (status.stopping, status.ready) {
        (true, _) => "stopping",
        (false, true) => "ready",
        (false, false) => "not ready: no listener can serve",
    };
    let limit = status.limits.connections;
    let limit = limit.map_or(String::new(), |limit| format!(" of at most {limit}"));
    format!(
        "lyncpin {}: {state}, {}{limit}, {}, up {}\n",
        printable(&status.version),
        pluralized(status.connections, "connection"),
        pluralized(status.workers.into(), "worker"),
        ago(status.started, status.now.0),
    )
}

/// Reasons to be out of service; several may apply to one backend.
const REASONS: [&str; 6] = [
    "down",
    "damped",
    "not checked yet",
    "draining",
    "in maintenance",
    "with weight 0",
];

/// The number of backends in service, and the reasons for the others.
fn backends_line(status: &StatusView) -> String {
    let all = || status.pools.iter().flat_map(|pool| &pool.backends);
    let serving = all().filter(|backend| in_service(backend)).count();
    let mut text = format!(
        "{serving} of {} in service",
        pluralized(all().count() as u64, "backend")
    );
    let mut counts = [0; REASONS.len()];
    for backend in all() {
        let damped = backend.damped_until.is_some();
        let applies = [
            backend.health == Health::Down && !damped,
            damped,
            backend.health == Health::Unknown,
            backend.state == AdminState::Drain,
            backend.state == AdminState::Maintain,
            backend.weight == 0,
        ];
        for (count, applies) in counts.iter_mut().zip(applies) {
            *count += u64::from(applies);
        }
    }
    for (reason, count) in REASONS.iter().zip(counts).filter(|(_, count)| *count > 0) {
        text += &format!(", {count} {reason}");
    }
    text + "\n"
}

fn listener_row(listener: &ListenerView, status: &StatusView) -> Vec<String> {
    let binds: Vec<String> = listener.bind.iter().map(ToString::to_string).collect();
    vec![
        listener.name.clone(),
        listener.protocol.clone(),
        port(listener, status).to_owned(),
        listener.connections.to_string(),
        binds.join(" "),
    ]
}

fn pool_line(pool: &PoolView, status: &StatusView) -> String {
    let mut text = format!(
        "pool {}: {}",
        printable(&pool.name),
        printable(&pool.balance)
    );
    if let Some(group) = &pool.affinity_group {
        text += &format!(", affinity group {}", printable(group));
    }
    if let Some(backup) = &pool.backup {
        text += &format!(", backup {}", printable(backup));
    }
    text += ", ";
    let of = status.pools.iter().find(|known| known.name == pool.name);
    text += serves(of.unwrap_or(pool), status);
    text
}

fn backend_row(backend: &BackendView, now: SystemTime) -> Vec<String> {
    let address = backend.address.map(|address| address.to_string());
    let connections = match backend.max_connections {
        Some(limit) => format!("{}/{limit}", backend.connections),
        None => backend.connections.to_string(),
    };
    vec![
        backend.name.clone(),
        address.unwrap_or_else(|| format!("{} (unresolved)", backend.configured)),
        weight(backend),
        state(backend, now),
        backend.health.as_str().to_owned(),
        ago(backend.since, now),
        connections,
        bytes(backend.bytes_to_backend),
        bytes(backend.bytes_to_client),
        backend.pins.map_or("-".to_owned(), |pins| pins.to_string()),
        backend.why.clone(),
    ]
}

fn state(backend: &BackendView, now: SystemTime) -> String {
    match (backend.state, backend.deadline) {
        (AdminState::Drain, Some(deadline)) => match deadline.0.duration_since(now) {
            Ok(left) if !left.is_zero() => format!("drain, {} left", short_duration(left)),
            Ok(_) | Err(_) => "drain, deadline passed".to_owned(),
        },
        (state, _) => state.as_str().to_owned(),
    }
}

/// The weight; during a slow start, the effective and the configured one.
fn weight(backend: &BackendView) -> String {
    let (now, full) = (backend.effective_weight, backend.weight);
    if now > 0.0 && now < f64::from(full) {
        format!("{now:.2} of {full}")
    } else {
        full.to_string()
    }
}
