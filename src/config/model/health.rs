//! How backends are watched: the part of a pool that its checks are made of.

use std::sync::Arc;
use std::time::Duration;

use super::BackendConfig;
use crate::types::host_name::HostName;

/// How backends are watched.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthSettings {
    /// From one check's start to the next.
    pub interval: Duration,
    /// Bound of one check; not longer than `interval`.
    pub timeout: Duration,
    /// Passing results in a row that bring a backend up, at least 1.
    pub rise: u32,
    /// Failing results in a row that take it down, at least 1.
    pub fall: u32,
    /// The longest that a backend is kept out that falls again and again; `None` is `damping: none`.
    pub damping: Option<Duration>,
    /// At least one.
    pub checks: Vec<CheckConfig>,
}

/// One check of a backend.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckConfig {
    /// Unique in the pool, for metrics, status and log: `tcp`, `tcp:5061`, `https`, `https#2`.
    pub label: Arc<str>,
    /// What is asked.
    pub kind: CheckKind,
    /// The port in the check, before a backend's `check_ports`; `None` is the traffic's own.
    pub port: Option<u16>,
    /// Whether it takes the backend up and down, or is only observed.
    pub decides: bool,
}

impl CheckConfig {
    /// The port at which `backend` is asked.
    #[must_use]
    pub fn port_of(&self, backend: &BackendConfig) -> u16 {
        let Some(port) = self.port else {
            return backend.address.port;
        };
        backend.check_ports.get(&port).copied().unwrap_or(port)
    }
}

/// What a check asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CheckKind {
    /// A TCP connection is taken.
    Tcp,
    /// A TLS handshake gets as far as the server's certificate, from TLS 1.0 on.
    Tls {
        /// The server name sent; `None` sends none.
        name: Option<HostName>,
        /// Warns when the certificate has fewer days left.
        warn_days_left: u32,
    },
    /// An HTTP request gets one of the statuses.
    Http(HttpCheck),
    /// The same over TLS, whose certificate is not judged.
    Https(HttpCheck),
}

impl CheckKind {
    /// The word in the file, the log and the API.
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

/// A request and what it must be answered with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HttpCheck {
    /// Starts with `/`.
    pub path: String,
    /// The Host header and, over TLS, the server name; `None` is the backend's host.
    pub host: Option<HostName>,
    /// Statuses that pass, 100 to 599.
    pub status: Vec<u16>,
}
