//! Announcing changes of backends.
//!
//! Owns the subscribers. Must not know what changed: a subscriber reads the state itself. Invariant: a change is announced after
//! it was written.

use std::sync::Mutex;
use std::task::Waker;
use std::time::Instant;

use tokio::sync::watch;

use super::lock;

/// Announces changes of backends to the tasks that depend on which backends can serve, and to the workers whose connections are
/// ended.
#[derive(Debug)]
pub struct Availability {
    changes: watch::Sender<u64>,
    workers: Mutex<Vec<Waker>>,
    /// The start of the clock for returns.
    pub(super) started: Instant,
}

impl Default for Availability {
    fn default() -> Self {
        Self {
            changes: watch::Sender::default(),
            workers: Mutex::default(),
            started: Instant::now(),
        }
    }
}

impl Availability {
    /// A receiver that is notified of every change; the number has no meaning.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Registers `worker` to be woken when connections are ended; its relays then read
    /// [`BackendPermit::disconnect_reason`](super::BackendPermit::disconnect_reason).
    pub fn register_worker(&self, worker: Waker) {
        lock(&self.workers).push(worker);
    }

    /// Notifies all subscribers of a change that does not concern a single backend.
    pub fn announce(&self) {
        self.changed();
    }

    pub(super) fn changed(&self) {
        self.changes
            .send_modify(|version| *version = version.wrapping_add(1));
    }

    /// Wakes all workers, so that their relays check whether the balancer ends them.
    pub fn wake_workers(&self) {
        for worker in lock(&self.workers).iter() {
            worker.wake_by_ref();
        }
    }
}
