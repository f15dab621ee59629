//! The state of a socket's send queue (TCP_INFO, tcp(7)).
//!
//! Owns the layout of the kernel's structure. Must not decide whether a peer is dead. Invariant: only fields that Linux 4.19
//! has are read, so an older kernel gives the same result as a newer one.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{GetSockOpt, SetSockOpt};
use nix::{getsockopt_impl, setsockopt_impl, sockopt_impl};

/// The kernel's own limit of the time between two probes (TCP_RTO_MAX, linux/net/tcp.h).
const MAX_PROBE_INTERVAL: Duration = Duration::from_secs(120);
/// The smallest value that it accepts instead.
const MIN_PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// Since Linux 6.15 (linux/tcp.h).
const TCP_RTO_MAX_MS: libc::c_int = 44;

/// `struct tcp_info` (linux/tcp.h) in words, up to `tcpi_notsent_bytes`: newer kernels only append fields.
const WORDS: usize = 37;
/// Index of a word of four bytes: the third counts retransmissions and the fourth probes, both since the last response.
const COUNTS: usize = 0;
/// Number of unacknowledged segments.
const UNACKED: usize = 6;
/// Milliseconds since the last acknowledgement of any kind.
const LAST_ACK: usize = 14;
/// Number of bytes never sent so far.
const UNSENT: usize = 36;

sockopt_impl!(
    #[allow(unreachable_pub, reason = "the macro makes it public")]
    /// State of a connection.
    TcpInfo,
    GetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_INFO,
    [u32; WORDS]
);

sockopt_impl!(
    #[allow(unreachable_pub, reason = "the macro makes it public")]
    /// The longest time between two probes or retransmissions, in milliseconds.
    RtoMax,
    SetOnly,
    libc::IPPROTO_TCP,
    TCP_RTO_MAX_MS,
    u32
);

/// State of the bytes that a socket still has to deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendStatus {
    /// The send queue is not empty: bytes are unacknowledged or unsent.
    pub has_pending: bool,
    /// The peer's receive window is closed: bytes are unsent and none is in flight.
    pub is_blocked: bool,
    /// The kernel has retransmitted or probed, and has received nothing since.
    pub is_unanswered: bool,
    /// Time since the peer last acknowledged anything.
    pub silence: Duration,
}

/// Reads the state of the send queue.
///
/// # Errors
///
/// The error of getsockopt(2), which a sandbox may forbid.
pub fn send_status(socket: &impl AsFd) -> io::Result<SendStatus> {
    let words = TcpInfo.get(&socket.as_fd())?;
    let [_, _, retransmits, probes] = words[COUNTS].to_ne_bytes();
    Ok(SendStatus {
        has_pending: words[UNACKED] > 0 || words[UNSENT] > 0,
        is_blocked: words[UNACKED] == 0 && words[UNSENT] > 0,
        is_unanswered: retransmits > 0 || probes > 0,
        silence: Duration::from_millis(words[LAST_ACK].into()),
    })
}

/// Limits the time between two probes of a closed receive window, on Linux 6.15 and newer. On older kernels it grows to two
/// minutes.
pub fn limit_probe_interval(socket: &impl AsFd, interval: Duration) {
    let interval = interval.clamp(MIN_PROBE_INTERVAL, MAX_PROBE_INTERVAL);
    let interval = u32::try_from(interval.as_millis()).unwrap_or(u32::MAX);
    // An older kernel does not support the option.
    let _ = RtoMax.set(&socket.as_fd(), &interval);
}

/// Undoes [`limit_probe_interval`]: it also decides how long the kernel keeps trying after the socket is closed.
pub fn reset_probe_interval(socket: &impl AsFd) {
    limit_probe_interval(socket, MAX_PROBE_INTERVAL);
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_peer_that_stops_reading_is_detected_and_so_is_one_that_resumes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut far = listener.accept().unwrap().0;
        assert!(!send_status(&near).unwrap().has_pending);
        near.set_nonblocking(true).unwrap();
        let block = [0; 1 << 16];
        let mut sent = 0;
        while let Ok(taken) = near.write(&block) {
            sent += taken;
        }
        // The kernel probes within a quarter of a second, and loopback responds at once.
        let blocked = loop {
            let status = send_status(&near).unwrap();
            assert!(status.has_pending);
            if status.is_blocked && !status.is_unanswered {
                break status;
            }
        };
        assert!(blocked.silence < Duration::from_secs(60));
        limit_probe_interval(&near, Duration::ZERO);
        reset_probe_interval(&near);
        far.read_exact(&mut vec![0; sent]).unwrap();
        while send_status(&near).unwrap().has_pending {
            std::thread::yield_now();
        }
    }
}
