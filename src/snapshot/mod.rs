//! Everything that a configuration stands for while it is in force, ready for the data path.
//!
//! Owns the way from a [`Config`] to pools, tables and routes, and which of them survive the next configuration. Opens
//! no socket. Invariant: a snapshot never changes; what changes stands behind its backends and tables.

pub mod routes;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use metrics::{Gauge, Histogram};

use crate::affinity::table::{Pins, Secret};
use crate::config::model::{self, Config, PoolId, ServerAddress, Target, Timeouts};
use crate::snapshot::routes::Routes;
use crate::telemetry::metrics::{BackendMetrics, ConnectionMetrics, Registry, definitions};
use crate::types::host_name::HostName;
use crate::upstream::backend::{Availability, Backend};
use crate::upstream::pool::Pool;

/// A configuration in force.
pub struct Snapshot {
    /// What it was built from.
    pub config: Config,
    /// At the places that [`PoolId`] names.
    pub pools: Vec<Arc<Pool>>,
    /// One table a group, sorted by the group's name.
    pub groups: Vec<Arc<Pins>>,
    /// In the order of the file.
    pub listeners: Vec<Arc<ActiveListener>>,
    /// By the addresses that are configured for them.
    bound: HashMap<SocketAddr, Arc<ActiveListener>>,
}

/// What a configuration finds when it comes into force.
pub struct PreviousSnapshot<'a> {
    /// What was in force.
    pub snapshot: &'a Snapshot,
    /// Where servers are, as far as it is known: backends that are new or elsewhere now are used at once.
    pub addresses: &'a dyn Fn(&ServerAddress) -> Option<SocketAddr>,
}

impl Snapshot {
    /// Builds what `config` stands for; a change of any backend's availability is told to `availability`, and `secret`
    /// hashes TLS sessions.
    #[must_use]
    pub fn build(
        config: Config,
        registry: &Registry,
        availability: &Arc<Availability>,
        secret: &Secret,
    ) -> Self {
        Self::build_after(None, config, registry, availability, secret)
    }

    /// The same in the place of another one. Backends are kept by pool and name, tables by group, where their clients have
    /// other keys now as far as the pins can be translated; what is new of them is theirs when this returns, and connections that they have are not touched.
    #[must_use]
    pub fn build_after(
        before: Option<&PreviousSnapshot<'_>>,
        config: Config,
        registry: &Registry,
        availability: &Arc<Availability>,
        secret: &Secret,
    ) -> Self {
        let mut groups: Vec<Arc<Pins>> = Vec::new();
        let mut other_keys = Vec::new();
        for affinity in config
            .pools
            .iter()
            .filter_map(|pool| pool.affinity.as_ref())
        {
            if !groups.iter().any(|known| *known.group() == affinity.group) {
                let known = before.and_then(|before| before.snapshot.group(&affinity.group));
                let kept = known.filter(|pins| pins.reconfigure(affinity)).cloned();
                groups.push(kept.unwrap_or_else(|| {
                    let new = Arc::new(Pins::new(affinity, registry, secret));
                    other_keys.extend(known.map(|known| (new.clone(), known.clone())));
                    new
                }));
            }
        }
        groups.sort_by(|a, b| a.group().cmp(b.group()));
        let backends = config
            .pools
            .iter()
            .map(|pool| backends(before, pool, registry, availability))
            .collect();
        let mut pools = Pools {
            config: &config,
            backends,
            groups: &groups,
            built: HashMap::new(),
        };
        let pools: Vec<Arc<Pool>> = (0..config.pools.len())
            .map(|place| pools.build(PoolId(place)))
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
        // Names and backends have their numbers by now.
        for (new, known) in other_keys {
            new.import_table(&known);
        }
        let bound = listeners.iter().flat_map(|listener| {
            let addresses = listener.config.bind.iter();
            addresses.map(|&address| (address, listener.clone()))
        });
        Self {
            bound: bound.collect(),
            pools,
            groups,
            listeners,
            config,
        }
    }

