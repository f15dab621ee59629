//! Listening sockets: bound once, then opened and closed as often as needed.
//!
//! Owns how an address is bound and shared between workers. Must not know the configured listeners. Invariant: a socket that
//! does not listen stays bound, and a second instance cannot bind its address.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{SocketFlags, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

/// Length of the accept queue of one socket; the kernel lowers it to `net.core.somaxconn`.
pub const BACKLOG: i32 = 65_535;

/// A bound socket of a listener; one for each worker and address.
#[derive(Debug)]
pub struct ListeningSocket {
    socket: Socket,
    address: SocketAddr,
}

impl ListeningSocket {
    /// Binds `count` sockets to one address without listening yet. The kernel distributes connections among them
    /// (SO_REUSEPORT, socket(7)).
    ///
    /// The address is first bound once without SO_REUSEPORT, because otherwise a second instance would join the group
    /// unnoticed. An address that this machine does not have yet can be bound too (IP_FREEBIND, ip(7)), so that a standby can
    /// wait for it; this needs no privilege. Accepted sockets inherit TCP_NODELAY and SO_OOBINLINE.
    ///
    /// # Errors
    ///
    /// The kernel's error, most often EADDRINUSE or EACCES.
    pub fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<Arc<Self>>> {
        let probe = new_for_listening(address)?;
        probe.bind(&address.into())?;
        drop(probe);
        Self::bind_without_check(address, count)
    }

    /// The same while this process itself has sockets that conflict, for example when `0.0.0.0` replaces a single address.
    /// Those already keep a second instance out.
    ///
    /// # Errors
    ///
    /// As [`ListeningSocket::bind`].
    pub fn bind_without_check(address: SocketAddr, count: usize) -> io::Result<Vec<Arc<Self>>> {
        let mut bound = address;
        let mut sockets = Vec::with_capacity(count);
        for _ in 0..count {
            let socket = new_for_listening(address)?;
            socket.set_reuse_port(true)?;
            socket.set_nonblocking(true)?;
            bind_closed(&socket, bound)?;
            set_inherited_options(&socket)?;
            // Port 0 is chosen by the first socket.
            bound = socket.local_addr()?.as_socket().unwrap_or(address);
            sockets.push(Arc::new(Self {
                socket,
                address: bound,
            }));
        }
        Ok(sockets)
    }

    /// Takes over a socket that another process has bound.
    ///
    /// # Errors
    ///
    /// If it is not a bound TCP socket.
    pub fn inherit(socket: OwnedFd) -> io::Result<Self> {
        let socket = Socket::from(socket);
        let address = socket.local_addr()?.as_socket();
        let address = address.ok_or_else(|| io::Error::from(Errno::PROTOTYPE))?;
        set_inherited_options(&socket)?;
        Ok(Self { socket, address })
    }

    /// Whether the socket listens.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        sockopt::socket_acceptconn(&self.socket).unwrap_or(false)
    }

    /// The address that it is bound to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts one connection from the queue, without waiting.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the queue is empty, `InvalidInput` if the socket does not listen now, or the error of accept(2).
    pub fn accept(&self) -> io::Result<(OwnedFd, SocketAddr)> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (descriptor, peer): (OwnedFd, _) = rustix::net::acceptfrom_with(&self.socket, flags)?;
        let peer = peer
            .and_then(|peer| SocketAddr::try_from(peer).ok())
            .ok_or(Errno::CONNABORTED)?;
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        Ok((descriptor, peer))
    }

    /// Stops listening and stays bound: new connections are refused, and those not yet accepted are reset
    /// (`inet_shutdown` and `inet_csk_listen_stop` of Linux).
    ///
    /// # Errors
    ///
    /// The error of shutdown(2).
    pub fn close(&self) -> io::Result<()> {
        self.socket.set_reuse_address(false)?;
        match self.socket.shutdown(std::net::Shutdown::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            other => other,
        }
    }

    /// Starts to listen, for the first time or after [`ListeningSocket::close`]; this needs no privilege.
    ///
    /// # Errors
    ///
    /// The error of listen(2).
    pub fn open(&self) -> io::Result<()> {
        self.socket.set_reuse_address(true)?;
        self.socket.listen(BACKLOG)
    }
}

impl AsFd for ListeningSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A socket for listening at `address`, not bound yet: SO_REUSEADDR, IPv6 only for an IPv6 address, and IP_FREEBIND, because a
/// standby gets the address when it takes over (ip(7)).
///
/// # Errors
///
/// The error of socket(2) or setsockopt(2).
pub fn new_for_listening(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // Connections of an earlier run in TIME_WAIT must not block the port (socket(7)).
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

/// Sets the options that accepted sockets inherit.
fn set_inherited_options(listening: &Socket) -> io::Result<()> {
    listening.set_tcp_nodelay(true)?;
    listening.set_out_of_band_inline(true)
}

/// Binds a socket that does not listen yet.
///
/// A socket with SO_REUSEADDR conflicts with another such socket only if that one listens (`inet_bind_conflict` of Linux). So
/// the option is set only while this socket listens; otherwise a second instance would not notice a closed port. Without the
/// option, connections in TIME_WAIT conflict if the port belonged to a program that does not use SO_REUSEPORT.
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

#[cfg(test)]
mod tests;
