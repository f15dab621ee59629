//! One direction of a relay.
//!
//! Owns what has been read and not yet written, and the choice between copying and splicing. Invariant: at most one of
//! `rest` and `pipe` holds bytes, and nothing is read while either does.
//!
//! Small messages are copied through one buffer a worker, because below some 16 KiB that is cheaper than two calls to
//! splice(2); a run of full buffers is a stream, and streams are spliced.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};
use tokio::io::{Interest, Ready};
use tokio::net::TcpStream;

use super::{Fault, Side};
use crate::metrics::{BackendMetrics, Direction, Path};
use crate::socket;
use crate::splice::Pipe;

/// What one read of a message takes, in bytes.
const MESSAGE: usize = 16 * 1024;
/// What one read of a stream takes while there are no pipes, in bytes: also what a flow holds at most whose target has
/// stalled.
const BUFFER: usize = 64 * 1024;
/// Full reads in a row that make a stream.
const STREAM_AFTER: u8 = 2;
/// Fills under [`MESSAGE`] in a row that make messages of a stream again.
const MESSAGES_AFTER: u8 = 2;
/// What one flow moves before other connections have their turn, in bytes.
const TURN: u64 = 512 * 1024;

thread_local!(static WORKER_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into()));

/// How bytes are moved now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Through the worker's buffer; counts full reads in a row.
    Messages(u8),
    /// Through a pipe; counts small fills in a row.
    Stream(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The source has closed; what is held is still to be written.
    Ending,
    /// The end has been passed on.
    Closed,
}

type ErrorWatch<'a> = Pin<Box<dyn Future<Output = io::Result<Ready>> + Send + 'a>>;

pub(super) struct Flow<'a> {
    from: &'a TcpStream,
    to: &'a TcpStream,
    direction: Direction,
    state: State,
    mode: Mode,
    rest: Vec<u8>,
    written: usize,
    pipe: Option<Pipe>,
    /// Bytes that the target's socket took.
    pub(super) moved: u64,
    /// Sees the source's reset while the target takes nothing, when nothing is read either.
    reset_watch: Option<ErrorWatch<'a>>,
}

