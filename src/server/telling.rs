//! What the old process tells the new one during an upgrade, and of pins after it.
//!
//! Owns what is said, and which pins the other believes to be in use here. Knows nothing of accepting. Invariant: after
//! each telling, the pins that the other holds for this process are those that its connections use.
//!
//! Uses are found by walks through the tables, ever more rarely: a pin that is counted as in use for some seconds too long
//! only lives as much longer, while each end of a connection costs nothing here. Recorded changes are the affinity store's.

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
    AsyncChannel, BackendRecord, Channel, HandoffMessage, KeptPredecessor, KeptReport, VERSION,
    WireError,
};
use crate::net::socket::Listening;
use crate::proxy::acceptor::ProxyContext;
use crate::snapshot::Snapshot;
use crate::upstream::backend::Backend;

/// Between two looks for what connections use: at first, since some may just have come, and in the end.
const LOOKS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// What the new process gets to take in what is found.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much more than the time since the first telling counts as since then.
const SLACK: Duration = Duration::from_secs(2);

type Of = (Arc<str>, PinKey);

/// Which pins the new process holds for this one, and where they lead.
#[derive(Default)]
pub(super) struct HandoffTotals(HashMap<Of, Arc<str>>);

/// Tells the new process everything, on a thread that may block.
pub(super) struct Telling {
    channel: Channel,
    told: HandoffTotals,
    begun: Instant,
}

/// What is passed on but backends and pins.
pub(super) struct Passing {
    pub(super) secret: Secret,
    pub(super) ports: Vec<(SocketAddr, Arc<Listening>)>,
    pub(super) doors: Vec<(String, admin::AdminListener)>,
    /// Where processes that drain take orders, this one last.
    pub(super) predecessors: Vec<(KeptPredecessor, Channel)>,
    /// What they hold, as far as is known.
    pub(super) reports: Vec<KeptReport>,
}

impl Telling {
    pub(super) fn new(channel: Channel) -> Self {
        Self {
            channel,
            told: HandoffTotals::default(),
            begun: Instant::now(),
        }
    }

    /// Everything that can be told while clients are served.
    pub(super) fn tell_all(
        &mut self,
        passing: &Passing,
        snapshot: &Snapshot,
        deadline: Instant,
    ) -> Result<(), WireError> {
        self.begun = Instant::now();
        let hello = HandoffMessage::Hello {
            version: VERSION,
            program: env!("CARGO_PKG_VERSION").into(),
        };
        let channel = &self.channel;
        channel.tell(&hello, deadline)?;
        channel.tell(&HandoffMessage::Secret(*passing.secret.bytes()), deadline)?;
        channel.pass(&passing.ports, HandoffMessage::Ports, deadline)?;
        channel.pass(&passing.doors, HandoffMessage::Admin, deadline)?;
        channel.pass(
            &passing.predecessors,
            HandoffMessage::Predecessors,
            deadline,
        )?;
        self.tell_reports(&passing.reports, deadline)?;
        self.tell_backends(snapshot, deadline)?;
        self.channel.tell(&HandoffMessage::Described, deadline)?;
        self.tell_pins(snapshot, deadline, |_| Duration::ZERO)?;
        self.channel.tell(&HandoffMessage::Complete, deadline)
    }

    /// What has changed since, when nobody is accepted here any more.
    pub(super) fn tell_rest(
        &mut self,
        snapshot: &Snapshot,
        reports: &[KeptReport],
        deadline: Instant,
    ) -> Result<(), WireError> {
        self.tell_reports(reports, deadline)?;
        self.tell_backends(snapshot, deadline)?;
        // Whatever became idle since the first telling has that much of its time left, or more.
        let since = self.begun.elapsed() + SLACK;
        self.tell_pins(snapshot, deadline, |pins| {
            pins.settings().ttl.saturating_sub(since)
        })
    }

    fn tell_reports(&self, reports: &[KeptReport], deadline: Instant) -> Result<(), WireError> {
        for kept in reports {
            for report in kept.report.clone().parts() {
                let (pid, age) = (kept.pid, kept.age);
                let part = HandoffMessage::Reported(KeptReport { pid, age, report });
                self.channel.tell(&part, deadline)?;
            }
        }
        Ok(())
    }

