//! Pipes and splice(2): bytes that move between sockets without entering the process.
//!
//! Owns the only calls to splice(2) and pipe(2), and a worker's spare pipes. Knows no connection. Invariants: a worker
//! keeps to its [`Allowance`]; a pipe is filled only when it is empty and drained whole before the next fill, so that EAGAIN
//! is always the socket's; a pipe goes back to the spare ones only when it is empty; what a pipe holds can always be had back.
//!
//! A sandbox or an old kernel may refuse splice(2) or pipe(2). Then the caller copies, for good on this worker, or for a
//! moment where only descriptors or memory were lacking.
//!
//! Without CAP_SYS_RESOURCE the kernel gives a user pipes of two pages once `fs.pipe-user-pages-soft` pages are taken
//! (pipe(7)). The budget stays below that, but other programs of the same user count too: a pipe so small costs more than
//! copying, so it is given back at once and the caller copies.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::pipe::{
    PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice,
};

/// What a pipe must hold to be worth having, in bytes: a pipe's ordinary size.
const LEAST: usize = 64 * 1024;
/// Spare pipes that a worker keeps.
const SPARE: usize = 32;
/// How long a worker copies after the kernel could not give what splicing takes.
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

/// How many pipes each worker may have now, which the descriptors decide; shared by all of them.
#[derive(Debug, Clone)]
pub struct Allowance {
    pipes: Arc<AtomicUsize>,
    /// What each is asked to hold, in bytes.
    size: usize,
}

impl Allowance {
    /// All of a budget.
    #[must_use]
    pub fn of(budget: Budget) -> Self {
        Self {
            pipes: Arc::new(AtomicUsize::new(budget.pipes)),
            size: budget.size,
        }
    }

    /// Each worker may have so many from now on; what is lent is not taken away.
    pub fn set(&self, pipes: usize) {
        self.pipes.store(pipes, Ordering::Relaxed);
    }

    /// How many that is.
    #[must_use]
    pub fn pipes(&self) -> usize {
        self.pipes.load(Ordering::Relaxed)
    }
}

/// Gives the running thread its allowance; one that was given none has all of [`Budget::MOST`].
pub fn allow(allowance: Allowance) {
    SPARE_PIPES.with_borrow_mut(|spare| spare.allowed = allowance);
}

/// Whether this error says that splicing does not work here, and not that a socket has failed. Then no byte has moved, and
/// nothing is spliced for a while, or at all: it is said once in the log.
pub fn note_refusal(error: &io::Error) -> bool {
    let refusal = SpliceDenied::of(error);
    if let Some(refusal) = refusal {
        SPARE_PIPES.with_borrow_mut(|spare| spare.refuse(refusal, error));
    }
    refusal.is_some()
}

/// An empty pipe of this worker's, or one on its way through a transfer.
#[derive(Debug)]
pub struct Pipe {
    output: OwnedFd,
    input: OwnedFd,
    size: usize,
    held: usize,
    _living: LivePipe,
}

/// One of the pipes that this worker has.
#[derive(Debug)]
struct LivePipe;

impl LivePipe {
    fn begin() -> Self {
        LIVING.set(LIVING.get() + 1);
        Self
    }
}

impl Drop for LivePipe {
    fn drop(&mut self) {
        // At the end of the thread there is nobody left to count for.
        let _ = LIVING.try_with(|living| living.set(living.get() - 1));
    }
}

/// Why nothing is spliced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SpliceDenied {
    /// Descriptors, memory or the user's pages are lacking.
    Now(Instant),
    /// The kernel does not have it, or a sandbox forbids it.
    ForGood,
}

impl SpliceDenied {
    fn of(error: &io::Error) -> Option<Self> {
        let errno = error.raw_os_error().map(Errno::from_raw_os_error)?;
        match errno {
            Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS => {
                Some(Self::Now(Instant::now()))
            }
            _ if is_of_socket(errno) => None,
            // Those that splice(2) knows, and whatever else a sandbox has a system call say.
            _ => Some(Self::ForGood),
        }
    }
}

