//! The backend that one connection has picked, and the next one if that cannot be reached.
//!
//! Invariant: whoever holds a [`Pick`] holds a place at its backend and, where there is one, its pin.

use std::sync::Arc;

use super::{Client, PickedBy, Pool};
use crate::affinity::{Fit, Member};
use crate::backend::{Backend, Slot};
use crate::metrics::ConnectFault;
use crate::pins::Claim;
use crate::state::State;

/// A backend for one connection, a place there and the hold on the client's pin.
#[derive(Debug)]
pub struct Pick {
    pool: Arc<Pool>,
    client: Client,
    slot: Slot,
    by: PickedBy,
    claim: Option<Claim>,
    tried: Vec<usize>,
}

impl Pick {
    pub(super) fn new(
        pool: Arc<Pool>,
        client: Client,
        slot: Slot,
        by: PickedBy,
        claim: Option<Claim>,
    ) -> Self {
        Self {
            pool,
            client,
            slot,
            by,
            claim,
            tried: Vec::new(),
        }
    }

    /// Who was picked.
    #[must_use]
    pub fn backend(&self) -> &Arc<Backend> {
        self.slot.backend()
    }

    /// Why.
    #[must_use]
    pub fn by(&self) -> PickedBy {
        self.by
    }

    /// The place that is held.
    #[must_use]
    pub fn slot(&self) -> &Slot {
        &self.slot
    }

    /// Goes on to a backend of the pool that this connection has not tried; `false` where there is none.
    pub fn redispatch(&mut self, fault: ConnectFault) -> bool {
        let Some(here) = self.place(self.slot.backend()) else {
            return false;
        };
        self.tried.push(here);
        let Some(slot) = self.next_slot() else {
            return false;
        };
        self.slot.backend().metrics.redispatched(fault);
        self.slot = slot;
        self.by = PickedBy::Redispatch;
        true
    }

    fn next_slot(&self) -> Option<Slot> {
        let take = || self.pool.take(self.client, &self.tried).ok();
        let (Some(claim), Some(affinity)) = (&self.claim, &self.pool.affinity) else {
            return take().map(|(_, slot)| slot);
        };
        let fit = |member: Member| match affinity.places.get(&member) {
            Some(place) if self.tried.contains(place) => Fit::Refuses,
            _ => self.pool.fit(member),
        };
        let mut taken = None;
        let choose = || {
            taken = take();
            taken.as_ref().map(|(place, _)| affinity.members[*place])
        };
        let member = claim.next(fit, choose)?;
        taken
            .map(|(_, slot)| slot)
            .or_else(|| self.pool.member(member)?.enter())
    }

    /// The backend has answered: the pin follows. `fault` is what the last one failed with, if one did.
    pub fn answered(&self, fault: Option<ConnectFault>) {
        let (Some(claim), Some(affinity)) = (&self.claim, &self.pool.affinity) else {
            return;
        };
        let Some(place) = self.place(self.slot.backend()) else {
            return;
        };
        let Some(before) = claim.answered(affinity.members[place]) else {
            return;
        };
        let reason = match (self.pool.member(before), fault) {
            (None, _) => "removed",
            (Some(backend), _) if backend.state() == State::Maintain => State::Maintain.as_str(),
            (Some(backend), _) if backend.state() == State::Drain => State::Drain.as_str(),
            (Some(_), Some(fault)) => fault.as_str(),
            (Some(_), None) => "down",
        };
        affinity.pins.count_broken(reason);
    }

    fn place(&self, backend: &Arc<Backend>) -> Option<usize> {
        self.pool
            .backends
            .iter()
            .position(|known| Arc::ptr_eq(known, backend))
    }
}
