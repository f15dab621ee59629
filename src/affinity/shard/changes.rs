//! What has changed since someone last asked, for whoever keeps pins elsewhere.
//!
//! Owns the lists of what changed. Invariants: a pin that stands is told once, however often it has changed; the lists are
//! bounded, by the places and what went, and say so when they had to forget.

use super::cells::PinCells;
use super::{Keyed, NONE, PinView, Shard};

/// Pins that went and nobody has asked about, at most: a megabyte a shard.
const MOST_GONE: usize = 64 * 1024;

/// Changes of one shard; nothing is recorded before someone asks for it.
#[derive(Debug)]
pub(super) struct ChangeLog<K> {
    recorded: bool,
    /// Places of pins that were made or changed, and of some that have gone since and are not marked any more.
    made: Vec<u32>,
    /// Keys whose pins went before their time, or before their last change was told.
    gone: Vec<K>,
    forgot: bool,
}

/// One change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardChange<K> {
    /// The pin of this key went.
    Gone(K),
    /// The pin was made, came into use or out of it, or leads elsewhere.
    Now(PinView<K>),
}

/// Whether all changes were told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Completeness {
    /// All.
    All,
    /// Some were forgotten, because nobody asked for long: only the whole table says what stands.
    Part,
}

impl<K> ChangeLog<K> {
    pub(super) fn none() -> Self {
        Self {
            recorded: false,
            made: Vec::new(),
            gone: Vec::new(),
            forgot: false,
        }
    }

    /// The pin at this place has changed.
    pub(super) fn note(&mut self, pins: &mut PinCells<K>, at: u32) {
        if self.recorded && !pins[at].changed {
            pins[at].changed = true;
            self.made.push(at);
        }
    }

    /// The pin at this place is removed. Whoever keeps it knows that it has expired, unless a change of it is still to be
    /// told: it may be known as in use, or to lead where it leads no more.
    pub(super) fn note_removed(&mut self, pins: &mut PinCells<K>, at: u32)
    where
        K: Copy,
    {
        let pin = &mut pins[at];
        if !pin.changed {
            return;
        }
        if self.gone.len() < MOST_GONE {
            self.gone.push(pin.key);
            // Its place tells nothing, until another pin there does.
            pin.changed = false;
        } else {
            self.forgot = true;
        }
    }
}

impl<K: Keyed> Shard<K> {
    /// Begins to record changes.
    pub fn record_changes(&mut self) {
        self.changes.recorded = true;
    }

    /// Tells what has changed since the last call: first what went, then what stands.
    pub fn take_changes(&mut self, mut each: impl FnMut(ShardChange<K>)) -> Completeness {
        for key in std::mem::take(&mut self.changes.gone) {
            each(ShardChange::Gone(key));
        }
        for at in std::mem::take(&mut self.changes.made) {
            let pin = &mut self.pins[at];
            if !std::mem::take(&mut pin.changed) {
                continue;
            }
            let (key, tag, leads) = (pin.key, pin.tag, pin.member != NONE);
            if leads {
                each(ShardChange::Now(self.view_at(at)));
            } else if self.find(&key, tag) == Some(at) {
                // It stands, for a connection holds it, and leads nowhere now. What a free place held last, nobody can be told any more.
                each(ShardChange::Gone(key));
            }
        }
        if std::mem::take(&mut self.changes.forgot) {
            Completeness::Part
        } else {
            Completeness::All
        }
    }
}
