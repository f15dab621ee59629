//! Older processes that have connections from before an upgrade, in words.
//!
//! Invariant: a process that did not answer is named, with what was not reached, and makes the command fail.

use std::time::SystemTime;

use super::failure::Failure;
use super::table::{counted, printable, span};
use crate::admin::view::{PredecessorAnswer, PredecessorView};

/// A line of the status for each.
pub(super) fn lines(predecessors: &[PredecessorView], now: SystemTime) -> String {
    let line = |older: &PredecessorView| {
        let held: Vec<String> = older
            .backends
            .iter()
            .map(|held| {
                let (pool, backend) = (printable(&held.pool), printable(&held.backend));
                format!("{pool}/{backend} {}", held.connections)
            })
            .collect();
        let held = if held.is_empty() {
            String::new()
        } else {
            format!(" ({})", held.join(", "))
        };
        let until = older
            .until
            .and_then(|until| until.0.duration_since(now).ok());
        let until = until.map_or(String::new(), |left| {
            format!(", what is left is reset in {}", span(left))
        });
        let silent = if older.answers {
            ""
        } else {
            ", does not answer"
        };
        format!(
            "older process {}, upgraded {} ago: {}{held}{until}{silent}\n",
            older.pid,
            span(now.duration_since(older.since.0).unwrap_or_default()),
            counted(older.connections, "connection"),
        )
    };
    predecessors.iter().map(line).collect()
}

/// What was found in those that answered.
pub(super) fn told(answers: &[PredecessorAnswer]) -> String {
    let reached = answers.iter().filter(|answer| answer.answered);
    reached
        .filter(|answer| answer.connections > 0)
        .map(|answer| {
            format!(
                "  and in the older process {}: {}\n",
                answer.pid,
                counted(answer.connections, "connection")
            )
        })
        .collect()
}

/// # Errors
///
/// Every process in which nothing was done, a line each.
pub(super) fn all_reached(answers: &[PredecessorAnswer]) -> Result<(), Failure> {
    let missed = answers.iter().filter_map(missed);
    let failure = missed.fold(None, |failure: Option<Failure>, cause| {
        Some(match failure {
            Some(failure) => failure.also(cause),
            None => Failure::answer(cause),
        })
    });
    failure.map_or(Ok(()), Err)
}

fn missed(answer: &PredecessorAnswer) -> Option<String> {
    let (pid, connections) = (answer.pid, answer.connections);
    if !answer.answered {
        let verb = if connections == 1 { "was" } else { "were" };
        let connections = counted(connections, "connection");
        return Some(format!(
            "process {pid} did not answer: its {connections} {verb} not reached"
        ));
    }
    let error = printable(answer.error.as_deref()?);
    Some(format!("process {pid} did not do it: {error}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::admin::view::HeldBackend;
    use crate::types::timestamp::Timestamp;

    fn answer(
        pid: u32,
        answered: bool,
        connections: u64,
        error: Option<&str>,
    ) -> PredecessorAnswer {
        PredecessorAnswer {
            pid,
            answered,
            connections,
            error: error.map(Into::into),
        }
    }

    #[test]
    fn a_line_says_who_holds_what_where() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let older = PredecessorView {
            pid: 12,
            since: Timestamp(now - Duration::from_secs(63)),
            answers: true,
            connections: 4,
            until: Some(Timestamp(now + Duration::from_secs(837))),
            backends: vec![HeldBackend {
                pool: "web".into(),
                backend: "fe01".into(),
                connections: 4,
            }],
        };
        let silent = PredecessorView {
            answers: false,
            connections: 1,
            until: None,
            backends: Vec::new(),
            ..older.clone()
        };
        assert_eq!(
            lines(&[older, silent], now),
            "older process 12, upgraded 1m3s ago: 4 connections (web/fe01 4), what is left is reset in 13m57s\n\
             older process 12, upgraded 1m3s ago: 1 connection, does not answer\n"
        );
    }

    #[test]
    fn who_was_not_reached_is_a_failure() {
        let answers = [
            answer(7, true, 2, None),
            answer(8, false, 4, None),
            answer(9, true, 0, Some("no")),
            answer(10, false, 1, None),
        ];
        assert_eq!(
            told(&answers),
            "  and in the older process 7: 2 connections\n"
        );
        assert_eq!(
            all_reached(&answers).unwrap_err().text(),
            "process 8 did not answer: its 4 connections were not reached\n\
             process 9 did not do it: no\n\
             process 10 did not answer: its 1 connection was not reached"
        );
        assert!(all_reached(&answers[..1]).is_ok());
    }
}
