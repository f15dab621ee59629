//! Pins that connections of another process use.
//!
//! Owns the holds on them in this process. Knows no channel. Invariant: a held pin does not expire.

use std::collections::HashMap;
use std::sync::Arc;

use crate::affinity::table::{ForeignHold, PinKey, Pins};
use crate::handoff::WireError;
use crate::handoff::pins::{self, PinUpdate};
use crate::snapshot::Snapshot;

/// Pins that connections of another process use, by their group and key.
#[derive(Default)]
pub(super) struct ForeignPins(HashMap<(Arc<str>, PinKey), ForeignHold>);

impl ForeignPins {
    /// Takes in a batch of updates.
    pub(super) fn update(&mut self, batch: &[u8], snapshot: &Snapshot) -> Result<(), WireError> {
        let held = &mut self.0;
        let table = |group: &str| snapshot.group(group).cloned();
        pins::read(batch, table, |pins, update| update_pin(held, pins, update))
    }

    /// Releases all of them.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

fn update_pin(
    held: &mut HashMap<(Arc<str>, PinKey), ForeignHold>,
    pins: &Arc<Pins>,
    update: PinUpdate,
) {
    match update {
        PinUpdate::LetGo(key) => drop(held.remove(&(pins.group().clone(), key))),
        PinUpdate::Stands(record) => {
            let key = (pins.group().clone(), record.key.clone());
            if record.in_use == 0 {
                held.remove(&key);
                pins.put(&record);
            } else if let Some(held) = held.get(&key) {
                held.follow(&record.backend);
            } else if let Some(hold) = pins.put(&record) {
                held.insert(key, hold);
            }
        }
    }
}
