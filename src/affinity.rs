//! One shard of the affinity table: which client is pinned to which backend.
//!
//! Owns the rules of a pin's life. Knows no lock, no clock and no pool: `now` and what may take a client are passed
//! in, backends are numbers. Every operation but [`Shard::release`] costs the same however many pins there are.
//!
//! Invariants: a pin in use stands in no list and is never removed; the idle pins stand in one list, the one whose
//! last connection ended first at its head, which is also the order in which they expire, since one table has one
//! time to live; [`Shard::len`] never passes the bound.

mod key;

use std::hash::BuildHasher;
use std::time::Duration;

use hashbrown::HashTable;

pub use key::{Key, source_bits};

/// Whether a pinned backend takes a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// It does.
    Takes,
    /// It does not now.
    Refuses,
    /// Whoever asks has no such backend, which says nothing of the pin.
    Foreign,
}

/// A backend, as the table numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Member(pub u32);

/// Milliseconds on the table's own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

/// A pin's place in its shard; valid while the connection that holds it has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(u32);

/// What a client's key leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The pin's backend takes the client.
    Pinned(Place, Member),
    /// There was no pin; the client goes where the first connection of this key was sent.
    New(Place, Member),
    /// The pin's backend does not take the client; it goes elsewhere, and the pin follows once that answers.
    Stale(Place, Member),
    /// Every pin of a full table is in use, so this client gets none.
    Unpinned(Member),
    /// The pin leads to a backend that whoever asks does not have; it stays as it is.
    Foreign,
    /// Nothing takes the client.
    Nowhere,
}

/// One pin, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// Whom it is for.
    pub key: Key,
    /// Where it leads.
    pub member: Member,
    /// When it was made.
    pub created: Moment,
    /// Connections that hold it now.
    pub in_use: u32,
    /// When it expires; `None` while it is in use.
    pub expires: Option<Moment>,
}

const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Pin {
    key: Key,
    /// Where the client is pinned; `NONE` until the first backend has answered.
    member: u32,
    /// Where connections of this key are sent until one has answered there; `NONE` in the usual case.
    candidate: u32,
    in_use: u32,
    /// Neighbours among the idle; `next` also links the free places.
    previous: u32,
    next: u32,
    created: Moment,
    /// Of an idle pin.
    expires: Moment,
}

/// One shard.
#[derive(Debug)]
pub struct Shard<S> {
    hasher: S,
    ttl: Duration,
    index: HashTable<u32>,
    pins: Vec<Pin>,
    free: u32,
    oldest: u32,
    newest: u32,
    /// Pins that lead to each member, by its number.
    leading_to: Vec<usize>,
}

impl<S: BuildHasher> Shard<S> {
    /// An empty shard whose pins outlive their last connection by `ttl`.
    #[must_use]
    pub fn new(hasher: S, ttl: Duration) -> Self {
        Self {
            hasher,
            ttl,
            index: HashTable::new(),
            pins: Vec::new(),
            free: NONE,
            oldest: NONE,
            newest: NONE,
            leading_to: Vec::new(),
        }
    }

    /// Pins that stand, in use or idle, expired ones included until they are swept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is no pin.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Finds or makes the pin of `key` for a new connection, which holds it until [`Shard::end`].
    ///
    /// `fit` says whether a pinned backend may take this client, `choose` picks one for a client that has none.
    /// `room` makes room for one more pin; where it cannot, the client goes unpinned.
    pub fn begin(
        &mut self,
        key: Key,
        now: Moment,
        fit: impl Fn(Member) -> Fit,
        choose: impl FnOnce() -> Option<Member>,
        room: impl FnOnce(&mut Self) -> bool,
    ) -> Found {
        self.sweep(now, 2);
        let Some(at) = self.find(&key) else {
            let Some(chosen) = choose() else {
                return Found::Nowhere;
            };
            if !room(self) {
                return Found::Unpinned(chosen);
            }
            return Found::New(self.insert(key, chosen, now), chosen);
        };
        let pin = &self.pins[at as usize];
        let (member, candidate) = (pin.member, pin.candidate);
        if member != NONE {
            match fit(Member(member)) {
                Fit::Takes => {
                    self.hold(at);
                    return Found::Pinned(Place(at), Member(member));
                }
                Fit::Foreign => return Found::Foreign,
                Fit::Refuses => {}
            }
        }
        let wanted = if candidate != NONE && fit(Member(candidate)) == Fit::Takes {
            Some(Member(candidate))
        } else {
            choose()
        };
        let Some(wanted) = wanted else {
            return Found::Nowhere;
        };
        self.hold(at);
        self.pins[at as usize].candidate = wanted.0;
        match member {
            NONE => Found::New(Place(at), wanted),
            _ => Found::Stale(Place(at), wanted),
        }
    }

    /// Where a connection goes whose backend could not be reached; all that fail at once agree. `fit` must refuse what
    /// this connection has tried already.
    pub fn next(
        &mut self,
        place: Place,
        fit: impl Fn(Member) -> Fit,
        choose: impl FnOnce() -> Option<Member>,
    ) -> Option<Member> {
        let pin = &mut self.pins[place.0 as usize];
        let known = [pin.member, pin.candidate]
            .into_iter()
            .find(|&member| member != NONE && fit(Member(member)) == Fit::Takes);
        if let Some(known) = known {
            return Some(Member(known));
        }
        let chosen = choose()?;
        pin.candidate = chosen.0;
        Some(chosen)
    }

