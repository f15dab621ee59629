//! Pins out of the table, as records.
//!
//! Owns the way from a table's numbers and moments to [`PinRecord`]s. Must not know who reads them. Invariant: no lock is
//! held for more than a bounded number of pins, and none while pins are sent to another process.

use std::time::Duration;

use super::key_table::{Next, STEP};
use super::{KeyKind, KeyTable, Pins};
use crate::affinity::record::{KeyScheme, PinChange, PinGroup, PinRecord, PinUsage};
use crate::affinity::shard::{Completeness, Moment, PinAction, PinView, Shard, ShardChange};

impl Pins {
    /// The group and the scheme of its keys.
    #[must_use]
    pub fn pin_group(&self) -> PinGroup {
        PinGroup {
            name: self.group.clone(),
            keys: KeyScheme::of(&self.settings()),
        }
    }

    /// Starts to record changes, for [`Pins::take_changes`].
    pub fn track(&self) {
        self.clients.each_shard(Shard::record_changes);
        self.sessions.each_shard(Shard::record_changes);
    }

    /// Passes on what has changed since the last call, in an order in which another table can apply it. One shard is locked
    /// at a time, for as long as its changes take.
    pub fn take_changes(&self, each: &mut dyn FnMut(PinChange)) -> Completeness {
        let now = self.now();
        let clients = self.take_changes_of(&self.clients, now, each);
        let sessions = self.take_changes_of(&self.sessions, now, each);
        if clients == Completeness::All {
            sessions
        } else {
            clients
        }
    }

    fn take_changes_of<K: KeyKind>(
        &self,
        table: &KeyTable<K>,
        now: Moment,
        each: &mut dyn FnMut(PinChange),
    ) -> Completeness {
        let mut completeness = Completeness::All;
        table.each_shard(|shard| {
            let taken = shard.take_changes(|change| match change {
                ShardChange::Removed(key) => each(PinChange::Removed(key.pin_key(self))),
                ShardChange::Set(view) => {
                    if let Some(record) = self.record_at(&view, now) {
                        each(PinChange::Set(record));
                    }
                }
            });
            if taken == Completeness::Part {
                completeness = taken;
            }
        });
        completeness
    }

    /// Passes on every pin that has a backend, a bounded number under a lock at a time.
    pub fn export(&self, each: &mut dyn FnMut(PinRecord)) {
        let now = self.now();
        self.export_from(&self.clients, now, each);
        self.export_from(&self.sessions, now, each);
    }

    fn export_from<K: KeyKind>(
        &self,
        table: &KeyTable<K>,
        now: Moment,
        each: &mut dyn FnMut(PinRecord),
    ) {
        table.visit(now, |view| {
            if let Some(record) = self.record_at(view, now) {
                each(record);
            }
            PinAction::Keep
        });
    }

    /// Passes on the pins that are in use, and the idle ones that live for at least `left`, a few at a time. No lock is held
    /// while `each` has them. Stops at the first error.
    ///
    /// # Errors
    ///
    /// The error of `each`.
    pub fn export_recent<E>(
        &self,
        left: Duration,
        each: &mut dyn FnMut(Vec<PinRecord>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.export_recent_from(&self.clients, left, each)?;
        self.export_recent_from(&self.sessions, left, each)
    }

    fn export_recent_from<K: KeyKind, E>(
        &self,
        table: &KeyTable<K>,
        left: Duration,
        each: &mut dyn FnMut(Vec<PinRecord>) -> Result<(), E>,
    ) -> Result<(), E> {
        let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        let (mut shard_number, mut from) = (0, 0);
        loop {
            let (mut next, mut found) = (None, Vec::new());
            let ended = table.with_each(shard_number, |shard| {
                let now = self.now();
                let expires = Moment(now.0.saturating_add(left));
                next = shard.visit_recent(from, STEP, (now, expires), |view| {
                    found.extend(self.record_at(view, now));
                });
                Next::End
            });
            if ended.is_none() {
                return Ok(());
            }
            if !found.is_empty() {
                each(found)?;
            }
            (shard_number, from) = next.map_or((shard_number + 1, 0), |next| (shard_number, next));
        }
    }

    /// The record of a pin; `None` where its backend is unknown.
    #[must_use]
    pub fn record<K: KeyKind>(&self, view: &PinView<K>) -> Option<PinRecord> {
        self.record_at(view, self.now())
    }

    pub(super) fn record_at<K: KeyKind>(
        &self,
        view: &PinView<K>,
        now: Moment,
    ) -> Option<PinRecord> {
        let usage = match view.expires {
            None => PinUsage::InUse(view.in_use.max(1)),
            Some(expires) => PinUsage::Idle(between(now, expires)),
        };
        Some(PinRecord {
            key: view.key.pin_key(self),
            backend: self.member_name(view.member)?,
            origin: view.origin,
            age: between(view.created, now),
            usage,
        })
    }
}

/// The time from `earlier` to `later`; zero where it is the other way round.
fn between(earlier: Moment, later: Moment) -> Duration {
    Duration::from_millis(later.0.saturating_sub(earlier.0))
}
