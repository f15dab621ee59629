//! The first process of a balancer where its end would be the end of all.
//!
//! Owns what it does once another process serves: it passes signals on, waits for the processes that come and go below it,
//! and ends as the serving one does. That is so for process 1 of a container, with which the kernel ends every other one
//! (pid_namespaces(7)), and for a child of process 1 that no service manager follows: an init of a container ends with its
//! child, and so does a service whose manager knows one process alone. Invariant: a signal goes to the process that serves
//! when it comes, however many upgrades there have been.

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
use crate::server::{Ended, Heard, Retiring};

/// What the serving process gets beyond its own bound, after it was told to stop.
const SLACK: Duration = Duration::from_secs(10);
/// What others get to end when none serves any more.
const LAST: Duration = Duration::from_secs(5);

/// Whether this process is one that has to stay. To be asked at the start.
pub(super) fn stays() -> bool {
    let is_followed = std::env::var_os("NOTIFY_SOCKET").is_some();
    // Else the one that started it is the first.
    let is_first = std::env::var_os(PREDECESSOR).is_none();
    getpid() == Pid::INIT || (getppid() == Some(Pid::INIT) && is_first && !is_followed)
}

/// Stays until no process serves any more; its own connections end meanwhile as in every process that has handed over.
pub(super) async fn stay(signals: &mut Signals, retiring: Retiring) -> Result<(), Failure> {
    let Some(heard) = retiring.heard() else {
        return Err(Failure::answer("the new process cannot be followed"));
    };
    let family = Family::new(heard.clone());
    let at_once = family.at_once.clone();
    let draining = retiring.end(async move {
        tokio::select! {
            () = at_once.cancelled() => {}
            () = lost(heard) => {}
        }
    });
    family.follow_to_the_end(signals, draining).await
}

/// Completes when none serves any more though none was told to stop.
async fn lost(mut heard: watch::Receiver<Heard>) {
    // An error is that nothing can be heard any more.
    let _ = heard.wait_for(|heard| heard.gone).await;
    let in_order = heard.borrow().stops.is_some();
    if in_order {
        std::future::pending::<()>().await;
    }
}

/// The same for one that was told to stop while it handed over: the new process is told so too.
pub(super) async fn stay_to_stop(signals: &mut Signals, ended: Ended) -> Result<(), Failure> {
    let mut family = Family::new(ended.heard());
    family.pass_on(Signal::TERM);
    family
        .follow_to_the_end(signals, std::future::ready(ended))
        .await
}

/// The processes that came after this one.
struct Family {
    heard: watch::Receiver<Heard>,
    /// How they ended, as far as they are known to have served.
    ended: HashMap<Pid, u8>,
    /// It was passed on that the service is to stop.
    stop: Option<Signal>,
    /// Who was told so.
    told: Option<Pid>,
    /// When whoever lives is ended.
    due: Option<Instant>,
    /// That is as the serving one has said.
    bounded: bool,
    /// Ends the connections of this process.
    at_once: CancellationToken,
    /// How often that was done.
    kills: u32,
}

impl Family {
    fn new(heard: watch::Receiver<Heard>) -> Self {
        Self {
            heard,
            ended: HashMap::new(),
            stop: None,
            told: None,
            due: None,
            bounded: false,
            at_once: CancellationToken::new(),
            kills: 0,
        }
    }

    async fn follow_to_the_end(
        mut self,
        signals: &mut Signals,
        draining: impl Future<Output = Ended>,
    ) -> Result<(), Failure> {
        // Those whose parents end come here, also where this is not process 1.
        let _ = set_child_subreaper(Some(getpid()));
        let mut children = signal(SignalKind::child())
            .map_err(|error| Failure::answer("signals cannot be caught").because(&error))?;
        let mut news = self.heard.clone();
        let mut draining = pin!(draining);
        let mut answers = None;
        loop {
            self.reap();
            if let Some(status) = self.status(answers.is_some()) {
                let ended = self.serving();
                tracing::info!(target: "lyncpin::server", pid = ended.map(Pid::as_raw_pid), status, "no process serves any more: the first one ends, too");
                // What it has left is ended by now, or in a moment.
                if answers.is_none() {
                    let _ = tokio::time::timeout(LAST, &mut draining).await;
                }
                return if status == 0 {
                    Ok(())
                } else {
                    Err(Failure::status(status))
                };
            }
            tokio::select! {
                ended = &mut draining, if answers.is_none() => answers = Some(ended),
                _ = children.recv() => {}
                signal = signals.next() => self.pass_on(signal),
                () = changed(&mut news) => self.follow(),
                () = self.due() => self.end_all(),
            }
        }
    }

