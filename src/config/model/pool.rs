//! Pools: how a backend is selected and kept.
//!
//! Owns the validated form of `pools.NAME`. Must not know of listeners. Invariant: backups form no cycle, and pools of
//! one affinity group have equal affinity settings.

use std::sync::Arc;
use std::time::Duration;

use super::backend::BackendConfig;
use super::health::HealthSettings;
use crate::protocol::proxy::HeaderFormat;

/// The index of a pool in [`Config::pools`](super::Config::pools).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolId(pub usize);

/// Backends that serve the same content.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolConfig {
    /// The key under `pools`.
    pub name: Arc<str>,
    /// At least one; their names are unique in the pool.
    pub backends: Vec<BackendConfig>,
    /// Serves while nothing in this pool is available; backups form no cycle.
    pub backup: Option<PoolId>,
    /// Which backend a client without a pin gets.
    pub balance: Balance,
    /// `None` is `affinity: none`. Pools of one group have equal settings.
    pub affinity: Option<AffinitySettings>,
    /// `None` is `health: none`: a backend is up as soon as its name is resolved.
    pub health: Option<HealthSettings>,
    /// What happens to a backend's connections when its checks fail.
    pub on_down: OnDown,
    /// Time over which a returning backend's weight grows to its full value; zero disables the slow start.
    pub slow_start: Duration,
    /// Limit of concurrent connections to each backend; `None` (0 in the file) is unlimited.
    pub max_connections: Option<u32>,
    /// The PROXY header that begins each connection to a backend; `None` (`none` in the file) sends none.
    pub send_proxy_protocol: Option<HeaderFormat>,
}

/// How a backend is selected for a client without a pin.
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
    /// The name in the file, the log and the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LeastConnections => "least_connections",
            Self::RoundRobin => "round_robin",
            Self::RandomTwo => "random_two",
            Self::SourceHash => "source_hash",
        }
    }
}

/// How clients are pinned to a backend.
#[derive(Debug, Clone, PartialEq)]
pub struct AffinitySettings {
    /// The source prefix is part of the key.
    pub by_source: bool,
    /// The configured name that matched is part of the key.
    pub by_name: bool,
    /// TLS sessions are additional keys. At least one of the three is true.
    pub by_session: bool,
    /// How much of a source address is part of the key.
    pub source_prefix: SourcePrefix,
    /// How long a pin outlives its last connection.
    pub ttl: Duration,
    /// Pools of one group share pins by backend name.
    pub group: Arc<str>,
    /// Maximum size of the group's table, at least 1.
    pub max_entries: usize,
}

/// How many leading bits of a source address are part of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourcePrefix {
    /// 0 to 32.
    pub ipv4: u8,
    /// 0 to 128.
    pub ipv6: u8,
}

impl SourcePrefix {
    /// The default: the whole address. The devices of one Wi-Fi share an IPv6 /64, so a shorter prefix would send all of
    /// them to one server.
    pub const WHOLE: Self = Self {
        ipv4: 32,
        ipv6: 128,
    };
}

/// What happens to a backend's connections when its checks fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDown {
    /// They are reset, unless no other backend of the pool is available.
    Close,
    /// They stay open.
    Keep,
}
