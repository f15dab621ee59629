//! The first process of a balancer, where its exit would end every other process.
//!
//! Owns what it does once another process serves: it forwards signals, reaps its descendants, and exits with the status of
//! the serving process. It has to stay as process 1 of a container, with which the kernel ends every other one
//! (pid_namespaces(7)); and as a child of process 1 without a service manager, because the init of a container ends with
//! its child. Must not know how connections drain. Invariant: a signal reaches the process that serves when it arrives,
//! after any number of upgrades.

use std::collections::HashMap;
use std::pin::pin;
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, getppid, kill_process, set_child_subreaper, wait,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::failure::Failure;
use super::signals::Signals;
use crate::handoff::PREDECESSOR;
use crate::server::{DrainedServer, DrainingServer, SuccessorStatus};

/// Grace period for the serving process beyond its own shutdown time.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// Grace period for the other processes when none serves any more.
const FINAL_GRACE: Duration = Duration::from_secs(5);

/// Whether this process has to stay after an upgrade. Call it at the start, before the parent can change.
pub(super) fn must_stay() -> bool {
    let is_supervised = std::env::var_os("NOTIFY_SOCKET").is_some();
    // A successor does not stay: its predecessor is the first process.
    let is_first = std::env::var_os(PREDECESSOR).is_none();
    getpid() == Pid::INIT || (getppid() == Some(Pid::INIT) && is_first && !is_supervised)
}

/// Stays until no process serves any more. Its own connections drain as in every replaced process.
pub(super) async fn stay(signals: &mut Signals, retiring: DrainingServer) -> Result<(), Failure> {
    let Some(reports) = retiring.successor_status() else {
        return Err(Failure::operation("cannot follow the new process"));
    };
    let successors = Successors::new(reports.clone());
    let end_now = successors.end_now.clone();
    let draining = retiring.finish(async move {
        tokio::select! {
            () = end_now.cancelled() => {}
            () = lost(reports) => {}
        }
    });
    successors.supervise(signals, draining).await
}

/// Completes when no process serves any more although none was stopped.
async fn lost(mut reports: watch::Receiver<SuccessorStatus>) {
    // An error means that there will be no more reports.
    let _ = reports.wait_for(|report| report.gone).await;
    let in_order = reports.borrow().stopping_within.is_some();
    if in_order {
        std::future::pending::<()>().await;
    }
}

/// The same for a process that was stopped during the transfer: it forwards the stop to the new process.
pub(super) async fn stay_to_stop(
    signals: &mut Signals,
    ended: DrainedServer,
) -> Result<(), Failure> {
    let mut successors = Successors::new(ended.successor_status());
    successors.forward(Signal::TERM);
    successors
        .supervise(signals, std::future::ready(ended))
        .await
}

/// The processes that came after this one.
struct Successors {
    reports: watch::Receiver<SuccessorStatus>,
    /// Exit statuses of processes that have served.
    exits: HashMap<Pid, u8>,
    /// The stop signal that was forwarded.
    stop: Option<Signal>,
    /// The process that the stop signal was sent to.
    stop_sent_to: Option<Pid>,
    /// When the remaining processes are killed.
    kill_at: Option<Instant>,
    /// Whether `kill_at` includes the shutdown time that the serving process has reported.
    has_reported_time: bool,
    /// Ends the connections of this process.
    end_now: CancellationToken,
    /// How often remaining processes were killed.
    kills: u32,
}

impl Successors {
    fn new(reports: watch::Receiver<SuccessorStatus>) -> Self {
        Self {
            reports,
            exits: HashMap::new(),
            stop: None,
            stop_sent_to: None,
            kill_at: None,
            has_reported_time: false,
            end_now: CancellationToken::new(),
            kills: 0,
        }
    }

    async fn supervise(
        mut self,
        signals: &mut Signals,
        draining: impl Future<Output = DrainedServer>,
    ) -> Result<(), Failure> {
        // Orphaned descendants become children of this process, also if it is not process 1.
        let _ = set_child_subreaper(Some(getpid()));
        let mut children = signal(SignalKind::child())
            .map_err(|error| Failure::operation("cannot catch signals").caused_by(&error))?;
        let mut changes = self.reports.clone();
        let mut draining = pin!(draining);
        let mut drained = None;
        loop {
            self.reap();
            if let Some(status) = self.status(drained.is_some()) {
                let last = self.serving();
                tracing::info!(target: "lyncpin::server", pid = last.map(Pid::as_raw_pid), status, "no process serves any more; the first process exits");
                // Its remaining connections have been reset, or will be in a moment.
                if drained.is_none() {
                    let _ = tokio::time::timeout(FINAL_GRACE, &mut draining).await;
                }
                return if status == 0 {
                    Ok(())
                } else {
                    Err(Failure::status(status))
                };
            }
            tokio::select! {
                ended = &mut draining, if drained.is_none() => drained = Some(ended),
                _ = children.recv() => {}
                signal = signals.next() => self.forward(signal),
                () = changed(&mut changes) => self.follow(),
                () = self.kill_time() => self.kill_remaining(),
            }
        }
    }

