//! Sockets of the event loop: connections, and listening sockets waiting for connections.
//!
//! Owns the reads and writes of a connection. Must not know what the bytes mean. Invariant: if a poll finds a socket not ready,
//! the running task is polled at its next event.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send, sockopt};

use super::EventLoop;
use super::event_source::{EventSource, ready};
use crate::net::socket::{self, ListeningSocket};

/// The result of one read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Number of bytes.
    pub len: usize,
    /// Whether the stream ends with these bytes, or has ended.
    pub last: bool,
}

/// Whether the kernel may delay a small segment (Nagle's algorithm, RFC 896).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NagleState {
    /// Nothing has been sent; the first segment always leaves at once.
    Unsent,
    /// The next segment could be delayed until the first is acknowledged.
    Sent,
    /// It may not: TCP_NODELAY is set.
    Off,
}

/// A connection of this thread's event loop.
pub struct Stream {
    event_loop: EventLoop,
    socket: OwnedFd,
    source: Rc<EventSource>,
    nagle: Cell<NagleState>,
    /// Whether it is registered for EPOLLOUT; an accepted socket is writable from the start, and few ever fill up.
    watches_writable: Cell<bool>,
}

/// The events that every connection is registered for.
const READ_EVENTS: EventFlags = EventFlags::IN
    .union(EventFlags::RDHUP)
    .union(EventFlags::PRI)
    .union(EventFlags::ET);

impl Stream {
    /// Takes over an accepted socket, which has inherited TCP_NODELAY and SO_OOBINLINE.
    ///
    /// # Errors
    ///
    /// The error of epoll_ctl(2): out of memory or of watches.
    pub fn accepted(event_loop: &EventLoop, socket: OwnedFd) -> io::Result<Self> {
        let stream = Self::adopt(event_loop, socket, READ_EVENTS, NagleState::Off)?;
        stream.source.set(ready::WRITABLE);
        Ok(stream)
    }

    /// Takes over a socket that is being connected and has SO_OOBINLINE.
    ///
    /// # Errors
    ///
    /// The error of epoll_ctl(2): out of memory or of watches.
    pub fn connecting(event_loop: &EventLoop, socket: OwnedFd) -> io::Result<Self> {
        let events = READ_EVENTS.union(EventFlags::OUT);
        Self::adopt(event_loop, socket, events, NagleState::Unsent)
    }

    fn adopt(
        event_loop: &EventLoop,
        socket: OwnedFd,
        events: EventFlags,
        nagle: NagleState,
    ) -> io::Result<Self> {
        let source = event_loop.register(&socket, events)?;
        Ok(Self {
            event_loop: event_loop.clone(),
            socket,
            source,
            nagle: Cell::new(nagle),
            watches_writable: Cell::new(events.contains(EventFlags::OUT)),
        })
    }

    /// The event loop of this connection.
    #[must_use]
    pub fn event_loop(&self) -> &EventLoop {
        &self.event_loop
    }

    /// Ready when a read may return bytes, the end of the stream or an error.
    pub fn poll_readable(&self) -> Poll<()> {
        self.event_loop.poll_source(&self.source, ready::READABLE)
    }

    /// Ready when a write may succeed.
    pub fn poll_writable(&self) -> Poll<()> {
        self.event_loop.poll_source(&self.source, ready::WRITABLE)
    }

    /// Ready when the connection has failed; [`Stream::error`] returns the reason.
    pub fn poll_failed(&self) -> Poll<()> {
        self.event_loop.poll_source(&self.source, ready::FAILED)
    }

    /// The error of a failed connection; a reset if the kernel has reported it already.
    #[must_use]
    pub fn error(&self) -> io::Error {
        match sockopt::socket_error(&self.socket) {
            Ok(Err(error)) | Err(error) => error.into(),
            Ok(Ok(())) => Errno::CONNRESET.into(),
        }
    }

