//! The spare pipes of a worker, and whether the worker splices at all now.
//!
//! Owns the count of the worker's pipes, and when splicing is suspended. Makes no system call. Invariant: the count is the
//! number of living [`Pipe`]s of this thread.

use std::cell::{Cell, RefCell};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::{Pipe, PipeAllowance, PipeBudget};

/// Most spare pipes of a worker.
const MAX_SPARE: usize = 32;
/// How long a worker copies after the kernel lacked something that splicing needs.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

thread_local! {
    static LIVE_PIPES: Cell<usize> = const { Cell::new(0) };
    pub(super) static SPARE_PIPES: RefCell<SparePipes> = RefCell::new(SparePipes::new());
}

/// Counts one pipe of this worker.
#[derive(Debug)]
pub(super) struct LivePipe;

impl LivePipe {
    pub(super) fn new() -> Self {
        LIVE_PIPES.set(LIVE_PIPES.get() + 1);
        Self
    }

    pub(super) fn count() -> usize {
        LIVE_PIPES.get()
    }
}

impl Drop for LivePipe {
    fn drop(&mut self) {
        // At the end of the thread the counter may be gone already.
        let _ = LIVE_PIPES.try_with(|live| live.set(live.get() - 1));
    }
}

/// Why nothing is spliced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SpliceUnavailable {
    /// Descriptors, memory or the user's pages were short at this time.
    Temporary(Instant),
    /// The kernel does not support it, or a sandbox forbids it.
    Permanent,
}

impl SpliceUnavailable {
    pub(super) fn from_error(error: &io::Error) -> Option<Self> {
        let errno = error.raw_os_error().map(Errno::from_raw_os_error)?;
        match errno {
            Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS => Some(Self::for_now()),
            _ if is_socket_error(errno) => None,
            // Errors of splice(2) itself, and whatever a sandbox returns for a forbidden call.
            _ => Some(Self::Permanent),
        }
    }

    pub(super) fn for_now() -> Self {
        Self::Temporary(Instant::now())
    }
}

/// Whether this is an error of the socket, which recv(2) and send(2) would report too (tcp(7), ip(7)), or EAGAIN.
fn is_socket_error(errno: Errno) -> bool {
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

/// The spare pipes of a worker.
pub(super) struct SparePipes {
    pipes: Vec<Pipe>,
    unavailable: Option<SpliceUnavailable>,
    pub(super) allowance: PipeAllowance,
}

impl SparePipes {
    fn new() -> Self {
        Self {
            pipes: Vec::new(),
            unavailable: None,
            allowance: PipeAllowance::of(PipeBudget::MAX),
        }
    }

    pub(super) fn pop(&mut self) -> Option<Pipe> {
        self.pipes.pop()
    }

    /// Keeps an empty pipe for reuse, or closes it.
    pub(super) fn push(&mut self, pipe: Pipe) {
        if self.pipes.len() < MAX_SPARE && !self.is_suspended() {
            self.pipes.push(pipe);
            self.trim();
        }
    }

    pub(super) fn may_open(&self) -> bool {
        LivePipe::count() < self.allowance.pipes()
    }

    pub(super) fn is_suspended(&self) -> bool {
        match self.unavailable {
            Some(SpliceUnavailable::Permanent) => true,
            Some(SpliceUnavailable::Temporary(since)) => since.elapsed() < PAUSE,
            None => false,
        }
    }

    /// Stops splicing for a while, without a log line.
    pub(super) fn suspend_for_now(&mut self) {
        self.unavailable = Some(SpliceUnavailable::for_now());
    }

    /// Stops splicing, and logs the first time of each kind in this process.
    pub(super) fn suspend(&mut self, unavailable: SpliceUnavailable, error: &io::Error) {
        static TEMPORARY_LOGGED: AtomicBool = AtomicBool::new(false);
        static PERMANENT_LOGGED: AtomicBool = AtomicBool::new(false);
        self.unavailable = Some(unavailable);
        let logged = match unavailable {
            SpliceUnavailable::Temporary(_) => &TEMPORARY_LOGGED,
            SpliceUnavailable::Permanent => {
                self.pipes.clear();
                &PERMANENT_LOGGED
            }
        };
        if logged.swap(true, Ordering::Relaxed) {
            return;
        }
        match unavailable {
            SpliceUnavailable::Temporary(_) => tracing::warn!(
                target: "lyncpin::splice", %error,
                "no pipe available, copying streams for now; this uses more CPU time"
            ),
            SpliceUnavailable::Permanent => tracing::warn!(
                target: "lyncpin::splice", %error,
                "splice is not available, copying streams from now on; this uses more CPU time"
            ),
        }
    }

    /// Closes spare pipes beyond the allowance, which may have been lowered.
    pub(super) fn trim(&mut self) {
        while LivePipe::count() > self.allowance.pipes() && self.pipes.pop().is_some() {}
    }
}
