//! Pins that connections of another process use.
//!
//! Owns the holds on them in this process. Must not know a channel. Invariant: a held pin does not expire.

use std::collections::HashMap;
use std::sync::Arc;

use crate::affinity::record::{PinChange, PinGroup, PinKey};
use crate::affinity::table::{ForeignHold, Imported};
use crate::handoff::WireError;
use crate::handoff::pins;
use crate::snapshot::Snapshot;

/// Pins that connections of another process use, by their group and the key that the other process has for them.
#[derive(Default)]
pub(super) struct ForeignPins(HashMap<(Arc<str>, PinKey), ForeignHold>);

impl ForeignPins {
    /// Applies a batch of changes.
    pub(super) fn update(&mut self, batch: &[u8], snapshot: &Snapshot) -> Result<(), WireError> {
        pins::read(batch, |group, change| {
            self.apply_pin(group, change, snapshot);
        })
    }

    /// Releases all of them.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    fn apply_pin(&mut self, group: &PinGroup, change: PinChange, snapshot: &Snapshot) {
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
