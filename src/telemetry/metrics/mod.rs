//! Metrics: handles are looked up when a snapshot is built, so that the data path only increments.
//!
//! Owns the table of the metrics ([`definitions`]), the values ([`registry`]) and the handles of backends and listeners. Must
//! not know connections. Invariant: counting never waits, and allocates only for the first of its kind.

pub mod definitions;
pub mod process;
pub mod registry;

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use metrics::{Counter, Gauge, Histogram};

use crate::types::backend_state::{AdminState, Health};
use crate::types::outcome::Outcome;
pub use registry::Registry;

/// The direction of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the backend.
    ToBackend,
    /// From the backend to the client.
    ToClient,
}

/// How bytes were transferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferPath {
    /// Through a buffer of the process.
    Copied,
    /// Through a pipe, inside the kernel.
    Spliced,
}

/// Why an attempt to connect to a backend failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectFailure {
    /// The port is closed.
    Refused,
    /// The backend reset the connection.
    Reset,
    /// No response within `timeouts.connect`.
    Timeout,
    /// No route to the backend.
    Unreachable,
    /// This machine lacked a port, a descriptor or memory; the backend may be fine.
    Local,
}

impl ConnectFailure {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Refused,
        Self::Reset,
        Self::Timeout,
        Self::Unreachable,
        Self::Local,
    ];

    /// The name in the metrics and the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Local => "local",
        }
    }
}

/// The metrics of one backend, over all listeners.
#[derive(Clone)]
pub struct BackendMetrics {
    copied: [Counter; 2],
    spliced: [Counter; 2],
    connect_seconds: Histogram,
    connection_seconds: Histogram,
    connect_failures: [Counter; 5],
    redispatches: [Counter; 5],
    up: Gauge,
    damped: Gauge,
    drain_deadline: Gauge,
    falls: Counter,
    states: [Gauge; 3],
    registry: Registry,
    names: (Arc<str>, Arc<str>),
}

impl BackendMetrics {
    /// The handles of backend `name` of `pool`.
    #[must_use]
    pub fn new(registry: &Registry, pool: &Arc<str>, name: &Arc<str>) -> Self {
        let bytes = |path| {
            ["to_backend", "to_client"].map(|direction| {
                registry.counter(&definitions::BYTES, &[pool, name, direction, path])
            })
        };
        let by_failure = |definition| {
            ConnectFailure::ALL
                .map(|failure| registry.counter(definition, &[pool, name, failure.as_str()]))
        };
        Self {
            copied: bytes("copied"),
            spliced: bytes("spliced"),
            connect_seconds: registry.histogram(&definitions::CONNECT_SECONDS, &[pool, name]),
            connection_seconds: registry.histogram(&definitions::CONNECTION_SECONDS, &[pool, name]),
            connect_failures: by_failure(&definitions::CONNECT_FAILURES),
            redispatches: by_failure(&definitions::REDISPATCHES),
            up: registry.gauge(&definitions::BACKEND_UP, &[pool, name]),
            damped: registry.gauge(&definitions::BACKEND_DAMPED, &[pool, name]),
            drain_deadline: registry.gauge(&definitions::BACKEND_DRAIN_DEADLINE, &[pool, name]),
            falls: registry.counter(&definitions::BACKEND_FALLS, &[pool, name]),
            states: AdminState::ALL.map(|state| {
                registry.gauge(&definitions::BACKEND_STATE, &[pool, name, state.as_str()])
            }),
            registry: registry.clone(),
            names: (pool.clone(), name.clone()),
        }
    }

    /// Counts transferred bytes.
    pub fn record_bytes(&self, direction: Direction, path: TransferPath, bytes: u64) {
        let counters = match path {
            TransferPath::Copied => &self.copied,
            TransferPath::Spliced => &self.spliced,
        };
        counters[direction as usize].increment(bytes);
    }

    /// Records the time to connect to the backend.
    pub fn record_connect(&self, seconds: f64) {
        self.connect_seconds.record(seconds);
    }

    /// Records the duration of a connection that had reached the backend.
    pub fn record_end(&self, seconds: f64) {
        self.connection_seconds.record(seconds);
    }

    /// Counts a failed attempt to connect.
    pub fn record_connect_failure(&self, failure: ConnectFailure) {
        self.connect_failures[failure as usize].increment(1);
    }

    /// Counts a connection that is redispatched to another backend.
    pub fn record_redispatch(&self, failure: ConnectFailure) {
        self.redispatches[failure as usize].increment(1);
    }

