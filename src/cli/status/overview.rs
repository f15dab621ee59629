//! The status of a large site: a line for each pool, then what is wrong.
//!
//! Invariant: what is left out is counted.

use std::collections::BTreeMap;

use super::full;
use crate::admin::view::{BackendView, PoolView, StatusView};
use crate::cli::table::{printable, table};
use crate::types::timestamp::counted;

/// Backends out of service that are shown one by one.
const SHOWN: usize = 50;

/// Both parts.
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
    text += &wrong(status);
    text += &full::affinity(status, status);
    text += "\n`lyncpin status --all` shows every backend, `lyncpin status POOL` those of a pool, `--by-server` a line for each server\n";
    text
}

fn row(pool: &PoolView, status: &StatusView) -> Vec<String> {
    let backends = &pool.backends;
    let serving = backends.iter().filter(|backend| full::in_service(backend));
    let connections: u64 = backends.iter().map(|backend| backend.connections).sum();
    let pins: Vec<u64> = backends.iter().filter_map(|backend| backend.pins).collect();
    let mut out: BTreeMap<String, u64> = BTreeMap::new();
    for backend in backends.iter().filter(|backend| !full::in_service(backend)) {
        *out.entry(word(backend)).or_default() += 1;
    }
    let out: Vec<String> = out
        .iter()
        .map(|(word, count)| format!("{count} {word}"))
        .collect();
    vec![
        pool.name.clone(),
        full::serves(pool, status).to_owned(),
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

/// Why a backend is out of service, in a word.
fn word(backend: &BackendView) -> String {
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

/// The backends that are out of service, and the checks and certificates of the others that deserve a look.
fn wrong(status: &StatusView) -> String {
    let mut text = String::new();
    let mut left = SHOWN;
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
            counted(hidden as u64, "backend")
        );
    }
    text
}
