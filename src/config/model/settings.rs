//! Settings of the whole process: timeouts, limits, the store, the admin listener, the log.
//!
//! Owns their validated form. Must not know of listeners and pools. Invariant: every value is within the range of the
//! kernel calls that use it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::types::host_name::HostName;

/// Time limits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timeouts {
    /// From accept to the end of the ClientHello or of the HTTP request's head.
    pub client_hello: Duration,
    /// One attempt to connect to a backend.
    pub connect: Duration,
    /// Without a byte in either direction.
    pub idle: Duration,
    /// Without a byte after one side has closed.
    pub half_close: Duration,
    /// Default deadline of `drain`.
    pub drain: Duration,
    /// Time for connections to end after SIGTERM.
    pub shutdown: Duration,
    /// Idle time before keepalive probes, both sides; whole seconds.
    pub tcp_keepalive: Duration,
    /// How long sent bytes may stay unacknowledged, both sides.
    pub tcp_user: Duration,
}

/// Connection limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitSettings {
    /// Concurrent connections; `None` is `auto`: as many as the file descriptors allow.
    pub connections: Option<u32>,
    /// Concurrent connections of one source prefix (IPv4 address, IPv6 /64); `None` (0 in the file) is unlimited.
    pub per_source: Option<u32>,
    /// New connections per second of one source prefix; `None` (0 in the file) is unlimited.
    pub new_per_source_per_second: Option<u32>,
}

/// Where pins and administrative states are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AffinityStore {
    /// In the process only: they end with it.
    Memory,
    /// Also in a file, which the next process reads.
    File(PathBuf),
}

/// The admin listener.
#[derive(Debug, Clone, PartialEq)]
pub struct AdminSettings {
    /// Its address.
    pub bind: AdminBind,
    /// A separate listener for `/metrics`, `/healthz` and `/readyz`.
    pub metrics_bind: Option<AdminBind>,
    /// The file that holds the token; surrounding white space is not part of it.
    pub token_file: Option<PathBuf>,
    /// Accepted host names, in addition to addresses, `localhost` and, for network listeners, the machine's own names.
    pub hosts: Vec<HostName>,
}

/// An address or the path of a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminBind {
    /// `127.0.0.1:9900`
    Tcp(SocketAddr),
    /// `unix:PATH`
    Unix(PathBuf),
}

impl std::fmt::Display for AdminBind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The address at which a client reaches the admin listener of a running balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminAddress {
    /// An address or a socket that could also be bound.
    Bound(AdminBind),
    /// A name that is looked up each time, or an IPv6 address with its zone.
    Named {
        /// The name.
        host: String,
        /// The port.
        port: u16,
    },
}

impl std::fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bound(bind) => bind.fmt(f),
            Self::Named { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Named { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// The log on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    /// Text for people or JSON for programs.
    pub format: LogFormat,
    /// Whether each connection is logged.
    pub access: bool,
    /// How much of a client's address is logged.
    pub client_address: ClientAddress,
}

/// The format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `key=value` pairs.
    Text,
    /// One JSON object per line.
    Json,
}

/// How much of a client's address is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAddress {
    /// The whole address, with the port.
    Full,
    /// The affinity prefix only.
    Prefix,
}
