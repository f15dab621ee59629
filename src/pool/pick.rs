//! The backend that one connection has picked, and the next one if that cannot be reached.
//!
//! Invariant: whoever holds a [`Pick`] holds a place at its backend and, where there is one, its pin.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use super::{Affinity, Client, Learner, PickedBy, Pool};
use crate::affinity::{Fit, Key, Member, Session};
use crate::backend::{Backend, Recall, Slot};
use crate::client_hello::ClientHello;
use crate::metrics::ConnectFault;
use crate::pins::Claim;
use crate::state::State;

/// A backend for one connection, a place there and the hold on the client's pins.
#[derive(Debug)]
pub struct Pick {
    pool: Arc<Pool>,
    client: Client,
    slot: Slot,
    by: PickedBy,
    hold: Hold,
    tried: Vec<usize>,
    /// The pins stay where they are, whoever answers.
    away: bool,
}

/// What a connection holds of its group's tables.
#[derive(Debug)]
pub(super) enum Hold {
    /// Nothing: where it goes says nothing of where its client belongs.
    Nothing,
    /// What there is.
    Pins(Pinned),
}

/// The pins that a connection holds.
#[derive(Debug)]
pub(super) struct Pinned {
    client: Option<Claim<Key>>,
    /// The session that was resumed, and those that were granted.
    sessions: RefCell<Vec<Claim<Session>>>,
    /// The table's recalls when this connection last asked whether it is meant.
    recalls: Cell<u32>,
}

impl Hold {
    /// What was taken when the table's recalls were `recalls`.
    pub(super) fn pins(
        client: Option<Claim<Key>>,
        session: Option<Claim<Session>>,
        recalls: u32,
    ) -> Self {
        Self::Pins(Pinned {
            client,
            sessions: RefCell::new(session.into_iter().collect()),
            recalls: Cell::new(recalls),
        })
    }
}

impl Pinned {
    fn is_recalled(&self) -> bool {
        let of_session = || self.sessions.borrow().iter().any(Claim::is_recalled);
        self.client.as_ref().is_some_and(Claim::is_recalled) || of_session()
    }
}

impl Pick {
    pub(super) fn new(
        pool: Arc<Pool>,
        client: Client,
        slot: Slot,
        by: PickedBy,
        hold: Hold,
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
    pub fn slot(&self) -> &Slot {
        &self.slot
    }

    /// Goes on to a backend of the pool that this connection has not tried; `false` where there is none. Where it leaves its
    /// pinned backend because this machine has no way there now, it is away: the pin says nothing of that, and stays.
    pub fn redispatch(&mut self, fault: ConnectFault) -> bool {
        let Some(here) = self.place(self.slot.backend()) else {
            return false;
        };
        self.tried.push(here);
        let Some(slot) = self.next_slot() else {
            return false;
        };
        self.slot.backend().metrics.redispatched(fault);
        let pinned = matches!(self.by, PickedBy::Pin | PickedBy::Session);
        self.away |= pinned && fault == ConnectFault::Local;
        self.slot = slot;
        self.by = PickedBy::Redispatch;
        true
    }

    fn next_slot(&self) -> Option<Slot> {
        let take = || self.pool.take(self.client, &self.tried).ok();
        let Some((affinity, pinned)) = self.pinned() else {
            return take().map(|(_, slot)| slot);
        };
        let fit = |member: Member| match affinity.places.get(&member) {
            Some(place) if self.tried.contains(place) => Fit::Refuses,
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
    fn next_beside(&self, affinity: &Affinity, fit: impl Fn(Member) -> Fit) -> Option<Slot> {
        let member = affinity.pins.view(&affinity.key(self.client)?)?.member;
        let fits = fit(member) == Fit::Takes;
        self.pool.member(member).filter(|_| fits)?.enter()
    }

    /// The backend has answered: the pins follow. `fault` is what the last one failed with, if one did.
    pub fn answered(&self, fault: Option<ConnectFault>) {
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
            (Some(backend), _) if backend.state() == State::Maintain => State::Maintain.as_str(),
            (Some(backend), _) if backend.state() == State::Drain => State::Drain.as_str(),
            (Some(_), Some(fault)) => fault.as_str(),
            (Some(_), None) => "down",
        };
        affinity.pins.count_broken(reason);
    }

    /// Why this connection must end, if it must: its backend's connections are recalled, or an administrator has moved
    /// one of its pins. Costs two reads where nothing has happened.
    #[must_use]
    pub fn recalled(&self) -> Option<Recall> {
        self.slot.recalled().or_else(|| {
            let (affinity, pinned) = self.pinned()?;
            let recalls = affinity.pins.recalls();
            if pinned.recalls.replace(recalls) == recalls {
                return None;
            }
            pinned.is_recalled().then_some(Recall::PinMoved)
        })
    }

    /// Who listens to what the backend says, for the sessions that it grants; `None` where nothing is to be learned.
    #[must_use]
    pub fn learner(&self, hello: &ClientHello) -> Option<Box<Learner<'_>>> {
        let (affinity, pinned) = self.pinned()?;
        let by_session = affinity.pins.settings().by_session;
        let member = self.member(affinity).filter(|_| by_session)?;
        let key = affinity.key(self.client);
        let learner = Learner::new(
            &affinity.pins,
            key,
            member,
            hello.session_id,
            &pinned.sessions,
        );
        Some(Box::new(learner))
    }

    fn pinned(&self) -> Option<(&Affinity, &Pinned)> {
        match &self.hold {
            Hold::Nothing => None,
            Hold::Pins(pinned) => Some((self.pool.affinity.as_ref()?, pinned)),
        }
    }

    fn member(&self, affinity: &Affinity) -> Option<Member> {
        Some(affinity.members[self.place(self.slot.backend())?])
    }

    fn place(&self, backend: &Arc<Backend>) -> Option<usize> {
        self.pool
            .backends
            .iter()
            .position(|known| Arc::ptr_eq(known, backend))
    }
}
