//! Pipes and splice(2): bytes that move between sockets without entering the process.
//!
//! Owns the only calls to splice(2) and pipe(2), and a worker's spare pipes. Knows no connection. Invariants: a worker
//! keeps to its [`Budget`]; a pipe is filled only when it is empty and drained whole before the next fill, so that EAGAIN is
//! always the socket's; a pipe goes back to the spare ones only when it is empty.
//!
//! Without CAP_SYS_RESOURCE the kernel gives a user pipes of two pages once `fs.pipe-user-pages-soft` pages are taken
//! (pipe(7)). The budget stays below that, but other programs of the same user count too: a pipe so small costs more than
//! copying, so it is given back at once and the caller copies.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::pipe::{
    PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice,
};

/// What a pipe must hold to be worth having, in bytes: a pipe's ordinary size.
const LEAST: usize = 64 * 1024;
/// Spare pipes that a worker keeps.
const SPARE: usize = 32;
/// How long a worker copies after the kernel has refused a pipe that is worth having.
const PAUSE: Duration = Duration::from_secs(1);

/// The pipes that a worker may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// How many, lent and spare: streams whose reader has stalled keep theirs, and must not take the descriptors that
    /// connections were promised.
    pub pipes: usize,
    /// What each is asked to hold, in bytes.
    pub size: usize,
}

impl Budget {
    /// Where nothing else bounds it. Larger pipes were measured to cost no less a byte.
    pub const MOST: Self = Self {
        pipes: 64,
        size: 256 * 1024,
    };
    /// A worker that has fewer pipes than this is better off with smaller ones.
    const FEW: usize = 16;

    /// What each of `workers` may have where all pipes together may hold `bytes`, and one at most `largest`: the largest
    /// size of which there are more than a few.
    #[must_use]
    pub fn within(bytes: usize, largest: usize, workers: usize) -> Self {
        let each = bytes / workers.max(1);
        let mut size = Self::MOST.size;
        while size > LEAST && (size > largest || each / size < Self::FEW) {
            size /= 2;
        }
        let pipes = if size > largest { 0 } else { each / size };
        Self {
            pipes: pipes.min(Self::MOST.pipes),
            size,
        }
    }
}

/// Gives the running thread its budget; one that was given none has [`Budget::MOST`].
pub fn allow(budget: Budget) {
    BUDGET.set(budget);
}

/// An empty pipe of this worker's, or one on its way through a transfer.
#[derive(Debug)]
pub struct Pipe {
    output: OwnedFd,
    input: OwnedFd,
    size: usize,
    held: usize,
    _living: Living,
}

/// One of the pipes that this worker has.
#[derive(Debug)]
struct Living;

impl Living {
    /// `None` where there are as many as there may be.
    fn begin() -> Option<Self> {
        let living = LIVING.get();
        (living < BUDGET.get().pipes)
            .then(|| LIVING.set(living + 1))
            .map(|()| Self)
    }
}

impl Drop for Living {
    fn drop(&mut self) {
        // At the end of the thread there is nobody left to count for.
        let _ = LIVING.try_with(|living| living.set(living.get() - 1));
    }
}

#[derive(Default)]
struct Spare {
    pipes: Vec<Pipe>,
    refused: Option<Instant>,
}

thread_local! {
    static SPARE_PIPES: RefCell<Spare> = RefCell::default();
    static LIVING: Cell<usize> = const { Cell::new(0) };
    static BUDGET: Cell<Budget> = const { Cell::new(Budget::MOST) };
}

impl Pipe {
    /// A pipe that is worth having; `None` where the kernel gives none now.
    #[must_use]
    pub fn borrow() -> Option<Self> {
        SPARE_PIPES.with_borrow_mut(|spare| {
            if let Some(pipe) = spare.pipes.pop() {
                return Some(pipe);
            }
            if spare.refused.is_some_and(|at| at.elapsed() < PAUSE) {
                return None;
            }
            if LIVING.get() >= BUDGET.get().pipes {
                return None;
            }
            let pipe = Self::open();
            spare.refused = pipe.is_none().then(Instant::now);
            pipe
        })
    }

    fn open() -> Option<Self> {
        let living = Living::begin()?;
        let (output, input) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
        let size = fcntl_setpipe_size(&input, BUDGET.get().size)
            .or_else(|_| fcntl_getpipe_size(&input))
            .ok()?;
        (size >= LEAST).then_some(Self {
            output,
            input,
            size,
            held: 0,
            _living: living,
        })
    }

