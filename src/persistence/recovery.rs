//! From frames to what the file holds.
//!
//! Owns the checkpoint and the changes that the batches add up to. Must not know files, clocks or tables. Invariant: a batch
//! counts whole or not at all, and in the order of the file; of one key the last record counts.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::clock::Stamp;
use super::records::{StateRecord, StoreRecord};
use crate::affinity::record::bytes::{ByteReader, Malformed};
use crate::affinity::record::codec::PinDecoder;
use crate::affinity::record::{PinChange, PinGroup, PinKey, PinRecord};

/// What a file holds.
#[derive(Default)]
pub(super) struct Contents {
    decoder: PinDecoder,
    stamps: Vec<Stamp>,
    /// The pins of the checkpoint; in a list and not in a map, for there may be a million of them.
    checkpoint: Vec<StoredPin>,
    /// What became of pins since the checkpoint, by the index of the group and by key.
    changes: Vec<HashMap<PinKey, Option<StoredPin>>>,
    states: BTreeMap<(Arc<str>, Arc<str>), (StateRecord, usize)>,
    last: Option<Stamp>,
    is_complete: bool,
}

/// A pin of the file.
struct StoredPin {
    /// The index of its group.
    group: usize,
    record: PinRecord,
    /// The index of the stamp that its times are relative to.
    stamp: usize,
}

impl Contents {
    /// Applies one batch.
    ///
    /// # Errors
    ///
    /// When it is malformed; then nothing of it counts, and no further batch may be applied.
    pub(super) fn apply(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        let mut reader = ByteReader(payload);
        let stamp = Stamp::read(&mut reader)?;
        let mut records = Vec::new();
        let mut is_complete = self.is_complete;
        while !reader.is_empty() {
            let record = StoreRecord::read(&mut self.decoder, &mut reader)?;
            match record {
                StoreRecord::Definition => continue,
                // A checkpoint removes nothing.
                StoreRecord::Pin(_, PinChange::Removed(_)) if !is_complete => {
                    return Err(Malformed);
                }
                StoreRecord::CheckpointEnd if is_complete => return Err(Malformed),
                StoreRecord::CheckpointEnd => is_complete = true,
                StoreRecord::Pin(..) | StoreRecord::State(_) => {}
            }
            records.push(record);
        }
        if !records.is_empty() && self.stamps.last() != Some(&stamp) {
            self.stamps.push(stamp);
        }
        self.last = Some(stamp);
        let stamp = self.stamps.len().saturating_sub(1);
        for record in records {
            self.apply_record(record, stamp);
        }
        Ok(())
    }

    fn apply_record(&mut self, record: StoreRecord, stamp: usize) {
        match record {
            StoreRecord::Definition => {}
            StoreRecord::Pin(group, PinChange::Set(record)) => {
                let key = self.is_complete.then(|| record.key.clone());
                let pin = StoredPin {
                    group,
                    record,
                    stamp,
                };
                match key {
                    Some(key) => self.change(group, key, Some(pin)),
                    None => self.checkpoint.push(pin),
                }
            }
            StoreRecord::Pin(group, PinChange::Removed(key)) => self.change(group, key, None),
            StoreRecord::State(state) => {
                let of = (state.pool.clone(), state.backend.clone());
                self.states.insert(of, (state, stamp));
            }
            StoreRecord::CheckpointEnd => self.is_complete = true,
        }
    }

    fn change(&mut self, group: usize, key: PinKey, pin: Option<StoredPin>) {
        if self.changes.len() <= group {
            self.changes.resize_with(group + 1, HashMap::new);
        }
        self.changes[group].insert(key, pin);
    }

    /// Whether there is a whole checkpoint.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// When the last batch was written.
    pub(super) fn last(&self) -> Option<Stamp> {
        self.last
    }

    /// The groups of the pins.
    pub(super) fn groups(&self) -> &[PinGroup] {
        self.decoder.groups()
    }

    /// Every pin with the index of its group and the moment that its times are relative to, in no order.
    pub(super) fn pins(&self) -> impl Iterator<Item = (usize, &PinRecord, &Stamp)> {
        let is_unchanged = |pin: &&StoredPin| {
            let changes = self.changes.get(pin.group);
            changes.is_none_or(|changes| !changes.contains_key(&pin.record.key))
        };
        let unchanged = self.checkpoint.iter().filter(is_unchanged);
        let changed = self.changes.iter().flat_map(HashMap::values).flatten();
        let all = unchanged.chain(changed);
        all.map(|pin| (pin.group, &pin.record, &self.stamps[pin.stamp]))
    }

    /// Every administrative state with the moment that its deadline is relative to.
    pub(super) fn states(&self) -> impl Iterator<Item = (&StateRecord, &Stamp)> {
        let stamp = |index: usize| &self.stamps[index];
        self.states
            .values()
            .map(move |(state, index)| (state, stamp(*index)))
    }
}
