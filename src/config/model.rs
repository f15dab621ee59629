//! The validated configuration: the only form that the rest of the program sees.
//!
//! Owns the meaning, units, bounds and defaults of every key. Must not know how the file was written. Invariant: a
//! value of these types is whole and consistent; a [`PoolId`] always points into [`Config::pools`].

mod health;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::types::host_name::HostName;
pub use health::{CheckConfig, CheckKind, HealthSettings, HttpCheck};

/// A whole configuration, in the order in which the file names things.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where clients come.
    pub listeners: Vec<ListenerConfig>,
    /// Where they are sent.
    pub pools: Vec<PoolConfig>,
    /// Bounds in time.
    pub timeouts: Timeouts,
    /// Bounds in number.
    pub limits: LimitSettings,
    /// Worker threads; `None` is `auto`: one per core.
    pub workers: Option<NonZeroUsize>,
    /// Where pins and administrative states are kept.
    pub affinity_store: AffinityStore,
    /// The admin listener.
    pub admin: AdminSettings,
    /// The log.
    pub log: LogSettings,
}

impl Config {
    /// The pool that `id` stands for.
    #[must_use]
    pub fn pool(&self, id: PoolId) -> &PoolConfig {
        &self.pools[id.0]
    }
}

/// A pool's place in [`Config::pools`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolId(pub usize);

/// One listener: the addresses that it binds and what becomes of those who come.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenerConfig {
    /// The key under `listeners`.
    pub name: Arc<str>,
    /// At least one address; an IPv6 address is bound IPv6-only.
    pub bind: Vec<SocketAddr>,
    /// How the name is found.
    pub protocol: Protocol,
    /// Empty for [`Protocol::Tcp`].
    pub routes: Vec<RouteConfig>,
    /// Where a client goes that names nothing.
    pub no_name: Target,
    /// Where a client goes whose name is in no route.
    pub unknown_name: Target,
    /// The one pool of a [`Protocol::Tcp`] listener, `None` for the others.
    pub pool: Option<PoolId>,
    /// How a refusal is said on a [`Protocol::Tls`] listener.
    pub refusal: RejectionMode,
    /// What the port does while no pool behind it can serve.
    pub when_pool_down: WhenPoolDown,
    /// Sources that may come; empty means all.
    pub allow: Vec<IpNet>,
    /// Sources that may not; wins over `allow`.
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

/// How a listener finds the name that a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// By the server name of the TLS ClientHello (RFC 6066, section 3).
    Tls,
    /// By the Host of the HTTP request (RFC 9110, section 7.2).
    Http,
    /// Not at all: one pool.
    Tcp,
}

impl Protocol {
    /// The word in the file, the log and the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Tcp => "tcp",
        }
    }
}

/// A pool, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The client is sent there.
    Pool(PoolId),
    /// The client is refused.
    Refuse,
}

impl Target {
    /// The pool, where there is one.
    #[must_use]
    pub fn pool(self) -> Option<PoolId> {
        match self {
            Self::Pool(id) => Some(id),
            Self::Refuse => None,
        }
    }
}

/// Names that lead to one pool.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteConfig {
    /// At least one.
    pub names: Vec<NamePattern>,
    /// Where they lead.
    pub pool: PoolId,
}

/// A name of a route.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NamePattern {
    /// This name alone.
    Exact(HostName),
    /// `*.suffix`: any name of one or more labels before the suffix that is held here.
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

/// How a TLS listener says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectionMode {
    /// With a TLS alert and an orderly close.
    Alert,
    /// With a TCP reset.
    Reset,
    /// With an orderly close and no word.
    Close,
}

/// What a listener does while no pool behind it can serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenPoolDown {
    /// The port refuses connections, as if nothing listened.
    Close,
    /// Connections are accepted and refused with the protocol's own answer.
    Refuse,
}

/// Backends that serve the same thing.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolConfig {
    /// The key under `pools`.
    pub name: Arc<str>,
    /// At least one; their names are unique in the pool.
    pub backends: Vec<BackendConfig>,
    /// Serves while nothing here is available; backups form no cycle.
    pub backup: Option<PoolId>,
    /// Who gets a client that has no pin.
    pub balance: Balance,
    /// `None` is `affinity: none`. Pools of one group have equal settings.
    pub affinity: Option<AffinitySettings>,
    /// `None` is `health: none`: a backend is up as soon as its name is resolved.
    pub health: Option<HealthSettings>,
    /// What becomes of a backend's connections when its checks fail.
    pub on_down: OnDown,
    /// How long the weight of a backend that has come back grows to its full one; zero is not at all.
    pub slow_start: Duration,
    /// Connections at once to each backend; `None` (0 in the file) is no bound.
    pub max_connections: Option<u32>,
}

