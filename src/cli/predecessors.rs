//! Output about older processes, which hold connections from before an upgrade.
//!
//! Invariant: a process that did not respond is named, with the connections that were not reached, and makes the command
//! fail.

use std::time::SystemTime;

use super::failure::Failure;
use super::table::{pluralized, printable, short_duration};
use crate::admin::view::{PredecessorResult, PredecessorView};

/// The status lines, one per process.
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
            format!(", the rest is reset in {}", short_duration(left))
        });
        let silent = if older.answers {
            ""
        } else {
            ", does not respond"
        };
        format!(
            "older process {}, replaced {} ago: {}{held}{until}{silent}\n",
            older.pid,
            short_duration(now.duration_since(older.since.0).unwrap_or_default()),
            pluralized(older.connections, "connection"),
        )
    };
    predecessors.iter().map(line).collect()
}

/// The connections found in the processes that responded, one line per process.
pub(super) fn reached_text(replies: &[PredecessorResult]) -> String {
    let reached = replies.iter().filter(|reply| reply.answered);
    reached
        .filter(|reply| reply.connections > 0)
        .map(|reply| {
            format!(
                "  and in the older process {}: {}\n",
                reply.pid,
                pluralized(reply.connections, "connection")
            )
        })
        .collect()
}

/// # Errors
///
/// One line for each process that was not reached or reported an error.
pub(super) fn all_reached(replies: &[PredecessorResult]) -> Result<(), Failure> {
    let errors = replies.iter().filter_map(error_text);
    let failure = errors.fold(None, |failure: Option<Failure>, cause| {
        Some(match failure {
            Some(failure) => failure.with_line(cause),
            None => Failure::operation(cause),
        })
    });
    failure.map_or(Ok(()), Err)
}

fn error_text(reply: &PredecessorResult) -> Option<String> {
    let (pid, connections) = (reply.pid, reply.connections);
    if !reply.answered {
        let verb = if connections == 1 { "was" } else { "were" };
        let connections = pluralized(connections, "connection");
        return Some(format!(
            "process {pid} did not respond: its {connections} {verb} not reached"
        ));
    }
    let error = printable(reply.error.as_deref()?);
    Some(format!("process {pid} failed: {error}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::admin::view::HeldBackend;
    use crate::types::timestamp::Timestamp;

    fn reply(pid: u32, answered: bool, connections: u64, error: Option<&str>) -> PredecessorResult {
        PredecessorResult {
            pid,
            answered,
            connections,
            error: error.map(Into::into),
        }
    }

    #[test]
    fn a_status_line_has_the_connections_of_a_process_by_backend() {
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
            "older process 12, replaced 1m3s ago: 4 connections (web/fe01 4), the rest is reset in 13m57s\n\
             older process 12, replaced 1m3s ago: 1 connection, does not respond\n"
        );
    }

    #[test]
    fn a_process_that_was_not_reached_is_a_failure() {
        let replies = [
            reply(7, true, 2, None),
            reply(8, false, 4, None),
            reply(9, true, 0, Some("no")),
            reply(10, false, 1, None),
        ];
        assert_eq!(
            reached_text(&replies),
            "  and in the older process 7: 2 connections\n"
        );
        assert_eq!(
            all_reached(&replies).unwrap_err().text(),
            "process 8 did not respond: its 4 connections were not reached\n\
             process 9 failed: no\n\
             process 10 did not respond: its 1 connection was not reached"
        );
        assert!(all_reached(&replies[..1]).is_ok());
    }
}