    /// The listener that this address is configured for.
    #[must_use]
    pub fn listener_at(&self, address: SocketAddr) -> Option<&Arc<ActiveListener>> {
        self.bound.get(&address)
    }

    /// The pool of this name.
    #[must_use]
    pub fn pool(&self, name: &str) -> Option<&Arc<Pool>> {
        self.pools.iter().find(|pool| *pool.name == *name)
    }

    /// The table of this group.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<&Arc<Pins>> {
        self.groups.iter().find(|pins| **pins.group() == *name)
    }

    /// The listener of this name.
    #[must_use]
    pub fn listener(&self, name: &str) -> Option<&Arc<ActiveListener>> {
        self.listeners
            .iter()
            .find(|listener| *listener.config.name == *name)
    }

    /// Every backend of every pool.
    pub fn backends(&self) -> impl Iterator<Item = &Arc<Backend>> {
        self.pools.iter().flat_map(|pool| &pool.backends)
    }
}

/// Pools under construction: a pool's backup is built before the pool; the configuration has no cycle.
struct Pools<'a> {
    config: &'a Config,
    /// Of each pool, in the order of the file: a pool knows those of its group.
    backends: Vec<Vec<Arc<Backend>>>,
    groups: &'a [Arc<Pins>],
    built: HashMap<PoolId, Arc<Pool>>,
}

impl Pools<'_> {
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
            .with_siblings(self.siblings(id));
        let pool = Arc::new(pool);
        self.built.insert(id, pool.clone());
        pool
    }

    /// For each backend of the pool, those of its name in the other pools of its affinity group; none at all where the
    /// pool is alone in its group.
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
            .filter(|(place, (pool, _))| *place != id.0 && group(pool).as_ref() == Some(&own))
            .flat_map(|(_, (_, backends))| backends)
            .collect();
        if others.is_empty() {
            return Vec::new();
        }
        let mut by_name: HashMap<&str, Vec<Arc<Backend>>> = HashMap::new();
        for other in others {
            by_name.entry(&other.name).or_default().push(other.clone());
        }
        let of = |backend: &Arc<Backend>| by_name.get(&*backend.name).cloned().unwrap_or_default();
        self.backends[id.0].iter().map(of).collect()
    }
}

/// The backends of one pool, those that it had before among them.
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

/// Where a name leads.
#[derive(Debug, Clone)]
pub struct Destination {
    /// The pool.
    pub pool: Arc<Pool>,
    /// The configured name that matched, as the group's table numbers it; 0 where the pool has no affinity.
    pub name: u32,
    /// The configured name that matched, for people: a name, a pattern, `no_name`, `unknown_name` or `pool`.
    pub matched: Arc<str>,
}

/// A listener in force: how it decides.
pub struct ActiveListener {
    /// What it was built from.
    pub config: model::ListenerConfig,
    /// Of each of its connections.
    pub timeouts: Timeouts,
    /// Observed from accept to the end of the hello.
    pub hello_seconds: Histogram,
    /// 1 while the port takes connections.
    pub open: Gauge,
    routes: Routes<Destination>,
    no_name: Option<Destination>,
    unknown_name: Option<Destination>,
    pool: Option<Destination>,
    nowhere: Arc<ConnectionMetrics>,
    /// By the backend's place in memory, which stays its own while the listener holds its pools.
    series: HashMap<usize, Arc<ConnectionMetrics>>,
    pools: Vec<Arc<Pool>>,
}

