//! A pool while the balancer runs: who gets the next client.
//!
//! Owns the choice: the pin, else the policy, else the backup. Knows neither sockets nor time-outs. Invariant: whoever
//! holds a [`Selection`] holds a place at its backend and, where there is one, its pin.

mod choice;
mod selection;
mod session_learner;
mod standing;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::affinity::shard::{Eligibility, Key, Member, PinView, Session};
use crate::affinity::table::{KnownSession, Lookup, PinGuard, Pins};
use crate::config::model::{Balance, OnDown, SourcePrefix};
use crate::protocol::tls::client_hello::ClientHello;
use crate::types::backend_state::Health;
use crate::upstream::backend::{Backend, BackendPermit};
use crate::upstream::balance::{SlowStart, Turns, mix};
use selection::HeldPins;
pub use selection::Selection;
pub use session_learner::SessionLearner;
pub use standing::{Obstacle, Standing, obstacle_to_pinned};

/// Who asks for a backend.
#[derive(Debug, Clone, Copy)]
pub struct PoolClient {
    /// Its address, never IPv4-mapped.
    pub source: IpAddr,
    /// The configured name that matched, as the group's table numbers it.
    pub name: u32,
}

/// Why a backend was picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PickedBy {
    /// The client was pinned to it.
    Pin,
    /// It had granted the TLS session that the client resumes.
    Session,
    /// The policy chose it.
    Policy(Balance),
    /// Nothing in the pool is available, so its backup serves.
    Backup,
    /// Another backend could not be reached.
    Redispatch,
}

impl PickedBy {
    /// The word in the log and the API.
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

/// Why nobody was picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPick {
    /// Nothing is available.
    Down,
    /// What is available holds `max_connections`.
    Full,
}

/// How a pool's clients are pinned.
#[derive(Debug)]
pub struct PoolAffinity {
    /// The group's table.
    pub pins: Arc<Pins>,
    members: Vec<Member>,
    places: HashMap<Member, usize>,
}

/// A pool.
#[derive(Debug)]
pub struct Pool {
    /// The key under `pools`.
    pub name: Arc<str>,
    /// In the order of the file.
    pub backends: Vec<Arc<Backend>>,
    /// The policy.
    pub balance: Balance,
    /// `None` is no affinity.
    pub affinity: Option<PoolAffinity>,
    /// Serves while nothing here is available.
    pub backup: Option<Arc<Pool>>,
    /// What becomes of connections when checks fail.
    pub on_down: OnDown,
    ramp: Option<SlowStart>,
    /// By the backend's place: the backends of its name in the other pools of the group.
    siblings: Vec<Vec<Arc<Backend>>>,
    seeds: Vec<u64>,
    turns: Mutex<Turns>,
}

