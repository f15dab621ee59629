//! The backend picked for one connection, and the next one if connecting to it fails.
//!
//! Owns what a connection holds of its backend and of its group's tables. Must not know sockets. Invariant: a [`Selection`]
//! holds a permit of its backend and, if there is one, the client's pin.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use super::{PickedBy, Pool, PoolAffinity, PoolClient, SessionLearner};
use crate::affinity::shard::{Eligibility, Key, Member, Session};
use crate::affinity::table::PinGuard;
use crate::protocol::proxy::HeaderFormat;
use crate::protocol::tls::client_hello::ClientHello;
use crate::protocol::tls::server_hello::ReaderStatus;
use crate::telemetry::metrics::ConnectFailure;
use crate::types::backend_state::AdminState;
use crate::upstream::backend::{Backend, BackendPermit, Disconnect};

/// A backend for one connection, with the permit and the pins that the connection holds.
#[derive(Debug)]
pub struct Selection {
    pool: Arc<Pool>,
    client: PoolClient,
    permit: BackendPermit,
    by: PickedBy,
    held: HeldPins,
    tried: Vec<usize>,
    /// The pins stay where they are, whichever backend is connected to.
    keeps_pins: bool,
}

/// The pins that a connection holds, if any.
#[derive(Debug)]
pub(super) enum HeldPins {
    /// None: the backend of this connection says nothing about where the client belongs.
    None,
    /// The pins of the client and of its sessions.
    Pins(PinGuards),
}

/// The pins that a connection holds.
#[derive(Debug)]
pub(super) struct PinGuards {
    client: Option<PinGuard<Key>>,
    /// The session that was resumed, and those granted since.
    sessions: RefCell<Vec<PinGuard<Session>>>,
    /// The table's count of moves when this connection last checked its pins.
    moves: Cell<u32>,
}

impl HeldPins {
    /// Pins that were acquired after the table's count of moves was `moves`.
    pub(super) fn new(
        client: Option<PinGuard<Key>>,
        session: Option<PinGuard<Session>>,
        moves: u32,
    ) -> Self {
        Self::Pins(PinGuards {
            client,
            sessions: RefCell::new(session.into_iter().collect()),
            moves: Cell::new(moves),
        })
    }
}

impl PinGuards {
    fn is_moved(&self) -> bool {
        let session_moved = || self.sessions.borrow().iter().any(PinGuard::has_moved);
        self.client.as_ref().is_some_and(PinGuard::has_moved) || session_moved()
    }
}

impl Selection {
    pub(super) fn new(
        pool: Arc<Pool>,
        client: PoolClient,
        permit: BackendPermit,
        by: PickedBy,
        held: HeldPins,
    ) -> Self {
        Self {
            pool,
            client,
            permit,
            by,
            held,
            tried: Vec::new(),
            keeps_pins: false,
        }
    }

    /// The backend.
    #[must_use]
    pub fn backend(&self) -> &Arc<Backend> {
        self.permit.backend()
    }

    /// Why it was picked.
    #[must_use]
    pub fn by(&self) -> PickedBy {
        self.by
    }

    /// The PROXY header that the backend's pool is configured to receive.
    #[must_use]
    pub fn proxy_header(&self) -> Option<HeaderFormat> {
        self.pool.proxy_header
    }

    /// The permit.
    #[must_use]
    pub fn permit(&self) -> &BackendPermit {
        &self.permit
    }

    /// Selects a backend of the pool that this connection has not tried; `false` if there is none. If it leaves its pinned
    /// backend because of a failure local to this machine, the pin stays.
    pub fn redispatch(&mut self, failure: ConnectFailure) -> bool {
        let Some(here) = self.index_of(self.permit.backend()) else {
            return false;
        };
        self.tried.push(here);
        let Some(permit) = self.next_permit() else {
            return false;
        };
        self.permit.backend().metrics.record_redispatch(failure);
        let pinned = matches!(self.by, PickedBy::Pin | PickedBy::Session);
        self.keeps_pins |= pinned && failure == ConnectFailure::Local;
        self.permit = permit;
        self.by = PickedBy::Redispatch;
        true
    }

