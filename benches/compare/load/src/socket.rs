//! Sockets of clients and backends.
//!
//! Owns which addresses clients come from. Invariant: no client uses an address and port that another one has used, so
//! that TIME_WAIT is in nobody's way.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, accept_with, bind, connect,
    listen, recv, send, socket_with, sockopt,
};

/// Addresses that clients come from, 127.64.0.1 and after.
const SOURCES: u16 = 250;
/// Ports below those that the kernel gives to others.
const PORTS: std::ops::Range<u16> = 2_048..32_000;
const BACKLOG: i32 = 4_096;

/// Gives each client its own address and port.
pub(crate) struct Sources {
    next: usize,
}

impl Sources {
    pub(crate) fn new() -> Self {
        // Another process of the same comparison may have been here before; its last ports are in TIME_WAIT at most.
        Self {
            next: usize::try_from(std::process::id()).unwrap_or(0) * 977,
        }
    }

    fn next(&mut self) -> io::Result<SocketAddr> {
        let sources = usize::from(SOURCES);
        let source = u8::try_from(self.next % sources + 1).map_err(io::Error::other)?;
        let port = u16::try_from(self.next / sources % PORTS.len()).map_err(io::Error::other)?;
        self.next += 1;
        let ip = Ipv4Addr::new(127, 64, 0, source);
        Ok(SocketAddrV4::new(ip, PORTS.start + port).into())
    }

    /// A connection from the next source. On loopback the kernel completes it at once, with nobody's help.
    pub(crate) fn connect(&mut self, to: SocketAddr) -> io::Result<OwnedFd> {
        loop {
            let client = stream_socket(SocketFlags::CLOEXEC)?;
            sockopt::set_socket_reuseaddr(&client, true)?;
            if let Err(Errno::ADDRINUSE) = bind(&client, &self.next()?) {
                continue;
            }
            match connect(&client, &to) {
                Ok(()) => return Ok(client),
                Err(Errno::ADDRNOTAVAIL | Errno::ADDRINUSE) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

pub(crate) fn stream_socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    Ok(socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        flags,
        None,
    )?)
}

/// A nonblocking socket that listens.
pub(crate) fn listen_on(address: SocketAddr) -> io::Result<OwnedFd> {
    let door = stream_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    sockopt::set_socket_reuseaddr(&door, true)?;
    bind(&door, &address)?;
    listen(&door, BACKLOG)?;
    Ok(door)
}

/// `None` where there is nothing to accept.
pub(crate) fn accept(door: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    match accept_with(door, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        Ok(accepted) => Ok(Some(accepted)),
        Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// `None` where nothing has come, 0 at the end of the stream.
pub(crate) fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    pass(recv(socket, buffer, RecvFlags::DONTWAIT).map(|(read, _)| read))
}

/// The same, and the kernel throws the bytes away (MSG_TRUNC, tcp(7)): a sink that costs no copy.
pub(crate) fn discard(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
    pass(recv(socket, buffer, flags).map(|(_, read)| read))
}

/// `None` where the socket takes nothing.
pub(crate) fn transmit(socket: &OwnedFd, bytes: &[u8]) -> io::Result<Option<usize>> {
    pass(send(
        socket,
        bytes,
        SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
    ))
}

/// Sends what a socket with an empty queue is bound to take.
pub(crate) fn transmit_all(socket: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    match transmit(socket, bytes)? {
        Some(sent) if sent == bytes.len() => Ok(()),
        _ => Err(io::Error::other("a small message was not taken at once")),
    }
}

fn pass(done: Result<usize, Errno>) -> io::Result<Option<usize>> {
    match done {
        Ok(count) => Ok(Some(count)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
