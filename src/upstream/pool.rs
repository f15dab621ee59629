//! A pool at run time: its backends, and who gets the next client.
//!
//! Owns the state that all choices of a pool share. Must not know sockets or timeouts. Invariant: a [`Selection`] holds a permit
//! of its backend and, if there is one, the client's pin.

mod affinity;
mod candidates;
mod pick;
mod rotation;
mod selection;
mod session_learner;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::affinity::shard::Member;
use crate::affinity::table::Pins;
use crate::config::model::{Balance, OnDown, SourcePrefix};
use crate::protocol::proxy::HeaderFormat;
use crate::types::backend_state::Health;
use crate::upstream::backend::Backend;
use crate::upstream::balance::{SlowStart, Turns, mix};
pub use affinity::PoolAffinity;
pub use pick::{NoPick, PickedBy, PoolClient};
pub use rotation::{ExclusionReason, RotationStatus, pinned_exclusion};
pub use selection::Selection;
pub use session_learner::SessionLearner;

/// A pool.
#[derive(Debug)]
pub struct Pool {
    /// The key under `pools`.
    pub name: Arc<str>,
    /// In the order of the file.
    pub backends: Vec<Arc<Backend>>,
    /// The balance policy.
    pub balance: Balance,
    /// `None`: no affinity.
    pub affinity: Option<PoolAffinity>,
    /// Serves while no backend of this pool is available.
    pub backup: Option<Arc<Pool>>,
    /// What happens to the connections of a backend whose checks fail.
    pub on_down: OnDown,
    /// The header that begins each connection to a backend of this pool; `None`: no header.
    pub proxy_header: Option<HeaderFormat>,
    slow_start: Option<SlowStart>,
    /// By the backend's index: the backends of the same name in the other pools of the affinity group.
    siblings: Vec<Vec<Arc<Backend>>>,
    seeds: Vec<u64>,
    turns: Mutex<Turns>,
}

impl Pool {
    /// A pool of these backends; its clients are pinned in `pins`.
    #[must_use]
    pub fn new(
        name: Arc<str>,
        backends: Vec<Arc<Backend>>,
        balance: Balance,
        pins: Option<Arc<Pins>>,
        backup: Option<Arc<Pool>>,
        on_down: OnDown,
    ) -> Self {
        let affinity = pins.map(|pins| PoolAffinity::new(pins, &backends));
        let seeds = backends
            .iter()
            .map(|backend| hash(backend.name.as_bytes()))
            .collect();
        Self {
            name,
            backends,
            balance,
            affinity,
            backup,
            on_down,
            proxy_header: None,
            slow_start: None,
            siblings: Vec::new(),
            seeds,
            turns: Mutex::default(),
        }
    }

    /// The same pool with a PROXY header.
    #[must_use]
    pub fn with_proxy_header(self, proxy_header: Option<HeaderFormat>) -> Self {
        Self {
            proxy_header,
            ..self
        }
    }

    /// Whether any client could be served, at least one that is pinned to a backend here, or one by the backup.
    #[must_use]
    pub fn can_serve(&self) -> bool {
        self.backends
            .iter()
            .any(|backend| backend.accepts_pinned() || backend.is_only_damped())
            || self
                .backup
                .as_ref()
                .is_some_and(|backup| backup.can_serve())
    }

    /// Whether a backend here or in the backup has passed its checks and accepts new clients.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.backends
            .iter()
            .any(|backend| backend.accepts_new() && backend.health() == Health::Up)
            || self.backup.as_ref().is_some_and(|backup| backup.is_ready())
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of pins of the group to `backend`; `None` if the pool has no affinity.
    #[must_use]
    pub fn pin_count(&self, backend: &Arc<Backend>) -> Option<usize> {
        let affinity = self.affinity.as_ref()?;
        Some(
            affinity
                .pins
                .pins_to(affinity.pins.intern_member(&backend.name)),
        )
    }

    /// Removes the pins of the group to `backend`; returns how many there were.
    pub fn release_pins(&self, backend: &Arc<Backend>) -> usize {
        let Some(affinity) = &self.affinity else {
            return 0;
        };
        affinity
            .pins
            .clear_member(affinity.pins.intern_member(&backend.name))
    }

    fn member(&self, member: Member) -> Option<&Arc<Backend>> {
        let index = *self.affinity.as_ref()?.indexes.get(&member)?;
        self.backends.get(index)
    }

    fn prefix(&self) -> SourcePrefix {
        self.affinity
            .as_ref()
            .map_or(SourcePrefix::WHOLE, |affinity| {
                affinity.pins.settings().source_prefix
            })
    }
}

/// The same in every process, so that two balancers choose the same backend for a client.
fn hash(bytes: &[u8]) -> u64 {
    bytes
        .chunks(8)
        .fold(mix(bytes.len() as u64), |state, chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            mix(state ^ u64::from_le_bytes(word))
        })
}

/// A uniform random number: cheap, and not for secrets.
fn random() -> u64 {
    use std::cell::Cell;
    use std::hash::{BuildHasher, RandomState};
    thread_local!(static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0u8)));
    STATE.with(|state| {
        let next = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        state.set(next);
        mix(next)
    })
}

#[cfg(test)]
mod tests;
