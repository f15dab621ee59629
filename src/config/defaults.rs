//! What holds where the file says nothing.
//!
//! Owns every default that is more than a word. Must not know how a file is read. Invariant: a value that stands here
//! is one that could be written.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::model::{
    AdminBind, AffinitySettings, CheckConfig, CheckKind, ClientAddress, HealthSettings, LogFormat,
    LogSettings, SourcePrefix, Timeouts,
};

/// Days before its end from which a certificate warns.
pub(crate) const WARN_DAYS_LEFT: u32 = 14;

/// What holds without `timeouts`.
pub(crate) const TIMEOUTS: Timeouts = Timeouts {
    client_hello: Duration::from_secs(5),
    connect: Duration::from_secs(4),
    idle: Duration::from_secs(1900),
    half_close: Duration::from_secs(60),
    drain: Duration::from_secs(15 * 60),
    shutdown: Duration::from_secs(10),
    tcp_keepalive: Duration::from_secs(60),
    tcp_user: Duration::from_secs(60),
};

/// What holds without `log`.
pub(crate) const LOG: LogSettings = LogSettings {
    format: LogFormat::Text,
    access: true,
    client_address: ClientAddress::Full,
};

/// Where the admin listener listens without `admin`.
pub(crate) fn admin_bind() -> AdminBind {
    AdminBind::Tcp(SocketAddr::from(([127, 0, 0, 1], 9900)))
}

/// How much of a source address counts where nothing says otherwise: all of it. The devices of one Wi-Fi share an IPv6
/// /64, so a shorter prefix would send all of them to one server.
pub(crate) const SOURCE_PREFIX: SourcePrefix = SourcePrefix {
    ipv4: 32,
    ipv6: 128,
};

/// What a pool has that says nothing.
pub(crate) fn default_affinity(pool: &Arc<str>) -> AffinitySettings {
    AffinitySettings {
        by_source: true,
        by_name: true,
        by_session: false,
        source_prefix: SOURCE_PREFIX,
        ttl: Duration::from_secs(20 * 60),
        group: Arc::clone(pool),
        max_entries: 1_000_000,
    }
}

/// What a pool has that says nothing: its traffic's port takes connections.
pub(crate) fn default_health() -> HealthSettings {
    HealthSettings {
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
        rise: 2,
        fall: 3,
        damping: Some(Duration::from_secs(5 * 60)),
        checks: labelled(vec![(CheckKind::Tcp, None, true)]),
    }
}

/// Gives checks the labels that they have in metrics, status and log.
pub(crate) fn labelled(checks: Vec<(CheckKind, Option<u16>, bool)>) -> Vec<CheckConfig> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let label = |kind: &CheckKind, port: Option<u16>| {
        let word = kind.as_str();
        port.map_or_else(|| word.to_owned(), |port| format!("{word}:{port}"))
    };
    let mut with_label = |(kind, port, decides)| {
        let label = label(&kind, port);
        let count = seen.entry(label.clone()).or_default();
        *count += 1;
        let label = if *count == 1 {
            label
        } else {
            format!("{label}#{count}")
        };
        CheckConfig {
            label: label.into(),
            kind,
            port,
            decides,
        }
    };
    checks.into_iter().map(&mut with_label).collect()
}
