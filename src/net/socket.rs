//! Sockets and their options.
//!
//! Owns every option that is set on a socket of a listener, a client or a backend. Knows no configuration but the
//! values that it is given. Invariant: what is accepted or connected here is nonblocking and close-on-exec; what is
//! accepted has TCP_NODELAY and SO_OOBINLINE.

mod outgoing;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::model::Timeouts;
pub use outgoing::{Outgoing, outgoing, probe_as_usual, probe_within};

/// Connections that the kernel holds ready for a worker; it takes `net.core.somaxconn` where that is less.
pub const BACKLOG: i32 = 65_535;
/// The time between two keepalive probes is a part of `tcp_user`, within these bounds.
const KEEPALIVE_PACES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];
/// How many of them `tcp_user` has.
const PACES: u32 = 12;
/// Probes that a peer must leave unanswered at least: one may be lost on the way.
const LEAST_PROBES: u32 = 3;
/// The most that the kernel counts (MAX_TCP_KEEPCNT, linux/net/tcp.h).
const MOST_PROBES: u32 = 127;

/// How long a peer may be silent or slow to acknowledge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerTimeouts {
    /// Silence before keepalive probes (TCP_KEEPIDLE, tcp(7)).
    pub keepalive: Duration,
    /// How long a peer may leave bytes or probes unanswered.
    pub user: Duration,
}

impl PeerTimeouts {
    /// The whole seconds between two probes, and how many of them a peer leaves unanswered that is gone: about as many as
    /// make its whole silence `user`.
    fn probes(self) -> (Duration, u32) {
        let [least, most] = KEEPALIVE_PACES;
        let pace = (self.user / PACES).clamp(least, most).as_secs();
        let left = self.user.saturating_sub(self.keepalive).as_secs();
        let pace = pace.max(left.div_ceil(MOST_PROBES.into()));
        let count = u32::try_from(left.div_ceil(pace)).unwrap_or(MOST_PROBES);
        let count = count.clamp(LEAST_PROBES, MOST_PROBES);
        (Duration::from_secs(pace), count)
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

/// A bound listening socket; one for each worker and address.
#[derive(Debug)]
pub struct Listening {
    socket: Socket,
    address: SocketAddr,
}

impl Listening {
    /// Binds `count` sockets to one address, which do not listen yet, and between which the kernel shares what comes
    /// (SO_REUSEPORT, socket(7)).
    ///
    /// The address is probed once without SO_REUSEPORT, because a second instance would join the group in silence.
    /// An address that this machine does not have yet is bound all the same (IP_FREEBIND, ip(7)), which needs no
    /// privilege, so that a standby can wait for it. What is accepted inherits TCP_NODELAY and SO_OOBINLINE.
    ///
    /// # Errors
    ///
    /// Whatever the kernel says, EADDRINUSE and EACCES before all.
    pub fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<Arc<Self>>> {
        let probe = new_socket(address)?;
        probe.bind(&address.into())?;
        drop(probe);
        Self::bind_beside(address, count)
    }

    /// The same where this process has sockets in the way itself, as when `0.0.0.0` takes the place of one address: who is
    /// meant to be kept out is kept out by those already.
    ///
    /// # Errors
    ///
    /// As [`Listening::bind`].
    pub fn bind_beside(address: SocketAddr, count: usize) -> io::Result<Vec<Arc<Self>>> {
        let mut bound = address;
        let mut sockets = Vec::with_capacity(count);
        for _ in 0..count {
            let socket = new_socket(address)?;
            socket.set_reuse_port(true)?;
            socket.set_nonblocking(true)?;
            bind_closed(&socket, bound)?;
            hand_down(&socket)?;
            // Port 0 is chosen by the first socket.
            bound = socket.local_addr()?.as_socket().unwrap_or(address);
            sockets.push(Arc::new(Self {
                socket,
                address: bound,
            }));
        }
        Ok(sockets)
    }

    /// One that another process has bound.
    ///
    /// # Errors
    ///
    /// When it is no bound TCP socket.
    pub fn inherit(socket: OwnedFd) -> io::Result<Self> {
        let socket = Socket::from(socket);
        let address = socket.local_addr()?.as_socket();
        let address = address.ok_or_else(|| io::Error::from(Errno::PROTOTYPE))?;
        hand_down(&socket)?;
        Ok(Self { socket, address })
    }

    /// Whether it listens.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        sockopt::socket_acceptconn(&self.socket).unwrap_or(false)
    }

    /// Where it is bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes one connection that the kernel holds ready, without waiting.
    ///
    /// # Errors
    ///
    /// `WouldBlock` where there is none, `InvalidInput` where the socket does not listen now, and what accept(2) says.
    pub fn accept(&self) -> io::Result<(OwnedFd, SocketAddr)> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (descriptor, peer): (OwnedFd, _) = rustix::net::acceptfrom_with(&self.socket, flags)?;
        let peer = peer
            .and_then(|peer| SocketAddr::try_from(peer).ok())
            .ok_or(Errno::CONNABORTED)?;
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        Ok((descriptor, peer))
    }

