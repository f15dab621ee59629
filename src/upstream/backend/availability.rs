//! Where changes of backends are announced.
//!
//! Owns who is told. Must not know what has changed: whoever is told looks. Invariant: a change is announced after it has
//! been written.

use std::sync::Mutex;
use std::task::Waker;
use std::time::Instant;

use tokio::sync::watch;

use super::lock;

/// Announces what happens to backends: to the tasks that follow what can serve, and to the workers whose connections are
/// recalled.
#[derive(Debug)]
pub struct Availability {
    changes: watch::Sender<u64>,
    workers: Mutex<Vec<Waker>>,
    /// What the times of returns are counted from.
    pub(super) began: Instant,
}

impl Default for Availability {
    fn default() -> Self {
        Self {
            changes: watch::Sender::default(),
            workers: Mutex::default(),
            began: Instant::now(),
        }
    }
}

impl Availability {
    /// Sees every change of what can serve; the number means nothing.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Has `worker` woken when connections are recalled; its relays then ask [`BackendPermit::recalled`](super::BackendPermit::recalled).
    pub fn tell_of_recalls(&self, worker: Waker) {
        lock(&self.workers).push(worker);
    }

    /// Has everyone look again at what can serve: something has changed that is no backend's own.
    pub fn announce(&self) {
        self.changed();
    }

    pub(super) fn changed(&self) {
        self.changes
            .send_modify(|version| *version = version.wrapping_add(1));
    }

    /// Has the relays of every worker ask whether they are recalled.
    pub fn wake_workers(&self) {
        for worker in lock(&self.workers).iter() {
            worker.wake_by_ref();
        }
    }
}
