//! Detecting a dead peer: keepalive probes and the user timeout.
//!
//! Owns these options, and how their times follow from the configured ones. Invariant: a peer that acknowledges probes is
//! never disconnected by them.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt;

use crate::config::model::Timeouts;

/// Limits of the time between two keepalive probes, which is a fraction of `tcp_user`.
const PROBE_INTERVALS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];
/// That fraction: this many intervals make up `tcp_user`.
const INTERVALS_PER_TIMEOUT: u32 = 12;
/// Fewest unanswered probes before a peer counts as dead: one may be lost.
const MIN_PROBES: u32 = 3;
/// Most probes that the kernel counts (MAX_TCP_KEEPCNT, linux/net/tcp.h).
const MAX_PROBES: u32 = 127;

/// How long a peer may be silent or fail to acknowledge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerTimeouts {
    /// Silence before the first keepalive probe (TCP_KEEPIDLE, tcp(7)).
    pub keepalive: Duration,
    /// How long a peer may leave bytes or probes unanswered.
    pub user: Duration,
}

impl PeerTimeouts {
    /// The time between two probes in whole seconds, and the number of unanswered probes after which the peer is dead: about
    /// as many as make the total silence `user`.
    fn probes(self) -> (Duration, u32) {
        let [min, max] = PROBE_INTERVALS;
        let interval = (self.user / INTERVALS_PER_TIMEOUT)
            .clamp(min, max)
            .as_secs();
        let left = self.user.saturating_sub(self.keepalive).as_secs();
        let interval = interval.max(left.div_ceil(MAX_PROBES.into()));
        let count = u32::try_from(left.div_ceil(interval)).unwrap_or(MAX_PROBES);
        let count = count.clamp(MIN_PROBES, MAX_PROBES);
        (Duration::from_secs(interval), count)
    }
}

impl From<&Timeouts> for PeerTimeouts {
    fn from(timeouts: &Timeouts) -> Self {
        Self {
            keepalive: timeouts.tcp_keepalive,
            user: timeouts.tcp_user,
        }
    }
}

/// Enables keepalive: the kernel probes a peer while no data flows in either direction. The first probe is sent after
/// seconds at the earliest, so this is for connections that live that long. A peer that owes an acknowledgement is not
/// probed by keepalive; see [`send_status`](super::send_status).
///
/// TCP_USER_TIMEOUT is not set: it also ends connections whose peer acknowledges every probe but has no buffer space
/// (`tcp_probe_timer` of Linux), contrary to RFC 1122, 4.2.2.17.
pub fn enable_keepalive(socket: &impl AsFd, timeouts: PeerTimeouts) {
    let (interval, count) = timeouts.probes();
    // Each fails only if this is not a TCP socket, or for times that the configuration does not allow.
    let _ = sockopt::set_socket_keepalive(socket, true);
    let _ = sockopt::set_tcp_keepidle(socket, timeouts.keepalive);
    let _ = sockopt::set_tcp_keepintvl(socket, interval);
    let _ = sockopt::set_tcp_keepcnt(socket, count);
}

/// Makes the kernel end a connection whose peer acknowledges nothing for `user` (TCP_USER_TIMEOUT, tcp(7)), or accepts no
/// data for that long. The fallback where [`send_status`](super::send_status) is not available.
pub fn set_user_timeout(socket: &impl AsFd, user: Duration) {
    let user = u32::try_from(user.as_millis()).unwrap_or(u32::MAX);
    let _ = sockopt::set_tcp_user_timeout(socket, user);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_peer_is_detected_within_a_few_seconds_after_the_configured_time() {
        let seconds = Duration::from_secs;
        let day = 24 * 60 * 60;
        for keepalive in [1, 2, 60, 600, 32_767] {
            for user in [0, 1, 2, 5, 30, 59, 60, 61, 600, 3600, day] {
                let timeouts = PeerTimeouts {
                    keepalive: seconds(keepalive),
                    user: seconds(user),
                };
                let (interval, count) = timeouts.probes();
                assert!((1..=MAX_PROBES).contains(&count) && interval >= seconds(1));
                let detected = keepalive + interval.as_secs() * u64::from(count);
                assert!(detected >= user, "{timeouts:?}");
                let slack = 3 * interval.as_secs();
                assert!(
                    detected <= user.max(keepalive) + slack,
                    "{timeouts:?}: {detected}"
                );
            }
        }
    }
}
