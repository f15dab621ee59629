//! How other threads reach a worker: one bell for all of its tasks.
//!
//! What happens outside of a worker and matters to its tasks is rare: a port opens or closes, a backend's connections
//! are recalled, the balancer stops. So there is no bell for each task; who rings has all of them look. Who only asks
//! whether the loop still turns has none of them look.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Wake;

use rustix::event::{EventfdFlags, eventfd};

/// A worker's bell; as a [`std::task::Waker`] it serves every future that waits for another thread.
#[derive(Debug)]
pub struct Notifier {
    /// eventfd(2), which the worker's epoll watches.
    pub(super) descriptor: OwnedFd,
    rung: AtomicBool,
    ended: AtomicBool,
    /// How often the loop has heard, whatever it was.
    heard: AtomicU64,
}

impl Notifier {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            descriptor: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            rung: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            heard: AtomicU64::new(0),
        })
    }

    /// Asks the loop for a sign of life: [`Notifier::heard`] grows when it next looks at its sockets, for which it must have
    /// come back from whatever its tasks do. It costs that one look, and no task is polled.
    pub fn ask(&self) {
        self.write();
    }

    /// Grows with each look at the sockets that found the bell rung or the question asked.
    #[must_use]
    pub fn heard(&self) -> u64 {
        self.heard.load(Ordering::Acquire)
    }

    /// Ends the worker's loop, in the middle of whatever its tasks do.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.ring();
    }

    fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.write();
        }
    }

    fn write(&self) {
        // It can only fail when that was done 2^64 times and not been heard.
        let _ = rustix::io::write(&self.descriptor, &1_u64.to_ne_bytes());
    }

    /// Whether the tasks have to look. To be called before they do, so that whoever rings meanwhile is heard again.
    pub(super) fn hear(&self) -> bool {
        let _ = rustix::io::read(&self.descriptor, &mut [0; 8]);
        self.heard.fetch_add(1, Ordering::AcqRel);
        self.rung.swap(false, Ordering::AcqRel)
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

impl Wake for Notifier {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}
