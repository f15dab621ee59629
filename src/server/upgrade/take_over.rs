//! The successor's side of an upgrade, from the moment when everything is built.
//!
//! Owns the order: this process reports that it is ready, waits for the predecessor's commit, opens the ports, serves the
//! admin listeners, then acquires what only one process can have. Must not know how a message is sent. Invariants: a failure
//! before the ports are open ends this process and has no other effect; the affinity store is opened by the supervisor
//! only.

use std::net::SocketAddr;

use super::handoff::Handoff;
use super::role::Role;
use crate::config::model::AffinityStore;
use crate::persistence::{OpenError, OpenedStore};
use crate::server::listeners::{PreparedAdminListeners, listen_state};
use crate::server::running::Running;
use crate::system::files;
use crate::telemetry::metrics::definitions;

/// How the supervisor starts: it takes over from another process, if there is one, and serves the admin listeners.
pub(in crate::server) struct FirstStep {
    /// What is received from the predecessor, and the addresses that are not configured any more.
    pub(in crate::server) take_over: Option<(Handoff, Vec<SocketAddr>)>,
    pub(in crate::server) admin: PreparedAdminListeners,
}

impl FirstStep {
    /// The role of this process before the step.
    pub(in crate::server) fn role(&self) -> Role {
        match &self.take_over {
            Some(_) => Role::TakingOver,
            None => Role::Serving,
        }
    }
}

/// Takes over from the predecessor, if there is one, and serves the admin listeners.
pub(in crate::server) async fn begin(
    running: &mut Running,
    first: FirstStep,
) -> Result<(), String> {
    let state = running.state.clone();
    let follower = match first.take_over {
        Some((handoff, unwanted)) => {
            let waiting = handoff.wait(unwanted, &state.proxy, &state.predecessors);
            let follower = waiting.await.map_err(|error| error.to_string())?;
            state.sockets.activate();
            listen_state::apply(&state);
            // First the older processes: a later successor of this one reaches them after this message.
            state.predecessors.serve(&state.proxy);
            follower.send_serving();
            Some(follower)
        }
        None => None,
    };
    running.admin.replace(first.admin);
    if let Some(follower) = follower {
        let registry = &state.proxy.registry;
        registry
            .counter(&definitions::UPGRADES, &["done"])
            .increment(1);
        tracing::info!(target: "lyncpin::server", "this process has taken over");
        running.predecessor = Some(follower.spawn(&state));
    }
    Ok(())
}

/// The predecessor has released what only one process can have. The snapshot in force decides where pins and states are
/// written; a store that a reload has opened meanwhile is kept.
pub(in crate::server) async fn acquire_released(running: &mut Running) {
    let snapshot = running.state.proxy.snapshot.load_full();
    if let (AffinityStore::File(path), None) = (&snapshot.config.affinity_store, &running.store) {
        let path = path.clone();
        let opened = files::run_detached("store open", move || OpenedStore::open(&path)).await;
        let opened = opened.unwrap_or_else(|error| Err(OpenError::Thread(error)));
        running.write_to(opened.map(|opened| opened.with_secret(running.secret.clone())));
    }
    running.role.send_if_modified(|role| {
        let waited = *role == Role::TakingOver;
        if waited {
            *role = Role::Serving;
        }
        waited
    });
}
