//! Transferring the state of this process to another one, and reporting to it which pins are in use.
//!
//! Owns the order of the messages, and the record of the pins that the other process holds for this one. Must not know who
//! accepts clients. Invariant: after each transfer, the pins that the other process holds for this one are those that its
//! connections use.
//!
//! Pins in use are found by walks through the tables at growing intervals: a pin that counts as in use for some seconds
//! too long only lives that much longer, while the end of a connection costs nothing here. The recorded changes of a table
//! are the affinity store's.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::admin;
use crate::affinity::record::{PinChange, PinKey, PinRecord};
use crate::affinity::table::{Pins, Secret};
use crate::handoff::message::pins_packet;
use crate::handoff::pins::Batch;
use crate::handoff::{
    AsyncChannel, BackendRecord, Channel, DrainingProcess, DrainingReport, HandoffMessage, VERSION,
    WireError,
};
use crate::net::socket::ListeningSocket;
use crate::proxy::acceptor::ProxyContext;
use crate::snapshot::Snapshot;
use crate::upstream::backend::{Backend, Deadline};

/// Between two walks for pins in use: at first, since some connections may have just begun, and at most.
const FIRST_WALK: Duration = Duration::from_millis(100);
const MAX_WALK_INTERVAL: Duration = Duration::from_secs(5);
/// For the other process to take in what a walk has found.
const SEND_TIME: Duration = Duration::from_secs(30);
/// Added to the time since the first transfer, for pins that changed since.
const SLACK: Duration = Duration::from_secs(2);
/// Of the reason for a backend's health, in characters.
const MAX_REASON: usize = 1_000;

/// A pin's group and key.
type GroupKey = (Arc<str>, PinKey);

/// The pins that the other process holds for this one, and their backends.
#[derive(Default)]
pub(super) struct SentPins(HashMap<GroupKey, Arc<str>>);

/// Sends the whole state, on a thread that may block.
pub(super) struct StateSender {
    channel: Channel,
    sent: SentPins,
    started: Instant,
}

/// Everything that is sent except backends and pins.
pub(super) struct HandoffState {
    pub(super) secret: Secret,
    pub(super) ports: Vec<(SocketAddr, Arc<ListeningSocket>)>,
    pub(super) admin: Vec<(String, admin::AdminListener)>,
    /// The channels to draining processes, this one last.
    pub(super) predecessors: Vec<(DrainingProcess, Channel)>,
    /// What these hold, as far as is known.
    pub(super) reports: Vec<DrainingReport>,
}

impl StateSender {
    pub(super) fn new(channel: Channel) -> Self {
        Self {
            channel,
            sent: SentPins::default(),
            started: Instant::now(),
        }
    }

    /// Sends everything that can be sent while clients are served.
    pub(super) fn send_all(
        &mut self,
        state: &HandoffState,
        snapshot: &Snapshot,
        deadline: Instant,
    ) -> Result<(), WireError> {
        self.started = Instant::now();
        let hello = HandoffMessage::Hello {
            version: VERSION,
            program: env!("CARGO_PKG_VERSION").into(),
        };
        let channel = &self.channel;
        channel.send_message(&hello, deadline)?;
        channel.send_message(&HandoffMessage::Secret(*state.secret.bytes()), deadline)?;
        channel.send_descriptors(&state.ports, HandoffMessage::Ports, deadline)?;
        channel.send_descriptors(&state.admin, HandoffMessage::Admin, deadline)?;
        channel.send_descriptors(&state.predecessors, HandoffMessage::Predecessors, deadline)?;
        self.send_reports(&state.reports, deadline)?;
        self.send_backends(snapshot, deadline)?;
        self.channel
            .send_message(&HandoffMessage::Described, deadline)?;
        self.send_pins(snapshot, deadline, |_| Duration::ZERO)?;
        self.channel
            .send_message(&HandoffMessage::Complete, deadline)
    }

    /// Sends what has changed since, once this process accepts no clients any more.
    pub(super) fn send_changes(
        &mut self,
        snapshot: &Snapshot,
        reports: &[DrainingReport],
        deadline: Instant,
    ) -> Result<(), WireError> {
        self.send_reports(reports, deadline)?;
        self.send_backends(snapshot, deadline)?;
        // A pin that became idle since the first transfer has at least that much of its time left.
        let since = self.started.elapsed() + SLACK;
        self.send_pins(snapshot, deadline, |pins| {
            pins.settings().ttl.saturating_sub(since)
        })
    }

