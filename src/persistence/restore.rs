//! From the file to tables and backends.
//!
//! Owns which pins and states of an old file are still valid under the configuration in force. Must not know files.
//! Invariant: a pin is restored to its own backend, or dropped and counted.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::clock::Stamp;
use super::recovery::Contents;
use crate::affinity::record::{PinRecord, PinUsage};
use crate::affinity::table::{Imported, NotImported, Pins};
use crate::snapshot::Snapshot;
use crate::types::backend_state::AdminState;
use crate::upstream::backend::Deadline;

/// The result of a restore.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Restored {
    /// Pins that were restored.
    pub(super) pins: usize,
    /// States other than `ready` that were restored.
    pub(super) states: usize,
    /// Pins that have expired meanwhile.
    pub(super) expired: usize,
    /// Pins of a drain whose deadline has passed meanwhile.
    pub(super) drained: usize,
    /// Pins and states of groups, names and backends that the configuration no longer has.
    pub(super) unknown: usize,
    /// Pins whose key cannot be translated into the keys of the group now, and those whose translated key another pin has.
    pub(super) other_keys: usize,
    /// Pins for which their table had no room.
    pub(super) no_room: usize,
}

/// Restores what `contents` has, as if it had been there all the time.
pub(super) fn restore(contents: &Contents, snapshot: &Snapshot, now: &Stamp) -> Restored {
    let mut restored = Restored::default();
    let drained = restore_states(contents, snapshot, now, &mut restored);
    let idle_for = contents
        .last()
        .map_or(Duration::ZERO, |last| last.elapsed(now));
    let groups = contents.groups();
    let tables: Vec<Option<&Arc<Pins>>> = groups
        .iter()
        .map(|group| snapshot.group(&group.name))
        .collect();
    for (index, record, stamp) in contents.pins() {
        let (group, Some(pins)) = (&groups[index], tables[index]) else {
            restored.unknown += 1;
            continue;
        };
        let is_drained = || drained.contains(&(group.name.clone(), record.backend.clone()));
        if !drained.is_empty() && is_drained() {
            restored.drained += 1;
            continue;
        }
        let elapsed = stamp.elapsed(now);
        let imported = match record_now(record, pins, elapsed, idle_for) {
            Some(record) => pins.import(&record, &group.keys),
            None => Err(NotImported::Expired),
        };
        *match imported {
            Ok(Imported::Added | Imported::Held(_)) => &mut restored.pins,
            Ok(Imported::Merged) | Err(NotImported::OtherKeys) => &mut restored.other_keys,
            Err(NotImported::Unknown) => &mut restored.unknown,
            Err(NotImported::Expired) => &mut restored.expired,
            Err(NotImported::Full) => &mut restored.no_room,
        } += 1;
    }
    restored
}

/// The pin as it is now, `elapsed` after it was written; `None` where it has expired. A pin that was in use counts as idle
/// since the last batch, `idle_for` ago.
fn record_now(
    record: &PinRecord,
    pins: &Pins,
    elapsed: Duration,
    idle_for: Duration,
) -> Option<PinRecord> {
    let ttl = pins.settings().ttl;
    let mut record = record.after(elapsed)?;
    let left = match record.usage {
        PinUsage::Idle(left) => left.min(ttl.checked_sub(elapsed)?),
        PinUsage::InUse(_) => ttl.checked_sub(idle_for)?,
    };
    record.usage = PinUsage::Idle(left);
    (!left.is_zero()).then_some(record)
}

/// Groups and backends whose drain has ended meanwhile: their pins are not restored.
type EndedDrains = HashSet<(Arc<str>, Arc<str>)>;

fn restore_states(
    contents: &Contents,
    snapshot: &Snapshot,
    now: &Stamp,
    restored: &mut Restored,
) -> EndedDrains {
    let mut over = Vec::new();
    for (wanted, stamp) in contents.states() {
        if wanted.state == AdminState::Ready {
            continue;
        }
        let pool = snapshot
            .pools
            .iter()
            .find(|pool| *pool.name == *wanted.pool);
        let backends = pool.iter().flat_map(|pool| &pool.backends);
        let backend = backends
            .into_iter()
            .find(|known| *known.name == *wanted.backend);
        let (Some(pool), Some(backend)) = (pool, backend) else {
            restored.unknown += 1;
            continue;
        };
        let deadline = wanted
            .left
            .map(|left| deadline(Duration::from_millis(left), stamp.elapsed(now)));
        backend.set_state(wanted.state, deadline);
        restored.states += 1;
        if deadline.is_some_and(|deadline| deadline.at <= Instant::now()) {
            over.push((pool, backend));
        }
    }
    // As at the deadline of a drain: other pools of the group may need the pins, which is known once all states are restored.
    let released = over.into_iter().filter_map(|(pool, backend)| {
        let group = pool.affinity.as_ref()?.pins.group().clone();
        (!pool.pins_allowed_elsewhere(backend)).then(|| (group, backend.name.clone()))
    });
    released.collect()
}

/// The deadline of a drain that had `left` until it, `ago` before now. A drain whose deadline has passed remains a drain:
/// the backend takes no client until the administrator sets it to `ready`.
fn deadline(left: Duration, ago: Duration) -> Deadline {
    let (now, shown) = (Instant::now(), SystemTime::now());
    let (ahead, behind) = (left.saturating_sub(ago), ago.saturating_sub(left));
    Deadline {
        at: now.checked_add(ahead).unwrap_or(now),
        wall_time: shown
            .checked_add(ahead)
            .and_then(|shown| shown.checked_sub(behind))
            .unwrap_or(shown),
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// Logs the result.
pub(super) fn log(restored: &Restored, file: &Path, age: Duration) {
    let file = file.display();
    tracing::info!(
        target: "lyncpin::store",
        "affinity store: restored {} pin{}, {} state{}, from {file}, {} s old",
        grouped(restored.pins),
        plural(restored.pins),
        grouped(restored.states),
        plural(restored.states),
        grouped(usize::try_from(age.as_secs()).unwrap_or(usize::MAX)),
    );
    let Restored {
        pins: _,
        states: _,
        expired,
        drained,
        unknown,
        other_keys,
        no_room,
    } = *restored;
    if expired + drained + unknown + other_keys + no_room > 0 {
        tracing::info!(
            target: "lyncpin::store",
            expired,
            drained,
            unknown,
            other_keys,
            no_room,
            "affinity store: pins and states that are no longer valid were dropped"
        );
    }
}

/// `12,345`
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let written = [0, 999, 1_000, 12_345, 1_000_000].map(grouped);
        assert_eq!(written, ["0", "999", "1,000", "12,345", "1,000,000"]);
    }
}
