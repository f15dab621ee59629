//! Every key that a configuration may have.
//!
//! Owns the list that the walk through a file knows keys by, and that `docs/configuration.md` is checked against. Must
//! not know what a key means. Invariant: a key is known to the program exactly if it stands here.

/// The keys of one kind of mapping.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keys {
    /// Where such a mapping stands: `pools.NAME.health`, with `[]` for the entries of a list.
    pub path: &'static str,
    /// What may stand in it, in the order of the documentation.
    pub names: &'static [&'static str],
}

macro_rules! tables {
    ($($(#[$doc:meta])* $table:ident = $path:literal: $($name:literal)+;)+) => {
        $($(#[$doc])* pub(crate) const $table: Keys = Keys { path: $path, names: &[$($name),+] };)+

        /// All tables.
        const ALL: &[Keys] = &[$($table),+];
    };
}

tables! {
    /// The top of the file.
    ROOT = "": "lync" "listeners" "pools" "timeouts" "limits" "workers" "affinity_store" "admin" "log";
    /// The short form.
    LYNC = "lync": "sip_domains" "external_web_fqdn" "simple_urls" "front_ends" "listen"
        "backup_front_ends" "ports";
    /// A Front End that listens elsewhere.
    FRONT_END = "lync.front_ends[]": "name" "address" "https" "http" "sip";
    /// A Front End of the paired pool.
    BACKUP_FRONT_END = "lync.backup_front_ends[]": "name" "address" "https" "http" "sip";
    /// Where clients come in the short form.
    PORTS = "lync.ports": "https" "http" "https_direct" "http_direct";
    /// A listener.
    LISTENER = "listeners.NAME": "bind" "protocol" "routes" "no_name" "unknown_name" "pool" "refusal"
        "when_pool_down" "accept_proxy_protocol_from" "allow" "deny";
    /// A route.
    ROUTE = "listeners.NAME.routes[]": "names" "pool";
    /// A pool.
    POOL = "pools.NAME": "port" "backends" "backup" "balance" "affinity" "health" "on_down" "slow_start"
        "max_connections" "send_proxy_protocol" "source_address";
    /// A backend in the long form.
    BACKEND = "pools.NAME.backends[]": "name" "address" "weight" "check_ports";
    /// Affinity.
    AFFINITY = "pools.NAME.affinity": "by" "source_prefix" "ttl" "group" "max_entries";
    /// How much of an address counts.
    SOURCE_PREFIX = "pools.NAME.affinity.source_prefix": "ipv4" "ipv6";
    /// Health.
    HEALTH = "pools.NAME.health": "interval" "timeout" "rise" "fall" "damping" "checks";
    /// A check.
    CHECK = "pools.NAME.health.checks[]": "tcp" "tls" "http" "https" "decides";
    /// A check that connects.
    TCP_CHECK = "pools.NAME.health.checks[].tcp": "port";
    /// A check that looks at the certificate.
    TLS_CHECK = "pools.NAME.health.checks[].tls": "port" "name" "warn_days_left";
    /// A check that asks for a page.
    HTTP_CHECK = "pools.NAME.health.checks[].http": "port" "path" "host" "status";
    /// A check that asks for a page over TLS.
    HTTPS_CHECK = "pools.NAME.health.checks[].https": "port" "path" "host" "status";
    /// Bounds in time.
    TIMEOUTS = "timeouts": "client_hello" "connect" "idle" "half_close" "drain" "shutdown"
        "tcp_keepalive" "tcp_user";
    /// Bounds in number.
    LIMITS = "limits": "connections" "per_source" "new_per_source_per_second";
    /// Where pins are kept.
    AFFINITY_STORE = "affinity_store": "file" "redis" "password_file";
    /// The admin listener.
    ADMIN = "admin": "bind" "metrics_bind" "token_file" "hosts";
    /// The log.
    LOG = "log": "format" "access" "client_address";
}

/// The path of every key: `pools.NAME.backends[].weight` and so on, `NAME` for a name of the user's choice and `[]`
/// for the entries of a list.
#[must_use]
pub fn keys() -> Vec<String> {
    let mut paths = Vec::new();
    for table in ALL {
        for name in table.names {
            let dot = if table.path.is_empty() { "" } else { "." };
            paths.push(format!("{}{dot}{name}", table.path));
        }
    }
    paths
}
