//! Sockets as the reactor's tasks use them: a connection, and a listening socket that is watched.
//!
//! Invariant: whoever finds a socket not ready has had the running task noted for its next event.

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
use crate::net::socket::{self, Listening};

/// What one read has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Bytes.
    pub len: usize,
    /// Whether these are the last, or the end itself.
    pub last: bool,
}

/// Whether the kernel may hold back a small segment (Nagle's algorithm, RFC 896).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delay {
    /// Nothing has been sent, and the first segment always leaves at once.
    Unsent,
    /// The next one could wait for the first to be acknowledged.
    Sent,
    /// No.
    Off,
}

/// A connection of the running thread's reactor.
pub struct Stream {
    reactor: EventLoop,
    socket: OwnedFd,
    source: Rc<EventSource>,
    delay: Cell<Delay>,
    /// Whether it is told when the socket takes bytes again: an accepted one does from the start, and few ever fill up.
    hears_writable: Cell<bool>,
}

/// What every connection is watched for.
const READING: EventFlags = EventFlags::IN
    .union(EventFlags::RDHUP)
    .union(EventFlags::PRI)
    .union(EventFlags::ET);

impl Stream {
    /// Takes an accepted socket over, which inherited TCP_NODELAY and SO_OOBINLINE.
    ///
    /// # Errors
    ///
    /// What epoll_ctl(2) says: this machine lacks memory or watches.
    pub fn accepted(reactor: &EventLoop, socket: OwnedFd) -> io::Result<Self> {
        let stream = Self::adopt(reactor, socket, READING, Delay::Off)?;
        stream.source.set(ready::WRITABLE);
        Ok(stream)
    }

    /// Takes a socket over that is being connected, with SO_OOBINLINE.
    ///
    /// # Errors
    ///
    /// What epoll_ctl(2) says: this machine lacks memory or watches.
    pub fn connecting(reactor: &EventLoop, socket: OwnedFd) -> io::Result<Self> {
        let events = READING.union(EventFlags::OUT);
        Self::adopt(reactor, socket, events, Delay::Unsent)
    }

    fn adopt(
        reactor: &EventLoop,
        socket: OwnedFd,
        events: EventFlags,
        delay: Delay,
    ) -> io::Result<Self> {
        let source = reactor.register(&socket, events)?;
        Ok(Self {
            reactor: reactor.clone(),
            socket,
            source,
            delay: Cell::new(delay),
            hears_writable: Cell::new(events.contains(EventFlags::OUT)),
        })
    }

    /// Whose it is.
    #[must_use]
    pub fn reactor(&self) -> &EventLoop {
        &self.reactor
    }

    /// Ready when there may be something to read: bytes, the end, or an error.
    pub fn poll_readable(&self) -> Poll<()> {
        self.reactor.poll_source(&self.source, ready::READABLE)
    }

    /// Ready when something may be written.
    pub fn poll_writable(&self) -> Poll<()> {
        self.reactor.poll_source(&self.source, ready::WRITABLE)
    }

    /// Ready when the connection has failed; [`Stream::error`] says how.
    pub fn poll_failed(&self) -> Poll<()> {
        self.reactor.poll_source(&self.source, ready::FAILED)
    }

    /// What the connection has failed with; a reset where the kernel has told that already.
    #[must_use]
    pub fn error(&self) -> io::Error {
        match sockopt::socket_error(&self.socket) {
            Ok(Err(error)) | Err(error) => error.into(),
            Ok(Ok(())) => Errno::CONNRESET.into(),
        }
    }

    /// Reads once; `None` where there is nothing now.
    ///
    /// A short count says that the socket is drained, so the call that would say EAGAIN is never made (epoll(7), question
    /// 9); where the peer's end was known before, it also says that these are the last bytes. Urgent bytes cut reads
    /// short, so after one only EAGAIN and 0 are believed.
    ///
    /// # Errors
    ///
    /// What recv(2) says.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Chunk>> {
        let ended = self.source.is(ready::ENDED);
        let read =
            self.read_with(|| Ok(recv(&self.socket, &mut *buffer, RecvFlags::empty())?.0))?;
        if read.is_none() && !self.source.is(ready::READABLE) {
            // All of it has been read, the urgent byte as well.
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

    /// Makes a call of splice(2) that reads; `None` where that found nothing. At an urgent byte it finds nothing though more
    /// may be there (`tcp_read_sock` of Linux): then the socket stays readable, and only [`Stream::receive`] can go on.
    ///
    /// # Errors
    ///
    /// What the call says.
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

    /// Whether it is still to be seen if there is something to read.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.source.is(ready::READABLE)
    }

    /// Writes once; says how many bytes the socket took, none where it is full.
    ///
    /// # Errors
    ///
    /// What send(2) says.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.write_with(|| Ok(send(&self.socket, bytes, SendFlags::NOSIGNAL)?))?;
        if 0 < sent && sent < bytes.len() {
            self.is_full()?;
        }
        Ok(sent)
    }

    /// Makes a call that reads; `None` where that found nothing.
    ///
    /// # Errors
    ///
    /// What the call says.
    pub fn read_with(&self, call: impl FnOnce() -> io::Result<usize>) -> io::Result<Option<usize>> {
        match call() {
            Ok(count) => Ok(Some(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.source.clear(ready::READABLE);
                Ok(None)
            }
            // As ready as before.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a call that writes; 0 where the socket is full.
    ///
    /// # Errors
    ///
    /// What the call says.
    pub fn write_with(&self, call: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
        match self.delay.get() {
            Delay::Off => {}
            Delay::Unsent => self.delay.set(Delay::Sent),
            Delay::Sent => {
                socket::send_at_once(&self.socket);
                self.delay.set(Delay::Off);
            }
        }
        match call() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_full().map(|()| 0),
            // As ready as before.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            called => called,
        }
    }

    /// The socket takes nothing now; the next event says that it does, also if it has begun to meanwhile.
    fn is_full(&self) -> io::Result<()> {
        self.source.clear(ready::WRITABLE);
        if !self.hears_writable.replace(true) {
            let events = READING.union(EventFlags::OUT);
            self.reactor.change(&self.socket, &self.source, events)?;
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
        self.reactor.forget(&self.source);
    }
}

/// A listening socket that is watched, level-triggered: as long as somebody waits in its queue, each look at the sockets
/// says so. It belongs to others too, so its registration ends by `Drop` and not by closing.
pub struct AcceptReadiness {
    reactor: EventLoop,
    listening: Arc<Listening>,
    source: Rc<EventSource>,
}

impl AcceptReadiness {
    /// Watches over `listening`.
    ///
    /// # Errors
    ///
    /// What epoll_ctl(2) says: this machine lacks memory or watches.
    pub fn new(reactor: &EventLoop, listening: &Arc<Listening>) -> io::Result<Self> {
        let source = reactor.register(&**listening, EventFlags::IN)?;
        Ok(Self {
            reactor: reactor.clone(),
            listening: listening.clone(),
            source,
        })
    }

    /// Ready when the last look at the sockets found somebody waiting, or the socket closed.
    pub fn poll_waiting(&self) -> Poll<()> {
        let waiting = self.reactor.poll_source(&self.source, ready::READABLE);
        self.source.clear(ready::READABLE);
        waiting
    }
}

impl Drop for AcceptReadiness {
    fn drop(&mut self) {
        // What is not registered any more needs no removal.
        let _ = epoll::delete(&self.reactor.0.epoll, &*self.listening);
        self.reactor.forget(&self.source);
    }
}
