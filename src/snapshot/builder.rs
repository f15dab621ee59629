//! Building a snapshot from a configuration and the snapshot before it.
//!
//! Owns which backends and tables are kept. Opens no socket. Invariant: a pool's backup is built before the pool, which
//! terminates because a validated configuration has no cycle.

use std::collections::HashMap;
use std::sync::Arc;

use super::{ActiveListener, PreviousSnapshot, Snapshot};
use crate::affinity::table::{Pins, Secret};
use crate::config::model::{self, Config, PoolId, ServerAddress};
use crate::telemetry::metrics::{BackendMetrics, Registry};
use crate::upstream::backend::{Availability, Backend};
use crate::upstream::pool::Pool;

/// See [`Snapshot::build_after`].
pub(super) fn build(
    before: Option<&PreviousSnapshot<'_>>,
    config: Config,
    registry: &Registry,
    availability: &Arc<Availability>,
    secret: &Secret,
) -> Snapshot {
    let (groups, replaced) = groups(before, &config, registry, secret);
    let backends = config
        .pools
        .iter()
        .map(|pool| backends(before, pool, registry, availability))
        .collect();
    let mut builder = PoolBuilder {
        config: &config,
        backends,
        groups: &groups,
        built: HashMap::new(),
    };
    let pools: Vec<Arc<Pool>> = (0..config.pools.len())
        .map(|index| builder.build(PoolId(index)))
        .collect();
    let listener = |listener: &model::ListenerConfig| {
        Arc::new(ActiveListener::new(
            listener.clone(),
            &config.timeouts,
            &pools,
            registry,
        ))
    };
    let listeners: Vec<Arc<ActiveListener>> = config.listeners.iter().map(listener).collect();
    // After names and backends have been numbered in the new tables.
    for ReplacedGroup { new, old } in replaced {
        new.import_table(&old);
    }
    let by_address = listeners.iter().flat_map(|listener| {
        let addresses = listener.config.bind.iter();
        addresses.map(|&address| (address, listener.clone()))
    });
    Snapshot {
        by_address: by_address.collect(),
        pools,
        groups,
        listeners,
        config,
    }
}

/// A table that is replaced because the keys of its group have changed.
struct ReplacedGroup {
    new: Arc<Pins>,
    old: Arc<Pins>,
}

/// The table of each affinity group, and those whose pins must be translated.
fn groups(
    before: Option<&PreviousSnapshot<'_>>,
    config: &Config,
    registry: &Registry,
    secret: &Secret,
) -> (Vec<Arc<Pins>>, Vec<ReplacedGroup>) {
    let mut groups: Vec<Arc<Pins>> = Vec::new();
    let mut replaced = Vec::new();
    for affinity in config
        .pools
        .iter()
        .filter_map(|pool| pool.affinity.as_ref())
    {
        if groups.iter().any(|known| *known.group() == affinity.group) {
            continue;
        }
        let old = before.and_then(|before| before.snapshot.group(&affinity.group));
        let kept = old.filter(|pins| pins.reconfigure(affinity)).cloned();
        groups.push(kept.unwrap_or_else(|| {
            let new = Arc::new(Pins::new(affinity, registry, secret));
            replaced.extend(old.map(|old| ReplacedGroup {
                new: new.clone(),
                old: old.clone(),
            }));
            new
        }));
    }
    groups.sort_by(|a, b| a.group().cmp(b.group()));
    (groups, replaced)
}

/// Builds the pools.
struct PoolBuilder<'a> {
    config: &'a Config,
    /// Of each pool, in the order of the file.
    backends: Vec<Vec<Arc<Backend>>>,
    groups: &'a [Arc<Pins>],
    built: HashMap<PoolId, Arc<Pool>>,
}

impl PoolBuilder<'_> {
    fn build(&mut self, id: PoolId) -> Arc<Pool> {
        if let Some(known) = self.built.get(&id) {
            return known.clone();
        }
        let config = self.config.pool(id);
        let backup = config.backup.map(|backup| self.build(backup));
        let pins = config.affinity.as_ref().and_then(|affinity| {
            self.groups
                .iter()
                .find(|known| *known.group() == affinity.group)
                .cloned()
        });
        let pool = Pool::new(
            config.name.clone(),
            self.backends[id.0].clone(),
            config.balance,
            pins,
            backup,
            config.on_down,
        );
        let pool = pool
            .with_slow_start(config.slow_start)
            .with_proxy_header(config.send_proxy_protocol)
            .with_siblings(self.siblings(id));
        let pool = Arc::new(pool);
        self.built.insert(id, pool.clone());
        pool
    }

    /// For each backend of the pool, the backends of the same name in the other pools of its affinity group; empty if the pool
    /// is the only one in its group.
    fn siblings(&self, id: PoolId) -> Vec<Vec<Arc<Backend>>> {
        let group = |pool: &model::PoolConfig| Some(pool.affinity.as_ref()?.group.clone());
        let Some(own) = group(self.config.pool(id)) else {
            return Vec::new();
        };
        let others: Vec<&Arc<Backend>> = self
            .config
            .pools
            .iter()
            .zip(&self.backends)
            .enumerate()
            .filter(|(index, (pool, _))| *index != id.0 && group(pool).as_ref() == Some(&own))
            .flat_map(|(_, (_, backends))| backends)
            .collect();
        if others.is_empty() {
            return Vec::new();
        }
        let mut by_name: HashMap<&str, Vec<Arc<Backend>>> = HashMap::new();
        for other in others {
            by_name.entry(&other.name).or_default().push(other.clone());
        }
        let siblings =
            |backend: &Arc<Backend>| by_name.get(&*backend.name).cloned().unwrap_or_default();
        self.backends[id.0].iter().map(siblings).collect()
    }
}

/// The backends of one pool: kept from the snapshot before, or new.
fn backends(
    before: Option<&PreviousSnapshot<'_>>,
    pool: &model::PoolConfig,
    registry: &Registry,
    availability: &Arc<Availability>,
) -> Vec<Arc<Backend>> {
    let known = before.and_then(|before| before.snapshot.pool(&pool.name));
    let known: HashMap<&str, &Arc<Backend>> = known
        .into_iter()
        .flat_map(|pool| &pool.backends)
        .map(|backend| (&*backend.name, backend))
        .collect();
    let backend = |configured: &model::BackendConfig| {
        let address = |server: &ServerAddress| (before?.addresses)(server);
        if let Some(&kept) = known.get(&*configured.name) {
            kept.reconfigure(configured, pool.max_connections, address);
            return kept.clone();
        }
        let backend = Backend::new(
            pool.name.clone(),
            configured.clone(),
            pool.max_connections,
            BackendMetrics::new(registry, &pool.name, &configured.name),
            availability.clone(),
        );
        if let Some(address) = address(&configured.address) {
            backend.set_address(address);
        }
        Arc::new(backend)
    };
    pool.backends.iter().map(backend).collect()
}