    /// `member` has answered a connection that holds the pin: the pin follows, if that is where its connections are
    /// sent. Says where it led before, if it led elsewhere.
    pub fn answered(&mut self, place: Place, member: Member) -> Option<Member> {
        let pin = &mut self.pins[place.0 as usize];
        let meant = pin.member == NONE || pin.candidate == member.0;
        if pin.member == member.0 || !meant {
            return None;
        }
        pin.candidate = NONE;
        let before = self.lead(place.0, member.0);
        (before != NONE).then_some(Member(before))
    }

    /// A connection that held the pin has ended.
    pub fn end(&mut self, place: Place, now: Moment) {
        let pin = &mut self.pins[place.0 as usize];
        pin.in_use -= 1;
        if pin.in_use > 0 {
            return;
        }
        if pin.member == NONE {
            self.remove_unlisted(place.0);
            return;
        }
        pin.candidate = NONE;
        pin.expires = Moment(
            now.0
                .saturating_add(u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX)),
        );
        self.append(place.0);
    }

    /// Removes at most `most` pins whose time has come; says how many.
    pub fn sweep(&mut self, now: Moment, most: usize) -> usize {
        let mut swept = 0;
        while swept < most && self.oldest != NONE && self.pins[self.oldest as usize].expires <= now
        {
            self.evict();
            swept += 1;
        }
        swept
    }

    /// Removes the idle pin whose last connection ended first; says whether there was one.
    pub fn evict(&mut self) -> bool {
        let oldest = self.oldest;
        if oldest == NONE {
            return false;
        }
        self.unlist(oldest);
        self.remove_unlisted(oldest);
        true
    }

    /// Forgets every pin to `member`; says how many there were. Connections that hold one keep it, leading nowhere.
    pub fn release(&mut self, member: Member) -> usize {
        let places: Vec<u32> = self
            .index
            .iter()
            .copied()
            .filter(|&at| self.pins[at as usize].member == member.0)
            .collect();
        for &at in &places {
            self.lead(at, NONE);
            if self.pins[at as usize].in_use == 0 {
                self.unlist(at);
                self.remove_unlisted(at);
            }
        }
        places.len()
    }

    /// Pins that lead to `member`, expired ones included until they are swept.
    #[must_use]
    pub fn leading_to(&self, member: Member) -> usize {
        self.leading_to.get(member.0 as usize).copied().unwrap_or(0)
    }

    /// The pin of `key`, if one stands.
    #[must_use]
    pub fn view(&self, key: &Key, now: Moment) -> Option<View> {
        let pin = &self.pins[self.find(key)? as usize];
        let idle = pin.in_use == 0;
        if pin.member == NONE || (idle && pin.expires <= now) {
            return None;
        }
        Some(View {
            key: pin.key,
            member: Member(pin.member),
            created: pin.created,
            in_use: pin.in_use,
            expires: idle.then_some(pin.expires),
        })
    }

    fn find(&self, key: &Key) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        self.index
            .find(hash, |&at| self.pins[at as usize].key == *key)
            .copied()
    }

    fn hold(&mut self, at: u32) {
        if self.pins[at as usize].in_use == 0 {
            self.unlist(at);
        }
        self.pins[at as usize].in_use += 1;
    }

    fn insert(&mut self, key: Key, candidate: Member, now: Moment) -> Place {
        let pin = Pin {
            key,
            member: NONE,
            candidate: candidate.0,
            in_use: 1,
            previous: NONE,
            next: NONE,
            created: now,
            expires: now,
        };
        let at = match self.free {
            NONE => {
                let at =
                    u32::try_from(self.pins.len()).expect("a shard's bound is below 2^32 pins");
                self.pins.push(pin);
                at
            }
            at => {
                self.free = self.pins[at as usize].next;
                self.pins[at as usize] = pin;
                at
            }
        };
        let (hasher, pins) = (&self.hasher, &self.pins);
        self.index.insert_unique(hasher.hash_one(key), at, |&at| {
            hasher.hash_one(pins[at as usize].key)
        });
        Place(at)
    }

    /// Makes the pin lead to `member`, or nowhere; says where it led before.
    fn lead(&mut self, at: u32, member: u32) -> u32 {
        let before = std::mem::replace(&mut self.pins[at as usize].member, member);
        if before != NONE {
            self.leading_to[before as usize] -= 1;
        }
        if member != NONE {
            let least = (member as usize + 1).max(self.leading_to.len());
            self.leading_to.resize(least, 0);
            self.leading_to[member as usize] += 1;
        }
        before
    }

    fn remove_unlisted(&mut self, at: u32) {
        self.lead(at, NONE);
        let hash = self.hasher.hash_one(self.pins[at as usize].key);
        if let Ok(entry) = self.index.find_entry(hash, |&known| known == at) {
            entry.remove();
        }
        self.pins[at as usize].next = self.free;
        self.free = at;
    }

    fn append(&mut self, at: u32) {
        let last = std::mem::replace(&mut self.newest, at);
        self.pins[at as usize].previous = last;
        self.pins[at as usize].next = NONE;
        match last {
            NONE => self.oldest = at,
            _ => self.pins[last as usize].next = at,
        }
    }

    fn unlist(&mut self, at: u32) {
        let Pin { previous, next, .. } = self.pins[at as usize];
        match previous {
            NONE => self.oldest = next,
            _ => self.pins[previous as usize].next = next,
        }
        match next {
            NONE => self.newest = previous,
            _ => self.pins[next as usize].previous = previous,
        }
    }
}

#[cfg(test)]
mod tests;
