//! A listener in force: its routes and its metrics.
//!
//! Owns the decision which pool a name goes to, and whether a source is allowed. Must not know sockets. Invariant: all metrics
//! of its connections are looked up when it is built.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use metrics::{Gauge, Histogram};

use super::routes::Routes;
use crate::config::model::{self, PoolId, Target, Timeouts};
use crate::telemetry::metrics::{ConnectionMetrics, Registry, definitions};
use crate::types::host_name::HostName;
use crate::upstream::backend::Backend;
use crate::upstream::pool::Pool;

/// The target of a route.
#[derive(Debug, Clone)]
pub struct Destination {
    /// The pool.
    pub pool: Arc<Pool>,
    /// The number of the matched configured name in the group's table; 0 if the pool has no affinity.
    pub name_id: u32,
    /// The configured name that matched, for display: a name, a pattern, `no_name`, `unknown_name` or `pool`.
    pub matched: Arc<str>,
}

impl Destination {
    fn new(pool: &Arc<Pool>, matched: &str) -> Self {
        let affinity = pool.affinity.as_ref();
        Self {
            pool: pool.clone(),
            name_id: affinity.map_or(0, |affinity| affinity.pins.intern_name(matched)),
            matched: matched.into(),
        }
    }
}

/// A listener in force.
pub struct ActiveListener {
    /// The configuration that it was built from.
    pub config: model::ListenerConfig,
    /// The timeouts of its connections.
    pub timeouts: Timeouts,
    /// Time from accept to the end of the hello.
    pub hello_seconds: Histogram,
    /// 1 while the port accepts connections.
    pub open: Gauge,
    routes: Routes<Destination>,
    no_name: Option<Destination>,
    unknown_name: Option<Destination>,
    pool: Option<Destination>,
    /// Of connections without a backend.
    no_backend: Arc<ConnectionMetrics>,
    /// By the address of the backend in memory, which is unique while the listener holds its pools.
    by_backend: HashMap<usize, Arc<ConnectionMetrics>>,
    pools: Vec<Arc<Pool>>,
}

impl ActiveListener {
    pub(super) fn new(
        config: model::ListenerConfig,
        timeouts: &Timeouts,
        pools: &[Arc<Pool>],
        registry: &Registry,
    ) -> Self {
        let destination = |id: PoolId, matched: &str| Destination::new(&pools[id.0], matched);
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
        let own_pools: Vec<Arc<Pool>> = config
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
            no_backend: Arc::new(ConnectionMetrics::new(registry, &config.name, &none, &none)),
            by_backend: metrics_by_backend(&config, &own_pools, registry),
            pools: own_pools,
            timeouts: *timeouts,
            config,
        }
    }

    /// The destination of a client that requests `name`.
    #[must_use]
    pub fn route(&self, name: &HostName) -> Option<&Destination> {
        self.routes.find(name).or(self.unknown_name.as_ref())
    }

    /// The destination of a client whose name is in no route, for example an IP address.
    #[must_use]
    pub fn route_unknown(&self) -> Option<&Destination> {
        self.unknown_name.as_ref()
    }

    /// The destination of a client that requests no name.
    #[must_use]
    pub fn route_no_name(&self) -> Option<&Destination> {
        self.no_name.as_ref()
    }

    /// The only pool of a `tcp` listener.
    #[must_use]
    pub fn only_pool(&self) -> Option<&Destination> {
        self.pool.as_ref()
    }

    /// Whether `allow` and `deny` admit `source`.
    #[must_use]
    pub fn admits(&self, source: IpAddr) -> bool {
        let contains = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&source));
        !contains(&self.config.deny)
            && (self.config.allow.is_empty() || contains(&self.config.allow))
    }

    /// The pools of its routes, without their backups.
    #[must_use]
    pub fn pools(&self) -> &[Arc<Pool>] {
        &self.pools
    }

    /// Whether any of its pools can serve.
    #[must_use]
    pub fn can_serve(&self) -> bool {
        self.pools.iter().any(|pool| pool.can_serve())
    }

    /// Whether any of its pools has a backend that has passed its checks.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.pools.iter().any(|pool| pool.is_ready())
    }

    /// Number of current connections.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.no_backend.active_connections()
            + self
                .by_backend
                .values()
                .map(|metrics| metrics.active_connections())
                .sum::<u64>()
    }

    /// The metrics of the connections to `backend`, or of those without one.
    #[must_use]
    pub fn metrics(&self, backend: Option<&Arc<Backend>>) -> &Arc<ConnectionMetrics> {
        backend
            .and_then(|backend| self.by_backend.get(&Arc::as_ptr(backend).addr()))
            .unwrap_or(&self.no_backend)
    }
}

fn metrics_by_backend(
    listener: &model::ListenerConfig,
    pools: &[Arc<Pool>],
    registry: &Registry,
) -> HashMap<usize, Arc<ConnectionMetrics>> {
    let mut by_backend = HashMap::new();
    let mut pending: Vec<&Arc<Pool>> = pools.iter().collect();
    while let Some(pool) = pending.pop() {
        pending.extend(&pool.backup);
        for backend in &pool.backends {
            let metrics = || {
                Arc::new(ConnectionMetrics::new(
                    registry,
                    &listener.name,
                    &pool.name,
                    &backend.name,
                ))
            };
            by_backend
                .entry(Arc::as_ptr(backend).addr())
                .or_insert_with(metrics);
        }
    }
    by_backend
}
