//! A configuration in force, ready for the data path.
//!
//! Owns the pools, tables and listeners that a [`Config`] describes, and which of them survive the next configuration. Opens no
//! socket. Invariant: a snapshot never changes; only its backends and tables have mutable state.

mod builder;
mod listener;
pub mod routes;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::affinity::table::{Pins, Secret};
use crate::config::model::{Config, ServerAddress};
use crate::telemetry::metrics::Registry;
use crate::upstream::backend::{Availability, Backend};
use crate::upstream::pool::Pool;
pub use listener::{ActiveListener, Destination};

/// A configuration in force.
pub struct Snapshot {
    /// The configuration that it was built from.
    pub config: Config,
    /// Indexed by [`PoolId`](crate::config::model::PoolId).
    pub pools: Vec<Arc<Pool>>,
    /// One table for each affinity group, sorted by the group's name.
    pub groups: Vec<Arc<Pins>>,
    /// In the order of the file.
    pub listeners: Vec<Arc<ActiveListener>>,
    /// By configured address.
    by_address: HashMap<SocketAddr, Arc<ActiveListener>>,
}

/// What a new configuration takes over from the one before.
pub struct PreviousSnapshot<'a> {
    /// The snapshot in force until now.
    pub snapshot: &'a Snapshot,
    /// Known addresses of servers, so that backends that are new or have moved can be used at once.
    pub addresses: &'a dyn Fn(&ServerAddress) -> Option<SocketAddr>,
}

impl Snapshot {
    /// Builds the snapshot of `config`. Backends announce their changes to `availability`; `secret` keys the hashes of TLS
    /// sessions.
    #[must_use]
    pub fn build(
        config: Config,
        registry: &Registry,
        availability: &Arc<Availability>,
        secret: &Secret,
    ) -> Self {
        Self::build_after(None, config, registry, availability, secret)
    }

    /// Builds the snapshot that replaces `before`. Backends are kept by pool and name, tables by group. If the keys of a group
    /// have changed, its pins are translated as far as possible. The new settings apply to kept backends when this returns;
    /// their connections are not affected.
    #[must_use]
    pub fn build_after(
        before: Option<&PreviousSnapshot<'_>>,
        config: Config,
        registry: &Registry,
        availability: &Arc<Availability>,
        secret: &Secret,
    ) -> Self {
        builder::build(before, config, registry, availability, secret)
    }

    /// The listener with this configured address.
    #[must_use]
    pub fn listener_at(&self, address: SocketAddr) -> Option<&Arc<ActiveListener>> {
        self.by_address.get(&address)
    }

    /// The pool of this name.
    #[must_use]
    pub fn pool(&self, name: &str) -> Option<&Arc<Pool>> {
        self.pools.iter().find(|pool| *pool.name == *name)
    }

    /// The table of this affinity group.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<&Arc<Pins>> {
        self.groups.iter().find(|pins| **pins.group() == *name)
    }

    /// The listener of this name.
    #[must_use]
    pub fn listener(&self, name: &str) -> Option<&Arc<ActiveListener>> {
        self.listeners
            .iter()
            .find(|listener| *listener.config.name == *name)
    }

    /// Every backend of every pool.
    pub fn backends(&self) -> impl Iterator<Item = &Arc<Backend>> {
        self.pools.iter().flat_map(|pool| &pool.backends)
    }
}