impl ActiveListener {
    fn new(
        config: model::ListenerConfig,
        timeouts: &Timeouts,
        pools: &[Arc<Pool>],
        registry: &Registry,
    ) -> Self {
        let destination = |id: PoolId, matched: &str| {
            let pool = pools[id.0].clone();
            let name = pool
                .affinity
                .as_ref()
                .map_or(0, |affinity| affinity.pins.number_name(matched));
            Destination {
                pool,
                name,
                matched: matched.into(),
            }
        };
        let fallback =
            |target: Target, matched: &str| target.pool().map(|id| destination(id, matched));
        let names = config.routes.iter().flat_map(|route| {
            let named = |pattern: &model::NamePattern| {
                (
                    pattern.clone(),
                    destination(route.pool, &pattern.to_string()),
                )
            };
            route.names.iter().map(named).collect::<Vec<_>>()
        });
        let reached: Vec<Arc<Pool>> = config
            .pools()
            .into_iter()
            .map(|id| pools[id.0].clone())
            .collect();
        let none: Arc<str> = "".into();
        Self {
            hello_seconds: registry.histogram(&definitions::CLIENT_HELLO_SECONDS, &[&config.name]),
            open: registry.gauge(&definitions::LISTENER_OPEN, &[&config.name]),
            routes: Routes::new(names),
            no_name: fallback(config.no_name, "no_name"),
            unknown_name: fallback(config.unknown_name, "unknown_name"),
            pool: config.pool.map(|id| destination(id, "pool")),
            nowhere: Arc::new(ConnectionMetrics::new(registry, &config.name, &none, &none)),
            series: series(&config, &reached, registry),
            pools: reached,
            timeouts: *timeouts,
            config,
        }
    }

    /// Where a client goes that asks for `name`.
    #[must_use]
    pub fn route(&self, name: &HostName) -> Option<&Destination> {
        self.routes.find(name).or(self.unknown_name.as_ref())
    }

    /// Where a client goes whose name is in no route, an address for one.
    #[must_use]
    pub fn route_unknown(&self) -> Option<&Destination> {
        self.unknown_name.as_ref()
    }

    /// Where a client goes that names nothing.
    #[must_use]
    pub fn route_no_name(&self) -> Option<&Destination> {
        self.no_name.as_ref()
    }

    /// The one pool of a listener that does not peek.
    #[must_use]
    pub fn only_pool(&self) -> Option<&Destination> {
        self.pool.as_ref()
    }

    /// Whether `source` may come.
    #[must_use]
    pub fn admits(&self, source: IpAddr) -> bool {
        let holds = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&source));
        !holds(&self.config.deny) && (self.config.allow.is_empty() || holds(&self.config.allow))
    }

    /// The pools that its routes lead to; their backups are not among them.
    #[must_use]
    pub fn pools(&self) -> &[Arc<Pool>] {
        &self.pools
    }

    /// Whether any pool behind it can serve.
    #[must_use]
    pub fn can_serve(&self) -> bool {
        self.pools.iter().any(|pool| pool.can_serve())
    }

    /// Whether any pool behind it has a backend that has passed its checks.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.pools.iter().any(|pool| pool.is_ready())
    }

    /// Connections that live.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.nowhere.living()
            + self
                .series
                .values()
                .map(|series| series.living())
                .sum::<u64>()
    }

    /// Counts of the connections that went to `backend`, or to none.
    #[must_use]
    pub fn metrics(&self, backend: Option<&Arc<Backend>>) -> &Arc<ConnectionMetrics> {
        backend
            .and_then(|backend| self.series.get(&Arc::as_ptr(backend).addr()))
            .unwrap_or(&self.nowhere)
    }
}

fn series(
    listener: &model::ListenerConfig,
    pools: &[Arc<Pool>],
    registry: &Registry,
) -> HashMap<usize, Arc<ConnectionMetrics>> {
    let mut series = HashMap::new();
    let mut open: Vec<&Arc<Pool>> = pools.iter().collect();
    while let Some(pool) = open.pop() {
        open.extend(&pool.backup);
        for backend in &pool.backends {
            let metrics = || {
                Arc::new(ConnectionMetrics::new(
                    registry,
                    &listener.name,
                    &pool.name,
                    &backend.name,
                ))
            };
            series
                .entry(Arc::as_ptr(backend).addr())
                .or_insert_with(metrics);
        }
    }
    series
}