    fn tell_backends(&self, snapshot: &Snapshot, deadline: Instant) -> Result<(), WireError> {
        for backend in snapshot.backends() {
            let message = HandoffMessage::Backend(describe(backend));
            self.channel.tell(&message, deadline)?;
        }
        Ok(())
    }

    fn tell_pins(
        &mut self,
        snapshot: &Snapshot,
        deadline: Instant,
        least: impl Fn(&Pins) -> Duration,
    ) -> Result<(), WireError> {
        let Self { channel, told, .. } = self;
        for pins in &snapshot.groups {
            let mut batch = Batch::new(pins.pin_group());
            pins.export_recent(least(pins), &mut |met: Vec<PinRecord>| {
                for kept in met {
                    let of = (pins.group().clone(), kept.key.clone());
                    if kept.usage.connections() > 0 {
                        told.0.insert(of, kept.backend.clone());
                    } else {
                        told.0.remove(&of);
                    }
                    if let Some(full) = batch.add(&PinChange::Set(kept)) {
                        channel.send_pins(&full, deadline)?;
                    }
                }
                Ok::<(), WireError>(())
            })?;
            channel.send_pins(&batch.take(), deadline)?;
        }
        Ok(())
    }

    /// What is left of it when the new process has taken over.
    pub(super) fn told(self) -> HandoffTotals {
        self.told
    }
}

/// Tells which pins connections here use until the last has ended or nobody listens.
pub(super) async fn tell_uses(
    mut told: HandoffTotals,
    channel: AsyncChannel,
    shared: Arc<ProxyContext>,
) {
    let mut pause = LOOKS.0;
    loop {
        if timeout(pause, shared.stop.cancelled()).await.is_ok() {
            // The end of the channel says that nothing is in use.
            return;
        }
        let snapshot = shared.snapshot.load_full();
        let looked = spawn_blocking(move || {
            let changed = told.changes(&snapshot);
            (told, changed)
        });
        let Ok((known, changed)) = looked.await else {
            return;
        };
        told = known;
        for batch in changed {
            let packet = pins_packet(&batch);
            let sending = timeout(PATIENCE, channel.send(&packet));
            let sent = shared.stop.run_until_cancelled(sending).await;
            if !matches!(sent, Some(Ok(Ok(())))) {
                return;
            }
        }
        pause = (pause * 2).min(LOOKS.1);
    }
}

impl HandoffTotals {
    /// What has changed since the new process was told, in batches.
    fn changes(&mut self, snapshot: &Snapshot) -> Vec<Vec<u8>> {
        let mut changed = Vec::new();
        let mut seen: HashSet<Of> = HashSet::new();
        for pins in &snapshot.groups {
            let mut batch = Batch::new(pins.pin_group());
            let mut is_empty = true;
            let mut add = |told: &PinChange| {
                is_empty = false;
                changed.extend(batch.add(told));
            };
            // No idle pin has so much time left.
            let walked = pins.export_recent(Duration::MAX, &mut |met: Vec<PinRecord>| {
                for kept in met {
                    let of = (pins.group().clone(), kept.key.clone());
                    let known = self.0.insert(of.clone(), kept.backend.clone());
                    seen.insert(of);
                    if known.as_ref() != Some(&kept.backend) {
                        add(&PinChange::Set(kept));
                    }
                }
                Ok::<(), Infallible>(())
            });
            let Ok(()) = walked;
            let ended: Vec<Of> = self
                .0
                .keys()
                .filter(|of| of.0 == *pins.group() && !seen.contains(*of))
                .cloned()
                .collect();
            for of in ended {
                self.0.remove(&of);
                add(&PinChange::Removed(of.1));
            }
            if !is_empty {
                changed.push(batch.take());
            }
        }
        changed
    }
}

fn describe(backend: &Backend) -> BackendRecord {
    let left = |deadline: crate::upstream::backend::Deadline| {
        let left = deadline.at.saturating_duration_since(Instant::now());
        u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
    };
    BackendRecord {
        pool: backend.pool.to_string(),
        name: backend.name.to_string(),
        state: backend.state(),
        deadline: backend.deadline().map(left),
        health: backend.health(),
        why: backend.changed().why.chars().take(1_000).collect(),
        configured: backend.configured().address.to_string(),
        address: backend.address(),
    }
}
