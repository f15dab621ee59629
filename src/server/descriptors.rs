//! Descriptors: how many there are, and how many connections they allow.
//!
//! Invariant: a connection is only let in where the two descriptors that it needs are there.

use crate::config::{DESCRIPTORS_PER_CONNECTION, model};
use crate::reserve;
use crate::splice::Budget;

/// Kept for files, the log, the admin listener, checks and resolving, beside what is held back from connections.
const RESERVE: u64 = 64;
/// Kept for each worker's event loop.
const RESERVE_A_WORKER: u64 = 8;

/// What there is for connections, beside the listening sockets.
pub(super) struct Capacity {
    pub(super) descriptors: u64,
    pub(super) workers: usize,
    pub(super) pipes: Budget,
}

impl Capacity {
    /// The bound of connections beside so many listening sockets; more than the descriptors allow is warned of.
    pub(super) fn most(&self, configured: &model::Limits, listening: usize) -> u32 {
        let allowed = connections(self.descriptors, listening, self.workers, self.pipes);
        let most = configured.connections.unwrap_or(allowed);
        if most > allowed {
            tracing::warn!(
                target: "lyncpin::server",
                limit = most,
                allowed,
                "limits.connections is more than the descriptors allow: raise LimitNOFILE"
            );
        }
        most
    }
}

/// Connections that `descriptors` allow beside the listening sockets, and the workers with their pipes.
fn connections(descriptors: u64, listening: usize, workers: usize, pipes: Budget) -> u32 {
    let a_worker = RESERVE_A_WORKER + 2 * pipes.pipes as u64;
    let (listening, workers) = (listening as u64, workers as u64);
    let kept = RESERVE + reserve::of(descriptors);
    let left = descriptors.saturating_sub(kept + listening + workers * a_worker);
    u32::try_from(left / DESCRIPTORS_PER_CONNECTION)
        .unwrap_or(u32::MAX)
        .max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_counts_two_descriptors() {
        let with = |descriptors| connections(descriptors, 8, 2, Budget::MOST);
        assert_eq!(with(20_002) - with(20_000), 1);
        assert!(with(1024) > 300);
        assert_eq!(with(16), 1);
    }
}
