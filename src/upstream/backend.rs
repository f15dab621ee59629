//! One server of one pool at run time: its address, health, administrative state and connections.
//!
//! Owns these cells, each with one writer: `health` writes health, address and check reports; the administrator writes the
//! state; the server writes the configured values when a configuration takes effect. Must not know policies, pins or
//! descriptors. Invariants: `in_flight` is the number of [`BackendPermit`]s; a return is recorded exactly when health and state
//! together allow new clients again.

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

/// Why the balancer ends the connections of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Disconnect {
    /// Its deciding checks failed and `on_down` is `close`.
    Down = 1,
    /// It was put into maintenance.
    Maintain = 2,
    /// The deadline of its drain has passed.
    DrainDeadline = 3,
    /// The balancer stops.
    Shutdown = 4,
    /// An administrator moved the pin. Concerns only the clients with that pin, never a whole backend.
    PinMoved = 5,
}

/// Low bits of [`Backend::disconnects`] with the reason; the other bits count the disconnects.
const REASON_BITS: u32 = 3;

/// The last result of one check, for status and page.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckReport {
    /// The check's name in its pool.
    pub label: Arc<str>,
    /// Whether it decides the health of the backend.
    pub decides: bool,
    /// The last result; `None` before the first.
    pub passing: Option<bool>,
    /// The result after `rise` and `fall`; `None` before the first result.
    pub counts: Option<bool>,
    /// Number of results in a row that contradict `counts`.
    pub against: u32,
    /// How many of these change it: `fall` if it counts as passing, else `rise`.
    pub needed: u32,
    /// A description of the result: `connection refused`, `status 503, expected 200`.
    pub detail: String,
    /// When `passing` last changed.
    pub since: SystemTime,
    /// When the last result arrived.
    pub at: SystemTime,
    /// Duration of the last check.
    pub took: Duration,
    /// End of validity of the certificate that was seen.
    pub certificate_expiry: Option<SystemTime>,
}

/// When something ends: a drain, or the time for which a backend is held out of rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// On the monotonic clock.
    pub at: Instant,
    /// On the wall clock, for display.
    pub wall_time: SystemTime,
}

/// A backend whose checks pass but that is held out of rotation because it has failed repeatedly (flap damping).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damped {
    /// When it comes back, if its checks keep passing.
    pub until: Deadline,
    /// Number of failures since the count was last reset.
    pub falls: u32,
}

/// One server of one pool.
pub struct Backend {
    /// Name of the pool.
    pub pool: Arc<str>,
    /// Name, unique in the pool.
    pub name: Arc<str>,
    /// Its metrics.
    pub metrics: BackendMetrics,
    configured: ArcSwap<model::BackendConfig>,
    weight: AtomicU32,
    /// [`u32::MAX`] is no limit.
    max_connections: AtomicU32,
    address: ArcSwapOption<SocketAddr>,
    /// Why its name no longer resolves.
    resolve_error: Mutex<Option<String>>,
    health: AtomicU8,
    state: AtomicU8,
    deadline: Mutex<Option<Deadline>>,
    /// When it came back, in nanoseconds since `Availability::started`; 0 if it did not, or long ago.
    returned_at: AtomicU64,
    /// How often it has come back.
    returns: AtomicU32,
    /// How often the administrator has set it to `ready`.
    damping_resets: AtomicU32,
    /// Locked while health or state changes, so that a return is recorded once.
    changing: Mutex<()>,
    damped: Mutex<Option<Damped>>,
    in_flight: AtomicU32,
    disconnects: AtomicU32,
    health_change: Mutex<HealthChange>,
    checks: Mutex<Vec<CheckReport>>,
    availability: Arc<Availability>,
}

/// When and why health last changed.
#[derive(Debug, Clone)]
pub struct HealthChange {
    /// When.
    pub at: SystemTime,
    /// Why, as text.
    pub why: String,
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.pool, self.name)
    }
}

