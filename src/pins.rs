//! The affinity table of one group, shared by every worker.
//!
//! Owns the shards, their locks, the table's clock and the numbers that stand for names and backends. Must not know
//! pools: what may take a client is passed in. Invariant: [`Claim`]s and uses of pins correspond one to one; the
//! bound holds over all shards together.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge};

use crate::affinity::{Fit, Found, Key, Member, Moment, Place, Shard, Tag, View};
use crate::config::model;
use crate::metrics::{Registry, definitions};

/// Enough that two workers rarely meet.
const SHARDS: usize = 64;
/// A table that could not fill so many shards with this has fewer.
const FEWEST_IN_A_SHARD: usize = 1024;
/// A table that would have more than this in a shard has more shards: the index of a shard grows at once, with its lock
/// held, and this bounds how long that takes.
const MOST_IN_A_SHARD: usize = 16 * 1024;
/// Shards that a client of a full table can get a pin from.
const ASKED: usize = 64;

/// How a client was found in the table, and the hold on its pin, if it has one.
#[derive(Debug)]
pub enum Lookup {
    /// The pin's backend takes it.
    Pinned(Claim, Member),
    /// There was no pin.
    New(Claim, Member),
    /// The pin's backend does not take it.
    Stale(Claim, Member),
    /// Every pin is in use.
    Unpinned(Member),
    /// The pin leads to a backend that the pool does not have.
    Foreign,
    /// Nothing takes it.
    Nowhere,
}

/// The table of one group.
pub struct Pins {
    group: Arc<str>,
    settings: model::Affinity,
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
    pins: AtomicUsize,
    started: Instant,
    names: Numbers,
    members: Numbers,
    entries: Gauge,
    evictions: Counter,
    unpinned: Counter,
    hits: Counter,
    misses: Counter,
    stales: Counter,
    registry: Registry,
}

impl std::fmt::Debug for Pins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "pins of {}", self.group)
    }
}

impl Pins {
    /// An empty table with these settings.
    #[must_use]
    pub fn new(settings: &model::Affinity, registry: &Registry) -> Self {
        let shards = (settings.max_entries / FEWEST_IN_A_SHARD)
            .clamp(1, SHARDS)
            .max(settings.max_entries / MOST_IN_A_SHARD)
            .next_power_of_two();
        let group = &*settings.group;
        let lookups = |result| registry.counter(&definitions::AFFINITY_LOOKUPS, &[group, result]);
        Self {
            group: settings.group.clone(),
            settings: settings.clone(),
            shards: (0..shards)
                .map(|_| Mutex::new(Shard::new(settings.ttl)))
                .collect(),
            hasher: RandomState::new(),
            pins: AtomicUsize::new(0),
            started: Instant::now(),
            names: Numbers::default(),
            members: Numbers::default(),
            entries: registry.gauge(&definitions::AFFINITY_ENTRIES, &[group]),
            evictions: registry.counter(&definitions::AFFINITY_EVICTIONS, &[group]),
            unpinned: registry.counter(&definitions::AFFINITY_UNPINNED, &[group]),
            hits: lookups("hit"),
            misses: lookups("miss"),
            stales: lookups("stale"),
            registry: registry.clone(),
        }
    }

    /// The group's name.
    #[must_use]
    pub fn group(&self) -> &Arc<str> {
        &self.group
    }

    /// What the table was made with.
    #[must_use]
    pub fn settings(&self) -> &model::Affinity {
        &self.settings
    }

