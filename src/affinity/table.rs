//! The affinity table of one group, shared by every worker.
//!
//! Owns what the group keeps: the pins of clients, those of TLS sessions, the clock of both and the numbers that stand for
//! names and backends. Must not know pools: what may take a client is passed in. Invariants: the bound of either table
//! holds over all its shards; a session never makes a pin of another client move.
//!
//! | file | owns |
//! |---|---|
//! | `key_table` | shards, locks and the bound of one table; a connection's hold on a pin |
//! | `quota` | how much of the sessions' table one client may fill |
//! | `clock` | what moments mean |
//! | `sync` | which locks and counts are used |
//! | `sessions` | recognising and learning TLS sessions |
//! | `secret` | the hashes that stand for sessions |
//! | `interner` | the numbers that stand for texts |
//! | `record` | pins outside the table: for a store |
//! | `scheme` | what keys are made of, and from one scheme to another |
//! | `reconfigure` | what is configured of it, and may change |
//! | `handoff` | pins that pass to another process |
//! | `operate` | pins as an administrator sees and changes them |

mod clock;
mod handoff;
mod interner;
mod key_table;
mod operate;
mod quota;
mod reconfigure;
mod record;
mod scheme;
mod secret;
mod sessions;
mod sync;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use metrics::{Counter, Gauge};

use crate::affinity::shard::{
    Eligibility, Key, KeyLookup, Member, Moment, Origin, PinView, Session,
};
use crate::config::model;
use crate::telemetry::metrics::{Registry, definitions};
use clock::Clock;
pub use handoff::ForeignHold;
use interner::Interner;
pub use key_table::{KeyKind, KeyTable, PinGuard};
pub use operate::{ChangeTotals, Cursor, TableFilter};
use quota::Quotas;
pub use record::{PinKey, PinRecord, TableChange};
pub use scheme::KeyScheme;
pub use secret::Secret;
pub use sessions::KnownSession;
use sync::{AtomicU32, Ordering};

/// TLS sessions that are known of one client at most, an address translator with all that is behind it being one.
pub const SESSIONS_A_CLIENT: u32 = 4096;

/// How a client was found in the table, and the hold on its pin, if it has one.
#[derive(Debug)]
pub enum Lookup {
    /// The pin's backend takes it.
    Pinned(PinGuard<Key>, Member),
    /// There was no pin.
    New(PinGuard<Key>, Member),
    /// The pin's backend does not take it.
    Stale(PinGuard<Key>, Member),
    /// Every pin is in use.
    Unpinned(Member),
    /// The pin leads to a backend that the pool does not have.
    Foreign,
    /// Nothing takes it.
    Nowhere,
}

/// The table of one group.
pub struct Pins {
    group: Arc<str>,
    settings: ArcSwap<model::AffinitySettings>,
    secret: Secret,
    clients: KeyTable<Key>,
    sessions: KeyTable<Session>,
    /// How often connections have been recalled by their pins.
    recalls: AtomicU32,
    /// Pins that connections of an older process hold.
    foreign: handoff::Foreign,
    clock: Clock,
    names: Interner,
    members: Interner,
    series: Series,
    registry: Registry,
}

