//! The changes of a shard since they were last taken.
//!
//! Owns the lists of changes. Invariants: a pin is reported once, however often it has changed; the lists are limited, and
//! report that changes were lost when the limit was reached.

use super::cells::PinCells;
use super::{Keyed, NONE, PinView, Shard};

/// The most removed pins that are recorded: a megabyte a shard.
const MOST_REMOVED: usize = 64 * 1024;

/// Changes of one shard; nothing is recorded before [`Shard::record_changes`].
#[derive(Debug)]
pub(super) struct ChangeLog<K> {
    recorded: bool,
    /// Cells of pins that were created or changed, and of some that were removed since and are not marked any more.
    changed: Vec<u32>,
    /// Keys of pins that were removed before they expired, or before their last change was reported.
    removed: Vec<K>,
    overflowed: bool,
}

/// One change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardChange<K> {
    /// The pin of this key was removed.
    Removed(K),
    /// The pin was created, came into use, became idle, or has another backend.
    Set(PinView<K>),
}

/// Whether all changes were reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Completeness {
    /// All of them.
    All,
    /// Some were lost because they were not taken for long. Only an export of the whole table is complete.
    Part,
}

impl<K> ChangeLog<K> {
    pub(super) fn none() -> Self {
        Self {
            recorded: false,
            changed: Vec::new(),
            removed: Vec::new(),
            overflowed: false,
        }
    }

    /// Records that the pin in this cell has changed.
    pub(super) fn note(&mut self, pins: &mut PinCells<K>, at: u32) {
        if self.recorded && !pins[at].changed {
            pins[at].changed = true;
            self.changed.push(at);
        }
    }

    /// Records that the pin in this cell is removed. An expiry needs no record, since the reader knows the time to live; but
    /// where a change has not been reported yet, the reader may have the pin as in use or with another backend.
    pub(super) fn note_removed(&mut self, pins: &mut PinCells<K>, at: u32)
    where
        K: Copy,
    {
        let pin = &mut pins[at];
        if !pin.changed {
            return;
        }
        if self.removed.len() < MOST_REMOVED {
            self.removed.push(pin.key);
            // Its cell reports nothing until another pin there changes.
            pin.changed = false;
        } else {
            self.overflowed = true;
        }
    }
}

impl<K: Keyed> Shard<K> {
    /// Starts to record changes.
    pub fn record_changes(&mut self) {
        self.changes.recorded = true;
    }

    /// Reports what has changed since the last call: first removals, then pins.
    pub fn take_changes(&mut self, mut each: impl FnMut(ShardChange<K>)) -> Completeness {
        for key in std::mem::take(&mut self.changes.removed) {
            each(ShardChange::Removed(key));
        }
        for at in std::mem::take(&mut self.changes.changed) {
            let pin = &mut self.pins[at];
            if !std::mem::take(&mut pin.changed) {
                continue;
            }
            let (key, tag, is_pinned) = (pin.key, pin.tag, pin.member != NONE);
            if is_pinned {
                each(ShardChange::Set(self.view_at(at)));
            } else if self.find(&key, tag) == Some(at) {
                // A connection holds it, but it has no backend now. The last pin of a free cell has been reported.
                each(ShardChange::Removed(key));
            }
        }
        if std::mem::take(&mut self.changes.overflowed) {
            Completeness::Part
        } else {
            Completeness::All
        }
    }
}
