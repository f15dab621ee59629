//! The supervisor: one task that owns what runs.
//!
//! Owns [`Running`] by value, and takes requests one after the other: a reload, an upgrade, a stop. Must not know how any of
//! them is done. Invariants: nothing else changes what it owns; when it ends, it returns all of it to the stop.

use tokio_util::sync::CancellationToken;

use super::reload;
use super::requests::{Request, RequestOrigin, Requests, UpgradePermit, UpgradeReply};
use super::running::Running;
use super::upgrade::hand_over::hand_over;
use super::upgrade::orders::HandedOver;
use super::upgrade::role::Role;
use super::upgrade::take_over;
pub(super) use super::upgrade::take_over::FirstStep;

/// What the supervisor returns when it ends.
pub(super) struct Finished {
    pub(super) running: Running,
    /// The channel to the process that took over, if one has.
    pub(super) handed_over: Option<HandedOver>,
}

enum SupervisorEvent {
    Request(Option<Request>),
    /// The predecessor has released what only one process can have.
    Released,
}

/// Takes requests until the balancer stops or has handed over.
pub(super) async fn run(
    mut running: Running,
    mut requests: Requests,
    first: FirstStep,
) -> Finished {
    let stop = running.state.proxy.stop.clone();
    let handed_over = serve(&mut running, &mut requests, first, &stop).await;
    if stop.is_cancelled() {
        let shutdown = running.state.proxy.snapshot.load().config.timeouts.shutdown;
        running.state.predecessors.stop(shutdown);
    }
    Finished {
        running,
        handed_over,
    }
}

async fn serve(
    running: &mut Running,
    requests: &mut Requests,
    first: FirstStep,
    stop: &CancellationToken,
) -> Option<HandedOver> {
    reload::register_metrics(&running.state.proxy.registry);
    let begun = stop.run_until_cancelled(take_over::begin(running, first));
    if let Some(Err(why)) = begun.await {
        tracing::error!(target: "lyncpin::server", why, "this process could not take over");
        running.role.send_replace(Role::Failed(why));
        return None;
    }
    while let Some(event) = stop.run_until_cancelled(next(running, requests)).await {
        match event {
            SupervisorEvent::Request(None) => return None,
            SupervisorEvent::Released => {
                let acquiring = take_over::acquire_released(running);
                stop.run_until_cancelled(acquiring).await;
            }
            SupervisorEvent::Request(Some(Request::Reload(by, reply))) => {
                let result = reload::reload(running, &by).await;
                // The caller may have gone; the log has the result as well.
                let _ = reply.map(|reply| reply.send(result));
            }
            SupervisorEvent::Request(Some(Request::Upgrade(by, reply, permit))) => {
                if let Some(handed_over) = upgrade(running, &by, reply, permit).await {
                    return Some(handed_over);
                }
            }
        }
    }
    None
}

async fn next(running: &mut Running, requests: &mut Requests) -> SupervisorEvent {
    let released = async {
        match &mut running.predecessor {
            Some(predecessor) => predecessor.released().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        request = requests.next() => SupervisorEvent::Request(request),
        () = released => SupervisorEvent::Released,
    }
}

/// Hands over and replies; on failure the permit is returned before the reply, so that the caller can try again at once.
async fn upgrade(
    running: &mut Running,
    by: &RequestOrigin,
    reply: Option<UpgradeReply>,
    permit: UpgradePermit,
) -> Option<HandedOver> {
    let (upgraded, handed_over) = match hand_over(running, by, &permit).await {
        Ok(done) => done,
        Err(error) => {
            drop(permit);
            let _ = reply.map(|reply| reply.send(Err(error)));
            return None;
        }
    };
    permit.finish();
    let _ = reply.map(|reply| reply.send(Ok(upgraded)));
    // Requests that are being served still get their response; every other client reaches the new process.
    running.admin.stop().await;
    running.role.send_replace(Role::Draining);
    Some(handed_over)
}
