//! The state that the tasks of a running balancer share.
//!
//! Owns no task. Must not know reloads, upgrades or the order of a stop. Invariant: whatever only one task may change is
//! not here, but owned by the supervisor.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use super::listeners::Sockets;
use super::reload::lingering::LingeringBackends;
use super::upgrade::predecessors::Predecessors;
use crate::proxy::acceptor::ProxyContext;
use crate::upstream::backend::Availability;

/// The state that the tasks of a running balancer share.
pub(super) struct SharedState {
    /// What the workers see of it as well: the snapshot in force, the limits, the log, the metrics and the stop.
    pub(super) proxy: Arc<ProxyContext>,
    /// Wakes up when a backend becomes available or unavailable.
    pub(super) availability: Arc<Availability>,
    pub(super) sockets: Sockets,
    /// What a reload removed while connections still use it.
    pub(super) lingering: LingeringBackends,
    /// Older processes that still have connections.
    pub(super) predecessors: Predecessors,
    /// Every task that ends when the balancer stops.
    pub(super) tasks: TaskTracker,
}
