//! Pins of one kind of key, shared by every worker.
//!
//! Owns the shards, their locks and the limit over all of them together. Must not know what a key is made of. Invariants:
//! [`PinGuard`]s and uses of pins correspond one to one; no thread waits for a shard's lock while it holds another's.

use std::hash::{BuildHasher, Hash, RandomState};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use super::quota::Quotas;
use super::sync::{AtomicUsize, Mutex, MutexGuard, Ordering, PoisonError};
use super::{ForeignHold, Pins};
use crate::affinity::record::PinKey;
use crate::affinity::shard::{
    Eligibility, Key, Keyed, Member, Moment, PinAction, PinHandle, PinView, Session, Shard, Tag,
};

/// Enough that two workers rarely need the same one.
const SHARDS: usize = 64;
/// A table that cannot have so many pins in each of [`SHARDS`] has fewer shards.
const FEWEST_IN_A_SHARD: usize = 1024;
/// A table that would have more pins in a shard has more shards: the index of a shard grows in one step with its lock held,
/// and this limits how long that takes.
const MOST_IN_A_SHARD: usize = 16 * 1024;
/// The most shards that an eviction for one client tries.
const EVICTION_SHARDS: usize = 64;
/// Cells that a walk through the table visits under one lock.
pub(super) const STEP: u32 = 256;

/// A kind of key that a group has a table for.
pub trait KeyKind: Keyed + Hash {
    /// The group's table of this kind.
    fn table(pins: &Pins) -> &KeyTable<Self>;

    /// The key as it is outside the table.
    fn pin_key(self, pins: &Pins) -> PinKey;

    /// Marks a hold on the pin of this key as one for connections of another process.
    fn foreign_hold(self, guard: PinGuard<Self>) -> ForeignHold;
}

impl KeyKind for Key {
    fn table(pins: &Pins) -> &KeyTable<Self> {
        &pins.clients
    }

    fn pin_key(self, pins: &Pins) -> PinKey {
        PinKey::Client {
            source: self.source,
            name: pins.names.text(self.name),
        }
    }

    fn foreign_hold(self, guard: PinGuard<Self>) -> ForeignHold {
        ForeignHold::client(guard, self)
    }
}

impl KeyKind for Session {
    fn table(pins: &Pins) -> &KeyTable<Self> {
        &pins.sessions
    }

    fn pin_key(self, _: &Pins) -> PinKey {
        PinKey::Session {
            hash: self.hash,
            client: self.client,
        }
    }

    fn foreign_hold(self, guard: PinGuard<Self>) -> ForeignHold {
        ForeignHold::session(guard, self)
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
    pub(super) quotas: Quotas,
}

/// The shard of a key, and its tag there.
#[derive(Debug, Clone, Copy)]
pub(super) struct ShardSlot {
    shard: usize,
    tag: Tag,
}

impl<K: KeyKind> KeyTable<K> {
    /// An empty table with a limit of `most` pins.
    pub(super) fn new(most: usize, ttl: Duration, quotas: Quotas) -> Self {
        let shards = (most / FEWEST_IN_A_SHARD)
            .clamp(1, SHARDS)
            .max(most / MOST_IN_A_SHARD)
            .next_power_of_two();
        Self::of_shards(shards, most, ttl, quotas)
    }

    /// The same with this number of shards, a power of two.
    pub(super) fn of_shards(shards: usize, most: usize, ttl: Duration, quotas: Quotas) -> Self {
        Self {
            shards: (0..shards).map(|_| Mutex::new(Shard::new(ttl))).collect(),
            hasher: RandomState::new(),
            pins: AtomicUsize::new(0),
            evicted: AtomicUsize::new(0),
            most: AtomicUsize::new(most),
            quotas,
        }
    }

    /// Number of pins, including expired ones not yet swept.
    pub(super) fn len(&self) -> usize {
        self.pins.load(Ordering::Relaxed)
    }

    /// The shard of a key's pin.
    #[cfg(lyncpin_shuttle)]
    pub(super) fn shard_of(&self, key: &K) -> usize {
        self.home(key).shard
    }

    /// Number of shards.
    #[cfg(test)]
    pub(super) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Number of pins evicted since the last call.
    pub(super) fn take_evicted(&self) -> usize {
        self.evicted.swap(0, Ordering::Relaxed)
    }

