//! Which backends of a pool are in rotation for new clients, and why the others are not; for status and `explain`.
//!
//! Owns the comparison, in the same order as the choice. Must not know wording. Invariant: it reads what `Pool::choose` reads
//! and changes nothing.

use std::sync::Arc;

use super::Pool;
use crate::types::backend_state::{AdminState, Health};
use crate::upstream::backend::{Backend, Damped, Deadline};

/// Whether one backend may get clients without a pin.
#[derive(Debug)]
pub struct RotationStatus {
    /// The backend.
    pub backend: Arc<Backend>,
    /// Its current connections.
    pub connections: u32,
    /// Its current weight, which grows in slow start.
    pub weight: f64,
    /// Why it is excluded; `None` if the policy may choose it.
    pub excluded: Option<ExclusionReason>,
}

/// Why a backend is excluded; the first reason that applies.
#[derive(Debug, Clone, PartialEq)]
pub enum ExclusionReason {
    /// Its name has no address.
    Unresolved,
    /// It is in maintenance.
    Maintain,
    /// It is draining: it keeps its pinned clients until the deadline, if there is one, and accepts no others.
    Draining(Option<Deadline>),
    /// The deadline of its drain has passed.
    Drained,
    /// Its checks pass, but it is held out of rotation (flap damping).
    Damped(Damped),
    /// Its checks fail.
    Down,
    /// It has `max_connections` connections, this many.
    Full(u32),
    /// Its weight is 0.
    NoWeight,
    /// It is not checked yet, and another backend is up.
    NotChecked,
    /// It is up here but not usable in this pool of the affinity group, and another backend is usable in all of them.
    NotInGroup(Arc<str>),
}

impl Pool {
    /// Whether each backend may get clients without a pin, in the order of the file.
    #[must_use]
    pub fn rotation(&self) -> Vec<RotationStatus> {
        let mut standings: Vec<RotationStatus> = self
            .backends
            .iter()
            .map(|backend| RotationStatus {
                backend: backend.clone(),
                connections: backend.in_flight(),
                weight: self.effective_weight(backend),
                excluded: exclusion(backend),
            })
            .collect();
        let in_rotation = |standing: &RotationStatus, health| {
            standing.excluded.is_none() && standing.backend.health() == health
        };
        let any_up = standings
            .iter()
            .any(|status| in_rotation(status, Health::Up));
        let up: Vec<usize> = (0..standings.len())
            .filter(|&index| in_rotation(&standings[index], Health::Up))
            .collect();
        let any_in_group = up.iter().any(|&index| self.unusable_in(index).is_none());
        for (index, standing) in standings.iter_mut().enumerate() {
            if any_up && in_rotation(standing, Health::Unknown) {
                standing.excluded = Some(ExclusionReason::NotChecked);
            } else if any_in_group && up.contains(&index) {
                standing.excluded = self.unusable_in(index).map(ExclusionReason::NotInGroup);
            }
        }
        standings
    }

    /// The first other pool of the group in which the backend at this index is not usable.
    fn unusable_in(&self, index: usize) -> Option<Arc<str>> {
        let siblings = self.siblings.get(index).into_iter().flatten();
        let mut siblings = siblings.into_iter();
        let unusable = siblings.find(|sibling| !super::candidates::is_usable(sibling))?;
        Some(unusable.pool.clone())
    }
}

/// Why a client that is pinned to `backend` is not sent there; `None` if it is.
#[must_use]
pub fn pinned_exclusion(backend: &Backend) -> Option<ExclusionReason> {
    let obstacle = exclusion(backend)?;
    if matches!(obstacle, ExclusionReason::Draining(_)) {
        let max = backend.max_connections().filter(|_| backend.is_full());
        return max.map(ExclusionReason::Full);
    }
    (obstacle != ExclusionReason::NoWeight).then_some(obstacle)
}

fn exclusion(backend: &Backend) -> Option<ExclusionReason> {
    if backend.state() == AdminState::Maintain {
        return Some(ExclusionReason::Maintain);
    }
    if backend.health() == Health::Down {
        let damped = backend.damped().map(ExclusionReason::Damped);
        let unresolved = backend
            .address()
            .is_none()
            .then_some(ExclusionReason::Unresolved);
        return damped.or(unresolved).or(Some(ExclusionReason::Down));
    }
    if backend.address().is_none() {
        return Some(ExclusionReason::Unresolved);
    }
    if backend.state() == AdminState::Drain {
        return Some(if backend.allows_pinned() {
            ExclusionReason::Draining(backend.deadline())
        } else {
            ExclusionReason::Drained
        });
    }
    match backend.max_connections() {
        Some(max) if backend.is_full() => Some(ExclusionReason::Full(max)),
        _ if backend.weight() == 0 => Some(ExclusionReason::NoWeight),
        _ => None,
    }
}