/// Whether a connection fails so, or has nothing now: what recv(2) and send(2) would say, too (tcp(7), ip(7)).
fn is_of_socket(errno: Errno) -> bool {
    let waits = [Errno::AGAIN, Errno::INTR];
    let ended = [
        Errno::PIPE,
        Errno::CONNRESET,
        Errno::CONNABORTED,
        Errno::NOTCONN,
        Errno::SHUTDOWN,
        Errno::TIMEDOUT,
        Errno::CONNREFUSED,
    ];
    // ICMP messages and the loss of an address (`icmp_err_convert` of Linux).
    let network = [
        Errno::NETUNREACH,
        Errno::HOSTUNREACH,
        Errno::NETDOWN,
        Errno::HOSTDOWN,
        Errno::NETRESET,
        Errno::NONET,
        Errno::MSGSIZE,
        Errno::ADDRNOTAVAIL,
        Errno::PROTO,
        Errno::NOPROTOOPT,
    ];
    waits.contains(&errno) || ended.contains(&errno) || network.contains(&errno)
}

struct SparePipes {
    pipes: Vec<Pipe>,
    refused: Option<SpliceDenied>,
    allowed: Allowance,
}

impl SparePipes {
    fn new() -> Self {
        Self {
            pipes: Vec::new(),
            refused: None,
            allowed: Allowance::of(Budget::MOST),
        }
    }

    fn is_refused(&self) -> bool {
        match self.refused {
            Some(SpliceDenied::ForGood) => true,
            Some(SpliceDenied::Now(at)) => at.elapsed() < PAUSE,
            None => false,
        }
    }

    fn refuse(&mut self, refusal: SpliceDenied, error: &io::Error) {
        static TOLD: AtomicBool = AtomicBool::new(false);
        static TOLD_FOR_GOOD: AtomicBool = AtomicBool::new(false);
        self.refused = Some(refusal);
        let told = match refusal {
            SpliceDenied::Now(_) => &TOLD,
            SpliceDenied::ForGood => {
                self.pipes.clear();
                &TOLD_FOR_GOOD
            }
        };
        if told.swap(true, Ordering::Relaxed) {
            return;
        }
        match refusal {
            SpliceDenied::Now(_) => tracing::warn!(
                target: "lyncpin::splice", %error,
                "streams are copied while there are no pipes to splice them through: it takes more processor time"
            ),
            SpliceDenied::ForGood => tracing::warn!(
                target: "lyncpin::splice", %error,
                "streams are copied from now on, since splicing is refused here: it takes more processor time"
            ),
        }
    }

    /// Closes what there is too much of, since fewer pipes are allowed than before.
    fn trim(&mut self) {
        while LIVING.get() > self.allowed.pipes() && self.pipes.pop().is_some() {}
    }
}

thread_local! {
    static LIVING: Cell<usize> = const { Cell::new(0) };
    static SPARE_PIPES: RefCell<SparePipes> = RefCell::new(SparePipes::new());
}

impl Pipe {
    /// A pipe that is worth having; `None` where there is none now.
    #[must_use]
    pub fn borrow() -> Option<Self> {
        SPARE_PIPES.with_borrow_mut(|spare| {
            if spare.is_refused() {
                return None;
            }
            spare.trim();
            if let Some(pipe) = spare.pipes.pop() {
                return Some(pipe);
            }
            if LIVING.get() >= spare.allowed.pipes() {
                return None;
            }
            match Self::open(spare.allowed.size) {
                Ok(Some(pipe)) => Some(pipe),
                // The user's pages are used up.
                Ok(None) => {
                    spare.refused = Some(SpliceDenied::Now(Instant::now()));
                    None
                }
                Err(error) => {
                    let refusal = SpliceDenied::of(&error);
                    let refusal = refusal.unwrap_or(SpliceDenied::Now(Instant::now()));
                    spare.refuse(refusal, &error);
                    None
                }
            }
        })
    }

