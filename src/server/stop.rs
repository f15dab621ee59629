//! A stop: end the connections, then what they need, and the affinity store last.
//!
//! Owns the order and the time that each step gets. Knows no signal. Invariants: a stop waits only within its bounds;
//! what is still running at the end of a bound is left out of the wait, and no step is skipped because an earlier one took
//! too long.

mod deadline;

use std::time::Duration;

use tokio::task::JoinHandle;

use super::running::Running;
use super::shared::SharedState;
use super::supervisor::Finished;
use super::workers::Workers;
use crate::system::files;
use crate::upstream::backend::Disconnect;
pub(super) use deadline::StopDeadline;

/// For sessions to write their last log line after they are ordered to end, and for each step of an immediate stop.
const LAST_LINES: Duration = Duration::from_secs(1);
/// For the tasks of the control thread to end. None of them waits for anything that long.
const TASKS_END: Duration = Duration::from_secs(5);
/// For the last replies of the admin listeners, and then for the affinity store. Each has a shorter bound of its own.
const LAST_STEPS: Duration = Duration::from_secs(11);

/// Ends the tasks, the accept loops and the connections, which get `shutdown` to end before they are reset.
pub(super) async fn end_connections(
    state: &SharedState,
    mut workers: Workers,
    deadline: &mut StopDeadline<'_>,
    shutdown: Duration,
) {
    state.proxy.stop.cancel();
    deadline.wait(TASKS_END, state.tasks.wait()).await;
    state.sockets.release();
    let in_force = state.proxy.snapshot.load();
    let connections = state.proxy.limits.connections();
    tracing::info!(target: "lyncpin::server", connections, "stopping");
    deadline.wait(shutdown, workers.ended()).await;
    for backend in in_force.backends().chain(&state.lingering.backends()) {
        backend.disconnect_all(Disconnect::Shutdown);
    }
    // A session that does not end within that time is dropped, which counts and logs it all the same.
    deadline.wait(LAST_LINES, workers.ended()).await;
    workers.stop();
}

/// Waits for the supervisor; `None` if it did not end in time or panicked.
pub(super) async fn join(
    supervisor: JoinHandle<Finished>,
    deadline: &mut StopDeadline<'_>,
) -> Option<Finished> {
    deadline.wait(LAST_STEPS, supervisor).await?.ok()
}

/// Stops what has to outlive the connections.
pub(super) async fn finish(running: Running, deadline: &mut StopDeadline<'_>) {
    let Running {
        state,
        health,
        mut admin,
        store,
        ..
    } = running;
    let last_replies = async {
        health.stop().await;
        admin.stop().await;
        state.predecessors.end().await;
    };
    deadline.wait(LAST_STEPS, last_replies).await;
    if let Some(store) = store {
        // Last: until here connections have ended and states have changed.
        let stopping = files::run_detached("store stop", move || store.stop());
        if deadline.wait(LAST_STEPS, stopping).await.is_none() {
            tracing::error!(target: "lyncpin::store", "affinity store: the stop did not wait for the disk; the last changes may be lost");
        }
    }
}
