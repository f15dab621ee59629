//! Pins that connections of another process use.
//!
//! Owns the holds on them here. Knows no channel. Invariant: what is held does not expire.

use std::collections::HashMap;
use std::sync::Arc;

use crate::affinity::table::{ForeignHold, PinKey, Pins};
use crate::handoff::WireError;
use crate::handoff::pins::{self, PinUpdate};
use crate::snapshot::Snapshot;

/// Pins that the old process's connections use.
#[derive(Default)]
pub(super) struct Holds(HashMap<(Arc<str>, PinKey), ForeignHold>);

impl Holds {
    /// Takes in what is said of pins.
    pub(super) fn take_pins(&mut self, bytes: &[u8], snapshot: &Snapshot) -> Result<(), WireError> {
        let held = &mut self.0;
        let table = |group: &str| snapshot.group(group).cloned();
        pins::read(bytes, table, |pins, told| take_pin(held, pins, told))
    }

    /// Nothing is in use.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

fn take_pin(
    held: &mut HashMap<(Arc<str>, PinKey), ForeignHold>,
    pins: &Arc<Pins>,
    told: PinUpdate,
) {
    match told {
        PinUpdate::LetGo(key) => drop(held.remove(&(pins.group().clone(), key))),
        PinUpdate::Stands(kept) => {
            let of = (pins.group().clone(), kept.key.clone());
            if kept.in_use == 0 {
                held.remove(&of);
                pins.put(&kept);
            } else if let Some(held) = held.get(&of) {
                held.follow(&kept.backend);
            } else if let Some(new) = pins.put(&kept) {
                held.insert(of, new);
            }
        }
    }
}
