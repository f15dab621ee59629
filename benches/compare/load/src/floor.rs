//! The floor: the barest relay that does the same kernel work as a balancer.
//!
//! One thread, edge-triggered epoll, one registration a socket. The hello is read once and not looked at; there is no
//! routing, no timer, no limit, no log and no count. Small messages are copied through one buffer, streams spliced
//! through borrowed pipes. It exists to be compared with, and is safe for nothing else.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketFlags, connect, recv, send, shutdown};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

use crate::poller::Poller;
use crate::socket::{accept, listen_on, stream_socket};

const DOOR: usize = usize::MAX;
const CLIENT: usize = 0;
const BACKEND: usize = 1;
/// One read of a message.
const MESSAGE: usize = 16 * 1024;
/// Full reads in a row that make a stream.
const STREAM_AFTER: u32 = 2;
/// The most that a user may have by default. Beside a quarter of it, with turns a quarter as long, it was cheaper for
/// several streams in most runs, and no different for one.
const PIPE: usize = 1024 * 1024;
/// What one flow moves before others have their turn.
const TURN: usize = 2 * PIPE;

struct Pipe {
    output: OwnedFd,
    input: OwnedFd,
}

/// The bytes that one side sends; `flows[CLIENT]` are the client's.
#[derive(Default)]
struct Flow {
    readable: bool,
    /// The source has sent its last byte.
    hung_up: bool,
    ended: bool,
    rest: Vec<u8>,
    full: u32,
    pipe: Option<Pipe>,
    held: usize,
    /// Its turn is over, and the next one comes by itself.
    waits: bool,
}

struct Pair {
    sides: [Option<OwnedFd>; 2],
    flows: [Flow; 2],
    connected: bool,
}

struct Floor {
    poller: Poller,
    to: SocketAddr,
    pairs: Vec<Option<Pair>>,
    free: Vec<usize>,
    /// Freed while events were handled, which may still name them.
    freed: Vec<usize>,
    again: VecDeque<(usize, usize)>,
    pipes: Vec<Pipe>,
    buffer: Vec<u8>,
}

/// Relays until it is killed.
pub(crate) fn run(listen: SocketAddr, to: SocketAddr) -> io::Result<()> {
    let door = listen_on(listen)?;
    let mut floor = Floor {
        poller: Poller::new(256)?,
        to,
        pairs: Vec::new(),
        free: Vec::new(),
        freed: Vec::new(),
        again: VecDeque::new(),
        pipes: Vec::new(),
        buffer: vec![0; MESSAGE],
    };
    floor.poller.add(&door, DOOR, EventFlags::IN)?;
    loop {
        let wait = (!floor.again.is_empty()).then_some(Duration::ZERO);
        let events = floor.poller.wait(wait)?;
        for number in 0..events {
            match floor.poller.event(number) {
                // Alone, it is one client; among others, more are likely to wait than the one call that fails costs.
                (DOOR, _) => while floor.welcome(&door)? && events > 1 {},
                (token, flags) => floor.handle(token / 2, token % 2, flags),
            }
        }
        for (index, side) in std::mem::take(&mut floor.again) {
            if let Some(pair) = &mut floor.pairs[index] {
                pair.flows[side].waits = false;
            }
            floor.pump(index, side);
        }
        floor.free.append(&mut floor.freed);
    }
}

impl Floor {
    /// `false` when there was nobody.
    fn welcome(&mut self, door: &OwnedFd) -> io::Result<bool> {
        let Some(client) = accept(door)? else {
            return Ok(false);
        };
        let index = self.free.pop().unwrap_or_else(|| {
            self.pairs.push(None);
            self.pairs.len() - 1
        });
        self.watch(&client, index * 2 + CLIENT)?;
        self.pairs[index] = Some(Pair {
            sides: [Some(client), None],
            flows: Default::default(),
            connected: false,
        });
        Ok(true)
    }

