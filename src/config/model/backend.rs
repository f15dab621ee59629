//! Backends: the servers of a pool.
//!
//! Owns the validated form of `pools.NAME.backends`. Must not know the other settings of a pool. Invariant: every backend
//! has a host and a port.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::types::host_name::HostName;

/// One server of a pool.
#[derive(Debug, Clone, PartialEq)]
pub struct BackendConfig {
    /// Unique in the pool; the host unless the file names it otherwise.
    pub name: Arc<str>,
    /// The address that receives the traffic.
    pub address: ServerAddress,
    /// Its weight under the balance policy, 1 to 256; 0 accepts no new client but keeps its pins.
    pub weight: u32,
    /// The port that a check names -> the port of this server; empty where all servers use the same ports.
    pub check_ports: BTreeMap<u16, u16>,
}

/// A host and a port, as configured, not resolved.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServerAddress {
    /// An address or a name.
    pub host: ServerHost,
    /// 1 to 65535.
    pub port: u16,
}

/// An address, or a name to resolve.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ServerHost {
    /// Needs no resolving.
    Address(IpAddr),
    /// Resolved at start and again while the balancer runs.
    Name(HostName),
}

impl std::fmt::Display for ServerHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(ip) => write!(f, "{ip}"),
            Self::Name(name) => write!(f, "{name}"),
        }
    }
}

impl std::fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.host {
            ServerHost::Address(ip) => write!(f, "{}", SocketAddr::new(*ip, self.port)),
            ServerHost::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}
