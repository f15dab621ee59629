//! Removes what has expired or ended, once a second.
//!
//! Owns the interval. Knows neither pins nor connections. Invariant: a sweep of a shard is bounded, so that no sweep delays
//! the other tasks of the control thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::interval;

use super::shared::SharedState;

/// Between two sweeps.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Expired pins removed from each shard in one sweep.
const MAX_PINS_PER_SHARD: usize = 2_000;

/// Sweeps until the balancer stops.
pub(super) async fn run(state: Arc<SharedState>) {
    let proxy = &state.proxy;
    let mut ticks = interval(SWEEP_INTERVAL);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = proxy.stop.cancelled() => return,
        }
        proxy.limits.sweep(Instant::now());
        let snapshot = proxy.snapshot.load();
        for pins in &snapshot.groups {
            pins.sweep(MAX_PINS_PER_SHARD);
        }
        state.lingering.sweep(&snapshot, &proxy.registry);
    }
}
