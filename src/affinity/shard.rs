//! One shard of the affinity table: which client is pinned to which backend.
//!
//! Owns the rules of a pin's life. Knows no lock, no clock, no hash and no pool: `now`, tags and what may take a client
//! are passed in, backends are numbers. Every operation on one pin costs the same however many there are, and its use
//! touches two cache lines that grow with the table: an entry of the index and the pin. What goes through the table goes
//! in steps whose length the caller bounds.
//!
//! Invariants: a pin in use is never removed; an idle pin stands in the wheel, in a list that is looked at no later
//! than the pin expires; [`Shard::len`] never passes the bound.
//!
//! | file | owns |
//! |---|---|
//! | `key` | whom a pin is for |
//! | `origin` | how a pin came to lead where it leads |
//! | `index` | from a key's hash to its pin's place |
//! | `cells` | where pins lie |
//! | `wheel` | in which order idle pins are looked at again |
//! | `removal` | how pins go |
//! | `ttl` | another time to live |
//! | `walk` | going through the table, in steps |
//! | `handoff` | pins that pass to another process |
//! | `changes` | what has changed, for whoever keeps pins elsewhere |

mod cells;
mod changes;
mod handoff;
mod index;
mod key;
mod origin;
mod removal;
mod ttl;
mod walk;
mod wheel;

use std::time::Duration;

use cells::{PinCell, PinCells};
use changes::ChangeLog;
pub use changes::{Completeness, ShardChange};
pub use handoff::PutOutcome;
use index::Index;
pub use key::{Key, Keyed, Session, Tag, source_bits};
pub use origin::Origin;
pub use walk::{PinAction, PinView, TableFull};
use wheel::ExpiryWheel;

/// Whether a pinned backend takes a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eligibility {
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

impl Moment {
    fn seconds(self) -> u32 {
        u32::try_from(self.0 / 1000).unwrap_or(u32::MAX)
    }
}

/// A connection's hold on a pin of a shard; valid until the connection gives it back with [`Shard::end`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PinHandle {
    at: u32,
    /// The pin's recalls when it was taken.
    recalls: u8,
}

/// What a client's key leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyLookup {
    /// The pin's backend takes the client.
    Pinned(PinHandle, Member),
    /// There was no pin; the client goes where the first connection of this key was sent.
    New(PinHandle, Member),
    /// The pin's backend does not take the client; it goes elsewhere, and the pin follows once that answers.
    Stale(PinHandle, Member),
    /// Every pin of a full table is in use, so this client gets none.
    Unpinned(Member),
    /// The pin leads to a backend that whoever asks does not have; it stays as it is.
    Foreign,
    /// Nothing takes the client.
    Nowhere,
}

/// No member, no place.
const NONE: u32 = u32::MAX;

/// One shard.
#[derive(Debug)]
pub struct Shard<K> {
    ttl: Duration,
    index: Index,
    pins: PinCells<K>,
    wheel: ExpiryWheel,
    /// Pins that lead to each member, by its number.
    leading_to: Vec<usize>,
    changes: ChangeLog<K>,
    /// Keys of pins that were removed, where clients have shares of the table.
    removed: Vec<K>,
}

