//! From what was kept to tables and backends.
//!
//! Owns what of an old picture still means something: which pins and states the configuration in force has a place for.
//! Knows no file. Invariant: a pin leads where it led, or is dropped and counted.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::clock::Stamp;
use super::encoder::Shape;

use super::records::RecordKey;
use super::recovery::{Contents, ReplayedKey};
use crate::affinity::shard::{Moment, Origin};
use crate::affinity::table::{KeyScheme, PinKey, PinRecord, Pins};
use crate::config::model::Target;
use crate::snapshot::Snapshot;
use crate::types::backend_state::AdminState;
use crate::upstream::backend::Deadline;

/// What came of a picture.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Restored {
    /// Pins that stand again.
    pub(super) pins: usize,
    /// States other than `ready` that hold again.
    pub(super) states: usize,
    /// Pins whose time came meanwhile.
    pub(super) expired: usize,
    /// Pins of a drain whose deadline came meanwhile.
    pub(super) drained: usize,
    /// Pins and states of groups, names and backends that the configuration no longer has.
    pub(super) unknown: usize,
    /// Pins of groups that now tell clients apart by more than the pin's key says, or by less, where another pin has the
    /// same key now.
    pub(super) other_keys: usize,
    /// Pins for which their table had no room.
    pub(super) no_room: usize,
}

/// Puts back what `contents` has, as if it had stood all the time.
pub(super) fn restore(contents: &Contents, snapshot: &Snapshot, now: &Stamp) -> Restored {
    let mut restored = Restored::default();
    let drained = states(contents, snapshot, now, &mut restored);
    let tables: Vec<Result<RestoreTarget<'_>, NotRestored>> = contents
        .groups()
        .iter()
        .map(|shape| RestoreTarget::find(shape, contents, snapshot, &drained))
        .collect();
    let idle_since = contents
        .last()
        .map_or(Duration::ZERO, |last| last.elapsed(now));
    for pinned in contents.pins() {
        let count = match &tables[pinned.group] {
            Ok(table) => table.restore(contents, &pinned, now, idle_since),
            Err(gone) => Err(*gone),
        };
        *match count {
            Ok(()) => &mut restored.pins,
            Err(NotRestored::Unknown) => &mut restored.unknown,
            Err(NotRestored::OtherKeys) => &mut restored.other_keys,
            Err(NotRestored::Drained) => &mut restored.drained,
            Err(NotRestored::Expired) => &mut restored.expired,
            Err(NotRestored::NoRoom) => &mut restored.no_room,
        } += 1;
    }
    restored
}

/// Why a pin is not put back.
#[derive(Debug, Clone, Copy)]
enum NotRestored {
    Unknown,
    OtherKeys,
    Drained,
    Expired,
    NoRoom,
}

/// Groups and backends whose drain has ended meanwhile: its pins are released, as they would have been.
type EndedDrains = HashSet<(Arc<str>, Arc<str>)>;

fn states(
    contents: &Contents,
    snapshot: &Snapshot,
    now: &Stamp,
    restored: &mut Restored,
) -> EndedDrains {
    let mut over = Vec::new();
    for wanted in contents.states() {
        let state = AdminState::from_cell(wanted.state);
        if state == AdminState::Ready {
            continue;
        }
        let pool = snapshot.pools.iter().find(|pool| pool.name == *wanted.pool);
        let backends = pool.iter().flat_map(|pool| &pool.backends);
        let backend = backends
            .into_iter()
            .find(|known| known.name == *wanted.backend);
        let (Some(pool), Some(backend)) = (pool, backend) else {
            restored.unknown += 1;
            continue;
        };
        let deadline = wanted
            .left
            .map(|left| deadline(Duration::from_millis(left), wanted.stamp.elapsed(now)));
        backend.set_state(state, deadline);
        restored.states += 1;
        if deadline.is_some_and(|deadline| deadline.at <= Instant::now()) {
            over.push((pool, backend));
        }
    }
    // As at the deadline of a drain: other pools of the group may need the pins. That is known once all states are.
    let released = over.into_iter().filter_map(|(pool, backend)| {
        let group = pool.affinity.as_ref()?.pins.group().clone();
        (!pool.pins_serve_elsewhere(backend)).then(|| (group, backend.name.clone()))
    });
    released.collect()
}

/// When a drain ends of which so much was left so long ago. One that has ended stays a drain: nobody is taken until the
/// administrator says `ready`.
fn deadline(left: Duration, ago: Duration) -> Deadline {
    let (now, shown) = (Instant::now(), SystemTime::now());
    let (ahead, behind) = (left.saturating_sub(ago), ago.saturating_sub(left));
    Deadline {
        at: now.checked_add(ahead).unwrap_or(now),
        shown: shown
            .checked_add(ahead)
            .and_then(|shown| shown.checked_sub(behind))
            .unwrap_or(shown),
    }
}