    /// Sets the health.
    pub fn set_health(&self, health: Health) {
        self.up.set(f64::from(u8::from(health == Health::Up)));
    }

    /// Counts a change from up to down.
    pub fn record_fall(&self) {
        self.falls.increment(1);
    }

    /// Sets whether flap damping holds it out of rotation.
    pub fn set_damped(&self, damped: bool) {
        self.damped.set(f64::from(u8::from(damped)));
    }

    /// Sets the end of its drain; `None` if it does not drain.
    pub fn set_drain_deadline(&self, deadline: Option<SystemTime>) {
        self.drain_deadline.set(deadline.map_or(0.0, unix_seconds));
    }

    /// Sets the administrative state.
    pub fn set_state(&self, state: AdminState) {
        for (known, gauge) in AdminState::ALL.into_iter().zip(&self.states) {
            gauge.set(f64::from(u8::from(known == state)));
        }
    }

    /// Counts a result of the check with this label, and records its duration.
    pub fn record_check(&self, check: &str, passed: bool, seconds: f64) {
        let (pool, name) = &self.names;
        let labels = [&**pool, name, check, if passed { "pass" } else { "fail" }];
        self.registry
            .counter(&definitions::HEALTH_CHECKS, &labels)
            .increment(1);
        self.registry
            .histogram(&definitions::HEALTH_CHECK_SECONDS, &labels)
            .record(seconds);
    }

    /// Sets the end of validity of the certificate that a check saw.
    pub fn set_certificate_expiry(&self, expiry: SystemTime) {
        let (pool, name) = &self.names;
        self.registry
            .gauge(&definitions::CERTIFICATE_EXPIRY, &[pool, name])
            .set(unix_seconds(expiry));
    }
}

/// Seconds since 1970; 0 for earlier times.
fn unix_seconds(at: SystemTime) -> f64 {
    at.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// The metrics of the connections of one listener to one backend, or to none.
pub struct ConnectionMetrics {
    registry: Registry,
    listener: Arc<str>,
    pool: Arc<str>,
    backend: Arc<str>,
    active: OnceLock<Gauge>,
    ended: [OnceLock<Counter>; Outcome::ALL.len()],
}

impl ConnectionMetrics {
    /// The handles for `listener` and `backend` of `pool`, the latter two empty for connections without a backend. A series
    /// is created when it is first needed: most pairs of backend and outcome never occur.
    #[must_use]
    pub fn new(
        registry: &Registry,
        listener: &Arc<str>,
        pool: &Arc<str>,
        backend: &Arc<str>,
    ) -> Self {
        Self {
            registry: registry.clone(),
            listener: listener.clone(),
            pool: pool.clone(),
            backend: backend.clone(),
            active: OnceLock::new(),
            ended: [const { OnceLock::new() }; Outcome::ALL.len()],
        }
    }

    /// Counts a connection that has ended.
    pub fn record_end(&self, outcome: Outcome) {
        let labels = [&*self.listener, &self.pool, &self.backend, outcome.as_str()];
        self.ended[outcome as usize]
            .get_or_init(|| self.registry.counter(&definitions::CONNECTIONS, &labels))
            .increment(1);
    }

    /// Number of open connections.
    #[must_use]
    pub fn active_connections(&self) -> u64 {
        let labels = [&*self.listener, &self.pool, &self.backend];
        let active = self
            .registry
            .gauge_value(&definitions::CONNECTIONS_ACTIVE, &labels);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count, stored as a double"
        )]
        let active = active as u64;
        active
    }

    /// Counts an open connection until the guard is dropped.
    #[must_use]
    pub fn track(self: &Arc<Self>) -> ActiveConnection {
        self.active().increment(1.0);
        ActiveConnection { of: self.clone() }
    }

    fn active(&self) -> &Gauge {
        let labels = [&*self.listener, &self.pool, &self.backend];
        self.active.get_or_init(|| {
            self.registry
                .gauge(&definitions::CONNECTIONS_ACTIVE, &labels)
        })
    }
}

/// One open connection in `lyncpin_connections_active`.
pub struct ActiveConnection {
    of: Arc<ConnectionMetrics>,
}

impl ActiveConnection {
    /// The metrics that count it.
    #[must_use]
    pub fn metrics(&self) -> &Arc<ConnectionMetrics> {
        &self.of
    }
}

impl Drop for ActiveConnection {
    fn drop(&mut self) {
        self.of.active().decrement(1.0);
    }
}
