//! The clock of one group's tables.
//!
//! Owns what its moments mean. Invariant: it never goes back, and begins late enough that older moments can be told, too.

use std::time::{Duration, Instant};

use crate::affinity::shard::Moment;

/// What the clock says when the tables are made, in milliseconds: older moments can be told, too, up to three years.
const BEGUN: u64 = 100_000_000_000;

/// Milliseconds since the tables were made, from [`BEGUN`] on.
#[derive(Debug)]
pub(super) struct Clock {
    started: Instant,
    /// What a test does with it.
    #[cfg(test)]
    hands: std::sync::Mutex<ClockHands>,
}

#[cfg(test)]
#[derive(Debug, Default)]
struct ClockHands {
    /// When the clock was stopped.
    stopped: Option<Duration>,
    /// What it was put forward by.
    forward: Duration,
}

impl Clock {
    /// Begins now.
    pub(super) fn start() -> Self {
        Self {
            started: Instant::now(),
            #[cfg(test)]
            hands: std::sync::Mutex::default(),
        }
    }

    /// What it says.
    pub(super) fn now(&self) -> Moment {
        Moment(BEGUN.saturating_add(milliseconds(self.elapsed())))
    }

    #[cfg(not(test))]
    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A clock that a test has in its hands.
#[cfg(test)]
impl Clock {
    fn elapsed(&self) -> Duration {
        let hands = self.hands.lock().unwrap();
        hands.stopped.unwrap_or_else(|| self.started.elapsed()) + hands.forward
    }

    /// Goes on only when it is put forward.
    pub(super) fn stop(&self) {
        self.hands.lock().unwrap().stopped = Some(self.started.elapsed());
    }

    /// Puts it forward.
    pub(super) fn forward(&self, time: Duration) {
        self.hands.lock().unwrap().forward += time;
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
