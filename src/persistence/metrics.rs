//! The metrics of the affinity store.
//!
//! Owns their handles. Must not know the file. Invariant: they are looked up once, when the store starts.

use std::time::SystemTime;

use metrics::{Counter, Gauge};

use crate::telemetry::metrics::{Registry, definitions};

/// The handles of the store's metrics.
pub(super) struct StoreMetrics {
    /// Writes that failed.
    pub(super) failures: Counter,
    written: Gauge,
    bytes: Gauge,
}

impl StoreMetrics {
    /// The handles in this registry.
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            failures: registry.counter(&definitions::AFFINITY_STORE_FAILURES, &[]),
            written: registry.gauge(&definitions::AFFINITY_STORE_LAST_WRITE, &[]),
            bytes: registry.gauge(&definitions::AFFINITY_STORE_BYTES, &[]),
        }
    }

    /// Records a write of a file of this length.
    pub(super) fn wrote(&self, length: u64) {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        self.written.set(now.as_secs_f64());
        #[allow(clippy::cast_precision_loss, reason = "no file has 2^52 bytes")]
        self.bytes.set(length as f64);
    }
}
