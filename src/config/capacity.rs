//! Descriptors: how many connections and pipes a number of them allows.
//!
//! Owns the shares of what uses descriptors. Must not know how many there are. Invariants: a connection only counts where
//! the two descriptors that it needs are there; pipes, without which streams are copied, give way to connections.

/// Descriptors that one relayed connection holds: the client's and the backend's.
pub const DESCRIPTORS_PER_CONNECTION: u64 = 2;
/// Those of a pipe: its two ends.
const A_PIPE: u64 = 2;
/// Kept for each worker's event loop.
const A_WORKER: u64 = 8;
/// Kept for files, the log, the admin listener, checks and resolving: a part of all, within these bounds.
const OTHERS: [u64; 2] = [16, 64];
const OTHERS_PART: u64 = 4;
/// What all pipes together take of what connections could have, at most, where nobody says how many of those there are.
const PIPES_PART: u64 = 4;

/// Connections below which it is worth a word that there are so few.
pub const FEW_CONNECTIONS: u32 = 256;

/// What descriptors are used for beside connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uses {
    /// Listening sockets of all workers.
    pub listening: usize,
    /// Workers.
    pub workers: usize,
    /// Pipes of each worker, if there are descriptors for them.
    pub pipes: usize,
}

/// What they allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Connections at once; one at least.
    pub connections: u32,
    /// Pipes of each worker.
    pub pipes: usize,
}

impl Capacity {
    /// Of so many descriptors, with `connections` at once where the configuration says so.
    #[must_use]
    pub fn of(descriptors: u64, uses: Uses, connections: Option<u32>) -> Self {
        let [least, most] = OTHERS;
        let others = (descriptors / OTHERS_PART).clamp(least, most);
        let workers = uses.workers as u64;
        let used = others + uses.listening as u64 + workers * A_WORKER;
        let left = descriptors.saturating_sub(used);
        let for_pipes = connections.map_or(left / PIPES_PART, |connections| {
            left.saturating_sub(u64::from(connections) * DESCRIPTORS_PER_CONNECTION)
        });
        let pipes = for_pipes / A_PIPE / workers.max(1);
        let pipes = usize::try_from(pipes).map_or(uses.pipes, |pipes| pipes.min(uses.pipes));
        let left = left - workers * A_PIPE * pipes as u64;
        let connections = u32::try_from(left / DESCRIPTORS_PER_CONNECTION).unwrap_or(u32::MAX);
        Self {
            connections: connections.max(1),
            pipes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(descriptors: u64, workers: usize, connections: Option<u32>) -> (u32, usize) {
        let uses = Uses {
            listening: 4 * workers,
            workers,
            pipes: 64,
        };
        let allowed = Capacity::of(descriptors, uses, connections);
        (allowed.connections, allowed.pipes)
    }

    #[test]
    fn a_connection_counts_two_descriptors() {
        let with = |descriptors| allowed(descriptors, 2, None).0;
        assert_eq!(with(20_002) - with(20_000), 1);
    }

    #[test]
    fn pipes_shrink_before_connections_do() {
        assert_eq!(allowed(20_000, 2, None), (9828, 64));
        assert_eq!(allowed(1024, 2, None), (352, 58));
        assert_eq!(allowed(1024, 12, None), (312, 8));
        assert_eq!(allowed(300, 2, None), (80, 13));
        assert_eq!(allowed(64, 2, None), (10, 1));
        assert_eq!(allowed(64, 1, None), (14, 4));
        assert_eq!(allowed(40, 2, None), (1, 0));
        assert_eq!(allowed(0, 2, None), (1, 0));
    }

    #[test]
    fn as_many_connections_as_are_configured_come_before_pipes() {
        assert_eq!(allowed(300, 2, Some(20)).1, 43);
        assert_eq!(allowed(300, 2, Some(100)), (100, 3));
        assert_eq!(allowed(300, 2, Some(1000)), (106, 0));
        assert_eq!(allowed(u64::MAX, 2, Some(1000)), (u32::MAX, 64));
    }

    #[test]
    fn no_more_descriptors_are_given_away_than_there_are() {
        for descriptors in (50..4000).step_by(7) {
            for connections in [None, Some(1), Some(100), Some(5000)] {
                let (connections, pipes) = allowed(descriptors, 3, connections);
                let given = u64::from(connections) * 2 + 3 * 2 * pipes as u64;
                assert!(connections == 1 || given + 12 + 24 + 16 <= descriptors);
            }
        }
    }
}
