//! Pins that connections of another process hold.
//!
//! Owns the holds on them, and how many there are. Must not know how the other process reports them. Invariant: what is
//! held does not expire, and is not counted as a connection of this process.

use std::collections::HashMap;

use super::PinGuard;
use super::sync::{Mutex, MutexGuard, PoisonError};
use crate::affinity::shard::{Key, Session};

/// A hold on a pin for connections of another process; released by `Drop`.
#[derive(Debug)]
pub enum ForeignHold {
    /// A client's.
    Client(PinGuard<Key>, Key),
    /// A TLS session's.
    Session(PinGuard<Session>, Session),
}

/// The pins that are held so, and how often: several keys of the other process can be one key here. Locked before any shard
/// is.
#[derive(Debug, Default)]
pub(super) struct ForeignHolds(Mutex<HashMap<HeldKey, u32>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum HeldKey {
    Client(Key),
    /// By its hash: it is the same session whichever client used it last.
    Session([u8; 16]),
}

/// The same, while nothing can change.
pub(super) struct LockedHolds<'a>(MutexGuard<'a, HashMap<HeldKey, u32>>);

impl ForeignHolds {
    pub(super) fn lock(&self) -> LockedHolds<'_> {
        LockedHolds(self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl LockedHolds<'_> {
    /// How many of the uses of a client's pin are not connections of this process.
    pub(super) fn of_client(&self, key: &Key) -> u32 {
        self.count(HeldKey::Client(*key))
    }

    /// The same for a session's pin.
    pub(super) fn of_session(&self, key: &Session) -> u32 {
        self.count(HeldKey::Session(key.hash))
    }

    fn count(&self, key: HeldKey) -> u32 {
        self.0.get(&key).copied().unwrap_or(0)
    }

    fn add(&mut self, key: HeldKey) {
        *self.0.entry(key).or_default() += 1;
    }

    fn remove(&mut self, key: HeldKey) {
        if let Some(holds) = self.0.get_mut(&key) {
            *holds -= 1;
            if *holds == 0 {
                self.0.remove(&key);
            }
        }
    }
}

impl ForeignHold {
    pub(super) fn client(guard: PinGuard<Key>, key: Key) -> Self {
        guard.pins().foreign.lock().add(HeldKey::Client(key));
        Self::Client(guard, key)
    }

    pub(super) fn session(guard: PinGuard<Session>, key: Session) -> Self {
        let foreign = &guard.pins().foreign;
        foreign.lock().add(HeldKey::Session(key.hash));
        Self::Session(guard, key)
    }

    /// Another backend answers the other process's connections now: the pin moves there.
    pub fn follow(&self, backend: &str) {
        // The other process counts the move.
        let _ = match self {
            Self::Client(guard, _) => guard
                .pins()
                .known_member(backend)
                .and_then(|member| guard.answered_by(member)),
            Self::Session(guard, _) => guard
                .pins()
                .known_member(backend)
                .and_then(|member| guard.answered_by(member)),
        };
    }
}

impl Drop for ForeignHold {
    fn drop(&mut self) {
        let (pins, key) = match self {
            Self::Client(guard, key) => (guard.pins(), HeldKey::Client(*key)),
            Self::Session(guard, key) => (guard.pins(), HeldKey::Session(key.hash)),
        };
        pins.foreign.lock().remove(key);
    }
}
