//! Picking the backend for a connection: TLS session, pin, balance policy, backup pool.
//!
//! Owns that order. Must not know how a policy chooses (`candidates`). Invariant: a pick without a pin says nothing about where
//! the client belongs, so it changes no pin.

use std::net::IpAddr;
use std::sync::Arc;

use super::selection::HeldPins;
use super::{Pool, PoolAffinity, Selection};
use crate::affinity::shard::{Eligibility, Key, Member, PinView, Session};
use crate::affinity::table::{Lookup, PinGuard};
use crate::config::model::Balance;
use crate::protocol::tls::client_hello::ClientHello;
use crate::upstream::backend::{Backend, BackendPermit};

/// The client that a backend is picked for.
#[derive(Debug, Clone, Copy)]
pub struct PoolClient {
    /// Its address; never IPv4-mapped.
    pub source: IpAddr,
    /// The number of the matched configured name in the group's table.
    pub name_id: u32,
}

/// Why a backend was picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PickedBy {
    /// The client was pinned to it.
    Pin,
    /// It granted the TLS session that the client resumes.
    Session,
    /// The balance policy chose it.
    Policy(Balance),
    /// No backend of the pool is available, so the backup serves.
    Backup,
    /// The connection to another backend failed.
    Redispatch,
}

impl PickedBy {
    /// The name in the log and the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pin => "pinned",
            Self::Session => "tls_session",
            Self::Policy(balance) => balance.as_str(),
            Self::Backup => "backup",
            Self::Redispatch => "redispatched",
        }
    }
}

/// Why no backend was picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPick {
    /// No backend is available.
    Down,
    /// All available backends have `max_connections` connections.
    Full,
}

impl Pool {
    /// Picks a backend for a new connection of `client` and acquires a permit; `hello` has the TLS session that it resumes.
    ///
    /// # Errors
    ///
    /// Why no backend is available.
    pub fn pick(
        self: &Arc<Self>,
        client: PoolClient,
        hello: Option<&ClientHello>,
    ) -> Result<Selection, NoPick> {
        self.pick_here(client, hello).or_else(|none| {
            let Some(backup) = &self.backup else {
                return Err(none);
            };
            let (pool, permit) = backup.acquire_unpinned(client)?;
            Ok(Selection::new(
                pool,
                client,
                permit,
                PickedBy::Backup,
                HeldPins::None,
            ))
        })
    }

    fn acquire_unpinned(
        self: &Arc<Self>,
        client: PoolClient,
    ) -> Result<(Arc<Self>, BackendPermit), NoPick> {
        let here = self
            .acquire(client, &[])
            .map(|(_, permit)| (self.clone(), permit));
        here.or_else(|none| {
            self.backup
                .as_ref()
                .map_or(Err(none), |backup| backup.acquire_unpinned(client))
        })
    }

    fn pick_here(
        self: &Arc<Self>,
        client: PoolClient,
        hello: Option<&ClientHello>,
    ) -> Result<Selection, NoPick> {
        let Some(affinity) = &self.affinity else {
            return self.pick_unpinned(client);
        };
        // Read before any pin is held, so that no move of a pin is missed.
        let moves = affinity.pins.moves();
        let key = affinity.key(client);
        let recognised = hello
            .and_then(|hello| affinity.recognise(key, hello, |member| self.eligibility(member)));
        let Some(known) = recognised else {
            return self.pick_by_client(affinity, client, (None, moves));
        };
        if !known.is_eligible {
            return self.pick_by_client(affinity, client, (Some(known.guard), moves));
        }
        let Some(permit) = self.member(known.member).and_then(Backend::try_acquire) else {
            // Full. The session stays where it is; this connection goes elsewhere without it.
            return self.pick_unpinned(client);
        };
        let pin = key.and_then(|key| affinity.pins.acquire_for_session(key, known.member));
        let held = HeldPins::new(pin, Some(known.guard), moves);
        Ok(self.picked(client, permit, PickedBy::Session, held))
    }

