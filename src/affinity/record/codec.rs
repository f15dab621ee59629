//! The binary form of pins, in the store's file and in the handoff.
//!
//! Owns the bytes of a change and the numbers that stand for texts and groups in one stream. Must not know files, sockets,
//! tables or clocks. Invariants: what was encoded decodes to the same; any other bytes are [`Malformed`], and never a
//! panic; a decoder allocates no more than a constant factor of its input.
//!
//! A stream is a sequence of records. Each starts with a tag; numbers are LEB128 ([`super::bytes`]).
//!
//! | tag | record | fields |
//! |---|---|---|
//! | 0 | restart | none: the numbers of texts and groups start again at 0 |
//! | 1 | text | its length and its bytes; it gets the next number |
//! | 2 | group | text number, three bytes of the [`KeyScheme`]; it gets the next number |
//! | 3 | pin of a client | group number, 16 bytes of source, optional text number of the name, *pin* |
//! | 4 | pin of a TLS session | group number, 16 bytes of hash, 8 bytes of client, *pin* |
//! | 5 | removed pin of a client | as 3, without *pin* |
//! | 6 | removed pin of a TLS session | as 4, without *pin* |
//!
//! *pin* is: text number of the backend, one byte of [`Origin`], age in milliseconds, optional milliseconds until it expires
//! (none while it is in use). An optional number is 0 for none, else the number plus one. Other tags are the caller's: the
//! store adds records of its own to the stream.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::bytes::{ByteReader, Malformed, put_number, put_optional, put_text};
use super::{KeyScheme, PinChange, PinGroup, PinKey, PinRecord, PinUsage};
use crate::affinity::shard::Origin;

const RESTART: u8 = 0;
const TEXT: u8 = 1;
const GROUP: u8 = 2;
const SET_CLIENT: u8 = 3;
const SET_SESSION: u8 = 4;
const REMOVED_CLIENT: u8 = 5;
const REMOVED_SESSION: u8 = 6;
/// Tags from here on are free for the caller.
pub const FIRST_FREE_TAG: u8 = 7;

/// The longest text in bytes; a longer one is malformed. Names in the configuration are far shorter.
pub const LONGEST_TEXT: usize = 16 << 10;

/// Encodes the changes of one stream.
#[derive(Debug, Default)]
pub struct PinEncoder {
    started: bool,
    texts: HashMap<Arc<str>, u32>,
    groups: HashMap<PinGroup, u32>,
}

impl PinEncoder {
    /// The number of a group. Appends the definition if the group is new.
    pub fn group(&mut self, into: &mut Vec<u8>, group: &PinGroup) -> u32 {
        if let Some(&number) = self.groups.get(group) {
            return number;
        }
        let name = self.text(into, &group.name);
        into.push(GROUP);
        put_number(into, name.into());
        into.extend(group.keys.to_bytes());
        let number = next_number(self.groups.len());
        self.groups.insert(group.clone(), number);
        number
    }

    /// The number of a text. Appends the definition if the text is new.
    pub fn text(&mut self, into: &mut Vec<u8>, text: &Arc<str>) -> u32 {
        if let Some(&number) = self.texts.get(text) {
            return number;
        }
        if !std::mem::replace(&mut self.started, true) {
            into.push(RESTART);
        }
        debug_assert!(text.len() <= LONGEST_TEXT, "names are bounded");
        into.push(TEXT);
        put_text(into, text);
        let number = next_number(self.texts.len());
        self.texts.insert(text.clone(), number);
        number
    }

    /// Appends a change of a pin of the group with this number.
    pub fn change(&mut self, into: &mut Vec<u8>, group: u32, change: &PinChange) {
        match change {
            PinChange::Set(record) => self.set(into, group, record),
            PinChange::Removed(key) => {
                self.key(into, [REMOVED_CLIENT, REMOVED_SESSION], group, key);
            }
        }
    }

    /// Appends a pin of the group with this number. The number of its connections is not encoded.
    pub fn set(&mut self, into: &mut Vec<u8>, group: u32, record: &PinRecord) {
        let backend = self.text(into, &record.backend);
        self.key(into, [SET_CLIENT, SET_SESSION], group, &record.key);
        put_number(into, backend.into());
        into.push(record.origin as u8);
        put_number(into, milliseconds(record.age));
        // At most 49 days, as in every file of this format.
        let left = record.usage.expires_in().map(milliseconds);
        put_optional(into, left.map(|left| left.min(u32::MAX.into())));
    }

    fn key(&mut self, into: &mut Vec<u8>, tags: [u8; 2], group: u32, key: &PinKey) {
        let [of_client, of_session] = tags;
        match key {
            PinKey::Client { source, name } => {
                let name = name.as_ref().map(|name| self.text(into, name).into());
                into.push(of_client);
                put_number(into, group.into());
                into.extend(source);
                put_optional(into, name);
            }
            PinKey::Session { hash, client } => {
                into.push(of_session);
                put_number(into, group.into());
                into.extend(hash);
                into.extend(client.to_le_bytes());
            }
        }
    }
}

