//! Pins that connections of another process use.
//!
//! Owns the holds on them here. Knows no channel. Invariant: what is held does not expire.

use std::collections::HashMap;
use std::sync::Arc;

use crate::affinity::record::{PinChange, PinGroup, PinKey};
use crate::affinity::table::{ForeignHold, Imported};
use crate::handoff::WireError;
use crate::handoff::pins;
use crate::snapshot::Snapshot;

/// Holds on the pins that connections of the predecessor use, by the keys that the predecessor has for them.
#[derive(Default)]
pub(super) struct Holds(HashMap<(Arc<str>, PinKey), ForeignHold>);

impl Holds {
    /// Applies a packet of pins.
    pub(super) fn take_pins(&mut self, bytes: &[u8], snapshot: &Snapshot) -> Result<(), WireError> {
        pins::read(bytes, |group, change| self.apply(group, change, snapshot))
    }

    /// Releases all holds.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    fn apply(&mut self, group: &PinGroup, change: PinChange, snapshot: &Snapshot) {
        let Some(pins) = snapshot.group(&group.name) else {
            return;
        };
        let of = |key: PinKey| (group.name.clone(), key);
        match change {
            PinChange::Removed(key) => drop(self.0.remove(&of(key))),
            PinChange::Set(record) => {
                let of = of(record.key.clone());
                if record.usage.connections() == 0 {
                    self.0.remove(&of);
                } else if let Some(held) = self.0.get(&of) {
                    return held.follow(&record.backend);
                }
                // A pin that cannot be imported is made again when its client returns.
                if let Ok(Imported::Held(hold)) = pins.import(&record, &group.keys) {
                    self.0.insert(of, hold);
                }
            }
        }
    }
}