/// What is counted.
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
    /// An empty table with these settings; `secret` hashes its sessions.
    #[must_use]
    pub fn new(settings: &model::AffinitySettings, registry: &Registry, secret: &Secret) -> Self {
        let (most, ttl) = (settings.max_entries, settings.ttl);
        // Without a source there is one client for all, and one share would be everybody's.
        let shares = if settings.by_source {
            Quotas::of(SESSIONS_A_CLIENT)
        } else {
            Quotas::none()
        };
        let sessions = KeyTable::new(most, ttl, shares);
        if !settings.by_session {
            sessions.set_most(0);
        }
        Self {
            group: settings.group.clone(),
            settings: ArcSwap::from_pointee(settings.clone()),
            secret: secret.clone(),
            clients: KeyTable::new(most, ttl, Quotas::none()),
            sessions,
            recalls: AtomicU32::new(0),
            foreign: handoff::Foreign::default(),
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

    /// What its sessions are hashed with.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Pins of clients that stand, those included that have expired and are not swept yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there is no pin of a client.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// TLS sessions that are known, those included that have expired and are not swept yet.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// The number of a configured name, the same in every process; for the building of a snapshot.
    #[must_use]
    pub fn number_name(&self, name: &str) -> u32 {
        self.names.made_of(name)
    }

    /// The number of a backend's name; for the building of a snapshot.
    #[must_use]
    pub fn number_member(&self, backend: &str) -> Member {
        Member(self.members.of(backend))
    }

    /// The backend's name that stands behind a number.
    #[must_use]
    pub fn member_name(&self, member: Member) -> Option<Arc<str>> {
        self.members.text(member.0)
    }

    /// Finds or makes the pin of `key` for a new connection. See [`crate::affinity::shard::Shard::begin`].
    pub fn begin(
        self: &Arc<Self>,
        key: Key,
        fit: impl Fn(Member) -> Eligibility,
        choose: impl FnOnce() -> Option<Member>,
    ) -> Lookup {
        let found = self.look(key, Origin::Policy, fit, choose);
        match &found {
            Lookup::Pinned(..) => self.series.hits.increment(1),
            Lookup::New(..) => self.series.misses.increment(1),
            Lookup::Stale(..) => self.series.stales.increment(1),
            Lookup::Unpinned(_) => {
                self.series.misses.increment(1);
                self.series.unpinned.increment(1);
            }
            Lookup::Foreign | Lookup::Nowhere => {}
        }
        found
    }

    /// The pin of a client that was recognised by its TLS session: one that leads to `member` is held, and where there is
    /// none, one is made that will. One that leads elsewhere is others' behind the same address, and stays as it is.
    #[must_use]
    pub fn accompany(self: &Arc<Self>, key: Key, member: Member) -> Option<PinGuard<Key>> {
        let same = |known| {
            if known == member {
                Eligibility::Takes
            } else {
                Eligibility::Foreign
            }
        };
        match self.look(key, Origin::Session, same, || Some(member)) {
            Lookup::Pinned(claim, _) | Lookup::New(claim, _) => Some(claim),
            Lookup::Stale(..) | Lookup::Unpinned(_) | Lookup::Foreign | Lookup::Nowhere => None,
        }
    }

    fn look(
        self: &Arc<Self>,
        key: Key,
        origin: Origin,
        fit: impl Fn(Member) -> Eligibility,
        choose: impl FnOnce() -> Option<Member>,
    ) -> Lookup {
        let home = self.clients.home(&key);
        let now = self.now();
        let found = self.clients.with(home, |shard, tag, room| {
            shard.begin((key, tag), now, origin, fit, choose, room)
        });
        let claim = |place| PinGuard::new(self, home, place);
        match found {
            KeyLookup::Pinned(place, member) => Lookup::Pinned(claim(place), member),
            KeyLookup::New(place, member) => Lookup::New(claim(place), member),
            KeyLookup::Stale(place, member) => Lookup::Stale(claim(place), member),
            KeyLookup::Unpinned(member) => Lookup::Unpinned(member),
            KeyLookup::Foreign => Lookup::Foreign,
            KeyLookup::Nowhere => Lookup::Nowhere,
        }
    }

    /// Pins of clients that lead to `member`.
    #[must_use]
    pub fn leading_to(&self, member: Member) -> usize {
        self.clients.leading_to(member)
    }

    /// The pin of `key`, if one stands.
    #[must_use]
    pub fn view(&self, key: &Key) -> Option<PinView<Key>> {
        let home = self.clients.home(key);
        let now = self.now();
        self.clients
            .with(home, |shard, tag, _| shard.view((key, tag), now))
    }

    /// What the table's clock says.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    /// Lets time pass for the tables.
    #[cfg(test)]
    pub(crate) fn pass_time(&self, time: Duration) {
        self.clock.forward(time);
    }

    /// Lets time pass no more but by [`Pins::pass_time`].
    #[cfg(test)]
    pub(crate) fn stop_time(&self) {
        self.clock.stop();
    }

    /// How long from now until `moment`.
    #[must_use]
    pub fn until(&self, moment: Moment) -> Duration {
        Duration::from_millis(moment.0.saturating_sub(self.now().0))
    }

    /// How long ago `moment` was.
    #[must_use]
    pub fn since(&self, moment: Moment) -> Duration {
        Duration::from_millis(self.now().0.saturating_sub(moment.0))
    }

    /// How often connections have been recalled by their pins: whoever holds one asks it when this has changed.
    #[must_use]
    pub fn recalls(&self) -> u32 {
        self.recalls.load(Ordering::Acquire)
    }

    /// Removes pins whose time has come, at most `most` of each shard.
    pub fn sweep(&self, most: usize) {
        let now = self.now();
        self.clients.sweep(now, most);
        self.sessions.sweep(now, most);
    }

    /// Counts a pin that has moved.
    pub fn count_broken(&self, reason: &'static str) {
        self.registry
            .counter(&definitions::AFFINITY_PINS_BROKEN, &[&self.group, reason])
            .increment(1);
    }

    /// Shows the numbers of pins; for whoever renders the metrics.
    pub fn show(&self) {
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
