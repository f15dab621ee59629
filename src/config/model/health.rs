//! Health checks: how the state of a backend is determined.
//!
//! Owns the validated form of `pools.NAME.health`. Must not know how a check is run. Invariant: there is at least one
//! check, and a check times out before the next one starts.

use std::sync::Arc;
use std::time::Duration;

use super::backend::BackendConfig;
use crate::types::host_name::HostName;

/// How backends are checked.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthSettings {
    /// From the start of one check to the start of the next.
    pub interval: Duration,
    /// Time limit of one check; not longer than `interval`.
    pub timeout: Duration,
    /// Consecutive passed checks that bring a backend up, at least 1.
    pub rise: u32,
    /// Consecutive failed checks that take it down, at least 1.
    pub fall: u32,
    /// The longest time that a flapping backend is held out of rotation; `None` is `damping: none`.
    pub damping: Option<Duration>,
    /// At least one.
    pub checks: Vec<CheckConfig>,
}

/// One check of a backend.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckConfig {
    /// Unique in the pool, for metrics, status and log: `tcp`, `tcp:5061`, `https`, `https#2`.
    pub label: Arc<str>,
    /// The kind of check and its settings.
    pub kind: CheckKind,
    /// The port in the check, before a backend's `check_ports`; `None` is the traffic's own.
    pub port: Option<u16>,
    /// Whether it takes the backend up and down, or is only observed.
    pub decides: bool,
}

impl CheckConfig {
    /// The port of `backend` that this check connects to.
    #[must_use]
    pub fn port_of(&self, backend: &BackendConfig) -> u16 {
        let Some(port) = self.port else {
            return backend.address.port;
        };
        backend.check_ports.get(&port).copied().unwrap_or(port)
    }
}

/// The kind of a check.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CheckKind {
    /// A TCP connection is accepted.
    Tcp,
    /// A TLS handshake gets as far as the server's certificate, from TLS 1.0 on.
    Tls {
        /// The server name sent; `None` sends none.
        name: Option<HostName>,
        /// Warns when the certificate has fewer days left.
        warn_days_left: u32,
    },
    /// The response to an HTTP request has one of the expected statuses.
    Http(HttpCheck),
    /// The same over TLS; the certificate is not verified.
    Https(HttpCheck),
}

impl CheckKind {
    /// The name in the file, the log and the API.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls { .. } => "tls",
            Self::Http(_) => "http",
            Self::Https(_) => "https",
        }
    }
}

/// A request and the statuses that pass.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HttpCheck {
    /// Starts with `/`.
    pub path: String,
    /// The Host header and, over TLS, the server name; `None` is the backend's host.
    pub host: Option<HostName>,
    /// Statuses that pass, 100 to 599.
    pub status: Vec<u16>,
}
