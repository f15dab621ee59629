//! Pins from outside: of a store, of another process, or of a table with other keys.
//!
//! Owns how an imported pin and the pin that is already here are merged. Invariant: an import never changes the backend of
//! a pin that connections of this process use.

use super::{Keyed, Moment, NONE, PinHandle, PinView, Shard, Tag, after};

/// The result of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportOutcome {
    /// The pin is new, and idle.
    Added,
    /// There was a pin of this key already: it was idle and has been replaced, or is in use and stays as it is.
    Merged,
    /// Connections elsewhere hold the pin, and so does this handle until [`Shard::release`].
    Held(PinHandle),
    /// The pin has expired.
    Expired,
    /// Every pin of the full table is in use.
    Full,
}

impl<K: Keyed> Shard<K> {
    /// Imports a pin that is idle, or that connections elsewhere hold (`pin.in_use`). It expires no later than the time to
    /// live of this table allows.
    pub fn import(
        &mut self,
        (pin, tag): (&PinView<K>, Tag),
        now: Moment,
        room: impl FnOnce(&mut Self) -> bool,
    ) -> ImportOutcome {
        let latest = after(now, self.ttl);
        let expires = pin.expires.unwrap_or(latest).min(latest);
        let held = pin.in_use > 0;
        if !held && expires <= now {
            return ImportOutcome::Expired;
        }
        let created = pin.created.min(now);
        let (at, outcome) = match self.find_live(&pin.key, tag, now) {
            Some(at) => (at, ImportOutcome::Merged),
            None if room(self) => (
                self.insert((pin.key, tag), created, pin.origin),
                ImportOutcome::Added,
            ),
            None => return ImportOutcome::Full,
        };
        let used = self.pins[at].in_use > 0;
        if !used || self.pins[at].member == NONE {
            self.set_member(at, pin.member.0);
            let known = &mut self.pins[at];
            (known.created, known.origin) = (created.seconds(), pin.origin);
        }
        if held {
            return ImportOutcome::Held(self.hold(at));
        }
        if !used {
            self.keep_idle(at, expires, now);
        }
        outcome
    }
}
