//! The old process in an upgrade.
//!
//! Owns the order: the successor is started and told everything while clients are served; when it is ready, nobody is
//! accepted here any more; when it accepts, this process lives on for its connections alone. Invariant: until the successor
//! has said that it accepts, everything can be taken back, and whatever goes wrong before is told and leaves this process as
//! it was.

use std::net::SocketAddr;
use std::process::Child;
use std::time::{Duration, Instant, SystemTime};

use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::draining::{self, HandedOver};
use super::reload::Reloader;
use super::requests::{RequestOrigin, Turn};
use super::role::Role;
use super::telling::{self, Passing, Telling};
use super::{gates, service};
use crate::admin::UpgradeError;
use crate::admin::view::Upgraded;
use crate::handoff::{
    AsyncChannel, Channel, HandoffMessage, KeptPredecessor, KeptReport, Program, WireError, launch,
};
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::definitions;
use crate::types::timestamp::Timestamp;

/// From the start of the new process until it is ready, and from the word that it may accept until it does.
const BOUNDS: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));
/// What accept loops get to end.
const LAST_CALL: Duration = Duration::from_secs(2);

/// What older processes get to tell the next one of the pins that their connections use.
pub(super) const CHANGE_OF_HOLDS: Duration = Duration::from_secs(5);

/// Looks for how a process has ended, whose channel has closed.
const LOOKS: u32 = 50;
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A successor that has not taken over: killed when dropped.
struct Successor {
    child: Child,
    over: bool,
}

