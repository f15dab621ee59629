//! One direction of a relay.
//!
//! Owns the bytes that were read but not yet written, and the choice between copying and splicing. Must not know the other
//! direction. Invariant: at most one of `pending` and `pipe` has bytes, and nothing is read while either does.
//!
//! Messages are copied through the worker's buffer, because below about 16 KiB that is cheaper than two calls of splice(2).
//! Several full reads in a row are a stream, and streams are spliced.

use std::io;
use std::task::{Poll, ready};

use rustix::net::{Shutdown, shutdown};

use super::pending::PendingBytes;
use super::{FlowError, Observer, Side};
use crate::net::event_loop::{self, Stream};
use crate::net::splice::{self, Pipe};
use crate::protocol::tls::server_hello::ReaderStatus;
use crate::telemetry::metrics::{BackendMetrics, Direction, TransferPath};

/// Most bytes of one read in message mode.
const MESSAGE_READ: usize = 16 * 1024;
/// Most bytes of one read in stream mode if no pipe is available; also the most that a flow keeps while its target is stalled.
const STREAM_READ: usize = event_loop::BUFFER;
/// After this many full reads in a row the flow is a stream.
const STREAM_AFTER: u8 = 2;
/// After this many fills below [`MESSAGE_READ`] in a row a stream is back in message mode.
const MESSAGES_AFTER: u8 = 2;
/// Most bytes that a flow moves in one turn, before other connections run: the size of a pipe. Less would cost more for each
/// byte, and a message of another connection waits for one turn at most.
const MAX_TURN: u64 = 256 * 1024;

/// How bytes are moved now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Copied through the worker's buffer; counts full reads in a row.
    Messages(u8),
    /// Spliced through a pipe; counts small fills in a row.
    Stream(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FlowState {
    Open,
    /// The source has closed; pending bytes are still to be written.
    Ending,
    /// The end of the stream has been passed on.
    Closed,
}

pub(super) struct Flow<'a> {
    pub(super) from: &'a Stream,
    to: &'a Stream,
    direction: Direction,
    state: FlowState,
    mode: Mode,
    /// Bytes that were read and that the target has not accepted yet; never empty.
    pending: Option<PendingBytes>,
    pipe: Option<Pipe>,
    /// Observes the bytes that are read; nothing is spliced meanwhile.
    observer: Option<Observer<'a>>,
    /// Bytes that the target's socket has accepted.
    pub(super) moved: u64,
}

impl<'a> Flow<'a> {
    /// A flow that has moved `moved` bytes already, and continues with `unsent`.
    pub(super) fn new(
        from: &'a Stream,
        to: &'a Stream,
        direction: Direction,
        unsent: Vec<u8>,
        moved: u64,
    ) -> Self {
        Self {
            from,
            to,
            direction,
            state: FlowState::Open,
            mode: Mode::Messages(0),
            pending: (!unsent.is_empty()).then(|| PendingBytes::from_vec(unsent)),
            pipe: None,
            observer: None,
            moved,
        }
    }

    /// The same flow with an observer of the bytes that it reads.
    pub(super) fn with_observer(self, observer: Option<Observer<'a>>) -> Self {
        Self { observer, ..self }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state == FlowState::Closed
    }

    /// Moves the bytes that can be moved now; ready when a socket fails. A closed flow still watches its source for a reset.
    /// `is_last`: the other flow has closed, so closing the sockets passes on the end of this one.
    pub(super) fn poll(&mut self, metrics: &BackendMetrics, is_last: bool) -> Poll<FlowError> {
        match ready!(self.poll_move(metrics, is_last)) {
            Ok(()) => self.poll_reset(),
            Err(error) => Poll::Ready(error),
        }
    }

    /// Ready when the end of the stream has been passed on, or a socket has failed.
    fn poll_move(
        &mut self,
        metrics: &BackendMetrics,
        is_last: bool,
    ) -> Poll<Result<(), FlowError>> {
        let turn_ends = self.moved + MAX_TURN;
        loop {
            if self.state == FlowState::Closed {
                return Poll::Ready(Ok(()));
            }
            if self.has_pending() {
                ready!(self.poll_write(metrics))?;
            } else if self.state == FlowState::Ending {
                self.release_pipe();
                // Fails only if the socket was reset (tcp(7)); then the bytes that it accepted last may be lost.
                if !is_last && shutdown(self.to, Shutdown::Write).is_err() {
                    return Poll::Ready(Err(self.target_error(self.to.error())));
                }
                self.state = FlowState::Closed;
            } else if self.moved >= turn_ends {
                self.from.event_loop().yield_turn();
                return Poll::Pending;
            } else {
                ready!(self.poll_read(metrics))?;
            }
        }
    }

    fn has_pending(&self) -> bool {
        self.pending.is_some() || self.pipe.as_ref().is_some_and(|pipe| !pipe.is_empty())
    }

    fn poll_read(&mut self, metrics: &BackendMetrics) -> Poll<Result<(), FlowError>> {
        if self.from.poll_readable().is_pending() {
            self.release_pipe();
            return Poll::Pending;
        }
        Poll::Ready(self.read(metrics))
    }

