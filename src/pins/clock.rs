//! The clock of one group's tables.
//!
//! Owns what its moments mean. Invariant: it never goes back, and begins late enough that older moments can be told, too.

use std::time::{Duration, Instant};

use crate::affinity::Moment;

/// What the clock says when the tables are made, in milliseconds: older moments can be told, too, up to three years.
const BEGUN: u64 = 100_000_000_000;

/// Milliseconds since the tables were made, from [`BEGUN`] on.
#[derive(Debug)]
pub(super) struct Clock {
    started: Instant,
    /// Milliseconds that a test has let pass.
    #[cfg(test)]
    passed: std::sync::atomic::AtomicU64,
}

impl Clock {
    /// Begins now.
    pub(super) fn start() -> Self {
        Self {
            started: Instant::now(),
            #[cfg(test)]
            passed: std::sync::atomic::AtomicU64::new(0),
        }
    }

    /// What it says.
    pub(super) fn now(&self) -> Moment {
        let elapsed = milliseconds(self.elapsed());
        Moment(BEGUN.saturating_add(elapsed))
    }

    fn elapsed(&self) -> Duration {
        let elapsed = self.started.elapsed();
        #[cfg(test)]
        let elapsed =
            elapsed + Duration::from_millis(self.passed.load(std::sync::atomic::Ordering::Relaxed));
        elapsed
    }

    /// Lets so much time pass, to the millisecond.
    #[cfg(test)]
    pub(super) fn pass(&self, time: Duration) {
        self.passed
            .fetch_add(milliseconds(time), std::sync::atomic::Ordering::Relaxed);
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
