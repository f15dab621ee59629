//! When a backend comes back into rotation, and what holds it out although its checks pass.
//!
//! Owns the time of the return, at which slow start begins. Must not know how weights grow. Invariant: concurrent changes of
//! health and state record one return.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Backend, Damped, lock};
use crate::types::backend_state::{AdminState, Health};

impl Backend {
    /// How often the administrator has set it to `ready`, each of which resets flap damping.
    #[must_use]
    pub fn damping_resets(&self) -> u32 {
        self.damping_resets.load(Ordering::Acquire)
    }

    /// Set while it is down although its checks pass.
    #[must_use]
    pub fn damped(&self) -> Option<Damped> {
        *lock(&self.damped)
    }

    /// Whether only flap damping holds it out. Then it comes back at once if no other backend of the pool can serve, so the port
    /// need not close meanwhile.
    #[must_use]
    pub fn is_only_damped(&self) -> bool {
        self.allows_pinned() && self.damped().is_some()
    }

    /// Sets or clears flap damping. Only for `health`.
    pub fn set_damped(&self, damped: Option<Damped>) {
        *lock(&self.damped) = damped;
        self.metrics.set_damped(damped.is_some());
    }

    /// Changes health or state with `write`, and records a return if the backend was out of rotation before and is not now.
    pub(super) fn change(&self, write: impl FnOnce()) {
        let _guard = lock(&self.changing);
        let in_rotation = || self.state() == AdminState::Ready && self.health() != Health::Down;
        let before = in_rotation();
        write();
        if !before && in_rotation() {
            let now = u64::try_from(self.uptime().as_nanos()).unwrap_or(u64::MAX);
            self.returned_at.store(now.max(1), Ordering::Release);
            self.returns.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// How often it has come back into rotation.
    #[must_use]
    pub fn returns(&self) -> u32 {
        self.returns.load(Ordering::Relaxed)
    }

    /// When it came back, on the clock of [`Backend::uptime`], until [`Backend::end_slow_start`]. `None` for a backend that was
    /// never out of rotation: at startup all backends begin with their full weight.
    #[must_use]
    pub fn returned(&self) -> Option<Duration> {
        let returned = self.returned_at.load(Ordering::Acquire);
        (returned != 0).then_some(Duration::from_nanos(returned))
    }

    /// Clears the return at `returned`, since slow start is over.
    pub fn end_slow_start(&self, returned: Duration) {
        let known = u64::try_from(returned.as_nanos()).unwrap_or(u64::MAX);
        // A later return is not cleared.
        let _ = self
            .returned_at
            .compare_exchange(known, 0, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// The clock of returns, common to all backends with the same [`Availability`](super::Availability).
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.availability.started.elapsed()
    }
}
