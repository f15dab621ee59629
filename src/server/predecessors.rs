//! Older processes that drain: they have handed over and have connections still.
//!
//! Owns the channels to them, what they last said, and how orders get there. Knows no backend and no pin. Invariants: each
//! of them is asked by itself, so that one that hangs keeps nobody else from being reached; nobody waits for one longer than
//! [`PATIENCE`], and nothing here blocks.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::holds::Holds;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::admin::view::{self, PredecessorAnswer};
use crate::admin::{Caller, Order};
use crate::handoff::orders::{self, Call, Done, HeldAt, OrderAnswer, Report};
use crate::handoff::{AsyncChannel, Channel, KeptPredecessor, KeptReport, WireError};
use crate::proxy::acceptor::ProxyContext;
use crate::telemetry::metrics::{Registry, definitions};
use crate::types::timestamp::Timestamp;

/// What one of them gets to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// One that has said nothing for so long does not answer; it speaks every second.
const SILENCE: Duration = Duration::from_secs(3);

/// All of them, the oldest first.
#[derive(Clone, Default)]
pub(super) struct Predecessors(Arc<Mutex<KnownProcesses>>);

#[derive(Default)]
struct KnownProcesses {
    processes: Vec<Arc<Process>>,
    /// Ends what listens to them; `None` while another process serves.
    listening: Option<CancellationToken>,
}

/// One of them.
struct Process {
    known: KeptPredecessor,
    channel: AsyncChannel,
    seen: Mutex<Seen>,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Done>>>,
    /// Pins that its connections use, as far as it tells this process itself.
    holds: Mutex<Holds>,
    orders: AtomicU64,
}

/// What it last said.
struct Seen {
    report: Option<Report>,
    /// Parts of the next report.
    parts: Vec<HeldAt>,
    at: Instant,
}

impl Predecessors {
    /// Takes over the channels to them. To be called on a runtime.
    pub(super) fn adopt(&self, passed: Vec<(KeptPredecessor, OwnedFd)>) -> Result<(), WireError> {
        for (known, channel) in passed {
            let channel = Channel::from_descriptor(channel).and_then(AsyncChannel::new);
            self.lock().processes.push(Arc::new(Process {
                known,
                channel: channel.map_err(WireError::Io)?,
                seen: Mutex::new(Seen {
                    report: None,
                    parts: Vec::new(),
                    at: Instant::now(),
                }),
                waiting: Mutex::default(),
                holds: Mutex::default(),
                orders: AtomicU64::new(0),
            }));
        }
        Ok(())
    }

    /// Takes in what the process that served before last heard of one of them: what is not heard yet is not nothing.
    pub(super) fn learn(&self, kept: KeptReport) {
        let known = self.all();
        let Some(process) = known.iter().find(|one| one.known.pid == kept.pid) else {
            return;
        };
        let mut seen = lock(&process.seen);
        seen.take(kept.report);
        let said = Instant::now().checked_sub(Duration::from_millis(kept.age));
        seen.at = said.unwrap_or(seen.at);
    }

    /// What each of them last said, for the next process.
    pub(super) fn reports(&self) -> Vec<KeptReport> {
        let processes = self.all();
        let said = |process: &Arc<Process>| {
            let seen = lock(&process.seen);
            let age = u64::try_from(seen.at.elapsed().as_millis()).unwrap_or(u64::MAX);
            let mut report = seen.report.clone()?;
            report.left = report.left.saturating_sub(age);
            let pid = process.known.pid;
            Some(KeptReport { pid, age, report })
        };
        processes.iter().filter_map(said).collect()
    }

    /// Tells them that this process serves, and listens to them from now on.
    pub(super) fn serve(&self, shared: &Arc<ProxyContext>) {
        let mut known = self.lock();
        let listening = CancellationToken::new();
        known.listening = Some(listening.clone());
        for process in &known.processes {
            // It tells all of them again.
            lock(&process.holds).clear();
            process.say(&Call::Serves {
                pid: std::process::id(),
            });
            let (all, process) = (self.clone(), process.clone());
            let (listening, shared) = (listening.clone(), shared.clone());
            tokio::spawn(async move {
                // Else another process listens to it now.
                if listening
                    .run_until_cancelled(process.listen(&shared))
                    .await
                    .is_some()
                {
                    all.forget(&process);
                }
            });
        }
    }

