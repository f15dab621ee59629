//! Going and coming back: when a backend is let in again, and what keeps it out although its checks pass.
//!
//! Owns the moment of a return, which the growth of its weight is reckoned from. Must not know how weights grow.
//! Invariant: two that change health and state at once note one return.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Backend, Damped, lock};
use crate::types::backend_state::{AdminState, Health};

impl Backend {
    /// How often the administrator said `ready`, which forgives what the checks hold against it.
    #[must_use]
    pub fn pardons(&self) -> u32 {
        self.pardons.load(Ordering::Acquire)
    }

    /// Why it is down although its checks pass.
    #[must_use]
    pub fn damped(&self) -> Option<Damped> {
        *lock(&self.damped)
    }

    /// Whether it is kept out for its falls alone, so that it is taken in a moment if nothing else in the pool can serve.
    /// A port that waited for that would close and open again.
    #[must_use]
    pub fn is_in_reserve(&self) -> bool {
        self.wants_pinned() && self.damped().is_some()
    }

    /// For `health` alone.
    pub fn set_damped(&self, damped: Option<Damped>) {
        *lock(&self.damped) = damped;
        self.metrics.show_damped(damped.is_some());
    }

    /// Does `write` to health or state; what was kept out by them before and is not any more has come back.
    pub(super) fn change(&self, write: impl FnOnce()) {
        let _one_at_a_time = lock(&self.changing);
        let stands = || self.state() == AdminState::Ready && self.health() != Health::Down;
        let stood = stands();
        write();
        if !stood && stands() {
            let now = u64::try_from(self.uptime().as_nanos()).unwrap_or(u64::MAX);
            self.returned.store(now.max(1), Ordering::Release);
            self.returns.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// How often it has come back after it was kept out.
    #[must_use]
    pub fn returns(&self) -> u32 {
        self.returns.load(Ordering::Relaxed)
    }

    /// When it came back, on the clock of [`Backend::uptime`], until [`Backend::settled`]. A backend that was never kept
    /// out has not come back: at the start all begin alike.
    #[must_use]
    pub fn returned(&self) -> Option<Duration> {
        let returned = self.returned.load(Ordering::Acquire);
        (returned != 0).then_some(Duration::from_nanos(returned))
    }

    /// Forgets the return at `returned`, which makes no difference any more.
    pub fn settled(&self, returned: Duration) {
        let known = u64::try_from(returned.as_nanos()).unwrap_or(u64::MAX);
        // Another return since then stays.
        let _ = self
            .returned
            .compare_exchange(known, 0, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// The clock of returns, the same for all backends that announce to one [`Availability`](super::Availability).
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.availability.began.elapsed()
    }
}