impl<'a> Flow<'a> {
    pub(super) fn new(
        from: &'a TcpStream,
        to: &'a TcpStream,
        direction: Direction,
        rest: Vec<u8>,
    ) -> Self {
        Self {
            from,
            to,
            direction,
            state: State::Open,
            mode: Mode::Messages(0),
            rest,
            written: 0,
            pipe: None,
            moved: 0,
            reset_watch: None,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Moves what can be moved now, until a socket fails. A closed flow goes on watching its source for a reset.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, metrics: &BackendMetrics) -> Poll<Fault> {
        match ready!(self.poll_move(cx, metrics)) {
            Ok(()) => self.poll_reset(cx),
            Err(fault) => Poll::Ready(fault),
        }
    }

    /// Ready when the end has been passed on, or a socket has failed.
    fn poll_move(
        &mut self,
        cx: &mut Context<'_>,
        metrics: &BackendMetrics,
    ) -> Poll<Result<(), Fault>> {
        let turn_ends = self.moved + TURN;
        loop {
            if self.state == State::Closed {
                return Poll::Ready(Ok(()));
            }
            if self.holds() {
                ready!(self.poll_write(cx, metrics))?;
            } else if self.state == State::Ending {
                self.give_back();
                // It fails only on a socket that has been reset (tcp(7)), so what it took last may be lost.
                if shutdown(self.to, Shutdown::Write).is_err() {
                    let error = self.to.take_error().unwrap_or_else(Some);
                    let error = error.unwrap_or_else(|| Errno::CONNRESET.into());
                    return Poll::Ready(Err(self.fault_of_target(error)));
                }
                self.state = State::Closed;
            } else if self.moved >= turn_ends {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            } else {
                ready!(self.poll_read(cx, metrics))?;
            }
        }
    }

    fn holds(&self) -> bool {
        !self.rest.is_empty() || self.pipe.as_ref().is_some_and(|pipe| pipe.held() > 0)
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        metrics: &BackendMetrics,
    ) -> Poll<Result<(), Fault>> {
        let read = match self.from.poll_read_ready(cx) {
            Poll::Ready(Ok(())) => self.read(metrics),
            Poll::Ready(Err(error)) => Err(self.fault_of_source(error)),
            Poll::Pending => {
                self.give_back();
                return Poll::Pending;
            }
        };
        Poll::Ready(read)
    }

    /// One read and, where bytes were copied, one write.
    fn read(&mut self, metrics: &BackendMetrics) -> Result<(), Fault> {
        if let Mode::Stream(small) = self.mode {
            self.pipe = self.pipe.take().or_else(Pipe::borrow);
            if let Some(pipe) = &mut self.pipe {
                let filled = self
                    .from
                    .try_io(Interest::READABLE, || pipe.fill(self.from));
                return self.has_filled(filled, small);
            }
        }
        WORKER_BUFFER.with_borrow_mut(|buffer| {
            let room = if matches!(self.mode, Mode::Stream(_)) {
                BUFFER
            } else {
                MESSAGE
            };
            match socket::receive(self.from, &mut buffer[..room]) {
                Ok(Some(0)) => self.state = State::Ending,
                Ok(Some(read)) => {
                    self.has_read(read, room);
                    let written = self.write(&buffer[..read])?;
                    self.count(Path::Copied, written, metrics);
                    self.rest.extend_from_slice(&buffer[written..read]);
                }
                Ok(None) => {}
                Err(error) => return Err(self.fault_of_source(error)),
            }
            Ok(())
        })
    }

    fn has_read(&mut self, read: usize, room: usize) {
        self.mode = match self.mode {
            Mode::Messages(full) if read == room && full + 1 >= STREAM_AFTER => Mode::Stream(0),
            Mode::Messages(full) if read == room => Mode::Messages(full + 1),
            Mode::Stream(small) => Self::after_fill(read, small),
            Mode::Messages(_) => Mode::Messages(0),
        };
    }

    fn has_filled(&mut self, filled: io::Result<usize>, small: u8) -> Result<(), Fault> {
        match filled {
            // The end of the stream, or TCP's urgent mark, where splice(2) says 0, too (`tcp_splice_read` of Linux):
            // recv(2) tells them apart.
            Ok(0) => self.mode = Mode::Messages(0),
            Ok(filled) => self.mode = Self::after_fill(filled, small),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(self.fault_of_source(error)),
        }
        Ok(())
    }

    fn after_fill(filled: usize, small: u8) -> Mode {
        match filled {
            MESSAGE.. => Mode::Stream(0),
            _ if small + 1 < MESSAGES_AFTER => Mode::Stream(small + 1),
            _ => Mode::Messages(0),
        }
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        metrics: &BackendMetrics,
    ) -> Poll<Result<(), Fault>> {
        match self.to.poll_write_ready(cx) {
            Poll::Ready(Ok(())) => self.reset_watch = None,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(self.fault_of_target(error))),
            Poll::Pending => return self.poll_reset(cx).map(Err),
        }
        if let Some(pipe) = self.pipe.as_mut().filter(|pipe| pipe.held() > 0) {
            match self.to.try_io(Interest::WRITABLE, || pipe.drain(self.to)) {
                Ok(drained) => self.count(Path::Spliced, drained, metrics),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(self.fault_of_target(error))),
            }
            return Poll::Ready(Ok(()));
        }
        let rest = std::mem::take(&mut self.rest);
        let written = self.write(&rest[self.written..])?;
        self.count(Path::Copied, written, metrics);
        self.written += written;
        if self.written < rest.len() {
            self.rest = rest;
        } else {
            self.written = 0;
        }
        Poll::Ready(Ok(()))
    }

    /// While nothing is read, for the target takes nothing or the source has closed, a reset would not be seen.
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        let from = self.from;
        let watch = self
            .reset_watch
            .get_or_insert_with(|| Box::pin(from.ready(Interest::ERROR)));
        let ready = ready!(watch.as_mut().poll(cx));
        self.reset_watch = None;
        let error = ready.and_then(|_| from.take_error()).unwrap_or_else(Some);
        Poll::Ready(self.fault_of_source(error.unwrap_or_else(|| Errno::CONNRESET.into())))
    }

    /// One write; says how many of the bytes the target took.
    fn write(&self, bytes: &[u8]) -> Result<usize, Fault> {
        let written = socket::send(self.to, bytes);
        written
            .map(Option::unwrap_or_default)
            .map_err(|error| self.fault_of_target(error))
    }

    fn count(&mut self, path: Path, moved: usize, metrics: &BackendMetrics) {
        self.moved += moved as u64;
        metrics.moved(self.direction, path, moved as u64);
    }

    fn give_back(&mut self) {
        if let Some(pipe) = self.pipe.take() {
            pipe.give_back();
        }
    }

    fn fault_of_source(&self, error: io::Error) -> Fault {
        let side = match self.direction {
            Direction::ToBackend => Side::Client,
            Direction::ToClient => Side::Backend,
        };
        Fault { side, error }
    }

    fn fault_of_target(&self, error: io::Error) -> Fault {
        let side = match self.direction {
            Direction::ToBackend => Side::Backend,
            Direction::ToClient => Side::Client,
        };
        Fault { side, error }
    }
}
