//! The records of the store's file: those of pins, and two of its own.
//!
//! Owns the bytes of administrative states and of the end of a checkpoint. Must not know files or tables. Invariant: what is
//! written reads as the same record; bytes that nothing writes are malformed.
//!
//! | tag | record | fields |
//! |---|---|---|
//! | 0 to 6 | pins | see [`crate::affinity::record::codec`] |
//! | 7 | administrative state | text numbers of pool and backend, one byte of the state, optional milliseconds until its deadline |
//! | 8 | end of the checkpoint | none: what follows are changes |

use std::sync::Arc;

use crate::affinity::record::PinChange;
use crate::affinity::record::bytes::{ByteReader, Malformed, put_number, put_optional};
use crate::affinity::record::codec::{FIRST_FREE_TAG, PinDecoder, PinEncoder};
use crate::types::backend_state::AdminState;

const STATE: u8 = FIRST_FREE_TAG;
const CHECKPOINT_END: u8 = FIRST_FREE_TAG + 1;

/// One record as it is read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StoreRecord {
    /// A number is defined.
    Definition,
    /// A change of a pin, with the index of its group in [`PinDecoder::groups`].
    Pin(usize, PinChange),
    /// An administrative state.
    State(StateRecord),
    /// The records so far are a whole checkpoint; what follows are changes of it.
    CheckpointEnd,
}

/// The administrative state of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StateRecord {
    /// The pool.
    pub(super) pool: Arc<str>,
    /// The backend.
    pub(super) backend: Arc<str>,
    /// Its state.
    pub(super) state: AdminState,
    /// Milliseconds until its deadline, where it has one; 0 where that has passed.
    pub(super) left: Option<u64>,
}

impl StateRecord {
    /// Appends the record.
    pub(super) fn put(&self, pins: &mut PinEncoder, into: &mut Vec<u8>) {
        let (pool, backend) = (pins.text(into, &self.pool), pins.text(into, &self.backend));
        into.push(STATE);
        put_number(into, pool.into());
        put_number(into, backend.into());
        into.push(self.state as u8);
        put_optional(into, self.left);
    }

    fn read(pins: &PinDecoder, from: &mut ByteReader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            pool: pins.text(from)?,
            backend: pins.text(from)?,
            state: AdminState::from_u8(from.byte()?),
            left: from.optional()?,
        })
    }
}

/// Appends the record [`StoreRecord::CheckpointEnd`].
pub(super) fn put_checkpoint_end(into: &mut Vec<u8>) {
    into.push(CHECKPOINT_END);
}

impl StoreRecord {
    /// Reads the next record. After an error the decoder must not be used again.
    pub(super) fn read(
        pins: &mut PinDecoder,
        from: &mut ByteReader<'_>,
    ) -> Result<Self, Malformed> {
        match from.peek() {
            Some(STATE) => {
                from.byte()?;
                StateRecord::read(pins, from).map(Self::State)
            }
            Some(CHECKPOINT_END) => {
                from.byte()?;
                Ok(Self::CheckpointEnd)
            }
            Some(_) | None => Ok(match pins.read(from)? {
                Some((group, change)) => Self::Pin(group, change),
                None => Self::Definition,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_read_as_they_were_written() {
        let states = [(AdminState::Ready, None), (AdminState::Maintain, Some(0))];
        let states = states.map(|(state, left)| StateRecord {
            pool: "web".into(),
            backend: "fe01.contoso.local".into(),
            state,
            left,
        });
        let (mut encoder, mut bytes) = (PinEncoder::default(), Vec::new());
        for state in &states {
            state.put(&mut encoder, &mut bytes);
        }
        put_checkpoint_end(&mut bytes);
        let (mut decoder, mut reader) = (PinDecoder::default(), ByteReader(&bytes));
        let mut read = Vec::new();
        while !reader.is_empty() {
            let record = StoreRecord::read(&mut decoder, &mut reader).unwrap();
            if record != StoreRecord::Definition {
                read.push(record);
            }
        }
        let [first, second] = states.map(StoreRecord::State);
        assert_eq!(read, [first, second, StoreRecord::CheckpointEnd]);
    }

    #[test]
    fn an_unknown_tag_is_malformed() {
        for tag in [9, 10, 255] {
            let read = StoreRecord::read(&mut PinDecoder::default(), &mut ByteReader(&[tag]));
            assert_eq!(read, Err(Malformed));
        }
    }
}
