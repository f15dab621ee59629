//! Pipes and splice(2): moving bytes between sockets without copying them into the process.
//!
//! Owns the only calls to splice(2) and pipe(2). Must not know connections. Invariants: a worker never has more pipes than
//! its allowance; a pipe is filled only when it is empty and drained completely before the next fill, so EAGAIN always comes
//! from the socket; only an empty pipe is reused; the bytes in a pipe can always be read back.
//!
//! A sandbox or an old kernel may reject splice(2) or pipe(2). The caller then copies: permanently on this worker, or for a
//! short time if only descriptors or memory were short.
//!
//! Without CAP_SYS_RESOURCE the kernel gives a user pipes of only two pages once `fs.pipe-user-pages-soft` pages are in use
//! (pipe(7)). The budget stays below that, but other programs of the same user count too. So small a pipe costs more than
//! copying: it is closed at once and the caller copies.

mod budget;
mod spare_pipes;

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::pipe::{
    PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice,
};

pub use budget::{PipeAllowance, PipeBudget};
use spare_pipes::{LivePipe, SPARE_PIPES, SpliceUnavailable};

/// The smallest useful size of a pipe, in bytes: the default size of a pipe.
const MIN_PIPE_SIZE: usize = 64 * 1024;

/// Sets the allowance of the current thread; the default is all of [`PipeBudget::MAX`].
pub fn set_allowance(allowance: PipeAllowance) {
    SPARE_PIPES.with_borrow_mut(|spare| spare.allowance = allowance);
}

/// Whether `error` means that splicing does not work here, rather than that a socket failed. In that case no byte has moved,
/// and splicing stops for a while or permanently; the first time is logged.
pub fn note_unavailable(error: &io::Error) -> bool {
    let unavailable = SpliceUnavailable::from_error(error);
    if let Some(unavailable) = unavailable {
        SPARE_PIPES.with_borrow_mut(|spare| spare.suspend(unavailable, error));
    }
    unavailable.is_some()
}

/// A pipe of this worker: empty, or carrying bytes of one transfer.
#[derive(Debug)]
pub struct Pipe {
    output: OwnedFd,
    input: OwnedFd,
    size: usize,
    len: usize,
    _live: LivePipe,
}

impl Pipe {
    /// An empty pipe of a useful size; `None` if none is available now.
    #[must_use]
    pub fn acquire() -> Option<Self> {
        SPARE_PIPES.with_borrow_mut(|spare| {
            if spare.is_suspended() {
                return None;
            }
            spare.trim();
            if let Some(pipe) = spare.pop() {
                return Some(pipe);
            }
            if !spare.may_open() {
                return None;
            }
            match Self::open(spare.allowance.size()) {
                Ok(Some(pipe)) => Some(pipe),
                // The user's pages are used up.
                Ok(None) => {
                    spare.suspend_for_now();
                    None
                }
                Err(error) => {
                    let unavailable = SpliceUnavailable::from_error(&error);
                    let unavailable = unavailable.unwrap_or_else(SpliceUnavailable::for_now);
                    spare.suspend(unavailable, &error);
                    None
                }
            }
        })
    }

    /// `None` if the kernel grants only a pipe that is too small.
    fn open(wanted: usize) -> io::Result<Option<Self>> {
        let (output, input) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        let size = fcntl_setpipe_size(&input, wanted).or_else(|_| fcntl_getpipe_size(&input))?;
        Ok((size >= MIN_PIPE_SIZE).then(|| Self {
            output,
            input,
            size,
            len: 0,
            _live: LivePipe::new(),
        }))
    }

    /// Returns the pipe for reuse; a pipe that still has bytes is closed, and they are lost.
    pub fn release(self) {
        if self.len == 0 {
            SPARE_PIPES.with_borrow_mut(|spare| spare.push(self));
        }
    }

    /// Number of bytes in the pipe.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the pipe has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Capacity in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Moves bytes that `socket` has received into the empty pipe; 0 is the end of the stream.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the socket has nothing now, or the error of splice(2).
    pub fn fill(&mut self, socket: &impl AsFd) -> io::Result<usize> {
        debug_assert_eq!(self.len, 0, "only an empty pipe is filled");
        self.len = splice(
            socket,
            None,
            &self.input,
            None,
            self.size,
            SpliceFlags::NONBLOCK | SpliceFlags::MOVE,
        )?;
        Ok(self.len)
    }

    /// Moves bytes from the pipe to `socket`, as many as it accepts.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the socket accepts nothing now, or the error of splice(2).
    pub fn drain(&mut self, socket: &impl AsFd) -> io::Result<usize> {
        let moved = splice(
            &self.output,
            None,
            socket,
            None,
            self.len,
            SpliceFlags::NONBLOCK | SpliceFlags::MOVE,
        )?;
        self.len -= moved;
        Ok(moved)
    }

    /// Reads back the bytes in the pipe, for when they cannot be spliced on.
    ///
    /// # Errors
    ///
    /// The error of read(2).
    pub fn into_bytes(self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.len];
        let mut read = 0;
        while read < bytes.len() {
            match rustix::io::read(&self.output, &mut bytes[read..]) {
                // The pipe has all bytes that were put into it.
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(more) => read += more,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests;
