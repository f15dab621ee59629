//! The old process in an upgrade.
//!
//! Owns the order: the successor is started and told everything while clients are served; when it is ready, nobody is
//! accepted here any more; when it accepts, this process lives on for its connections alone. Invariant: until the successor
//! has said that it accepts, everything can be taken back, and whatever goes wrong before is told and leaves this process as
//! it was.

use std::net::SocketAddr;
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::reload::Reloader;
use super::requests::Asker;
use super::takeover::Fate;
use super::teller::{Estate, Teller};
use super::{gates, service};
use crate::admin::UpgradeError;
use crate::admin::view::Upgraded;
use crate::metrics::definitions;
use crate::timestamp::Timestamp;
use crate::upgrade::{Channel, Message, Program, WireError, launch};

/// From the start of the new process until it is ready, and from the word that it may accept until it does.
const BOUNDS: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));
/// What accept loops get to end.
const LAST_CALL: Duration = Duration::from_secs(2);

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
    async fn fate(&mut self) -> Option<String> {
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

/// How far it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Accepting {
    Here,
    There,
}

impl Reloader {
    /// Hands over to a new process, or goes on as if nothing had been.
    pub(super) async fn upgrade(&mut self, by: &Asker) -> Result<Upgraded, UpgradeError> {
        let program = self.program.clone().ok_or(UpgradeError::NoProgram)?;
        let (by, from) = (by.as_str(), by.from());
        tracing::info!(target: "lyncpin::server", by, from, program = %program.path.display(), "an upgrade begins");
        // What the process before this one has to let go of first.
        let mut fate = self.fate.subscribe();
        let _ = timeout(BOUNDS.0, fate.wait_for(|fate| *fate != Fate::Waits)).await;
        let mut accepting = Accepting::Here;
        let stop = self.shared.stop.clone();
        let handed_over = stop
            .run_until_cancelled(self.hand_over(&program, &mut accepting))
            .await;
        match handed_over {
            None => Err(UpgradeError::Stopping),
            Some(Ok(pid)) => {
                let connections = self.shared.limits.connections().into();
                let drain = self.shared.snapshot.load().config.timeouts.drain;
                tracing::info!(target: "lyncpin::server", by, from, pid, connections, drain_seconds = drain.as_secs(), "a new process has taken over; this one lives on for its connections");
                Ok(Upgraded {
                    at: Timestamp(SystemTime::now()),
                    pid,
                    connections,
                    drain_seconds: drain.as_secs_f64(),
                })
            }
            Some(Err(why)) => {
                if accepting == Accepting::There {
                    self.sockets.resume(&self.posts);
                    self.admin.resume(&self.control);
                    gates::follow(&self.sockets, &self.shared);
                }
                let registry = &self.shared.registry;
                registry
                    .counter(&definitions::UPGRADES, &["failed"])
                    .increment(1);
                tracing::error!(target: "lyncpin::server", by, from, why, "the upgrade has failed, and this process goes on");
                Err(UpgradeError::Failed(why))
            }
        }
    }

    /// The whole way. Says which process has taken over.
    async fn hand_over(
        &mut self,
        program: &Program,
        accepting: &mut Accepting,
    ) -> Result<u32, String> {
        let said = |error: std::io::Error| error.to_string();
        let estate = Estate {
            secret: self.secret.clone(),
            ports: self.sockets.all(),
            doors: self.admin.sockets().map_err(said)?,
        };
        let (child, channel) = launch::launch(program)
            .map_err(|error| format!("{} cannot be started: {error}", program.path.display()))?;
        let mut successor = Successor { child, over: false };
        let pid = successor.child.id();
        let teller = Teller::new(channel.try_clone().map_err(said)?);
        let listening = channel.try_clone().map_err(said)?;
        let snapshot = self.shared.snapshot.load_full();
        let deadline = Instant::now() + BOUNDS.0;

        let before = snapshot.clone();
        let told = in_thread(move || {
            let mut teller = teller;
            // It may have failed before it has heard everything: what it says counts.
            let told = teller.tell_all(&estate, &before, deadline);
            match (listening.next_message(deadline), told) {
                (Ok(Message::Ready(unwanted)), Ok(())) => Ok((teller, unwanted)),
                (Ok(Message::Failed(why)), _) => Err(why),
                (Ok(_), _) => Err("the new process does not keep to what was agreed".to_owned()),
                (Err(WireError::Late), _) | (_, Err(WireError::Late)) => Err(late(BOUNDS.0)),
                (Err(error), _) => Err(error.to_string()),
            }
        })
        .await;
        let (teller, unwanted) = match told {
            Ok(told) => told,
            Err(why) if why == WireError::Gone.to_string() => {
                return Err(successor.fate().await.unwrap_or(why));
            }
            Err(why) => return Err(why),
        };

        *accepting = Accepting::There;
        let gates = self.sockets.leave();
        self.admin.pause();
        let _ = timeout(LAST_CALL, async {
            for gate in &gates {
                gate.closed().await;
            }
        })
        .await;
        let deadline = Instant::now() + BOUNDS.1;
        let listening = channel.try_clone().map_err(said)?;
        let teller = in_thread(move || commit(teller, &listening, &snapshot, deadline)).await?;
        successor.over = true;
        self.let_go(&channel, teller, pid, &unwanted).await;
        Ok(pid)
    }

    /// The new process accepts: nothing can go wrong for clients any more.
    async fn let_go(
        &mut self,
        channel: &Channel,
        teller: Teller,
        pid: u32,
        unwanted: &[SocketAddr],
    ) {
        self.sockets.give_up(&self.posts, unwanted);
        self.admin.leave();
        let store = self.store.take();
        let _ = spawn_blocking(move || store.map(crate::store::Store::stop)).await;
        service::tell_successor(pid);
        if let Err(error) = channel.tell(&Message::Farewell, Instant::now() + BOUNDS.1) {
            tracing::warn!(target: "lyncpin::server", %error, "the new process did not hear that everything is its own");
        }
        let (shared, runtime) = (self.shared.clone(), Handle::current());
        let thread = std::thread::Builder::new().name("upgrade".into());
        if let Err(error) = thread.spawn(move || teller.tell_uses(&shared, &runtime)) {
            tracing::warn!(target: "lyncpin::server", %error, "the new process does not hear which pins are in use here");
        }
    }
}

/// Tells the rest, and that the new process may accept; waits until it does.
fn commit(
    mut teller: Teller,
    channel: &Channel,
    snapshot: &Arc<crate::snapshot::Snapshot>,
    deadline: Instant,
) -> Result<Teller, String> {
    let told = teller
        .tell_rest(snapshot, deadline)
        .and_then(|()| channel.tell(&Message::Commit, deadline));
    match told.and_then(|()| channel.next_message(deadline)) {
        Ok(Message::Serving) => Ok(teller),
        Ok(Message::Failed(why)) => Err(why),
        Ok(_) => Err("the new process does not keep to what was agreed".to_owned()),
        Err(WireError::Late) => Err(late(BOUNDS.1)),
        Err(error) => Err(error.to_string()),
    }
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