/// A group's table, and what it knows of the texts in the file, by their numbers.
struct RestoreTarget<'a> {
    pins: &'a Arc<Pins>,
    /// What the keys in the file are made of, and those in force.
    keys: (KeyScheme, KeyScheme),
    backends: Vec<bool>,
    drained: Vec<bool>,
    names: Vec<bool>,
    now: Moment,
}

impl<'a> RestoreTarget<'a> {
    fn find(
        shape: &Shape,
        contents: &Contents,
        snapshot: &'a Snapshot,
        ended: &EndedDrains,
    ) -> Result<Self, NotRestored> {
        let pins = snapshot
            .groups
            .iter()
            .find(|pins| *pins.group() == shape.name)
            .ok_or(NotRestored::Unknown)?;
        let backends = backends(snapshot, &shape.name);
        let names = names(snapshot, &shape.name);
        let each = |known: &dyn Fn(&Arc<str>) -> bool| contents.texts().iter().map(known).collect();
        Ok(Self {
            pins,
            keys: (shape.keys, KeyScheme::of(&pins.settings())),
            backends: each(&|text| backends.contains(text)),
            drained: each(&|text| ended.contains(&(shape.name.clone(), text.clone()))),
            names: each(&|text| names.contains(&**text)),
            now: pins.now(),
        })
    }

    fn restore(
        &self,
        contents: &Contents,
        pinned: &ReplayedKey<'_>,
        now: &Stamp,
        idle_since: Duration,
    ) -> Result<(), NotRestored> {
        let backend = pinned.pin.backend as usize;
        let (from, to) = &self.keys;
        let key = match pinned.key {
            RecordKey::Client(source, name) => {
                let key = PinKey::Client {
                    source,
                    name: name.map(|name| contents.text(name).clone()),
                };
                let key = from.translate(key, to).ok_or(NotRestored::OtherKeys)?;
                let is_named = matches!(key, PinKey::Client { name: Some(_), .. });
                if is_named && name.is_some_and(|name| !self.names[name as usize]) {
                    return Err(NotRestored::Unknown);
                }
                key
            }
            RecordKey::Session(..) if !self.pins.settings().by_session => {
                return Err(NotRestored::OtherKeys);
            }
            RecordKey::Session(hash, client) => PinKey::Session { hash, client },
        };
        if !self.backends[backend] {
            return Err(NotRestored::Unknown);
        }
        if self.drained[backend] {
            return Err(NotRestored::Drained);
        }
        let ttl = self.pins.settings().ttl;
        let gone_by = pinned.stamp.elapsed(now);
        let left = match pinned.pin.left {
            Some(left) => Duration::from_millis(left.into())
                .min(ttl)
                .checked_sub(gone_by),
            // In use to the end, as far as anyone has written.
            None => ttl.checked_sub(idle_since),
        };
        let left = left
            .filter(|left| !left.is_zero())
            .ok_or(NotRestored::Expired)?;
        let age = Duration::from_millis(pinned.pin.age).saturating_add(gone_by);
        let kept = PinRecord {
            key,
            backend: contents.text(pinned.pin.backend).clone(),
            origin: Origin::from_cell(pinned.pin.origin),
            created: Moment(self.now.0.saturating_sub(milliseconds(age))),
            expires: Some(Moment(self.now.0.saturating_add(milliseconds(left)))),
            in_use: 0,
        };
        let not = if from == to {
            NotRestored::NoRoom
        } else {
            NotRestored::OtherKeys
        };
        self.pins.restore(&kept).then_some(()).ok_or(not)
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The backends that pools of the group have.
fn backends(snapshot: &Snapshot, group: &str) -> HashSet<Arc<str>> {
    let of_group = snapshot.pools.iter().filter(|pool| {
        let affinity = pool.affinity.as_ref();
        affinity.is_some_and(|affinity| **affinity.pins.group() == *group)
    });
    of_group
        .flat_map(|pool| &pool.backends)
        .map(|backend| backend.name.clone())
        .collect()
}

/// The configured names that lead to pools of the group, as keys have them.
fn names(snapshot: &Snapshot, group: &str) -> HashSet<String> {
    let config = &snapshot.config;
    let leads = |target: Target| {
        let affinity = target
            .pool()
            .and_then(|id| config.pool(id).affinity.as_ref());
        affinity.is_some_and(|affinity| *affinity.group == *group)
    };
    let mut names = HashSet::new();
    for listener in &config.listeners {
        let routes = listener
            .routes
            .iter()
            .filter(|route| leads(Target::Pool(route.pool)));
        names.extend(
            routes
                .flat_map(|route| &route.names)
                .map(ToString::to_string),
        );
        let others = [
            ("no_name", listener.no_name),
            ("unknown_name", listener.unknown_name),
            ("pool", listener.pool.map_or(Target::Refuse, Target::Pool)),
        ];
        let others = others.into_iter().filter(|(_, target)| leads(*target));
        names.extend(others.map(|(name, _)| name.to_owned()));
    }
    names
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// Says what came of the file.
pub(super) fn tell(restored: &Restored, file: &Path, age: Duration) {
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
            "affinity store: what was in the file and means nothing any more is dropped"
        );
    }
}

/// `12,345`
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
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
