//! The affinity table of one group, shared by every worker.
//!
//! Owns the pins of clients, those of TLS sessions, the clock of both and the numbers of names and backends. Must not know
//! pools: the eligibility of backends is passed in. Invariants: the limit of each table holds over all its shards; a
//! session never moves a pin of another client.
//!
//! | file | owns |
//! |---|---|
//! | `key_table` | shards, locks and the limit of one table; a connection's hold on a pin |
//! | `quota` | how many TLS sessions one client may have |
//! | `clock` | the clock of the moments |
//! | `sync` | the locks and atomics |
//! | `sessions` | recognising and learning TLS sessions |
//! | `secret` | the keyed hashes of sessions |
//! | `interner` | the numbers of texts |
//! | `export` | pins out of the table, as records |
//! | `import` | pins into the table: from the store, another process, a table with other keys |
//! | `reconfigure` | the settings that can change |
//! | `foreign` | pins that connections of another process hold |
//! | `operate` | what an administrator queries and changes |

mod clock;
mod export;
mod foreign;
mod import;
mod interner;
mod key_table;
mod operate;
mod quota;
mod reconfigure;
mod secret;
mod sessions;
mod sync;

use std::sync::Arc;

use arc_swap::ArcSwap;
use metrics::{Counter, Gauge};

use crate::affinity::shard::{
    Eligibility, Key, KeyLookup, Member, Moment, Origin, PinView, Session,
};
use crate::config::model;
use crate::telemetry::metrics::{Registry, definitions};
use clock::Clock;
pub use foreign::ForeignHold;
pub use import::{Imported, NotImported};
use interner::Interner;
pub use key_table::{KeyKind, KeyTable, PinGuard};
pub use operate::{ChangeTotals, Cursor, TableFilter};
use quota::Quotas;
pub use secret::Secret;
pub use sessions::KnownSession;
use sync::{AtomicU32, Ordering};

/// The most TLS sessions that are known of one client. All clients behind one NAT count as one.
pub const SESSIONS_A_CLIENT: u32 = 4096;

/// The result of a client's lookup, with the hold on its pin if it has one.
#[derive(Debug)]
pub enum Lookup {
    /// The pin's backend may take the client.
    Pinned(PinGuard<Key>, Member),
    /// There was no pin.
    New(PinGuard<Key>, Member),
    /// The pin's backend may not take the client.
    Stale(PinGuard<Key>, Member),
    /// Every pin is in use.
    Unpinned(Member),
    /// The pool does not have the pin's backend.
    NotInPool,
    /// No backend may take the client.
    NoBackend,
}

/// The table of one group.
pub struct Pins {
    group: Arc<str>,
    settings: ArcSwap<model::AffinitySettings>,
    secret: Secret,
    clients: KeyTable<Key>,
    sessions: KeyTable<Session>,
    /// How often an administrator has moved pins.
    moves: AtomicU32,
    /// Pins that connections of a predecessor hold.
    foreign: foreign::ForeignHolds,
    clock: Clock,
    names: Interner,
    members: Interner,
    series: Series,
    registry: Registry,
}

/// The handles of its metrics.
struct Series {
    entries: Gauge,
    evictions: Counter,
    unpinned: Counter,
    hits: Counter,
    misses: Counter,
    stales: Counter,
    sessions: Gauge,
    recognised: Counter,
    learned: Counter,
    unlearned: Counter,
}

impl Series {
    fn new(group: &str, registry: &Registry) -> Self {
        let lookups = |result| registry.counter(&definitions::AFFINITY_LOOKUPS, &[group, result]);
        Self {
            entries: registry.gauge(&definitions::AFFINITY_ENTRIES, &[group]),
            evictions: registry.counter(&definitions::AFFINITY_EVICTIONS, &[group]),
            unpinned: registry.counter(&definitions::AFFINITY_UNPINNED, &[group]),
            hits: lookups("hit"),
            misses: lookups("miss"),
            stales: lookups("stale"),
            sessions: registry.gauge(&definitions::AFFINITY_SESSIONS, &[group]),
            recognised: registry.counter(&definitions::AFFINITY_SESSIONS_RECOGNISED, &[group]),
            learned: registry.counter(&definitions::AFFINITY_SESSIONS_LEARNED, &[group]),
            unlearned: registry.counter(&definitions::AFFINITY_SESSIONS_UNLEARNED, &[group]),
        }
    }
}

impl std::fmt::Debug for Pins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "pins of {}", self.group)
    }
}

impl Pins {
    /// An empty table with these settings. Its sessions are hashed with `secret`.
    #[must_use]
    pub fn new(settings: &model::AffinitySettings, registry: &Registry, secret: &Secret) -> Self {
        let (most, ttl) = (settings.max_entries, settings.ttl);
        // Without the source in the key all clients are one, and would share one quota.
        let quotas = if settings.by_source {
            Quotas::of(SESSIONS_A_CLIENT)
        } else {
            Quotas::none()
        };
        let sessions = KeyTable::new(most, ttl, quotas);
        if !settings.by_session {
            sessions.set_most(0);
        }
        Self {
            group: settings.group.clone(),
            settings: ArcSwap::from_pointee(settings.clone()),
            secret: secret.clone(),
            clients: KeyTable::new(most, ttl, Quotas::none()),
            sessions,
            moves: AtomicU32::new(0),
            foreign: foreign::ForeignHolds::default(),
            clock: Clock::start(),
            names: Interner::default(),
            members: Interner::default(),
            series: Series::new(&settings.group, registry),
            registry: registry.clone(),
        }
    }