    /// Shard and tag are different bits of one hash.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the low half is used on purpose"
    )]
    pub(super) fn home(&self, key: &K) -> ShardSlot {
        let hash = self.hasher.hash_one(key);
        let high = usize::try_from(hash >> 32).unwrap_or(0);
        ShardSlot {
            shard: high & (self.shards.len() - 1),
            tag: Tag(hash as u32),
        }
    }

    /// Calls `act` with a key's locked shard, and a function that makes room for one more pin there.
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

    /// Calls `act` with each locked shard in turn, from shard `first` on, until it returns [`Next::End`]. Returns the shard at
    /// which it ended.
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

    /// Visits every pin, in steps.
    pub(super) fn visit(&self, now: Moment, mut each: impl FnMut(&PinView<K>) -> PinAction) {
        let mut from = 0;
        self.with_each(0, |shard| {
            let next = shard.visit(from, STEP, now, &mut each);
            from = next.unwrap_or(0);
            next.map_or(Next::Shard, |_| Next::Again)
        });
    }

    /// Calls `act` with every locked shard.
    pub(super) fn each_shard(&self, mut act: impl FnMut(&mut Shard<K>)) {
        self.with_each(0, |shard| {
            act(shard);
            Next::Shard
        });
    }

    /// Removes expired pins, and while there are more than the limit the ones that have been idle longest; at most `most` of
    /// each shard.
    pub(super) fn sweep(&self, now: Moment, most: usize) {
        let limit = self.most.load(Ordering::Relaxed);
        let mut evicted = 0;
        self.each_shard(|shard| {
            shard.sweep(now, most);
            // There are more only after the limit was lowered; each shard evicts its part.
            let surplus = self.len().saturating_sub(limit) / self.shards.len();
            let surplus = if self.len() > limit { surplus + 1 } else { 0 };
            evicted += (0..surplus.min(most)).take_while(|_| shard.evict()).count();
        });
        self.evicted.fetch_add(evicted, Ordering::Relaxed);
    }

    /// Changes the limit. The next sweeps evict idle pins that are too many.
    pub(super) fn set_most(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// Changes the time to live, also of pins that are idle already.
    pub(super) fn set_ttl(&self, ttl: Duration, now: Moment) {
        self.each_shard(|shard| shard.set_ttl(ttl, now));
    }

    /// Number of pins to `member`.
    pub(super) fn leading_to(&self, member: Member) -> usize {
        self.shards
            .iter()
            .map(|shard| lock(shard).pins_to(member))
            .sum()
    }

    /// Counts one more pin, if the limit allows it or an idle pin can be evicted: the longest idle of the same shard, or, if
    /// that has none, of another shard that is not locked at the moment.
    fn make_room(&self, shard: &mut Shard<K>, home: usize) -> bool {
        let within = |pins| (pins < self.most.load(Ordering::Relaxed)).then_some(pins + 1);
        let counted = self
            .pins
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, within);
        if counted.is_ok() {
            return true;
        }
        let mut others = (1..self.shards.len().min(EVICTION_SHARDS))
            .map(|step| (home + step) % self.shards.len());
        let evicted = shard.evict() || others.any(|other| self.evict_from(other));
        self.evicted
            .fetch_add(usize::from(evicted), Ordering::Relaxed);
        evicted
    }

    /// Never waits for the lock: its holder may be waiting for the one that is held here.
    fn evict_from(&self, other: usize) -> bool {
        self.shards[other].try_lock().is_ok_and(|mut other| {
            let evicted = other.evict();
            self.quotas.give_back(&mut other);
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
        self.quotas.give_back(shard);
    }
}

/// Where a walk continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// In the same shard.
    Again,
    /// In the next shard.
    Shard,
    /// It ends.
    End,
}

/// A connection's hold on its pin; released by `Drop`.
#[derive(Debug)]
pub struct PinGuard<K: KeyKind> {
    pins: Arc<Pins>,
    /// Less than 2^32: there are fewer shards than pins.
    shard: u32,
    handle: PinHandle,
    kind: PhantomData<K>,
}

impl<K: KeyKind> PinGuard<K> {
    pub(super) fn new(pins: &Arc<Pins>, home: ShardSlot, handle: PinHandle) -> Self {
        Self {
            pins: pins.clone(),
            shard: u32::try_from(home.shard).unwrap_or(u32::MAX),
            handle,
            kind: PhantomData,
        }
    }

    /// The table of the pin.
    #[must_use]
    pub fn pins(&self) -> &Arc<Pins> {
        &self.pins
    }

    /// See [`Shard::next_member`].
    pub fn next_member(
        &self,
        eligibility: impl Fn(Member) -> Eligibility,
        choose: impl FnOnce() -> Option<Member>,
    ) -> Option<Member> {
        self.with(|shard| shard.next_member(self.handle, eligibility, choose))
    }

    /// See [`Shard::answered`].
    #[must_use]
    pub fn answered(&self, member: Member) -> Option<Member> {
        self.with(|shard| shard.answered(self.handle, member))
    }

    /// See [`Shard::answered_by`].
    #[must_use]
    pub fn answered_by(&self, member: Member) -> Option<Member> {
        self.with(|shard| shard.answered_by(self.handle, member))
    }

    /// Whether an administrator has moved the pin, so that its connection must end.
    #[must_use]
    pub fn has_moved(&self) -> bool {
        self.with(|shard| shard.has_moved(self.handle))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Shard<K>) -> T) -> T {
        K::table(&self.pins).with_shard(self.shard as usize, act)
    }
}

impl<K: KeyKind> Drop for PinGuard<K> {
    fn drop(&mut self) {
        let now = self.pins.now();
        self.with(|shard| shard.release(self.handle, now));
    }
}

/// Ignores poisoning: no critical section here panics half way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
