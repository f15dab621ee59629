//! Pins that pass from one process to the next while both live.
//!
//! Owns the walk through what is to be told and the holds on what the other process's connections use. Must not know how
//! it is told. Invariant: nobody waits for a lock while something is told.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::key_table::{Next, STEP};
use super::record::{kept_session, view_of};
use super::sync::{Mutex, MutexGuard, PoisonError};
use super::{KeyKind, KeyTable, PinGuard, PinKey, PinRecord, Pins};
use crate::affinity::shard::{Key, Moment, PutOutcome, Session, Shard};

/// A hold on a pin for connections of another process; given back by `Drop`.
#[derive(Debug)]
pub enum ForeignHold {
    /// A client's.
    Client(PinGuard<Key>, Key),
    /// A TLS session's.
    Session(PinGuard<Session>, Session),
}

/// Which pins are held so: their connections are the other process's to count. Locked before any shard is.
#[derive(Debug, Default)]
pub(super) struct Foreign(Mutex<HashSet<Foreigner>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Foreigner {
    Client(Key),
    /// By its hash: whoever used it last, it is the same session.
    Session([u8; 16]),
}

/// The same, for as long as they stay as they are.
pub(super) struct ForeignNow<'a>(MutexGuard<'a, HashSet<Foreigner>>);

impl Foreign {
    pub(super) fn now(&self) -> ForeignNow<'_> {
        ForeignNow(self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ForeignNow<'_> {
    /// How many of the uses of a client's pin are no connection of this process.
    pub(super) fn of_client(&self, key: &Key) -> u32 {
        u32::from(self.0.contains(&Foreigner::Client(*key)))
    }

    /// The same of a session's.
    pub(super) fn of_session(&self, key: &Session) -> u32 {
        u32::from(self.0.contains(&Foreigner::Session(key.hash)))
    }
}

impl ForeignHold {
    fn client(claim: PinGuard<Key>, key: Key) -> Self {
        let foreign = &claim.pins().foreign;
        foreign.now().0.insert(Foreigner::Client(key));
        Self::Client(claim, key)
    }

    fn session(claim: PinGuard<Session>, key: Session) -> Self {
        let foreign = &claim.pins().foreign;
        foreign.now().0.insert(Foreigner::Session(key.hash));
        Self::Session(claim, key)
    }

    /// The other process's connections are answered by another backend now: the pin follows.
    pub fn follow(&self, backend: &str) {
        // Whether it led elsewhere before is the other process's to count.
        let _ = match self {
            Self::Client(claim, _) => claim
                .pins()
                .known_member(backend)
                .and_then(|member| claim.answered_by(member)),
            Self::Session(claim, _) => claim
                .pins()
                .known_member(backend)
                .and_then(|member| claim.answered_by(member)),
        };
    }
}

impl Drop for ForeignHold {
    fn drop(&mut self) {
        let (pins, foreigner) = match self {
            Self::Client(claim, key) => (claim.pins(), Foreigner::Client(*key)),
            Self::Session(claim, key) => (claim.pins(), Foreigner::Session(key.hash)),
        };
        pins.foreign.now().0.remove(&foreigner);
    }
}

impl Pins {
    /// Tells the pins that are in use, and those that are idle and will live for `left` at least; a few at a time, with no
    /// lock held while `each` has them. Ends with the first error.
    ///
    /// # Errors
    ///
    /// What `each` says.
    pub fn tell_recent<E>(
        &self,
        left: Duration,
        each: &mut dyn FnMut(Vec<PinRecord>) -> Result<(), E>,
    ) -> Result<(), E> {
        let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        let expires = |now: Moment| Moment(now.0.saturating_add(left));
        in_steps(
            &self.clients,
            |shard, from| {
                let (now, mut met) = (self.now(), Vec::new());
                let next = shard.visit_recent(from, STEP, (now, expires(now)), |view| {
                    met.extend(self.kept(view, self.kept_key(view.key)));
                });
                (next, met)
            },
            each,
        )?;
        in_steps(
            &self.sessions,
            |shard, from| {
                let (now, mut met) = (self.now(), Vec::new());
                let next = shard.visit_recent(from, STEP, (now, expires(now)), |view| {
                    met.extend(self.kept(view, kept_session(view.key)));
                });
                (next, met)
            },
            each,
        )
    }

    /// Puts a pin as it stands in another process, over one that stands here idle. Gives the hold on it where the other
    /// process's connections use it.
    pub fn put(self: &Arc<Self>, kept: &PinRecord) -> Option<ForeignHold> {
        let member = self.known_member(&kept.backend)?;
        let now = self.now();
        match &kept.key {
            PinKey::Client { source, name } => {
                let key = self.key_of(*source, name.as_deref())?;
                let mut view = view_of(kept, key, member);
                view.in_use = kept.in_use;
                let home = self.clients.home(&key);
                let put = self
                    .clients
                    .with(home, |shard, tag, room| shard.put((&view, tag), now, room));
                match put {
                    PutOutcome::Held(place) => {
                        Some(ForeignHold::client(PinGuard::new(self, home, place), key))
                    }
                    PutOutcome::Stands | PutOutcome::Not => None,
                }
            }
            &PinKey::Session { hash, client } => {
                if !self.settings().by_session {
                    return None;
                }
                let key = Session { hash, client };
                let mut view = view_of(kept, key, member);
                view.in_use = kept.in_use;
                let home = self.sessions.home(&key);
                let put = self.sessions.with(home, |shard, tag, room| {
                    let shares = &self.sessions.shares;
                    let room = |shard: &mut _| shares.take_with(client, || room(shard));
                    shard.put((&view, tag), now, room)
                });
                match put {
                    PutOutcome::Held(place) => {
                        Some(ForeignHold::session(PinGuard::new(self, home, place), key))
                    }
                    PutOutcome::Stands | PutOutcome::Not => None,
                }
            }
        }
    }
}

/// Walks through a table; what a step has met is told when its lock is free.
fn in_steps<K: KeyKind, E>(
    table: &KeyTable<K>,
    mut step: impl FnMut(&mut Shard<K>, u32) -> (Option<u32>, Vec<PinRecord>),
    told: &mut dyn FnMut(Vec<PinRecord>) -> Result<(), E>,
) -> Result<(), E> {
    let (mut number, mut from) = (0, 0);
    loop {
        let mut met = None;
        table.with_each(number, |shard| {
            met = Some(step(shard, from));
            Next::End
        });
        let Some((next, met)) = met else {
            return Ok(());
        };
        if !met.is_empty() {
            told(met)?;
        }
        (number, from) = next.map_or((number + 1, 0), |next| (number, next));
    }
}
