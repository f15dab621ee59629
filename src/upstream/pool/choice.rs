//! Whom the policy may choose from, and what each of them weighs now.
//!
//! Owns the order of preference and the growth of weights after a return. Must not know pins: a client that has one does
//! not come here. Invariant: while no weight grows, no clock is read.

use std::sync::Arc;
use std::time::Duration;

use super::{Pool, PoolClient, chance, hash};
use crate::affinity::shard::source_bits;
use crate::config::model::Balance;
use crate::types::backend_state::Health;
use crate::upstream::backend::Backend;
use crate::upstream::balance::{Candidate, FULL, SlowStart, choose};

/// Where a backend must take new clients to be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// In this pool.
    Here,
    /// In every pool of the group that has it.
    Group,
}

impl Pool {
    /// The same, in which the weight of a backend that has come back grows for so long.
    #[must_use]
    pub fn with_slow_start(self, lasts: Duration) -> Self {
        Self {
            ramp: SlowStart::new(lasts),
            ..self
        }
    }

    /// The same beside other pools of its affinity group: `siblings` are the backends there that have the name of the
    /// backend at the same place here, and thus its pins.
    #[must_use]
    pub fn with_siblings(self, siblings: Vec<Vec<Arc<Backend>>>) -> Self {
        Self { siblings, ..self }
    }

    /// Backends that are up in every pool of the group come first, since a pin binds on all ports; then those that are
    /// up here, then those of which nothing is known yet.
    pub(super) fn choose(
        &self,
        balance: Balance,
        client: PoolClient,
        tried: &[usize],
    ) -> Option<usize> {
        let now = self.ramp_clock();
        let among = |health, reach| {
            let fits = move |&(place, backend): &(usize, &Arc<Backend>)| {
                backend.health() == health
                    && backend.takes_new()
                    && !backend.is_full()
                    && !tried.contains(&place)
                    && (reach == Scope::Here || self.is_whole(place))
            };
            let candidates =
                self.backends
                    .iter()
                    .enumerate()
                    .filter(fits)
                    .map(|(place, backend)| Candidate {
                        place,
                        weight: backend.weight() * self.share(backend, now),
                        in_flight: backend.in_flight(),
                        seed: self.seeds[place],
                        returns: backend.returns(),
                    });
            if balance == Balance::RoundRobin {
                return self.turns().next(candidates);
            }
            choose(
                balance,
                candidates,
                chance(),
                hash(&source_bits(client.source, self.prefix())),
            )
        };
        let whole = if self.siblings.is_empty() {
            None
        } else {
            among(Health::Up, Scope::Group)
        };
        whole
            .or_else(|| among(Health::Up, Scope::Here))
            .or_else(|| among(Health::Unknown, Scope::Here))
            // Those of which nothing was known can have come up between the two looks.
            .or_else(|| among(Health::Up, Scope::Here))
    }

    /// Whether new clients may go to the backend of this name in every other pool of the group.
    fn is_whole(&self, place: usize) -> bool {
        let siblings = self.siblings.get(place).into_iter().flatten();
        siblings.into_iter().all(can_be_used)
    }

    /// The time that ramps are reckoned at; `None` where no weight grows, for which no clock is read.
    fn ramp_clock(&self) -> Option<(SlowStart, Duration)> {
        let ramp = self.ramp?;
        let returned = self
            .backends
            .iter()
            .find(|backend| backend.returned().is_some())?;
        Some((ramp, returned.uptime()))
    }

    /// What a backend has of each part of its weight now, of [`FULL`].
    fn share(&self, backend: &Backend, now: Option<(SlowStart, Duration)>) -> u32 {
        let (Some((ramp, now)), Some(returned)) = (now, backend.returned()) else {
            return FULL;
        };
        ramp.share(returned, now).unwrap_or_else(|| {
            backend.settled(returned);
            FULL
        })
    }

    /// The weight by which new clients are shared out now: less than the configured one while that grows, 0 while the
    /// backend takes no new client.
    #[must_use]
    pub fn effective_weight(&self, backend: &Backend) -> f64 {
        if !backend.takes_new() {
            return 0.0;
        }
        let share = self.share(backend, self.ramp_clock());
        f64::from(backend.weight()) * f64::from(share) / f64::from(FULL)
    }

    /// Whether the administrator lets the pins of `backend` lead to it in another pool of the group: it is ready there,
    /// or drains with time left.
    #[must_use]
    pub fn pins_serve_elsewhere(&self, backend: &Arc<Backend>) -> bool {
        let place = self
            .backends
            .iter()
            .position(|known| Arc::ptr_eq(known, backend));
        let siblings = place.and_then(|place| self.siblings.get(place));
        siblings.is_some_and(|siblings| siblings.iter().any(|sibling| sibling.wants_pinned()))
    }
}

/// Whether new clients may go there, and it is known to work.
pub(super) fn can_be_used(sibling: &Arc<Backend>) -> bool {
    sibling.health() == Health::Up && sibling.takes_new()
}

#[cfg(test)]
mod tests;
