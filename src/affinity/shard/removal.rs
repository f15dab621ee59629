//! How pins are removed: swept when they have expired, evicted where there is no room, cleared by an administrator.
//!
//! Owns which pins are checked, in which order and how many at once. Invariant: a pin is removed only while it is not in use
//! and not in a list of the wheel.

use super::cells::PinCell;
use super::wheel::ListSpan;
use super::{Keyed, Moment, NONE, Origin, Shard};

/// Pins that an eviction compares, if each was used since it was listed.
const CANDIDATES: usize = 8;

impl<K: Keyed> Shard<K> {
    /// Checks at most `most` pins that may have expired, and removes those that have. Returns how many. A pin is checked
    /// within a sixtieth of the time to live after it expires.
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

    /// Removes an idle pin, almost always the one whose last connection ended first. Returns whether there was one.
    ///
    /// The wheel's order is exact to a sixtieth of the time to live for pins that were not used since they were listed.
    /// Of the others a few are checked and listed again, and the one that has been idle longest is evicted.
    pub fn evict(&mut self) -> bool {
        let mut best = NONE;
        let mut checked = 0;
        while checked < CANDIDATES {
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
                // It is listed again when its last connection ends.
                continue;
            }
            checked += 1;
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

    /// Clears a pin. If connections hold it, it loses its backend and is removed with the last of them.
    pub(super) fn clear(&mut self, at: u32) {
        if self.pins[at].in_use > 0 {
            self.set_member(at, NONE);
            // The backend that answers next was not chosen by the previous origin.
            self.pins[at].origin = Origin::Policy;
            return;
        }
        self.unlist(at);
        self.remove_early(at);
    }

    /// Removes a pin before it expires, which must be reported as a change.
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
        self.set_member_silently(at, NONE);
        let pin = &self.pins[at];
        if pin.key.share().is_some() {
            self.removed.push(pin.key);
        }
        self.index.remove(pin.tag, at);
        self.pins.free(at);
    }

    /// The keys of pins that were removed since the last call, where clients have a quota.
    pub fn take_removed(&mut self) -> Vec<K> {
        std::mem::take(&mut self.removed)
    }
}
