//! One direction of a relay.
//!
//! Owns what has been read and not yet written, and the choice between copying and splicing. Invariant: at most one of
//! `rest` and `pipe` holds bytes, and nothing is read while either does.
//!
//! Small messages are copied through one buffer a worker, because below some 16 KiB that is cheaper than two calls to
//! splice(2); a run of full buffers is a stream, and streams are spliced.

use std::io;
use std::task::{Poll, ready};

use rustix::net::{Shutdown, shutdown};

use super::shelf::Held;
use super::{FlowError, Listen, Side};
use crate::net::event_loop::{self, Stream};
use crate::net::splice::{self, Pipe};
use crate::protocol::tls::server_hello::ReaderStatus;
use crate::telemetry::metrics::{BackendMetrics, Direction, Path};

/// What one read of a message takes, in bytes.
const MESSAGE: usize = 16 * 1024;
/// What one read of a stream takes while there are no pipes, in bytes: also what a flow holds at most whose target has
/// stalled.
const BUFFER: usize = event_loop::BUFFER;
/// Full reads in a row that make a stream.
const STREAM_AFTER: u8 = 2;
/// Fills under [`MESSAGE`] in a row that make messages of a stream again.
const MESSAGES_AFTER: u8 = 2;
/// What one flow moves before other connections have their turn, in bytes: a pipe's worth, for less is dearer a byte, and a
/// message waits for no more than one turn.
const TURN: u64 = 256 * 1024;

/// How bytes are moved now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Through the worker's buffer; counts full reads in a row.
    Messages(u8),
    /// Through a pipe; counts small fills in a row.
    Stream(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FlowState {
    Open,
    /// The source has closed; what is held is still to be written.
    Ending,
    /// The end has been passed on.
    Closed,
}

pub(super) struct Flow<'a> {
    pub(super) from: &'a Stream,
    to: &'a Stream,
    direction: Direction,
    state: FlowState,
    mode: Mode,
    /// Bytes that were read and that the target has not taken; some, if any.
    rest: Option<Held>,
    pipe: Option<Pipe>,
    /// Who still listens to what is read; nothing is spliced meanwhile.
    listen: Option<Listen<'a>>,
    /// Bytes that the target's socket took.
    pub(super) moved: u64,
}

impl<'a> Flow<'a> {
    /// `moved` bytes have been moved before, and `rest` is the next to be.
    pub(super) fn new(
        from: &'a Stream,
        to: &'a Stream,
        direction: Direction,
        rest: Vec<u8>,
        moved: u64,
    ) -> Self {
        Self {
            from,
            to,
            direction,
            state: FlowState::Open,
            mode: Mode::Messages(0),
            rest: (!rest.is_empty()).then(|| Held::from_vec(rest)),
            pipe: None,
            listen: None,
            moved,
        }
    }

    /// The same, with someone who listens to what it reads.
    pub(super) fn heard_by(self, listen: Option<Listen<'a>>) -> Self {
        Self { listen, ..self }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state == FlowState::Closed
    }

    /// Moves what can be moved now, until a socket fails. A closed flow goes on watching its source for a reset.
    /// `is_last` says that the other flow has closed: then closing the sockets passes this one's end on.
    pub(super) fn poll(&mut self, metrics: &BackendMetrics, is_last: bool) -> Poll<FlowError> {
        match ready!(self.poll_move(metrics, is_last)) {
            Ok(()) => self.poll_reset(),
            Err(fault) => Poll::Ready(fault),
        }
    }

    /// Ready when the end has been passed on, or a socket has failed.
    fn poll_move(
        &mut self,
        metrics: &BackendMetrics,
        is_last: bool,
    ) -> Poll<Result<(), FlowError>> {
        let turn_ends = self.moved + TURN;
        loop {
            if self.state == FlowState::Closed {
                return Poll::Ready(Ok(()));
            }
            if self.holds() {
                ready!(self.poll_write(metrics))?;
            } else if self.state == FlowState::Ending {
                self.give_back();
                // It fails only on a socket that has been reset (tcp(7)), so what it took last may be lost.
                if !is_last && shutdown(self.to, Shutdown::Write).is_err() {
                    return Poll::Ready(Err(self.fault_of_target(self.to.error())));
                }
                self.state = FlowState::Closed;
            } else if self.moved >= turn_ends {
                self.from.reactor().again();
                return Poll::Pending;
            } else {
                ready!(self.poll_read(metrics))?;
            }
        }
    }

    fn holds(&self) -> bool {
        self.rest.is_some() || self.pipe.as_ref().is_some_and(|pipe| pipe.held() > 0)
    }

    fn poll_read(&mut self, metrics: &BackendMetrics) -> Poll<Result<(), FlowError>> {
        if self.from.poll_readable().is_pending() {
            self.give_back();
            return Poll::Pending;
        }
        Poll::Ready(self.read(metrics))
    }