impl<K: Keyed> Shard<K> {
    /// An empty shard whose pins outlive their last connection by `ttl`.
    #[must_use]
    pub fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            index: Index::default(),
            pins: PinCells::new(),
            wheel: ExpiryWheel::new(ttl),
            leading_to: Vec::new(),
            changes: ChangeLog::none(),
            removed: Vec::new(),
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
    /// `room` makes room for one more pin; where it cannot, the client goes unpinned. `origin` is that of a new pin.
    pub fn begin(
        &mut self,
        (key, tag): (K, Tag),
        now: Moment,
        origin: Origin,
        fit: impl Fn(Member) -> Eligibility,
        choose: impl FnOnce() -> Option<Member>,
        room: impl FnOnce(&mut Self) -> bool,
    ) -> KeyLookup {
        self.sweep(now, 2);
        let Some(at) = self.standing(&key, tag, now) else {
            let Some(chosen) = choose() else {
                return KeyLookup::Nowhere;
            };
            if !room(self) {
                return KeyLookup::Unpinned(chosen);
            }
            let at = self.insert((key, tag), now, origin);
            return self.lend(at, chosen);
        };
        let pin = &self.pins[at];
        let asked = [pin.member, pin.candidate].map(|member| match member {
            NONE => Eligibility::Refuses,
            member => fit(Member(member)),
        });
        match asked {
            [Eligibility::Takes, _] => {
                let member = Member(pin.member);
                KeyLookup::Pinned(self.hold(at), member)
            }
            // Others have been sent there, and it is theirs to find out whether it answers.
            [Eligibility::Foreign, _] | [_, Eligibility::Foreign] => KeyLookup::Foreign,
            [Eligibility::Refuses, Eligibility::Takes] => self.lend(at, Member(pin.candidate)),
            [Eligibility::Refuses, Eligibility::Refuses] => match choose() {
                Some(chosen) => self.lend(at, chosen),
                None => KeyLookup::Nowhere,
            },
        }
    }

    /// Takes the pin of `key` into use, if one stands, leads somewhere and that is not foreign to whoever asks. Says
    /// where it leads and whether that takes the client. The pin is then `key`'s new self.
    pub fn resume(
        &mut self,
        (key, tag): (K, Tag),
        now: Moment,
        fit: impl Fn(Member) -> Eligibility,
    ) -> Option<Resumed<K>> {
        let at = self.standing(&key, tag, now)?;
        let pin = &mut self.pins[at];
        let member = Member(pin.member);
        if pin.member == NONE {
            return None;
        }
        let fit = fit(member);
        if fit == Eligibility::Foreign {
            return None;
        }
        let before = std::mem::replace(&mut pin.key, key);
        if before.share() != key.share() {
            self.changes.note(&mut self.pins, at);
        }
        Some(Resumed {
            place: self.hold(at),
            member,
            takes: fit == Eligibility::Takes,
            before,
        })
    }

    /// Makes the pin of `key` lead to `member`, be it new or not, and takes it into use; `None` where there is no room.
    /// One that stands stays with whom it was known of.
    pub fn teach(
        &mut self,
        (key, tag): (K, Tag),
        now: Moment,
        member: Member,
        room: impl FnOnce(&mut Self) -> bool,
    ) -> Option<PinHandle> {
        let at = match self.standing(&key, tag, now) {
            Some(at) => at,
            None if room(self) => self.insert((key, tag), now, Origin::Session),
            None => return None,
        };
        let place = self.hold(at);
        self.answered_by(place, member);
        Some(place)
    }

    /// Where a connection goes whose backend could not be reached; all that fail at once agree. `fit` must refuse what
    /// this connection has tried already.
    pub fn next(
        &mut self,
        place: PinHandle,
        fit: impl Fn(Member) -> Eligibility,
        choose: impl FnOnce() -> Option<Member>,
    ) -> Option<Member> {
        let pin = &mut self.pins[place.at];
        let known = [pin.member, pin.candidate]
            .into_iter()
            .find(|&member| member != NONE && fit(Member(member)) == Eligibility::Takes);
        if let Some(known) = known {
            return Some(Member(known));
        }
        let chosen = choose()?;
        pin.candidate = chosen.0;
        Some(chosen)
    }

    /// `member` has answered a connection that holds the pin: the pin follows, if that is where its connections are
    /// sent. Says where it led before, if it led elsewhere.
    pub fn answered(&mut self, place: PinHandle, member: Member) -> Option<Member> {
        let pin = &self.pins[place.at];
        let meant = pin.member == NONE || pin.candidate == member.0;
        if meant {
            self.answered_by(place, member)
        } else {
            None
        }
    }

