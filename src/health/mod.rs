//! Owns the monitoring of backends: their addresses, their health, and what happens when these change.
//!
//! Must not know listeners, sessions or pins: it writes a backend's health and address and ends its connections. Must not know
//! more of administration than [`AdminState`](crate::types::backend_state::AdminState).
//!
//! Invariant: one task, `HealthMonitor`, is the only writer of the health, address and check reports of all backends; the tasks
//! that run checks and resolve names only send it events. All of them end when the [`Monitor`] is dropped.
//!
//! | file | owns |
//! |---|---|
//! | `monitor` | which checks run and which names are resolved, each once, and which backends get the results |
//! | `monitored` | one backend: its address, the results of its checks, and the changes of its health |
//! | `damping` | flap damping |
//! | `rise_fall` | rise, fall, and the combination of several checks |
//! | `schedule` | when a check runs |
//! | `probe` | one check: the request to a server and the result |
//! | `resolver` | the addresses of names |
//! | `events` | the recent health changes |

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::config::model::{self, OnDown};
use crate::protocol::proxy::HeaderFormat;
use crate::snapshot::Snapshot;
use crate::upstream::backend::Backend;

mod damping;
mod events;
mod monitor;
mod monitored;
mod probe;
mod resolver;
mod rise_fall;
mod schedule;

pub use events::{HealthChangeEvent, HealthEvents, MAX_EVENTS};
pub use monitored::BACK_EARLY;
pub use resolver::{LookupFn, Resolver};

/// The log target of this module.
const LOG: &str = "lyncpin::health";

/// A pool whose backends are monitored.
#[derive(Debug, Clone)]
pub struct MonitoredPool {
    /// All of its backends.
    pub backends: Vec<Arc<Backend>>,
    /// `None`: a backend is up once its name is resolved.
    pub health: Option<model::HealthSettings>,
    /// What happens to the connections of a backend whose checks fail.
    pub on_down: OnDown,
    /// The PROXY header of connections to its backends; checks of the traffic port send the form for local connections.
    pub proxy_header: Option<HeaderFormat>,
}

impl MonitoredPool {
    /// All pools of a snapshot.
    #[must_use]
    pub fn all(snapshot: &Snapshot) -> Vec<Self> {
        let pools = snapshot.config.pools.iter().zip(&snapshot.pools);
        pools
            .map(|(config, pool)| Self {
                backends: pool.backends.clone(),
                health: config.health.clone(),
                on_down: config.on_down,
                proxy_header: config.send_proxy_protocol,
            })
            .collect()
    }
}

/// The running monitoring; ends when this is dropped.
#[derive(Debug)]
pub struct Monitor {
    pools: watch::Sender<Vec<MonitoredPool>>,
    events: events::HealthEvents,
    tasks: TaskTracker,
    stop: DropGuard,
}

impl Monitor {
    /// Starts to monitor `pools` on `runtime`. `availability` announces changes of backends, for example a return from
    /// maintenance.
    #[must_use]
    pub fn start(
        runtime: &Handle,
        pools: Vec<MonitoredPool>,
        resolver: Resolver,
        availability: watch::Receiver<u64>,
    ) -> Self {
        let (sender, receiver) = watch::channel(pools);
        let events = events::HealthEvents::default();
        let tasks = TaskTracker::new();
        let token = CancellationToken::new();
        let monitor =
            monitor::HealthMonitor::new(resolver, events.clone(), tasks.clone(), token.clone());
        tasks.spawn_on(monitor.run(receiver, availability), runtime);
        tasks.close();
        Self {
            pools: sender,
            events,
            tasks,
            stop: token.drop_guard(),
        }
    }

    /// Monitors `pools` from now on. A backend that was monitored before (the same `Arc`) keeps its health, and checks with the
    /// same request keep their results.
    pub fn update(&self, pools: Vec<MonitoredPool>) {
        // Fails only if the task has panicked, which is logged.
        let _ = self.pools.send(pools);
    }

    /// The last [`MAX_EVENTS`] health changes, the oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<HealthChangeEvent> {
        self.events.all()
    }

    /// A handle to these changes that outlives the monitoring.
    #[must_use]
    pub fn events_handle(&self) -> HealthEvents {
        self.events.clone()
    }

    /// Stops the monitoring and waits for all of its tasks.
    pub async fn stop(self) {
        drop(self.stop);
        self.tasks.wait().await;
    }
}