    /// Those that have served, the last one last.
    fn known(&self) -> Vec<Pid> {
        let heard = self.heard.borrow();
        let known = heard.serving.iter();
        known
            .filter_map(|pid| Pid::from_raw(i32::try_from(*pid).ok()?))
            .collect()
    }

    fn serving(&self) -> Option<Pid> {
        self.known().pop()
    }

    /// Takes note of everyone who has ended, also of strangers whose parents have.
    fn reap(&mut self) {
        let known = self.known();
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if known.contains(&pid) => {
                    self.ended.insert(pid, exit_status(status));
                }
                Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// The exit status, once none serves any more and it is known how the last one ended; after a stop in order, once
    /// everyone's connections have ended too, or their time is over. `is_empty` is whether this process has none.
    fn status(&self, is_empty: bool) -> Option<u8> {
        let (stops, gone) = {
            let heard = self.heard.borrow();
            (heard.stops.is_some(), heard.gone)
        };
        let lives = !is_empty || !self.others().is_empty();
        if !gone || (stops && lives && self.kills == 0) {
            return None;
        }
        let serving = self.serving()?;
        let known = self.ended.get(&serving).copied();
        // Else it is a child of one that lives still, which is being ended.
        known.or_else(|| (self.kills > 1).then_some(1))
    }

    fn pass_on(&mut self, signal: Signal) {
        let stops = matches!(signal, Signal::TERM | Signal::INT);
        if stops && self.stop.is_some() {
            self.at_once.cancel();
            if self.heard.borrow().gone {
                self.tell_others();
            }
        }
        if stops {
            self.stop = Some(signal);
            self.due.get_or_insert(Instant::now() + SLACK);
        }
        if let Some(serving) = self.serving() {
            self.tell(serving, signal);
            self.told = stops.then_some(serving).or(self.told);
        }
    }

    /// Somebody else serves, the serving one stops, or none serves any more.
    fn follow(&mut self) {
        let (stops, gone) = {
            let heard = self.heard.borrow();
            (heard.stops, heard.gone)
        };
        if let (Some(within), false) = (stops, self.bounded) {
            self.bounded = true;
            self.due = Some(Instant::now() + within + SLACK);
        }
        if gone {
            // In a stop the others have heard of it themselves.
            if stops.is_none() {
                self.tell_others();
            }
            return;
        }
        // One that took over while the one before was being told to stop.
        if let (Some(stop), Some(serving)) = (self.stop, self.serving())
            && self.told != Some(serving)
        {
            self.tell(serving, stop);
            self.told = Some(serving);
        }
    }

    /// Those that have not ended, as far as is known: the process ids of those that have are nobody else's before their
    /// parents have waited for them.
    fn others(&self) -> Vec<Pid> {
        let mut known = self.known();
        known.retain(|pid| !self.ended.contains_key(pid));
        known
    }

    /// Whoever lives is to end now.
    fn tell_others(&mut self) {
        self.due = Some(Instant::now() + LAST);
        for pid in self.others() {
            self.tell(pid, Signal::TERM);
        }
    }

    fn tell(&self, pid: Pid, signal: Signal) {
        if !self.ended.contains_key(&pid) {
            // One that has just ended needs no signal.
            let _ = kill_process(pid, signal);
        }
    }

    /// Their time is over.
    fn end_all(&mut self) {
        for pid in self.others() {
            tracing::error!(target: "lyncpin::server", pid = pid.as_raw_pid(), "it does not end in time and is killed");
            self.tell(pid, Signal::KILL);
        }
        self.kills += 1;
        self.due = Some(Instant::now() + LAST);
    }

    fn due(&self) -> impl Future<Output = ()> + use<> {
        let due = self.due;
        async move {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        }
    }
}

async fn changed(heard: &mut watch::Receiver<Heard>) {
    if heard.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// As a shell has it: 128 and the signal's number where one ended it.
fn exit_status(status: WaitStatus) -> u8 {
    let code = status.exit_status();
    let signal = || Some(128 + status.terminating_signal()?);
    let code = code.or_else(signal).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}
