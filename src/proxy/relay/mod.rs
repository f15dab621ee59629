//! Bytes between a client and a backend, both ways, until both have closed or one thing ends it all.
//!
//! Owns the two flows, the time without progress and the verdict on how it ended. Knows no pool and no log; whether
//! the ends are closed or reset is the caller's. Invariants: bytes leave in the order in which they came; the end of
//! a stream is passed on only after its last byte; whoever is told [`End::Closed`] knows that nothing was cut.
//!
//! Timers cost nothing for each message: the reactor keeps the earliest deadline that was ever asked for, and one that
//! comes too early is asked for again. The same holds for the recall: each wake-up reads one atomic.

mod answers;
mod flow;
mod shelf;

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::config::model::Timeouts;
use crate::net::event_loop::Stream;
use crate::net::socket::{self, PeerTimeouts};
use crate::protocol::tls::server_hello::ReaderStatus;
use crate::telemetry::metrics::{BackendMetrics, Direction};
use crate::upstream::backend::Disconnect;
use answers::Answers;
use flow::Flow;

/// How long a connection lives before its peers are watched over: most are gone by then, and spare the options.
const SETTLED_AFTER: Duration = Duration::from_secs(5);

/// One of the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Who came.
    Client,
    /// Whom it was sent to.
    Backend,
}

/// How a relay ended.
#[derive(Debug)]
pub enum End {
    /// Both sides closed in order, this one first; nothing was cut.
    Closed(Side),
    /// This side reset.
    Reset(Side),
    /// This side answers no more, or the way to it broke.
    Lost(Side),
    /// No progress for `idle`.
    Idle,
    /// This side had closed, and there was no progress for `half_close`; the other side has been sent all that this
    /// one said, and its end.
    HalfClosed(Side),
    /// The backend's connections were recalled.
    Recalled(Disconnect),
    /// This machine lacked something.
    Local(io::Error),
}

/// What a relay has done; it is told also when the relay is dropped.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Bytes that the backend's socket took.
    pub to_backend: u64,
    /// Bytes that the client's socket took.
    pub to_client: u64,
}

/// Takes what the backend says, in order and in any pieces, until it has heard enough.
pub type Listen<'a> = &'a mut (dyn FnMut(&[u8]) -> ReaderStatus + 'a);

/// What bounds a relay and ends it from outside, and who is told of it.
pub struct RelayContext<'a> {
    /// Bounds in time.
    pub timeouts: &'a Timeouts,
    /// Count its bytes while they move.
    pub metrics: &'a BackendMetrics,
    /// Why it must end, if it must; asked whenever it is woken.
    pub recalled: &'a dyn Fn() -> Option<Disconnect>,
    /// What the backend says is copied and not spliced until it has heard enough.
    pub listen: Option<Listen<'a>>,
}

/// Moves bytes until it ends or is dropped, and adds them to `moved`. `rest` is what the client has sent already and the backend has
/// not got yet.
///
/// A function and no `async fn`, which would hold its arguments twice for as long as it lasts.
pub fn relay<'a>(
    client: &'a Stream,
    backend: &'a Stream,
    rest: Vec<u8>,
    oversight: RelayContext<'a>,
    moved: &'a mut Moved,
) -> impl Future<Output = End> {
    let RelayContext {
        timeouts,
        metrics,
        recalled,
        listen,
    } = oversight;
    let now = client.reactor().now();
    let (to_backend, to_client) = (moved.to_backend, moved.to_client);
    let up = Flow::new(client, backend, Direction::ToBackend, rest, to_backend);
    let down = Flow::new(backend, client, Direction::ToClient, Vec::new(), to_client);
    let mut relay = Relay {
        up,
        down: down.heard_by(listen),
        metrics,
        recalled,
        timeouts,
        told: moved,
        last: now,
        first: None,
        settles: Some(now + settled_after(timeouts)),
        answers: Sides::default(),
    };
    poll_fn(move |_| relay.poll())
}

/// Before any of the kernel's bounds could be passed.
fn settled_after(timeouts: &Timeouts) -> Duration {
    SETTLED_AFTER.min(timeouts.tcp_keepalive.min(timeouts.tcp_user) / 2)
}

