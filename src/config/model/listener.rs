//! Listeners: their addresses, and how a connection is routed.
//!
//! Owns the validated form of `listeners.NAME`. Must not know the settings of a pool. Invariant: a tcp listener has a
//! pool and no routes; the others have routes or a default target.

use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::pool::PoolId;
use crate::types::host_name::HostName;

/// One listener: the addresses that it binds, and the routing of their connections.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenerConfig {
    /// The key under `listeners`.
    pub name: Arc<str>,
    /// At least one address; an IPv6 address is bound IPv6-only.
    pub bind: Vec<SocketAddr>,
    /// How the requested name is read.
    pub protocol: Protocol,
    /// Empty for [`Protocol::Tcp`].
    pub routes: Vec<RouteConfig>,
    /// The target of clients that send no name.
    pub no_name: Target,
    /// The target of clients whose name matches no route.
    pub unknown_name: Target,
    /// The pool of a [`Protocol::Tcp`] listener, `None` for the others.
    pub pool: Option<PoolId>,
    /// How a [`Protocol::Tls`] listener rejects a client.
    pub refusal: RejectionMode,
    /// What the port does while no pool of the listener can serve.
    pub when_pool_down: WhenPoolDown,
    /// Allowed sources; empty allows all.
    pub allow: Vec<IpNet>,
    /// Denied sources; takes precedence over `allow`.
    pub deny: Vec<IpNet>,
}

impl ListenerConfig {
    /// Every pool that a route or default of this listener names, each once, without their backups.
    #[must_use]
    pub fn pools(&self) -> Vec<PoolId> {
        let defaults = [self.no_name, self.unknown_name];
        let mut pools: Vec<PoolId> = self.routes.iter().map(|route| route.pool).collect();
        pools.extend(defaults.iter().filter_map(|target| target.pool()));
        pools.extend(self.pool);
        pools.sort_unstable();
        pools.dedup();
        pools
    }
}

/// How a listener reads the name that a client requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// From the server name of the TLS ClientHello (RFC 6066, section 3).
    Tls,
    /// From the Host of the HTTP request (RFC 9110, section 7.2).
    Http,
    /// Not at all: all connections use one pool.
    Tcp,
}

impl Protocol {
    /// The name in the file, the log and the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Tcp => "tcp",
        }
    }
}

/// A pool, or a rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The client is forwarded to this pool.
    Pool(PoolId),
    /// The client is rejected.
    Refuse,
}

impl Target {
    /// The pool, if there is one.
    #[must_use]
    pub fn pool(self) -> Option<PoolId> {
        match self {
            Self::Pool(id) => Some(id),
            Self::Refuse => None,
        }
    }
}

/// Names that are routed to one pool.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteConfig {
    /// At least one.
    pub names: Vec<NamePattern>,
    /// The pool that serves them.
    pub pool: PoolId,
}

/// A name of a route.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NamePattern {
    /// This name only.
    Exact(HostName),
    /// `*.suffix`: any name of one or more labels before the suffix that is stored here.
    Suffix(HostName),
}

impl std::fmt::Display for NamePattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::Suffix(name) => write!(f, "*.{name}"),
        }
    }
}

/// How a TLS listener rejects a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectionMode {
    /// With a TLS alert and an orderly close.
    Alert,
    /// With a TCP reset.
    Reset,
    /// With an orderly close and no alert.
    Close,
}

/// What a listener does while no pool behind it can serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenPoolDown {
    /// The port is closed and refuses connections.
    Close,
    /// Connections are accepted, and rejected as the protocol allows.
    Refuse,
}