/// Decodes one stream. After an error it must not be used again.
#[derive(Debug, Default)]
pub struct PinDecoder {
    /// Every text of the stream once, so that equal texts share their memory.
    interned: HashSet<Arc<str>>,
    /// Every group of the stream once.
    groups: Vec<PinGroup>,
    indices: HashMap<PinGroup, usize>,
    /// By their numbers since the last restart.
    texts: Vec<Arc<str>>,
    numbered_groups: Vec<usize>,
}

impl PinDecoder {
    /// Reads one record. Returns the change with the index of its group in [`PinDecoder::groups`]; `None` for a record that
    /// only defines a number.
    ///
    /// # Errors
    ///
    /// When no encoder writes such bytes.
    pub fn read(
        &mut self,
        from: &mut ByteReader<'_>,
    ) -> Result<Option<(usize, PinChange)>, Malformed> {
        let change = match from.byte()? {
            RESTART => {
                self.texts.clear();
                self.numbered_groups.clear();
                return Ok(None);
            }
            TEXT => {
                let text = self.intern(from.text(LONGEST_TEXT)?);
                self.texts.push(text);
                return Ok(None);
            }
            GROUP => {
                self.define_group(from)?;
                return Ok(None);
            }
            SET_CLIENT => {
                let (group, key) = (self.group(from)?, self.client(from)?);
                (group, PinChange::Set(self.pin(key, from)?))
            }
            SET_SESSION => {
                let (group, key) = (self.group(from)?, session(from)?);
                (group, PinChange::Set(self.pin(key, from)?))
            }
            REMOVED_CLIENT => (self.group(from)?, PinChange::Removed(self.client(from)?)),
            REMOVED_SESSION => (self.group(from)?, PinChange::Removed(session(from)?)),
            _ => return Err(Malformed),
        };
        Ok(Some(change))
    }

    /// The groups of the stream, in the order in which they first occurred.
    #[must_use]
    pub fn groups(&self) -> &[PinGroup] {
        &self.groups
    }

    /// Reads the number of a text and returns the text.
    ///
    /// # Errors
    ///
    /// When no text has that number.
    pub fn text(&self, from: &mut ByteReader<'_>) -> Result<Arc<str>, Malformed> {
        self.text_of(from.number()?)
    }

    fn text_of(&self, number: u64) -> Result<Arc<str>, Malformed> {
        let index = usize::try_from(number).map_err(|_| Malformed)?;
        self.texts.get(index).cloned().ok_or(Malformed)
    }

    fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.interned.get(text) {
            return known.clone();
        }
        let text: Arc<str> = text.into();
        self.interned.insert(text.clone());
        text
    }

    fn define_group(&mut self, from: &mut ByteReader<'_>) -> Result<(), Malformed> {
        let group = PinGroup {
            name: self.text(from)?,
            keys: KeyScheme::from_bytes(from.array()?),
        };
        let index = match self.indices.get(&group) {
            Some(&index) => index,
            None => {
                let index = self.groups.len();
                self.groups.push(group.clone());
                self.indices.insert(group, index);
                index
            }
        };
        self.numbered_groups.push(index);
        Ok(())
    }

    fn group(&self, from: &mut ByteReader<'_>) -> Result<usize, Malformed> {
        let number: usize = from.small()?;
        self.numbered_groups.get(number).copied().ok_or(Malformed)
    }

    fn client(&self, from: &mut ByteReader<'_>) -> Result<PinKey, Malformed> {
        let source = from.array()?;
        let name = from.optional()?.map(|number| self.text_of(number));
        Ok(PinKey::Client {
            source,
            name: name.transpose()?,
        })
    }

    fn pin(&self, key: PinKey, from: &mut ByteReader<'_>) -> Result<PinRecord, Malformed> {
        Ok(PinRecord {
            key,
            backend: self.text(from)?,
            origin: Origin::from_byte(from.byte()?).ok_or(Malformed)?,
            age: Duration::from_millis(from.number()?),
            usage: match from.optional()? {
                None => PinUsage::InUse(1),
                Some(left) if left <= u32::MAX.into() => {
                    PinUsage::Idle(Duration::from_millis(left))
                }
                Some(_) => return Err(Malformed),
            },
        })
    }
}

fn session(from: &mut ByteReader<'_>) -> Result<PinKey, Malformed> {
    Ok(PinKey::Session {
        hash: from.array()?,
        client: from.fixed()?,
    })
}

fn next_number(count: usize) -> u32 {
    u32::try_from(count).expect("a configuration has fewer than 2^32 names")
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