    /// Stops listening and stays bound: connections are refused from now on, and those not yet accepted are reset
    /// (`inet_shutdown` and `inet_csk_listen_stop` of Linux).
    ///
    /// # Errors
    ///
    /// What shutdown(2) says.
    pub fn close(&self) -> io::Result<()> {
        self.socket.set_reuse_address(false)?;
        match self.socket.shutdown(std::net::Shutdown::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            other => other,
        }
    }

    /// Listens, for the first time or again after [`Listening::close`], which needs no privilege.
    ///
    /// # Errors
    ///
    /// What listen(2) says.
    pub fn open(&self) -> io::Result<()> {
        self.socket.set_reuse_address(true)?;
        self.socket.listen(BACKLOG)
    }
}

impl AsFd for Listening {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn new_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // Connections of an earlier run that are in TIME_WAIT must not keep the port (socket(7)).
    socket.set_reuse_address(true)?;
    match address.ip() {
        IpAddr::V4(_) => socket.set_freebind_v4(true)?,
        IpAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(true)?;
        }
    }
    Ok(socket)
}

/// Sets what accepted sockets are to inherit.
fn hand_down(listening: &Socket) -> io::Result<()> {
    listening.set_tcp_nodelay(true)?;
    listening.set_out_of_band_inline(true)
}

/// Binds a socket that does not listen yet.
///
/// Of two sockets with SO_REUSEADDR only one that listens is in the other's way (`inet_bind_conflict` of Linux). So it
/// is set only while this one does, or a second instance's probe would not see a closed port. Connections in TIME_WAIT
/// stand in the way without it where a program had the port that does not know SO_REUSEPORT.
fn bind_closed(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    socket.set_reuse_address(false)?;
    match socket.bind(&address.into()) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
        other => return other,
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.set_reuse_address(false)
}

/// Begins to connect to a backend; the socket is writable when it stands or has failed. It keeps urgent bytes from the first
/// one on: later would be too late, since the kernel drops one if the next comes before anyone could look (`tcp_check_urg` of
/// Linux).
///
/// # Errors
///
/// What socket(2) and connect(2) say at once.
pub fn connect(address: SocketAddr) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    keep_urgent_bytes(&socket);
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

/// Has every segment leave at once (TCP_NODELAY, tcp(7)).
pub fn send_at_once(socket: &impl AsFd) {
    // It can only fail on what is no TCP socket; that one has no such delay.
    let _ = sockopt::set_tcp_nodelay(socket, true);
}

/// Leaves urgent bytes where they are in the stream (SO_OOBINLINE, socket(7); RFC 6093).
fn keep_urgent_bytes(socket: &impl AsFd) {
    // It can only fail on what is no socket; the urgent byte is then passed over.
    let _ = sockopt::set_socket_oobinline(socket, true);
}

/// Has the kernel probe a peer of which nothing is heard and to which nothing is said. Nothing of that shows before seconds
/// have passed, so it is for connections that live so long. One that owes an acknowledgement is not probed so: `outgoing`.
///
/// TCP_USER_TIMEOUT is not set: it also ends connections whose peer answers every probe and has no room
/// (`tcp_probe_timer` of Linux), against RFC 1122, 4.2.2.17.
pub fn watch_over(socket: &impl AsFd, patience: PeerTimeouts) {
    let (pace, count) = patience.probes();
    // Each can only fail on what is no TCP socket, or on times that the configuration does not allow.
    let _ = sockopt::set_socket_keepalive(socket, true);
    let _ = sockopt::set_tcp_keepidle(socket, patience.keepalive);
    let _ = sockopt::set_tcp_keepintvl(socket, pace);
    let _ = sockopt::set_tcp_keepcnt(socket, count);
}

/// Has the kernel end a connection whose peer acknowledges nothing for `user` (TCP_USER_TIMEOUT, tcp(7)), and one whose peer
/// takes nothing for so long: for where `outgoing` is not to be had.
pub fn give_up_after(socket: &impl AsFd, user: Duration) {
    let user = u32::try_from(user.as_millis()).unwrap_or(u32::MAX);
    let _ = sockopt::set_tcp_user_timeout(socket, user);
}

/// Makes the close that follows a reset: what is unsent is thrown away (SO_LINGER of zero, socket(7)).
pub fn reset_on_close(socket: &impl AsFd) {
    // It can only fail on what is no socket; the close then is an ordinary one.
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

/// Makes every close a reset until it is told that the end has come in order, so that a session that is dropped in
/// the middle leaves no cut stream that looks whole.
#[derive(Debug)]
pub struct ResetUntilEnded<'a, S: AsFd>(Option<&'a S>);

impl<'a, S: AsFd> ResetUntilEnded<'a, S> {
    /// Watches over `socket`.
    #[must_use]
    pub fn new(socket: &'a S) -> Self {
        Self(Some(socket))
    }

