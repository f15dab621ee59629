//! What the old process tells the new one during an upgrade and after it.
//!
//! Owns what is said, and which pins the other believes to be in use here. Knows nothing of accepting. Invariant: after
//! each telling, the pins that the other holds for this process are those that its connections use.
//!
//! Uses are found by walks through the tables, ever more rarely: a pin that is counted as in use for some seconds too long
//! only lives as much longer, while each end of a connection costs nothing here. Recorded changes are the affinity store's.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::admin;
use crate::backend::Backend;
use crate::listener::Shared;
use crate::pins::{Kept, KeptKey, Pins, Secret};
use crate::snapshot::Snapshot;
use crate::socket::Listening;
use crate::upgrade::pins::{Batch, Told};
use crate::upgrade::{Channel, KeptBackend, Message, VERSION, WireError};

/// Between two looks for what connections use: at first, since some may just have come, and in the end.
const LOOKS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// What the new process gets to take in what is found.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much more than the time since the first telling counts as since then.
const SLACK: Duration = Duration::from_secs(2);

type Of = (Arc<str>, KeptKey);

/// What the new process has been told.
pub(super) struct Teller {
    channel: Channel,
    /// Pins that it holds for us, and where they lead.
    used: HashMap<Of, Arc<str>>,
    begun: Instant,
}

/// What there is to be told but pins.
pub(super) struct Estate {
    pub(super) secret: Secret,
    pub(super) ports: Vec<(SocketAddr, Arc<Listening>)>,
    pub(super) doors: Vec<(String, admin::Listener)>,
}

impl Teller {
    pub(super) fn new(channel: Channel) -> Self {
        Self {
            channel,
            used: HashMap::new(),
            begun: Instant::now(),
        }
    }

    /// Everything that can be told while clients are served.
    pub(super) fn tell_all(
        &mut self,
        estate: &Estate,
        snapshot: &Snapshot,
        deadline: Instant,
    ) -> Result<(), WireError> {
        self.begun = Instant::now();
        let hello = Message::Hello {
            version: VERSION,
            program: env!("CARGO_PKG_VERSION").into(),
        };
        let channel = &self.channel;
        channel.tell(&hello, deadline)?;
        channel.tell(&Message::Secret(*estate.secret.bytes()), deadline)?;
        channel.pass(&estate.ports, Message::Ports, deadline)?;
        channel.pass(&estate.doors, Message::Admin, deadline)?;
        self.tell_backends(snapshot, deadline)?;
        self.channel.tell(&Message::Described, deadline)?;
        self.tell_pins(snapshot, deadline, |_| Duration::ZERO)?;
        self.channel.tell(&Message::Complete, deadline)
    }

    /// What has changed since, when nobody is accepted here any more.
    pub(super) fn tell_rest(
        &mut self,
        snapshot: &Snapshot,
        deadline: Instant,
    ) -> Result<(), WireError> {
        self.tell_backends(snapshot, deadline)?;
        // Whatever became idle since the first telling has that much of its time left, or more.
        let since = self.begun.elapsed() + SLACK;
        self.tell_pins(snapshot, deadline, |pins| {
            pins.settings().ttl.saturating_sub(since)
        })
    }

    fn tell_backends(&self, snapshot: &Snapshot, deadline: Instant) -> Result<(), WireError> {
        for backend in snapshot.backends() {
            let message = Message::Backend(describe(backend));
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
        let Self { channel, used, .. } = self;
        for pins in &snapshot.groups {
            let mut batch = Batch::new(pins);
            pins.tell_recent(least(pins), &mut |met: Vec<Kept>| {
                for kept in met {
                    let of = (pins.group().clone(), kept.key.clone());
                    if kept.in_use > 0 {
                        used.insert(of, kept.backend.clone());
                    } else {
                        used.remove(&of);
                    }
                    if let Some(full) = batch.add(&Told::Stands(kept)) {
                        channel.send_pins(&full, deadline)?;
                    }
                }
                Ok::<(), WireError>(())
            })?;
            channel.send_pins(&batch.take(), deadline)?;
        }
        Ok(())
    }

    /// Tells what connections use until the last has ended or nobody listens; for a thread of its own.
    pub(super) fn tell_uses(mut self, shared: &Shared, runtime: &Handle) {
        let mut pause = LOOKS.0;
        loop {
            let stopped = runtime.block_on(async {
                tokio::time::timeout(pause, shared.stop.cancelled())
                    .await
                    .is_ok()
            });
            let snapshot = shared.snapshot.load_full();
            let told = self.tell_changed_uses(&snapshot, Instant::now() + PATIENCE);
            if stopped || told.is_err() {
                return;
            }
            pause = (pause * 2).min(LOOKS.1);
        }
    }

    fn tell_changed_uses(
        &mut self,
        snapshot: &Snapshot,
        deadline: Instant,
    ) -> Result<(), WireError> {
        let Self { channel, used, .. } = self;
        let mut seen: HashSet<Of> = HashSet::new();
        for pins in &snapshot.groups {
            let mut batch = Batch::new(pins);
            // No idle pin has so much time left.
            pins.tell_recent(Duration::MAX, &mut |met: Vec<Kept>| {
                for kept in met {
                    let of = (pins.group().clone(), kept.key.clone());
                    let known = used.insert(of.clone(), kept.backend.clone());
                    seen.insert(of);
                    if known.as_ref() == Some(&kept.backend) {
                        continue;
                    }
                    if let Some(full) = batch.add(&Told::Stands(kept)) {
                        channel.send_pins(&full, deadline)?;
                    }
                }
                Ok::<(), WireError>(())
            })?;
            let ended: Vec<Of> = used
                .keys()
                .filter(|of| of.0 == *pins.group() && !seen.contains(*of))
                .cloned()
                .collect();
            for of in ended {
                used.remove(&of);
                if let Some(full) = batch.add(&Told::LetGo(of.1)) {
                    channel.send_pins(&full, deadline)?;
                }
            }
            channel.send_pins(&batch.take(), deadline)?;
        }
        Ok(())
    }
}

fn describe(backend: &Backend) -> KeptBackend {
    let left = |deadline: crate::backend::Deadline| {
        let left = deadline.at.saturating_duration_since(Instant::now());
        u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
    };
    KeptBackend {
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
