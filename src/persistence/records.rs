//! What the store keeps, one record after another.
//!
//! Owns the records and their bytes. Knows no file and no table. Invariant: what is written reads as what it was; bytes
//! that nothing writes are malformed.
//!
//! Texts and groups get numbers in the order in which they come, from 0, so that a pin names them by a byte or two.

use super::bytes::{BytesReader, MalformedBytes, put_number, put_text};

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoreRecord<'a> {
    /// Numbers of texts and groups begin anew.
    Anew,
    /// A text gets the next number.
    Text(&'a str),
    /// A group gets the next number.
    Group(Group),
    /// A pin of a group stands like this from now on.
    Set(u32, RecordKey, RecordPin),
    /// A pin of a group is gone.
    Gone(u32, RecordKey),
    /// The administrator wants this of a backend.
    State(RecordState),
    /// What was before this is a whole picture; what follows are changes of it.
    Whole,
}

/// A group of pools, and what its pins are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Group {
    /// Its name's number.
    pub(super) name: u32,
    /// What is in a client's key, see [`super::encoder::Shape`].
    pub(super) keys: u8,
    /// Bits of an IPv4 source that count.
    pub(super) ipv4: u8,
    /// The same of IPv6.
    pub(super) ipv6: u8,
}

/// Whom a pin is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum RecordKey {
    /// A client by its source and the number of a configured name, each as far as it counts.
    Client([u8; 16], Option<u32>),
    /// A TLS session by its keyed hash, and a hash of the client that last used it.
    Session([u8; 16], u64),
}

/// Where a pin leads, and its times, counted from the stamp of its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordPin {
    /// The backend's name's number.
    pub(super) backend: u32,
    /// [`crate::affinity::shard::Origin`] as a number.
    pub(super) origin: u8,
    /// Milliseconds since it was made.
    pub(super) age: u64,
    /// Milliseconds until it expires, 49 days at most; `None` while it is in use.
    pub(super) left: Option<u32>,
}

/// An administrative state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordState {
    /// The pool's name's number.
    pub(super) pool: u32,
    /// The backend's name's number.
    pub(super) backend: u32,
    /// [`crate::types::backend_state::AdminState`] as a number.
    pub(super) state: u8,
    /// Milliseconds until its deadline, where it has one; 0 where that is over.
    pub(super) left: Option<u64>,
}

const ANEW: u8 = 0;
const TEXT: u8 = 1;
const GROUP: u8 = 2;
const SET_CLIENT: u8 = 3;
const SET_SESSION: u8 = 4;
const GONE_CLIENT: u8 = 5;
const GONE_SESSION: u8 = 6;
const STATE: u8 = 7;
const WHOLE: u8 = 8;

impl<'a> StoreRecord<'a> {
    /// Adds its bytes.
    pub(super) fn put(&self, into: &mut Vec<u8>) {
        match self {
            Self::Anew => into.push(ANEW),
            Self::Text(text) => {
                into.push(TEXT);
                put_text(into, text);
            }
            Self::Group(group) => {
                into.push(GROUP);
                put_number(into, group.name.into());
                into.extend([group.keys, group.ipv4, group.ipv6]);
            }
            Self::Set(group, key, pin) => {
                put_key(into, [SET_CLIENT, SET_SESSION], *group, key);
                put_number(into, pin.backend.into());
                into.push(pin.origin);
                put_number(into, pin.age);
                put_optional(into, pin.left.map(u64::from));
            }
            Self::Gone(group, key) => put_key(into, [GONE_CLIENT, GONE_SESSION], *group, key),
            Self::State(state) => {
                into.push(STATE);
                put_number(into, state.pool.into());
                put_number(into, state.backend.into());
                into.push(state.state);
                put_optional(into, state.left);
            }
            Self::Whole => into.push(WHOLE),
        }
    }

    /// Reads the next one.
    pub(super) fn read(from: &mut BytesReader<'a>) -> Result<Self, MalformedBytes> {
        Ok(match from.byte()? {
            ANEW => Self::Anew,
            TEXT => Self::Text(from.text()?),
            GROUP => Self::Group(Group {
                name: from.small()?,
                keys: from.byte()?,
                ipv4: from.byte()?,
                ipv6: from.byte()?,
            }),
            SET_CLIENT => Self::Set(from.small()?, client(from)?, pin(from)?),
            SET_SESSION => Self::Set(from.small()?, session(from)?, pin(from)?),
            GONE_CLIENT => Self::Gone(from.small()?, client(from)?),
            GONE_SESSION => Self::Gone(from.small()?, session(from)?),
            STATE => Self::State(RecordState {
                pool: from.small()?,
                backend: from.small()?,
                state: from.byte()?,
                left: optional(from)?,
            }),
            WHOLE => Self::Whole,
            _ => return Err(MalformedBytes),
        })
    }
}

