//! From the hash of a key to the cell of its pin.
//!
//! Owns the open addressing: entries of 8 bytes, eight to a cache line, with linear probing. An entry has 32 bits of the hash
//! beside the cell, so that a lookup almost always reads one pin, and growing and removing read none. Invariant: at most
//! three quarters are taken, and no empty entry is between an entry and the start of its probe sequence.

use super::{NONE, Tag};

const FEWEST: usize = 8;

#[derive(Debug, Clone, Copy)]
struct IndexEntry {
    tag: u32,
    /// `NONE` is an empty entry.
    at: u32,
}

const EMPTY: IndexEntry = IndexEntry { tag: 0, at: NONE };

/// The index of one shard.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// None, or a power of two.
    entries: Vec<IndexEntry>,
    taken: usize,
}

impl Index {
    pub(super) fn len(&self) -> usize {
        self.taken
    }

    /// The cell with this tag for which `is` returns true.
    pub(super) fn find(&self, tag: Tag, is: impl Fn(u32) -> bool) -> Option<u32> {
        if self.entries.is_empty() {
            return None;
        }
        let mut slot = self.first(tag.0);
        loop {
            let entry = self.entries[slot];
            if entry.at == NONE {
                return None;
            }
            if entry.tag == tag.0 && is(entry.at) {
                return Some(entry.at);
            }
            slot = self.after(slot);
        }
    }

    /// Adds a cell that is not in the index.
    pub(super) fn insert(&mut self, tag: Tag, at: u32) {
        if self.taken >= self.entries.len() / 4 * 3 {
            self.grow();
        }
        self.put(IndexEntry { tag: tag.0, at });
        self.taken += 1;
    }

    /// Removes a cell. Entries after it move up, so that lookups still find them.
    pub(super) fn remove(&mut self, tag: Tag, at: u32) {
        let mut hole = self.first(tag.0);
        while self.entries[hole].at != at {
            hole = self.after(hole);
        }
        let mut next = self.after(hole);
        while self.entries[next].at != NONE {
            let first = self.first(self.entries[next].tag);
            if self.distance(first, next) >= self.distance(hole, next) {
                self.entries[hole] = self.entries[next];
                hole = next;
            }
            next = self.after(next);
        }
        self.entries[hole] = EMPTY;
        self.taken -= 1;
    }

    /// Bytes that are allocated.
    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        self.entries.capacity() * size_of::<IndexEntry>()
    }

    fn grow(&mut self) {
        let twice = (self.entries.len() * 2).max(FEWEST);
        let before = std::mem::replace(&mut self.entries, vec![EMPTY; twice]);
        for entry in before {
            if entry.at != NONE {
                self.put(entry);
            }
        }
    }

    fn put(&mut self, entry: IndexEntry) {
        let mut slot = self.first(entry.tag);
        while self.entries[slot].at != NONE {
            slot = self.after(slot);
        }
        self.entries[slot] = entry;
    }

    fn first(&self, tag: u32) -> usize {
        tag as usize & (self.entries.len() - 1)
    }

    fn after(&self, slot: usize) -> usize {
        (slot + 1) & (self.entries.len() - 1)
    }

    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.entries.len() - 1)
    }
}
