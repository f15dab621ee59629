//! Every metric that the balancer shows: name, kind, help, labels.
//!
//! Owns the list that `docs/metrics.md` is checked against. Invariant: label values come from the configuration or
//! from a fixed vocabulary, never from what a client sent.

/// What kind of series a metric has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SeriesKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations in buckets; the bounds are in seconds.
    Histogram(&'static [f64]),
}

/// One metric.
#[derive(Debug, PartialEq)]
pub struct Definition {
    /// With the prefix and, where it has one, the unit.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: SeriesKind,
    /// One sentence.
    pub help: &'static str,
    /// Label names in the order in which values are given.
    pub labels: &'static [&'static str],
}

/// From the time of one loopback exchange to a slow phone.
const HELLO_BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];
/// From a neighbour in the rack to the bound of ten seconds.
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
        "Times that accepting failed for want of something on this machine.";
    AFFINITY_ENTRIES = "lyncpin_affinity_entries", SeriesKind::Gauge, ["group"], "Pins in the affinity table.";
    AFFINITY_EVICTIONS = "lyncpin_affinity_evictions_total", SeriesKind::Counter, ["group"],
        "Pins that gave way to newer ones because the table was full.";
    AFFINITY_LOOKUPS = "lyncpin_affinity_lookups_total", SeriesKind::Counter, ["group", "result"],
        "Looks into the affinity table: hit, miss, or stale where the pinned backend could not take the client.";
    AFFINITY_PINS_BROKEN = "lyncpin_affinity_pins_broken_total", SeriesKind::Counter, ["group", "reason"],
        "Pins that moved to another backend.";
    AFFINITY_SESSIONS = "lyncpin_affinity_sessions", SeriesKind::Gauge, ["group"],
        "TLS sessions that are known, each with the backend that granted it.";
    AFFINITY_SESSIONS_LEARNED = "lyncpin_affinity_sessions_learned_total", SeriesKind::Counter, ["group"],
        "TLS session ids and tickets that backends granted and that are remembered.";
    AFFINITY_SESSIONS_RECOGNISED = "lyncpin_affinity_sessions_recognised_total", SeriesKind::Counter, ["group"],
        "Connections that were sent to the backend that had granted the TLS session which they resumed.";
    AFFINITY_SESSIONS_UNLEARNED = "lyncpin_affinity_sessions_unlearned_total", SeriesKind::Counter, ["group"],
        "TLS session ids and tickets that are not remembered, because their client has its share or the table is full.";
    AFFINITY_STORE_BYTES = "lyncpin_affinity_store_bytes", SeriesKind::Gauge, [], "Length of the affinity store's file.";
    AFFINITY_STORE_FAILURES = "lyncpin_affinity_store_failures_total", SeriesKind::Counter, [],
        "Times that the affinity store's file could not be written.";
    AFFINITY_STORE_LAST_WRITE = "lyncpin_affinity_store_last_write_timestamp_seconds", SeriesKind::Gauge, [],
        "When the affinity store's file was last written.";
    AFFINITY_UNPINNED = "lyncpin_affinity_unpinned_total", SeriesKind::Counter, ["group"],
        "Connections that got no pin because every pin of a full table was in use.";
    BACKEND_DAMPED = "lyncpin_backend_damped", SeriesKind::Gauge, ["pool", "backend"],
        "1 while the backend passes its checks and is kept out because it has fallen again and again, else 0.";
    BACKEND_DRAIN_DEADLINE = "lyncpin_backend_drain_deadline_timestamp_seconds", SeriesKind::Gauge, ["pool", "backend"],
        "When the backend's drain ends or has ended; 0 while it does not drain.";
    BACKEND_FALLS = "lyncpin_backend_falls_total", SeriesKind::Counter, ["pool", "backend"],
        "Times that the backend went down after it had been up.";
    BACKEND_STATE = "lyncpin_backend_state", SeriesKind::Gauge, ["pool", "backend", "state"],
        "1 for the administrative state that the backend is in, 0 for the others.";
    BACKEND_UP = "lyncpin_backend_up", SeriesKind::Gauge, ["pool", "backend"], "1 while the deciding checks pass, else 0.";
    BUILD_INFO = "lyncpin_build_info", SeriesKind::Gauge, ["version"], "Always 1; the label tells the version.";
    BYTES = "lyncpin_bytes_total", SeriesKind::Counter, ["pool", "backend", "direction", "path"],
        "Bytes moved, the hello included.";
    CERTIFICATE_EXPIRY = "lyncpin_certificate_expiry_timestamp_seconds", SeriesKind::Gauge, ["pool", "backend"],
        "End of validity of the certificate that a tls or https check last saw.";
    CLIENT_HELLO_SECONDS = "lyncpin_client_hello_seconds", SeriesKind::Histogram(HELLO_BUCKETS), ["listener"],
        "From accept to the end of the ClientHello or of the request's head.";
    CONFIG_LAST_RELOAD = "lyncpin_config_last_reload_timestamp_seconds", SeriesKind::Gauge, [],
        "When a configuration was last taken into force.";
    CONFIG_RELOADS = "lyncpin_config_reloads_total", SeriesKind::Counter, ["result"], "Configurations that were asked to be taken.";
    CONNECT_FAILURES = "lyncpin_connect_failures_total", SeriesKind::Counter, ["pool", "backend", "reason"],
        "Tries to connect to a backend that failed.";
    CONNECT_SECONDS = "lyncpin_connect_seconds", SeriesKind::Histogram(CONNECT_BUCKETS), ["pool", "backend"],
        "Time that a connection to the backend took to stand.";
    CONNECTION_SECONDS = "lyncpin_connection_seconds", SeriesKind::Histogram(CONNECTION_BUCKETS), ["pool", "backend"],
        "Life of a connection that reached the backend.";
    CONNECTIONS_ACTIVE = "lyncpin_connections_active", SeriesKind::Gauge, ["listener", "pool", "backend"],
        "Living connections; pool and backend are empty before one is picked.";
    CONNECTIONS_LIMIT = "lyncpin_connections_limit", SeriesKind::Gauge, [],
        "Connections that may live at once: `limits.connections`, or what the descriptors allow.";
    CONNECTIONS = "lyncpin_connections_total", SeriesKind::Counter, ["listener", "pool", "backend", "outcome"],
        "Ended connections, refused ones too; pool and backend are empty where none was picked.";
    HEALTH_CHECK_SECONDS = "lyncpin_health_check_seconds", SeriesKind::Histogram(CONNECT_BUCKETS), ["pool", "backend", "check", "result"],
        "Time that a health check took.";
    HEALTH_CHECKS = "lyncpin_health_checks_total", SeriesKind::Counter, ["pool", "backend", "check", "result"],
        "Health checks made, by result: pass or fail.";
    LISTENER_OPEN = "lyncpin_listener_open", SeriesKind::Gauge, ["listener"], "1 while the listener takes connections, else 0.";
    LOG_LINES_LOST = "lyncpin_log_lines_lost_total", SeriesKind::Counter, [], "Log lines lost because the reader stalled.";
    PREDECESSOR_CONNECTIONS = "lyncpin_predecessor_connections", SeriesKind::Gauge, [],
        "Connections of older processes, which are in no other series, as they last said.";
    PREDECESSORS = "lyncpin_predecessors", SeriesKind::Gauge, [], "Older processes that have connections from before an upgrade.";
    REDISPATCHES = "lyncpin_redispatches_total", SeriesKind::Counter, ["pool", "backend", "reason"],
        "Connections that left this backend for another one of the pool.";
    UPGRADES = "lyncpin_upgrades_total", SeriesKind::Counter, ["result"],
        "Upgrades: done, counted by the new process; failed, counted by the one that goes on.";
}
