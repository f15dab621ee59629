//! Memory for bytes whose reader is stalled.
//!
//! Owns the slabs of a worker. Must not know connections. Invariants: a freed slot is reused; the memory of many stalled
//! readers is returned to the system once they are gone.
//!
//! An allocator keeps memory that was freed between allocations in use, so thousands of stalled readers would leave as many
//! holes of 16 KiB. The first few are kept on the heap; the others go to slabs that are mapped separately, and of which only
//! the pages that were written to use memory.

use std::cell::RefCell;

use crate::net::event_loop;

/// Size of a slot in bytes: the most that is read at once.
const SLOT_SIZE: usize = event_loop::BUFFER;
/// Size of a slab. Every C library maps an allocation above 32 MiB separately, and unmaps it when it is freed (mallopt(3)).
const SLAB_SIZE: usize = 33 << 20;
const SLOTS: usize = SLAB_SIZE / SLOT_SIZE;
/// Most entries that are kept on the heap.
const MAX_ON_HEAP: usize = 64;
/// With no more entries than this on the heap, empty slabs are freed.
const FREE_SLABS_BELOW: usize = 32;

/// Bytes still to be written; their memory is released by `Drop`.
#[derive(Debug)]
pub(super) struct PendingBytes {
    storage: Storage,
    /// The range that is still to be written.
    start: usize,
    end: usize,
}

#[derive(Debug)]
enum Storage {
    /// Counted against [`MAX_ON_HEAP`], unless it is larger than a slot or was on the heap already.
    Heap {
        bytes: Box<[u8]>,
        counted: bool,
    },
    Slab {
        slab: usize,
        slot: u16,
    },
}

struct Slab {
    bytes: Box<[u8]>,
    free: Vec<u16>,
}

impl Slab {
    fn new() -> Self {
        let slots = u16::try_from(SLOTS).unwrap_or(u16::MAX);
        Self {
            // Zeroed by the system: the pages use no memory until they are written to.
            bytes: vec![0; SLAB_SIZE].into(),
            free: (0..slots).rev().collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.free.len() == SLOTS
    }

    fn slot(&self, slot: u16) -> &[u8] {
        let begin = usize::from(slot) * SLOT_SIZE;
        &self.bytes[begin..begin + SLOT_SIZE]
    }

    fn slot_mut(&mut self, slot: u16) -> &mut [u8] {
        let begin = usize::from(slot) * SLOT_SIZE;
        &mut self.bytes[begin..begin + SLOT_SIZE]
    }
}

#[derive(Default)]
struct SlabPool {
    on_heap: usize,
    slabs: Vec<Option<Slab>>,
}

impl SlabPool {
    /// Takes a slot of the first slab that has a free one.
    fn take_slot(&mut self) -> (usize, u16) {
        let free_slot = |(index, slab): (usize, &mut Option<Slab>)| {
            let slot = slab.as_mut()?.free.pop()?;
            Some((index, slot))
        };
        if let Some(found) = self.slabs.iter_mut().enumerate().find_map(free_slot) {
            return found;
        }
        let mut slab = Slab::new();
        let slot = slab.free.pop().unwrap_or_default();
        let vacant = self.slabs.iter().position(Option::is_none);
        let index = vacant.unwrap_or(self.slabs.len());
        match vacant {
            Some(index) => self.slabs[index] = Some(slab),
            None => self.slabs.push(Some(slab)),
        }
        (index, slot)
    }

    fn free_empty(&mut self) {
        if self.on_heap <= FREE_SLABS_BELOW {
            for slab in &mut self.slabs {
                slab.take_if(|slab| slab.is_empty());
            }
        }
    }
}

thread_local! {
    static SLAB_POOL: RefCell<SlabPool> = RefCell::default();
}

impl PendingBytes {
    /// Copies `bytes`.
    pub(super) fn copy_of(bytes: &[u8]) -> Self {
        if bytes.len() > SLOT_SIZE {
            return Self::on_heap(bytes.into(), false);
        }
        SLAB_POOL.with_borrow_mut(|pool| {
            if pool.on_heap < MAX_ON_HEAP {
                pool.on_heap += 1;
                return Self::on_heap(bytes.into(), true);
            }
            let (slab, slot) = pool.take_slot();
            if let Some(slab) = &mut pool.slabs[slab] {
                slab.slot_mut(slot)[..bytes.len()].copy_from_slice(bytes);
            }
            Self {
                storage: Storage::Slab { slab, slot },
                start: 0,
                end: bytes.len(),
            }
        })
    }

    /// Takes over `bytes`.
    pub(super) fn from_vec(bytes: Vec<u8>) -> Self {
        Self::on_heap(bytes.into(), false)
    }

