//! The signals that a balancer handles.
//!
//! Owns the list of caught signals. Must not know their effects, except that it requests a reload or an upgrade. Invariant:
//! they are caught before the balancer listens.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::Failure;
use crate::server::{RequestOrigin, SupervisorHandle};

/// The signals that a balancer handles, caught before it listens.
pub(super) struct Signals {
    stop: [Signal; 2],
    /// When caught, the write fails with an error instead of the process being killed (setrlimit(2), RLIMIT_FSIZE).
    _file_too_large: Signal,
    /// Caught so that a signal for log rotation, as other servers use it, does not end the process (signal(7)).
    _user1: Signal,
    hangup: Signal,
    user2: Signal,
}

impl Signals {
    /// Starts catching them.
    pub(super) fn catch() -> Result<Self, Failure> {
        let catch = |kind| {
            signal(kind)
                .map_err(|error| Failure::operation("cannot catch signals").caused_by(&error))
        };
        Ok(Self {
            stop: [
                catch(SignalKind::terminate())?,
                catch(SignalKind::interrupt())?,
            ],
            _file_too_large: catch(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
            hangup: catch(SignalKind::hangup())?,
            _user1: catch(SignalKind::user_defined1())?,
            user2: catch(SignalKind::user_defined2())?,
        })
    }

    /// The next signal.
    pub(super) async fn next(&mut self) -> rustix::process::Signal {
        use rustix::process::Signal;
        let [terminate, interrupt] = &mut self.stop;
        tokio::select! {
            _ = terminate.recv() => Signal::TERM,
            _ = interrupt.recv() => Signal::INT,
            _ = self.hangup.recv() => Signal::HUP,
            _ = self.user2.recv() => Signal::USR2,
        }
    }

    /// Completes at SIGTERM or SIGINT. The other signals stay pending.
    pub(super) async fn stopped(&mut self) {
        let [terminate, interrupt] = &mut self.stop;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }

    /// Completes at SIGTERM or SIGINT; handles the other signals meanwhile.
    pub(super) async fn stop_requested(&mut self, reloads: &SupervisorHandle) {
        let [terminate, interrupt] = &mut self.stop;
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                _ = self.hangup.recv() => reloads.request_reload(RequestOrigin::Signal),
                _ = self.user2.recv() => reloads.request_upgrade(RequestOrigin::Signal),
            }
        }
    }
}
