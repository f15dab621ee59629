//! A pin outside the table: the one form that the affinity store, the handoff and the API share.
//!
//! Owns the record of a pin, its key and its changes. Must not know tables, files or clocks: times are durations, relative
//! to one point in time that the caller knows. Invariant: a record is complete by itself; it contains names and never the
//! numbers that a table has for them.
//!
//! | file | owns |
//! |---|---|
//! | `scheme` | what keys are made of, and the translation from one scheme to another |
//! | `codec` | the binary form of changes, in the store's file and in the handoff |
//! | `bytes` | numbers and texts as bytes |

pub mod bytes;
pub mod codec;
mod scheme;

use std::hash::{Hash, Hasher};
use std::mem::{Discriminant, discriminant};
use std::sync::Arc;
use std::time::Duration;

use crate::affinity::shard::Origin;
pub use scheme::KeyScheme;

/// One pin at one point in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinRecord {
    /// Whose pin it is.
    pub key: PinKey,
    /// The name of the backend.
    pub backend: Arc<str>,
    /// Why the pin has this backend.
    pub origin: Origin,
    /// Time since the pin was created.
    pub age: Duration,
    /// Whether connections hold it.
    pub usage: PinUsage,
}

impl PinRecord {
    /// The same pin after `elapsed`, if nothing happens to it; `None` where it has expired by then.
    #[must_use]
    pub fn after(&self, elapsed: Duration) -> Option<Self> {
        let usage = match self.usage {
            PinUsage::InUse(connections) => PinUsage::InUse(connections),
            PinUsage::Idle(left) if left > elapsed => PinUsage::Idle(left - elapsed),
            PinUsage::Idle(_) => return None,
        };
        Some(Self {
            age: self.age.saturating_add(elapsed),
            usage,
            ..self.clone()
        })
    }
}

/// Whether connections hold a pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PinUsage {
    /// So many connections hold it, at least one. It does not expire.
    InUse(u32),
    /// No connection holds it. It expires after this time.
    Idle(Duration),
}

impl PinUsage {
    /// The number of connections that hold the pin.
    #[must_use]
    pub fn connections(self) -> u32 {
        match self {
            Self::InUse(connections) => connections,
            Self::Idle(_) => 0,
        }
    }

    /// The time until the pin expires; `None` while it is in use.
    #[must_use]
    pub fn expires_in(self) -> Option<Duration> {
        match self {
            Self::InUse(_) => None,
            Self::Idle(left) => Some(left),
        }
    }
}

/// Whose pin it is.
///
/// As with [`crate::affinity::shard::Session`], two keys of TLS sessions are equal whichever client used them last.
#[derive(Debug, Clone)]
pub enum PinKey {
    /// A client.
    Client {
        /// See [`crate::affinity::shard::Key::source`].
        source: [u8; 16],
        /// The configured name; `None` where it is not part of the key.
        name: Option<Arc<str>>,
    },
    /// A TLS session.
    Session {
        /// See [`crate::affinity::shard::Session::hash`].
        hash: [u8; 16],
        /// See [`crate::affinity::shard::Session::client`].
        client: u64,
    },
}

impl PinKey {
    /// The parts that identify the pin.
    fn identity(&self) -> (Discriminant<Self>, &[u8; 16], Option<&str>) {
        let kind = discriminant(self);
        match self {
            Self::Client { source, name } => (kind, source, name.as_deref()),
            Self::Session { hash, .. } => (kind, hash, None),
        }
    }
}

impl PartialEq for PinKey {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for PinKey {}

impl Hash for PinKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

/// One change of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PinChange {
    /// The pin is new, or has changed to this.
    Set(PinRecord),
    /// The pin was removed before it expired. In a handoff: no connection of the predecessor holds it any more.
    Removed(PinKey),
}

/// An affinity group, and what the keys of its pins are made of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PinGroup {
    /// The group's name.
    pub name: Arc<str>,
    /// The scheme of its keys.
    pub keys: KeyScheme,
}
