//! Owns when a check is made: at once, then every interval, spread so that hundreds of backends are not asked together.
//!
//! Must not know what a result means. Invariant: one round has one check under way at most.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::probe::{Finding, Probe};
use crate::types::host_name::HostName;

/// What the tasks of the watch tell the keeper.
#[derive(Debug)]
pub(super) enum CheckEvent {
    /// A check has been made.
    Found {
        /// Which.
        round: ScheduledCheck,
        /// What came of it.
        finding: Finding,
    },
    /// A name has been asked for.
    Resolved {
        /// Which.
        name: HostName,
        /// Its addresses, at least one, or why there is none.
        answer: Result<Vec<IpAddr>, String>,
    },
}

/// One check of one server, made for all backends that want it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ScheduledCheck {
    /// What is asked, and of whom.
    pub(super) probe: Probe,
    /// From one start to the next.
    pub(super) interval: Duration,
}

/// How much an interval varies, up and down.
const JITTER: f64 = 0.05;

/// Makes the checks of one round for ever, and passes every result on.
pub(super) async fn make(round: ScheduledCheck, news: mpsc::Sender<CheckEvent>) {
    // The first pause is a share of the interval: checks that began together part here, and the jitter keeps them apart.
    let mut pause = round.interval.mul_f64(0.25 + 0.75 * random());
    loop {
        let start = Instant::now();
        let finding = round.probe.make().await;
        let round = round.clone();
        let interval = round.interval;
        if news
            .send(CheckEvent::Found { round, finding })
            .await
            .is_err()
        {
            return;
        }
        sleep_until(start + pause).await;
        pause = about(interval);
    }
}

/// The duration, a little more or less.
pub(super) fn about(duration: Duration) -> Duration {
    duration.mul_f64(1.0 - JITTER + 2.0 * JITTER * random())
}

/// A number from 0 to 1. The hasher's keys are random and new each time; nothing secret hangs on it.
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
        let drawn: Vec<f64> = (0..1000).map(|_| about(second).as_secs_f64()).collect();
        assert!(drawn.iter().all(|drawn| (0.949..=1.051).contains(drawn)));
        let mean = drawn.iter().sum::<f64>() / 1000.0;
        assert!((0.99..1.01).contains(&mean), "{mean}");
        assert!(drawn.iter().any(|drawn| *drawn < 0.97));
        assert!(drawn.iter().any(|drawn| *drawn > 1.03));
    }
}
