//! How many connections and pipes a number of file descriptors allows.
//!
//! Owns the share of each use of descriptors. Must not know how many there are. Invariants: a connection is only counted
//! if its two descriptors are available; connections take precedence over pipes, without which streams are copied.

/// Descriptors that one relayed connection holds: the client's and the backend's.
pub const DESCRIPTORS_PER_CONNECTION: u64 = 2;
/// Descriptors of one pipe: its two ends.
const PER_PIPE: u64 = 2;
/// Descriptors reserved for each worker's event loop.
const PER_WORKER: u64 = 8;
/// Descriptors reserved for files, the log, the admin listener, checks and resolving: a share of all, within this range.
const OTHERS: [u64; 2] = [16, 64];
const OTHERS_DIVISOR: u64 = 4;
/// The maximum share of all pipes together if the number of connections is not configured.
const PIPES_DIVISOR: u64 = 4;

/// Fewer connections than this are worth a warning.
pub const FEW_CONNECTIONS: u32 = 256;

/// The uses of descriptors other than connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DescriptorUses {
    /// Listening sockets of all workers.
    pub listening: usize,
    /// Number of workers.
    pub workers: usize,
    /// Pipes per worker, if there are enough descriptors.
    pub pipes: usize,
}

/// The connections and pipes that a number of descriptors allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Concurrent connections, at least one.
    pub connections: u32,
    /// Pipes per worker.
    pub pipes: usize,
}

impl Capacity {
    /// The capacity of so many descriptors. `connections` is the configured limit.
    #[must_use]
    pub fn of(descriptors: u64, uses: DescriptorUses, connections: Option<u32>) -> Self {
        let [min, max] = OTHERS;
        let others = (descriptors / OTHERS_DIVISOR).clamp(min, max);
        let workers = uses.workers as u64;
        let used = others + uses.listening as u64 + workers * PER_WORKER;
        let left = descriptors.saturating_sub(used);
        let for_pipes = connections.map_or(left / PIPES_DIVISOR, |connections| {
            left.saturating_sub(u64::from(connections) * DESCRIPTORS_PER_CONNECTION)
        });
        let pipes = for_pipes / PER_PIPE / workers.max(1);
        let pipes = usize::try_from(pipes).map_or(uses.pipes, |pipes| pipes.min(uses.pipes));
        let left = left - workers * PER_PIPE * pipes as u64;
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
        let uses = DescriptorUses {
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
    fn configured_connections_take_precedence_over_pipes() {
        assert_eq!(allowed(300, 2, Some(20)).1, 43);
        assert_eq!(allowed(300, 2, Some(100)), (100, 3));
        assert_eq!(allowed(300, 2, Some(1000)), (106, 0));
        assert_eq!(allowed(u64::MAX, 2, Some(1000)), (u32::MAX, 64));
    }

    #[test]
    fn the_capacity_never_exceeds_the_descriptors() {
        for descriptors in (50..4000).step_by(7) {
            for connections in [None, Some(1), Some(100), Some(5000)] {
                let (connections, pipes) = allowed(descriptors, 3, connections);
                let given = u64::from(connections) * 2 + 3 * 2 * pipes as u64;
                assert!(connections == 1 || given + 12 + 24 + 16 <= descriptors);
            }
        }
    }
}