    /// One read and, if bytes were copied, one write.
    fn read(&mut self, metrics: &BackendMetrics) -> Result<(), FlowError> {
        if let (Mode::Stream(small), None) = (self.mode, &self.observer)
            && let Some(filled) = self.fill()
        {
            return self.after_fill(filled, small);
        }
        let room = match self.mode {
            Mode::Stream(_) => STREAM_READ,
            Mode::Messages(_) => MESSAGE_READ,
        };
        self.from.event_loop().with_buffer(|buffer| {
            let read = self.from.receive(&mut buffer[..room]);
            let Some(chunk) = read.map_err(|error| self.source_error(error))? else {
                return Ok(());
            };
            if chunk.last {
                self.state = FlowState::Ending;
            }
            if chunk.len > 0 {
                self.after_read(chunk.len, room);
                self.observe(&buffer[..chunk.len]);
                let written = self.write(&buffer[..chunk.len])?;
                self.count(TransferPath::Copied, written, metrics);
                let unsent = &buffer[written..chunk.len];
                self.pending = (!unsent.is_empty()).then(|| PendingBytes::copy_of(unsent));
            }
            Ok(())
        })
    }

    /// Fills a pipe; `None` if no pipe is available or splicing does not work.
    fn fill(&mut self) -> Option<io::Result<Option<usize>>> {
        self.pipe = self.pipe.take().or_else(Pipe::acquire);
        let pipe = self.pipe.as_mut()?;
        let filled = self.from.splice_with(|| pipe.fill(self.from));
        if filled.as_ref().is_err_and(splice::note_unavailable) {
            self.pipe = None;
            return None;
        }
        Some(filled)
    }

    fn after_read(&mut self, read: usize, room: usize) {
        self.mode = match self.mode {
            Mode::Messages(full) if read == room && full + 1 >= STREAM_AFTER => Mode::Stream(0),
            Mode::Messages(full) if read == room => Mode::Messages(full + 1),
            Mode::Stream(small) => Self::stream_mode(read, small),
            Mode::Messages(_) => Mode::Messages(0),
        };
    }

    /// Called before the bytes are sent, so that what the observer learns is in effect when the peer reads them.
    fn observe(&mut self, bytes: &[u8]) {
        if let Some(observer) = &mut self.observer
            && observer(bytes) == ReaderStatus::Done
        {
            self.observer = None;
        }
    }

    fn after_fill(
        &mut self,
        filled: io::Result<Option<usize>>,
        small: u8,
    ) -> Result<(), FlowError> {
        match filled {
            // The end of the stream, or TCP's urgent mark, for which splice(2) also returns 0 (`tcp_splice_read` of Linux):
            // recv(2) distinguishes them.
            Ok(Some(0)) => self.mode = Mode::Messages(0),
            Ok(Some(filled)) => self.mode = Self::stream_mode(filled, small),
            // At the mark it may also return EAGAIN.
            Ok(None) if self.from.is_readable() => self.mode = Mode::Messages(0),
            Ok(None) => {}
            Err(error) => return Err(self.source_error(error)),
        }
        Ok(())
    }

    fn stream_mode(filled: usize, small: u8) -> Mode {
        match filled {
            MESSAGE_READ.. => Mode::Stream(0),
            _ if small + 1 < MESSAGES_AFTER => Mode::Stream(small + 1),
            _ => Mode::Messages(0),
        }
    }

    fn poll_write(&mut self, metrics: &BackendMetrics) -> Poll<Result<(), FlowError>> {
        if self.to.poll_writable().is_pending() {
            return self.poll_reset().map(Err);
        }
        if let Some(pipe) = self.pipe.as_mut().filter(|pipe| !pipe.is_empty()) {
            let drained = self.to.write_with(|| pipe.drain(self.to));
            if drained.as_ref().is_err_and(splice::note_unavailable) {
                return Poll::Ready(self.empty_pipe());
            }
            let drained = drained.map_err(|error| self.target_error(error))?;
            self.count(TransferPath::Spliced, drained, metrics);
            return Poll::Ready(Ok(()));
        }
        if let Some(mut pending) = self.pending.take() {
            let written = pending.with(|bytes| self.write(bytes))?;
            self.count(TransferPath::Copied, written, metrics);
            self.pending = pending.advance(written).then_some(pending);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads back the bytes in the pipe, which cannot be spliced on.
    fn empty_pipe(&mut self) -> Result<(), FlowError> {
        let Some(pipe) = self.pipe.take() else {
            return Ok(());
        };
        let bytes = pipe.into_bytes();
        let bytes = bytes.map_err(|error| self.target_error(error))?;
        self.pending = Some(PendingBytes::from_vec(bytes));
        Ok(())
    }

    /// Detects a reset while nothing is read, because the target is full or the source has closed.
    fn poll_reset(&self) -> Poll<FlowError> {
        let failed = self.from.poll_failed();
        failed.map(|()| self.source_error(self.from.error()))
    }

    /// One write; returns how many bytes the target accepted.
    fn write(&self, bytes: &[u8]) -> Result<usize, FlowError> {
        let written = self.to.send(bytes);
        written.map_err(|error| self.target_error(error))
    }

    fn count(&mut self, path: TransferPath, moved: usize, metrics: &BackendMetrics) {
        self.moved += moved as u64;
        metrics.record_bytes(self.direction, path, moved as u64);
    }

    fn release_pipe(&mut self) {
        if let Some(pipe) = self.pipe.take() {
            pipe.release();
        }
    }

    fn source_error(&self, error: io::Error) -> FlowError {
        let side = match self.direction {
            Direction::ToBackend => Side::Client,
            Direction::ToClient => Side::Backend,
        };
        FlowError { side, error }
    }

    fn target_error(&self, error: io::Error) -> FlowError {
        let side = match self.direction {
            Direction::ToBackend => Side::Backend,
            Direction::ToClient => Side::Client,
        };
        FlowError { side, error }
    }
}
