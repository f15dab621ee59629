//! The clock of one group's tables.
//!
//! Owns the meaning of a [`Moment`]. Invariant: it never goes backward, and starts late enough that moments before the
//! start of the process can be expressed.

use std::time::{Duration, Instant};

use crate::affinity::shard::Moment;

/// The time of the clock when the tables are created, in milliseconds: moments up to three years earlier can be expressed.
const START: u64 = 100_000_000_000;

/// Milliseconds since the tables were created, starting at [`START`].
#[derive(Debug)]
pub(super) struct Clock {
    started: Instant,
    /// How a test has set it.
    #[cfg(test)]
    hands: std::sync::Mutex<ClockHands>,
}

#[cfg(test)]
#[derive(Debug, Default)]
struct ClockHands {
    /// When the clock was stopped.
    stopped: Option<Duration>,
    /// By how much it was put forward.
    forward: Duration,
}

impl Clock {
    /// A clock that starts now.
    pub(super) fn start() -> Self {
        Self {
            started: Instant::now(),
            #[cfg(test)]
            hands: std::sync::Mutex::default(),
        }
    }

    /// The time.
    pub(super) fn now(&self) -> Moment {
        Moment(START.saturating_add(milliseconds(self.elapsed())))
    }

    #[cfg(not(test))]
    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A clock that a test can set.
#[cfg(test)]
impl Clock {
    fn elapsed(&self) -> Duration {
        let hands = self.hands.lock().unwrap();
        hands.stopped.unwrap_or_else(|| self.started.elapsed()) + hands.forward
    }

    /// Stops the clock, but for [`Clock::forward`].
    pub(super) fn stop(&self) {
        self.hands.lock().unwrap().stopped = Some(self.started.elapsed());
    }

    /// Puts the clock forward.
    pub(super) fn forward(&self, time: Duration) {
        self.hands.lock().unwrap().forward += time;
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
