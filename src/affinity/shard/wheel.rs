//! The order in which idle pins are checked for expiry.
//!
//! Owns 64 lists, each for a span of time in which pins expire. A pin is listed when it first becomes idle, and stays in its
//! list while connections use it and make it expire later: using a pin touches no list. Where a pin is taken out, its real
//! expiry is checked, and it is listed again if that is later. So a list is exact for pins that were not used meanwhile,
//! and early for all others.
//!
//! Lists are doubly linked, so that a pin that is cleared leaves its list at once.
//!
//! Invariants: a pin is in one list at most, and never in one of a span after that in which it expires; the spans of the
//! non-empty lists are within 64 from `hand`.

use std::time::Duration;

use super::cells::PinCells;
use super::{Moment, NONE};

const LISTS: usize = 64;
/// The same as a number of spans.
const SPANS: u64 = LISTS as u64;

/// The span of a list, counted from the table's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ListSpan(u64);

#[derive(Debug, Clone, Copy)]
struct IdleList {
    first: u32,
    last: u32,
}

const EMPTY: IdleList = IdleList {
    first: NONE,
    last: NONE,
};

/// The idle pins of one shard.
#[derive(Debug)]
pub(super) struct ExpiryWheel {
    /// Milliseconds of a span.
    width: u64,
    /// No list of an earlier span holds a pin.
    hand: ListSpan,
    /// A bit for each list that is not empty.
    occupied: u64,
    lists: [IdleList; LISTS],
}

impl ExpiryWheel {
    /// For pins that expire at most `ttl` after they are listed.
    pub(super) fn new(ttl: Duration) -> Self {
        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        Self {
            // From now to `now + ttl` are two spans less than there are lists, at most.
            width: ttl / (SPANS - 2) + 1,
            hand: ListSpan(0),
            occupied: 0,
            lists: [EMPTY; LISTS],
        }
    }

    /// The span of `moment`; all earlier ones have passed.
    pub(super) fn span(&self, moment: Moment) -> ListSpan {
        ListSpan(moment.0 / self.width)
    }

    /// Moves the hand to `now`, or to the first list that is not empty.
    pub(super) fn advance(&mut self, now: Moment) {
        let now = self.span(now);
        if self.hand < now {
            self.hand = self.oldest().map_or(now, |oldest| oldest.min(now));
        }
    }

    /// The earliest span whose list is not empty.
    pub(super) fn oldest(&self) -> Option<ListSpan> {
        let offset = u32::try_from(self.hand.0 % SPANS).unwrap_or(0);
        let ahead = self.occupied.rotate_right(offset).trailing_zeros();
        (self.occupied != 0).then_some(ListSpan(self.hand.0 + u64::from(ahead)))
    }

    /// Lists a pin by its expiry; earlier, if lists before the hand have not been emptied in time.
    pub(super) fn list<K>(&mut self, pins: &mut PinCells<K>, at: u32) {
        let number = self.number(pins[at].expires);
        self.occupied |= 1 << number;
        let list = &mut self.lists[number];
        let before = std::mem::replace(&mut list.last, at);
        match before {
            NONE => list.first = at,
            last => pins[last].next = at,
        }
        let pin = &mut pins[at];
        (pin.before, pin.next, pin.listed) = (before, NONE, true);
    }

    /// Removes the first pin of this span's list, and returns it.
    pub(super) fn take<K>(&mut self, pins: &mut PinCells<K>, span: ListSpan) -> Option<u32> {
        let number = list_number(span.0);
        let at = self.lists[number].first;
        if at == NONE {
            return None;
        }
        self.take_out(pins, number, at);
        Some(at)
    }

    /// Removes a pin from its list.
    pub(super) fn unlist<K>(&mut self, pins: &mut PinCells<K>, at: u32) {
        // A list has only its two ends, and a pin does not know its list.
        let number = match (pins[at].before, pins[at].next) {
            (NONE, _) => self.lists.iter().position(|list| list.first == at),
            (_, NONE) => self.lists.iter().position(|list| list.last == at),
            _ => Some(0),
        };
        self.take_out(pins, number.unwrap_or(0), at);
    }

    /// `number` is that of the list, if the pin is its first or its last.
    fn take_out<K>(&mut self, pins: &mut PinCells<K>, number: usize, at: u32) {
        let pin = &mut pins[at];
        pin.listed = false;
        let (before, next) = (pin.before, pin.next);
        let list = &mut self.lists[number];
        match before {
            NONE => list.first = next,
            before => pins[before].next = next,
        }
        match next {
            NONE => list.last = before,
            next => pins[next].before = before,
        }
        if before == NONE && next == NONE {
            self.occupied &= !(1 << number);
        }
    }

    fn number(&self, expires: Moment) -> usize {
        let expires = self.span(expires).0;
        list_number(expires.clamp(self.hand.0, self.hand.0 + SPANS - 1))
    }
}

/// The list of a span.
fn list_number(span: u64) -> usize {
    usize::try_from(span % SPANS).unwrap_or(0)
}
