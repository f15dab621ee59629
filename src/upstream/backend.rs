//! One server of one pool while the balancer runs: its address, health, administrative state and connections.
//!
//! One writer per cell: `health` writes the health, the address and the check reports, the administrator writes the
//! state; eligibility reads both. What is configured is written by the assembly, when a configuration comes into force.
//! Knows no policy, no pins and no descriptor. Invariants: `in_flight` is the number of living [`BackendPermit`]s; a return is noted
//! exactly when health and state together let new clients in again.

mod availability;
mod reconfigure;
mod returns;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::config::model;
use crate::telemetry::metrics::BackendMetrics;
use crate::types::backend_state::{AdminState, Health};
pub use availability::Availability;

/// Why the connections that a backend holds are ended by the balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Disconnect {
    /// Its deciding checks fail and `on_down` is `close`.
    Down = 1,
    /// It was put into maintenance.
    Maintain = 2,
    /// The deadline of its drain has come.
    DrainDeadline = 3,
    /// The balancer stops.
    Shutdown = 4,
    /// An administrator moved the pin. No backend's recall: it is its clients' alone.
    PinMoved = 5,
}

/// Bits of [`Backend::recalls`] that hold the reason; the rest counts the recalls.
const RECALL_BITS: u32 = 3;

/// The last result of one check, for status and page.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckReport {
    /// The check's name in its pool.
    pub label: Arc<str>,
    /// Whether it takes the backend up and down.
    pub decides: bool,
    /// What the last result was; `None` before the first.
    pub passing: Option<bool>,
    /// What it counts as, by rise and fall; `None` before the first result.
    pub counts: Option<bool>,
    /// Results in a row that contradict what it counts as.
    pub against: u32,
    /// How many of these turn it: `fall` where it counts as passing, else `rise`.
    pub needed: u32,
    /// What was seen, in words: `connection refused`, `status 503, wanted 200`.
    pub detail: String,
    /// When `passing` last changed.
    pub since: SystemTime,
    /// When the last result came.
    pub at: SystemTime,
    /// How long the last check took.
    pub took: Duration,
    /// End of validity of the certificate that was seen.
    pub certificate_expiry: Option<SystemTime>,
}

/// When something ends: a drain, or the time for which a backend is kept out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// On the clock that never jumps.
    pub at: Instant,
    /// On the wall, for people.
    pub shown: SystemTime,
}

/// A backend whose checks pass and which is kept out because it has fallen again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damped {
    /// When it is taken back, if its checks go on to pass.
    pub until: Deadline,
    /// How often it has fallen since it was last forgiven.
    pub falls: u32,
}

/// One server of one pool.
pub struct Backend {
    /// The pool's name.
    pub pool: Arc<str>,
    /// Unique in the pool.
    pub name: Arc<str>,
    /// What is counted of it.
    pub metrics: BackendMetrics,
    configured: ArcSwap<model::BackendConfig>,
    weight: AtomicU32,
    /// [`u32::MAX`] is no bound.
    max_connections: AtomicU32,
    address: ArcSwapOption<SocketAddr>,
    /// Why its name does not resolve any more.
    name_fault: Mutex<Option<String>>,
    health: AtomicU8,
    state: AtomicU8,
    deadline: Mutex<Option<Deadline>>,
    /// Nanoseconds since `Availability::began` at which it came back; 0 is not, or long ago.
    returned: AtomicU64,
    /// How often it has come back.
    returns: AtomicU32,
    /// How often the administrator said `ready`.
    pardons: AtomicU32,
    /// Held while health or state changes, so that a return is noted once.
    changing: Mutex<()>,
    damped: Mutex<Option<Damped>>,
    in_flight: AtomicU32,
    recalls: AtomicU32,
    changed: Mutex<HealthChange>,
    checks: Mutex<Vec<CheckReport>>,
    availability: Arc<Availability>,
}

/// When and why health last changed, for people.
#[derive(Debug, Clone)]
pub struct HealthChange {
    /// When.
    pub at: SystemTime,
    /// Why, in words.
    pub why: String,
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.pool, self.name)
    }
}

impl Backend {
    /// A backend of which nothing is known yet; `availability` is told of every change.
    #[must_use]
    pub fn new(
        pool: Arc<str>,
        configured: model::BackendConfig,
        max_connections: Option<u32>,
        metrics: BackendMetrics,
        availability: Arc<Availability>,
    ) -> Self {
        let backend = Self {
            pool,
            name: configured.name.clone(),
            metrics,
            weight: AtomicU32::new(configured.weight),
            max_connections: AtomicU32::new(max_connections.unwrap_or(u32::MAX)),
            configured: ArcSwap::from_pointee(configured),
            address: ArcSwapOption::empty(),
            name_fault: Mutex::new(None),
            health: AtomicU8::new(Health::Unknown as u8),
            state: AtomicU8::new(AdminState::Ready as u8),
            deadline: Mutex::new(None),
            returned: AtomicU64::new(0),
            returns: AtomicU32::new(0),
            pardons: AtomicU32::new(0),
            changing: Mutex::new(()),
            damped: Mutex::new(None),
            in_flight: AtomicU32::new(0),
            recalls: AtomicU32::new(0),
            changed: Mutex::new(HealthChange {
                at: SystemTime::now(),
                why: "not checked yet".into(),
            }),
            checks: Mutex::new(Vec::new()),
            availability,
        };
        backend.metrics.show_state(AdminState::Ready);
        backend
    }

