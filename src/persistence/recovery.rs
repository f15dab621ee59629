//! From frames back to what was kept.
//!
//! Owns the picture that the batches add up to. Knows no file, no clock and no table. Invariant: a batch counts whole or
//! not at all, and in the order of the file; of one key the last record is the truth.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::bytes::{BytesReader, MalformedBytes};
use super::clock::Stamp;
use super::encoder::Shape;
use super::records::{RecordKey, RecordPin, RecordState, StoreRecord};
use crate::affinity::table::KeyScheme;

/// What a file holds.
#[derive(Default)]
pub(super) struct Contents {
    texts: TextNumbers,
    groups: Vec<Shape>,
    /// Numbers in the file -> places in `texts` and `groups`.
    numbers: GroupNumbers,
    stamps: Vec<Stamp>,
    /// As they stood when the picture was taken; put in no map, for there may be a million of them.
    picture: Vec<(PinOwner, ReplayedPin)>,
    /// What has become of pins since.
    changes: HashMap<PinOwner, Option<ReplayedPin>>,
    states: BTreeMap<(u32, u32), (RecordState, u32)>,
    last: Option<Stamp>,
    whole: bool,
}

/// A group's place, and whom of it a pin is for. A session is the same whoever uses it, so it stands here without that.
type PinOwner = (u32, RecordKey);

/// A pin, and the place of the stamp that its times are counted from.
#[derive(Clone, Copy)]
struct ReplayedPin {
    pin: RecordPin,
    /// Who last used it, where it is a session.
    client: u64,
    stamp: u32,
}

#[derive(Default)]
struct GroupNumbers {
    texts: Vec<u32>,
    groups: Vec<u32>,
}

/// Texts that get the same number whenever they come.
#[derive(Default)]
struct TextNumbers {
    numbers: HashMap<Arc<str>, u32>,
    texts: Vec<Arc<str>>,
}

/// A pin that was kept: of which group, whom for, and since when that has been known.
pub(super) struct ReplayedKey<'a> {
    /// The group's place in [`Contents::groups`].
    pub(super) group: usize,
    /// With the number of the name, see [`Contents::text`].
    pub(super) key: RecordKey,
    /// With the number of the backend's name.
    pub(super) pin: RecordPin,
    /// What its times are counted from.
    pub(super) stamp: &'a Stamp,
}

/// An administrative state that was kept.
pub(super) struct ReplayedState<'a> {
    /// The pool.
    pub(super) pool: &'a Arc<str>,
    /// The backend.
    pub(super) backend: &'a Arc<str>,
    /// The state as a number.
    pub(super) state: u8,
    /// Milliseconds from the stamp to the deadline.
    pub(super) left: Option<u64>,
    /// What that is counted from.
    pub(super) stamp: &'a Stamp,
}

impl Contents {
    /// Takes one batch.
    ///
    /// # Errors
    ///
    /// When it is none; then nothing of it counts.
    pub(super) fn apply(&mut self, payload: &[u8]) -> Result<(), MalformedBytes> {
        self.check(payload)?;
        let mut reader = BytesReader(payload);
        let stamp = Stamp::read(&mut reader)?;
        if !reader.is_empty() && self.stamps.last() != Some(&stamp) {
            self.stamps.push(stamp);
        }
        self.last = Some(stamp);
        let place =
            u32::try_from(self.stamps.len().saturating_sub(1)).map_err(|_| MalformedBytes)?;
        while !reader.is_empty() {
            self.take(StoreRecord::read(&mut reader)?, place);
        }
        Ok(())
    }

    /// Whether every record reads and names only what has a number.
    fn check(&self, payload: &[u8]) -> Result<(), MalformedBytes> {
        let mut reader = BytesReader(payload);
        Stamp::read(&mut reader)?;
        let mut whole = self.whole;
        let mut texts = self.numbers.texts.len();
        let mut groups = self.numbers.groups.len();
        while !reader.is_empty() {
            let known = |text: u32| (text as usize) < texts;
            let sound = match StoreRecord::read(&mut reader)? {
                StoreRecord::Anew => {
                    (texts, groups) = (0, 0);
                    true
                }
                StoreRecord::Text(_) => {
                    texts += 1;
                    true
                }
                StoreRecord::Group(group) => {
                    groups += 1;
                    known(group.name)
                }
                StoreRecord::Set(group, key, pin) => {
                    (group as usize) < groups && key.name().is_none_or(known) && known(pin.backend)
                }
                // Nothing goes from a picture.
                StoreRecord::Gone(group, key) => {
                    whole && (group as usize) < groups && key.name().is_none_or(known)
                }
                StoreRecord::State(state) => known(state.pool) && known(state.backend),
                StoreRecord::Whole => !std::mem::replace(&mut whole, true),
            };
            sound.then_some(()).ok_or(MalformedBytes)?;
        }
        Ok(())
    }

