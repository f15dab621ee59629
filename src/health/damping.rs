//! Owns flap damping: how long a backend that fails repeatedly is held out of rotation although its checks pass.
//!
//! Must not know checks or the clock: `now` is passed in. Invariants: the first failure after a stable period has no effect; the
//! time for which checks must pass grows with each further failure, up to the limit; the failure count drops by one for each
//! period of the limit's length that the backend stays up.
//!
//! This is route flap damping (RFC 2439) with a penalty that is easy to explain to an operator: the time doubles.

use std::time::{Duration, Instant};

/// More levels than any limit needs: there are 23 doublings from 10 ms to a day.
const MAX_LEVEL: u32 = 24;

/// The settings of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DampingSettings {
    /// How long checks must pass after one failure: `rise` intervals.
    pub(super) base: Duration,
    /// The longest time that they must pass.
    pub(super) max: Duration,
}

impl DampingSettings {
    /// The level at which the time reaches the limit; higher levels would only take longer to decay.
    fn max_level(self) -> u32 {
        (1..MAX_LEVEL)
            .find(|&level| self.doubled(level) >= self.max)
            .unwrap_or(MAX_LEVEL)
    }

    /// How long checks must pass at this level; `None` if no longer than `rise` demands.
    fn hold_time(self, level: u32) -> Option<Duration> {
        let hold = self.doubled(level).min(self.max);
        (hold > self.base).then_some(hold)
    }

    /// The base time, doubled for each level after the first.
    fn doubled(self, level: u32) -> Duration {
        self.base.saturating_mul(1 << level.saturating_sub(1))
    }
}

/// The failures of one backend that count.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Damping {
    /// Failures that have not decayed, up to the level of the limit.
    level: u32,
    /// Failures since the level was last 0.
    falls: u32,
    /// When it last came up; `None` while it is down.
    up_since: Option<Instant>,
    /// Since when every result of the deciding checks has been a pass.
    passing_since: Option<Instant>,
}

impl Damping {
    /// Failures since the level was last 0, for display.
    pub(super) fn falls(self) -> u32 {
        self.falls
    }

    /// The backend was up and went down.
    pub(super) fn went_down(&mut self, now: Instant, settings: DampingSettings) {
        if let Some(since) = self.up_since.take() {
            let up = now.saturating_duration_since(since).as_nanos();
            let decayed = up / settings.max.as_nanos().max(1);
            self.level = self
                .level
                .saturating_sub(u32::try_from(decayed).unwrap_or(u32::MAX));
        }
        if self.level == 0 {
            self.falls = 0;
        }
        self.falls = self.falls.saturating_add(1);
        self.level = (self.level + 1).min(settings.max_level());
        self.passing_since = None;
    }

    /// The backend came up.
    pub(super) fn came_up(&mut self, now: Instant) {
        self.up_since = Some(now);
    }

    /// A deciding check ran, and the last results of all of them are passes.
    pub(super) fn passed(&mut self, now: Instant) {
        self.passing_since.get_or_insert(now);
    }

    /// A deciding check ran, and the last result of one of them is a failure.
    pub(super) fn failed(&mut self) {
        self.passing_since = None;
    }

    /// Until when it is held out, if its checks keep passing; `None` if they have passed for long enough.
    pub(super) fn until(self, now: Instant, settings: DampingSettings) -> Option<Instant> {
        let until = self.passing_since.unwrap_or(now) + settings.hold_time(self.level)?;
        (until > now).then_some(until)
    }

