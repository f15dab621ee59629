//! A registered descriptor: what is known of its readiness, and who waits for it.
//!
//! Owns the meaning of epoll's events. Invariant: a bit is set by an event, and cleared by the call that found nothing.

use std::cell::Cell;

use rustix::event::epoll::EventFlags;

use super::NOBODY;

/// Bits of a source's readiness.
pub(super) mod ready {
    /// Something may be read: bytes, the end, or an error.
    pub(in super::super) const READABLE: u8 = 1;
    /// Something may be written.
    pub(in super::super) const WRITABLE: u8 = 2;
    /// The peer has sent its last byte, and nothing stands between the reader and that byte.
    pub(in super::super) const ENDED: u8 = 4;
    /// The connection has failed.
    pub(in super::super) const FAILED: u8 = 8;
    /// An urgent byte has come, before which reads stop though there may be more (tcp(7)).
    pub(in super::super) const URGENT: u8 = 16;
}

/// A registered descriptor; shared by who owns that and the table in which events look it up.
pub(super) struct EventSource {
    pub(super) place: u32,
    generation: u32,
    /// Who waits for it.
    pub(super) task: Cell<u32>,
    ready: Cell<u8>,
}

impl EventSource {
    pub(super) fn new(place: u32, generation: u32) -> Self {
        Self {
            place,
            generation,
            task: Cell::new(NOBODY),
            ready: Cell::new(0),
        }
    }

    /// What its events are marked with: no other of the last 2^32 sources has the same.
    pub(super) fn mark(&self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.place)
    }

    pub(super) fn is(&self, bits: u8) -> bool {
        self.ready.get() & bits != 0
    }

    pub(super) fn set(&self, bits: u8) {
        self.ready.set(self.ready.get() | bits);
    }

    pub(super) fn clear(&self, bits: u8) {
        self.ready.set(self.ready.get() & !bits);
    }

    /// Takes down what an event says.
    pub(super) fn note(&self, flags: EventFlags) {
        self.set(readiness(flags));
    }
}

/// Where the source of this mark stands, if it still does.
pub(super) fn place_of(mark: u64) -> usize {
    usize::try_from(mark & u64::from(u32::MAX)).unwrap_or(usize::MAX)
}

/// What a socket's event means. A failed one is readable and writable, so that whoever waits finds the error. The end is
/// believed at once only where no urgent byte waits, since a read stops before that one.
fn readiness(flags: EventFlags) -> u8 {
    let mut bits = 0;
    let mut note = |wanted: EventFlags, means: u8| {
        if flags.intersects(wanted) {
            bits |= means;
        }
    };
    note(EventFlags::IN, ready::READABLE);
    note(EventFlags::OUT, ready::WRITABLE);
    note(EventFlags::HUP, ready::READABLE | ready::WRITABLE);
    note(
        EventFlags::ERR,
        ready::READABLE | ready::WRITABLE | ready::FAILED,
    );
    note(EventFlags::PRI, ready::READABLE | ready::URGENT);
    if flags.intersects(EventFlags::PRI) {
        note(EventFlags::RDHUP, ready::READABLE);
    } else {
        note(EventFlags::RDHUP, ready::READABLE | ready::ENDED);
    }
    bits
}
