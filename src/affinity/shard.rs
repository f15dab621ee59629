//! One shard of the affinity table: which client is pinned to which backend.
//!
//! Owns the rules of a pin's life. Must not know locks, clocks, hashes or pools: `now`, tags and the eligibility of backends
//! are passed in, backends are numbers. The cost of an operation on one pin does not depend on the number of pins; it
//! touches two cache lines that grow with the table: an entry of the index, and the pin. A walk through the table goes in
//! steps whose length the caller limits.
//!
//! Invariants: a pin in use is never removed; an idle pin is in a list of the wheel that is checked no later than the pin
//! expires; [`Shard::len`] never exceeds the limit.
//!
//! | file | owns |
//! |---|---|
//! | `key` | the keys of pins |
//! | `lookup` | the result of a lookup |
//! | `origin` | why a pin has its backend |
//! | `index` | from the hash of a key to the cell of its pin |
//! | `cells` | the memory of pins |
//! | `wheel` | the order in which idle pins are checked for expiry |
//! | `removal` | how pins are removed: expiry, eviction, an administrator |
//! | `ttl` | a change of the time to live |
//! | `walk` | walks through the table, in steps |
//! | `import` | pins from outside: of a store, of another process, of a table with other keys |
//! | `changes` | the changes since the last time they were taken |

mod cells;
mod changes;
mod import;
mod index;
mod key;
mod lookup;
mod origin;
mod removal;
mod ttl;
mod walk;
mod wheel;

use std::time::Duration;

use cells::{PinCell, PinCells};
use changes::ChangeLog;
pub use changes::{Completeness, ShardChange};
pub use import::ImportOutcome;
use index::Index;
pub use key::{Key, Keyed, Session, Tag, source_bits};
pub use lookup::{Eligibility, KeyLookup, Resumed};
pub use origin::Origin;
pub use walk::{PinAction, PinView, TableFull};
use wheel::ExpiryWheel;

/// The number of a backend in the table.
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

/// A connection's hold on a pin of a shard; valid until the connection releases it with [`Shard::release`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PinHandle {
    at: u32,
    /// How often the pin had been moved when this was acquired.
    moves: u8,
}

/// No member, no cell.
const NONE: u32 = u32::MAX;

/// One shard.
#[derive(Debug)]
pub struct Shard<K> {
    ttl: Duration,
    index: Index,
    pins: PinCells<K>,
    wheel: ExpiryWheel,
    /// The number of pins of each member, by the member's number.
    pins_to: Vec<usize>,
    changes: ChangeLog<K>,
    /// Keys of pins that were removed, where clients have a quota.
    removed: Vec<K>,
}

