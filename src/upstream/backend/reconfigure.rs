//! The configured values of a backend, which may change while it has connections.
//!
//! Owns how a new configuration is applied to an existing backend. Must not know why it changes. Invariant: the new weight and
//! limits take effect at once, and no connection is affected.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Backend;
use crate::config::model::{self, ServerAddress};

impl Backend {
    /// The configured values; the address is not resolved.
    #[must_use]
    pub fn configured(&self) -> Arc<model::BackendConfig> {
        self.configured.load_full()
    }

    /// Its weight in the balance policy, 0 to 256.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// Most concurrent connections; `None` is no limit.
    #[must_use]
    pub fn max_connections(&self) -> Option<u32> {
        let limit = self.max_connections.load(Ordering::Relaxed);
        (limit != u32::MAX).then_some(limit)
    }

    /// Applies a new configuration. Only for the server. If the configured address changes, new connections go to the address
    /// that `resolved` returns, or nowhere until `health` has resolved it; existing connections stay where they are.
    pub fn reconfigure(
        &self,
        configured: &model::BackendConfig,
        max_connections: Option<u32>,
        resolved: impl FnOnce(&ServerAddress) -> Option<SocketAddr>,
    ) {
        let limit = max_connections.unwrap_or(u32::MAX);
        self.weight.store(configured.weight, Ordering::Relaxed);
        self.max_connections.store(limit, Ordering::Relaxed);
        let before = self.configured.swap(Arc::new(configured.clone()));
        if before.address != configured.address {
            self.address
                .store(resolved(&configured.address).map(Arc::new));
        }
    }
}