impl Backend {
    /// A backend that is not checked yet; every change is announced to `availability`.
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
            resolve_error: Mutex::new(None),
            health: AtomicU8::new(Health::Unknown as u8),
            state: AtomicU8::new(AdminState::Ready as u8),
            deadline: Mutex::new(None),
            returned_at: AtomicU64::new(0),
            returns: AtomicU32::new(0),
            damping_resets: AtomicU32::new(0),
            changing: Mutex::new(()),
            damped: Mutex::new(None),
            in_flight: AtomicU32::new(0),
            disconnects: AtomicU32::new(0),
            health_change: Mutex::new(HealthChange {
                at: SystemTime::now(),
                why: "not checked yet".into(),
            }),
            checks: Mutex::new(Vec::new()),
            availability,
        };
        backend.metrics.set_state(AdminState::Ready);
        backend
    }

    /// The address to connect to; `None` until the name is first resolved.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address.load().as_deref().copied()
    }

    /// Sets the current address. Only for `health`.
    pub fn set_address(&self, address: SocketAddr) {
        self.address.store(Some(Arc::new(address)));
        self.announce();
    }

    /// Why its name no longer resolves, while its last address is still used; `None` while it resolves.
    #[must_use]
    pub fn resolve_error(&self) -> Option<String> {
        lock(&self.resolve_error).clone()
    }

    /// Sets or clears that error. Only for `health`.
    pub fn set_resolve_error(&self, error: Option<&str>) {
        *lock(&self.resolve_error) = error.map(str::to_owned);
    }

    /// Its health.
    #[must_use]
    pub fn health(&self) -> Health {
        Health::from_u8(self.health.load(Ordering::Acquire))
    }

    /// Sets the health. Only for `health`. Does not end connections: see [`Backend::disconnect_all`].
    pub fn set_health(&self, health: Health, why: &str) {
        self.change(|| self.health.store(health as u8, Ordering::Release));
        *lock(&self.health_change) = HealthChange {
            at: SystemTime::now(),
            why: why.to_owned(),
        };
        self.metrics.set_health(health);
        self.announce();
    }

    /// When and why health last changed.
    #[must_use]
    pub fn last_health_change(&self) -> HealthChange {
        lock(&self.health_change).clone()
    }

    /// The administrative state.
    #[must_use]
    pub fn state(&self) -> AdminState {
        AdminState::from_u8(self.state.load(Ordering::Acquire))
    }

    /// When its drain ends; `None` in other states.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        *lock(&self.deadline)
    }

    /// Sets the administrative state. Only for the administrator; `deadline` is for [`AdminState::Drain`].
    pub fn set_state(&self, state: AdminState, deadline: Option<Deadline>) {
        *lock(&self.deadline) = deadline;
        self.change(|| self.state.store(state as u8, Ordering::Release));
        if state == AdminState::Ready {
            self.damping_resets.fetch_add(1, Ordering::AcqRel);
        }
        self.metrics.set_state(state);
        self.metrics
            .set_drain_deadline(deadline.map(|deadline| deadline.wall_time));
        self.announce();
    }

    /// Whether it accepts clients without a pin, apart from `max_connections`.
    #[must_use]
    pub fn accepts_new(&self) -> bool {
        self.state() == AdminState::Ready && self.is_reachable()
    }

    /// Whether it accepts clients that are pinned to it, apart from `max_connections`.
    #[must_use]
    pub fn accepts_pinned(&self) -> bool {
        self.allows_pinned() && self.is_reachable()
    }

    /// Whether the administrative state allows clients that are pinned to it.
    #[must_use]
    pub fn allows_pinned(&self) -> bool {
        match self.state() {
            AdminState::Ready => true,
            AdminState::Drain => self
                .deadline()
                .is_none_or(|deadline| Instant::now() < deadline.at),
            AdminState::Maintain => false,
        }
    }

    fn is_reachable(&self) -> bool {
        self.health() != Health::Down && self.address.load().is_some()
    }

    /// Whether it has `max_connections` connections.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.in_flight() >= self.max_connections.load(Ordering::Relaxed)
    }

    /// Current connections, including those being established.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// A permit for one connection; `None` if there are `max_connections` already.
    #[must_use]
    pub fn try_acquire(self: &Arc<Self>) -> Option<BackendPermit> {
        let limit = self.max_connections.load(Ordering::Relaxed);
        let incremented = |now: u32| (now < limit).then(|| now + 1);
        self.in_flight
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, incremented)
            .ok()?;
        Some(BackendPermit {
            disconnects: self.disconnects.load(Ordering::Acquire),
            backend: self.clone(),
        })
    }

    /// Ends all current connections for `reason`; later ones are not affected.
    pub fn disconnect_all(&self, reason: Disconnect) {
        let next =
            |now: u32| Some((((now >> REASON_BITS) + 1) << REASON_BITS) | u32::from(reason as u8));
        // The closure never returns `None`.
        let _ = self
            .disconnects
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        self.availability.wake_workers();
    }

    /// The last reports of its checks.
    #[must_use]
    pub fn checks(&self) -> Vec<CheckReport> {
        lock(&self.checks).clone()
    }

    /// Replaces the report of the check with the same label, or adds it. Only for `health`.
    pub fn report_check(&self, report: CheckReport) {
        let mut checks = lock(&self.checks);
        match checks.iter_mut().find(|known| known.label == report.label) {
            Some(known) => *known = report,
            None => checks.push(report),
        }
    }

    /// Removes the reports of checks whose label is not wanted. Only for `health`.
    pub fn retain_checks(&self, wanted: impl Fn(&str) -> bool) {
        lock(&self.checks).retain(|known| wanted(&known.label));
    }

    fn announce(&self) {
        self.availability.changed();
    }
}

/// A permit for one connection to a backend; released by `Drop`.
#[derive(Debug)]
pub struct BackendPermit {
    backend: Arc<Backend>,
    disconnects: u32,
}

impl BackendPermit {
    /// The backend.
    #[must_use]
    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    /// Why the balancer ends this connection, if it does.
    #[must_use]
    pub fn disconnect_reason(&self) -> Option<Disconnect> {
        let now = self.backend.disconnects.load(Ordering::Acquire);
        if now == self.disconnects {
            return None;
        }
        Some(match now & ((1 << REASON_BITS) - 1) {
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

/// Ignores poisoning: every critical section is one assignment, so the value is valid even after a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
