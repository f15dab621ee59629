//! Where bytes wait whose reader takes none now.
//!
//! Owns a worker's memory for them. Must not know whose they are. Invariants: what is given back is free for the next, and
//! memory that a crowd of stalled readers took goes back to the system when the crowd has gone.
//!
//! An allocator keeps what was freed between two things that live on, so thousands of stalled readers would leave as many
//! holes of 16 KiB. A few are held in ordinary memory; beyond these, bytes go to slabs that the system maps apart, of
//! which only the pages count that were written to.

use std::cell::RefCell;

use crate::net::event_loop;

/// What a place holds, in bytes: the most that is read at once.
const PLACE: usize = event_loop::BUFFER;
/// So much is mapped apart by any C library, and unmapped when it is freed (mallopt(3): at most 32 MiB is not).
const SLAB: usize = 33 << 20;
const PLACES: usize = SLAB / PLACE;
/// How many are held in ordinary memory.
const FEW: usize = 64;
/// As few as that, and empty slabs are freed.
const FEWER: usize = 32;

/// Bytes that wait; given back by `Drop`.
#[derive(Debug)]
pub(super) struct Held {
    place: ShelfSlot,
    /// Where those begin that still wait.
    from: usize,
    to: usize,
}

#[derive(Debug)]
enum ShelfSlot {
    /// Counted among the few, or too large for a place.
    Own {
        bytes: Box<[u8]>,
        counts: bool,
    },
    Slab {
        slab: usize,
        number: u16,
    },
}

struct Slab {
    bytes: Box<[u8]>,
    free: Vec<u16>,
}

impl Slab {
    fn new() -> Self {
        let places = u16::try_from(PLACES).unwrap_or(u16::MAX);
        Self {
            // Zeroes are not written: the pages are the system's until they are used.
            bytes: vec![0; SLAB].into(),
            free: (0..places).rev().collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.free.len() == PLACES
    }

    fn place(&self, number: u16) -> &[u8] {
        let begin = usize::from(number) * PLACE;
        &self.bytes[begin..begin + PLACE]
    }

    fn place_mut(&mut self, number: u16) -> &mut [u8] {
        let begin = usize::from(number) * PLACE;
        &mut self.bytes[begin..begin + PLACE]
    }
}

#[derive(Default)]
struct Shelf {
    few: usize,
    slabs: Vec<Option<Slab>>,
}

impl Shelf {
    /// The first slab that has room.
    fn take(&mut self) -> (usize, u16) {
        let room = |(number, slab): (usize, &mut Option<Slab>)| {
            let place = slab.as_mut()?.free.pop()?;
            Some((number, place))
        };
        if let Some(found) = self.slabs.iter_mut().enumerate().find_map(room) {
            return found;
        }
        let mut slab = Slab::new();
        let place = slab.free.pop().unwrap_or_default();
        let vacant = self.slabs.iter().position(Option::is_none);
        let number = vacant.unwrap_or(self.slabs.len());
        match vacant {
            Some(number) => self.slabs[number] = Some(slab),
            None => self.slabs.push(Some(slab)),
        }
        (number, place)
    }

    fn free_empty(&mut self) {
        if self.few <= FEWER {
            for slab in &mut self.slabs {
                slab.take_if(|slab| slab.is_empty());
            }
        }
    }
}

thread_local! {
    static SHELF: RefCell<Shelf> = RefCell::default();
}

impl Held {
    /// Keeps a copy of `bytes`.
    pub(super) fn of(bytes: &[u8]) -> Self {
        if bytes.len() > PLACE {
            return Self::owned(bytes.into(), false);
        }
        SHELF.with_borrow_mut(|shelf| {
            if shelf.few < FEW {
                shelf.few += 1;
                return Self::owned(bytes.into(), true);
            }
            let (number, place) = shelf.take();
            if let Some(slab) = &mut shelf.slabs[number] {
                slab.place_mut(place)[..bytes.len()].copy_from_slice(bytes);
            }
            Self {
                place: ShelfSlot::Slab {
                    slab: number,
                    number: place,
                },
                from: 0,
                to: bytes.len(),
            }
        })
    }

    /// Keeps these, which have been read elsewhere.
    pub(super) fn from_vec(bytes: Vec<u8>) -> Self {
        Self::owned(bytes.into(), false)
    }

