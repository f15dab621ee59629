//! The validated configuration: the only form that the rest of the program sees.
//!
//! Owns the meaning, unit and range of every key. Must not know how the file was written. Invariant: a value of these
//! types is complete and consistent; a [`PoolId`] always points into [`Config::pools`].

mod backend;
mod health;
mod listener;
mod pool;
mod settings;

use std::num::NonZeroUsize;

pub use backend::{BackendConfig, ServerAddress, ServerHost};
pub use health::{CheckConfig, CheckKind, HealthSettings, HttpCheck};
pub use listener::{
    ListenerConfig, NamePattern, Protocol, RejectionMode, RouteConfig, Target, WhenPoolDown,
};
pub use pool::{AffinitySettings, Balance, OnDown, PoolConfig, PoolId, SourcePrefix};
pub use settings::{
    AdminAddress, AdminBind, AdminSettings, AffinityStore, ClientAddress, LimitSettings, LogFormat,
    LogSettings, Timeouts,
};

/// A whole configuration, in the order of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Addresses on which clients connect.
    pub listeners: Vec<ListenerConfig>,
    /// Servers to which connections are forwarded.
    pub pools: Vec<PoolConfig>,
    /// Time limits.
    pub timeouts: Timeouts,
    /// Connection limits.
    pub limits: LimitSettings,
    /// Number of worker threads; `None` is `auto`: one per core.
    pub workers: Option<NonZeroUsize>,
    /// Where pins and administrative states are stored.
    pub affinity_store: AffinityStore,
    /// The admin listener.
    pub admin: AdminSettings,
    /// The log.
    pub log: LogSettings,
}

impl Config {
    /// The pool with this ID.
    #[must_use]
    pub fn pool(&self, id: PoolId) -> &PoolConfig {
        &self.pools[id.0]
    }
}
