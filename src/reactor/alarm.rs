//! How other threads reach a worker: one bell for all of its tasks.
//!
//! What happens outside of a worker and matters to its tasks is rare: a port opens or closes, a backend's connections
//! are recalled, the balancer stops. So there is no bell for each task; who rings has all of them look.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;

use rustix::event::{EventfdFlags, eventfd};

/// A worker's bell; as a [`std::task::Waker`] it serves every future that waits for another thread.
#[derive(Debug)]
pub struct Alarm {
    /// eventfd(2), which the worker's epoll watches.
    pub(super) descriptor: OwnedFd,
    rung: AtomicBool,
    ended: AtomicBool,
}

impl Alarm {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            descriptor: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            rung: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        })
    }

    /// Ends the worker's loop, in the middle of whatever its tasks do.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.ring();
    }

    fn ring(&self) {
        // It can only fail when it has been rung 2^64 times and not been heard.
        if !self.rung.swap(true, Ordering::AcqRel) {
            let _ = rustix::io::write(&self.descriptor, &1_u64.to_ne_bytes());
        }
    }

    /// To be called before the tasks look, so that whoever rings meanwhile is heard again.
    pub(super) fn hear(&self) {
        let _ = rustix::io::read(&self.descriptor, &mut [0; 8]);
        self.rung.swap(false, Ordering::AcqRel);
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}
