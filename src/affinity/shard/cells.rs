//! Where the pins of a shard lie.
//!
//! Owns their places. A pin fills one cache line. They lie in blocks that are never moved, so that growing costs one
//! allocation and no copy. Invariant: a place that is not free holds a pin until [`PinCells::free`]; the pin that a free
//! place held last leads nowhere.

use std::ops::{Index, IndexMut};

use super::{Moment, NONE, Origin, Tag};

/// Pins in a block: 16 KiB.
const BLOCK: usize = 256;

/// A pin. Aligned, for otherwise it would lie across two cache lines most of the time.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct PinCell<K> {
    pub(super) key: K,
    pub(super) tag: Tag,
    /// Where the client is pinned; `NONE` until the first backend has answered.
    pub(super) member: u32,
    /// Where connections of this key are sent until one has answered there; `NONE` in the usual case.
    pub(super) candidate: u32,
    pub(super) in_use: u32,
    /// The next in the same list of the wheel, or among the free places; `NONE` ends it.
    pub(super) next: u32,
    /// The one before in the same list of the wheel; `NONE` for the first.
    pub(super) before: u32,
    /// Seconds on the table's clock.
    pub(super) created: u32,
    /// Whether it stands in a list of the wheel.
    pub(super) listed: bool,
    /// Whether its place stands among the changes that are still to be taken; stays with the place.
    pub(super) changed: bool,
    /// How often its connections have been recalled, modulo 256.
    pub(super) recalls: u8,
    pub(super) origin: Origin,
    /// Of a pin that is not in use.
    pub(super) expires: Moment,
}

impl<K> PinCell<K> {
    /// Whether it is idle and its time has come.
    pub(super) fn is_expired(&self, now: Moment) -> bool {
        self.in_use == 0 && self.expires <= now
    }
}

/// The pins of one shard.
#[derive(Debug)]
pub(super) struct PinCells<K> {
    blocks: Vec<Vec<PinCell<K>>>,
    /// The first free place.
    free: u32,
}

impl<K> PinCells<K> {
    pub(super) fn new() -> Self {
        Self {
            blocks: Vec::new(),
            free: NONE,
        }
    }

    /// Finds a place for a pin.
    pub(super) fn add(&mut self, pin: PinCell<K>) -> u32 {
        if self.free != NONE {
            let at = self.free;
            self.free = self[at].next;
            let changed = self[at].changed;
            self[at] = PinCell { changed, ..pin };
            return at;
        }
        if self.blocks.last().is_none_or(|last| last.len() == BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        let full = (self.blocks.len() - 1) * BLOCK;
        let last = self.blocks.last_mut().expect("one was pushed if none was");
        let at = u32::try_from(full + last.len()).expect("a shard's bound is below 2^32 - 1 pins");
        last.push(pin);
        at
    }

    /// Gives a place back.
    pub(super) fn free(&mut self, at: u32) {
        let free = std::mem::replace(&mut self.free, at);
        self[at].next = free;
    }

    /// How many places there are, the free ones included.
    pub(super) fn count(&self) -> u32 {
        let last = self.blocks.last().map_or(0, Vec::len);
        let places = self.blocks.len().saturating_sub(1) * BLOCK + last;
        u32::try_from(places).expect("each of them was numbered")
    }

    /// Bytes that are allocated.
    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        let blocks: usize = self.blocks.iter().map(Vec::capacity).sum();
        blocks * size_of::<PinCell<K>>() + self.blocks.capacity() * size_of::<Vec<PinCell<K>>>()
    }
}

impl<K> Index<u32> for PinCells<K> {
    type Output = PinCell<K>;

    fn index(&self, at: u32) -> &PinCell<K> {
        &self.blocks[at as usize / BLOCK][at as usize % BLOCK]
    }
}

impl<K> IndexMut<u32> for PinCells<K> {
    fn index_mut(&mut self, at: u32) -> &mut PinCell<K> {
        &mut self.blocks[at as usize / BLOCK][at as usize % BLOCK]
    }
}