    /// Listens to them no more: the next process does, or [`Predecessors::serve`] goes on.
    pub(super) fn pause(&self) {
        self.lock().pause();
    }

    /// Lets go of them: the next process has them. What comes back holds their pins here until the next one holds them.
    pub(super) fn leave(&self) -> Vec<Holds> {
        let mut known = self.lock();
        known.pause();
        let left = known.processes.drain(..);
        left.map(|process| std::mem::take(&mut *lock(&process.holds)))
            .collect()
    }

    /// Where each of them takes orders, for the next process.
    pub(super) fn passed(&self) -> std::io::Result<Vec<(KeptPredecessor, Channel)>> {
        let processes = self.all();
        let passed = processes.iter();
        passed
            .map(|process| Ok((process.known, process.channel.try_clone()?)))
            .collect()
    }

    /// Tells them that the service stops, and so are they to do; unless another process serves.
    pub(super) fn stop(&self, within: Duration) {
        if self.lock().listening.is_none() {
            return;
        }
        let within = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        for process in self.all() {
            process.say(&Call::Stops { within });
        }
    }

    /// Passes an order of this caller on to each of them, and waits for what comes of it.
    pub(super) async fn order(self, order: Order, caller: Caller) -> Vec<PredecessorAnswer> {
        let given: Vec<_> = self
            .all()
            .into_iter()
            .map(|process| {
                let answer = process.give(&order, &caller);
                (process, answer)
            })
            .collect();
        let until = tokio::time::Instant::now() + PATIENCE;
        let mut answers = Vec::new();
        for (process, answer) in given {
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            let answered = match answer {
                Some(answer) => timeout(left, answer).await.ok(),
                None => None,
            };
            let answer = match answered {
                Some(Ok(done)) => process.answered(done),
                // It has ended, and its connections with it.
                Some(Err(_)) => continue,
                None => process.silent(&order),
            };
            answers.extend(answer);
        }
        for answer in answers.iter().filter(|answer| !answer.answered) {
            let (pid, connections) = (answer.pid, answer.connections);
            tracing::error!(target: "lyncpin::server", pid, connections, "an older process did not answer: its connections were not reached");
        }
        answers
    }

    /// What the status shows of them.
    pub(super) fn view(&self) -> Vec<view::PredecessorView> {
        let processes = self.all();
        processes
            .iter()
            .filter_map(|process| process.view())
            .collect()
    }

    /// Shows how many connections they have.
    pub(super) fn show(&self, registry: &Registry) {
        let processes = self.view();
        let connections: u64 = processes.iter().map(|process| process.connections).sum();
        #[allow(clippy::cast_precision_loss, reason = "no machine has 2^52 of either")]
        let set = |definition, value: u64| registry.gauge(definition, &[]).set(value as f64);
        set(&definitions::PREDECESSORS, processes.len() as u64);
        set(&definitions::PREDECESSOR_CONNECTIONS, connections);
    }

    /// Whether there are any but the one that handed over to this process.
    pub(super) fn are_several(&self) -> bool {
        self.lock().processes.len() > 1
    }

    fn all(&self) -> Vec<Arc<Process>> {
        self.lock().processes.clone()
    }

    fn forget(&self, process: &Arc<Process>) {
        let mut known = self.lock();
        known.processes.retain(|known| !Arc::ptr_eq(known, process));
        drop(known);
        // Whoever waits for it hears that it has ended.
        lock(&process.waiting).clear();
        lock(&process.holds).clear();
    }

    fn lock(&self) -> MutexGuard<'_, KnownProcesses> {
        lock(&self.0)
    }
}

impl KnownProcesses {
    fn pause(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.cancel();
        }
    }
}