    /// Reads once; `None` if nothing is available now.
    ///
    /// A short read means that the socket is drained, so the call that would return EAGAIN is never made (epoll(7), question
    /// 9). If the end of the peer's stream was known before, a short read also means that these are the last bytes. An urgent
    /// byte cuts a read short, so after one only EAGAIN and 0 count.
    ///
    /// # Errors
    ///
    /// The error of recv(2).
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Chunk>> {
        let ended = self.source.is(ready::ENDED);
        let read =
            self.read_with(|| Ok(recv(&self.socket, &mut *buffer, RecvFlags::empty())?.0))?;
        if read.is_none() && !self.source.is(ready::READABLE) {
            // Everything has been read, including the urgent byte.
            self.source.clear(ready::URGENT);
        }
        Ok(read.map(|len| {
            let short = len < buffer.len();
            if short && len > 0 && !self.source.is(ready::ENDED | ready::URGENT) {
                self.source.clear(ready::READABLE);
            }
            Chunk {
                len,
                last: len == 0 || (short && ended),
            }
        }))
    }

    /// Reads with a call of splice(2); `None` if it found nothing. At an urgent byte it finds nothing although more may follow
    /// (`tcp_read_sock` of Linux): then the socket stays readable, and only [`Stream::receive`] can continue.
    ///
    /// # Errors
    ///
    /// The error of the call.
    pub fn splice_with(
        &self,
        call: impl FnOnce() -> io::Result<usize>,
    ) -> io::Result<Option<usize>> {
        let found = self.read_with(call)?;
        if found.is_none() && self.source.is(ready::URGENT) {
            self.source.set(ready::READABLE);
        }
        Ok(found)
    }

    /// Whether a read may find something.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.source.is(ready::READABLE)
    }

    /// Writes once; returns how many bytes the socket accepted, 0 if it is full.
    ///
    /// # Errors
    ///
    /// The error of send(2).
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.write_with(|| Ok(send(&self.socket, bytes, SendFlags::NOSIGNAL)?))?;
        if 0 < sent && sent < bytes.len() {
            self.set_full()?;
        }
        Ok(sent)
    }

    /// Reads with `call`; `None` if it found nothing.
    ///
    /// # Errors
    ///
    /// The error of the call.
    pub fn read_with(&self, call: impl FnOnce() -> io::Result<usize>) -> io::Result<Option<usize>> {
        match call() {
            Ok(count) => Ok(Some(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.source.clear(ready::READABLE);
                Ok(None)
            }
            // Readiness has not changed.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes with `call`; 0 if the socket is full.
    ///
    /// # Errors
    ///
    /// The error of the call.
    pub fn write_with(&self, call: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
        match self.nagle.get() {
            NagleState::Off => {}
            NagleState::Unsent => self.nagle.set(NagleState::Sent),
            NagleState::Sent => {
                socket::set_nodelay(&self.socket);
                self.nagle.set(NagleState::Off);
            }
        }
        match call() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.set_full().map(|()| 0),
            // Readiness has not changed.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            called => called,
        }
    }

    /// Marks the socket as full until the next event, which also comes if it has become writable meanwhile.
    fn set_full(&self) -> io::Result<()> {
        self.source.clear(ready::WRITABLE);
        if !self.watches_writable.replace(true) {
            let events = READ_EVENTS.union(EventFlags::OUT);
            self.event_loop
                .reregister(&self.socket, &self.source, events)?;
        }
        Ok(())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.event_loop.deregister(&self.source);
    }
}

/// The registration of a listening socket, level-triggered: while connections are queued, every epoll_wait reports it. The
/// socket has other owners, so the registration ends by `Drop` rather than by closing.
pub struct AcceptReadiness {
    event_loop: EventLoop,
    listening: Arc<ListeningSocket>,
    source: Rc<EventSource>,
}

impl AcceptReadiness {
    /// Registers `listening`.
    ///
    /// # Errors
    ///
    /// The error of epoll_ctl(2): out of memory or of watches.
    pub fn new(event_loop: &EventLoop, listening: &Arc<ListeningSocket>) -> io::Result<Self> {
        let source = event_loop.register(&**listening, EventFlags::IN)?;
        Ok(Self {
            event_loop: event_loop.clone(),
            listening: listening.clone(),
            source,
        })
    }

    /// Ready if the last epoll_wait found a queued connection, or the socket closed.
    pub fn poll_acceptable(&self) -> Poll<()> {
        let acceptable = self.event_loop.poll_source(&self.source, ready::READABLE);
        self.source.clear(ready::READABLE);
        acceptable
    }
}

impl Drop for AcceptReadiness {
    fn drop(&mut self) {
        // Fails only if it is not registered any more.
        let _ = epoll::delete(&self.event_loop.0.epoll, &*self.listening);
        self.event_loop.deregister(&self.source);
    }
}
