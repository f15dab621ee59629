//! How much of a table one client may fill.
//!
//! Owns the counts. A client has no pin of its own that could hold its count, since it may come without one, so there are
//! as many counts as memory is to be spent on, and clients whose hashes agree in 16 bits share one. Invariant: the counts
//! add up to the pins that stand and have a share.

use std::sync::atomic::{AtomicU16, Ordering};

use crate::affinity::{Keyed, Shard};

/// Counts: 128 KiB.
const COUNTS: usize = 1 << 16;

/// The counts of one table.
#[derive(Debug)]
pub(super) struct Shares {
    /// None, or [`COUNTS`].
    counts: Box<[AtomicU16]>,
    most: u16,
}

impl Shares {
    /// For a table in which clients have no shares.
    pub(super) fn none() -> Self {
        Self {
            counts: Box::default(),
            most: 0,
        }
    }

    /// At most `most` pins a client.
    pub(super) fn of(most: u16) -> Self {
        Self {
            counts: (0..COUNTS).map(|_| AtomicU16::new(0)).collect(),
            most,
        }
    }

    /// Counts one more pin of `client`; `false` where it has all that it may have.
    pub(super) fn take(&self, client: u64) -> bool {
        let within = |count| (count < self.most).then(|| count + 1);
        self.count(client).is_some_and(|count| {
            count
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, within)
                .is_ok()
        })
    }

    /// Counts one pin of `client` off, and one of `other` on, whatever that has already.
    pub(super) fn pass(&self, client: u64, other: u64) {
        if client == other {
            return;
        }
        let grow = |count: u16| Some(count.saturating_add(1));
        if let Some(count) = self.count(other) {
            // The closure never says `None`.
            let _ = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow);
        }
        self.give(client);
    }

    /// Counts one pin of `client` off.
    pub(super) fn give(&self, client: u64) {
        let shrink = |count: u16| Some(count.saturating_sub(1));
        if let Some(count) = self.count(client) {
            let _ = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, shrink);
        }
    }

    /// Counts off the pins that this shard has removed.
    pub(super) fn give_back<K: Keyed>(&self, shard: &mut Shard<K>) {
        if self.counts.is_empty() {
            return;
        }
        for client in shard.take_removed().iter().filter_map(Keyed::share) {
            self.give(client);
        }
    }

    /// Pins of `client`, and of those that share its count.
    #[cfg(test)]
    pub(super) fn of_client(&self, client: u64) -> u16 {
        self.count(client)
            .map_or(0, |count| count.load(Ordering::Relaxed))
    }

    fn count(&self, client: u64) -> Option<&AtomicU16> {
        self.counts
            .get(usize::try_from(client).unwrap_or(0) % COUNTS)
    }
}
