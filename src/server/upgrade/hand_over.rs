//! The predecessor's side of an upgrade.
//!
//! Owns the order: the successor is started and gets the whole state while this process serves clients; once it is ready,
//! this process stops accepting; once it accepts, this process lives on for its connections only. Must not know how a
//! message is sent. Invariant: until the successor reports that it accepts, an upgrade can be cancelled, and any failure
//! before that is reported and leaves this process as it was.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::PIN_TRANSFER_TIME;
use super::orders::{self, HandedOver};
use super::role::Role;
use super::state_transfer::{HandoffState, StateSender, send_pins_in_use};
use super::successor::{Successor, TAKE_OVER_TIME, in_thread, to_text};
use super::take_over::acquire_released;
use crate::admin::UpgradeError;
use crate::admin::view::Upgraded;
use crate::handoff::{
    AsyncChannel, Channel, DrainingProcess, DrainingReport, HandoffMessage, Program, WireError,
};
use crate::persistence::Store;
use crate::server::listeners::listen_state;
use crate::server::requests::{RequestOrigin, UpgradePermit};
use crate::server::running::Running;
use crate::server::systemd;
use crate::telemetry::metrics::definitions;
use crate::types::timestamp::Timestamp;

/// For the predecessor of this process to release the store, before an upgrade of this one.
const RELEASE_TIME: Duration = Duration::from_secs(30);
/// For accept loops to end.
const ACCEPT_LOOPS_END: Duration = Duration::from_secs(2);

/// The successor accepts clients; what is left to send to it.
struct Accepted {
    pid: u32,
    channel: Channel,
    sender: StateSender,
    /// The successor sends orders to this process here.
    orders: AsyncChannel,
    /// Addresses that it does not have.
    unwanted: Vec<SocketAddr>,
}

/// Hands over to a new process, or goes on unchanged. Returns the channel on which the new process sends orders.
pub(in crate::server) async fn hand_over(
    running: &mut Running,
    by: &RequestOrigin,
    permit: &UpgradePermit,
) -> Result<(Upgraded, HandedOver), UpgradeError> {
    let program = running.program.clone()?;
    let (by, from) = (by.as_str(), by.from());
    tracing::info!(target: "lyncpin::server", by, from, program = %program.path.display(), "an upgrade begins");
    let stop = running.state.proxy.stop.clone();
    let waiting = timeout(RELEASE_TIME, wait_for_release(running));
    let _ = stop.run_until_cancelled(waiting).await;
    let transferred = stop
        .run_until_cancelled(transfer(running, &program, permit))
        .await;
    if !matches!(transferred, Some(Ok(_))) && permit.progress().is_handing_over() {
        resume(running);
    }
    match transferred {
        None => Err(UpgradeError::Stopping),
        Some(Ok(accepted)) => {
            let pid = accepted.pid;
            // Completed also during a stop: the new process serves and has to get everything.
            let handed_over = complete(running, accepted).await;
            let proxy = &running.state.proxy;
            let connections = proxy.limits.connections().into();
            let drain = proxy.snapshot.load().config.timeouts.drain;
            tracing::info!(target: "lyncpin::server", by, from, pid, connections, drain_seconds = drain.as_secs(), "a new process has taken over; this one drains its connections");
            let upgraded = Upgraded {
                at: Timestamp(SystemTime::now()),
                pid,
                connections,
                drain_seconds: drain.as_secs_f64(),
            };
            Ok((upgraded, handed_over))
        }
        Some(Err(why)) => {
            let registry = &running.state.proxy.registry;
            registry
                .counter(&definitions::UPGRADES, &["failed"])
                .increment(1);
            tracing::error!(target: "lyncpin::server", by, from, why, "the upgrade has failed, and this process goes on");
            Err(UpgradeError::Failed(why))
        }
    }
}

/// Waits until the predecessor of this process has released what only one process can have.
async fn wait_for_release(running: &mut Running) {
    while *running.role.borrow() == Role::TakingOver {
        let Some(predecessor) = &mut running.predecessor else {
            return;
        };
        if !predecessor.may_release() {
            return;
        }
        predecessor.released().await;
        acquire_released(running).await;
    }
}

