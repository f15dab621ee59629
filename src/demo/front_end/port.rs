//! A TCP port that can stop and start listening without being released.
//!
//! Owns one bound socket. Must not know the service on it. Invariant: from [`DemoPort::reserve`] until drop no other process
//! can bind the port, open or closed.

use std::io;
use std::net::{Shutdown, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Connections that the kernel completes before they are accepted.
const BACKLOG: i32 = 4096;

/// A bound port, closed until it is opened.
#[derive(Debug)]
pub(super) struct DemoPort {
    socket: Socket,
    address: SocketAddr,
}

impl DemoPort {
    /// Binds `address`; with port 0 the kernel chooses.
    pub(super) fn reserve(address: SocketAddr) -> io::Result<Self> {
        let socket = bind(address)?;
        let chosen = local_address(&socket)?;
        if address.port() != 0 {
            return Ok(Self {
                socket,
                address: chosen,
            });
        }
        // A socket bound to port 0 loses its port when it stops listening; one bound to the number does not
        // (SOCK_BINDPORT_LOCK). Both have SO_REUSEADDR and neither listens, so they can share it for a moment.
        let reserved = bind(chosen)?;
        drop(socket);
        Ok(Self {
            socket: reserved,
            address: chosen,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts listening. [`DemoPort::close`] ends the listener.
    pub(super) fn open(&self) -> io::Result<TcpListener> {
        self.socket.listen(BACKLOG)?;
        TcpListener::from_std(self.socket.try_clone()?.into())
    }

    /// Refuses connections from now on, and resets those not accepted yet.
    pub(super) fn close(&self) {
        // Shutting down a listening socket stops it for every duplicate of the descriptor (tcp(7) is silent;
        // inet_shutdown in the kernel). The only error is ENOTCONN: it was not listening.
        let _not_listening = self.socket.shutdown(Shutdown::Read);
    }
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    let address = socket.local_addr()?;
    address
        .as_socket()
        .ok_or_else(|| io::Error::other("the socket has no IP address"))
}