    fn on_heap(bytes: Box<[u8]>, counted: bool) -> Self {
        Self {
            start: 0,
            end: bytes.len(),
            storage: Storage::Heap { bytes, counted },
        }
    }

    /// Lends the bytes that are still to be written.
    pub(super) fn with<T>(&self, f: impl FnOnce(&[u8]) -> T) -> T {
        match &self.storage {
            Storage::Heap { bytes, .. } => f(&bytes[self.start..self.end]),
            &Storage::Slab { slab, slot } => SLAB_POOL.with_borrow(|pool| {
                let slab = pool.slabs[slab].as_ref();
                let slot = slab.map_or(&[][..], |slab| slab.slot(slot));
                f(&slot[self.start..self.end])
            }),
        }
    }

    /// Removes the first `written` bytes; returns whether others remain.
    pub(super) fn advance(&mut self, written: usize) -> bool {
        self.start = (self.start + written).min(self.end);
        self.start < self.end
    }
}

impl Drop for PendingBytes {
    fn drop(&mut self) {
        let release = |pool: &RefCell<SlabPool>| {
            let mut pool = pool.borrow_mut();
            match self.storage {
                Storage::Heap { counted, .. } => pool.on_heap -= usize::from(counted),
                Storage::Slab { slab, slot } => {
                    if let Some(slab) = &mut pool.slabs[slab] {
                        slab.free.push(slot);
                    }
                }
            }
            pool.free_empty();
        };
        // At the end of the thread the pool may be gone already.
        let _ = SLAB_POOL.try_with(release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slabs() -> usize {
        SLAB_POOL.with_borrow(|pool| pool.slabs.iter().flatten().count())
    }

    fn pattern(number: usize) -> Vec<u8> {
        let length = [1, 100, 16 * 1024, SLOT_SIZE][number % 4];
        (number..number + length)
            .map(|byte| byte.to_le_bytes()[0])
            .collect()
    }

    /// Pages of this process that are in memory (proc(5): statm), in bytes.
    fn resident() -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: usize = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
        pages * rustix::param::page_size()
    }

    #[test]
    fn pending_bytes_are_stored_separately_and_in_order() {
        let mut all: Vec<PendingBytes> = (0..700)
            .map(|number| PendingBytes::copy_of(&pattern(number)))
            .collect();
        assert_eq!(slabs(), 2);
        for (number, held) in all.iter_mut().enumerate() {
            let pattern = pattern(number);
            held.with(|bytes| assert!(bytes == pattern));
            if pattern.len() > 1 {
                assert!(held.advance(1));
                held.with(|bytes| assert!(bytes == &pattern[1..]));
            }
            assert!(!held.advance(pattern.len()));
        }
        // Every second one is dropped, and others reuse their slots.
        let mut number = 0;
        all.retain(|_| {
            number += 1;
            number % 2 == 0
        });
        all.extend((0..350).map(|number| PendingBytes::copy_of(&pattern(number))));
        assert_eq!(slabs(), 2);
        drop(all);
        assert_eq!(slabs(), 0);
    }

    #[test]
    fn memory_of_many_pending_buffers_is_returned_although_other_allocations_remain() {
        let (mut pending, mut others) = (Vec::new(), Vec::new());
        let before = resident();
        for _ in 0..2000 {
            pending.push(PendingBytes::copy_of(&[1; 16 * 1024]));
            others.push(Box::new([2_u8; 200]));
        }
        let most = resident();
        assert!(most > before + (25 << 20), "{before} {most}");
        drop(pending);
        let after = resident();
        // Other tests use memory at the same time.
        assert!(after < most - (20 << 20), "{before} {most} {after}");
        assert_eq!(others.len(), 2000);
    }

    #[test]
    fn bytes_larger_than_a_slot_are_stored_too() {
        let large = vec![7; 3 * SLOT_SIZE];
        let mut held = [
            PendingBytes::copy_of(&large),
            PendingBytes::from_vec(large.clone()),
        ];
        for held in &mut held {
            assert!(held.advance(SLOT_SIZE));
            held.with(|bytes| assert_eq!(bytes.len(), 2 * SLOT_SIZE));
        }
    }

    #[test]
    fn slabs_remain_while_many_bytes_are_pending() {
        let pending: Vec<PendingBytes> = (0..=MAX_ON_HEAP)
            .map(|_| PendingBytes::copy_of(&[1]))
            .collect();
        let mut pending = pending.into_iter().rev();
        drop(pending.next());
        assert_eq!(slabs(), 1, "load may return at once");
        drop(
            pending
                .by_ref()
                .take(MAX_ON_HEAP - FREE_SLABS_BELOW - 1)
                .collect::<Vec<_>>(),
        );
        assert_eq!(slabs(), 1);
        drop(pending.next());
        assert_eq!(slabs(), 0);
    }
}