    /// What the close is to be has been decided.
    pub fn ended(mut self) {
        self.0 = None;
    }
}

impl<S: AsFd> Drop for ResetUntilEnded<'_, S> {
    fn drop(&mut self) {
        if let Some(socket) = self.0 {
            reset_on_close(socket);
        }
    }
}

#[cfg(test)]
mod tests {
    use socket2::SockRef;

    use super::*;

    fn bind() -> Vec<Arc<Listening>> {
        let sockets = Listening::bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        sockets.iter().for_each(|socket| socket.open().unwrap());
        sockets
    }

    fn is_kept_out(address: SocketAddr) {
        let second = Listening::bind(address, 2);
        assert_eq!(
            second.map(drop).map_err(|error| error.kind()),
            Err(io::ErrorKind::AddrInUse)
        );
    }

    #[test]
    fn a_second_instance_is_kept_from_joining_in_silence_open_closed_or_not_yet_opened() {
        let sockets = Listening::bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        is_kept_out(sockets[0].address());
        for _ in 0..2 {
            for socket in &sockets {
                socket.open().unwrap();
            }
            is_kept_out(sockets[0].address());
            for socket in &sockets {
                socket.close().unwrap();
            }
            is_kept_out(sockets[0].address());
        }
    }

    #[test]
    fn a_closed_port_refuses_and_comes_back() {
        let sockets = bind();
        let address = sockets[0].address();
        for _ in 0..3 {
            for socket in &sockets {
                socket.close().unwrap();
            }
            let refused = std::net::TcpStream::connect(address)
                .map(drop)
                .map_err(|error| error.kind());
            assert_eq!(refused, Err(io::ErrorKind::ConnectionRefused));
            for socket in &sockets {
                socket.open().unwrap();
            }
            for _ in 0..8 {
                std::net::TcpStream::connect(address).unwrap();
            }
        }
    }

    /// Leaves a connection in TIME_WAIT on this side: who closes first has it.
    fn close_first(address: SocketAddr, accept: impl Fn() -> std::net::TcpStream) {
        let client = std::net::TcpStream::connect(address).unwrap();
        drop(accept());
        drop(client);
    }

    #[test]
    fn a_port_can_be_bound_at_once_after_the_connections_of_whoever_had_it() {
        let sockets = bind();
        let address = sockets[0].address();
        close_first(address, || {
            let accepted = sockets.iter().find_map(|socket| socket.accept().ok());
            accepted.unwrap().0.into()
        });
        drop(sockets);
        assert!(Listening::bind(address, 2).is_ok());

        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = other.local_addr().unwrap();
        close_first(address, || other.accept().unwrap().0);
        drop(other);
        let sockets = Listening::bind(address, 2).unwrap();
        for socket in &sockets {
            socket.open().unwrap();
        }
        is_kept_out(address);
    }

    #[test]
    fn what_is_accepted_sends_at_once_keeps_urgent_bytes_and_is_watched_over_as_told() {
        let sockets = bind();
        let _client = std::net::TcpStream::connect(sockets[0].address()).unwrap();
        let accepted = sockets
            .iter()
            .find_map(|socket| socket.accept().ok())
            .unwrap()
            .0;
        let patience = PeerTimeouts {
            keepalive: Duration::from_secs(45),
            user: Duration::from_millis(61_500),
        };
        watch_over(&accepted, patience);
        let accepted = SockRef::from(&accepted);
        assert!(accepted.tcp_nodelay().unwrap() && accepted.keepalive().unwrap());
        assert!(accepted.out_of_band_inline().unwrap());
        assert_eq!(accepted.tcp_user_timeout().unwrap(), None);
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), patience.keepalive);
        let pace = accepted.tcp_keepalive_interval().unwrap();
        let count = accepted.tcp_keepalive_retries().unwrap();
        assert_eq!((pace, count), (Duration::from_secs(5), 4));
    }

    #[test]
    fn a_peer_that_is_gone_is_known_to_be_after_the_time_that_is_told_and_some_seconds() {
        let seconds = Duration::from_secs;
        let day = 24 * 60 * 60;
        for keepalive in [1, 2, 60, 600, 32_767] {
            for user in [0, 1, 2, 5, 30, 59, 60, 61, 600, 3600, day] {
                let patience = PeerTimeouts {
                    keepalive: seconds(keepalive),
                    user: seconds(user),
                };
                let (pace, count) = patience.probes();
                assert!((1..=MOST_PROBES).contains(&count) && pace >= seconds(1));
                let known = keepalive + pace.as_secs() * u64::from(count);
                assert!(known >= user, "{patience:?}");
                let slack = 3 * pace.as_secs();
                assert!(
                    known <= user.max(keepalive) + slack,
                    "{patience:?}: {known}"
                );
            }
        }
    }

    #[test]
    fn an_address_that_the_machine_lacks_is_bound_all_the_same() {
        assert!(Listening::bind("192.0.2.1:0".parse().unwrap(), 1).is_ok());
    }
}
