//! Which backends of a pool may get a new client, and what rules out the others, for people.
//!
//! Owns the comparison, in the order in which the choice makes it. Must not know words. Invariant: it asks what
//! `Pool::choose` asks and changes nothing.

use std::sync::Arc;

use super::Pool;
use crate::types::backend_state::{AdminState, Health};
use crate::upstream::backend::{Backend, Damped, Deadline};

/// Whether one backend may get a client without a pin.
#[derive(Debug)]
pub struct Standing {
    /// The backend.
    pub backend: Arc<Backend>,
    /// Connections that it holds.
    pub connections: u32,
    /// Its weight now, which grows after a return.
    pub weight: f64,
    /// What rules it out; `None` where the policy may choose it.
    pub obstacle: Option<Obstacle>,
}

/// What rules a backend out, the first reason that holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Obstacle {
    /// Its name has no address.
    Unresolved,
    /// It is in maintenance.
    Maintain,
    /// It keeps its pinned clients until then, where there is a deadline, and takes no other.
    Draining(Option<Deadline>),
    /// The deadline of its drain is over.
    Drained,
    /// Its checks pass, and it is kept out for its falls.
    Damped(Damped),
    /// Its checks fail.
    Down,
    /// It holds as many connections as it may.
    Full(u32),
    /// Its weight is 0.
    NoWeight,
    /// Nothing is known of it yet, and another one is up.
    NotChecked,
    /// It is up here, but the backend of this pool of the affinity group cannot be used now, and another one is up in all.
    NotInGroup(Arc<str>),
}

impl Pool {
    /// Whether each backend may get a client without a pin, in the order of the file.
    #[must_use]
    pub fn standings(&self) -> Vec<Standing> {
        let mut standings: Vec<Standing> = self
            .backends
            .iter()
            .map(|backend| Standing {
                backend: backend.clone(),
                connections: backend.in_flight(),
                weight: self.effective_weight(backend),
                obstacle: obstacle(backend),
            })
            .collect();
        let free = |standing: &Standing, health| {
            standing.obstacle.is_none() && standing.backend.health() == health
        };
        let any_up = standings.iter().any(|one| free(one, Health::Up));
        let up: Vec<usize> = (0..standings.len())
            .filter(|&place| free(&standings[place], Health::Up))
            .collect();
        let any_whole = up.iter().any(|&place| self.lacking(place).is_none());
        for (place, standing) in standings.iter_mut().enumerate() {
            if any_up && free(standing, Health::Unknown) {
                standing.obstacle = Some(Obstacle::NotChecked);
            } else if any_whole && up.contains(&place) {
                standing.obstacle = self.lacking(place).map(Obstacle::NotInGroup);
            }
        }
        standings
    }

    /// The first other pool of the group that cannot use the backend at this place.
    fn lacking(&self, place: usize) -> Option<Arc<str>> {
        let siblings = self.siblings.get(place).into_iter().flatten();
        let mut siblings = siblings.into_iter();
        let lacking = siblings.find(|sibling| !super::choice::can_be_used(sibling))?;
        Some(lacking.pool.clone())
    }
}

/// What keeps a client from `backend` whom a pin sends there; `None` where it may come.
#[must_use]
pub fn obstacle_to_pinned(backend: &Backend) -> Option<Obstacle> {
    let obstacle = obstacle(backend)?;
    if matches!(obstacle, Obstacle::Draining(_)) {
        let most = backend.max_connections().filter(|_| backend.is_full());
        return most.map(Obstacle::Full);
    }
    (obstacle != Obstacle::NoWeight).then_some(obstacle)
}

fn obstacle(backend: &Backend) -> Option<Obstacle> {
    if backend.state() == AdminState::Maintain {
        return Some(Obstacle::Maintain);
    }
    if backend.health() == Health::Down {
        let damped = backend.damped().map(Obstacle::Damped);
        let unresolved = backend.address().is_none().then_some(Obstacle::Unresolved);
        return damped.or(unresolved).or(Some(Obstacle::Down));
    }
    if backend.address().is_none() {
        return Some(Obstacle::Unresolved);
    }
    if backend.state() == AdminState::Drain {
        return Some(if backend.wants_pinned() {
            Obstacle::Draining(backend.deadline())
        } else {
            Obstacle::Drained
        });
    }
    match backend.max_connections() {
        Some(most) if backend.is_full() => Some(Obstacle::Full(most)),
        _ if backend.weight() == 0 => Some(Obstacle::NoWeight),
        _ => None,
    }
}
