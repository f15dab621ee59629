//! What is configured of a backend, and may change while it has connections.
//!
//! Owns the way from a new configuration to a backend that stands. Must not know why it changes. Invariant: whoever holds
//! the backend sees its new weight and bounds at once, and no connection is touched.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Backend;
use crate::config::model::{self, ServerAddress};

impl Backend {
    /// As configured, not resolved.
    #[must_use]
    pub fn configured(&self) -> Arc<model::BackendConfig> {
        self.configured.load_full()
    }

    /// Its share under the balance policy, 0 to 256.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// Connections at once; `None` is no bound.
    #[must_use]
    pub fn max_connections(&self) -> Option<u32> {
        let bound = self.max_connections.load(Ordering::Relaxed);
        (bound != u32::MAX).then_some(bound)
    }

    /// For the assembly alone: what a new configuration says of it. Where its address is another one, new connections go
    /// to what that is known to be `now`, or nowhere until `health` knows; those that stand live on where they are.
    pub fn reconfigure(
        &self,
        configured: &model::BackendConfig,
        max_connections: Option<u32>,
        now: impl FnOnce(&ServerAddress) -> Option<SocketAddr>,
    ) {
        let bound = max_connections.unwrap_or(u32::MAX);
        self.weight.store(configured.weight, Ordering::Relaxed);
        self.max_connections.store(bound, Ordering::Relaxed);
        let before = self.configured.swap(Arc::new(configured.clone()));
        if before.address != configured.address {
            self.address.store(now(&configured.address).map(Arc::new));
        }
    }
}
