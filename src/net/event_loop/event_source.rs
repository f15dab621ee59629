//! A registered descriptor: its readiness, and the task that waits for it.
//!
//! Owns the meaning of epoll's events. Makes no system call. Invariant: a bit is set by an event, and cleared by the call that
//! found nothing.

use std::cell::Cell;

use rustix::event::epoll::EventFlags;

use super::NO_TASK;

/// Readiness bits.
pub(super) mod ready {
    /// A read may return bytes, the end of the stream or an error.
    pub(in super::super) const READABLE: u8 = 1;
    /// A write may succeed.
    pub(in super::super) const WRITABLE: u8 = 2;
    /// The peer has sent its last byte, and no urgent mark comes before it.
    pub(in super::super) const ENDED: u8 = 4;
    /// The connection has failed.
    pub(in super::super) const FAILED: u8 = 8;
    /// An urgent byte has arrived; a read stops before it although more may follow (tcp(7)).
    pub(in super::super) const URGENT: u8 = 16;
}

/// A registered descriptor; shared by its owner and the table that events are looked up in.
pub(super) struct EventSource {
    /// In that table.
    pub(super) index: u32,
    generation: u32,
    /// The task that waits for it.
    pub(super) task: Cell<u32>,
    ready: Cell<u8>,
}

impl EventSource {
    pub(super) fn new(index: u32, generation: u32) -> Self {
        Self {
            index,
            generation,
            task: Cell::new(NO_TASK),
            ready: Cell::new(0),
        }
    }

    /// The token of its events; none of the last 2^32 sources has the same.
    pub(super) fn token(&self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
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

    /// Records an event.
    pub(super) fn record(&self, flags: EventFlags) {
        self.set(readiness(flags));
    }
}

/// The index of the source with this token, if it still exists.
pub(super) fn index_of(token: u64) -> usize {
    usize::try_from(token & u64::from(u32::MAX)).unwrap_or(usize::MAX)
}

/// The readiness bits of an event. A failed socket is also readable and writable, so that a waiting task finds the error. The
/// end of the stream counts at once only if no urgent byte is pending, since a read stops before that.
fn readiness(flags: EventFlags) -> u8 {
    let mut bits = 0;
    let mut map = |event: EventFlags, readiness: u8| {
        if flags.intersects(event) {
            bits |= readiness;
        }
    };
    map(EventFlags::IN, ready::READABLE);
    map(EventFlags::OUT, ready::WRITABLE);
    map(EventFlags::HUP, ready::READABLE | ready::WRITABLE);
    map(
        EventFlags::ERR,
        ready::READABLE | ready::WRITABLE | ready::FAILED,
    );
    map(EventFlags::PRI, ready::READABLE | ready::URGENT);
    if flags.intersects(EventFlags::PRI) {
        map(EventFlags::RDHUP, ready::READABLE);
    } else {
        map(EventFlags::RDHUP, ready::READABLE | ready::ENDED);
    }
    bits
}