    fn owned(bytes: Box<[u8]>, counts: bool) -> Self {
        Self {
            from: 0,
            to: bytes.len(),
            place: ShelfSlot::Own { bytes, counts },
        }
    }

    /// Lends those that still wait.
    pub(super) fn with<T>(&self, use_them: impl FnOnce(&[u8]) -> T) -> T {
        match &self.place {
            ShelfSlot::Own { bytes, .. } => use_them(&bytes[self.from..self.to]),
            &ShelfSlot::Slab { slab, number } => SHELF.with_borrow(|shelf| {
                let slab = shelf.slabs[slab].as_ref();
                let place = slab.map_or(&[][..], |slab| slab.place(number));
                use_them(&place[self.from..self.to])
            }),
        }
    }

    /// The first `taken` wait no more; says whether others do.
    pub(super) fn take(&mut self, taken: usize) -> bool {
        self.from = (self.from + taken).min(self.to);
        self.from < self.to
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let give_back = |shelf: &RefCell<Shelf>| {
            let mut shelf = shelf.borrow_mut();
            match self.place {
                ShelfSlot::Own { counts, .. } => shelf.few -= usize::from(counts),
                ShelfSlot::Slab { slab, number } => {
                    if let Some(slab) = &mut shelf.slabs[slab] {
                        slab.free.push(number);
                    }
                }
            }
            shelf.free_empty();
        };
        // At the end of the thread the shelf may be gone already.
        let _ = SHELF.try_with(give_back);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slabs() -> usize {
        SHELF.with_borrow(|shelf| shelf.slabs.iter().flatten().count())
    }

    fn pattern(number: usize) -> Vec<u8> {
        let length = [1, 100, 16 * 1024, PLACE][number % 4];
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
    fn what_waits_is_kept_apart_and_in_order() {
        let mut all: Vec<Held> = (0..700).map(|number| Held::of(&pattern(number))).collect();
        assert_eq!(slabs(), 2);
        for (number, held) in all.iter_mut().enumerate() {
            let pattern = pattern(number);
            held.with(|bytes| assert!(bytes == pattern));
            if pattern.len() > 1 {
                assert!(held.take(1));
                held.with(|bytes| assert!(bytes == &pattern[1..]));
            }
            assert!(!held.take(pattern.len()));
        }
        // Every second one leaves, and others take their places.
        let mut number = 0;
        all.retain(|_| {
            number += 1;
            number % 2 == 0
        });
        all.extend((0..350).map(|number| Held::of(&pattern(number))));
        assert_eq!(slabs(), 2);
        drop(all);
        assert_eq!(slabs(), 0);
    }

    #[test]
    fn what_a_crowd_took_goes_back_to_the_system_though_things_between_live_on() {
        let (mut crowd, mut between) = (Vec::new(), Vec::new());
        let before = resident();
        for _ in 0..2000 {
            crowd.push(Held::of(&[1; 16 * 1024]));
            between.push(Box::new([2_u8; 200]));
        }
        let most = resident();
        assert!(most > before + (25 << 20), "{before} {most}");
        drop(crowd);
        let after = resident();
        // Other tests use memory meanwhile.
        assert!(after < most - (20 << 20), "{before} {most} {after}");
        assert_eq!(between.len(), 2000);
    }

    #[test]
    fn what_is_larger_than_a_place_is_kept_too() {
        let large = vec![7; 3 * PLACE];
        let mut held = [Held::of(&large), Held::from_vec(large.clone())];
        for held in &mut held {
            assert!(held.take(PLACE));
            held.with(|bytes| assert_eq!(bytes.len(), 2 * PLACE));
        }
    }

    #[test]
    fn slabs_stay_while_there_is_a_crowd() {
        let crowd: Vec<Held> = (0..=FEW).map(|_| Held::of(&[1])).collect();
        let mut crowd = crowd.into_iter().rev();
        drop(crowd.next());
        assert_eq!(slabs(), 1, "it may come back at once");
        drop(crowd.by_ref().take(FEW - FEWER - 1).collect::<Vec<_>>());
        assert_eq!(slabs(), 1);
        drop(crowd.next());
        assert_eq!(slabs(), 0);
    }
}
