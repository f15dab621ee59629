//! One shard of the affinity table: which client is pinned to which backend.
//!
//! Owns the rules of a pin's life. Knows no lock, no clock, no hash and no pool: `now`, tags and what may take a client
//! are passed in, backends are numbers. Every operation but [`Shard::release`] costs the same however many pins there
//! are, and the use of a pin touches two cache lines that grow with the table: an entry of the index and the pin.
//!
//! Invariants: a pin in use is never removed; an idle pin stands in the wheel, in a list that is looked at no later
//! than the pin expires; [`Shard::len`] never passes the bound.

mod index;
mod key;
mod removal;
mod store;
mod wheel;

use std::time::Duration;

use index::Index;
pub use key::{Key, Tag, source_bits};
use store::{Pin, Store};
use wheel::Wheel;

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

/// No member, no place.
const NONE: u32 = u32::MAX;

/// One shard.
#[derive(Debug)]
pub struct Shard {
    ttl: Duration,
    index: Index,
    pins: Store,
    wheel: Wheel,
    /// Pins that lead to each member, by its number.
    leading_to: Vec<usize>,
}

impl Shard {
    /// An empty shard whose pins outlive their last connection by `ttl`.
    #[must_use]
    pub fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            index: Index::default(),
            pins: Store::new(),
            wheel: Wheel::new(ttl),
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
        self.len() == 0
    }

    /// Finds or makes the pin of `key` for a new connection, which holds it until [`Shard::end`].
    ///
    /// `fit` says whether a pinned backend may take this client, `choose` picks one for a client that has none.
    /// `room` makes room for one more pin; where it cannot, the client goes unpinned.
    pub fn begin(
        &mut self,
        (key, tag): (Key, Tag),
        now: Moment,
        fit: impl Fn(Member) -> Fit,
        choose: impl FnOnce() -> Option<Member>,
        room: impl FnOnce(&mut Self) -> bool,
    ) -> Found {
        self.sweep(now, 2);
        let Some(at) = self.find(&key, tag) else {
            let Some(chosen) = choose() else {
                return Found::Nowhere;
            };
            if !room(self) {
                return Found::Unpinned(chosen);
            }
            return Found::New(self.insert((key, tag), chosen, now), chosen);
        };
        let pin = &mut self.pins[at];
        let expired = pin.is_expired(now);
        if pin.member != NONE && !expired {
            match fit(Member(pin.member)) {
                Fit::Takes => {
                    pin.in_use += 1;
                    return Found::Pinned(Place(at), Member(pin.member));
                }
                Fit::Foreign => return Found::Foreign,
                Fit::Refuses => {}
            }
        }
        let agreed = Some(Member(pin.candidate))
            .filter(|&candidate| candidate.0 != NONE && fit(candidate) == Fit::Takes);
        let Some(wanted) = agreed.or_else(choose) else {
            return Found::Nowhere;
        };
        if expired {
            self.lead(at, NONE);
            self.pins[at].created = now;
        }
        self.lend(at, wanted)
    }

    /// Where a connection goes whose backend could not be reached; all that fail at once agree. `fit` must refuse what
    /// this connection has tried already.
    pub fn next(
        &mut self,
        place: Place,
        fit: impl Fn(Member) -> Fit,
        choose: impl FnOnce() -> Option<Member>,
    ) -> Option<Member> {
        let pin = &mut self.pins[place.0];
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
        let pin = &mut self.pins[place.0];
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
        let at = place.0;
        let pin = &mut self.pins[at];
        pin.in_use -= 1;
        if pin.in_use > 0 {
            return;
        }
        pin.candidate = NONE;
        let ttl = u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX);
        // One that leads nowhere has no time left. If it is listed, since it had expired when this connection came and
        // no backend has answered since, then it waits there for the sweep as any expired one does.
        pin.expires = match pin.member {
            NONE => now,
            _ => Moment(now.0.saturating_add(ttl)),
        };
        let (leads, listed) = (pin.member != NONE, pin.listed);
        if !leads && !listed {
            self.remove(at);
        } else if !listed {
            self.wheel.advance(now);
            self.wheel.list(&mut self.pins, at);
        }
    }

    /// Pins that lead to `member`, expired ones included until they are swept.
    #[must_use]
    pub fn leading_to(&self, member: Member) -> usize {
        self.leading_to.get(member.0 as usize).copied().unwrap_or(0)
    }

    /// The pin of `key`, if one stands.
    #[must_use]
    pub fn view(&self, (key, tag): (&Key, Tag), now: Moment) -> Option<View> {
        let pin = &self.pins[self.find(key, tag)?];
        if pin.member == NONE || pin.is_expired(now) {
            return None;
        }
        Some(View {
            key: pin.key,
            member: Member(pin.member),
            created: pin.created,
            in_use: pin.in_use,
            expires: (pin.in_use == 0).then_some(pin.expires),
        })
    }

    fn find(&self, key: &Key, tag: Tag) -> Option<u32> {
        self.index.find(tag, |at| self.pins[at].key == *key)
    }

    fn insert(&mut self, (key, tag): (Key, Tag), candidate: Member, now: Moment) -> Place {
        let at = self.pins.add(Pin {
            key,
            tag,
            member: NONE,
            candidate: candidate.0,
            in_use: 1,
            next: NONE,
            listed: false,
            created: now,
            expires: now,
        });
        self.index.insert(tag, at);
        Place(at)
    }

    /// For a connection that goes where the pin does not lead yet.
    fn lend(&mut self, at: u32, wanted: Member) -> Found {
        let pin = &mut self.pins[at];
        pin.in_use += 1;
        pin.candidate = wanted.0;
        match pin.member {
            NONE => Found::New(Place(at), wanted),
            _ => Found::Stale(Place(at), wanted),
        }
    }

    /// Makes the pin lead to `member`, or nowhere; says where it led before.
    fn lead(&mut self, at: u32, member: u32) -> u32 {
        let before = std::mem::replace(&mut self.pins[at].member, member);
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
}

#[cfg(test)]
mod tests;