    /// `None` where the kernel gives only one that is not worth having.
    fn open(wanted: usize) -> io::Result<Option<Self>> {
        let (output, input) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        let size = fcntl_setpipe_size(&input, wanted).or_else(|_| fcntl_getpipe_size(&input))?;
        Ok((size >= LEAST).then(|| Self {
            output,
            input,
            size,
            held: 0,
            _living: LivePipe::begin(),
        }))
    }

    /// Gives the pipe back; one that still holds bytes is closed with them.
    pub fn give_back(self) {
        SPARE_PIPES.with_borrow_mut(|spare| {
            if self.held == 0 && spare.pipes.len() < SPARE && !spare.is_refused() {
                spare.pipes.push(self);
                spare.trim();
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

    /// What it holds, where it cannot be spliced on.
    ///
    /// # Errors
    ///
    /// What read(2) says.
    pub fn into_bytes(self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.held];
        let mut read = 0;
        while read < bytes.len() {
            match rustix::io::read(&self.output, &mut bytes[read..]) {
                // A pipe holds what was put into it.
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
    fn what_a_pipe_holds_can_be_had_back() {
        let (mut from, source) = pair();
        let said: Vec<u8> = (0..100_000_u32).flat_map(u32::to_ne_bytes).collect();
        std::thread::scope(|threads| {
            threads.spawn(|| from.write_all(&said).unwrap());
            let mut had = Vec::new();
            while had.len() < said.len() {
                let mut pipe = Pipe::borrow().unwrap();
                pipe.fill(&source).unwrap();
                had.extend(pipe.into_bytes().unwrap());
            }
            assert!(had == said);
        });
        assert!(Pipe::borrow().unwrap().into_bytes().unwrap().is_empty());
    }

    #[test]
    fn a_worker_has_no_more_pipes_than_it_may_now() {
        let allowance = Allowance::of(Budget {
            pipes: 0,
            size: 2 * LEAST,
        });
        allow(allowance.clone());
        for pipes in [Budget::MOST.pipes, 3, 0, 5] {
            allowance.set(pipes);
            let lent: Vec<Pipe> = std::iter::from_fn(Pipe::borrow).collect();
            assert_eq!(lent.len(), pipes);
            assert!(lent.iter().all(|pipe| pipe.size() == 2 * LEAST));
            lent.into_iter().for_each(Pipe::give_back);
        }
        allowance.set(2);
        Pipe::borrow().unwrap().give_back();
        assert_eq!(LIVING.get(), 2);
    }

    #[test]
    fn what_the_kernel_refuses_is_refused_for_good_and_what_it_lacks_for_a_moment() {
        let refused = |errno: Errno| SpliceDenied::of(&errno.into());
        for errno in [
            Errno::INVAL,
            Errno::NOSYS,
            Errno::PERM,
            Errno::ACCESS,
            Errno::SPIPE,
            Errno::BADF,
            Errno::IO,
            Errno::NOTSUP,
            Errno::OPNOTSUPP,
        ] {
            assert_eq!(refused(errno), Some(SpliceDenied::ForGood));
        }
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM] {
            assert!(matches!(refused(errno), Some(SpliceDenied::Now(_))));
        }
        for errno in [Errno::CONNRESET, Errno::PIPE, Errno::TIMEDOUT, Errno::AGAIN] {
            assert_eq!(refused(errno), None);
        }
        Pipe::borrow().unwrap().give_back();
        assert!(!note_refusal(&Errno::CONNRESET.into()));
        assert!(Pipe::borrow().is_some());
        assert!(note_refusal(&Errno::NFILE.into()));
        assert!(Pipe::borrow().is_none());
        assert!(note_refusal(&Errno::PERM.into()));
        std::thread::sleep(PAUSE);
        assert!(Pipe::borrow().is_none());
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