    /// The same wherever its connections were sent; but not after they were recalled, for then they are where the pin was
    /// moved from.
    pub fn answered_by(&mut self, place: PinHandle, member: Member) -> Option<Member> {
        if self.is_recalled(place) || self.pins[place.at].member == member.0 {
            return None;
        }
        let before = self.lead(place.at, member.0);
        let pin = &mut self.pins[place.at];
        pin.candidate = NONE;
        if before == NONE {
            return None;
        }
        pin.origin = Origin::Failover;
        Some(Member(before))
    }

    /// Whether the connections that held the pin when `place` was taken have been recalled since.
    #[must_use]
    pub fn is_recalled(&self, place: PinHandle) -> bool {
        self.pins[place.at].recalls != place.recalls
    }

    /// A connection that held the pin has ended.
    pub fn end(&mut self, place: PinHandle, now: Moment) {
        let at = place.at;
        let pin = &mut self.pins[at];
        pin.in_use -= 1;
        if pin.in_use > 0 {
            return;
        }
        pin.candidate = NONE;
        if pin.member == NONE {
            // No backend has answered, or the pin was forgotten meanwhile.
            self.unlist(at);
            return self.remove(at);
        }
        self.keep_idle(at, after(now, self.ttl), now);
    }

    /// Pins that lead to `member`, expired ones included until they are swept.
    #[must_use]
    pub fn leading_to(&self, member: Member) -> usize {
        self.leading_to.get(member.0 as usize).copied().unwrap_or(0)
    }

    /// The pin of `key`. One that has expired is removed here, so that nobody takes it for one that stands.
    fn standing(&mut self, key: &K, tag: Tag, now: Moment) -> Option<u32> {
        let at = self.find(key, tag)?;
        if self.pins[at].is_expired(now) {
            self.unlist(at);
            self.remove(at);
            return None;
        }
        Some(at)
    }

    fn find(&self, key: &K, tag: Tag) -> Option<u32> {
        self.index.find(tag, |at| self.pins[at].key == *key)
    }

    /// A pin that leads nowhere, is not in use and not listed: the caller sees to that at once.
    fn insert(&mut self, (key, tag): (K, Tag), now: Moment, origin: Origin) -> u32 {
        let at = self.pins.add(PinCell {
            key,
            tag,
            member: NONE,
            candidate: NONE,
            in_use: 0,
            next: NONE,
            before: NONE,
            created: now.seconds(),
            listed: false,
            changed: false,
            recalls: 0,
            origin,
            expires: now,
        });
        self.index.insert(tag, at);
        at
    }

    /// Takes the pin into use.
    fn hold(&mut self, at: u32) -> PinHandle {
        let pin = &mut self.pins[at];
        pin.in_use += 1;
        let recalls = pin.recalls;
        if pin.in_use == 1 && pin.member != NONE {
            self.changes.note(&mut self.pins, at);
        }
        PinHandle { at, recalls }
    }

    /// For a connection that goes where the pin does not lead yet.
    fn lend(&mut self, at: u32, wanted: Member) -> KeyLookup {
        let place = self.hold(at);
        let pin = &mut self.pins[at];
        pin.candidate = wanted.0;
        match pin.member {
            NONE => KeyLookup::New(place, wanted),
            _ => KeyLookup::Stale(place, wanted),
        }
    }

    /// Makes the pin lead to `member`, or nowhere; says where it led before.
    fn lead(&mut self, at: u32, member: u32) -> u32 {
        let before = self.count_lead(at, member);
        if before != member {
            self.changes.note(&mut self.pins, at);
        }
        before
    }

    /// The same, of which nobody is told.
    fn count_lead(&mut self, at: u32, member: u32) -> u32 {
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

/// A pin that was taken into use by its key alone.
#[derive(Debug, Clone, Copy)]
pub struct Resumed<K> {
    /// The hold on it.
    pub place: PinHandle,
    /// Where it leads.
    pub member: Member,
    /// Whether that takes the client.
    pub takes: bool,
    /// The key as it was known before.
    pub before: K,
}

fn after(now: Moment, ttl: Duration) -> Moment {
    let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    Moment(now.0.saturating_add(ttl))
}

#[cfg(test)]
mod tests;
