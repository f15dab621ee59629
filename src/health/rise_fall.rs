//! Owns when results of checks make a backend up or down.
//!
//! Must not know what a check asks, nor the time. Invariant: the first result decides at once; after it, only `rise` or
//! `fall` results in a row against the verdict turn it.

use crate::types::backend_state::Health;

/// How many results in a row turn a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RiseFallRule {
    /// Passing results that end a failure.
    pub(super) rise: u32,
    /// Failing results that begin one.
    pub(super) fall: u32,
}

/// The verdict on one check of one backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RiseFall {
    verdict: Option<bool>,
    /// Results in a row that contradict the verdict.
    against: u32,
}

impl RiseFall {
    /// One that passes, as another process has seen.
    pub(super) fn passing() -> Self {
        Self {
            verdict: Some(true),
            against: 0,
        }
    }

    /// Whether the check counts as passing; `None` before the first result.
    pub(super) fn verdict(self) -> Option<bool> {
        self.verdict
    }

    /// Results in a row that contradict the verdict, and how many of these turn it.
    pub(super) fn progress(self, rule: RiseFallRule) -> (u32, u32) {
        let needed = match self.verdict {
            Some(true) => rule.fall,
            Some(false) => rule.rise,
            None => 1,
        };
        (self.against, needed)
    }

    /// Takes the next result.
    pub(super) fn take(&mut self, passed: bool, rule: RiseFallRule) {
        let Some(verdict) = self.verdict else {
            self.verdict = Some(passed);
            return;
        };
        if passed == verdict {
            self.against = 0;
            return;
        }
        self.against += 1;
        if self.against >= if passed { rule.rise } else { rule.fall } {
            *self = Self {
                verdict: Some(passed),
                against: 0,
            };
        }
    }
}

/// What the verdicts on all deciding checks of a backend come to. One that fails takes it down, whatever the others say;
/// without any, nothing stands against it.
pub(super) fn combine(verdicts: impl IntoIterator<Item = Option<bool>>) -> Health {
    let mut health = Health::Up;
    for verdict in verdicts {
        match verdict {
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

    /// `results` and `expected` are a `+` for passing, a `-` for failing, one by one.
    #[track_caller]
    fn check(rise: u32, fall: u32, results: &str, expected: &str) {
        let mut judge = RiseFall::default();
        let seen: String = results
            .chars()
            .map(|result| {
                judge.take(result == '+', RiseFallRule { rise, fall });
                match judge.verdict() {
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
        fn verdict_turns_only_on_a_full_run(
            rise in 1_u32..5,
            fall in 1_u32..5,
            results in proptest::collection::vec(any::<bool>(), 1..60),
        ) {
            let mut judge = RiseFall::default();
            let mut before = None;
            for (place, &passed) in results.iter().enumerate() {
                judge.take(passed, RiseFallRule { rise, fall });
                let now = judge.verdict();
                if before.is_some() && now != before {
                    let needed = if passed { rise } else { fall } as usize;
                    let run = &results[..=place];
                    prop_assert!(run.len() >= needed);
                    prop_assert!(run[run.len() - needed..].iter().all(|result| *result == passed));
                }
                before = now;
            }
        }
    }
}
