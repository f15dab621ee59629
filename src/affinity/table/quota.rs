//! How many pins of a table one client may have.
//!
//! Owns the counts. A client may have no pin of its own that could hold its count, so there is a fixed number of counts, and
//! clients whose hashes agree in 16 bits share one. Must not know what the pins are. Invariant: the counts add up to the
//! number of pins that have a quota.

use std::sync::OnceLock;

use super::sync::{AtomicU32, Ordering};
use crate::affinity::shard::{Keyed, Shard};

/// Number of counts: 256 KiB. Few for the checker, which has a history of each and creates new ones thousands of times.
const COUNTS: usize = if cfg!(lyncpin_shuttle) {
    1 << 8
} else {
    1 << 16
};

/// The counts of one table.
#[derive(Debug)]
pub(super) struct Quotas {
    /// Allocated for the first pin: a table without pins needs no memory for them.
    counts: OnceLock<Box<[AtomicU32]>>,
    /// 0 where clients have no quota.
    most: u32,
}

impl Quotas {
    /// For a table in which clients have no quota.
    pub(super) fn none() -> Self {
        Self {
            counts: OnceLock::new(),
            most: 0,
        }
    }

    /// At most `most` pins for each client.
    pub(super) fn of(most: u32) -> Self {
        Self {
            counts: OnceLock::new(),
            most,
        }
    }

    /// Counts one more pin of `client`, if its quota allows one and `room` makes room for it. The quota is checked first, so
    /// that a client that has used it up evicts nothing.
    pub(super) fn take_with(&self, client: u64, room: impl FnOnce() -> bool) -> bool {
        if !self.take(client) {
            return false;
        }
        let has_room = room();
        if !has_room {
            self.give(client);
        }
        has_room
    }

    fn take(&self, client: u64) -> bool {
        let within = |count| (count < self.most).then(|| count + 1);
        self.count(client).is_none_or(|count| {
            count
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, within)
                .is_ok()
        })
    }

    /// Transfers one pin of `client` to `other`, even beyond its quota.
    pub(super) fn pass(&self, client: u64, other: u64) {
        if client == other {
            return;
        }
        if let Some(count) = self.count(other) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.give(client);
    }

    /// Counts one pin of `client` less.
    pub(super) fn give(&self, client: u64) {
        if let Some(count) = self.count(client) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Subtracts the pins that this shard has removed.
    pub(super) fn give_back<K: Keyed>(&self, shard: &mut Shard<K>) {
        if self.most == 0 {
            return;
        }
        for client in shard.take_removed().iter().filter_map(Keyed::share) {
            self.give(client);
        }
    }

    /// Number of pins of `client` and of those that share its count.
    #[cfg(test)]
    pub(super) fn of_client(&self, client: u64) -> u32 {
        self.count(client)
            .map_or(0, |count| count.load(Ordering::Relaxed))
    }

    fn count(&self, client: u64) -> Option<&AtomicU32> {
        if self.most == 0 {
            return None;
        }
        let counts = || (0..COUNTS).map(|_| AtomicU32::new(0)).collect();
        let counts = self.counts.get_or_init(counts);
        counts.get(usize::try_from(client).unwrap_or(0) % COUNTS)
    }
}