    /// Picks for a client that is not recognised by its session, or whose session's backend cannot accept it now.
    fn pick_by_client(
        self: &Arc<Self>,
        affinity: &PoolAffinity,
        client: PoolClient,
        (session, moves): (Option<PinGuard<Session>>, u32),
    ) -> Result<Selection, NoPick> {
        let policy = PickedBy::Policy(self.balance);
        let Some(key) = affinity.key(client) else {
            let permit = self.acquire(client, &[])?.1;
            return Ok(self.picked(client, permit, policy, HeldPins::new(None, session, moves)));
        };
        let mut chosen = Err(NoPick::Down);
        let choose = || {
            chosen = self.acquire(client, &[]);
            chosen
                .as_ref()
                .ok()
                .map(|(index, _)| affinity.members[*index])
        };
        let (pin, member, by) =
            match affinity
                .pins
                .acquire(key, |member| self.eligibility(member), choose)
            {
                Lookup::Pinned(pin, member) => (pin, member, PickedBy::Pin),
                Lookup::New(pin, member) | Lookup::Stale(pin, member) => (pin, member, policy),
                Lookup::Unpinned(_) | Lookup::NoBackend => {
                    return Ok(self.picked(client, chosen?.1, policy, HeldPins::None));
                }
                // Rendezvous hashing keeps such a client on one backend without a pin.
                Lookup::NotInPool => {
                    let permit = self.acquire_by(Balance::SourceHash, client, &[])?.1;
                    let by = PickedBy::Policy(Balance::SourceHash);
                    return Ok(self.picked(client, permit, by, HeldPins::None));
                }
            };
        let permit = match chosen {
            Ok((_, permit)) => Some(permit),
            Err(_) => self.member(member).and_then(Backend::try_acquire),
        };
        match permit {
            Some(permit) => {
                Ok(self.picked(client, permit, by, HeldPins::new(Some(pin), session, moves)))
            }
            // Full. The pin stays where it is; this connection goes elsewhere without it.
            None => self.pick_unpinned(client),
        }
    }

    /// Picks by the policy and without a pin.
    fn pick_unpinned(self: &Arc<Self>, client: PoolClient) -> Result<Selection, NoPick> {
        let permit = self.acquire(client, &[])?.1;
        Ok(self.picked(
            client,
            permit,
            PickedBy::Policy(self.balance),
            HeldPins::None,
        ))
    }

    fn picked(
        self: &Arc<Self>,
        client: PoolClient,
        permit: BackendPermit,
        by: PickedBy,
        held: HeldPins,
    ) -> Selection {
        Selection::new(self.clone(), client, permit, by, held)
    }

    /// The pin that [`Pool::pick`] would find, without using it.
    #[must_use]
    pub fn pin(&self, client: PoolClient) -> Option<(PinView<Key>, Option<&Arc<Backend>>)> {
        let affinity = self.affinity.as_ref()?;
        let view = affinity.pins.view(&affinity.key(client)?)?;
        Some((view, self.member(view.member)))
    }

    /// The backend that the policy would choose for a client without a usable pin, or with a pin to a backend that this pool
    /// does not have. The permit is released at once, and round robin does not advance.
    ///
    /// # Errors
    ///
    /// Why no backend is available.
    pub fn preview(
        self: &Arc<Self>,
        client: PoolClient,
    ) -> Result<(PickedBy, Arc<Backend>), NoPick> {
        let foreign = matches!(self.pin(client), Some((_, None)));
        let balance = if foreign {
            Balance::SourceHash
        } else {
            self.balance
        };
        let turns = self.turns().clone();
        let here = self.acquire_by(balance, client, &[]);
        *self.turns() = turns;
        match here {
            Ok((_, permit)) => Ok((PickedBy::Policy(balance), permit.backend().clone())),
            Err(none) => match &self.backup {
                Some(backup) => backup
                    .preview(client)
                    .map(|(_, backend)| (PickedBy::Backup, backend)),
                None => Err(none),
            },
        }
    }

    /// Acquires a permit of the backend that the policy chooses, except those in `tried`.
    pub(super) fn acquire(
        &self,
        client: PoolClient,
        tried: &[usize],
    ) -> Result<(usize, BackendPermit), NoPick> {
        self.acquire_by(self.balance, client, tried)
    }

    fn acquire_by(
        &self,
        balance: Balance,
        client: PoolClient,
        tried: &[usize],
    ) -> Result<(usize, BackendPermit), NoPick> {
        // A backend can fill up between the choice and the permit; then the next round has one candidate fewer.
        for _ in 0..=self.backends.len() {
            let Some(index) = self.choose(balance, client, tried) else {
                break;
            };
            if let Some(permit) = self.backends[index].try_acquire() {
                return Ok((index, permit));
            }
        }
        let full = self
            .backends
            .iter()
            .any(|backend| backend.accepts_new() && backend.is_full());
        Err(if full { NoPick::Full } else { NoPick::Down })
    }

    pub(super) fn eligibility(&self, member: Member) -> Eligibility {
        match self.member(member) {
            Some(backend) if backend.accepts_pinned() => Eligibility::Eligible,
            Some(_) => Eligibility::Ineligible,
            None => Eligibility::NotInPool,
        }
    }
}