    fn send_reports(&self, reports: &[DrainingReport], deadline: Instant) -> Result<(), WireError> {
        for kept in reports {
            for report in kept.report.clone().parts() {
                let (pid, age) = (kept.pid, kept.age);
                let part = HandoffMessage::Reported(DrainingReport { pid, age, report });
                self.channel.send_message(&part, deadline)?;
            }
        }
        Ok(())
    }

    fn send_backends(&self, snapshot: &Snapshot, deadline: Instant) -> Result<(), WireError> {
        for backend in snapshot.backends() {
            let message = HandoffMessage::Backend(record(backend));
            self.channel.send_message(&message, deadline)?;
        }
        Ok(())
    }

    /// Sends the pins that are in use or have at least `min_left` of their time left.
    fn send_pins(
        &mut self,
        snapshot: &Snapshot,
        deadline: Instant,
        min_left: impl Fn(&Pins) -> Duration,
    ) -> Result<(), WireError> {
        let Self { channel, sent, .. } = self;
        for pins in &snapshot.groups {
            let mut batch = Batch::new(pins.pin_group());
            pins.export_recent(min_left(pins), &mut |records: Vec<PinRecord>| {
                for record in records {
                    let key = (pins.group().clone(), record.key.clone());
                    if record.usage.connections() > 0 {
                        sent.0.insert(key, record.backend.clone());
                    } else {
                        sent.0.remove(&key);
                    }
                    if let Some(full) = batch.add(&PinChange::Set(record)) {
                        channel.send_pins(&full, deadline)?;
                    }
                }
                Ok::<(), WireError>(())
            })?;
            channel.send_pins(&batch.take(), deadline)?;
        }
        Ok(())
    }

    /// What the successor holds when it has taken over.
    pub(super) fn into_sent(self) -> SentPins {
        self.sent
    }
}

/// Reports which pins connections of this process use, until the last one has ended or the channel closes.
pub(super) async fn send_pins_in_use(
    mut sent: SentPins,
    channel: AsyncChannel,
    proxy: Arc<ProxyContext>,
) {
    let mut interval = FIRST_WALK;
    loop {
        if timeout(interval, proxy.stop.cancelled()).await.is_ok() {
            // The end of the channel reports that no pin is in use.
            return;
        }
        let snapshot = proxy.snapshot.load_full();
        let walking = spawn_blocking(move || {
            let changed = sent.changes(&snapshot);
            (sent, changed)
        });
        let Ok((walked, changed)) = walking.await else {
            return;
        };
        sent = walked;
        for batch in changed {
            let packet = pins_packet(&batch);
            let sending = timeout(SEND_TIME, channel.send(&packet));
            let done = proxy.stop.run_until_cancelled(sending).await;
            if !matches!(done, Some(Ok(Ok(())))) {
                return;
            }
        }
        interval = (interval * 2).min(MAX_WALK_INTERVAL);
    }
}

impl SentPins {
    /// What has changed since the last report, in batches.
    fn changes(&mut self, snapshot: &Snapshot) -> Vec<Vec<u8>> {
        let mut changed = Vec::new();
        let mut in_use: HashSet<GroupKey> = HashSet::new();
        for pins in &snapshot.groups {
            let mut batch = Batch::new(pins.pin_group());
            let mut is_empty = true;
            let mut add = |update: &PinChange| {
                is_empty = false;
                changed.extend(batch.add(update));
            };
            // No idle pin has so much time left.
            let walked = pins.export_recent(Duration::MAX, &mut |records: Vec<PinRecord>| {
                for record in records {
                    let key = (pins.group().clone(), record.key.clone());
                    let known = self.0.insert(key.clone(), record.backend.clone());
                    in_use.insert(key);
                    if known.as_ref() != Some(&record.backend) {
                        add(&PinChange::Set(record));
                    }
                }
                Ok::<(), Infallible>(())
            });
            let Ok(()) = walked;
            let ended: Vec<GroupKey> = self
                .0
                .keys()
                .filter(|key| key.0 == *pins.group() && !in_use.contains(*key))
                .cloned()
                .collect();
            for key in ended {
                self.0.remove(&key);
                add(&PinChange::Removed(key.1));
            }
            if !is_empty {
                changed.push(batch.take());
            }
        }
        changed
    }
}

fn record(backend: &Backend) -> BackendRecord {
    let left = |deadline: Deadline| {
        let left = deadline.at.saturating_duration_since(Instant::now());
        u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
    };
    BackendRecord {
        pool: backend.pool.to_string(),
        name: backend.name.to_string(),
        state: backend.state(),
        deadline: backend.deadline().map(left),
        health: backend.health(),
        why: backend
            .last_health_change()
            .why
            .chars()
            .take(MAX_REASON)
            .collect(),
        configured: backend.configured().address.to_string(),
        address: backend.address(),
    }
}
