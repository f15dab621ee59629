//! The memory of a shard's pins.
//!
//! Owns the cells, one cache line each, in blocks that are never moved: growing costs one allocation and no copy.
//! Invariant: a cell that is not free holds a pin until [`PinCells::free`]; the last pin of a free cell has no backend.

use std::ops::{Index, IndexMut};

use super::{Moment, NONE, Origin, Tag};

/// Pins in a block: 16 KiB.
const BLOCK: usize = 256;

/// A pin. Aligned, since otherwise it would span two cache lines most of the time.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct PinCell<K> {
    pub(super) key: K,
    pub(super) tag: Tag,
    /// The pin's backend; `NONE` until the first backend has answered.
    pub(super) member: u32,
    /// The backend that connections of this key are sent to until it has answered one; usually `NONE`.
    pub(super) candidate: u32,
    pub(super) in_use: u32,
    /// The next pin in the list of the wheel, or the next free cell; `NONE` at the end.
    pub(super) next: u32,
    /// The previous pin in the list of the wheel; `NONE` for the first.
    pub(super) before: u32,
    /// Seconds on the table's clock.
    pub(super) created: u32,
    /// Whether it is in a list of the wheel.
    pub(super) listed: bool,
    /// Whether its cell is among the changes not yet taken. Belongs to the cell, not to the pin.
    pub(super) changed: bool,
    /// How often an administrator has moved the pin, modulo 256.
    pub(super) moves: u8,
    pub(super) origin: Origin,
    /// Valid only for a pin that is not in use.
    pub(super) expires: Moment,
}

impl<K> PinCell<K> {
    /// Whether it is idle and has expired.
    pub(super) fn is_expired(&self, now: Moment) -> bool {
        self.in_use == 0 && self.expires <= now
    }
}

/// The pins of one shard.
#[derive(Debug)]
pub(super) struct PinCells<K> {
    blocks: Vec<Vec<PinCell<K>>>,
    /// The first free cell.
    free: u32,
}

impl<K> PinCells<K> {
    pub(super) fn new() -> Self {
        Self {
            blocks: Vec::new(),
            free: NONE,
        }
    }

    /// Puts a pin into a free cell.
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
        let at = u32::try_from(full + last.len()).expect("a shard has fewer than 2^32 - 1 pins");
        last.push(pin);
        at
    }

    /// Frees a cell.
    pub(super) fn free(&mut self, at: u32) {
        let free = std::mem::replace(&mut self.free, at);
        self[at].next = free;
    }

    /// Number of cells, including free ones.
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