impl<K: Keyed> Shard<K> {
    /// An empty shard whose pins expire `ttl` after the end of their last connection.
    #[must_use]
    pub fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            index: Index::default(),
            pins: PinCells::new(),
            wheel: ExpiryWheel::new(ttl),
            pins_to: Vec::new(),
            changes: ChangeLog::none(),
            removed: Vec::new(),
        }
    }

    /// Number of pins, in use or idle, including expired ones not yet swept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is no pin.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Finds or creates the pin of `key` for a new connection, which holds it until [`Shard::release`].
    ///
    /// `eligibility` returns whether a pinned backend may take this client; `choose` selects one for a client that has none.
    /// `room` makes room for one more pin; if it cannot, the client gets no pin. `origin` is that of a new pin.
    pub fn acquire(
        &mut self,
        (key, tag): (K, Tag),
        now: Moment,
        origin: Origin,
        eligibility: impl Fn(Member) -> Eligibility,
        choose: impl FnOnce() -> Option<Member>,
        room: impl FnOnce(&mut Self) -> bool,
    ) -> KeyLookup {
        self.sweep(now, 2);
        let Some(at) = self.find_live(&key, tag, now) else {
            let Some(chosen) = choose() else {
                return KeyLookup::NoBackend;
            };
            if !room(self) {
                return KeyLookup::Unpinned(chosen);
            }
            let at = self.insert((key, tag), now, origin);
            return self.hold_for(at, chosen);
        };
        let pin = &self.pins[at];
        let eligible = [pin.member, pin.candidate].map(|member| match member {
            NONE => Eligibility::Ineligible,
            member => eligibility(Member(member)),
        });
        match eligible {
            [Eligibility::Eligible, _] => {
                let member = Member(pin.member);
                KeyLookup::Pinned(self.hold(at), member)
            }
            // Other connections were sent there; they find out whether it answers.
            [Eligibility::NotInPool, _] | [_, Eligibility::NotInPool] => KeyLookup::NotInPool,
            [Eligibility::Ineligible, Eligibility::Eligible] => {
                self.hold_for(at, Member(pin.candidate))
            }
            [Eligibility::Ineligible, Eligibility::Ineligible] => match choose() {
                Some(chosen) => self.hold_for(at, chosen),
                None => KeyLookup::NoBackend,
            },
        }
    }

    /// Holds the pin of `key`, if there is one and the pool of this connection has its backend. Returns the backend and
    /// whether it may take the client. The pin's key becomes `key`, which can differ in who used it last.
    pub fn resume(
        &mut self,
        (key, tag): (K, Tag),
        now: Moment,
        eligibility: impl Fn(Member) -> Eligibility,
    ) -> Option<Resumed<K>> {
        let at = self.find_live(&key, tag, now)?;
        let pin = &mut self.pins[at];
        let member = Member(pin.member);
        if pin.member == NONE {
            return None;
        }
        let eligibility = eligibility(member);
        if eligibility == Eligibility::NotInPool {
            return None;
        }
        let before = std::mem::replace(&mut pin.key, key);
        if before.share() != key.share() {
            self.changes.note(&mut self.pins, at);
        }
        Some(Resumed {
            handle: self.hold(at),
            member,
            is_eligible: eligibility == Eligibility::Eligible,
            before,
        })
    }

    /// Creates the pin of `key` or moves it to `member`, and holds it; `None` where there is no room. The key of a pin that
    /// exists does not change.
    pub fn assign(
        &mut self,
        (key, tag): (K, Tag),
        now: Moment,
        member: Member,
        room: impl FnOnce(&mut Self) -> bool,
    ) -> Option<PinHandle> {
        let at = match self.find_live(&key, tag, now) {
            Some(at) => at,
            None if room(self) => self.insert((key, tag), now, Origin::Session),
            None => return None,
        };
        let handle = self.hold(at);
        self.answered_by(handle, member);
        Some(handle)
    }

    /// The next backend for a connection whose backend could not be reached. All connections of this key that fail at the
    /// same time get the same one. `eligibility` must reject the backends that this connection has tried already.
    pub fn next_member(
        &mut self,
        handle: PinHandle,
        eligibility: impl Fn(Member) -> Eligibility,
        choose: impl FnOnce() -> Option<Member>,
    ) -> Option<Member> {
        let pin = &mut self.pins[handle.at];
        let known = [pin.member, pin.candidate]
            .into_iter()
            .find(|&member| member != NONE && eligibility(Member(member)) == Eligibility::Eligible);
        if let Some(known) = known {
            return Some(Member(known));
        }
        let chosen = choose()?;
        pin.candidate = chosen.0;
        Some(chosen)
    }

    /// `member` has answered a connection that holds the pin. The pin moves there, if its connections are sent there.
    /// Returns the previous backend if the pin has moved.
    pub fn answered(&mut self, handle: PinHandle, member: Member) -> Option<Member> {
        let pin = &self.pins[handle.at];
        let is_expected = pin.member == NONE || pin.candidate == member.0;
        if is_expected {
            self.answered_by(handle, member)
        } else {
            None
        }
    }

    /// The same wherever its connections are sent, unless an administrator has moved the pin since: then this connection
    /// still goes to the previous backend.
    pub fn answered_by(&mut self, handle: PinHandle, member: Member) -> Option<Member> {
        if self.has_moved(handle) || self.pins[handle.at].member == member.0 {
            return None;
        }
        let before = self.set_member(handle.at, member.0);
        let pin = &mut self.pins[handle.at];
        pin.candidate = NONE;
        if before == NONE {
            return None;
        }
        pin.origin = Origin::Failover;
        Some(Member(before))
    }

    /// Whether an administrator has moved the pin since `handle` was acquired.
    #[must_use]
    pub fn has_moved(&self, handle: PinHandle) -> bool {
        self.pins[handle.at].moves != handle.moves
    }

    /// A connection that held the pin has ended.
    pub fn release(&mut self, handle: PinHandle, now: Moment) {
        let at = handle.at;
        let pin = &mut self.pins[at];
        pin.in_use -= 1;
        if pin.in_use > 0 {
            return;
        }
        pin.candidate = NONE;
        if pin.member == NONE {
            // No backend has answered, or an administrator has cleared the pin.
            self.unlist(at);
            return self.remove(at);
        }
        self.keep_idle(at, after(now, self.ttl), now);
    }

    /// Number of pins of `member`, including expired ones not yet swept.
    #[must_use]
    pub fn pins_to(&self, member: Member) -> usize {
        self.pins_to.get(member.0 as usize).copied().unwrap_or(0)
    }

    /// The pin of `key`. One that has expired is removed.
    fn find_live(&mut self, key: &K, tag: Tag, now: Moment) -> Option<u32> {
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

    /// Inserts a pin without a backend, neither in use nor listed. The caller must give it one or hold it.
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
            moves: 0,
            origin,
            expires: now,
        });
        self.index.insert(tag, at);
        at
    }

    /// Adds a connection to the pin.
    fn hold(&mut self, at: u32) -> PinHandle {
        let pin = &mut self.pins[at];
        pin.in_use += 1;
        let moves = pin.moves;
        if pin.in_use == 1 && pin.member != NONE {
            self.changes.note(&mut self.pins, at);
        }
        PinHandle { at, moves }
    }

    /// Holds the pin for a connection that is sent to another backend than the pin's.
    fn hold_for(&mut self, at: u32, wanted: Member) -> KeyLookup {
        let handle = self.hold(at);
        let pin = &mut self.pins[at];
        pin.candidate = wanted.0;
        match pin.member {
            NONE => KeyLookup::New(handle, wanted),
            _ => KeyLookup::Stale(handle, wanted),
        }
    }

    /// Gives the pin a backend, or none. Returns the previous one.
    fn set_member(&mut self, at: u32, member: u32) -> u32 {
        let before = self.set_member_silently(at, member);
        if before != member {
            self.changes.note(&mut self.pins, at);
        }
        before
    }

    /// The same without recording a change.
    fn set_member_silently(&mut self, at: u32, member: u32) -> u32 {
        let before = std::mem::replace(&mut self.pins[at].member, member);
        if before != NONE {
            self.pins_to[before as usize] -= 1;
        }
        if member != NONE {
            let least = (member as usize + 1).max(self.pins_to.len());
            self.pins_to.resize(least, 0);
            self.pins_to[member as usize] += 1;
        }
        before
    }
}

fn after(now: Moment, ttl: Duration) -> Moment {
    let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    Moment(now.0.saturating_add(ttl))
}

#[cfg(test)]
mod tests;
