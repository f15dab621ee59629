//! The signals that a balancer knows.
//!
//! Owns which are caught. Knows nothing of what they bring about, but for a reload and an upgrade, which it asks for.
//! Invariant: they are caught from before the balancer listens.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::Failure;
use crate::server::{Reloads, RequestOrigin};

/// The signals that a balancer knows, caught from before it listens.
pub(super) struct Signals {
    stop: [Signal; 2],
    /// Whoever catches it gets an error of the write, and not the end of the process (setrlimit(2), RLIMIT_FSIZE).
    _file_too_large: Signal,
    /// Whoever sends it to have logs rotated, as other servers take it, ends nothing (signal(7)).
    _user1: Signal,
    hangup: Signal,
    user2: Signal,
}

impl Signals {
    /// Catches them from now on.
    pub(super) fn catch() -> Result<Self, Failure> {
        let catch = |kind| {
            signal(kind)
                .map_err(|error| Failure::answer("signals cannot be caught").because(&error))
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

    /// Completes at SIGTERM or SIGINT. The other signals wait.
    pub(super) async fn stopped(&mut self) {
        let [terminate, interrupt] = &mut self.stop;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }

    /// Completes when this process is to stop; meets the other signals meanwhile.
    pub(super) async fn told_to_stop(&mut self, reloads: &Reloads) {
        let [terminate, interrupt] = &mut self.stop;
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                _ = self.hangup.recv() => reloads.request(RequestOrigin::Signal),
                _ = self.user2.recv() => reloads.request_upgrade(RequestOrigin::Signal),
            }
        }
    }
}