/// One server of a pool.
#[derive(Debug, Clone, PartialEq)]
pub struct BackendConfig {
    /// Unique in the pool; the host where the file gives no other name.
    pub name: Arc<str>,
    /// Where it listens for the traffic.
    pub address: ServerAddress,
    /// Its share under the balance policy, 1 to 256; 0 takes no new client but keeps its pins.
    pub weight: u32,
    /// The port that a check names -> the port where this server has it; empty where servers are alike.
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

impl std::fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.host {
            ServerHost::Address(ip) => write!(f, "{}", SocketAddr::new(*ip, self.port)),
            ServerHost::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// Who gets a client that has no pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// The backend with the fewest connections for its weight.
    LeastConnections,
    /// In turn, by weight, exact over all workers.
    RoundRobin,
    /// The one with fewer connections of two drawn at random.
    RandomTwo,
    /// By rendezvous hashing of the source prefix.
    SourceHash,
}

impl Balance {
    /// The word in the file, the log and the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LeastConnections => "least_connections",
            Self::RoundRobin => "round_robin",
            Self::RandomTwo => "random_two",
            Self::SourceHash => "source_hash",
        }
    }
}

/// How clients are kept on one backend.
#[derive(Debug, Clone, PartialEq)]
pub struct AffinitySettings {
    /// The source prefix is part of the key.
    pub by_source: bool,
    /// The configured name that matched is part of the key.
    pub by_name: bool,
    /// TLS sessions are keys of their own. One of the three is true.
    pub by_session: bool,
    /// How much of a source address counts.
    pub source_prefix: SourcePrefix,
    /// How long a pin outlives its last connection.
    pub ttl: Duration,
    /// Pools of one group share pins by backend name.
    pub group: Arc<str>,
    /// Bound of the group's table, at least 1.
    pub max_entries: usize,
}

/// How many leading bits of a source address count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourcePrefix {
    /// 0 to 32.
    pub ipv4: u8,
    /// 0 to 128.
    pub ipv6: u8,
}

/// What becomes of a backend's connections when its checks fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDown {
    /// They are reset, unless no other backend of the pool is available.
    Close,
    /// They live on.
    Keep,
}

/// Bounds in time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timeouts {
    /// From accept to the end of the ClientHello or of the HTTP request's head.
    pub client_hello: Duration,
    /// One try to connect to a backend.
    pub connect: Duration,
    /// Without a byte in either direction.
    pub idle: Duration,
    /// Without a byte after one side has closed.
    pub half_close: Duration,
    /// Default deadline of `drain`.
    pub drain: Duration,
    /// What connections get to end after SIGTERM.
    pub shutdown: Duration,
    /// Silence before keepalive probes, both sides.
    pub tcp_keepalive: Duration,
    /// How long a peer may answer nothing while bytes wait for it, both sides.
    pub tcp_user: Duration,
}

/// Bounds in number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitSettings {
    /// Connections at once; `None` is `auto`: what the descriptors allow.
    pub connections: Option<u32>,
    /// Connections at once from one source prefix (IPv4 address, IPv6 /64); `None` (0 in the file) is no bound.
    pub per_source: Option<u32>,
    /// New connections a second from one source prefix; `None` (0 in the file) is no bound.
    pub new_per_source_per_second: Option<u32>,
}

/// Where pins and administrative states are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AffinityStore {
    /// In the process alone: they end with it.
    Memory,
    /// In a file, too, which the next process reads.
    File(PathBuf),
}

/// The admin listener.
#[derive(Debug, Clone, PartialEq)]
pub struct AdminSettings {
    /// Where it listens.
    pub bind: AdminBind,
    /// A listener of their own for `/metrics`, `/healthz` and `/readyz`.
    pub metrics_bind: Option<AdminBind>,
    /// The file that holds the token, its surrounding white space not part of it.
    pub token_file: Option<PathBuf>,
    /// Names under which it may be asked, beside addresses, `localhost` and, from the network, this machine's own.
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

/// The log on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    /// Lines for people or for programs.
    pub format: LogFormat,
    /// Whether each connection gets a line.
    pub access: bool,
    /// How much of a client's address is written.
    pub client_address: ClientAddress,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `key=value` words.
    Text,
    /// One JSON object a line.
    Json,
}

/// How much of a client's address is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAddress {
    /// All of it, with the port.
    Full,
    /// The affinity prefix alone.
    Prefix,
}

/// Where a running balancer's admin listener is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminAddress {
    /// An address or a socket, as it could be bound.
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
