//! `drain --wait`: looks on until nothing is left at a backend, or its time is over.
//!
//! Changes nothing: whoever interrupts it leaves the drain as it is.

use std::collections::HashSet;
use std::io::IsTerminal as _;
use std::time::Duration;

use super::failure::Failure;
use super::{OutputReader, print, table};
use crate::admin::client::Client;
use crate::admin::view::{BackendView, PoolView, StatusView};
use crate::types::backend_state::AdminState;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// From the deadline to the last look.
const A_MOMENT: Duration = Duration::from_millis(300);
/// Looks in a row that may fail.
const PATIENCE: u32 = 3;

/// What is left at a backend, in all pools that are waited for.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Remaining {
    connections: u64,
    /// Those of a group once, however many of its pools are waited for.
    pins: u64,
    /// Until the last deadline.
    time: Duration,
}

impl Remaining {
    fn is_nothing(self) -> bool {
        self.time.is_zero() || (self.connections, self.pins) == (0, 0)
    }

    fn told(self, backend: &str) -> String {
        let connections = table::counted(self.connections, "connection");
        let pins = table::counted(self.pins, "pin");
        let time = if self.time.is_zero() {
            "the deadline is over".to_owned()
        } else {
            // The last second is one until it is over.
            let seconds = self.time.as_secs_f64().ceil();
            format!("{} left", table::span(Duration::from_secs_f64(seconds)))
        };
        let backend = table::printable(backend);
        format!("{backend}: {connections}, {pins}, {time}")
    }
}

/// Waits for `backend` of all these pools and shows what is left: at a terminal on one line, elsewhere a line for each
/// change.
pub(super) async fn wait(client: &Client, pools: &[String], backend: &str) -> Result<(), Failure> {
    let mut shown = None;
    let mut failed = 0;
    let mut is_over = false;
    loop {
        let status = match client.status().await {
            Ok(status) => status,
            Err(error) if failed + 1 < PATIENCE => {
                failed += 1;
                Failure::from(error).tell();
                tokio::time::sleep(EVERY).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        failed = 0;
        let left = left(&status, pools, backend)?;
        // At the deadline what is left is ended in a moment; the last word is of what that came to.
        if left.time.is_zero() && !std::mem::replace(&mut is_over, true) {
            tokio::time::sleep(A_MOMENT).await;
            continue;
        }
        if show(left, &mut shown, backend)? == OutputReader::Gone || left.is_nothing() {
            return Ok(());
        }
        tokio::time::sleep(EVERY.min(left.time)).await;
    }
}

/// What is left, if the backend drains in each of the pools.
fn left(status: &StatusView, pools: &[String], backend: &str) -> Result<Remaining, Failure> {
    let mut groups = HashSet::new();
    let mut left = Remaining {
        connections: 0,
        pins: 0,
        time: Duration::ZERO,
    };
    for name in pools {
        let (pool, found) = find(status, name, backend).ok_or_else(|| {
            Failure::answer(format!("pool {name:?} has no backend {backend:?} any more"))
        })?;
        if found.state != AdminState::Drain {
            let state = found.state.as_str();
            return Err(Failure::answer(format!(
                "{name}/{backend} does not drain any more: it is {state}"
            )));
        }
        left.connections += found.connections + in_older_processes(status, name, backend);
        if groups.insert(pool.affinity_group.as_ref().unwrap_or(name)) {
            left.pins += found.pins.unwrap_or(0);
        }
        let time = Duration::try_from_secs_f64(found.drain_seconds_left.unwrap_or(0.0));
        left.time = left.time.max(time.unwrap_or_default());
    }
    Ok(left)
}

/// Connections at the backend from before an upgrade. Of a process that does not answer, those that it last had.
fn in_older_processes(status: &StatusView, pool: &str, backend: &str) -> u64 {
    let held = status.predecessors.iter().flat_map(|older| &older.backends);
    let there = held.filter(|held| held.pool == pool && held.backend == backend);
    there.map(|held| held.connections).sum()
}

fn find<'a>(
    status: &'a StatusView,
    pool: &str,
    backend: &str,
) -> Option<(&'a PoolView, &'a BackendView)> {
    let pool = status.pools.iter().find(|known| known.name == pool)?;
    let found = pool.backends.iter().find(|known| known.name == backend)?;
    Some((pool, found))
}

fn show(
    left: Remaining,
    shown: &mut Option<Remaining>,
    backend: &str,
) -> Result<OutputReader, Failure> {
    let line = left.told(backend);
    if std::io::stdout().is_terminal() {
        // The line's begin, and clear what is on it (ECMA-48, CR and EL).
        let end = if left.is_nothing() { "\n" } else { "" };
        return print(&format!("\r\x1b[K{line}{end}"));
    }
    let counts = |left: Remaining| (left.connections, left.pins, left.time.is_zero());
    let changed = shown.replace(left).map(counts) != Some(counts(left));
    if changed {
        print(&(line + "\n"))
    } else {
        Ok(OutputReader::Present)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_said_in_one_line() {
        let left = |connections, pins, milliseconds| Remaining {
            connections,
            pins,
            time: Duration::from_millis(milliseconds),
        };
        assert_eq!(
            left(3, 2, 843_000).told("fe01"),
            "fe01: 3 connections, 2 pins, 14m3s left"
        );
        assert_eq!(
            left(1, 1, 1).told("a\u{1b}"),
            "a\u{fffd}: 1 connection, 1 pin, 1s left"
        );
        assert_eq!(
            left(1, 0, 0).told("fe01"),
            "fe01: 1 connection, 0 pins, the deadline is over"
        );
        assert!(left(0, 0, 1000).is_nothing() && left(9, 9, 0).is_nothing());
        assert!(!left(0, 1, 1000).is_nothing() && !left(1, 0, 1000).is_nothing());
    }
}
