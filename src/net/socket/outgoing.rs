//! What the kernel knows of the bytes on their way to a peer (TCP_INFO, tcp(7)).
//!
//! Owns the layout of what the kernel tells. Must not judge it. Invariant: only fields that Linux 4.19 has are read, so an
//! older kernel tells the same as a newer one.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{GetSockOpt, SetSockOpt};
use nix::{getsockopt_impl, setsockopt_impl, sockopt_impl};

/// The kernel's own bound of the time between two probes (TCP_RTO_MAX, linux/net/tcp.h).
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
/// The least that it takes instead.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// Linux 6.15 (linux/tcp.h).
const TCP_RTO_MAX_MS: libc::c_int = 44;

/// `struct tcp_info` (linux/tcp.h) in words, up to `tcpi_notsent_bytes`: newer kernels add fields behind it only.
const WORDS: usize = 37;
/// Where in it: four bytes, of which the third counts retransmissions and the fourth probes, both since the last answer.
const COUNTS: usize = 0;
/// Segments that are not acknowledged.
const UNACKED: usize = 6;
/// Milliseconds since the last acknowledgement of any kind.
const LAST_ACK: usize = 14;
/// Bytes that have not been sent once.
const UNSENT: usize = 36;

sockopt_impl!(
    #[allow(unreachable_pub, reason = "the macro makes it public")]
    /// What the kernel knows of a connection.
    TcpInfo,
    GetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_INFO,
    [u32; WORDS]
);

sockopt_impl!(
    #[allow(unreachable_pub, reason = "the macro makes it public")]
    /// The longest pause between two probes or retransmissions, in milliseconds.
    RtoMax,
    SetOnly,
    libc::IPPROTO_TCP,
    TCP_RTO_MAX_MS,
    u32
);

/// What is on its way to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outgoing {
    /// Bytes wait for the peer: it has not acknowledged them, or there was no room for them.
    pub waits: bool,
    /// The peer takes nothing now: bytes wait, and none is on its way.
    pub is_blocked: bool,
    /// The kernel has sent bytes again, or a probe, and has heard nothing since.
    pub is_unanswered: bool,
    /// Since the peer last acknowledged anything.
    pub silence: Duration,
}

/// Asks the kernel.
///
/// # Errors
///
/// What getsockopt(2) says: a sandbox may refuse it.
pub fn outgoing(socket: &impl AsFd) -> io::Result<Outgoing> {
    let words = TcpInfo.get(&socket.as_fd())?;
    let [_, _, retransmits, probes] = words[COUNTS].to_ne_bytes();
    Ok(Outgoing {
        waits: words[UNACKED] > 0 || words[UNSENT] > 0,
        is_blocked: words[UNACKED] == 0 && words[UNSENT] > 0,
        is_unanswered: retransmits > 0 || probes > 0,
        silence: Duration::from_millis(words[LAST_ACK].into()),
    })
}

/// Has a peer that takes nothing probed at least that often, as far as the kernel can: Linux 6.15 and newer. Older ones let
/// the pauses grow to two minutes.
pub fn probe_within(socket: &impl AsFd, pause: Duration) {
    let pause = pause.clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
    let pause = u32::try_from(pause.as_millis()).unwrap_or(u32::MAX);
    // An older kernel does not know the option.
    let _ = RtoMax.set(&socket.as_fd(), &pause);
}

/// Takes [`probe_within`] back: how long the kernel goes on with a closed socket depends on it.
pub fn probe_as_usual(socket: &impl AsFd) {
    probe_within(socket, LONGEST_PAUSE);
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_reader_that_reads_nothing_is_seen_and_so_is_its_return() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut far = listener.accept().unwrap().0;
        assert!(!outgoing(&near).unwrap().waits);
        near.set_nonblocking(true).unwrap();
        let block = [0; 1 << 16];
        let mut sent = 0;
        while let Ok(taken) = near.write(&block) {
            sent += taken;
        }
        // The kernel probes within a quarter of a second, and loopback answers at once.
        let blocked = loop {
            let outgoing = outgoing(&near).unwrap();
            assert!(outgoing.waits);
            if outgoing.is_blocked && !outgoing.is_unanswered {
                break outgoing;
            }
        };
        assert!(blocked.silence < Duration::from_secs(60));
        probe_within(&near, Duration::ZERO);
        probe_as_usual(&near);
        far.read_exact(&mut vec![0; sent]).unwrap();
        while outgoing(&near).unwrap().waits {
            std::thread::yield_now();
        }
    }
}
