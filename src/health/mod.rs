//! Owns the watch over backends: where they are, whether they are up, and what is said and done when that changes.
//!
//! Must not know listeners, sessions or pins: it writes a backend's health and address, and recalls its connections; who
//! reads that is not its business. Must not know the administrator's wishes beyond [`AdminState`](crate::types::backend_state::AdminState).
//!
//! Invariant: one task, the keeper, is the only writer of every backend's health, address and check reports; the tasks
//! that make checks and resolve names only send it news. All of them end when the [`Monitor`] is dropped.
//!
//! | file | owns |
//! |---|---|
//! | `monitor` | which checks are made and names resolved, each once, and who hears of the news |
//! | `monitored` | one backend: what news do to its health, and what is logged, shown and recalled |
//! | `damping` | for how long a backend that falls again and again is kept out |
//! | `rise_fall` | rise, fall, and the sum of several checks |
//! | `schedule` | when a check is made |
//! | `probe` | what is asked of a server and what it answered |
//! | `resolver` | addresses of names |
//! | `events` | the last ups and downs |

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::config::model::{self, OnDown};
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

pub use events::{HealthChangeEvent, HealthEvents, KEPT};
pub use resolver::{Resolver, TestResolver};

/// Where the log events of this module go.
const LOG: &str = "lyncpin::health";

/// A pool whose backends are to be watched.
#[derive(Debug, Clone)]
pub struct WatchedPool {
    /// All of its backends.
    pub backends: Vec<Arc<Backend>>,
    /// `None`: a backend is up as soon as its name is resolved.
    pub health: Option<model::HealthSettings>,
    /// What becomes of a backend's connections when its checks fail.
    pub on_down: OnDown,
}

impl WatchedPool {
    /// All pools of a snapshot.
    #[must_use]
    pub fn all(snapshot: &Snapshot) -> Vec<Self> {
        let pools = snapshot.config.pools.iter().zip(&snapshot.pools);
        pools
            .map(|(config, pool)| Self {
                backends: pool.backends.clone(),
                health: config.health.clone(),
                on_down: config.on_down,
            })
            .collect()
    }
}

/// The running watch; it ends when this is dropped.
#[derive(Debug)]
pub struct Monitor {
    pools: watch::Sender<Vec<WatchedPool>>,
    events: events::HealthEvents,
    tasks: TaskTracker,
    stop: DropGuard,
}

impl Monitor {
    /// Begins to watch `pools` on `runtime`. `availability` is what the backends announce their changes to: by it the
    /// watch learns that a backend has come back from maintenance.
    #[must_use]
    pub fn start(
        runtime: &Handle,
        pools: Vec<WatchedPool>,
        resolver: Resolver,
        availability: watch::Receiver<u64>,
    ) -> Self {
        let (sender, receiver) = watch::channel(pools);
        let events = events::HealthEvents::default();
        let tasks = TaskTracker::new();
        let token = CancellationToken::new();
        let keeper =
            monitor::HealthMonitor::new(resolver, events.clone(), tasks.clone(), token.clone());
        tasks.spawn_on(keeper.run(receiver, availability), runtime);
        tasks.close();
        Self {
            pools: sender,
            events,
            tasks,
            stop: token.drop_guard(),
        }
    }

    /// Watches `pools` from now on. A backend that was watched before (the same `Arc`) keeps its health, and those of its
    /// checks that ask the same keep what they have seen.
    pub fn update(&self, pools: Vec<WatchedPool>) {
        // Nobody receives only after a panic of the keeper, which is in the log.
        let _ = self.pools.send(pools);
    }

    /// The last [`KEPT`] ups and downs, the oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<HealthChangeEvent> {
        self.events.all()
    }

    /// A view of those ups and downs that outlives the watch.
    #[must_use]
    pub fn record(&self) -> HealthEvents {
        self.events.clone()
    }

    /// Ends the watch and waits until the last of its tasks is gone.
    pub async fn stop(self) {
        drop(self.stop);
        self.tasks.wait().await;
    }
}