/// Everything until the successor accepts clients.
async fn transfer(
    running: &mut Running,
    program: &Program,
    permit: &UpgradePermit,
) -> Result<Accepted, String> {
    permit.start_transfer();
    let progress = permit.progress().clone();
    in_thread(move || {
        progress.wait_for_pin_changes();
        Ok(())
    })
    .await?;
    let (orders, theirs) = Channel::pair().map_err(to_text)?;
    let orders = AsyncChannel::new(orders).map_err(to_text)?;
    let state = handoff_state(running, theirs).map_err(to_text)?;
    let (mut successor, channel) = Successor::start(program)?;
    let snapshot = running.state.proxy.snapshot.load_full();
    let sending = successor.send_state(&channel, state, snapshot.clone());
    let (sender, unwanted) = sending.await?;
    permit.start_handover();
    suspend(running).await;
    let committing = successor.commit(&channel, sender, snapshot, reports(running));
    let sender = committing.await?;
    Ok(Accepted {
        pid: successor.pid(),
        channel,
        sender,
        orders,
        unwanted,
    })
}

/// What the successor gets beside backends and pins. It sends orders to this process on `theirs`.
fn handoff_state(running: &Running, theirs: Channel) -> std::io::Result<HandoffState> {
    let state = &running.state;
    let mut predecessors = state.predecessors.channels()?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let this = DrainingProcess {
        pid: std::process::id(),
        since: u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(u64::MAX),
    };
    predecessors.push((this, theirs));
    Ok(HandoffState {
        secret: running.secret.clone(),
        ports: state.sockets.all(),
        admin: running.admin.sockets()?,
        predecessors,
        reports: reports(running),
    })
}

/// What draining processes hold, and what this one is about to hold as one of them.
fn reports(running: &Running) -> Vec<DrainingReport> {
    let state = &running.state;
    let drain = state.proxy.snapshot.load().config.timeouts.drain;
    let mut reports = state.predecessors.reports();
    reports.push(DrainingReport {
        pid: std::process::id(),
        age: 0,
        report: orders::report(state, drain),
    });
    reports
}

/// Stops accepting clients and admin connections, and stops listening to older processes.
async fn suspend(running: &mut Running) {
    let ending = running.state.sockets.suspend();
    running.admin.pause();
    running.state.predecessors.pause();
    let ended = async {
        for accept_loops in &ending {
            accept_loops.closed().await;
        }
    };
    let _ = timeout(ACCEPT_LOOPS_END, ended).await;
}

/// Undoes [`suspend`].
fn resume(running: &mut Running) {
    let state = &running.state;
    state.sockets.resume(&running.workers);
    running.admin.resume();
    listen_state::apply(state);
    state.predecessors.serve(&state.proxy);
}

/// The successor accepts, and no failure can reach clients any more: releases what only one process can have.
async fn complete(running: &mut Running, accepted: Accepted) -> HandedOver {
    let Accepted {
        pid,
        channel,
        sender,
        orders,
        unwanted,
    } = accepted;
    let state = running.state.clone();
    state
        .sockets
        .release_to_successor(&running.workers, &unwanted);
    running.admin.keep_files();
    let pins = state.predecessors.release();
    let following = running.predecessor.take();
    let stop = state.proxy.stop.clone();
    state.tasks.spawn(async move {
        // Until then the older processes have reported to the successor which pins their connections use.
        stop.run_until_cancelled(sleep(PIN_TRANSFER_TIME)).await;
        if let Some(following) = following {
            following.stop.cancel();
        }
        drop(pins);
    });
    let store = running.store.take();
    let _ = spawn_blocking(move || store.map(Store::stop)).await;
    systemd::notify_main_pid(pid);
    match send_complete(channel).await {
        Ok(channel) => {
            let proxy = Arc::clone(&state.proxy);
            let sending = send_pins_in_use(sender.into_sent(), channel, proxy);
            state.tasks.spawn(sending);
        }
        Err(error) => {
            tracing::warn!(target: "lyncpin::server", %error, "could not report to the new process that the handover is complete");
        }
    }
    HandedOver {
        channel: orders,
        successor: pid,
    }
}

async fn send_complete(channel: Channel) -> Result<AsyncChannel, WireError> {
    let channel = AsyncChannel::new(channel).map_err(WireError::Io)?;
    let complete = HandoffMessage::Farewell.packet()?;
    let sent = timeout(TAKE_OVER_TIME, channel.send(&complete)).await;
    sent.unwrap_or(Err(WireError::Timeout)).map(|()| channel)
}
