//! Following the predecessor after this process has taken over.
//!
//! Owns the channel to it, the pins that it holds, and the report that it has released the store. Must not know what is
//! done with the store. Invariant: a pin that the predecessor's connections use counts as in use until the predecessor
//! says otherwise or is gone.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::PIN_TRANSFER_TIME;
use super::foreign_pins::ForeignPins;
use super::predecessors::Predecessors;
use crate::handoff::{AsyncChannel, HandoffMessage, Received, WireError};
use crate::proxy::acceptor::ProxyContext;
use crate::server::shared::SharedState;

/// For the predecessor to release the store.
const RELEASE_TIME: Duration = Duration::from_secs(60);

/// The predecessor, as the supervisor sees it.
pub(in crate::server) struct FollowedPredecessor {
    /// `None` once no report can come any more.
    released: Option<mpsc::UnboundedReceiver<()>>,
    /// Ends the task that follows it.
    pub(super) stop: CancellationToken,
}

impl FollowedPredecessor {
    /// Completes when the predecessor has released what only one process can have; never, once no report can come.
    pub(in crate::server) async fn released(&mut self) {
        match &mut self.released {
            Some(released) => {
                if released.recv().await.is_none() {
                    self.released = None;
                }
            }
            None => std::future::pending().await,
        }
    }

    /// Whether a report can still come.
    pub(super) fn may_release(&self) -> bool {
        self.released.is_some()
    }
}

/// Follows the predecessor until it is gone.
pub(super) struct Follower {
    pub(super) channel: AsyncChannel,
    pub(super) pins: ForeignPins,
}

impl Follower {
    /// Reports that this process accepts clients.
    pub(super) fn send_serving(&self) {
        // The ports are open: if the predecessor cannot be reached, it is gone.
        let packet = HandoffMessage::Serving.packet();
        let _ = packet.and_then(|packet| self.channel.try_send(&packet));
    }

    /// Takes in changes until the predecessor commits.
    pub(super) async fn wait_for_commit(
        &mut self,
        proxy: &ProxyContext,
        predecessors: &Predecessors,
    ) -> Result<(), WireError> {
        loop {
            match self.next().await? {
                Received::Message(HandoffMessage::Commit, _) => return Ok(()),
                Received::Message(HandoffMessage::Reported(report), _) => {
                    predecessors.restore_report(report);
                }
                received @ (Received::Message(..) | Received::Pins(_)) => {
                    self.pins.apply(received, &proxy.snapshot.load_full())?;
                }
            }
        }
    }

    /// Follows the predecessor in a task of its own.
    pub(super) fn spawn(self, state: &Arc<SharedState>) -> FollowedPredecessor {
        let (report, released) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let followed = FollowedPredecessor {
            released: Some(released),
            stop: stop.clone(),
        };
        let shared = state.clone();
        state.tasks.spawn(async move {
            let proxy = &shared.proxy;
            let following = stop.run_until_cancelled(self.follow(proxy, &report));
            let Some(pins) = proxy.stop.run_until_cancelled(following).await.flatten() else {
                return;
            };
            tracing::info!(target: "lyncpin::server", "the old process has exited");
            if shared.predecessors.are_several() {
                // The older ones use some of these pins, and report them on their own.
                proxy
                    .stop
                    .run_until_cancelled(sleep(PIN_TRANSFER_TIME))
                    .await;
            }
            drop(pins);
        });
        followed
    }

    /// Follows which pins the predecessor's connections use until it is gone, and returns them. Reports when it has released
    /// the store: when it says so, when it is gone, and also when it takes too long.
    async fn follow(
        mut self,
        proxy: &ProxyContext,
        report: &mpsc::UnboundedSender<()>,
    ) -> ForeignPins {
        // An error means that the supervisor has stopped.
        let report_release = || {
            let _ = report.send(());
        };
        let mut waits = true;
        let mut late = pin!(sleep(RELEASE_TIME));
        loop {
            let received = tokio::select! {
                received = self.next() => received,
                () = &mut late, if waits => {
                    waits = false;
                    tracing::warn!(target: "lyncpin::server", "the old process does not release the affinity store");
                    report_release();
                    continue;
                }
            };
            let applied = match received {
                Ok(Received::Message(HandoffMessage::Farewell, _)) => {
                    waits = false;
                    report_release();
                    continue;
                }
                Ok(received) => self.pins.apply(received, &proxy.snapshot.load_full()),
                Err(error) => Err(error),
            };
            if let Err(error) = applied {
                if waits {
                    tracing::warn!(target: "lyncpin::server", %error, "the old process exited before it had completed the handover");
                    report_release();
                }
                return self.pins;
            }
        }
    }

    async fn next(&self) -> Result<Received, WireError> {
        Received::of(self.channel.receive().await?)
    }
}
