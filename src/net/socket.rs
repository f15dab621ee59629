//! Sockets and their options.
//!
//! Owns every option that is set on a socket of a listener, a client or a backend. Must not know configuration beyond the
//! values passed in. Invariant: every socket that is accepted or connected here is nonblocking and close-on-exec; every
//! accepted socket has TCP_NODELAY and SO_OOBINLINE.

mod keepalive;
mod listening;
mod tcp_info;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

pub use keepalive::{PeerTimeouts, enable_keepalive, set_user_timeout};
pub use listening::{BACKLOG, ListeningSocket, new_for_listening};
pub use tcp_info::{SendStatus, limit_probe_interval, reset_probe_interval, send_status};

/// Starts to connect to a backend; the socket becomes writable when it is connected or has failed. SO_OOBINLINE is set before
/// the connect: later would be too late, because the kernel drops an urgent byte if the next one arrives before the option is
/// set (`tcp_check_urg` of Linux).
///
/// # Errors
///
/// The immediate errors of socket(2) and connect(2).
pub fn connect(address: SocketAddr) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    set_oob_inline(&socket);
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

/// The local address of a connected socket.
///
/// # Errors
///
/// The error of getsockname(2), or a socket of another kind.
pub fn local_address(socket: &impl AsFd) -> io::Result<SocketAddr> {
    let address = rustix::net::getsockname(socket)?;
    Ok(SocketAddr::try_from(address)?)
}

/// Sends every segment at once (TCP_NODELAY, tcp(7)).
pub fn set_nodelay(socket: &impl AsFd) {
    // Fails only if this is not a TCP socket; then there is no such delay.
    let _ = sockopt::set_tcp_nodelay(socket, true);
}

/// Leaves urgent bytes in the stream (SO_OOBINLINE, socket(7); RFC 6093).
fn set_oob_inline(socket: &impl AsFd) {
    // Fails only if this is not a socket; then the urgent byte is skipped.
    let _ = sockopt::set_socket_oobinline(socket, true);
}

/// Makes the next close a reset: unsent bytes are discarded (SO_LINGER of zero, socket(7)).
pub fn reset_on_close(socket: &impl AsFd) {
    // Fails only if this is not a socket; then the close is an ordinary one.
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

/// Resets `socket` on close unless it is disarmed first, so that a session that is dropped midway does not leave a truncated
/// stream that looks complete.
#[derive(Debug)]
pub struct ResetGuard<'a, S: AsFd>(Option<&'a S>);

impl<'a, S: AsFd> ResetGuard<'a, S> {
    /// Guards `socket`.
    #[must_use]
    pub fn new(socket: &'a S) -> Self {
        Self(Some(socket))
    }

    /// Lets the caller decide between close and reset.
    pub fn disarm(mut self) {
        self.0 = None;
    }
}

impl<S: AsFd> Drop for ResetGuard<'_, S> {
    fn drop(&mut self) {
        if let Some(socket) = self.0 {
            reset_on_close(socket);
        }
    }
}