    /// Where connections go; `None` while the name has never been resolved.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address.load().as_deref().copied()
    }

    /// For `health` alone: where the server is now.
    pub fn set_address(&self, address: SocketAddr) {
        self.address.store(Some(Arc::new(address)));
        self.announce();
    }

    /// Why its name does not resolve any more, while its last address is kept; `None` while it resolves.
    #[must_use]
    pub fn name_fault(&self) -> Option<String> {
        lock(&self.name_fault).clone()
    }

    /// For `health` alone.
    pub fn set_name_fault(&self, fault: Option<&str>) {
        *lock(&self.name_fault) = fault.map(str::to_owned);
    }

    /// What the checks say.
    #[must_use]
    pub fn health(&self) -> Health {
        Health::from_cell(self.health.load(Ordering::Acquire))
    }

    /// For `health` alone. Does not touch connections: see [`Backend::recall`].
    pub fn set_health(&self, health: Health, why: &str) {
        self.change(|| self.health.store(health as u8, Ordering::Release));
        *lock(&self.changed) = HealthChange {
            at: SystemTime::now(),
            why: why.to_owned(),
        };
        self.metrics.show_health(health);
        self.announce();
    }

    /// When and why health last changed.
    #[must_use]
    pub fn changed(&self) -> HealthChange {
        lock(&self.changed).clone()
    }

    /// What the administrator wants.
    #[must_use]
    pub fn state(&self) -> AdminState {
        AdminState::from_cell(self.state.load(Ordering::Acquire))
    }

    /// When its drain ends; `None` in the other states.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        *lock(&self.deadline)
    }

    /// For the administrator alone; `deadline` goes with [`AdminState::Drain`].
    pub fn set_state(&self, state: AdminState, deadline: Option<Deadline>) {
        *lock(&self.deadline) = deadline;
        self.change(|| self.state.store(state as u8, Ordering::Release));
        if state == AdminState::Ready {
            self.pardons.fetch_add(1, Ordering::AcqRel);
        }
        self.metrics.show_state(state);
        self.metrics
            .show_drain_deadline(deadline.map(|deadline| deadline.shown));
        self.announce();
    }

    /// Whether a client without a pin may be sent here; says nothing of `max_connections`.
    #[must_use]
    pub fn takes_new(&self) -> bool {
        self.state() == AdminState::Ready && self.serves()
    }

    /// Whether a client that is pinned here may come back.
    #[must_use]
    pub fn takes_pinned(&self) -> bool {
        self.wants_pinned() && self.serves()
    }

    /// Whether the administrator lets clients that are pinned here come back.
    #[must_use]
    pub fn wants_pinned(&self) -> bool {
        match self.state() {
            AdminState::Ready => true,
            AdminState::Drain => self
                .deadline()
                .is_none_or(|deadline| Instant::now() < deadline.at),
            AdminState::Maintain => false,
        }
    }

    fn serves(&self) -> bool {
        self.health() != Health::Down && self.address.load().is_some()
    }

    /// Whether every place under `max_connections` is taken.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.in_flight() >= self.max_connections.load(Ordering::Relaxed)
    }

    /// Connections that it holds or that are on their way to it.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// A place for one connection; `None` where `max_connections` are in flight.
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> Option<BackendPermit> {
        let bound = self.max_connections.load(Ordering::Relaxed);
        let grown = |now: u32| (now < bound).then(|| now + 1);
        self.in_flight
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, grown)
            .ok()?;
        Some(BackendPermit {
            recalls: self.recalls.load(Ordering::Acquire),
            backend: self.clone(),
        })
    }

    /// Ends every connection that it holds, for `reason`. Those that enter later are not meant.
    pub fn recall(&self, reason: Disconnect) {
        let next =
            |now: u32| Some((((now >> RECALL_BITS) + 1) << RECALL_BITS) | u32::from(reason as u8));
        // The closure never says `None`.
        let _ = self
            .recalls
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        self.availability.wake_workers();
    }

    /// What the checks last saw.
    #[must_use]
    pub fn checks(&self) -> Vec<CheckReport> {
        lock(&self.checks).clone()
    }

    /// For `health` alone: replaces the report of the check with the same label, or adds it.
    pub fn report_check(&self, report: CheckReport) {
        let mut checks = lock(&self.checks);
        match checks.iter_mut().find(|known| known.label == report.label) {
            Some(known) => *known = report,
            None => checks.push(report),
        }
    }

    /// For `health` alone: forgets the reports of checks whose label is not wanted.
    pub fn keep_checks(&self, wanted: impl Fn(&str) -> bool) {
        lock(&self.checks).retain(|known| wanted(&known.label));
    }

    fn announce(&self) {
        self.availability.changed();
    }
}

/// One connection's place at a backend; given back by `Drop`.
#[derive(Debug)]
pub struct BackendPermit {
    backend: Arc<Backend>,
    recalls: u32,
}

impl BackendPermit {
    /// Whose place it is.
    #[must_use]
    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// Why this connection must end, if it must.
    #[must_use]
    pub fn recalled(&self) -> Option<Disconnect> {
        let now = self.backend.recalls.load(Ordering::Acquire);
        if now == self.recalls {
            return None;
        }
        Some(match now & ((1 << RECALL_BITS) - 1) {
            2 => Disconnect::Maintain,
            3 => Disconnect::DrainDeadline,
            4 => Disconnect::Shutdown,
            _ => Disconnect::Down,
        })
    }
}

impl Drop for BackendPermit {
    fn drop(&mut self) {
        self.backend.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A value behind a lock whose holder panicked is still whole here: every critical section is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
