//! Pins of one kind of key, shared by every worker.
//!
//! Owns the shards, their locks and the bound over all of them together. Must not know what a key is made of. Invariant:
//! [`PinGuard`]s and uses of pins correspond one to one; no thread waits for a shard's lock while it holds another's.

use std::hash::{BuildHasher, Hash, RandomState};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::Pins;
use super::quota::Quotas;
use super::sync::{AtomicUsize, Mutex, MutexGuard, Ordering, PoisonError};
use crate::affinity::shard::{
    Eligibility, Key, Keyed, Member, Moment, PinAction, PinHandle, PinView, Session, Shard, Tag,
};

/// Enough that two workers rarely meet.
const SHARDS: usize = 64;
/// A table that could not fill so many shards with this has fewer.
const FEWEST_IN_A_SHARD: usize = 1024;
/// A table that would have more than this in a shard has more shards: the index of a shard grows at once, with its lock
/// held, and this bounds how long that takes.
const MOST_IN_A_SHARD: usize = 16 * 1024;
/// Shards that a client of a full table can get a pin from.
const ASKED: usize = 64;
/// Places that a walk through the table looks at under one lock.
pub(super) const STEP: u32 = 256;

/// A kind of pin that a group has a table of.
pub trait KeyKind: Keyed + Hash {
    /// The group's table of this kind.
    fn table(pins: &Pins) -> &KeyTable<Self>;
}

impl KeyKind for Key {
    fn table(pins: &Pins) -> &KeyTable<Self> {
        &pins.clients
    }
}

impl KeyKind for Session {
    fn table(pins: &Pins) -> &KeyTable<Self> {
        &pins.sessions
    }
}

/// One table.
#[derive(Debug)]
pub struct KeyTable<K> {
    shards: Box<[Mutex<Shard<K>>]>,
    hasher: RandomState,
    pins: AtomicUsize,
    evicted: AtomicUsize,
    most: AtomicUsize,
    pub(super) shares: Quotas,
}

/// Where a key belongs.
#[derive(Debug, Clone, Copy)]
pub(super) struct ShardSlot {
    shard: usize,
    tag: Tag,
}

impl<K: KeyKind> KeyTable<K> {
    /// An empty table of at most `most` pins.
    pub(super) fn new(most: usize, ttl: Duration, shares: Quotas) -> Self {
        let shards = (most / FEWEST_IN_A_SHARD)
            .clamp(1, SHARDS)
            .max(most / MOST_IN_A_SHARD)
            .next_power_of_two();
        Self::of_shards(shards, most, ttl, shares)
    }

    /// The same, of so many shards: a power of two.
    pub(super) fn of_shards(shards: usize, most: usize, ttl: Duration, shares: Quotas) -> Self {
        Self {
            shards: (0..shards).map(|_| Mutex::new(Shard::new(ttl))).collect(),
            hasher: RandomState::new(),
            pins: AtomicUsize::new(0),
            evicted: AtomicUsize::new(0),
            most: AtomicUsize::new(most),
            shares,
        }
    }

    /// Pins that stand, those included that have expired and are not swept yet.
    pub(super) fn len(&self) -> usize {
        self.pins.load(Ordering::Relaxed)
    }

    /// In which shard a key's pin is.
    #[cfg(lyncpin_shuttle)]
    pub(super) fn shard_of(&self, key: &K) -> usize {
        self.home(key).shard
    }

    /// How many shards there are.
    #[cfg(test)]
    pub(super) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Pins that gave way since the last call.
    pub(super) fn take_evicted(&self) -> usize {
        self.evicted.swap(0, Ordering::Relaxed)
    }

    /// Bits of one hash, none of them in both.
    #[allow(clippy::cast_possible_truncation, reason = "the low half is meant")]
    pub(super) fn home(&self, key: &K) -> ShardSlot {
        let hash = self.hasher.hash_one(key);
        let high = usize::try_from(hash >> 32).unwrap_or(0);
        ShardSlot {
            shard: high & (self.shards.len() - 1),
            tag: Tag(hash as u32),
        }
    }

    /// Does something with a key's shard, and the room for one more pin there.
    pub(super) fn with<T>(
        &self,
        home: ShardSlot,
        act: impl FnOnce(&mut Shard<K>, Tag, &mut dyn FnMut(&mut Shard<K>) -> bool) -> T,
    ) -> T {
        let mut shard = lock(&self.shards[home.shard]);
        let mut counted = shard.len();
        let mut room = |shard: &mut Shard<K>| {
            self.recount(counted, shard);
            let made = self.make_room(shard, home.shard);
            counted = shard.len() + usize::from(made);
            made
        };
        let done = act(&mut *shard, home.tag, &mut room);
        self.recount(counted, &mut shard);
        done
    }

    fn with_shard<T>(&self, number: usize, act: impl FnOnce(&mut Shard<K>) -> T) -> T {
        let mut shard = lock(&self.shards[number]);
        let counted = shard.len();
        let done = act(&mut shard);
        self.recount(counted, &mut shard);
        done
    }

    /// Does something with each shard in turn, for as long as that says so, from shard `first` on. Says at which it ended.
    pub(super) fn with_each(
        &self,
        first: usize,
        mut act: impl FnMut(&mut Shard<K>) -> Next,
    ) -> Option<usize> {
        let mut number = first;
        while number < self.shards.len() {
            match self.with_shard(number, &mut act) {
                Next::Again => {}
                Next::Shard => number += 1,
                Next::End => return Some(number),
            }
        }
        None
    }