fn put_key(into: &mut Vec<u8>, [of_client, of_session]: [u8; 2], group: u32, key: &RecordKey) {
    into.push(match key {
        RecordKey::Client(..) => of_client,
        RecordKey::Session(..) => of_session,
    });
    put_number(into, group.into());
    match key {
        RecordKey::Client(source, name) => {
            into.extend(source);
            put_optional(into, name.map(u64::from));
        }
        RecordKey::Session(hash, client) => {
            into.extend(hash);
            into.extend(client.to_le_bytes());
        }
    }
}

fn client(from: &mut BytesReader<'_>) -> Result<RecordKey, MalformedBytes> {
    let source = from.array()?;
    let name = optional(from)?.map(u32::try_from).transpose();
    Ok(RecordKey::Client(source, name.map_err(|_| MalformedBytes)?))
}

fn session(from: &mut BytesReader<'_>) -> Result<RecordKey, MalformedBytes> {
    Ok(RecordKey::Session(from.array()?, from.fixed()?))
}

fn pin(from: &mut BytesReader<'_>) -> Result<RecordPin, MalformedBytes> {
    Ok(RecordPin {
        backend: from.small()?,
        origin: from.byte()?,
        age: from.number()?,
        left: optional(from)?
            .map(u32::try_from)
            .transpose()
            .map_err(|_| MalformedBytes)?,
    })
}

/// 0 for none, else the number and one; the largest number there is counts as the one before it.
fn put_optional(into: &mut Vec<u8>, number: Option<u64>) {
    put_number(into, number.map_or(0, |number| number.saturating_add(1)));
}

fn optional(from: &mut BytesReader<'_>) -> Result<Option<u64>, MalformedBytes> {
    from.number().map(|number| number.checked_sub(1))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in crate::persistence) fn any_key() -> impl Strategy<Value = RecordKey> {
        prop_oneof![
            (any::<[u8; 16]>(), any::<Option<u32>>()).prop_map(|(a, b)| RecordKey::Client(a, b)),
            (any::<[u8; 16]>(), any::<u64>()).prop_map(|(a, b)| RecordKey::Session(a, b)),
        ]
    }

    fn any_record() -> impl Strategy<Value = (String, StoreRecord<'static>)> {
        let pin = (
            any::<u32>(),
            any::<u8>(),
            any::<u64>(),
            any::<Option<u32>>(),
        )
            .prop_map(|(backend, origin, age, left)| RecordPin {
                backend,
                origin,
                age,
                left,
            });
        let left = prop::option::of(0..u64::MAX);
        prop_oneof![
            Just(StoreRecord::Anew),
            Just(StoreRecord::Text("")),
            (any::<u32>(), any::<[u8; 3]>()).prop_map(|(name, [keys, ipv4, ipv6])| {
                StoreRecord::Group(Group {
                    name,
                    keys,
                    ipv4,
                    ipv6,
                })
            }),
            (any::<u32>(), any_key(), pin)
                .prop_map(|(group, key, pin)| StoreRecord::Set(group, key, pin)),
            (any::<u32>(), any_key()).prop_map(|(group, key)| StoreRecord::Gone(group, key)),
            (any::<u32>(), any::<u32>(), any::<u8>(), left).prop_map(
                |(pool, backend, state, left)| {
                    StoreRecord::State(RecordState {
                        pool,
                        backend,
                        state,
                        left,
                    })
                }
            ),
            Just(StoreRecord::Whole),
        ]
        .prop_flat_map(|record| (any::<String>(), Just(record)))
    }

    proptest! {
        #[test]
        fn records_read_as_they_were_written(records in prop::collection::vec(any_record(), 0..20)) {
            let records: Vec<StoreRecord<'_>> = records
                .iter()
                .map(|(text, record)| {
                    if matches!(record, StoreRecord::Text(_)) {
                        StoreRecord::Text(text)
                    } else {
                        *record
                    }
                })
                .collect();
            let mut bytes = Vec::new();
            for record in &records {
                record.put(&mut bytes);
            }
            let mut reader = BytesReader(&bytes);
            for record in &records {
                prop_assert_eq!(&StoreRecord::read(&mut reader).unwrap(), record);
            }
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn any_bytes_are_read_or_malformed(bytes in any::<Vec<u8>>()) {
            let mut reader = BytesReader(&bytes);
            while !reader.is_empty() && StoreRecord::read(&mut reader).is_ok() {}
        }
    }
}
