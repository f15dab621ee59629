//! The backend that one connection has picked, and the next one if that cannot be reached.
//!
//! Invariant: whoever holds a [`Selection`] holds a place at its backend and, where there is one, its pin.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use super::{PickedBy, Pool, PoolAffinity, PoolClient, SessionLearner};
use crate::affinity::shard::{Eligibility, Key, Member, Session};
use crate::affinity::table::PinGuard;
use crate::protocol::tls::client_hello::ClientHello;
use crate::telemetry::metrics::ConnectFailure;
use crate::types::backend_state::AdminState;
use crate::upstream::backend::{Backend, BackendPermit, Disconnect};

/// A backend for one connection, a place there and the hold on the client's pins.
#[derive(Debug)]
pub struct Selection {
    pool: Arc<Pool>,
    client: PoolClient,
    slot: BackendPermit,
    by: PickedBy,
    hold: HeldPins,
    tried: Vec<usize>,
    /// The pins stay where they are, whoever answers.
    away: bool,
}

/// What a connection holds of its group's tables.
#[derive(Debug)]
pub(super) enum HeldPins {
    /// Nothing: where it goes says nothing of where its client belongs.
    Nothing,
    /// What there is.
    Pins(PinGuards),
}

/// The pins that a connection holds.
#[derive(Debug)]
pub(super) struct PinGuards {
    client: Option<PinGuard<Key>>,
    /// The session that was resumed, and those that were granted.
    sessions: RefCell<Vec<PinGuard<Session>>>,
    /// The table's recalls when this connection last asked whether it is meant.
    recalls: Cell<u32>,
}

impl HeldPins {
    /// What was taken when the table's recalls were `recalls`.
    pub(super) fn pins(
        client: Option<PinGuard<Key>>,
        session: Option<PinGuard<Session>>,
        recalls: u32,
    ) -> Self {
        Self::Pins(PinGuards {
            client,
            sessions: RefCell::new(session.into_iter().collect()),
            recalls: Cell::new(recalls),
        })
    }
}

impl PinGuards {
    fn is_recalled(&self) -> bool {
        let of_session = || self.sessions.borrow().iter().any(PinGuard::is_recalled);
        self.client.as_ref().is_some_and(PinGuard::is_recalled) || of_session()
    }
}

impl Selection {
    pub(super) fn new(
        pool: Arc<Pool>,
        client: PoolClient,
        slot: BackendPermit,
        by: PickedBy,
        hold: HeldPins,
    ) -> Self {
        Self {
            pool,
            client,
            slot,
            by,
            hold,
            tried: Vec::new(),
            away: false,
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
    pub fn slot(&self) -> &BackendPermit {
        &self.slot
    }

    /// Goes on to a backend of the pool that this connection has not tried; `false` where there is none. Where it leaves its
    /// pinned backend because this machine has no way there now, it is away: the pin says nothing of that, and stays.
    pub fn redispatch(&mut self, fault: ConnectFailure) -> bool {
        let Some(here) = self.place(self.slot.backend()) else {
            return false;
        };
        self.tried.push(here);
        let Some(slot) = self.next_slot() else {
            return false;
        };
        self.slot.backend().metrics.redispatched(fault);
        let pinned = matches!(self.by, PickedBy::Pin | PickedBy::Session);
        self.away |= pinned && fault == ConnectFailure::Local;
        self.slot = slot;
        self.by = PickedBy::Redispatch;
        true
    }

    fn next_slot(&self) -> Option<BackendPermit> {
        let take = || self.pool.take(self.client, &self.tried).ok();
        let Some((affinity, pinned)) = self.pinned() else {
            return take().map(|(_, slot)| slot);
        };
        let fit = |member: Member| match affinity.places.get(&member) {
            Some(place) if self.tried.contains(place) => Eligibility::Refuses,
            _ => self.pool.fit(member),
        };
        let Some(claim) = &pinned.client else {
            return self.next_beside(affinity, fit).or_else(|| Some(take()?.1));
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

    /// Where the pin leads that others behind the client's address have; this connection holds none of it.
    fn next_beside(
        &self,
        affinity: &PoolAffinity,
        fit: impl Fn(Member) -> Eligibility,
    ) -> Option<BackendPermit> {
        let member = affinity.pins.view(&affinity.key(self.client)?)?.member;
        let fits = fit(member) == Eligibility::Takes;
        self.pool.member(member).filter(|_| fits)?.enter()
    }

    /// The backend has answered: the pins follow. `fault` is what the last one failed with, if one did.
    pub fn answered(&self, fault: Option<ConnectFailure>) {
        let Some((affinity, pinned)) = self.pinned().filter(|_| !self.away) else {
            return;
        };
        let Some(member) = self.member(affinity) else {
            return;
        };
        let client = pinned.client.as_ref();
        let mut moved = client.and_then(|claim| claim.answered(member));
        for session in pinned.sessions.borrow().iter() {
            moved = moved.or(session.answered_by(member));
        }
        let Some(before) = moved else {
            return;
        };
        let reason = match (self.pool.member(before), fault) {
            (None, _) => "removed",
            (Some(backend), _) if backend.state() == AdminState::Maintain => {
                AdminState::Maintain.as_str()
            }
            (Some(backend), _) if backend.state() == AdminState::Drain => {
                AdminState::Drain.as_str()
            }
            (Some(_), Some(fault)) => fault.as_str(),
            (Some(_), None) => "down",
        };
        affinity.pins.count_broken(reason);
    }

    /// Why this connection must end, if it must: its backend's connections are recalled, or an administrator has moved
    /// one of its pins. Costs two reads where nothing has happened.
    #[must_use]
    pub fn recalled(&self) -> Option<Disconnect> {
        self.slot.recalled().or_else(|| {
            let (affinity, pinned) = self.pinned()?;
            let recalls = affinity.pins.recalls();
            if pinned.recalls.replace(recalls) == recalls {
                return None;
            }
            pinned.is_recalled().then_some(Disconnect::PinMoved)
        })
    }

    /// Who listens to what the backend says, for the sessions that it grants; `None` where nothing is to be learned.
    #[must_use]
    pub fn learner(&self, hello: &ClientHello) -> Option<Box<SessionLearner<'_>>> {
        let (affinity, pinned) = self.pinned()?;
        let by_session = affinity.pins.settings().by_session;
        let member = self.member(affinity).filter(|_| by_session)?;
        let key = affinity.key(self.client);
        let learner = SessionLearner::new(
            &affinity.pins,
            key,
            member,
            hello.session_id,
            &pinned.sessions,
        );
        Some(Box::new(learner))
    }

    fn pinned(&self) -> Option<(&PoolAffinity, &PinGuards)> {
        match &self.hold {
            HeldPins::Nothing => None,
            HeldPins::Pins(pinned) => Some((self.pool.affinity.as_ref()?, pinned)),
        }
    }

    fn member(&self, affinity: &PoolAffinity) -> Option<Member> {
        Some(affinity.members[self.place(self.slot.backend())?])
    }

    fn place(&self, backend: &Arc<Backend>) -> Option<usize> {
        self.pool
            .backends
            .iter()
            .position(|known| Arc::ptr_eq(known, backend))
    }
}