    fn watch(&self, socket: &OwnedFd, token: usize) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        self.poller.add(socket, token, flags)
    }

    fn handle(&mut self, index: usize, side: usize, flags: EventFlags) {
        let Some(pair) = self.pairs.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        if flags.intersects(EventFlags::ERR) {
            return self.close(index);
        }
        if flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP) {
            pair.flows[side].readable = true;
            pair.flows[side].hung_up |= flags.intersects(EventFlags::RDHUP | EventFlags::HUP);
        }
        if pair.sides[BACKEND].is_none() {
            if pair.flows[CLIENT].readable && self.hear(index).is_err() {
                self.close(index);
            }
            return;
        }
        if side == BACKEND && flags.intersects(EventFlags::OUT) {
            pair.connected = true;
        }
        if !pair.connected {
            return;
        }
        if flags.intersects(EventFlags::OUT) && pair.flows[1 - side].holds() {
            self.pump(index, 1 - side);
        }
        let readable = |pair: &Pair| pair.flows[side].readable;
        if self.pairs[index].as_ref().is_some_and(readable) {
            self.pump(index, side);
        }
    }

    /// Reads the hello, whatever of it has come, and connects.
    fn hear(&mut self, index: usize) -> io::Result<()> {
        let Some(Pair {
            sides: [Some(client), backend],
            flows,
            ..
        }) = &mut self.pairs[index]
        else {
            return Ok(());
        };
        let read = match recv(&*client, &mut self.buffer[..], RecvFlags::empty()) {
            Ok((0, _)) => return Err(Errno::CONNRESET.into()),
            Ok((read, _)) => read,
            Err(Errno::AGAIN) => {
                flows[CLIENT].readable = false;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        flows[CLIENT].readable = read == MESSAGE || flows[CLIENT].hung_up;
        flows[CLIENT].rest.extend_from_slice(&self.buffer[..read]);
        let socket = stream_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        match connect(&socket, &self.to) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let socket = backend.insert(socket);
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        self.poller.add(socket, index * 2 + BACKEND, flags)
    }

    /// Moves what `side` has sent, until a socket is in the way.
    fn pump(&mut self, index: usize, side: usize) {
        let Some(Pair { sides, flows, .. }) = self.pairs[index].as_mut() else {
            return;
        };
        let [Some(client), Some(backend)] = sides else {
            return;
        };
        if flows[side].waits {
            return;
        }
        let (from, to) = if side == CLIENT {
            (client, backend)
        } else {
            (backend, client)
        };
        let moved = flows[side].pump(from, to, &mut self.buffer, &mut self.pipes);
        match moved {
            Ok(true) => {
                flows[side].waits = true;
                self.again.push_back((index, side));
            }
            Ok(false) if !flows[side].is_done() => {}
            Ok(false) if !flows[1 - side].ended => {
                // It fails only where the other side is gone, which is seen there.
                let _ = shutdown(&*to, Shutdown::Write);
            }
            Ok(false) | Err(_) => self.close(index),
        }
    }

    fn close(&mut self, index: usize) {
        self.pairs[index] = None;
        self.freed.push(index);
    }
}

impl Flow {
    fn holds(&self) -> bool {
        self.held > 0 || !self.rest.is_empty()
    }

    /// Every byte has gone its way, the last one too.
    fn is_done(&self) -> bool {
        self.ended && !self.holds()
    }

    /// `true` when its turn is over before its bytes are.
    fn pump(
        &mut self,
        from: &impl AsFd,
        to: &impl AsFd,
        buffer: &mut [u8],
        pipes: &mut Vec<Pipe>,
    ) -> Result<bool, Errno> {
        let mut moved = 0;
        loop {
            if !self.drain(to)? || self.ended {
                return Ok(false);
            }
            if !self.readable {
                pipes.extend(self.pipe.take());
                return Ok(false);
            }
            if moved >= TURN {
                return Ok(true);
            }
            moved += if self.full < STREAM_AFTER {
                self.copy(from, to, buffer)?
            } else {
                self.fill(from, pipes)?
            };
        }
    }

    /// `false` while the target takes no more.
    fn drain(&mut self, to: &impl AsFd) -> Result<bool, Errno> {
        while self.held > 0
            && let Some(pipe) = &self.pipe
        {
            match splice(&pipe.output, None, to, None, self.held, FLAGS) {
                Ok(drained) => self.held -= drained,
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        if !self.rest.is_empty() {
            match send(to, &self.rest, SendFlags::NOSIGNAL) {
                Ok(sent) if sent == self.rest.len() => self.rest = Vec::new(),
                Ok(sent) => drop(self.rest.drain(..sent)),
                Err(Errno::AGAIN) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.rest.is_empty())
    }

    fn copy(
        &mut self,
        from: &impl AsFd,
        to: &impl AsFd,
        buffer: &mut [u8],
    ) -> Result<usize, Errno> {
        let read = match recv(from, &mut *buffer, RecvFlags::empty()) {
            Ok((read, _)) => read,
            Err(Errno::AGAIN) => {
                self.readable = false;
                return Ok(0);
            }
            Err(error) => return Err(error),
        };
        let whole = read == buffer.len();
        self.full = if whole { self.full + 1 } else { 0 };
        self.readable = whole;
        // With the hang-up seen before, what is short is the last.
        self.ended = read == 0 || (self.hung_up && !whole);
        if read > 0 {
            let sent = match send(to, &buffer[..read], SendFlags::NOSIGNAL) {
                Ok(sent) => sent,
                Err(Errno::AGAIN) => 0,
                Err(error) => return Err(error),
            };
            self.rest.extend_from_slice(&buffer[sent..read]);
        }
        Ok(read)
    }

    fn fill(&mut self, from: &impl AsFd, pipes: &mut Vec<Pipe>) -> Result<usize, Errno> {
        let pipe = match self.pipe.take().or_else(|| pipes.pop()) {
            Some(pipe) => pipe,
            None => Pipe::open()?,
        };
        let filled = splice(from, None, &pipe.input, None, PIPE, FLAGS);
        self.pipe = Some(pipe);
        match filled {
            Ok(filled) => {
                self.held = filled;
                self.ended = filled == 0;
                self.full = if filled < MESSAGE { 0 } else { self.full };
                Ok(filled)
            }
            Err(Errno::AGAIN) => {
                self.readable = false;
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }
}

const FLAGS: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

impl Pipe {
    fn open() -> Result<Self, Errno> {
        let (output, input) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        fcntl_setpipe_size(&input, PIPE)?;
        Ok(Self { output, input })
    }
}