    /// Gives the pipe back; one that still holds bytes is closed with them.
    pub fn give_back(self) {
        SPARE_PIPES.with_borrow_mut(|spare| {
            if self.held == 0 && spare.pipes.len() < SPARE {
                spare.pipes.push(self);
            }
        });
    }

    /// Bytes that it holds.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// What it can be asked to hold, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Moves what `socket` has into the empty pipe; 0 is the end of its stream.
    ///
    /// # Errors
    ///
    /// `WouldBlock` where the socket has nothing now, and what splice(2) says.
    pub fn fill(&mut self, socket: &impl AsFd) -> io::Result<usize> {
        debug_assert_eq!(self.held, 0, "only an empty pipe is filled");
        self.held = splice(
            socket,
            None,
            &self.input,
            None,
            self.size,
            SpliceFlags::NONBLOCK | SpliceFlags::MOVE,
        )?;
        Ok(self.held)
    }

    /// Moves what the pipe holds to `socket`, as much as that takes.
    ///
    /// # Errors
    ///
    /// `WouldBlock` where the socket takes nothing now, and what splice(2) says.
    pub fn drain(&mut self, socket: &impl AsFd) -> io::Result<usize> {
        let moved = splice(
            &self.output,
            None,
            socket,
            None,
            self.held,
            SpliceFlags::NONBLOCK | SpliceFlags::MOVE,
        )?;
        self.held -= moved;
        Ok(moved)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (one, listener.accept().unwrap().0)
    }

    #[test]
    fn bytes_pass_whole_and_the_pipe_comes_back_empty() {
        let ((mut from, source), (target, mut to)) = (pair(), pair());
        from.write_all(b"through the pipe").unwrap();
        let mut pipe = Pipe::borrow().unwrap();
        assert_eq!(pipe.fill(&source).unwrap(), 16);
        while pipe.held() > 0 {
            pipe.drain(&target).unwrap();
        }
        pipe.give_back();
        let mut read = [0; 16];
        to.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"through the pipe");
        assert_eq!(Pipe::borrow().unwrap().held(), 0);
    }

    #[test]
    fn a_pipe_with_bytes_in_it_is_never_lent_again() {
        let (mut from, source) = pair();
        from.write_all(b"left behind").unwrap();
        let mut pipe = Pipe::borrow().unwrap();
        pipe.fill(&source).unwrap();
        pipe.give_back();
        assert_eq!(Pipe::borrow().unwrap().held(), 0);
    }

    #[test]
    fn a_worker_has_no_more_pipes_than_it_may() {
        for pipes in [Budget::MOST.pipes, 3] {
            allow(Budget {
                pipes,
                size: 2 * LEAST,
            });
            let lent: Vec<Pipe> = std::iter::from_fn(Pipe::borrow).collect();
            assert_eq!(lent.len(), pipes);
            assert!(lent.iter().all(|pipe| pipe.size() == 2 * LEAST));
            drop(lent);
            assert!(Pipe::borrow().is_some());
        }
    }

    #[test]
    fn a_budget_prefers_more_pipes_to_larger_ones_and_small_ones_to_none() {
        let within = |bytes, largest, workers| {
            let Budget { pipes, size } = Budget::within(bytes, largest, workers);
            (pipes, size / 1024)
        };
        let (plenty, mebibyte) = (usize::MAX, 1 << 20);
        assert_eq!(within(plenty, mebibyte, 4), (64, 256));
        // The default of fs.pipe-user-pages-soft, less a quarter.
        assert_eq!(within(48 << 20, mebibyte, 2), (64, 256));
        assert_eq!(within(48 << 20, mebibyte, 12), (16, 256));
        assert_eq!(within(48 << 20, mebibyte, 16), (24, 128));
        assert_eq!(within(48 << 20, mebibyte, 128), (6, 64));
        assert_eq!(within(plenty, 128 << 10, 1), (64, 128));
        assert_eq!(within(plenty, 4096, 1), (0, 64));
        assert_eq!(within(0, mebibyte, 1), (0, 64));
    }

    #[test]
    fn the_end_of_a_stream_fills_nothing() {
        let (from, source) = pair();
        drop(from);
        assert_eq!(Pipe::borrow().unwrap().fill(&source).unwrap(), 0);
    }
}