    fn next_permit(&self) -> Option<BackendPermit> {
        let acquire = || self.pool.acquire(self.client, &self.tried).ok();
        let Some((affinity, pinned)) = self.pinned() else {
            return acquire().map(|(_, permit)| permit);
        };
        let eligibility = |member: Member| match affinity.indexes.get(&member) {
            Some(index) if self.tried.contains(index) => Eligibility::Ineligible,
            _ => self.pool.eligibility(member),
        };
        let Some(pin) = &pinned.client else {
            return self
                .next_by_view(affinity, eligibility)
                .or_else(|| Some(acquire()?.1));
        };
        let mut chosen = None;
        let choose = || {
            chosen = acquire();
            chosen.as_ref().map(|(index, _)| affinity.members[*index])
        };
        let member = pin.next_member(eligibility, choose)?;
        chosen
            .map(|(_, permit)| permit)
            .or_else(|| self.pool.member(member)?.try_acquire())
    }

    /// The backend that other connections of this client are pinned to; this connection does not hold that pin.
    fn next_by_view(
        &self,
        affinity: &PoolAffinity,
        eligibility: impl Fn(Member) -> Eligibility,
    ) -> Option<BackendPermit> {
        let member = affinity.pins.view(&affinity.key(self.client)?)?.member;
        let is_eligible = eligibility(member) == Eligibility::Eligible;
        self.pool
            .member(member)
            .filter(|_| is_eligible)?
            .try_acquire()
    }

    /// The backend was connected to: the pins move to it. `failure` is that of the last attempt before, if any.
    pub fn connected(&self, failure: Option<ConnectFailure>) {
        let Some((affinity, pinned)) = self.pinned().filter(|_| !self.keeps_pins) else {
            return;
        };
        let Some(member) = self.member(affinity) else {
            return;
        };
        let client = pinned.client.as_ref();
        let mut moved = client.and_then(|pin| pin.answered(member));
        for session in pinned.sessions.borrow().iter() {
            moved = moved.or(session.answered_by(member));
        }
        let Some(before) = moved else {
            return;
        };
        let reason = match (self.pool.member(before), failure) {
            (None, _) => "removed",
            (Some(backend), _) if backend.state() == AdminState::Maintain => {
                AdminState::Maintain.as_str()
            }
            (Some(backend), _) if backend.state() == AdminState::Drain => {
                AdminState::Drain.as_str()
            }
            (Some(_), Some(failure)) => failure.as_str(),
            (Some(_), None) => "down",
        };
        affinity.pins.count_broken(reason);
    }

    /// Why the balancer ends this connection, if it does: the backend's connections are ended, or an administrator has moved
    /// one of its pins. Costs two atomic reads if nothing has changed.
    #[must_use]
    pub fn disconnect_reason(&self) -> Option<Disconnect> {
        self.permit.disconnect_reason().or_else(|| {
            let (affinity, pinned) = self.pinned()?;
            let moves = affinity.pins.moves();
            if pinned.moves.replace(moves) == moves {
                return None;
            }
            pinned.is_moved().then_some(Disconnect::PinMoved)
        })
    }

    /// Observes the backend's bytes to learn the TLS sessions that it grants; done at once if there is nothing to learn.
    pub fn observer<'a>(
        &'a self,
        hello: Option<&ClientHello>,
    ) -> impl FnMut(&[u8]) -> ReaderStatus + use<'a> {
        let mut learner = hello.and_then(|hello| self.learner(hello));
        move |bytes: &[u8]| match &mut learner {
            Some(learner) => learner.observe(bytes),
            None => ReaderStatus::Done,
        }
    }

    fn learner(&self, hello: &ClientHello) -> Option<Box<SessionLearner<'_>>> {
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
        match &self.held {
            HeldPins::None => None,
            HeldPins::Pins(pinned) => Some((self.pool.affinity.as_ref()?, pinned)),
        }
    }

    fn member(&self, affinity: &PoolAffinity) -> Option<Member> {
        Some(affinity.members[self.index_of(self.permit.backend())?])
    }

    fn index_of(&self, backend: &Arc<Backend>) -> Option<usize> {
        self.pool
            .backends
            .iter()
            .position(|known| Arc::ptr_eq(known, backend))
    }
}
