//! The process that is to take over, until it has.
//!
//! Owns the child process and the waits for its replies. Must not know what the state consists of. Invariant: a successor
//! that has not taken over is killed and waited for before this process accepts again.

use std::net::SocketAddr;
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::state_transfer::{HandoffState, StateSender};
use crate::handoff::{Channel, DrainingReport, HandoffMessage, Program, WireError, launch};
use crate::snapshot::Snapshot;

/// From the start of the successor until it is ready.
const READY_TIME: Duration = Duration::from_secs(30);
/// From the commit until the successor accepts, and for the last message to it.
pub(super) const TAKE_OVER_TIME: Duration = Duration::from_secs(10);

/// How often, and how often at most, the exit status is polled after the channel has closed.
const EXIT_POLL_INTERVAL: Duration = Duration::from_millis(20);
const EXIT_POLLS: u32 = 50;

/// A successor that has not taken over: killed when dropped.
pub(super) struct Successor {
    child: Child,
    has_taken_over: bool,
}

impl Successor {
    /// Starts `program`, with a channel to it.
    pub(super) fn start(program: &Program) -> Result<(Self, Channel), String> {
        let (child, channel) = launch::launch(program)
            .map_err(|error| format!("cannot start {}: {error}", program.path.display()))?;
        let successor = Self {
            child,
            has_taken_over: false,
        };
        Ok((successor, channel))
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends everything that can be sent while clients are served, and waits until the successor is ready. Returns the
    /// addresses that it does not have.
    pub(super) async fn send_state(
        &mut self,
        channel: &Channel,
        state: HandoffState,
        snapshot: Arc<Snapshot>,
    ) -> Result<(StateSender, Vec<SocketAddr>), String> {
        let sender = StateSender::new(channel.try_clone().map_err(to_text)?);
        let replies = channel.try_clone().map_err(to_text)?;
        let sent = in_thread(move || send_all(sender, &replies, &state, &snapshot)).await;
        match sent {
            Err(why) if why == WireError::Closed.to_string() => {
                Err(self.exit_reason().await.unwrap_or(why))
            }
            sent => sent,
        }
    }

    /// Sends what has changed since, and waits until the successor accepts clients.
    pub(super) async fn commit(
        &mut self,
        channel: &Channel,
        sender: StateSender,
        snapshot: Arc<Snapshot>,
        reports: Vec<DrainingReport>,
    ) -> Result<StateSender, String> {
        let deadline = Instant::now() + TAKE_OVER_TIME;
        let replies = channel.try_clone().map_err(to_text)?;
        let sender = in_thread(move || commit(sender, &replies, &snapshot, &reports, deadline));
        let sender = sender.await?;
        self.has_taken_over = true;
        Ok(sender)
    }

    /// Why the process has exited, if it has: its channel closes a moment before its status is known.
    async fn exit_reason(&mut self) -> Option<String> {
        for _ in 0..EXIT_POLLS {
            if let Some(status) = self.child.try_wait().ok()? {
                return Some(format!(
                    "the new process exited ({status}) before it was ready; see its messages in the log"
                ));
            }
            sleep(EXIT_POLL_INTERVAL).await;
        }
        None
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if !self.has_taken_over {
            // An error means that it is gone already.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn send_all(
    mut sender: StateSender,
    replies: &Channel,
    state: &HandoffState,
    snapshot: &Snapshot,
) -> Result<(StateSender, Vec<SocketAddr>), String> {
    let deadline = Instant::now() + READY_TIME;
    // It may fail before it has received everything: its own message is the better reason.
    let sent = sender.send_all(state, snapshot, deadline);
    match (replies.receive_message(deadline), sent) {
        (Ok(HandoffMessage::Ready(unwanted)), Ok(())) => Ok((sender, unwanted)),
        (Ok(HandoffMessage::Failed(why)), _) => Err(why),
        (Ok(_), _) => Err(unexpected()),
        (Err(WireError::Timeout), _) | (_, Err(WireError::Timeout)) => Err(timed_out(READY_TIME)),
        (Err(error), _) => Err(error.to_string()),
    }
}

fn commit(
    mut sender: StateSender,
    replies: &Channel,
    snapshot: &Snapshot,
    reports: &[DrainingReport],
    deadline: Instant,
) -> Result<StateSender, String> {
    let sent = sender
        .send_changes(snapshot, reports, deadline)
        .and_then(|()| replies.send_message(&HandoffMessage::Commit, deadline));
    match sent.and_then(|()| replies.receive_message(deadline)) {
        Ok(HandoffMessage::Serving) => Ok(sender),
        Ok(HandoffMessage::Failed(why)) => Err(why),
        Ok(_) => Err(unexpected()),
        Err(WireError::Timeout) => Err(timed_out(TAKE_OVER_TIME)),
        Err(error) => Err(error.to_string()),
    }
}

fn unexpected() -> String {
    "unexpected message from the new process".to_owned()
}

fn timed_out(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("the new process did not respond within {seconds} s")
}

#[allow(
    clippy::needless_pass_by_value,
    reason = "`map_err` passes it by value"
)]
pub(super) fn to_text(error: std::io::Error) -> String {
    error.to_string()
}

/// Runs blocking work on another thread than the control thread.
pub(super) async fn in_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(error.to_string()),
    }
}
