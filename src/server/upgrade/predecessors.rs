//! Older processes that drain: they have handed over and still have connections.
//!
//! Owns the channels to them, their last reports, and the delivery of orders. Knows no backend and no pin. Invariants: each
//! of them is reached on its own, so that one that hangs does not delay the others; nothing here waits for one longer than
//! [`REPLY_TIME`], and nothing here blocks.

mod process;

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::foreign_pins::ForeignPins;
use crate::admin::view::{self, PredecessorResult};
use crate::admin::{Caller, ForwardedChange};
use crate::handoff::orders::Call;
use crate::handoff::{AsyncChannel, Channel, DrainingProcess, DrainingReport, WireError};
use crate::proxy::acceptor::ProxyContext;
use crate::telemetry::metrics::{Registry, definitions};
use process::Process;

/// For one of them to reply to an order.
const REPLY_TIME: Duration = Duration::from_secs(2);

/// All of them, the oldest first.
#[derive(Clone, Default)]
pub(in crate::server) struct Predecessors(Arc<Mutex<KnownProcesses>>);

#[derive(Default)]
struct KnownProcesses {
    processes: Vec<Arc<Process>>,
    /// Ends the tasks that listen to them; `None` while another process serves.
    listening: Option<CancellationToken>,
    tasks: TaskTracker,
}

impl Predecessors {
    /// Takes over the channels to them. Must be called on a runtime.
    pub(in crate::server) fn adopt(
        &self,
        passed: Vec<(DrainingProcess, OwnedFd)>,
    ) -> Result<(), WireError> {
        for (known, channel) in passed {
            let channel = Channel::from_descriptor(channel).and_then(AsyncChannel::new);
            let process = Process::new(known, channel.map_err(WireError::Io)?);
            self.lock().processes.push(Arc::new(process));
        }
        Ok(())
    }

    /// Restores the last report that the process which served before has received from one of them, so that a process
    /// that has not reported yet does not count as empty.
    pub(super) fn restore_report(&self, kept: DrainingReport) {
        let processes = self.all();
        let Some(process) = processes.iter().find(|one| one.known.pid == kept.pid) else {
            return;
        };
        process.restore_report(kept);
    }

    /// Their last reports, for the next process.
    pub(super) fn reports(&self) -> Vec<DrainingReport> {
        let processes = self.all();
        let reports = processes.iter().filter_map(|process| process.report());
        reports.collect()
    }

    /// Reports to them that this process serves, and listens to them from now on.
    pub(super) fn serve(&self, proxy: &Arc<ProxyContext>) {
        let mut known = self.lock();
        let listening = CancellationToken::new();
        known.listening = Some(listening.clone());
        for process in &known.processes {
            // It reports all of them again.
            process.take_pins();
            process.send(&Call::Serves {
                pid: std::process::id(),
            });
            let (all, process, proxy) = (self.clone(), process.clone(), proxy.clone());
            let listening = listening.clone();
            known.tasks.spawn(async move {
                let listened = listening.run_until_cancelled(process.listen(&proxy));
                // If cancelled, another process listens to it now.
                if listened.await.is_some() {
                    all.remove(&process);
                }
            });
        }
    }

    /// Stops listening to them: the next process will, or this one after [`Predecessors::serve`].
    pub(super) fn pause(&self) {
        self.lock().pause();
    }

    /// Leaves them to the next process. The returned pins have to be held here until the next process holds them.
    pub(super) fn release(&self) -> Vec<ForeignPins> {
        let mut known = self.lock();
        known.pause();
        let released = known.processes.drain(..);
        released.map(|process| process.take_pins()).collect()
    }

    /// The channels to them, for the next process.
    pub(super) fn channels(&self) -> std::io::Result<Vec<(DrainingProcess, Channel)>> {
        let processes = self.all();
        let channels = processes.iter();
        channels
            .map(|process| Ok((process.known, process.channel.try_clone()?)))
            .collect()
    }

    /// Orders them to stop, as the service does; unless another process serves.
    pub(in crate::server) fn stop(&self, within: Duration) {
        if self.lock().listening.is_none() {
            return;
        }
        let within = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        for process in self.all() {
            process.send(&Call::Stops { within });
        }
    }

    /// Ends the tasks that listen to them.
    pub(in crate::server) async fn end(&self) {
        self.pause();
        let tasks = self.lock().tasks.clone();
        tasks.close();
        tasks.wait().await;
    }

    /// Forwards an order of this caller to each of them, and waits for the results.
    pub(in crate::server) async fn order(
        self,
        order: ForwardedChange,
        caller: Caller,
    ) -> Vec<PredecessorResult> {
        let sent: Vec<_> = self
            .all()
            .into_iter()
            .map(|process| {
                let reply = process.send_order(&order, &caller);
                (process, reply)
            })
            .collect();
        let deadline = tokio::time::Instant::now() + REPLY_TIME;
        let mut results = Vec::new();
        for (process, reply) in sent {
            let reply = match reply {
                Some(reply) => timeout_at(deadline, reply).await.ok(),
                None => None,
            };
            let result = match reply {
                Some(Ok(done)) => process.result(done),
                // It has ended, and its connections with it.
                Some(Err(_)) => continue,
                None => process.no_reply(&order),
            };
            results.extend(result);
        }
        for result in results.iter().filter(|result| !result.answered) {
            let (pid, connections) = (result.pid, result.connections);
            tracing::error!(target: "lyncpin::server", pid, connections, "an older process did not respond: its connections were not changed");
        }
        results
    }

    /// The older processes as the status shows them.
    pub(in crate::server) fn view(&self) -> Vec<view::PredecessorView> {
        let processes = self.all();
        processes
            .iter()
            .filter_map(|process| process.view())
            .collect()
    }

    /// Sets the metrics of their number and connections.
    pub(in crate::server) fn set_metrics(&self, registry: &Registry) {
        let processes = self.view();
        let connections: u64 = processes.iter().map(|process| process.connections).sum();
        #[allow(clippy::cast_precision_loss, reason = "no machine has 2^52 of either")]
        let set = |definition, value: u64| registry.gauge(definition, &[]).set(value as f64);
        set(&definitions::PREDECESSORS, processes.len() as u64);
        set(&definitions::PREDECESSOR_CONNECTIONS, connections);
    }

    /// Whether there are others than the process that handed over to this one.
    pub(super) fn are_several(&self) -> bool {
        self.lock().processes.len() > 1
    }

    fn all(&self) -> Vec<Arc<Process>> {
        self.lock().processes.clone()
    }

    fn remove(&self, process: &Arc<Process>) {
        let mut known = self.lock();
        known.processes.retain(|known| !Arc::ptr_eq(known, process));
        drop(known);
        process.close();
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

/// A value behind a lock whose holder panicked is still consistent: every critical section is one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
