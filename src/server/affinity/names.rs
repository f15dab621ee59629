//! The configured names under which clients are pinned that request a name.
//!
//! Owns the way from a name as typed to configured names. Must not know pins. Invariant: each listener's own routes decide.

use std::sync::Arc;

use crate::admin::AffinityError;
use crate::config::model::Target;
use crate::snapshot::{ActiveListener, Destination, Snapshot};
use crate::types::host_name::{HostName, is_ip_literal};
use crate::upstream::pool::Pool;

/// The configured name of clients whose name is in no route.
const UNKNOWN: &str = "unknown_name";

/// A configured name and its pool.
#[derive(Debug, Clone)]
pub(super) struct ConfiguredName {
    /// A name, a pattern, `no_name`, `unknown_name` or `pool`, as the table knows it.
    pub(super) matched: Arc<str>,
    /// Its pool, which has affinity.
    pub(super) pool: Arc<Pool>,
}

impl ConfiguredName {
    fn of(destination: &Destination) -> Self {
        Self {
            matched: destination.matched.clone(),
            pool: destination.pool.clone(),
        }
    }

    /// The affinity group of its pool.
    pub(super) fn group(&self) -> Option<&Arc<str>> {
        let affinity = self.pool.affinity.as_ref()?;
        Some(affinity.pins.group())
    }
}

/// Every configured name of a pool with affinity, sorted.
pub(super) fn all(snapshot: &Snapshot) -> Vec<ConfiguredName> {
    sorted(
        snapshot
            .listeners
            .iter()
            .flat_map(|listener| of_listener(snapshot, listener)),
    )
}

/// The configured names under which clients are pinned that request `name`: by each listener's routes, and `name` itself if
/// it is a configured name or pattern. Only if no route matches, it is an unknown name.
///
/// # Errors
///
/// If none of them belongs to a pool with affinity.
pub(super) fn matching(
    snapshot: &Snapshot,
    name: &str,
) -> Result<Vec<ConfiguredName>, AffinityError> {
    let folded = name.to_ascii_lowercase();
    let folded = folded.strip_suffix('.').unwrap_or(&folded);
    let sent = HostName::parse_sent(folded.as_bytes());
    let host = sent.as_ref().ok().and_then(Option::as_ref);
    let mut found: Vec<ConfiguredName> = all(snapshot)
        .into_iter()
        .filter(|known| *known.matched == *folded)
        .collect();
    if let Some(host) = host {
        let routed = routing_by_name(snapshot).filter_map(|listener| listener.route(host));
        found.extend(
            routed
                .filter(|to| *to.matched != *UNKNOWN)
                .map(ConfiguredName::of),
        );
    }
    if found.is_empty() && (host.is_some() || is_ip_literal(folded.as_bytes())) {
        let unknown = routing_by_name(snapshot).filter_map(|listener| listener.route_unknown());
        found.extend(unknown.map(ConfiguredName::of));
    }
    let found = sorted(found);
    if found.is_empty() {
        return Err(AffinityError::UnknownName(name.into()));
    }
    Ok(found)
}

/// Listeners that read a name.
fn routing_by_name(snapshot: &Snapshot) -> impl Iterator<Item = &Arc<ActiveListener>> {
    snapshot
        .listeners
        .iter()
        .filter(|listener| listener.only_pool().is_none())
}

fn of_listener(snapshot: &Snapshot, listener: &ActiveListener) -> Vec<ConfiguredName> {
    if let Some(only) = listener.only_pool() {
        return vec![ConfiguredName::of(only)];
    }
    let config = &listener.config;
    let mut found = Vec::new();
    for route in &config.routes {
        let pool = &snapshot.pools[route.pool.0];
        found.extend(route.names.iter().map(|name| ConfiguredName {
            matched: name.to_string().into(),
            pool: pool.clone(),
        }));
    }
    let fallback = |target: Target, matched: &str| {
        let pool = snapshot.pools[target.pool()?.0].clone();
        Some(ConfiguredName {
            matched: matched.into(),
            pool,
        })
    };
    found.extend(fallback(config.no_name, "no_name"));
    found.extend(fallback(config.unknown_name, UNKNOWN));
    found
}

/// Those with affinity, sorted, each once for a pool.
fn sorted(known: impl IntoIterator<Item = ConfiguredName>) -> Vec<ConfiguredName> {
    let mut known: Vec<ConfiguredName> = known
        .into_iter()
        .filter(|known| known.group().is_some())
        .collect();
    known.sort_by(|a, b| {
        (a.group(), &a.matched, &a.pool.name).cmp(&(b.group(), &b.matched, &b.pool.name))
    });
    known.dedup_by(|a, b| a.matched == b.matched && Arc::ptr_eq(&a.pool, &b.pool));
    known
}