    /// Takes a record that has been checked.
    fn take(&mut self, record: StoreRecord<'_>, stamp: u32) {
        let text = |number: u32| self.numbers.texts[number as usize];
        let key = |group: u32, key: RecordKey| {
            (self.numbers.groups[group as usize], key.named(text).of(0))
        };
        match record {
            StoreRecord::Anew => self.numbers = GroupNumbers::default(),
            StoreRecord::Text(text) => self.numbers.texts.push(self.texts.number(text)),
            StoreRecord::Group(group) => {
                let shape = Shape {
                    name: self.texts.texts[text(group.name) as usize].clone(),
                    keys: KeyScheme::from_bytes([group.keys, group.ipv4, group.ipv6]),
                };
                let known = self.groups.iter().position(|known| *known == shape);
                let place = known.unwrap_or_else(|| {
                    self.groups.push(shape);
                    self.groups.len() - 1
                });
                self.numbers.groups.push(number(place));
            }
            StoreRecord::Set(group, of, pin) => {
                let backend = text(pin.backend);
                let pin = RecordPin { backend, ..pin };
                let client = of.client();
                let (of, stood) = (key(group, of), ReplayedPin { pin, client, stamp });
                if self.whole {
                    self.changes.insert(of, Some(stood));
                } else {
                    self.picture.push((of, stood));
                }
            }
            StoreRecord::Gone(group, of) => drop(self.changes.insert(key(group, of), None)),
            StoreRecord::State(state) => {
                let of = (text(state.pool), text(state.backend));
                self.states.insert(of, (state, stamp));
            }
            StoreRecord::Whole => self.whole = true,
        }
    }

    /// Whether there was a whole picture, and not the beginning of one.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// When the last batch was written.
    pub(super) fn last(&self) -> Option<Stamp> {
        self.last
    }

    /// The groups that pins are of.
    pub(super) fn groups(&self) -> &[Shape] {
        &self.groups
    }

    /// The text behind a number that a pin has.
    pub(super) fn text(&self, number: u32) -> &Arc<str> {
        &self.texts.texts[number as usize]
    }

    /// How many texts there are; their numbers are below that.
    pub(super) fn texts(&self) -> &[Arc<str>] {
        &self.texts.texts
    }

    /// Every pin, in no order.
    pub(super) fn pins(&self) -> impl Iterator<Item = ReplayedKey<'_>> {
        let unchanged = |(of, _): &&(PinOwner, ReplayedPin)| !self.changes.contains_key(of);
        let picture = self.picture.iter().filter(unchanged).copied();
        let changed =
            |(&of, stood): (&PinOwner, &Option<ReplayedPin>)| stood.map(|stood| (of, stood));
        let all = picture.chain(self.changes.iter().filter_map(changed));
        all.map(|((group, key), stood)| ReplayedKey {
            group: group as usize,
            key: key.of(stood.client),
            pin: stood.pin,
            stamp: &self.stamps[stood.stamp as usize],
        })
    }

    /// Every administrative state.
    pub(super) fn states(&self) -> impl Iterator<Item = ReplayedState<'_>> {
        self.states
            .iter()
            .map(|(&(pool, backend), (state, stamp))| ReplayedState {
                pool: self.text(pool),
                backend: self.text(backend),
                state: state.state,
                left: state.left,
                stamp: &self.stamps[*stamp as usize],
            })
    }
}

impl RecordKey {
    fn name(&self) -> Option<u32> {
        match self {
            Self::Client(_, name) => *name,
            Self::Session(..) => None,
        }
    }

    /// Who last used it, where it is a session.
    fn client(&self) -> u64 {
        match self {
            Self::Client(..) => 0,
            Self::Session(_, client) => *client,
        }
    }

    /// A session as it is when `client` last used it.
    fn of(self, client: u64) -> Self {
        match self {
            Self::Client(..) => self,
            Self::Session(hash, _) => Self::Session(hash, client),
        }
    }

    /// With another number for its name.
    fn named(self, number: impl Fn(u32) -> u32) -> Self {
        match self {
            Self::Client(source, name) => Self::Client(source, name.map(number)),
            Self::Session(..) => self,
        }
    }
}

impl TextNumbers {
    fn number(&mut self, text: &str) -> u32 {
        if let Some(&known) = self.numbers.get(text) {
            return known;
        }
        let text: Arc<str> = text.into();
        let number = number(self.texts.len());
        self.texts.push(text.clone());
        self.numbers.insert(text, number);
        number
    }
}

fn number(place: usize) -> u32 {
    u32::try_from(place).expect("a file of less than 2^32 records")
}
