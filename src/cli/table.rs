//! The status for people.
//!
//! Invariant: nothing that came over the network reaches the terminal as a control sequence.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use crate::admin::view::{Backend, Check, Listener, Pool, Status};
use crate::state::State;
use crate::timestamp::Timestamp;

/// The whole status as tables.
pub(super) fn status(status: &Status) -> String {
    let mut text = headline(status);
    text += &super::predecessors::lines(&status.predecessors, status.now.0);
    let rows = status.listeners.iter().map(listener_row);
    text += "\n";
    text += &table(
        &["LISTENER", "PROTOCOL", "PORT", "CONNECTIONS", "BIND"],
        &[3],
        rows.collect(),
    );
    for pool in &status.pools {
        text += &format!("\n{}\n", pool_line(pool));
        let rows = pool
            .backends
            .iter()
            .map(|backend| backend_row(backend, status.now.0));
        text += &table(
            &[
                "BACKEND",
                "ADDRESS",
                "WEIGHT",
                "STATE",
                "HEALTH",
                "FOR",
                "CONNECTIONS",
                "TO BACKEND",
                "TO CLIENT",
                "PINS",
                "WHY",
            ],
            &[2, 6, 7, 8, 9],
            rows.collect(),
        );
        text += &checks(pool, status.now.0);
    }
    if !status.affinity.is_empty() {
        let rows = status.affinity.iter().map(|table| {
            vec![
                table.group.clone(),
                table.entries.to_string(),
                table.max_entries.to_string(),
            ]
        });
        text += "\n";
        text += &table(
            &["AFFINITY GROUP", "PINS", "AT MOST"],
            &[1, 2],
            rows.collect(),
        );
    }
    text
}

fn headline(status: &Status) -> String {
    let state = match (status.stopping, status.ready) {
        (true, _) => "stopping",
        (false, true) => "ready",
        (false, false) => "not ready: no listener can serve",
    };
    let bound = status.limits.connections;
    let bound = bound.map_or(String::new(), |bound| format!(" of at most {bound}"));
    format!(
        "lyncpin {}: {state}, {} connections{bound}, {} workers, up {}\n",
        printable(&status.version),
        status.connections,
        status.workers,
        ago(status.started, status.now.0),
    )
}

fn listener_row(listener: &Listener) -> Vec<String> {
    let binds: Vec<String> = listener.bind.iter().map(ToString::to_string).collect();
    vec![
        listener.name.clone(),
        listener.protocol.clone(),
        if listener.open { "open" } else { "closed" }.to_owned(),
        listener.connections.to_string(),
        binds.join(" "),
    ]
}

fn pool_line(pool: &Pool) -> String {
    let mut text = format!(
        "pool {}: {}",
        printable(&pool.name),
        printable(&pool.balance)
    );
    if let Some(group) = &pool.affinity_group {
        text += &format!(", affinity group {}", printable(group));
    }
    if let Some(backup) = &pool.backup {
        text += &format!(", backup {}", printable(backup));
    }
    text += if pool.can_serve {
        ", can serve"
    } else {
        ", cannot serve"
    };
    text
}

fn backend_row(backend: &Backend, now: SystemTime) -> Vec<String> {
    let address = backend.address.map(|address| address.to_string());
    let connections = match backend.max_connections {
        Some(bound) => format!("{}/{bound}", backend.connections),
        None => backend.connections.to_string(),
    };
    vec![
        backend.name.clone(),
        address.unwrap_or_else(|| format!("{} (unresolved)", backend.configured)),
        weight(backend),
        state(backend, now),
        backend.health.as_str().to_owned(),
        ago(backend.since, now),
        connections,
        bytes(backend.bytes_to_backend),
        bytes(backend.bytes_to_client),
        backend.pins.map_or("-".to_owned(), |pins| pins.to_string()),
        backend.why.clone(),
    ]
}

fn state(backend: &Backend, now: SystemTime) -> String {
    match (backend.state, backend.deadline) {
        (State::Drain, Some(deadline)) => match deadline.0.duration_since(now) {
            Ok(left) if !left.is_zero() => format!("drain, {} left", span(left)),
            Ok(_) | Err(_) => "drain, over".to_owned(),
        },
        (state, _) => state.as_str().to_owned(),
    }
}

/// Both weights while the one in force grows.
fn weight(backend: &Backend) -> String {
    let (now, full) = (backend.effective_weight, backend.weight);
    if now > 0.0 && now < f64::from(full) {
        format!("{now:.2} of {full}")
    } else {
        full.to_string()
    }
}

/// The checks that do not pass.
fn checks(pool: &Pool, now: SystemTime) -> String {
    let mut text = String::new();
    for backend in &pool.backends {
        for check in backend
            .checks
            .iter()
            .filter(|check| check.passing == Some(false))
        {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {}", check_line(backend, check, now));
        }
    }
    text
}

fn check_line(backend: &Backend, check: &Check, now: SystemTime) -> String {
    format!(
        "{}: {} check {} fails for {}: {}",
        printable(&backend.name),
        if check.decides {
            "deciding"
        } else {
            "observing"
        },
        printable(&check.label),
        ago(check.since, now),
        printable(&check.detail)
    )
}

/// Lines up columns; those in `right` hold numbers.
pub(super) fn table(heads: &[&str], right: &[usize], rows: Vec<Vec<String>>) -> String {
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    let mut lines = vec![heads];
    lines.extend(
        rows.into_iter()
            .map(|row| row.iter().map(|cell| printable(cell)).collect()),
    );
    let width = |column: usize| {
        let widths = lines.iter().filter_map(|line| line.get(column));
        widths
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, &width))| {
                if right.contains(&column) {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                }
            });
        let cells: Vec<String> = cells.collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// The text with control characters replaced.
pub(super) fn printable(text: &str) -> String {
    let shown = |character: char| {
        if character.is_control() {
            '\u{fffd}'
        } else {
            character
        }
    };
    text.chars().map(shown).collect()
}

pub(super) fn ago(then: Timestamp, now: SystemTime) -> String {
    span(now.duration_since(then.0).unwrap_or_default())
}

/// A duration in its two largest units.
pub(super) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, _, _) => format!("{hours}h{minutes}m"),
        (_, _, _) => format!("{days}d{hours}h"),
    }
}

fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be shown as 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_show_two_units() {
        for (seconds, expected) in [
            (0, "0s"),
            (59, "59s"),
            (61, "1m1s"),
            (3_600, "1h0m"),
            (90_061, "1d1h"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn bytes_show_one_decimal() {
        for (count, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (7 << 30, "7.0 GiB"),
            (u64::MAX, "16384.0 PiB"),
        ] {
            assert_eq!(bytes(count), expected);
        }
    }

    #[test]
    fn columns_line_up_and_hold_no_control_characters() {
        let rows = vec![
            vec!["a".to_owned(), "10".to_owned(), "x\u{1b}[2J".to_owned()],
            vec!["long".to_owned(), "7".to_owned(), String::new()],
        ];
        let text = table(&["NAME", "N", "WHY"], &[1], rows);
        assert_eq!(text, "NAME   N  WHY\na     10  x\u{fffd}[2J\nlong   7\n");
    }
}
