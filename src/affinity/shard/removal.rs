//! How pins go: swept when their time has come, evicted where there is no room, forgotten when an administrator says so.
//!
//! Owns what is looked at, in which order and how much of it at once. Invariant: a pin is removed only while it is not in
//! use and stands in no list of the wheel.

use super::cells::PinCell;
use super::wheel::ListSpan;
use super::{Keyed, Moment, NONE, Origin, Shard};

/// Pins that an eviction looks at before it takes the best of them, if each was used since it was listed.
const CANDIDATES: usize = 8;

impl<K: Keyed> Shard<K> {
    /// Looks at no more than `most` pins whose time may have come, and removes those whose time has; says how many.
    /// A pin is looked at within a sixtieth of the time to live after it expires.
    pub fn sweep(&mut self, now: Moment, most: usize) -> usize {
        self.wheel.advance(now);
        let mut swept = 0;
        for _ in 0..most {
            let due = |&oldest: &ListSpan| oldest < self.wheel.span(now);
            let Some(oldest) = self.wheel.oldest().filter(due) else {
                break;
            };
            let Some(at) = self.wheel.take(&mut self.pins, oldest) else {
                break;
            };
            let pin = &self.pins[at];
            if pin.is_expired(now) {
                self.remove(at);
                swept += 1;
            } else if pin.in_use == 0 {
                self.wheel.list(&mut self.pins, at);
            }
        }
        swept
    }

    /// Removes an idle pin, as good as always the one whose last connection ended first; says whether there was one.
    ///
    /// The wheel's order is exact to a sixtieth of the time to live about pins that were not used since they were
    /// listed. Of the others a few are looked at and listed anew, and the one that has been idle longest gives way.
    pub fn evict(&mut self) -> bool {
        let mut best = NONE;
        let mut looks = 0;
        while looks < CANDIDATES {
            let Some(oldest) = self.wheel.oldest() else {
                break;
            };
            let Some(at) = self.wheel.take(&mut self.pins, oldest) else {
                break;
            };
            let PinCell {
                in_use, expires, ..
            } = self.pins[at];
            if in_use > 0 {
                // Paid for by the connection that took it into use; it is listed again when that ends.
                continue;
            }
            looks += 1;
            let known = best;
            if known == NONE || expires < self.pins[known].expires {
                best = at;
            }
            if known != NONE {
                let other = if best == at { known } else { at };
                self.wheel.list(&mut self.pins, other);
            }
            if self.wheel.span(expires) <= oldest {
                break;
            }
        }
        if best != NONE {
            self.remove_early(best);
        }
        best != NONE
    }

    /// Forgets a pin. Connections that hold it keep it, leading nowhere; it goes with the last of them.
    pub(super) fn forget(&mut self, at: u32) {
        if self.pins[at].in_use > 0 {
            self.lead(at, NONE);
            // Whatever answers next, it was not whoever said where this one led.
            self.pins[at].origin = Origin::Policy;
            return;
        }
        self.unlist(at);
        self.remove_early(at);
    }

    /// Removes a pin before its time, which nobody can know who keeps it elsewhere.
    fn remove_early(&mut self, at: u32) {
        self.changes.note(&mut self.pins, at);
        self.remove(at);
    }

    pub(super) fn unlist(&mut self, at: u32) {
        if self.pins[at].listed {
            self.wheel.unlist(&mut self.pins, at);
        }
    }

    /// Removes a pin that is not in use and not listed.
    pub(super) fn remove(&mut self, at: u32) {
        self.changes.note_removed(&mut self.pins, at);
        self.count_lead(at, NONE);
        let pin = &self.pins[at];
        if pin.key.share().is_some() {
            self.removed.push(pin.key);
        }
        self.index.remove(pin.tag, at);
        self.pins.free(at);
    }

    /// The keys of pins that were removed since the last call, where clients have shares of the table.
    pub fn take_removed(&mut self) -> Vec<K> {
        std::mem::take(&mut self.removed)
    }
}
