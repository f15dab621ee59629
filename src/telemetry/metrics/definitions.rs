//! The table of the metrics: name, kind, labels and help of each, one row each.
//!
//! Owns the list; `docs/metrics.md` is tested against it. Must not know values. Invariant: the values of labels come from the
//! configuration or from a fixed vocabulary, never from a client.

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SeriesKind {
    /// Only increases.
    Counter,
    /// Increases and decreases.
    Gauge,
    /// Counts observations in buckets with these upper bounds, in seconds.
    Histogram(&'static [f64]),
}

impl SeriesKind {
    /// The name in the Prometheus text format and the docs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug, PartialEq)]
pub struct Definition {
    /// The name, with prefix and unit.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: SeriesKind,
    /// One sentence.
    pub help: &'static str,
    /// Names of the labels, in the order of the values.
    pub labels: &'static [&'static str],
}

/// From one round trip on loopback to a slow phone.
const HELLO_BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];
/// From a server in the same rack to the limit of ten seconds.
const CONNECT_BUCKETS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 4.0, 10.0,
];
/// From one request to a day.
const CONNECTION_BUCKETS: &[f64] = &[
    0.01, 0.1, 1.0, 10.0, 60.0, 180.0, 600.0, 1800.0, 3600.0, 14400.0, 86400.0,
];

macro_rules! definitions {
    ($($id:ident = $name:literal, $kind:expr, [$($label:literal),*], $help:literal;)+) => {
        $(#[doc = $help]
        pub static $id: Definition = Definition { name: $name, kind: $kind, help: $help, labels: &[$($label),*] };)+

        /// All of them, sorted by name.
        pub static ALL: &[&Definition] = &[$(&$id),+];
    };
}