    /// Pins that stand, those included that have expired and are not swept yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pins.load(Ordering::Relaxed)
    }

    /// Whether there is no pin.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of a configured name; for the building of a snapshot.
    #[must_use]
    pub fn number_name(&self, name: &str) -> u32 {
        self.names.of(name)
    }

    /// The number of a backend's name; for the building of a snapshot.
    #[must_use]
    pub fn number_member(&self, backend: &str) -> Member {
        Member(self.members.of(backend))
    }

    /// The backend's name that stands behind a number.
    #[must_use]
    pub fn member_name(&self, member: Member) -> Option<Arc<str>> {
        self.members.text(member.0)
    }

    /// Finds or makes the pin of `key` for a new connection. See [`Shard::begin`].
    pub fn begin(
        self: &Arc<Self>,
        key: Key,
        fit: impl Fn(Member) -> Fit,
        choose: impl FnOnce() -> Option<Member>,
    ) -> Lookup {
        let (home, tag) = self.home(&key);
        let mut shard = lock(&self.shards[home]);
        let mut counted = shard.len();
        let room = |shard: &mut Shard| {
            self.recount(counted, shard.len());
            let made = self.make_room(shard, home);
            counted = shard.len() + usize::from(made);
            made
        };
        let found = shard.begin((key, tag), self.now(), fit, choose, room);
        self.recount(counted, shard.len());
        drop(shard);
        let claim = |place| Claim {
            pins: self.clone(),
            shard: home,
            place,
        };
        match found {
            Found::Pinned(place, member) => {
                self.hits.increment(1);
                Lookup::Pinned(claim(place), member)
            }
            Found::New(place, member) => {
                self.misses.increment(1);
                Lookup::New(claim(place), member)
            }
            Found::Stale(place, member) => {
                self.stales.increment(1);
                Lookup::Stale(claim(place), member)
            }
            Found::Unpinned(member) => {
                self.misses.increment(1);
                self.unpinned.increment(1);
                Lookup::Unpinned(member)
            }
            Found::Foreign => Lookup::Foreign,
            Found::Nowhere => Lookup::Nowhere,
        }
    }

    /// Pins that lead to `member`.
    #[must_use]
    pub fn leading_to(&self, member: Member) -> usize {
        self.shards
            .iter()
            .map(|shard| lock(shard).leading_to(member))
            .sum()
    }

    /// The pin of `key`, if one stands.
    #[must_use]
    pub fn view(&self, key: &Key) -> Option<View> {
        let (home, tag) = self.home(key);
        lock(&self.shards[home]).view((key, tag), self.now())
    }

    /// How long from now until `moment`.
    #[must_use]
    pub fn until(&self, moment: Moment) -> Duration {
        Duration::from_millis(moment.0.saturating_sub(self.now().0))
    }

    /// How long ago `moment` was.
    #[must_use]
    pub fn since(&self, moment: Moment) -> Duration {
        Duration::from_millis(self.now().0.saturating_sub(moment.0))
    }

    /// Forgets every pin to `member`; says how many there were. One shard is locked at a time.
    pub fn release(&self, member: Member) -> usize {
        let release = |shard: &Mutex<Shard>| {
            let mut shard = lock(shard);
            let before = shard.len();
            let released = shard.release(member);
            self.recount(before, shard.len());
            released
        };
        self.shards.iter().map(release).sum()
    }

    /// Removes pins whose time has come, at most `most` of each shard.
    pub fn sweep(&self, most: usize) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            let before = shard.len();
            shard.sweep(self.now(), most);
            self.recount(before, shard.len());
        }
    }

    /// Counts a pin that has moved.
    pub fn count_broken(&self, reason: &'static str) {
        self.registry
            .counter(&definitions::AFFINITY_PINS_BROKEN, &[&self.group, reason])
            .increment(1);
    }

    /// Shows the number of pins; for whoever renders the metrics.
    pub fn show(&self) {
        #[allow(clippy::cast_precision_loss, reason = "no table holds 2^52 pins")]
        self.entries.set(self.len() as f64);
    }

    /// Counts one more pin, if there is room under the bound or an idle pin gives way to it. That is the longest idle
    /// of its own shard; only where that has none, another shard's, as far as it is not being used right now.
    fn make_room(&self, shard: &mut Shard, home: usize) -> bool {
        let within = |pins| (pins < self.settings.max_entries).then_some(pins + 1);
        let counted = self
            .pins
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, within);
        if counted.is_ok() {
            return true;
        }
        let mut others =
            (1..self.shards.len().min(ASKED)).map(|step| (home + step) % self.shards.len());
        let gave_way = shard.evict() || others.any(|other| self.evict_from(other));
        self.evictions.increment(u64::from(gave_way));
        gave_way
    }

    /// Never waits for the lock: whoever holds it may be waiting for the one that is held here.
    fn evict_from(&self, other: usize) -> bool {
        self.shards[other]
            .try_lock()
            .is_ok_and(|mut other| other.evict())
    }

    fn recount(&self, before: usize, after: usize) {
        match after.checked_sub(before) {
            Some(0) => {}
            Some(more) => drop(self.pins.fetch_add(more, Ordering::Relaxed)),
            None => drop(self.pins.fetch_sub(before - after, Ordering::Relaxed)),
        }
    }

    /// The shard of a key, and by what that finds it: bits of one hash, none of them in both.
    #[allow(clippy::cast_possible_truncation, reason = "the low half is meant")]
    fn home(&self, key: &Key) -> (usize, Tag) {
        let hash = self.hasher.hash_one(key);
        let high = usize::try_from(hash >> 32).unwrap_or(0);
        (high & (self.shards.len() - 1), Tag(hash as u32))
    }

    fn now(&self) -> Moment {
        Moment(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

/// A connection's hold on its pin; given back by `Drop`.
#[derive(Debug)]
pub struct Claim {
    pins: Arc<Pins>,
    shard: usize,
    place: Place,
}

impl Claim {
    /// The table that it is of.
    #[must_use]
    pub fn pins(&self) -> &Arc<Pins> {
        &self.pins
    }

    /// See [`Shard::next`].
    pub fn next(
        &self,
        fit: impl Fn(Member) -> Fit,
        choose: impl FnOnce() -> Option<Member>,
    ) -> Option<Member> {
        lock(&self.pins.shards[self.shard]).next(self.place, fit, choose)
    }

    /// See [`Shard::answered`].
    #[must_use]
    pub fn answered(&self, member: Member) -> Option<Member> {
        lock(&self.pins.shards[self.shard]).answered(self.place, member)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut shard = lock(&self.pins.shards[self.shard]);
        let before = shard.len();
        shard.end(self.place, self.pins.now());
        self.pins.recount(before, shard.len());
    }
}

/// Numbers that stand for texts, from 1 up; 0 is nobody's.
#[derive(Debug, Default)]
struct Numbers {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    numbers: HashMap<Arc<str>, u32>,
    texts: Vec<Arc<str>>,
}

impl Numbers {
    fn of(&self, text: &str) -> u32 {
        let mut known = lock(&self.known);
        if let Some(&number) = known.numbers.get(text) {
            return number;
        }
        let text: Arc<str> = text.into();
        known.texts.push(text.clone());
        let number =
            u32::try_from(known.texts.len()).expect("a configuration names fewer than 2^32 things");
        known.numbers.insert(text, number);
        number
    }

    fn text(&self, number: u32) -> Option<Arc<str>> {
        lock(&self.known)
            .texts
            .get(usize::try_from(number).ok()?.checked_sub(1)?)
            .cloned()
    }
}

/// No critical section here panics half way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
