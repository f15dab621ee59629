//! Owns when a check runs: at once, then every interval, with jitter so that the checks of hundreds of backends spread out.
//!
//! Must not know what a result means. Invariant: a scheduled check never overlaps with itself.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::probe::{Finding, Probe};
use crate::types::host_name::HostName;

/// What the tasks report to the `HealthMonitor`.
#[derive(Debug)]
pub(super) enum CheckEvent {
    /// A check has run.
    Checked {
        /// The check.
        check: ScheduledCheck,
        /// Its result.
        finding: Finding,
    },
    /// A name has been looked up.
    Resolved {
        /// The name.
        name: HostName,
        /// Its addresses, at least one, or why there is none.
        result: Result<Vec<IpAddr>, String>,
    },
}

/// One check of one server, run for all backends that need it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ScheduledCheck {
    /// The request and the server.
    pub(super) probe: Probe,
    /// Time from one start to the next.
    pub(super) interval: Duration,
}

/// How much an interval varies, as a fraction, in both directions.
const JITTER: f64 = 0.05;

/// Runs a check periodically, and sends every result.
pub(super) async fn run(check: ScheduledCheck, events: mpsc::Sender<CheckEvent>) {
    // The first pause is a random part of the interval, which spreads checks that started together; jitter keeps them apart.
    let mut pause = check.interval.mul_f64(0.25 + 0.75 * random());
    loop {
        let start = Instant::now();
        let finding = check.probe.run().await;
        let check = check.clone();
        let interval = check.interval;
        if events
            .send(CheckEvent::Checked { check, finding })
            .await
            .is_err()
        {
            return;
        }
        sleep_until(start + pause).await;
        pause = jittered(interval);
    }
}

/// The duration with jitter.
pub(super) fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(1.0 - JITTER + 2.0 * JITTER * random())
}

/// A random number from 0 to 1. The hasher's keys are random and new each time; nothing secret depends on it.
fn random() -> f64 {
    let bits = RandomState::new().hash_one(0_u8);
    f64::from((bits >> 32) as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_vary_by_a_twentieth_around_their_mean() {
        let second = Duration::from_secs(1);
        let drawn: Vec<f64> = (0..1000).map(|_| jittered(second).as_secs_f64()).collect();
        assert!(drawn.iter().all(|drawn| (0.949..=1.051).contains(drawn)));
        let mean = drawn.iter().sum::<f64>() / 1000.0;
        assert!((0.99..1.01).contains(&mean), "{mean}");
        assert!(drawn.iter().any(|drawn| *drawn < 0.97));
        assert!(drawn.iter().any(|drawn| *drawn > 1.03));
    }
}