definitions! {
    ACCEPT_ERRORS = "lyncpin_accept_errors_total", SeriesKind::Counter, ["listener", "reason"],
        "Failures to accept a connection because this machine lacked a resource.";
    AFFINITY_ENTRIES = "lyncpin_affinity_entries", SeriesKind::Gauge, ["group"], "Number of pins, including expired ones not yet swept.";
    AFFINITY_EVICTIONS = "lyncpin_affinity_evictions_total", SeriesKind::Counter, ["group"],
        "Pins evicted because the table was full.";
    AFFINITY_LOOKUPS = "lyncpin_affinity_lookups_total", SeriesKind::Counter, ["group", "result"],
        "Affinity table lookups: hit, miss, or stale if the pinned backend could not serve the client.";
    AFFINITY_PINS_BROKEN = "lyncpin_affinity_pins_broken_total", SeriesKind::Counter, ["group", "reason"],
        "Pins that moved to another backend.";
    AFFINITY_SESSIONS = "lyncpin_affinity_sessions", SeriesKind::Gauge, ["group"],
        "Number of known TLS sessions, each with the backend that issued it.";
    AFFINITY_SESSIONS_LEARNED = "lyncpin_affinity_sessions_learned_total", SeriesKind::Counter, ["group"],
        "TLS session IDs and tickets that backends issued and the balancer stored.";
    AFFINITY_SESSIONS_RECOGNISED = "lyncpin_affinity_sessions_recognised_total", SeriesKind::Counter, ["group"],
        "Connections sent to the backend that had issued the TLS session they resumed.";
    AFFINITY_SESSIONS_UNLEARNED = "lyncpin_affinity_sessions_unlearned_total", SeriesKind::Counter, ["group"],
        "TLS session IDs and tickets not stored, because the client had reached its share or the table was full.";
    AFFINITY_STORE_BYTES = "lyncpin_affinity_store_bytes", SeriesKind::Gauge, [], "Size of the affinity store's file.";
    AFFINITY_STORE_FAILURES = "lyncpin_affinity_store_failures_total", SeriesKind::Counter, [],
        "Failures to write the affinity store's file.";
    AFFINITY_STORE_LAST_WRITE = "lyncpin_affinity_store_last_write_timestamp_seconds", SeriesKind::Gauge, [],
        "Time of the last write to the affinity store's file.";
    AFFINITY_UNPINNED = "lyncpin_affinity_unpinned_total", SeriesKind::Counter, ["group"],
        "Connections without a pin, because the table was full and every pin in use.";
    BACKEND_DAMPED = "lyncpin_backend_damped", SeriesKind::Gauge, ["pool", "backend"],
        "1 while the backend passes its checks but is held out of rotation (flap damping), else 0.";
    BACKEND_DRAIN_DEADLINE = "lyncpin_backend_drain_deadline_timestamp_seconds", SeriesKind::Gauge, ["pool", "backend"],
        "End of the backend's drain, in the future or the past; 0 if it does not drain.";
    BACKEND_FALLS = "lyncpin_backend_falls_total", SeriesKind::Counter, ["pool", "backend"],
        "Number of times the backend went from up to down.";
    BACKEND_STATE = "lyncpin_backend_state", SeriesKind::Gauge, ["pool", "backend", "state"],
        "1 for the backend's administrative state, 0 for the others.";
    BACKEND_UP = "lyncpin_backend_up", SeriesKind::Gauge, ["pool", "backend"], "1 while the deciding checks pass, else 0.";
    BUILD_INFO = "lyncpin_build_info", SeriesKind::Gauge, ["version"], "Always 1; the version is the label.";
    BYTES = "lyncpin_bytes_total", SeriesKind::Counter, ["pool", "backend", "direction", "path"],
        "Bytes transferred, including the hello.";
    CERTIFICATE_EXPIRY = "lyncpin_certificate_expiry_timestamp_seconds", SeriesKind::Gauge, ["pool", "backend"],
        "End of validity of the certificate in the last tls or https check.";
    CLIENT_HELLO_SECONDS = "lyncpin_client_hello_seconds", SeriesKind::Histogram(HELLO_BUCKETS), ["listener"],
        "Time from accept to the end of the ClientHello or of the request's head.";
    CONFIG_LAST_RELOAD = "lyncpin_config_last_reload_timestamp_seconds", SeriesKind::Gauge, [],
        "Time of the last successful reload.";
    CONFIG_RELOADS = "lyncpin_config_reloads_total", SeriesKind::Counter, ["result"], "Reloads, by result.";
    CONNECT_FAILURES = "lyncpin_connect_failures_total", SeriesKind::Counter, ["pool", "backend", "reason"],
        "Failed attempts to connect to the backend.";
    CONNECT_SECONDS = "lyncpin_connect_seconds", SeriesKind::Histogram(CONNECT_BUCKETS), ["pool", "backend"],
        "Time to establish a connection to the backend.";
    CONNECTION_SECONDS = "lyncpin_connection_seconds", SeriesKind::Histogram(CONNECTION_BUCKETS), ["pool", "backend"],
        "Duration of connections that reached the backend.";
    CONNECTIONS_ACTIVE = "lyncpin_connections_active", SeriesKind::Gauge, ["listener", "pool", "backend"],
        "Open connections; pool and backend are empty until a backend is picked.";
    CONNECTIONS_LIMIT = "lyncpin_connections_limit", SeriesKind::Gauge, [],
        "Limit of open connections: `limits.connections`, or as many as the descriptors allow.";
    CONNECTIONS = "lyncpin_connections_total", SeriesKind::Counter, ["listener", "pool", "backend", "outcome"],
        "Ended connections, including rejected ones; pool and backend are empty if none was picked.";
    HEALTH_CHECK_SECONDS = "lyncpin_health_check_seconds", SeriesKind::Histogram(CONNECT_BUCKETS), ["pool", "backend", "check", "result"],
        "Duration of health checks.";
    HEALTH_CHECKS = "lyncpin_health_checks_total", SeriesKind::Counter, ["pool", "backend", "check", "result"],
        "Health checks, by result: pass or fail.";
    LISTENER_OPEN = "lyncpin_listener_open", SeriesKind::Gauge, ["listener"], "1 while the listener accepts connections, else 0.";
    LOG_LINES_LOST = "lyncpin_log_lines_lost_total", SeriesKind::Counter, [], "Log lines lost because the reader stalled.";
    PREDECESSOR_CONNECTIONS = "lyncpin_predecessor_connections", SeriesKind::Gauge, [],
        "Connections of draining predecessors, as last reported; no other series counts them.";
    PREDECESSORS = "lyncpin_predecessors", SeriesKind::Gauge, [], "Number of draining predecessors, which have connections from before an upgrade.";
    REDISPATCHES = "lyncpin_redispatches_total", SeriesKind::Counter, ["pool", "backend", "reason"],
        "Connections redispatched from this backend to another one of the pool.";
    UPGRADES = "lyncpin_upgrades_total", SeriesKind::Counter, ["result"],
        "Upgrades, by result: done is counted by the new process, failed by the one that continues.";
}
