//! Pins as bytes.
//!
//! Owns the form: a batch is of one table and stands alone, texts come once in it and have numbers after that, times are
//! counted from now, since the clocks of tables are their own. Invariant: what is read is what was written, or an error.

use std::collections::HashMap;
use std::sync::Arc;

use super::message::{PINS_LARGEST, milliseconds};
use super::wire::WireError;
use crate::affinity::{Moment, Origin};
use crate::config::model;
use crate::pins::{Kept, KeptKey, Pins};

/// What is told of a pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// It stands like this; `in_use` says whether connections of the old process hold it.
    Stands(Kept),
    /// No connection of the old process holds it any more.
    LetGo(KeptKey),
}

/// More than any record takes, texts aside, in bytes.
const RECORD: usize = 64;
const STANDS: u8 = 0;
const LET_GO: u8 = 1;
const CLIENT: u8 = 0;
const SESSION: u8 = 1;

/// A batch that is being written.
pub struct Batch<'a> {
    pins: &'a Pins,
    bytes: Vec<u8>,
    texts: HashMap<Arc<str>, u64>,
}

impl<'a> Batch<'a> {
    /// One for this table.
    #[must_use]
    pub fn new(pins: &'a Pins) -> Self {
        let mut batch = Self {
            pins,
            bytes: Vec::new(),
            texts: HashMap::new(),
        };
        batch.begin();
        batch
    }

    fn begin(&mut self) {
        self.bytes.clear();
        self.texts.clear();
        put_text(&mut self.bytes, self.pins.group());
        self.bytes.extend(shape(&self.pins.settings()));
    }

    /// Adds one; gives the bytes of the batch before where this one would not fit.
    pub fn add(&mut self, told: &Told) -> Option<Vec<u8>> {
        let (key, backend) = match told {
            Told::Stands(kept) => (&kept.key, kept.backend.len()),
            Told::LetGo(key) => (key, 0),
        };
        let name = match key {
            KeptKey::Client { name, .. } => name.as_deref().map_or(0, str::len),
            KeptKey::Session { .. } => 0,
        };
        let full = self.bytes.len() + RECORD + name + backend > PINS_LARGEST;
        let before = full.then(|| self.take());
        self.put(told);
        before
    }

    /// The bytes so far, and begins anew.
    pub fn take(&mut self) -> Vec<u8> {
        let bytes = self.bytes.clone();
        self.begin();
        bytes
    }

    fn put(&mut self, told: &Told) {
        match told {
            Told::Stands(kept) => {
                self.bytes.push(STANDS);
                self.put_key(&kept.key);
                self.put_known(&kept.backend);
                self.bytes.push(kept.origin as u8);
                let age = milliseconds(self.pins.since(kept.created));
                put_number(&mut self.bytes, age);
                // 0 while it is in use.
                let left = kept.expires.filter(|_| kept.in_use == 0);
                let left = left.map_or(0, |expires| 1 + milliseconds(self.pins.until(expires)));
                put_number(&mut self.bytes, left);
            }
            Told::LetGo(key) => {
                self.bytes.push(LET_GO);
                self.put_key(key);
            }
        }
    }

    fn put_key(&mut self, key: &KeptKey) {
        match key {
            KeptKey::Client { source, name } => {
                self.bytes.push(CLIENT);
                self.bytes.extend(source);
                self.bytes.push(u8::from(name.is_some()));
                if let Some(name) = name {
                    self.put_known(name);
                }
            }
            KeptKey::Session { hash, client } => {
                self.bytes.push(SESSION);
                self.bytes.extend(hash);
                self.bytes.extend(client.to_le_bytes());
            }
        }
    }

    /// A text's number; 0 and the text itself where it comes for the first time.
    fn put_known(&mut self, text: &Arc<str>) {
        if let Some(&number) = self.texts.get(text) {
            return put_number(&mut self.bytes, number);
        }
        let number = self.texts.len() as u64 + 1;
        self.texts.insert(text.clone(), number);
        self.bytes.push(0);
        put_text(&mut self.bytes, text);
    }
}

/// Reads a batch. `table` finds a group's table; of a group that is not known, or whose keys are made of something else,
/// nothing is read.
///
/// # Errors
///
/// When these are no bytes that a batch could have.
pub fn read(
    bytes: &[u8],
    table: impl FnOnce(&str) -> Option<Arc<Pins>>,
    mut each: impl FnMut(&Arc<Pins>, Told),
) -> Result<(), WireError> {
    let malformed = || WireError::Malformed("pins are cut".into());
    let mut reader = Reader {
        bytes,
        texts: Vec::new(),
    };
    let group = reader.text().ok_or_else(malformed)?;
    let keys: [u8; 3] = reader.array().ok_or_else(malformed)?;
    let Some(pins) = table(&group).filter(|pins| shape(&pins.settings()) == keys) else {
        return Ok(());
    };
    while !reader.bytes.is_empty() {
        let told = reader.told(&pins).ok_or_else(malformed)?;
        each(&pins, told);
    }
    Ok(())
}

/// What keys are made of.
fn shape(settings: &model::Affinity) -> [u8; 3] {
    let parts = [settings.by_source, settings.by_name, settings.by_session];
    let flags = parts
        .iter()
        .rev()
        .fold(0, |flags, &part| flags << 1 | u8::from(part));
    let prefix = settings.source_prefix;
    [flags, prefix.ipv4, prefix.ipv6]
}

fn put_number(into: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        into.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    into.push(number.to_le_bytes()[0]);
}

fn put_text(into: &mut Vec<u8>, text: &str) {
    put_number(into, text.len() as u64);
    into.extend(text.as_bytes());
}

struct Reader<'a> {
    bytes: &'a [u8],
    texts: Vec<Arc<str>>,
}

impl Reader<'_> {
    fn take(&mut self, length: usize) -> Option<&[u8]> {
        let (taken, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn text(&mut self) -> Option<Arc<str>> {
        let length = usize::try_from(self.number()?).ok()?;
        let text = str::from_utf8(self.take(length)?).ok()?;
        Some(text.into())
    }

    fn known(&mut self) -> Option<Arc<str>> {
        let number = usize::try_from(self.number()?).ok()?;
        if let Some(place) = number.checked_sub(1) {
            return self.texts.get(place).cloned();
        }
        let text = self.text()?;
        self.texts.push(text.clone());
        Some(text)
    }

    fn key(&mut self) -> Option<KeptKey> {
        match self.byte()? {
            CLIENT => Some(KeptKey::Client {
                source: self.array()?,
                name: match self.byte()? {
                    0 => None,
                    _ => Some(self.known()?),
                },
            }),
            SESSION => Some(KeptKey::Session {
                hash: self.array()?,
                client: u64::from_le_bytes(self.array()?),
            }),
            _ => None,
        }
    }

    fn told(&mut self, pins: &Pins) -> Option<Told> {
        match self.byte()? {
            STANDS => {
                let (key, backend) = (self.key()?, self.known()?);
                let origin = Origin::from_cell(self.byte()?);
                let now = pins.now();
                let created = Moment(now.0.saturating_sub(self.number()?));
                let left = self.number()?.checked_sub(1);
                Some(Told::Stands(Kept {
                    key,
                    backend,
                    origin,
                    created,
                    expires: left.map(|left| Moment(now.0.saturating_add(left))),
                    in_use: u32::from(left.is_none()),
                }))
            }
            LET_GO => Some(Told::LetGo(self.key()?)),
            _ => None,
        }
    }
}