    /// The group's name.
    #[must_use]
    pub fn group(&self) -> &Arc<str> {
        &self.group
    }

    /// The secret that its sessions are hashed with.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Number of pins of clients, including expired ones not yet swept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there is no pin of a client.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of TLS sessions, including expired ones not yet swept.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// The number of a configured name, the same in every process. Adds a name that is new.
    #[must_use]
    pub fn intern_name(&self, name: &str) -> u32 {
        self.names.made_of(name)
    }

    /// The number of a backend's name. Adds a name that is new.
    #[must_use]
    pub fn intern_member(&self, backend: &str) -> Member {
        Member(self.members.of(backend))
    }

    /// The name of a backend by its number.
    #[must_use]
    pub fn member_name(&self, member: Member) -> Option<Arc<str>> {
        self.members.text(member.0)
    }

    /// Finds or creates the pin of `key` for a new connection. See [`crate::affinity::shard::Shard::acquire`].
    pub fn acquire(
        self: &Arc<Self>,
        key: Key,
        eligibility: impl Fn(Member) -> Eligibility,
        choose: impl FnOnce() -> Option<Member>,
    ) -> Lookup {
        let found = self.lookup(key, Origin::Policy, eligibility, choose);
        match &found {
            Lookup::Pinned(..) => self.series.hits.increment(1),
            Lookup::New(..) => self.series.misses.increment(1),
            Lookup::Stale(..) => self.series.stales.increment(1),
            Lookup::Unpinned(_) => {
                self.series.misses.increment(1);
                self.series.unpinned.increment(1);
            }
            Lookup::NotInPool | Lookup::NoBackend => {}
        }
        found
    }

    /// Holds the pin of a client that was recognised by its TLS session: the existing one, if `member` is its backend, or a
    /// new one. A pin to another backend belongs to other clients behind the same address, and stays as it is.
    #[must_use]
    pub fn acquire_for_session(
        self: &Arc<Self>,
        key: Key,
        member: Member,
    ) -> Option<PinGuard<Key>> {
        let same = |known| {
            if known == member {
                Eligibility::Eligible
            } else {
                Eligibility::NotInPool
            }
        };
        match self.lookup(key, Origin::Session, same, || Some(member)) {
            Lookup::Pinned(guard, _) | Lookup::New(guard, _) => Some(guard),
            Lookup::Stale(..) | Lookup::Unpinned(_) | Lookup::NotInPool | Lookup::NoBackend => None,
        }
    }

    fn lookup(
        self: &Arc<Self>,
        key: Key,
        origin: Origin,
        eligibility: impl Fn(Member) -> Eligibility,
        choose: impl FnOnce() -> Option<Member>,
    ) -> Lookup {
        let home = self.clients.home(&key);
        let now = self.now();
        let found = self.clients.with(home, |shard, tag, room| {
            shard.acquire((key, tag), now, origin, eligibility, choose, room)
        });
        let guard = |handle| PinGuard::new(self, home, handle);
        match found {
            KeyLookup::Pinned(handle, member) => Lookup::Pinned(guard(handle), member),
            KeyLookup::New(handle, member) => Lookup::New(guard(handle), member),
            KeyLookup::Stale(handle, member) => Lookup::Stale(guard(handle), member),
            KeyLookup::Unpinned(member) => Lookup::Unpinned(member),
            KeyLookup::NotInPool => Lookup::NotInPool,
            KeyLookup::NoBackend => Lookup::NoBackend,
        }
    }

    /// Number of pins of clients to `member`.
    #[must_use]
    pub fn pins_to(&self, member: Member) -> usize {
        self.clients.leading_to(member)
    }

    /// The pin of `key`, if it has one with a backend.
    #[must_use]
    pub fn view(&self, key: &Key) -> Option<PinView<Key>> {
        let home = self.clients.home(key);
        let now = self.now();
        self.clients
            .with(home, |shard, tag, _| shard.view((key, tag), now))
    }

    /// The time of the table's clock.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    /// Puts the tables' clock forward.
    #[cfg(test)]
    pub(crate) fn pass_time(&self, time: std::time::Duration) {
        self.clock.forward(time);
    }

    /// Stops the tables' clock, but for [`Pins::pass_time`].
    #[cfg(test)]
    pub(crate) fn stop_time(&self) {
        self.clock.stop();
    }

    /// How often an administrator has moved pins. When this has changed, each connection checks its own pin.
    #[must_use]
    pub fn moves(&self) -> u32 {
        self.moves.load(Ordering::Acquire)
    }

    /// Removes expired pins, at most `most` of each shard.
    pub fn sweep(&self, most: usize) {
        let now = self.now();
        self.clients.sweep(now, most);
        self.sessions.sweep(now, most);
    }

    /// Counts a pin whose backend has changed.
    pub fn count_broken(&self, reason: &'static str) {
        self.registry
            .counter(&definitions::AFFINITY_PINS_BROKEN, &[&self.group, reason])
            .increment(1);
    }

    /// Updates the metrics of pins and evictions.
    pub fn update_metrics(&self) {
        #[allow(clippy::cast_precision_loss, reason = "no table holds 2^52 pins")]
        let set = |gauge: &Gauge, pins: usize| gauge.set(pins as f64);
        set(&self.series.entries, self.len());
        set(&self.series.sessions, self.sessions());
        let evicted = self.clients.take_evicted() + self.sessions.take_evicted();
        self.series.evictions.increment(evicted as u64);
    }
}

#[cfg(test)]
pub(crate) mod tests;