    /// Meets every pin, in steps.
    pub(super) fn visit(&self, now: Moment, mut each: impl FnMut(&PinView<K>) -> PinAction) {
        let mut from = 0;
        self.with_each(0, |shard| {
            let next = shard.visit(from, STEP, now, &mut each);
            from = next.unwrap_or(0);
            next.map_or(Next::Shard, |_| Next::Again)
        });
    }

    /// Does something with every shard.
    pub(super) fn each_shard(&self, mut act: impl FnMut(&mut Shard<K>)) {
        self.with_each(0, |shard| {
            act(shard);
            Next::Shard
        });
    }

    /// Removes pins whose time has come, and of those that are too many the ones that have been idle longest, at most
    /// `most` of each shard.
    pub(super) fn sweep(&self, now: Moment, most: usize) {
        let bound = self.most.load(Ordering::Relaxed);
        let mut evicted = 0;
        self.each_shard(|shard| {
            shard.sweep(now, most);
            // There are only more where the bound was lowered; the others give way in the other shards.
            let surplus = self.len().saturating_sub(bound) / self.shards.len();
            let surplus = if self.len() > bound { surplus + 1 } else { 0 };
            evicted += (0..surplus.min(most)).take_while(|_| shard.evict()).count();
        });
        self.evicted.fetch_add(evicted, Ordering::Relaxed);
    }

    /// Holds at most `most` pins from now on; what is too many goes with the next sweeps, unless it is in use.
    pub(super) fn set_most(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// Pins outlive their last connection by `ttl` from now on, those that are idle already included.
    pub(super) fn set_ttl(&self, ttl: Duration, now: Moment) {
        self.each_shard(|shard| shard.set_ttl(ttl, now));
    }

    /// Pins that lead to `member`.
    pub(super) fn leading_to(&self, member: Member) -> usize {
        self.shards
            .iter()
            .map(|shard| lock(shard).leading_to(member))
            .sum()
    }

    /// Counts one more pin, if there is room under the bound or an idle pin gives way to it. That is the longest idle
    /// of its own shard; only where that has none, another shard's, as far as it is not being used right now.
    fn make_room(&self, shard: &mut Shard<K>, home: usize) -> bool {
        let within = |pins| (pins < self.most.load(Ordering::Relaxed)).then_some(pins + 1);
        let counted = self
            .pins
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, within);
        if counted.is_ok() {
            return true;
        }
        let mut others =
            (1..self.shards.len().min(ASKED)).map(|step| (home + step) % self.shards.len());
        let gave_way = shard.evict() || others.any(|other| self.evict_from(other));
        self.evicted
            .fetch_add(usize::from(gave_way), Ordering::Relaxed);
        gave_way
    }

    /// Never waits for the lock: whoever holds it may be waiting for the one that is held here.
    fn evict_from(&self, other: usize) -> bool {
        self.shards[other].try_lock().is_ok_and(|mut other| {
            let evicted = other.evict();
            self.shares.give_back(&mut other);
            evicted
        })
    }

    fn recount(&self, before: usize, shard: &mut Shard<K>) {
        let after = shard.len();
        match after.checked_sub(before) {
            Some(0) => {}
            Some(more) => drop(self.pins.fetch_add(more, Ordering::Relaxed)),
            None => drop(self.pins.fetch_sub(before - after, Ordering::Relaxed)),
        }
        self.shares.give_back(shard);
    }
}

/// Where a walk goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// In the same shard.
    Again,
    /// In the next shard.
    Shard,
    /// Nowhere.
    End,
}

/// A connection's hold on its pin; given back by `Drop`.
#[derive(Debug)]
pub struct PinGuard<K: KeyKind> {
    pins: Arc<Pins>,
    /// Below 2^32: there are fewer than pins.
    shard: u32,
    place: PinHandle,
    kind: PhantomData<K>,
}

impl<K: KeyKind> PinGuard<K> {
    pub(super) fn new(pins: &Arc<Pins>, home: ShardSlot, place: PinHandle) -> Self {
        Self {
            pins: pins.clone(),
            shard: u32::try_from(home.shard).unwrap_or(u32::MAX),
            place,
            kind: PhantomData,
        }
    }

    /// The table that it is of.
    #[must_use]
    pub fn pins(&self) -> &Arc<Pins> {
        &self.pins
    }

    /// See [`Shard::next`].
    pub fn next(
        &self,
        fit: impl Fn(Member) -> Eligibility,
        choose: impl FnOnce() -> Option<Member>,
    ) -> Option<Member> {
        self.with(|shard| shard.next(self.place, fit, choose))
    }

    /// See [`Shard::answered`].
    #[must_use]
    pub fn answered(&self, member: Member) -> Option<Member> {
        self.with(|shard| shard.answered(self.place, member))
    }

    /// See [`Shard::answered_by`].
    #[must_use]
    pub fn answered_by(&self, member: Member) -> Option<Member> {
        self.with(|shard| shard.answered_by(self.place, member))
    }

    /// Whether its connection is to end, because an administrator has moved the pin.
    #[must_use]
    pub fn is_recalled(&self) -> bool {
        self.with(|shard| shard.is_recalled(self.place))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Shard<K>) -> T) -> T {
        K::table(&self.pins).with_shard(self.shard as usize, act)
    }
}

impl<K: KeyKind> Drop for PinGuard<K> {
    fn drop(&mut self) {
        let now = self.pins.now();
        self.with(|shard| shard.end(self.place, now));
    }
}

/// No critical section here panics half way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