impl Process {
    /// Takes what it says, until it is gone.
    async fn listen(&self, shared: &ProxyContext) {
        while let Ok(packet) = self.channel.receive().await {
            if let Some(pins) = orders::pins(&packet) {
                let taken = lock(&self.holds).take_pins(pins, &shared.snapshot.load());
                if let Err(error) = taken {
                    self.not_understood(&error);
                }
                continue;
            }
            match orders::read(&packet) {
                Ok(OrderAnswer::Report(report)) => {
                    if report.connections == 0 {
                        lock(&self.holds).clear();
                    }
                    lock(&self.seen).take(report);
                }
                Ok(OrderAnswer::Done(done)) => {
                    let waiting = lock(&self.waiting).remove(&done.id);
                    // Whoever waited too long does not hear it.
                    let _ = waiting.map(|waiting| waiting.send(done));
                }
                Err(error) => self.not_understood(&error),
            }
        }
    }

    fn not_understood(&self, error: &WireError) {
        let pid = self.known.pid;
        tracing::warn!(target: "lyncpin::server", pid, %error, "an older process is not understood");
    }

    /// Says something if there is room for it: there is none at one that has hung for long.
    fn say(&self, call: &Call) -> bool {
        let packet = orders::packet(call);
        packet
            .and_then(|packet| self.channel.try_send(&packet))
            .is_ok()
    }

    fn give(&self, order: &Order, caller: &Caller) -> Option<oneshot::Receiver<Done>> {
        let id = self.orders.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        lock(&self.waiting).insert(id, answer);
        let (order, caller) = (order.clone(), caller.clone());
        let said = self.say(&Call::Order { id, order, caller });
        if !said {
            lock(&self.waiting).remove(&id);
        }
        said.then_some(answered)
    }

    fn answered(&self, done: Done) -> Option<PredecessorAnswer> {
        let answer = PredecessorAnswer {
            pid: self.known.pid,
            answered: true,
            connections: done.connections,
            error: done.error,
        };
        // The first process of a container, which stays without a connection, is nobody's concern.
        let matters = !self.only_stays() || answer.connections > 0 || answer.error.is_some();
        matters.then_some(answer)
    }

    fn silent(&self, order: &Order) -> Option<PredecessorAnswer> {
        // One that is heard of late may be counting to the end.
        lock(&self.waiting).retain(|_, waiting| !waiting.is_closed());
        let seen = lock(&self.seen);
        let report = seen.report.as_ref();
        let connections = report.map_or(0, |report| match order {
            Order::State { pool, backend, .. } => report.at(pool, backend),
            Order::Move { .. } | Order::Clear { .. } => report.connections,
        });
        drop(seen);
        let answer = PredecessorAnswer {
            pid: self.known.pid,
            answered: false,
            connections,
            error: None,
        };
        (!self.only_stays()).then_some(answer)
    }

    fn only_stays(&self) -> bool {
        let seen = lock(&self.seen);
        let report = seen.report.as_ref();
        report.is_some_and(|report| report.stays && report.connections == 0)
    }

    fn view(&self) -> Option<view::PredecessorView> {
        if self.only_stays() {
            return None;
        }
        let seen = lock(&self.seen);
        let report = seen.report.as_ref();
        let until = report.map(|report| {
            let age = seen.at.elapsed();
            Duration::from_millis(report.left).saturating_sub(age)
        });
        let backends = report.map_or(&[][..], |report| &report.backends);
        Some(view::PredecessorView {
            pid: self.known.pid,
            since: Timestamp(SystemTime::UNIX_EPOCH + Duration::from_millis(self.known.since)),
            answers: seen.at.elapsed() < SILENCE,
            connections: report.map_or(0, |report| report.connections),
            until: until.map(|left| Timestamp(SystemTime::now() + left)),
            backends: backends
                .iter()
                .map(|held| view::HeldBackend {
                    pool: held.pool.clone(),
                    backend: held.backend.clone(),
                    connections: held.connections,
                })
                .collect(),
        })
    }
}

impl Seen {
    fn take(&mut self, mut report: Report) {
        self.at = Instant::now();
        self.parts.append(&mut report.backends);
        if !report.more {
            report.backends = std::mem::take(&mut self.parts);
            self.report = Some(report);
        }
    }
}

/// A value behind a lock whose holder panicked is still whole here: every critical section is one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
