//! Waking a worker from other threads.
//!
//! Owns the eventfd of a worker. Must not know tasks. Invariant: a notification that arrives while tasks run is not lost.
//!
//! Events outside a worker that matter to its tasks are rare: a port opens or closes, a backend's connections are ended, the
//! balancer stops. So there is one notifier for all tasks, and a notification polls all of them. A ping, which only checks
//! that the loop is alive, polls none.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Wake;

use rustix::event::{EventfdFlags, eventfd};

/// Wakes one worker; also the [`std::task::Waker`] of every future that waits for another thread.
#[derive(Debug)]
pub struct Notifier {
    /// eventfd(2), which the worker's epoll watches.
    pub(super) descriptor: OwnedFd,
    notified: AtomicBool,
    stopped: AtomicBool,
    /// How often the loop has been woken, by a notification or a ping.
    wakes: AtomicU64,
}

impl Notifier {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            descriptor: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            notified: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            wakes: AtomicU64::new(0),
        })
    }

    /// Pings the loop: [`Notifier::wake_count`] grows at its next epoll_wait, for which all tasks must have returned. This costs one
    /// wake-up and polls no task.
    pub fn ping(&self) {
        self.write();
    }

    /// Number of wake-ups by a notification or a ping.
    #[must_use]
    pub fn wake_count(&self) -> u64 {
        self.wakes.load(Ordering::Acquire)
    }

    /// Stops the worker's loop, even if it has tasks.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.notify();
    }

    fn notify(&self) {
        if !self.notified.swap(true, Ordering::AcqRel) {
            self.write();
        }
    }

    fn write(&self) {
        // Fails only after 2^64 writes without a read.
        let _ = rustix::io::write(&self.descriptor, &1_u64.to_ne_bytes());
    }

    /// Whether the tasks must be polled. To be called before they are, so that a notification meanwhile is not lost.
    pub(super) fn acknowledge(&self) -> bool {
        let _ = rustix::io::read(&self.descriptor, &mut [0; 8]);
        self.wakes.fetch_add(1, Ordering::AcqRel);
        self.notified.swap(false, Ordering::AcqRel)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}

impl Wake for Notifier {
    fn wake(self: Arc<Self>) {
        self.notify();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.notify();
    }
}
