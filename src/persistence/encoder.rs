//! From pins and states to frames.
//!
//! Owns the numbers that stand for texts and groups in one file, and how batches are cut. Knows no file and no clock.
//! Invariant: a number is used only after the record that gives it.

use std::collections::HashMap;
use std::sync::Arc;

use super::clock::Stamp;
use super::frame::{self, MOST};
use super::records::{Group, RecordKey, RecordPin, RecordState, StoreRecord};
use crate::affinity::shard::Moment;
use crate::affinity::table::{KeyScheme, PinKey, PinRecord, TableChange};
use crate::config::model::AffinitySettings;

/// A frame is closed when its payload has so many bytes: little is lost with one, and 12 bytes of head are nothing.
const FULL: usize = 64 * 1024;

/// A group, and what the keys of its pins are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    /// Its name.
    pub(super) name: Arc<str>,
    /// What tells its clients apart.
    pub(super) keys: KeyScheme,
}

impl Shape {
    /// That of a group with these settings.
    pub(super) fn of(settings: &AffinitySettings) -> Self {
        Self {
            name: settings.group.clone(),
            keys: KeyScheme::of(settings),
        }
    }
}

/// The beginning of a file: the secret that hashes of sessions are made with, and what wrote it, for people.
pub(super) fn head(secret: &[u8; 32]) -> Vec<u8> {
    let mut payload = secret.to_vec();
    payload.extend(env!("CARGO_PKG_VERSION").bytes());
    let mut bytes = frame::preamble().to_vec();
    frame::seal(&payload, &mut bytes);
    bytes
}

/// Makes the batches of one file.
pub(super) struct Encoder {
    texts: HashMap<Arc<str>, u32>,
    groups: Vec<Shape>,
    /// Whether it has said that its numbers begin anew.
    begun: bool,
    stamp: Stamp,
    payload: Vec<u8>,
    frames: Vec<u8>,
}

impl Encoder {
    /// One that knows no text yet, for the beginning of a file or the middle of one.
    pub(super) fn new(stamp: Stamp) -> Self {
        Self {
            texts: HashMap::new(),
            groups: Vec::new(),
            begun: false,
            stamp,
            payload: Vec::new(),
            frames: Vec::new(),
        }
    }

    /// What follows is counted from this moment.
    pub(super) fn begin(&mut self, stamp: Stamp) {
        if stamp != self.stamp {
            self.close();
            self.stamp = stamp;
        }
        self.open();
    }

    /// The number of a group.
    pub(super) fn group(&mut self, shape: &Shape) -> u32 {
        let known = self.groups.iter().position(|known| known == shape);
        let place = known.unwrap_or_else(|| {
            let [keys, ipv4, ipv6] = shape.keys.to_bytes();
            let group = Group {
                name: self.text(&shape.name),
                keys,
                ipv4,
                ipv6,
            };
            self.groups.push(shape.clone());
            self.put(StoreRecord::Group(group));
            self.groups.len() - 1
        });
        u32::try_from(place).expect("a configuration has fewer than 2^32 groups")
    }

    /// A change; `now` is the moment of the stamp on the table's clock.
    pub(super) fn change(&mut self, group: u32, change: &TableChange, now: Moment) {
        match change {
            TableChange::Set(kept) => self.set(group, kept, now),
            TableChange::Gone(key) => {
                let key = self.key(key);
                self.put(StoreRecord::Gone(group, key));
            }
        }
    }

    /// A pin as it stands; `now` is the moment of the stamp on the table's clock.
    pub(super) fn set(&mut self, group: u32, kept: &PinRecord, now: Moment) {
        let key = self.key(&kept.key);
        let left = |expires: Moment| expires.0.saturating_sub(now.0);
        let pin = RecordPin {
            backend: self.text(&kept.backend),
            origin: kept.origin as u8,
            age: now.0.saturating_sub(kept.created.0),
            left: kept
                .expires
                .map(|expires| u32::try_from(left(expires)).unwrap_or(u32::MAX)),
        };
        self.put(StoreRecord::Set(group, key, pin));
    }

    /// A state, and how many milliseconds its deadline is off.
    pub(super) fn state(
        &mut self,
        pool: &Arc<str>,
        backend: &Arc<str>,
        state: u8,
        left: Option<u64>,
    ) {
        let (pool, backend) = (self.text(pool), self.text(backend));
        self.put(StoreRecord::State(RecordState {
            pool,
            backend,
            state,
            left,
        }));
    }

    /// What was put so far is a whole picture.
    pub(super) fn whole(&mut self) {
        self.put(StoreRecord::Whole);
    }

    /// Whether anything was put since the last time.
    pub(super) fn has_records(&self) -> bool {
        !self.frames.is_empty() || self.payload.len() > Stamp::BYTES
    }

    /// Bytes that wait.
    pub(super) fn waiting(&self) -> usize {
        self.frames.len() + self.payload.len()
    }

    /// The frames since the last time.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        self.close();
        std::mem::take(&mut self.frames)
    }

    fn key(&mut self, key: &PinKey) -> RecordKey {
        match key {
            PinKey::Client { source, name } => {
                RecordKey::Client(*source, name.as_ref().map(|name| self.text(name)))
            }
            PinKey::Session { hash, client } => RecordKey::Session(*hash, *client),
        }
    }

    fn text(&mut self, text: &Arc<str>) -> u32 {
        if let Some(&number) = self.texts.get(text) {
            return number;
        }
        let number =
            u32::try_from(self.texts.len()).expect("a configuration names fewer than 2^32 things");
        self.texts.insert(text.clone(), number);
        self.put(StoreRecord::Text(text));
        number
    }

    fn put(&mut self, record: StoreRecord<'_>) {
        self.open();
        record.put(&mut self.payload);
        debug_assert!(self.payload.len() <= MOST, "names have a bound");
        if self.payload.len() >= FULL {
            self.close();
        }
    }

    fn open(&mut self) {
        if self.payload.is_empty() {
            self.stamp.put(&mut self.payload);
        }
        if !std::mem::replace(&mut self.begun, true) {
            StoreRecord::Anew.put(&mut self.payload);
        }
    }

    fn close(&mut self) {
        if !self.payload.is_empty() {
            frame::seal(&self.payload, &mut self.frames);
            self.payload.clear();
        }
    }
}
