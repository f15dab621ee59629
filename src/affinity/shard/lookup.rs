//! The result of a lookup.
//!
//! Owns the vocabulary. Must not know how a pin is found. Invariant: every result that has a handle is released by
//! [`super::Shard::release`].

use super::{Member, PinHandle};

/// Whether a backend may take a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eligibility {
    /// It may.
    Eligible,
    /// It may not at present.
    Ineligible,
    /// The pool of this connection does not have the backend. Other pools of the group may.
    NotInPool,
}

/// The result of the lookup of a client's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyLookup {
    /// The pin's backend may take the client.
    Pinned(PinHandle, Member),
    /// There was no pin; the client goes to the backend that the first connection of this key was sent to.
    New(PinHandle, Member),
    /// The pin's backend may not take the client. It goes to another, and the pin moves there once that one has answered.
    Stale(PinHandle, Member),
    /// Every pin of the full table is in use, so this client gets none.
    Unpinned(Member),
    /// The pool of this connection does not have the pin's backend. The pin stays as it is.
    NotInPool,
    /// No backend may take the client.
    NoBackend,
}

/// A pin that was found by its key alone, and is held.
#[derive(Debug, Clone, Copy)]
pub struct Resumed<K> {
    /// The hold on it.
    pub handle: PinHandle,
    /// Its backend.
    pub member: Member,
    /// Whether that may take the client.
    pub is_eligible: bool,
    /// The key as it was before.
    pub before: K,
}
