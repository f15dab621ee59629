//! Detecting a dead peer while bytes are pending for it.
//!
//! Owns when the send queue is checked. Must not know the bytes. Invariants: a peer that acknowledges is never given up,
//! however long it reads nothing (RFC 1122, 4.2.2.17); a socket is not checked if nothing was written to it since everything
//! was acknowledged, and no more often than every `tcp_user`, unless its peer is suspected dead.
//!
//! Without pending bytes the kernel's keepalive probes do this; they are not sent while bytes are pending.

use std::task::Poll;
use std::time::{Duration, Instant};

use crate::net::event_loop::Stream;
use crate::net::socket::{self, SendStatus};

/// Shortest time between two checks.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// How long a suspected peer has to acknowledge the last probe: the acknowledgement may be in flight.
const GRACE: Duration = Duration::from_secs(2);

/// The state of one peer.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    /// Number of bytes that the socket had accepted when all were known to be acknowledged.
    acknowledged: u64,
    /// `None` if nothing is pending. Boxed, because most connections are idle.
    overdue: Option<Box<AckTimer>>,
    /// The probe interval of the kernel has been shortened.
    fast_probes: bool,
    /// TCP_INFO is not available.
    unavailable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct AckTimer {
    /// When the peer last acknowledged, or had nothing to acknowledge.
    since: Instant,
    next_check: Instant,
    suspected: bool,
}

impl AckTimer {
    fn start(now: Instant, timeout: Duration) -> Self {
        Self {
            since: now,
            next_check: now + timeout,
            suspected: false,
        }
    }

    /// The state after a check; `None` if the peer is dead.
    fn after(self, status: SendStatus, now: Instant, timeout: Duration) -> Option<Self> {
        let acknowledged = now.checked_sub(status.silence).unwrap_or(self.since);
        let since = self.since.max(acknowledged);
        let is_late = now.saturating_duration_since(since) >= timeout;
        let next = |next_check: Instant, suspected| {
            Some(Self {
                since,
                next_check,
                suspected,
            })
        };
        match (is_late && status.is_unanswered, self.suspected) {
            (true, true) => None,
            (true, false) => next(now + GRACE, true),
            // Late but not probed yet: older kernels wait up to minutes between two probes.
            (false, _) if is_late => next(now + (timeout / 4).max(MIN_INTERVAL), false),
            (false, _) => next((since + timeout).max(now + MIN_INTERVAL), false),
        }
    }
}

impl Liveness {
    /// Ready when the peer of `to` has acknowledged nothing for `user` although bytes are pending; `moved` is the number of bytes
    /// that the socket has accepted so far.
    pub(super) fn poll(&mut self, to: &Stream, moved: u64, user: Duration) -> Poll<()> {
        if self.unavailable || (self.overdue.is_none() && moved == self.acknowledged) {
            return Poll::Pending;
        }
        let (event_loop, timeout) = (to.event_loop(), user.max(MIN_INTERVAL));
        let now = event_loop.now();
        let start = || Box::new(AckTimer::start(now, timeout));
        let timer = **self.overdue.get_or_insert_with(start);
        if event_loop.poll_deadline(timer.next_check).is_pending() {
            return Poll::Pending;
        }
        let Ok(status) = socket::send_status(to) else {
            self.unavailable = true;
            socket::set_user_timeout(to, user);
            return Poll::Pending;
        };
        if !status.has_pending {
            (self.acknowledged, self.overdue) = (moved, None);
            return Poll::Pending;
        }
        if status.is_blocked && !self.fast_probes {
            self.fast_probes = true;
            socket::limit_probe_interval(to, timeout / 2);
        }
        let Some(timer) = timer.after(status, now, timeout) else {
            return Poll::Ready(());
        };
        self.overdue = Some(Box::new(timer));
        // In the future: this only sets the deadline.
        let _ = event_loop.poll_deadline(timer.next_check);
        Poll::Pending
    }

    /// Called at the end of the relay; the kernel continues to send the pending bytes of `to`.
    pub(super) fn stop(&self, to: &Stream) {
        if self.fast_probes {
            socket::reset_probe_interval(to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);
    const NO_TIME: Duration = Duration::ZERO;

    fn status(is_unanswered: bool, silence: Duration) -> SendStatus {
        SendStatus {
            has_pending: true,
            is_blocked: true,
            is_unanswered,
            silence,
        }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_peer_that_acknowledges_is_never_given_up() {
        let start = Instant::now();
        let (mut timer, mut now) = (AckTimer::start(start, TIMEOUT), start);
        for silence in [NO_TIME, seconds(1), seconds(30), seconds(59)].repeat(50) {
            now = now.max(timer.next_check);
            // The last probe may be in flight.
            timer = timer.after(status(true, silence), now, TIMEOUT).unwrap();
            assert!(timer.next_check >= now + MIN_INTERVAL);
            assert_eq!(timer.since + silence, now.max(start + silence));
        }
    }

    #[test]
    fn a_late_acknowledgement_clears_the_suspicion() {
        let start = Instant::now();
        let timer = AckTimer::start(start, TIMEOUT);
        let timer = timer
            .after(status(true, TIMEOUT), start + TIMEOUT, TIMEOUT)
            .unwrap();
        assert!(timer.suspected);
        let timer = timer
            .after(status(true, NO_TIME), timer.next_check, TIMEOUT)
            .unwrap();
        assert!(!timer.suspected);
        let timer = timer
            .after(status(true, TIMEOUT), timer.next_check, TIMEOUT)
            .unwrap();
        assert!(timer.suspected);
    }

    #[test]
    fn a_dead_peer_is_given_up_after_the_timeout_and_the_grace_period() {
        let start = Instant::now();
        let timer = AckTimer::start(start, TIMEOUT);
        // Its last acknowledgement was long before anything was sent: that does not count against it.
        let timer = timer.after(status(true, seconds(600)), start + seconds(30), TIMEOUT);
        let timer = timer.unwrap();
        assert_eq!((timer.since, timer.next_check), (start, start + TIMEOUT));
        let timer = timer.after(status(true, seconds(630)), timer.next_check, TIMEOUT);
        let timer = timer.unwrap();
        assert_eq!(timer.next_check, start + TIMEOUT + GRACE);
        assert!(
            timer
                .after(status(true, seconds(632)), timer.next_check, TIMEOUT)
                .is_none()
        );
    }

    #[test]
    fn a_peer_that_was_not_probed_is_not_given_up() {
        let start = Instant::now();
        let (mut timer, mut now) = (AckTimer::start(start, TIMEOUT), start);
        for _ in 0..10 {
            now = now.max(timer.next_check);
            timer = timer
                .after(status(false, now - start), now, TIMEOUT)
                .unwrap();
        }
        assert!(now - start > TIMEOUT);
        let timer = timer
            .after(status(true, now - start), now, TIMEOUT)
            .unwrap();
        assert!(timer.suspected);
    }
}