    /// The processes that have served, in order.
    fn known(&self) -> Vec<Pid> {
        let report = self.reports.borrow();
        let known = report.serving.iter();
        known
            .filter_map(|pid| Pid::from_raw(i32::try_from(*pid).ok()?))
            .collect()
    }

    fn serving(&self) -> Option<Pid> {
        self.known().pop()
    }

    /// Records the processes that have exited; also reaps unrelated orphans.
    fn reap(&mut self) {
        let known = self.known();
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if known.contains(&pid) => {
                    self.exits.insert(pid, exit_status(status));
                }
                Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// The exit status, once no process serves any more and the status of the last one is known; after a stop in order,
    /// once all connections have ended too, or their time is over. `is_drained` is whether this process has none.
    fn status(&self, is_drained: bool) -> Option<u8> {
        let (stops, gone) = {
            let report = self.reports.borrow();
            (report.stopping_within.is_some(), report.gone)
        };
        let has_connections = !is_drained || !self.others().is_empty();
        if !gone || (stops && has_connections && self.kills == 0) {
            return None;
        }
        let serving = self.serving()?;
        let known = self.exits.get(&serving).copied();
        // Otherwise its parent is another process, which is being killed.
        known.or_else(|| (self.kills > 1).then_some(1))
    }

    fn forward(&mut self, signal: Signal) {
        let stops = matches!(signal, Signal::TERM | Signal::INT);
        if stops && self.stop.is_some() {
            self.end_now.cancel();
            if self.reports.borrow().gone {
                self.terminate_others();
            }
        }
        if stops {
            self.stop = Some(signal);
            self.kill_at.get_or_insert(Instant::now() + STOP_GRACE);
        }
        if let Some(serving) = self.serving() {
            self.send(serving, signal);
            self.stop_sent_to = stops.then_some(serving).or(self.stop_sent_to);
        }
    }

    /// Reacts to a report: another process serves, the serving one stops, or none serves any more.
    fn follow(&mut self) {
        let (stops, gone) = {
            let report = self.reports.borrow();
            (report.stopping_within, report.gone)
        };
        if let (Some(within), false) = (stops, self.has_reported_time) {
            self.has_reported_time = true;
            self.kill_at = Some(Instant::now() + within + STOP_GRACE);
        }
        if gone {
            // In an orderly stop the serving process has stopped the others itself.
            if stops.is_none() {
                self.terminate_others();
            }
            return;
        }
        // A process that took over while its predecessor was being stopped.
        if let (Some(stop), Some(serving)) = (self.stop, self.serving())
            && self.stop_sent_to != Some(serving)
        {
            self.send(serving, stop);
            self.stop_sent_to = Some(serving);
        }
    }

    /// The processes that are not known to have exited. The kernel does not reuse the process id of one that has until its
    /// parent has waited for it.
    fn others(&self) -> Vec<Pid> {
        let mut known = self.known();
        known.retain(|pid| !self.exits.contains_key(pid));
        known
    }

    fn terminate_others(&mut self) {
        self.kill_at = Some(Instant::now() + FINAL_GRACE);
        for pid in self.others() {
            self.send(pid, Signal::TERM);
        }
    }

    fn send(&self, pid: Pid, signal: Signal) {
        if !self.exits.contains_key(&pid) {
            // An error means that it has just exited.
            let _ = kill_process(pid, signal);
        }
    }

    fn kill_remaining(&mut self) {
        for pid in self.others() {
            tracing::error!(target: "lyncpin::server", pid = pid.as_raw_pid(), "the process did not exit in time and is killed");
            self.send(pid, Signal::KILL);
        }
        self.kills += 1;
        self.kill_at = Some(Instant::now() + FINAL_GRACE);
    }

    fn kill_time(&self) -> impl Future<Output = ()> + use<> {
        let kill_at = self.kill_at;
        async move {
            match kill_at {
                Some(kill_at) => sleep_until(kill_at).await,
                None => std::future::pending().await,
            }
        }
    }
}

async fn changed(reports: &mut watch::Receiver<SuccessorStatus>) {
    if reports.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The exit status as a shell reports it: 128 plus the signal's number if a signal ended the process.
fn exit_status(status: WaitStatus) -> u8 {
    let code = status.exit_status();
    let signal = || Some(128 + status.terminating_signal()?);
    let code = code.or_else(signal).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}
