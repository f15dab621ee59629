//! What is counted: handles that are looked up when a snapshot is built, so that the data path only increments.
//!
//! Owns the names ([`definitions`]), the values ([`registry`]) and the bundles of handles that live state holds.
//! Invariant: nothing here waits or allocates on the path of a connection after its first of a kind.

pub mod definitions;
pub mod process;
pub mod registry;

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use metrics::{Counter, Gauge, Histogram};

use crate::types::backend_state::{AdminState, Health};
use crate::types::outcome::Outcome;
pub use registry::Registry;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the backend.
    ToBackend,
    /// From the backend to the client.
    ToClient,
}

/// How bytes were moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// Through a buffer of the process.
    Copied,
    /// Through a pipe, never leaving the kernel.
    Spliced,
}

/// Why a try to connect to a backend failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectFailure {
    /// Nothing listens there.
    Refused,
    /// It reset while it was being connected to.
    Reset,
    /// No answer within `timeouts.connect`.
    Timeout,
    /// No way there.
    Unreachable,
    /// This machine lacked a port, a descriptor or memory; says nothing of the backend.
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

    /// The word in the metrics and the log.
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

/// What is counted of one backend, whichever listener its clients come through.
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
        let by_fault = |definition| {
            ConnectFailure::ALL
                .map(|fault| registry.counter(definition, &[pool, name, fault.as_str()]))
        };
        Self {
            copied: bytes("copied"),
            spliced: bytes("spliced"),
            connect_seconds: registry.histogram(&definitions::CONNECT_SECONDS, &[pool, name]),
            connection_seconds: registry.histogram(&definitions::CONNECTION_SECONDS, &[pool, name]),
            connect_failures: by_fault(&definitions::CONNECT_FAILURES),
            redispatches: by_fault(&definitions::REDISPATCHES),
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

    /// Counts bytes that have been moved.
    pub fn moved(&self, direction: Direction, path: Path, bytes: u64) {
        let counters = match path {
            Path::Copied => &self.copied,
            Path::Spliced => &self.spliced,
        };
        counters[direction as usize].increment(bytes);
    }

    /// A connection to the backend stands after so many seconds.
    pub fn connected(&self, seconds: f64) {
        self.connect_seconds.record(seconds);
    }

    /// A connection that had reached the backend has ended after so many seconds.
    pub fn ended(&self, seconds: f64) {
        self.connection_seconds.record(seconds);
    }

    /// A try to connect failed.
    pub fn connect_failed(&self, fault: ConnectFailure) {
        self.connect_failures[fault as usize].increment(1);
    }

    /// A connection goes on to another backend.
    pub fn redispatched(&self, fault: ConnectFailure) {
        self.redispatches[fault as usize].increment(1);
    }

    /// Shows health.
    pub fn show_health(&self, health: Health) {
        self.up.set(f64::from(u8::from(health == Health::Up)));
    }

    /// Went down after it had been up.
    pub fn fell(&self) {
        self.falls.increment(1);
    }

    /// Shows whether it is kept out though its checks pass.
    pub fn show_damped(&self, damped: bool) {
        self.damped.set(f64::from(u8::from(damped)));
    }

    /// Shows when its drain ends; `None` where it does not drain.
    pub fn show_drain_deadline(&self, deadline: Option<SystemTime>) {
        self.drain_deadline.set(deadline.map_or(0.0, unix_seconds));
    }

    /// Shows the administrative state.
    pub fn show_state(&self, state: AdminState) {
        for (known, gauge) in AdminState::ALL.into_iter().zip(&self.states) {
            gauge.set(f64::from(u8::from(known == state)));
        }
    }

    /// A check labelled `check` has passed or failed after so many seconds.
    pub fn checked(&self, check: &str, passed: bool, seconds: f64) {
        let (pool, name) = &self.names;
        let labels = [&**pool, name, check, if passed { "pass" } else { "fail" }];
        self.registry
            .counter(&definitions::HEALTH_CHECKS, &labels)
            .increment(1);
        self.registry
            .histogram(&definitions::HEALTH_CHECK_SECONDS, &labels)
            .record(seconds);
    }

    /// A check saw a certificate that is valid until `expiry`.
    pub fn show_certificate_expiry(&self, expiry: SystemTime) {
        let (pool, name) = &self.names;
        self.registry
            .gauge(&definitions::CERTIFICATE_EXPIRY, &[pool, name])
            .set(unix_seconds(expiry));
    }
}

/// Seconds since 1970; 0 for what was before.
fn unix_seconds(at: SystemTime) -> f64 {
    at.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// What is counted of the connections of one listener that went to one backend, or to none.
pub struct ConnectionMetrics {
    registry: Registry,
    listener: Arc<str>,
    pool: Arc<str>,
    backend: Arc<str>,
    active: OnceLock<Gauge>,
    ended: [OnceLock<Counter>; Outcome::ALL.len()],
}

impl ConnectionMetrics {
    /// The handles for `listener` and `backend` of `pool`, both empty for connections that reached none. A series is
    /// made when it is first needed: most pairs of backend and outcome never occur.
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
    pub fn ended(&self, outcome: Outcome) {
        let labels = [&*self.listener, &self.pool, &self.backend, outcome.as_str()];
        self.ended[outcome as usize]
            .get_or_init(|| self.registry.counter(&definitions::CONNECTIONS, &labels))
            .increment(1);
    }

    /// Connections that live.
    #[must_use]
    pub fn living(&self) -> u64 {
        let labels = [&*self.listener, &self.pool, &self.backend];
        let living = self
            .registry
            .shown(&definitions::CONNECTIONS_ACTIVE, &labels);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count that is kept as a double"
        )]
        let living = living as u64;
        living
    }

    /// Counts a living connection until the guard is dropped.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> Active {
        self.active().increment(1.0);
        Active { of: self.clone() }
    }

    fn active(&self) -> &Gauge {
        let labels = [&*self.listener, &self.pool, &self.backend];
        self.active.get_or_init(|| {
            self.registry
                .gauge(&definitions::CONNECTIONS_ACTIVE, &labels)
        })
    }
}

/// One living connection in `lyncpin_connections_active`.
pub struct Active {
    of: Arc<ConnectionMetrics>,
}

impl Active {
    /// Whose connections these are.
    #[must_use]
    pub fn metrics(&self) -> &Arc<ConnectionMetrics> {
        &self.of
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.of.active().decrement(1.0);
    }
}
