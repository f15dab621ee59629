//! Owns when the results of checks change the health of a backend.
//!
//! Must not know what a check does, nor the time. Invariant: the first result counts at once; later only `rise` passes or `fall`
//! failures in a row change the state.

use crate::types::backend_state::Health;

/// How many results in a row change the state of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RiseFallRule {
    /// Passes that make a failing check pass.
    pub(super) rise: u32,
    /// Failures that make a passing check fail.
    pub(super) fall: u32,
}

/// The state of one check of one backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RiseFall {
    passing: Option<bool>,
    /// Number of results in a row that contradict the state.
    against: u32,
}

impl RiseFall {
    /// The state of a check that passed in the process before this one.
    pub(super) fn inherited() -> Self {
        Self {
            passing: Some(true),
            against: 0,
        }
    }

    /// Whether the check counts as passing; `None` before the first result.
    pub(super) fn passing(self) -> Option<bool> {
        self.passing
    }

    /// Number of results in a row that contradict the state, and how many of these change it.
    pub(super) fn progress(self, rule: RiseFallRule) -> (u32, u32) {
        let needed = match self.passing {
            Some(true) => rule.fall,
            Some(false) => rule.rise,
            None => 1,
        };
        (self.against, needed)
    }

    /// Adds the next result.
    pub(super) fn add(&mut self, passed: bool, rule: RiseFallRule) {
        let Some(passing) = self.passing else {
            self.passing = Some(passed);
            return;
        };
        if passed == passing {
            self.against = 0;
            return;
        }
        self.against += 1;
        if self.against >= if passed { rule.rise } else { rule.fall } {
            *self = Self {
                passing: Some(passed),
                against: 0,
            };
        }
    }
}

/// The health from the states of all deciding checks. One failing check takes the backend down, whatever the others are; without
/// deciding checks it is up.
pub(super) fn combine(states: impl IntoIterator<Item = Option<bool>>) -> Health {
    let mut health = Health::Up;
    for state in states {
        match state {
            Some(false) => return Health::Down,
            None => health = Health::Unknown,
            Some(true) => {}
        }
    }
    health
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `results` and `expected`: `+` is a pass, `-` a failure.
    #[track_caller]
    fn check(rise: u32, fall: u32, results: &str, expected: &str) {
        let mut state = RiseFall::default();
        let seen: String = results
            .chars()
            .map(|result| {
                state.add(result == '+', RiseFallRule { rise, fall });
                match state.passing() {
                    Some(true) => '+',
                    Some(false) => '-',
                    None => '?',
                }
            })
            .collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn first_result_decides_at_once() {
        check(2, 3, "+", "+");
        check(2, 3, "-", "-");
    }

    #[test]
    fn fall_results_in_a_row_take_it_down() {
        check(2, 3, "+---", "+++-");
        check(2, 3, "+--+--+", "+++++++");
        check(1, 1, "+-+-", "+-+-");
    }

    #[test]
    fn rise_results_in_a_row_bring_it_up() {
        check(2, 3, "-++", "--+");
        check(2, 3, "-+-+-++", "------+");
        check(3, 1, "+-++-+++", "+------+");
    }

    #[test]
    fn one_failing_check_takes_a_backend_down() {
        assert_eq!(combine([Some(true), Some(false), None]), Health::Down);
        assert_eq!(combine([None, Some(false)]), Health::Down);
        assert_eq!(combine([Some(true), None]), Health::Unknown);
        assert_eq!(combine([Some(true), Some(true)]), Health::Up);
        assert_eq!(combine([]), Health::Up);
    }

    proptest! {
        #[test]
        fn the_state_changes_only_after_a_full_run(
            rise in 1_u32..5,
            fall in 1_u32..5,
            results in proptest::collection::vec(any::<bool>(), 1..60),
        ) {
            let mut state = RiseFall::default();
            let mut before = None;
            for (index, &passed) in results.iter().enumerate() {
                state.add(passed, RiseFallRule { rise, fall });
                let now = state.passing();
                if before.is_some() && now != before {
                    let needed = if passed { rise } else { fall } as usize;
                    let run = &results[..=index];
                    prop_assert!(run.len() >= needed);
                    prop_assert!(run[run.len() - needed..].iter().all(|result| *result == passed));
                }
                before = now;
            }
        }
    }
}