    /// Clears the failures.
    pub(super) fn reset(&mut self) {
        (self.level, self.falls) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTINGS: DampingSettings = DampingSettings {
        base: Duration::from_secs(10),
        max: Duration::from_secs(300),
    };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Fails, then passes; returns for how many seconds it is held out.
    fn fail_and_pass(damping: &mut Damping, now: Instant) -> u64 {
        damping.went_down(now, SETTINGS);
        damping.passed(now);
        let until = damping.until(now, SETTINGS);
        until.map_or(0, |until| (until - now).as_secs())
    }

    #[test]
    fn each_failure_doubles_the_time_up_to_the_limit_and_the_first_has_no_effect() {
        let (mut damping, mut now) = (Damping::default(), Instant::now());
        let mut held = Vec::new();
        for _ in 0..8 {
            let hold = fail_and_pass(&mut damping, now);
            held.push(hold);
            now += seconds(hold);
            damping.came_up(now);
            now += seconds(30);
        }
        assert_eq!(held, [0, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(damping.falls(), 8);
    }

    #[test]
    fn the_level_drops_by_one_for_each_period_that_a_backend_stays_up() {
        let (mut damping, mut now) = (Damping::default(), Instant::now());
        for _ in 0..20 {
            fail_and_pass(&mut damping, now);
            damping.came_up(now);
        }
        now += seconds(2 * 300 + 1);
        // Of six levels two have decayed, and this failure adds one.
        assert_eq!(fail_and_pass(&mut damping, now), 160);
        damping.came_up(now);
        now += seconds(5 * 300);
        assert_eq!(fail_and_pass(&mut damping, now), 0);
        assert_eq!(damping.falls(), 1);
    }

    #[test]
    fn a_failing_result_restarts_the_time() {
        let (mut damping, now) = (Damping::default(), Instant::now());
        fail_and_pass(&mut damping, now);
        damping.came_up(now);
        assert_eq!(fail_and_pass(&mut damping, now), 20);
        assert_eq!(
            damping.until(now + seconds(15), SETTINGS),
            Some(now + seconds(20))
        );
        damping.failed();
        damping.passed(now + seconds(15));
        assert_eq!(
            damping.until(now + seconds(20), SETTINGS),
            Some(now + seconds(35))
        );
        assert_eq!(damping.until(now + seconds(35), SETTINGS), None);
    }

    #[test]
    fn failures_do_not_count_after_a_reset() {
        let (mut damping, now) = (Damping::default(), Instant::now());
        for _ in 0..5 {
            fail_and_pass(&mut damping, now);
            damping.came_up(now);
        }
        damping.reset();
        assert_eq!(damping.until(now, SETTINGS), None);
        assert_eq!(fail_and_pass(&mut damping, now), 0);
    }

    #[test]
    fn a_limit_below_the_base_time_holds_no_backend_out() {
        let settings = DampingSettings {
            base: seconds(10),
            max: seconds(10),
        };
        let (mut damping, now) = (Damping::default(), Instant::now());
        for _ in 0..10 {
            damping.went_down(now, settings);
            damping.came_up(now);
        }
        assert_eq!(damping.until(now, settings), None);
    }

    proptest! {
        /// While its checks pass, no backend is held out for longer than the limit; a quick failure never shortens the time;
        /// after enough time up no failure counts.
        #[test]
        fn times_are_limited_and_grow_with_quick_failures(
            base in 1_u64..100_000,
            max in 1_u64..10_000_000,
            ups in proptest::collection::vec(0_u64..20_000_000, 1..40),
        ) {
            let settings = DampingSettings { base: Duration::from_millis(base), max: Duration::from_millis(max) };
            let (mut damping, mut now) = (Damping::default(), Instant::now());
            let mut last = Duration::ZERO;
            let mut quick = false;
            for up in ups {
                damping.went_down(now, settings);
                damping.passed(now);
                let hold = damping.until(now, settings).map_or(Duration::ZERO, |until| until - now);
                prop_assert!(hold <= settings.max);
                prop_assert!(!quick || hold >= last);
                now += hold;
                prop_assert_eq!(damping.until(now, settings), None);
                damping.came_up(now);
                quick = up < max;
                last = hold;
                now += Duration::from_millis(up);
            }
            now += settings.max * 33;
            damping.went_down(now, settings);
            prop_assert_eq!(damping.until(now, settings), None);
            prop_assert_eq!(damping.falls(), 1);
        }
    }
}
