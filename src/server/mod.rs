//! The assembly: starts, owns and stops every task.
//!
//! Owns the start, the supervisor and the stop. Must not know the bytes of a connection. Invariants: the supervisor alone
//! takes reloads, upgrades and the stop, and owns by value what they change; when [`Server::stop`] returns, no task, thread
//! or socket of the balancer is left.

mod affinity;
mod control;
mod descriptors;
mod drains;
mod explain;
mod listeners;
mod reload;
mod requests;
mod running;
mod shared;
mod start;
mod stop;
mod store;
mod supervisor;
mod sweep;
mod systemd;
mod upgrade;
mod workers;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::model::Config;
use crate::telemetry::log::Log;
use crate::telemetry::metrics::Registry;
pub use explain::explain_offline;
pub use listeners::{AdminListenerError, ListenError};
pub use reload::watch::WatchedFile;
pub use requests::{RequestOrigin, SupervisorHandle};
use shared::SharedState;
pub use start::error::StartError;
pub use start::{ConfigSource, PreparedServer};
use stop::StopDeadline;
use supervisor::Finished;
pub use upgrade::drain::{DrainedServer, DrainingServer};
pub use upgrade::handoff::{Handoff, HandoffRejection};
pub use upgrade::orders::SuccessorStatus;
pub use upgrade::role::Role;
use workers::Workers;

/// The addresses that each listener is bound to, by its name.
pub type Addresses = Vec<(Arc<str>, Vec<SocketAddr>)>;

/// A running balancer.
pub struct Server {
    state: Arc<SharedState>,
    /// Not the supervisor's: a stop waits for connections also while the supervisor completes a handover.
    workers: Workers,
    handle: SupervisorHandle,
    /// Returns what the supervisor owned when the balancer stops or has handed over.
    supervisor: JoinHandle<Finished>,
    role: watch::Receiver<Role>,
}

impl Server {
    /// Binds every address, then starts everything on the current runtime and on worker threads.
    ///
    /// # Errors
    ///
    /// An address that cannot be bound, or a thread that cannot be started; nothing is left running.
    pub fn start(
        config: Config,
        log: Arc<Log>,
        registry: Registry,
        source: ConfigSource,
    ) -> Result<Self, StartError> {
        Self::start_prepared(PreparedServer::bind(None, config)?, log, registry, source)
    }

    /// Starts what is prepared, without waiting for a file system. With a predecessor nothing is accepted before that
    /// process has handed over.
    ///
    /// # Errors
    ///
    /// What the predecessor sent wrongly, or a thread that cannot be started; nothing is left running.
    pub fn start_prepared(
        prepared: PreparedServer,
        log: Arc<Log>,
        registry: Registry,
        source: ConfigSource,
    ) -> Result<Self, StartError> {
        prepared.restore(log, registry)?.spawn(source)
    }

    /// The addresses that each listener is bound to.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        let snapshot = self.state.proxy.snapshot.load();
        let listeners = snapshot.listeners.iter().map(|listener| &listener.config);
        let bound = |binds: &[SocketAddr]| self.state.sockets.bound(binds);
        listeners
            .map(|listener| (listener.name.clone(), bound(&listener.bind)))
            .collect()
    }

    /// Sends requests to the supervisor.
    #[must_use]
    pub fn supervisor_handle(&self) -> &SupervisorHandle {
        &self.handle
    }

    /// The role of this process among those of the same balancer.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role.borrow().clone()
    }

    /// Completes when this process no longer serves although it was not asked to stop; returns its role then.
    pub async fn serving_ended(&self) -> Role {
        let mut role = self.role.clone();
        let decided = role
            .wait_for(|role| !matches!(role, Role::TakingOver | Role::Serving))
            .await;
        match decided.map(|role| role.clone()) {
            Ok(role) => role,
            Err(_) => std::future::pending().await,
        }
    }

    /// Stops. The kernel's accept queues are still served, connections get `timeouts.shutdown` to end and are then reset;
    /// older processes are ordered to do the same. `at_once` cuts that short. Returns a process if the stop came too late to
    /// cancel an upgrade: the new process serves.
    pub async fn stop(self, at_once: impl Future<Output = ()>) -> Option<DrainedServer> {
        let shutdown = self.state.proxy.snapshot.load().config.timeouts.shutdown;
        let mut deadline = StopDeadline::new(at_once);
        stop::end_connections(&self.state, self.workers, &mut deadline, shutdown).await;
        let finished = stop::join(self.supervisor, &mut deadline).await?;
        stop::finish(finished.running, &mut deadline).await;
        finished.handed_over.map(DrainedServer::new)
    }

    /// Drains the connections of this process, after another one has taken over. `stays` says that this process lives on
    /// without a connection, for as long as any process serves.
    pub async fn drain(self, stays: bool) -> DrainingServer {
        DrainingServer::start(self, stays).await
    }
}
