//! The backends that the balance policy may choose from, and their current weights.
//!
//! Owns the order of preference, and how weights grow in slow start. Must not know pins: a client with a usable pin is not
//! handled here. Invariant: no clock is read unless a weight is growing.

use std::sync::Arc;
use std::time::Duration;

use super::{Pool, PoolClient, hash, random};
use crate::affinity::shard::source_bits;
use crate::config::model::Balance;
use crate::types::backend_state::Health;
use crate::upstream::backend::Backend;
use crate::upstream::balance::{Candidate, SlowStart, WEIGHT_UNIT, choose};

/// Where a backend must accept new clients to be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// In this pool.
    Here,
    /// In every pool of the group that has it.
    Group,
}

impl Pool {
    /// The same pool with slow start: the weight of a backend that has come back grows for `duration`.
    #[must_use]
    pub fn with_slow_start(self, duration: Duration) -> Self {
        Self {
            slow_start: SlowStart::new(duration),
            ..self
        }
    }

    /// The same pool in a group with others. `siblings`: for each backend here, the backends of the same name in the other
    /// pools, which share its pins.
    #[must_use]
    pub fn with_siblings(self, siblings: Vec<Vec<Arc<Backend>>>) -> Self {
        Self { siblings, ..self }
    }

    /// Chooses a backend by the policy. Backends that are up in every pool of the group come first, since a pin applies to all
    /// ports; then those that are up here; then those that are not checked yet.
    pub(super) fn choose(
        &self,
        balance: Balance,
        client: PoolClient,
        tried: &[usize],
    ) -> Option<usize> {
        let now = self.slow_start_clock();
        let among = |health, scope| {
            let is_candidate = move |&(index, backend): &(usize, &Arc<Backend>)| {
                backend.health() == health
                    && backend.accepts_new()
                    && !backend.is_full()
                    && !tried.contains(&index)
                    && (scope == Scope::Here || self.healthy_in_group(index))
            };
            let backends = self.backends.iter().enumerate().filter(is_candidate);
            let candidates = backends.map(|(index, backend)| self.candidate(index, backend, now));
            if balance == Balance::RoundRobin {
                return self.turns().next(candidates);
            }
            let source = hash(&source_bits(client.source, self.prefix()));
            choose(balance, candidates, random(), source)
        };
        let in_group = if self.siblings.is_empty() {
            None
        } else {
            among(Health::Up, Scope::Group)
        };
        in_group
            .or_else(|| among(Health::Up, Scope::Here))
            .or_else(|| among(Health::Unknown, Scope::Here))
            // Backends that were not checked yet may have come up since the first attempt.
            .or_else(|| among(Health::Up, Scope::Here))
    }

    fn candidate(
        &self,
        index: usize,
        backend: &Backend,
        now: Option<(SlowStart, Duration)>,
    ) -> Candidate {
        Candidate {
            index,
            weight: backend.weight() * self.share(backend, now),
            in_flight: backend.in_flight(),
            seed: self.seeds[index],
            returns: backend.returns(),
        }
    }

    /// Whether the backend is usable in every other pool of the group.
    fn healthy_in_group(&self, index: usize) -> bool {
        let siblings = self.siblings.get(index).into_iter().flatten();
        siblings.into_iter().all(is_usable)
    }

    /// The current time for slow start; `None` if no weight is growing.
    fn slow_start_clock(&self) -> Option<(SlowStart, Duration)> {
        let slow_start = self.slow_start?;
        let returned = self
            .backends
            .iter()
            .find(|backend| backend.returned().is_some())?;
        Some((slow_start, returned.uptime()))
    }

    /// The current fraction of a backend's weight, in parts of [`WEIGHT_UNIT`].
    fn share(&self, backend: &Backend, now: Option<(SlowStart, Duration)>) -> u32 {
        let (Some((slow_start, now)), Some(returned)) = (now, backend.returned()) else {
            return WEIGHT_UNIT;
        };
        slow_start.share(returned, now).unwrap_or_else(|| {
            backend.end_slow_start(returned);
            WEIGHT_UNIT
        })
    }

    /// The current weight for new clients: less than the configured one during slow start, 0 while the backend accepts no new
    /// clients.
    #[must_use]
    pub fn effective_weight(&self, backend: &Backend) -> f64 {
        if !backend.accepts_new() {
            return 0.0;
        }
        let share = self.share(backend, self.slow_start_clock());
        f64::from(backend.weight()) * f64::from(share) / f64::from(WEIGHT_UNIT)
    }

    /// Whether the administrator allows the pins of `backend` in another pool of the group: there it is ready, or draining
    /// before its deadline.
    #[must_use]
    pub fn pins_allowed_elsewhere(&self, backend: &Arc<Backend>) -> bool {
        let index = self
            .backends
            .iter()
            .position(|known| Arc::ptr_eq(known, backend));
        let siblings = index.and_then(|index| self.siblings.get(index));
        siblings.is_some_and(|siblings| siblings.iter().any(|sibling| sibling.allows_pinned()))
    }
}

/// Whether it accepts new clients and its checks pass.
pub(super) fn is_usable(sibling: &Arc<Backend>) -> bool {
    sibling.health() == Health::Up && sibling.accepts_new()
}

#[cfg(test)]
mod tests;