impl Pool {
    /// A pool of these backends, whose clients are pinned in `pins`.
    #[must_use]
    pub fn new(
        name: Arc<str>,
        backends: Vec<Arc<Backend>>,
        balance: Balance,
        pins: Option<Arc<Pins>>,
        backup: Option<Arc<Pool>>,
        on_down: OnDown,
    ) -> Self {
        let affinity = pins.map(|pins| {
            let members: Vec<Member> = backends
                .iter()
                .map(|backend| pins.number_member(&backend.name))
                .collect();
            let places = members
                .iter()
                .enumerate()
                .map(|(place, &member)| (member, place))
                .collect();
            PoolAffinity {
                pins,
                members,
                places,
            }
        });
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
            ramp: None,
            siblings: Vec::new(),
            seeds,
            turns: Mutex::default(),
        }
    }

    /// Whether any client could be served: by a backend here, be it only one who is pinned there, or by the backup.
    #[must_use]
    pub fn can_serve(&self) -> bool {
        self.backends
            .iter()
            .any(|backend| backend.takes_pinned() || backend.is_in_reserve())
            || self
                .backup
                .as_ref()
                .is_some_and(|backup| backup.can_serve())
    }

    /// Whether a backend here or in the backup has passed its checks and takes new clients.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.backends
            .iter()
            .any(|backend| backend.takes_new() && backend.health() == Health::Up)
            || self.backup.as_ref().is_some_and(|backup| backup.is_ready())
    }

    /// The backend for a new connection of `client`, with a place there; `hello` tells which TLS session it would resume.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn pick(
        self: &Arc<Self>,
        client: PoolClient,
        hello: Option<&ClientHello>,
    ) -> Result<Selection, NoPick> {
        self.pick_here(client, hello).or_else(|none| {
            let Some(backup) = &self.backup else {
                return Err(none);
            };
            let (pool, slot) = backup.take_unpinned(client)?;
            Ok(Selection::new(
                pool,
                client,
                slot,
                PickedBy::Backup,
                HeldPins::Nothing,
            ))
        })
    }

    fn take_unpinned(
        self: &Arc<Self>,
        client: PoolClient,
    ) -> Result<(Arc<Self>, BackendPermit), NoPick> {
        let here = self.take(client, &[]).map(|(_, slot)| (self.clone(), slot));
        here.or_else(|none| {
            self.backup
                .as_ref()
                .map_or(Err(none), |backup| backup.take_unpinned(client))
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
        // Before any pin is taken, so that no recall is missed.
        let recalls = affinity.pins.recalls();
        let key = affinity.key(client);
        let recognised =
            hello.and_then(|hello| affinity.recognise(key, hello, |member| self.fit(member)));
        let Some(known) = recognised else {
            return self.pick_by_client(affinity, client, (None, recalls));
        };
        if !known.takes {
            return self.pick_by_client(affinity, client, (Some(known.claim), recalls));
        }
        let Some(slot) = self.member(known.member).and_then(Backend::enter) else {
            // Full, which is no reason to forget where the session is: this connection goes elsewhere without it.
            return self.pick_unpinned(client);
        };
        let beside = key.and_then(|key| affinity.pins.accompany(key, known.member));
        let hold = HeldPins::pins(beside, Some(known.claim), recalls);
        Ok(self.picked(client, slot, PickedBy::Session, hold))
    }

    /// For a client that is not recognised by its session, or whose session's backend cannot take it now.
    fn pick_by_client(
        self: &Arc<Self>,
        affinity: &PoolAffinity,
        client: PoolClient,
        (session, recalls): (Option<PinGuard<Session>>, u32),
    ) -> Result<Selection, NoPick> {
        let policy = PickedBy::Policy(self.balance);
        let Some(key) = affinity.key(client) else {
            let slot = self.take(client, &[])?.1;
            return Ok(self.picked(client, slot, policy, HeldPins::pins(None, session, recalls)));
        };
        let mut taken = Err(NoPick::Down);
        let choose = || {
            taken = self.take(client, &[]);
            taken
                .as_ref()
                .ok()
                .map(|(place, _)| affinity.members[*place])
        };
        let (claim, member, by) = match affinity.pins.begin(key, |member| self.fit(member), choose)
        {
            Lookup::Pinned(claim, member) => (claim, member, PickedBy::Pin),
            Lookup::New(claim, member) | Lookup::Stale(claim, member) => (claim, member, policy),
            Lookup::Unpinned(_) | Lookup::Nowhere => {
                return Ok(self.picked(client, taken?.1, policy, HeldPins::Nothing));
            }
            // Rendezvous keeps such a client on one backend without a pin.
            Lookup::Foreign => {
                let slot = self.take_by(Balance::SourceHash, client, &[])?.1;
                let by = PickedBy::Policy(Balance::SourceHash);
                return Ok(self.picked(client, slot, by, HeldPins::Nothing));
            }
        };
        let slot = match taken {
            Ok((_, slot)) => Some(slot),
            Err(_) => self.member(member).and_then(Backend::enter),
        };
        match slot {
            Some(slot) => Ok(self.picked(
                client,
                slot,
                by,
                HeldPins::pins(Some(claim), session, recalls),
            )),
            // Full, which is no reason to move the pin: this connection goes elsewhere without it.
            None => self.pick_unpinned(client),
        }
    }

    /// By the policy, and without a pin: where it goes says nothing of where its client belongs.
    fn pick_unpinned(self: &Arc<Self>, client: PoolClient) -> Result<Selection, NoPick> {
        let slot = self.take(client, &[])?.1;
        Ok(self.picked(
            client,
            slot,
            PickedBy::Policy(self.balance),
            HeldPins::Nothing,
        ))
    }

    fn picked(
        self: &Arc<Self>,
        client: PoolClient,
        slot: BackendPermit,
        by: PickedBy,
        hold: HeldPins,
    ) -> Selection {
        Selection::new(self.clone(), client, slot, by, hold)
    }

    /// What [`Pool::pick`] would find, without leaving a trace.
    #[must_use]
    pub fn pin(&self, client: PoolClient) -> Option<(PinView<Key>, Option<&Arc<Backend>>)> {
        let affinity = self.affinity.as_ref()?;
        let view = affinity.pins.view(&affinity.key(client)?)?;
        Some((view, self.member(view.member)))
    }

    /// Whom the policy would choose for a client without a usable pin, or whose pin leads to a backend that this pool does
    /// not have. Its place is given back at once, and so is the turn of round robin.
    ///
    /// # Errors
    ///
    /// Why there is nobody.
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
        let here = self.take_by(balance, client, &[]);
        *self.turns() = turns;
        match here {
            Ok((_, slot)) => Ok((PickedBy::Policy(balance), slot.backend().clone())),
            Err(none) => match &self.backup {
                Some(backup) => backup
                    .preview(client)
                    .map(|(_, backend)| (PickedBy::Backup, backend)),
                None => Err(none),
            },
        }
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pins of the group that lead to `backend`; `None` where the pool has no affinity.
    #[must_use]
    pub fn pins_of(&self, backend: &Arc<Backend>) -> Option<usize> {
        let affinity = self.affinity.as_ref()?;
        Some(
            affinity
                .pins
                .leading_to(affinity.pins.number_member(&backend.name)),
        )
    }

    /// Forgets the pins of the group that lead to `backend`; says how many there were.
    pub fn release_pins_of(&self, backend: &Arc<Backend>) -> usize {
        let Some(affinity) = &self.affinity else {
            return 0;
        };
        affinity
            .pins
            .release(affinity.pins.number_member(&backend.name))
    }

    /// Takes a place at the backend that the policy chooses, none of `tried`.
    fn take(&self, client: PoolClient, tried: &[usize]) -> Result<(usize, BackendPermit), NoPick> {
        self.take_by(self.balance, client, tried)
    }

    fn take_by(
        &self,
        balance: Balance,
        client: PoolClient,
        tried: &[usize],
    ) -> Result<(usize, BackendPermit), NoPick> {
        // A backend can fill up between the choice and the entry; each round then has one candidate less.
        for _ in 0..=self.backends.len() {
            let Some(place) = self.choose(balance, client, tried) else {
                break;
            };
            if let Some(slot) = self.backends[place].enter() {
                return Ok((place, slot));
            }
        }
        let full = self
            .backends
            .iter()
            .any(|backend| backend.takes_new() && backend.is_full());
        Err(if full { NoPick::Full } else { NoPick::Down })
    }

    fn fit(&self, member: Member) -> Eligibility {
        match self.member(member) {
            Some(backend) if backend.takes_pinned() => Eligibility::Takes,
            Some(_) => Eligibility::Refuses,
            None => Eligibility::Foreign,
        }
    }

    fn member(&self, member: Member) -> Option<&Arc<Backend>> {
        let place = *self.affinity.as_ref()?.places.get(&member)?;
        self.backends.get(place)
    }

    fn prefix(&self) -> SourcePrefix {
        self.affinity
            .as_ref()
            .map_or(SourcePrefix::WHOLE, |affinity| {
                affinity.pins.settings().source_prefix
            })
    }
}

impl PoolAffinity {
    /// The client's key; `None` where clients are known by their sessions alone.
    fn key(&self, client: PoolClient) -> Option<Key> {
        let settings = self.pins.settings();
        (settings.by_source || settings.by_name).then(|| self.pins.key(client.source, client.name))
    }

    /// The session that the client resumes, if it is known.
    fn recognise(
        &self,
        key: Option<Key>,
        hello: &ClientHello,
        fit: impl Fn(Member) -> Eligibility,
    ) -> Option<KnownSession> {
        if !self.pins.settings().by_session {
            return None;
        }
        let (id, ticket) = (&hello.session_id, hello.ticket.as_deref());
        self.pins.recognise(ticket, id, key.as_ref(), fit)
    }
}

/// The same in every process, so that two balancers agree about a client.
fn hash(bytes: &[u8]) -> u64 {
    bytes
        .chunks(8)
        .fold(mix(bytes.len() as u64), |state, chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            mix(state ^ u64::from_le_bytes(word))
        })
}

/// Uniform, cheap, and of no use to who wants secrets.
fn chance() -> u64 {
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
