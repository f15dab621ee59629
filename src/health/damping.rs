//! Owns for how long a backend that falls again and again is kept out although its checks pass.
//!
//! Must not know checks, nor the clock: `now` is passed in. Invariants: the first fall after a time of peace changes
//! nothing; the time for which checks must pass grows with each further fall and never passes the bound; a backend that
//! stays up is forgiven one fall for each bound's length of time.
//!
//! The idea is that of route flap damping (RFC 2439) with a penalty that is easy to tell an operator: doublings.

use std::time::{Duration, Instant};

/// More levels than any bound needs: from 10 ms to a day there are 23 doublings.
const HIGHEST: u32 = 24;

/// What a pool's settings come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DampingSettings {
    /// For so long checks pass before a backend is up that has fallen once: `rise` intervals.
    pub(super) usual: Duration,
    /// The longest that they may have to.
    pub(super) most: Duration,
}

impl DampingSettings {
    /// The level at which the time comes to the bound; what is above it would only take longer to be forgiven.
    fn highest(self) -> u32 {
        (1..HIGHEST)
            .find(|&level| self.doubled(level) >= self.most)
            .unwrap_or(HIGHEST)
    }

    /// For so long checks must pass at this level; `None` where nothing is asked beyond `rise`.
    fn hold(self, level: u32) -> Option<Duration> {
        let hold = self.doubled(level).min(self.most);
        (hold > self.usual).then_some(hold)
    }

    /// The usual time, doubled for each level after the first.
    fn doubled(self, level: u32) -> Duration {
        self.usual.saturating_mul(1 << level.saturating_sub(1))
    }
}

/// The falls of one backend that count against it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Damping {
    /// Falls that are not forgiven, no more than make a difference.
    level: u32,
    /// Falls since it was last forgiven all.
    falls: u32,
    /// When it last came up; `None` while it is down.
    returned: Option<Instant>,
    /// Since when all deciding checks have passed, each time that they were made.
    passing: Option<Instant>,
}

impl Damping {
    /// Falls since all was forgiven, for people.
    pub(super) fn falls(self) -> u32 {
        self.falls
    }

    /// The backend went down that had been up.
    pub(super) fn fell(&mut self, now: Instant, terms: DampingSettings) {
        if let Some(returned) = self.returned.take() {
            let up = now.saturating_duration_since(returned).as_nanos();
            let forgiven = up / terms.most.as_nanos().max(1);
            self.level = self
                .level
                .saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX));
        }
        if self.level == 0 {
            self.falls = 0;
        }
        self.falls = self.falls.saturating_add(1);
        self.level = (self.level + 1).min(terms.highest());
        self.passing = None;
    }

    /// The backend is up again.
    pub(super) fn returned(&mut self, now: Instant) {
        self.returned = Some(now);
    }

    /// A deciding check was made, and all of them passed when they were last made.
    pub(super) fn passed(&mut self, now: Instant) {
        self.passing.get_or_insert(now);
    }

    /// A deciding check was made, and one of them failed when it was last made.
    pub(super) fn failed(&mut self) {
        self.passing = None;
    }

    /// Until when it is kept out, should its checks go on to pass; `None` where they have passed for long enough.
    pub(super) fn until(self, now: Instant, terms: DampingSettings) -> Option<Instant> {
        let until = self.passing.unwrap_or(now) + terms.hold(self.level)?;
        (until > now).then_some(until)
    }

    /// Nothing counts against it any more.
    pub(super) fn forgive(&mut self) {
        (self.level, self.falls) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TERMS: DampingSettings = DampingSettings {
        usual: Duration::from_secs(10),
        most: Duration::from_secs(300),
    };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Falls, and passes from then on; says for how long it is kept out.
    fn fall(damping: &mut Damping, now: Instant) -> u64 {
        damping.fell(now, TERMS);
        damping.passed(now);
        let until = damping.until(now, TERMS);
        until.map_or(0, |until| (until - now).as_secs())
    }

    #[test]
    fn each_fall_doubles_the_time_up_to_the_bound_and_the_first_changes_nothing() {
        let (mut damping, mut now) = (Damping::default(), Instant::now());
        let mut held = Vec::new();
        for _ in 0..8 {
            let hold = fall(&mut damping, now);
            held.push(hold);
            now += seconds(hold);
            damping.returned(now);
            now += seconds(30);
        }
        assert_eq!(held, [0, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(damping.falls(), 8);
    }

    #[test]
    fn a_backend_that_stays_up_is_forgiven_one_fall_at_a_time() {
        let (mut damping, mut now) = (Damping::default(), Instant::now());
        for _ in 0..20 {
            fall(&mut damping, now);
            damping.returned(now);
        }
        now += seconds(2 * 300 + 1);
        // Six levels make a difference; two are forgiven, and this is one more.
        assert_eq!(fall(&mut damping, now), 160);
        damping.returned(now);
        now += seconds(5 * 300);
        assert_eq!(fall(&mut damping, now), 0);
        assert_eq!(damping.falls(), 1);
    }

    #[test]
    fn a_failing_result_begins_the_time_anew() {
        let (mut damping, now) = (Damping::default(), Instant::now());
        fall(&mut damping, now);
        damping.returned(now);
        assert_eq!(fall(&mut damping, now), 20);
        assert_eq!(
            damping.until(now + seconds(15), TERMS),
            Some(now + seconds(20))
        );
        damping.failed();
        damping.passed(now + seconds(15));
        assert_eq!(
            damping.until(now + seconds(20), TERMS),
            Some(now + seconds(35))
        );
        assert_eq!(damping.until(now + seconds(35), TERMS), None);
    }

    #[test]
    fn what_is_forgiven_counts_no_more() {
        let (mut damping, now) = (Damping::default(), Instant::now());
        for _ in 0..5 {
            fall(&mut damping, now);
            damping.returned(now);
        }
        damping.forgive();
        assert_eq!(damping.until(now, TERMS), None);
        assert_eq!(fall(&mut damping, now), 0);
    }

    #[test]
    fn a_bound_below_the_usual_time_keeps_nobody_out() {
        let terms = DampingSettings {
            usual: seconds(10),
            most: seconds(10),
        };
        let (mut damping, now) = (Damping::default(), Instant::now());
        for _ in 0..10 {
            damping.fell(now, terms);
            damping.returned(now);
        }
        assert_eq!(damping.until(now, terms), None);
    }

    proptest! {
        /// Whatever happens, nobody is kept out for longer than the bound while its checks pass, a quick fall never
        /// shortens the time, and enough time up forgives everything.
        #[test]
        fn times_are_bounded_and_grow_with_quick_falls(
            usual in 1_u64..100_000,
            most in 1_u64..10_000_000,
            ups in proptest::collection::vec(0_u64..20_000_000, 1..40),
        ) {
            let terms = DampingSettings { usual: Duration::from_millis(usual), most: Duration::from_millis(most) };
            let (mut damping, mut now) = (Damping::default(), Instant::now());
            let mut last = Duration::ZERO;
            let mut quick = false;
            for up in ups {
                damping.fell(now, terms);
                damping.passed(now);
                let hold = damping.until(now, terms).map_or(Duration::ZERO, |until| until - now);
                prop_assert!(hold <= terms.most);
                prop_assert!(!quick || hold >= last);
                now += hold;
                prop_assert_eq!(damping.until(now, terms), None);
                damping.returned(now);
                quick = up < most;
                last = hold;
                now += Duration::from_millis(up);
            }
            now += terms.most * 33;
            damping.fell(now, terms);
            prop_assert_eq!(damping.until(now, terms), None);
            prop_assert_eq!(damping.falls(), 1);
        }
    }
}