struct Relay<'a> {
    up: Flow<'a>,
    down: Flow<'a>,
    metrics: &'a BackendMetrics,
    recalled: &'a dyn Fn() -> Option<Disconnect>,
    timeouts: &'a Timeouts,
    /// What has been moved, when it is over.
    told: &'a mut Moved,
    /// When a byte last moved, or one side closed.
    last: Instant,
    /// Who closed first.
    first: Option<Side>,
    /// When both sockets begin to be watched over; `None` where they are.
    settles: Option<Instant>,
    answers: Sides,
}

/// Whether they answer.
#[derive(Default)]
struct Sides {
    client: Answers,
    backend: Answers,
}

impl Relay<'_> {
    fn poll(&mut self) -> Poll<End> {
        let metrics = self.metrics;
        let before = self.moved();
        let up = self.up.poll(metrics, self.down.is_closed());
        self.note_closed(Side::Client);
        let down = self.down.poll(metrics, self.up.is_closed());
        self.note_closed(Side::Backend);
        // A fault first: a side that has reset may have lost what it took last.
        for fault in [up, down] {
            if let Poll::Ready(fault) = fault {
                return Poll::Ready(fault.into());
            }
        }
        if let (true, true, Some(first)) = (self.up.is_closed(), self.down.is_closed(), self.first)
        {
            return Poll::Ready(End::Closed(first));
        }
        if let Some(reason) = (self.recalled)() {
            return Poll::Ready(End::Recalled(reason));
        }
        if before != self.moved() {
            self.last = self.up.from.reactor().now();
        }
        self.poll_time()
    }

    fn moved(&self) -> Moved {
        Moved {
            to_backend: self.up.moved,
            to_client: self.down.moved,
        }
    }

    fn note_closed(&mut self, side: Side) {
        let flow = match side {
            Side::Client => &self.up,
            Side::Backend => &self.down,
        };
        if self.first.is_none() && flow.is_closed() {
            self.first = Some(side);
            self.last = flow.from.reactor().now();
        }
    }

    /// The time without progress.
    fn poll_time(&mut self) -> Poll<End> {
        let reactor = self.up.from.reactor();
        match self.settles {
            Some(settles) if reactor.poll_deadline(settles).is_pending() => {}
            Some(_) => {
                self.settles = None;
                self.watch_over();
            }
            None => {}
        }
        if self.settles.is_none()
            && let Some(lost) = self.poll_lost()
        {
            return Poll::Ready(End::Lost(lost));
        }
        let bound = match self.first {
            Some(_) => self.timeouts.half_close,
            None => self.timeouts.idle,
        };
        let end = || self.first.map_or(End::Idle, End::HalfClosed);
        reactor.poll_deadline(self.last + bound).map(|()| end())
    }

    fn watch_over(&self) {
        let patience = PeerTimeouts::from(self.timeouts);
        for stream in [self.up.from, self.down.from] {
            socket::watch_over(stream, patience);
        }
    }

    /// The side that bytes wait for and that answers no more.
    fn poll_lost(&mut self) -> Option<Side> {
        let (client, backend) = (self.up.from, self.down.from);
        let user = self.timeouts.tcp_user;
        let answers = &mut self.answers;
        let client = answers.client.poll(client, self.down.moved, user);
        let backend = answers.backend.poll(backend, self.up.moved, user);
        let lost = |poll: Poll<()>, side| poll.is_ready().then_some(side);
        lost(client, Side::Client).or(lost(backend, Side::Backend))
    }
}

impl Drop for Relay<'_> {
    fn drop(&mut self) {
        *self.told = self.moved();
        self.answers.client.leave(self.up.from);
        self.answers.backend.leave(self.down.from);
    }
}

/// A fault of one side's socket.
#[derive(Debug)]
struct FlowError {
    side: Side,
    error: io::Error,
}

impl From<FlowError> for End {
    fn from(fault: FlowError) -> Self {
        match fault.error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::CONNRESET | Errno::PIPE | Errno::CONNABORTED) => Self::Reset(fault.side),
            Some(
                Errno::NOBUFS
                | Errno::NOMEM
                | Errno::MFILE
                | Errno::NFILE
                | Errno::INVAL
                | Errno::BADF,
            ) => Self::Local(fault.error),
            _ => Self::Lost(fault.side),
        }
    }
}

#[cfg(test)]
mod tests;
