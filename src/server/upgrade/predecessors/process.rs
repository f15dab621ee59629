//! One older process.
//!
//! Owns its channel, its last report, and the orders that it has not replied to. Must not know the other processes.
//! Invariant: a message that finds no room in the channel is dropped, and nothing here blocks.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;

use super::lock;
use crate::admin::view::{self, PredecessorResult};
use crate::admin::{Caller, ForwardedChange};
use crate::handoff::orders::{self, Call, Done, HeldAt, OrderAnswer, Report};
use crate::handoff::{AsyncChannel, DrainingProcess, DrainingReport, WireError};
use crate::proxy::acceptor::ProxyContext;
use crate::server::upgrade::foreign_pins::ForeignPins;
use crate::types::timestamp::Timestamp;

/// One that has not reported for this long counts as hanging; it reports every second.
const SILENCE: Duration = Duration::from_secs(3);

/// One of them.
pub(super) struct Process {
    pub(super) known: DrainingProcess,
    pub(super) channel: AsyncChannel,
    last: Mutex<LastReport>,
    /// Orders that have no reply yet, by their id.
    orders: Mutex<HashMap<u64, oneshot::Sender<Done>>>,
    next_order: AtomicU64,
    /// Pins that its connections use, as far as it reports them to this process.
    pins: Mutex<ForeignPins>,
}

struct LastReport {
    report: Option<Report>,
    /// Parts of the next report.
    parts: Vec<HeldAt>,
    at: Instant,
}

impl Process {
    pub(super) fn new(known: DrainingProcess, channel: AsyncChannel) -> Self {
        Self {
            known,
            channel,
            last: Mutex::new(LastReport {
                report: None,
                parts: Vec::new(),
                at: Instant::now(),
            }),
            orders: Mutex::default(),
            next_order: AtomicU64::new(0),
            pins: Mutex::default(),
        }
    }

    /// Restores the last report that another process has received from it.
    pub(super) fn restore_report(&self, kept: DrainingReport) {
        let mut last = lock(&self.last);
        last.add(kept.report);
        let reported = Instant::now().checked_sub(Duration::from_millis(kept.age));
        last.at = reported.unwrap_or(last.at);
    }

    /// Its last report, for the next process.
    pub(super) fn report(&self) -> Option<DrainingReport> {
        let last = lock(&self.last);
        let age = u64::try_from(last.at.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut report = last.report.clone()?;
        report.left = report.left.saturating_sub(age);
        let pid = self.known.pid;
        Some(DrainingReport { pid, age, report })
    }

    /// The pins that it holds. From here on it holds none.
    pub(super) fn take_pins(&self) -> ForeignPins {
        std::mem::take(&mut *lock(&self.pins))
    }

    /// It has ended: those who wait for a reply learn that, and its pins are released.
    pub(super) fn close(&self) {
        lock(&self.orders).clear();
        lock(&self.pins).clear();
    }

    /// Takes in its messages until it is gone.
    pub(super) async fn listen(&self, proxy: &ProxyContext) {
        while let Ok(packet) = self.channel.receive().await {
            if let Some(batch) = orders::pins(&packet) {
                let updated = lock(&self.pins).update(batch, &proxy.snapshot.load());
                if let Err(error) = updated {
                    self.log_malformed(&error);
                }
                continue;
            }
            match orders::read(&packet) {
                Ok(OrderAnswer::Report(report)) => {
                    if report.connections == 0 {
                        lock(&self.pins).clear();
                    }
                    lock(&self.last).add(report);
                }
                Ok(OrderAnswer::Done(done)) => {
                    let waiting = lock(&self.orders).remove(&done.id);
                    // The caller may have stopped waiting.
                    let _ = waiting.map(|waiting| waiting.send(done));
                }
                Err(error) => self.log_malformed(&error),
            }
        }
    }

    fn log_malformed(&self, error: &WireError) {
        let pid = self.known.pid;
        tracing::warn!(target: "lyncpin::server", pid, %error, "malformed message from an older process");
    }

    /// Sends `call` if the channel has room: a process that has hung for long has none.
    pub(super) fn send(&self, call: &Call) -> bool {
        let packet = orders::packet(call);
        packet
            .and_then(|packet| self.channel.try_send(&packet))
            .is_ok()
    }

    /// Sends `order`; the reply comes on what is returned, if it could be sent.
    pub(super) fn send_order(
        &self,
        order: &ForwardedChange,
        caller: &Caller,
    ) -> Option<oneshot::Receiver<Done>> {
        let id = self.next_order.fetch_add(1, Ordering::Relaxed);
        let (reply, replied) = oneshot::channel();
        lock(&self.orders).insert(id, reply);
        let (order, caller) = (order.clone(), caller.clone());
        let sent = self.send(&Call::Order { id, order, caller });
        if !sent {
            lock(&self.orders).remove(&id);
        }
        sent.then_some(replied)
    }

    pub(super) fn result(&self, done: Done) -> Option<PredecessorResult> {
        let result = PredecessorResult {
            pid: self.known.pid,
            answered: true,
            connections: done.connections,
            error: done.error,
        };
        // The first process of a container, which stays without a connection, is not listed.
        let is_listed = !self.only_stays() || result.connections > 0 || result.error.is_some();
        is_listed.then_some(result)
    }

    pub(super) fn no_reply(&self, order: &ForwardedChange) -> Option<PredecessorResult> {
        // Without this, orders to a process that hangs would pile up.
        lock(&self.orders).retain(|_, waiting| !waiting.is_closed());
        let last = lock(&self.last);
        let report = last.report.as_ref();
        let connections = report.map_or(0, |report| match order {
            ForwardedChange::State { pool, backend, .. } => report.at(pool, backend),
            ForwardedChange::Move { .. } | ForwardedChange::Clear { .. } => report.connections,
        });
        drop(last);
        let result = PredecessorResult {
            pid: self.known.pid,
            answered: false,
            connections,
            error: None,
        };
        (!self.only_stays()).then_some(result)
    }

    /// Whether it lives on without a connection, as the first process of a container.
    fn only_stays(&self) -> bool {
        let last = lock(&self.last);
        let report = last.report.as_ref();
        report.is_some_and(|report| report.stays && report.connections == 0)
    }

    pub(super) fn view(&self) -> Option<view::PredecessorView> {
        if self.only_stays() {
            return None;
        }
        let last = lock(&self.last);
        let report = last.report.as_ref();
        let left = report.map(|report| {
            let left = Duration::from_millis(report.left);
            left.saturating_sub(last.at.elapsed())
        });
        let backends = report.map_or(&[][..], |report| &report.backends);
        Some(view::PredecessorView {
            pid: self.known.pid,
            since: Timestamp(SystemTime::UNIX_EPOCH + Duration::from_millis(self.known.since)),
            answers: last.at.elapsed() < SILENCE,
            connections: report.map_or(0, |report| report.connections),
            until: left.map(|left| Timestamp(SystemTime::now() + left)),
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

impl LastReport {
    fn add(&mut self, mut report: Report) {
        self.at = Instant::now();
        self.parts.append(&mut report.backends);
        if !report.more {
            report.backends = std::mem::take(&mut self.parts);
            self.report = Some(report);
        }
    }
}
