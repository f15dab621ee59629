//! `drain --wait`: waits until nothing remains on a backend, or its deadline has passed.
//!
//! Owns the progress output. Invariant: it only reads the status, so interrupting it leaves the drain as it is.

use std::collections::HashSet;
use std::io::IsTerminal as _;
use std::time::Duration;

use super::failure::Failure;
use super::{OutputReader, print, table};
use crate::admin::client::Client;
use crate::admin::view::{BackendView, PoolView, StatusView};
use crate::types::backend_state::AdminState;

/// Between two queries.
const INTERVAL: Duration = Duration::from_secs(1);
/// From the deadline to the last query; the balancer resets the rest meanwhile.
const RESET_TIME: Duration = Duration::from_millis(300);
/// Consecutive queries that may fail.
const MAX_FAILURES: u32 = 3;

/// What remains on a backend, in all pools of the wait.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Remaining {
    connections: u64,
    /// Pins of a group count once, even if several of its pools are included.
    pins: u64,
    /// Until the last deadline.
    time: Duration,
}

impl Remaining {
    fn is_nothing(self) -> bool {
        self.time.is_zero() || (self.connections, self.pins) == (0, 0)
    }

    fn text(self, backend: &str) -> String {
        let connections = table::pluralized(self.connections, "connection");
        let pins = table::pluralized(self.pins, "pin");
        let time = if self.time.is_zero() {
            "the deadline has passed".to_owned()
        } else {
            // Rounded up, so that 0 means that the deadline has passed.
            let seconds = self.time.as_secs_f64().ceil();
            format!(
                "{} left",
                table::short_duration(Duration::from_secs_f64(seconds))
            )
        };
        let backend = table::printable(backend);
        format!("{backend}: {connections}, {pins}, {time}")
    }
}

/// Waits for `backend` in all these pools and prints what remains: on a terminal in one line, elsewhere one line per change.
pub(super) async fn wait(client: &Client, pools: &[String], backend: &str) -> Result<(), Failure> {
    let mut shown = None;
    let mut failed = 0;
    let mut has_passed = false;
    loop {
        let status = match client.status().await {
            Ok(status) => status,
            Err(error) if failed + 1 < MAX_FAILURES => {
                failed += 1;
                Failure::from(error).report();
                tokio::time::sleep(INTERVAL).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        failed = 0;
        let left = remaining(&status, pools, backend)?;
        // At the deadline the balancer resets the rest; the last line shows the result.
        if left.time.is_zero() && !std::mem::replace(&mut has_passed, true) {
            tokio::time::sleep(RESET_TIME).await;
            continue;
        }
        if show(left, &mut shown, backend)? == OutputReader::Gone || left.is_nothing() {
            return Ok(());
        }
        tokio::time::sleep(INTERVAL.min(left.time)).await;
    }
}

/// What remains, if the backend drains in each of the pools.
fn remaining(status: &StatusView, pools: &[String], backend: &str) -> Result<Remaining, Failure> {
    let mut groups = HashSet::new();
    let mut left = Remaining {
        connections: 0,
        pins: 0,
        time: Duration::ZERO,
    };
    for name in pools {
        let (pool, found) = find(status, name, backend).ok_or_else(|| {
            Failure::operation(format!("pool {name:?} no longer has a backend {backend:?}"))
        })?;
        if found.state != AdminState::Drain {
            let state = found.state.as_str();
            return Err(Failure::operation(format!(
                "{name}/{backend} is no longer draining: its state is {state}"
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

/// Connections to the backend from before an upgrade. Of a process that does not respond, those of its last report.
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
    let line = left.text(backend);
    if std::io::stdout().is_terminal() {
        // Return to the start of the line and clear it (ECMA-48, CR and EL).
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
    fn what_remains_is_printed_in_one_line() {
        let left = |connections, pins, milliseconds| Remaining {
            connections,
            pins,
            time: Duration::from_millis(milliseconds),
        };
        assert_eq!(
            left(3, 2, 843_000).text("fe01"),
            "fe01: 3 connections, 2 pins, 14m3s left"
        );
        assert_eq!(
            left(1, 1, 1).text("a\u{1b}"),
            "a\u{fffd}: 1 connection, 1 pin, 1s left"
        );
        assert_eq!(
            left(1, 0, 0).text("fe01"),
            "fe01: 1 connection, 0 pins, the deadline has passed"
        );
        assert!(left(0, 0, 1000).is_nothing() && left(9, 9, 0).is_nothing());
        assert!(!left(0, 1, 1000).is_nothing() && !left(1, 0, 1000).is_nothing());
    }
}