impl Successor {
    /// What became of it, if it has ended: its channel closes a moment before that is known.
    async fn end(&mut self) -> Option<String> {
        for _ in 0..LOOKS {
            if let Some(status) = self.child.try_wait().ok()? {
                return Some(format!(
                    "the new process ended ({status}) before it was ready; the log has what it said"
                ));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        None
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if !self.over {
            // It may be gone, which is as good; nothing of it may be left when this process accepts again.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The new process accepts; what it is still to get.
struct Accepted {
    pid: u32,
    channel: Channel,
    telling: Telling,
    /// Where it speaks to this process from now on.
    orders: AsyncChannel,
    /// Addresses that it does not have.
    unwanted: Vec<SocketAddr>,
}

impl Reloader {
    /// Hands over to a new process, or goes on as if nothing had been. Says where the new one speaks to this one.
    pub(super) async fn upgrade(
        &mut self,
        by: &RequestOrigin,
        turn: &Turn,
    ) -> Result<(Upgraded, HandedOver), UpgradeError> {
        let program = self.program.clone()?;
        let (by, from) = (by.as_str(), by.from());
        tracing::info!(target: "lyncpin::server", by, from, program = %program.path.display(), "an upgrade begins");
        let stop = self.shared.stop.clone();
        // What the process before this one has to let go of first.
        let waiting = timeout(BOUNDS.0, self.wait_for_what_is_let_go());
        let _ = stop.run_until_cancelled(waiting).await;
        let mut leaving = false;
        let handed_over = stop
            .run_until_cancelled(self.hand_over(&program, turn, &mut leaving))
            .await;
        if leaving && !matches!(handed_over, Some(Ok(_))) {
            self.sockets.resume(&self.posts);
            self.admin.resume(&self.control);
            gates::follow(&self.sockets, &self.shared);
            self.predecessors.serve(&self.shared);
        }
        match handed_over {
            None => Err(UpgradeError::Stopping),
            Some(Ok(accepted)) => {
                let pid = accepted.pid;
                // Not given up at a stop: the new process serves, and is to have everything.
                let handed_over = self.let_go(accepted).await;
                let connections = self.shared.limits.connections().into();
                let drain = self.shared.snapshot.load().config.timeouts.drain;
                tracing::info!(target: "lyncpin::server", by, from, pid, connections, drain_seconds = drain.as_secs(), "a new process has taken over; this one lives on for its connections");
                let upgraded = Upgraded {
                    at: Timestamp(SystemTime::now()),
                    pid,
                    connections,
                    drain_seconds: drain.as_secs_f64(),
                };
                Ok((upgraded, handed_over))
            }
            Some(Err(why)) => {
                let registry = &self.shared.registry;
                registry
                    .counter(&definitions::UPGRADES, &["failed"])
                    .increment(1);
                tracing::error!(target: "lyncpin::server", by, from, why, "the upgrade has failed, and this process goes on");
                Err(UpgradeError::Failed(why))
            }
        }
    }

    async fn wait_for_what_is_let_go(&mut self) {
        while *self.role.borrow() == Role::TakesOver {
            let Some(let_go) = &mut self.let_go else {
                return;
            };
            if let_go.recv().await.is_none() {
                self.let_go = None;
            }
            self.take_what_is_let_go().await;
        }
    }

    /// The whole way, until the new process accepts.
    async fn hand_over(
        &mut self,
        program: &Program,
        turn: &Turn,
        leaving: &mut bool,
    ) -> Result<Accepted, String> {
        turn.tells();
        let progress = turn.progress().clone();
        in_thread(move || {
            progress.wait_for_changes();
            Ok(())
        })
        .await?;
        let (orders, theirs) = Channel::pair().map_err(said)?;
        let orders = AsyncChannel::new(orders).map_err(said)?;
        let passing = self.passing(theirs).map_err(said)?;
        let (child, channel) = launch::launch(program)
            .map_err(|error| format!("{} cannot be started: {error}", program.path.display()))?;
        let mut successor = Successor { child, over: false };
        let pid = successor.child.id();
        let telling = Telling::new(channel.try_clone().map_err(said)?);
        let listening = channel.try_clone().map_err(said)?;
        let snapshot = self.shared.snapshot.load_full();
        let before = snapshot.clone();
        let told = in_thread(move || tell_all(telling, &listening, &passing, &before)).await;
        let (telling, unwanted) = match told {
            Ok(told) => told,
            Err(why) if why == WireError::Gone.to_string() => {
                return Err(successor.end().await.unwrap_or(why));
            }
            Err(why) => return Err(why),
        };

        *leaving = true;
        turn.hands_over();
        let gates = self.sockets.leave();
        self.admin.pause();
        self.predecessors.pause();
        let _ = timeout(LAST_CALL, async {
            for gate in &gates {
                gate.closed().await;
            }
        })
        .await;
        let deadline = Instant::now() + BOUNDS.1;
        let listening = channel.try_clone().map_err(said)?;
        let reports = self.reports();
        let commit = move || commit(telling, &listening, &snapshot, &reports, deadline);
        let telling = in_thread(commit).await?;
        successor.over = true;
        Ok(Accepted {
            pid,
            channel,
            telling,
            orders,
            unwanted,
        })
    }

    /// What is passed on; `theirs` is where the new process is to speak to this one.
    fn passing(&self, theirs: Channel) -> std::io::Result<Passing> {
        let mut predecessors = self.predecessors.passed()?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let this = KeptPredecessor {
            pid: std::process::id(),
            since: u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(u64::MAX),
        };
        predecessors.push((this, theirs));
        Ok(Passing {
            secret: self.secret.clone(),
            ports: self.sockets.all(),
            doors: self.admin.sockets()?,
            predecessors,
            reports: self.reports(),
        })
    }

    /// What processes that drain hold, and this one, which is about to.
    fn reports(&self) -> Vec<KeptReport> {
        let drain = self.shared.snapshot.load().config.timeouts.drain;
        let mut reports = self.predecessors.reports();
        reports.push(KeptReport {
            pid: std::process::id(),
            age: 0,
            report: draining::held(&self.shared, &self.retired, drain),
        });
        reports
    }

    /// The new process accepts: nothing can go wrong for clients any more.
    async fn let_go(&mut self, accepted: Accepted) -> HandedOver {
        let Accepted {
            pid,
            channel,
            telling,
            orders,
            unwanted,
        } = accepted;
        self.sockets.give_up(&self.posts, &unwanted);
        self.admin.leave();
        let holds = self.predecessors.leave();
        // They tell the new process themselves what their connections use.
        let (stop, followed) = (self.shared.stop.clone(), self.followed.clone());
        self.tasks.spawn(async move {
            stop.run_until_cancelled(sleep(CHANGE_OF_HOLDS)).await;
            followed.cancel();
            drop(holds);
        });
        let store = self.store.take();
        let _ = spawn_blocking(move || store.map(crate::persistence::Store::stop)).await;
        service::tell_successor(pid);
        self.say_farewell(channel, telling).await;
        HandedOver {
            channel: orders,
            successor: pid,
        }
    }

    async fn say_farewell(&self, channel: Channel, telling: Telling) {
        let said = async {
            let channel = AsyncChannel::new(channel).map_err(WireError::Io)?;
            let farewell = HandoffMessage::Farewell.packet()?;
            let sent = timeout(BOUNDS.1, channel.send(&farewell)).await;
            sent.unwrap_or(Err(WireError::Late)).map(|()| channel)
        };
        match said.await {
            Ok(channel) => {
                let telling = telling::tell_uses(telling.told(), channel, self.shared.clone());
                self.tasks.spawn(telling);
            }
            Err(error) => {
                tracing::warn!(target: "lyncpin::server", %error, "the new process did not hear that everything is its own");
            }
        }
    }
}

/// Tells everything that can be told while clients are served, and waits until the new process is ready. Says which
/// addresses it does not have.
fn tell_all(
    mut telling: Telling,
    listening: &Channel,
    passing: &Passing,
    snapshot: &Snapshot,
) -> Result<(Telling, Vec<SocketAddr>), String> {
    let deadline = Instant::now() + BOUNDS.0;
    // It may have failed before it has heard everything: what it says counts.
    let told = telling.tell_all(passing, snapshot, deadline);
    match (listening.next_message(deadline), told) {
        (Ok(HandoffMessage::Ready(unwanted)), Ok(())) => Ok((telling, unwanted)),
        (Ok(HandoffMessage::Failed(why)), _) => Err(why),
        (Ok(_), _) => Err("the new process does not keep to what was agreed".to_owned()),
        (Err(WireError::Late), _) | (_, Err(WireError::Late)) => Err(late(BOUNDS.0)),
        (Err(error), _) => Err(error.to_string()),
    }
}

/// Tells the rest, and that the new process may accept; waits until it does.
fn commit(
    mut telling: Telling,
    channel: &Channel,
    snapshot: &Snapshot,
    reports: &[KeptReport],
    deadline: Instant,
) -> Result<Telling, String> {
    let told = telling
        .tell_rest(snapshot, reports, deadline)
        .and_then(|()| channel.tell(&HandoffMessage::Commit, deadline));
    match told.and_then(|()| channel.next_message(deadline)) {
        Ok(HandoffMessage::Serving) => Ok(telling),
        Ok(HandoffMessage::Failed(why)) => Err(why),
        Ok(_) => Err("the new process does not keep to what was agreed".to_owned()),
        Err(WireError::Late) => Err(late(BOUNDS.1)),
        Err(error) => Err(error.to_string()),
    }
}

#[allow(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn said(error: std::io::Error) -> String {
    error.to_string()
}

fn late(bound: Duration) -> String {
    let seconds = bound.as_secs();
    format!("the new process did not answer within {seconds} s")
}

/// What waits is no work for the control thread.
async fn in_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(error.to_string()),
    }
}
