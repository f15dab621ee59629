//! The status of a large site: one line per pool, then the backends with problems.
//!
//! Invariant: omitted backends are counted.

use std::collections::BTreeMap;

use super::{full, routing};
use crate::admin::view::{BackendView, PoolView, StatusView};
use crate::cli::table::{printable, table};
use crate::types::timestamp::pluralized;

/// Maximum number of listed backends.
const MAX_LISTED: usize = 50;

/// The whole output.
pub(super) fn text(status: &StatusView) -> String {
    let mut text = full::head(status, status);
    let rows = status.pools.iter().map(|pool| row(pool, status)).collect();
    text += "\n";
    text += &table(
        &[
            "POOL",
            "SERVES",
            "IN SERVICE",
            "CONNECTIONS",
            "PINS",
            "OUT OF SERVICE",
        ],
        &[2, 3, 4],
        rows,
    );
    text += &problems(status);
    text += &full::affinity(status, status);
    text += "\nuse `--all` for every backend, `lyncpin status POOL` for those of a pool, `--by-server` for one line per server\n";
    text
}

fn row(pool: &PoolView, status: &StatusView) -> Vec<String> {
    let backends = &pool.backends;
    let serving = backends.iter().filter(|backend| full::in_service(backend));
    let connections: u64 = backends.iter().map(|backend| backend.connections).sum();
    let pins: Vec<u64> = backends.iter().filter_map(|backend| backend.pins).collect();
    let mut out: BTreeMap<String, u64> = BTreeMap::new();
    for backend in backends.iter().filter(|backend| !full::in_service(backend)) {
        *out.entry(reason(backend)).or_default() += 1;
    }
    let out: Vec<String> = out
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    vec![
        pool.name.clone(),
        routing::serves(pool, status).to_owned(),
        format!("{}/{}", serving.count(), backends.len()),
        connections.to_string(),
        if pins.is_empty() {
            "-".to_owned()
        } else {
            pins.iter().sum::<u64>().to_string()
        },
        out.join(", "),
    ]
}

/// Why a backend is out of service.
fn reason(backend: &BackendView) -> String {
    use crate::types::backend_state::{AdminState, Health};
    match (backend.state, backend.health) {
        (AdminState::Maintain, _) => "in maintenance",
        _ if backend.damped_until.is_some() => "damped",
        (_, Health::Down) => "down",
        (AdminState::Drain, _) => "draining",
        (AdminState::Ready, Health::Unknown) => "unknown",
        (AdminState::Ready, Health::Up) => "with weight 0",
    }
    .to_owned()
}

/// The backends that are out of service or have a failing check.
fn problems(status: &StatusView) -> String {
    let mut text = String::new();
    let mut left = MAX_LISTED;
    let mut hidden = 0;
    for pool in &status.pools {
        let out: Vec<&BackendView> = pool
            .backends
            .iter()
            .filter(|backend| !full::in_service(backend) || full::is_failing(backend))
            .collect();
        let shown = out.len().min(left);
        left -= shown;
        hidden += out.len() - shown;
        if shown > 0 {
            text += &format!("\npool {}:\n", printable(&pool.name));
            text += &full::backends(out.into_iter().take(shown), status);
        }
    }
    if hidden > 0 {
        text += &format!(
            "\nand {} more that are out of service or have a failing check\n",
            pluralized(hidden as u64, "backend")
        );
    }
    text
}