    /// One read and, where bytes were copied, one write.
    fn read(&mut self, metrics: &BackendMetrics) -> Result<(), FlowError> {
        if let (Mode::Stream(small), None) = (self.mode, &self.listen)
            && let Some(filled) = self.fill()
        {
            return self.has_filled(filled, small);
        }
        let room = match self.mode {
            Mode::Stream(_) => BUFFER,
            Mode::Messages(_) => MESSAGE,
        };
        self.from.reactor().with_buffer(|buffer| {
            let read = self.from.receive(&mut buffer[..room]);
            let Some(chunk) = read.map_err(|error| self.fault_of_source(error))? else {
                return Ok(());
            };
            if chunk.last {
                self.state = FlowState::Ending;
            }
            if chunk.len > 0 {
                self.has_read(chunk.len, room);
                self.let_hear(&buffer[..chunk.len]);
                let written = self.write(&buffer[..chunk.len])?;
                self.count(Path::Copied, written, metrics);
                let rest = &buffer[written..chunk.len];
                self.rest = (!rest.is_empty()).then(|| Held::of(rest));
            }
            Ok(())
        })
    }

    /// Fills a pipe; `None` where there is none to be had, or the kernel splices nothing.
    fn fill(&mut self) -> Option<io::Result<Option<usize>>> {
        self.pipe = self.pipe.take().or_else(Pipe::borrow);
        let pipe = self.pipe.as_mut()?;
        let filled = self.from.splice_with(|| pipe.fill(self.from));
        if filled.as_ref().is_err_and(splice::note_refusal) {
            self.pipe = None;
            return None;
        }
        Some(filled)
    }

    fn has_read(&mut self, read: usize, room: usize) {
        self.mode = match self.mode {
            Mode::Messages(full) if read == room && full + 1 >= STREAM_AFTER => Mode::Stream(0),
            Mode::Messages(full) if read == room => Mode::Messages(full + 1),
            Mode::Stream(small) => Self::after_fill(read, small),
            Mode::Messages(_) => Mode::Messages(0),
        };
    }

    /// Before the bytes go on: whoever is told by them finds what was learned.
    fn let_hear(&mut self, bytes: &[u8]) {
        if let Some(listen) = &mut self.listen
            && listen(bytes) == ReaderStatus::Over
        {
            self.listen = None;
        }
    }

    fn has_filled(
        &mut self,
        filled: io::Result<Option<usize>>,
        small: u8,
    ) -> Result<(), FlowError> {
        match filled {
            // The end of the stream, or TCP's urgent mark, where splice(2) says 0, too (`tcp_splice_read` of Linux):
            // recv(2) tells them apart.
            Ok(Some(0)) => self.mode = Mode::Messages(0),
            Ok(Some(filled)) => self.mode = Self::after_fill(filled, small),
            // At the mark it may also say that there is nothing now.
            Ok(None) if self.from.is_readable() => self.mode = Mode::Messages(0),
            Ok(None) => {}
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

    fn poll_write(&mut self, metrics: &BackendMetrics) -> Poll<Result<(), FlowError>> {
        if self.to.poll_writable().is_pending() {
            return self.poll_reset().map(Err);
        }
        if let Some(pipe) = self.pipe.as_mut().filter(|pipe| pipe.held() > 0) {
            let drained = self.to.write_with(|| pipe.drain(self.to));
            if drained.as_ref().is_err_and(splice::note_refusal) {
                return Poll::Ready(self.empty_pipe());
            }
            let drained = drained.map_err(|error| self.fault_of_target(error))?;
            self.count(Path::Spliced, drained, metrics);
            return Poll::Ready(Ok(()));
        }
        if let Some(mut rest) = self.rest.take() {
            let written = rest.with(|bytes| self.write(bytes))?;
            self.count(Path::Copied, written, metrics);
            self.rest = rest.take(written).then_some(rest);
        }
        Poll::Ready(Ok(()))
    }

    /// Takes over what the pipe holds, which cannot be spliced on.
    fn empty_pipe(&mut self) -> Result<(), FlowError> {
        let Some(pipe) = self.pipe.take() else {
            return Ok(());
        };
        let rest = pipe.into_bytes();
        let rest = rest.map_err(|error| self.fault_of_target(error))?;
        self.rest = Some(Held::from_vec(rest));
        Ok(())
    }

    /// While nothing is read, for the target takes nothing or the source has closed, a reset would not be seen.
    fn poll_reset(&self) -> Poll<FlowError> {
        let failed = self.from.poll_failed();
        failed.map(|()| self.fault_of_source(self.from.error()))
    }

    /// One write; says how many of the bytes the target took.
    fn write(&self, bytes: &[u8]) -> Result<usize, FlowError> {
        let written = self.to.send(bytes);
        written.map_err(|error| self.fault_of_target(error))
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

    fn fault_of_source(&self, error: io::Error) -> FlowError {
        let side = match self.direction {
            Direction::ToBackend => Side::Client,
            Direction::ToClient => Side::Backend,
        };
        FlowError { side, error }
    }

    fn fault_of_target(&self, error: io::Error) -> FlowError {
        let side = match self.direction {
            Direction::ToBackend => Side::Backend,
            Direction::ToClient => Side::Client,
        };
        FlowError { side, error }
    }
}
