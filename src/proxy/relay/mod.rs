//! Relaying bytes between a client and a backend, in both directions, until both have closed or something ends the connection.
//!
//! Owns the two flows, the time without progress, and how the relay ended. Must not know pools or the log; the caller decides
//! whether the sockets are closed or reset. Invariants: bytes leave in the order in which they arrived; the end of a stream is
//! passed on only after its last byte; after [`End::Closed`] nothing was truncated.
//!
//! Timers cost nothing for each message: the event loop keeps the earliest deadline that was set, and one that fires too early
//! is set again. The order to disconnect costs one atomic read for each wake-up.

mod flow;
mod liveness;
mod pending;

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
use flow::Flow;
use liveness::Liveness;

/// How old a connection is when keepalive is enabled; most have ended by then and save the system calls.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(5);

/// One of the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Client,
    /// The backend.
    Backend,
}

/// How a relay ended.
#[derive(Debug)]
pub enum End {
    /// Both sides closed in order, this one first; nothing was truncated.
    Closed(Side),
    /// This side reset.
    Reset(Side),
    /// This side stopped acknowledging, or the network path to it broke.
    Lost(Side),
    /// No progress for `idle`.
    Idle,
    /// This side had closed, and there was no progress for `half_close`. Everything that this side sent, and its end, has been
    /// passed on.
    HalfClosed(Side),
    /// The balancer ended the connection.
    Disconnected(Disconnect),
    /// An error of this machine.
    Local(io::Error),
}

/// Bytes relayed in each direction; also valid if the relay is dropped midway.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ByteCounts {
    /// Bytes that the backend's socket accepted.
    pub to_backend: u64,
    /// Bytes that the client's socket accepted.
    pub to_client: u64,
}

/// Is given the backend's bytes, in order and in pieces of any size, until it is done.
pub type Observer<'a> = &'a mut (dyn FnMut(&[u8]) -> ReaderStatus + 'a);

/// What limits a relay, ends it from outside or observes it.
pub struct RelayContext<'a> {
    /// The timeouts of the connection.
    pub timeouts: &'a Timeouts,
    /// Counts the bytes while they move.
    pub metrics: &'a BackendMetrics,
    /// Why the balancer ends the connection, if it does; called at each wake-up.
    pub disconnect: &'a dyn Fn() -> Option<Disconnect>,
    /// The backend's bytes are copied instead of spliced until it is done.
    pub observer: Option<Observer<'a>>,
}

/// Relays bytes until the end, and adds them to `moved`. `unsent` are bytes of the client that the backend's socket did not
/// accept yet.
///
/// Not an `async fn`, which would store its arguments twice.
pub fn relay<'a>(
    client: &'a Stream,
    backend: &'a Stream,
    unsent: Vec<u8>,
    context: RelayContext<'a>,
    moved: &'a mut ByteCounts,
) -> impl Future<Output = End> {
    let RelayContext {
        timeouts,
        metrics,
        disconnect,
        observer,
    } = context;
    let now = client.event_loop().now();
    let (to_backend, to_client) = (moved.to_backend, moved.to_client);
    let up = Flow::new(client, backend, Direction::ToBackend, unsent, to_backend);
    let down = Flow::new(backend, client, Direction::ToClient, Vec::new(), to_client);
    let mut relay = Relay {
        up,
        down: down.with_observer(observer),
        metrics,
        disconnect,
        timeouts,
        total: moved,
        last_progress: now,
        closed_first: None,
        keepalive_at: Some(now + keepalive_after(timeouts)),
        client_liveness: Liveness::default(),
        backend_liveness: Liveness::default(),
    };
    poll_fn(move |_| relay.poll())
}

/// Before any of the kernel's timeouts could expire.
fn keepalive_after(timeouts: &Timeouts) -> Duration {
    KEEPALIVE_AFTER.min(timeouts.tcp_keepalive.min(timeouts.tcp_user) / 2)
}

struct Relay<'a> {
    up: Flow<'a>,
    down: Flow<'a>,
    metrics: &'a BackendMetrics,
    disconnect: &'a dyn Fn() -> Option<Disconnect>,
    timeouts: &'a Timeouts,
    /// Set to the byte counts at the end.
    total: &'a mut ByteCounts,
    /// When a byte last moved, or one side closed.
    last_progress: Instant,
    closed_first: Option<Side>,
    /// When keepalive is enabled on both sockets; `None` once it is.
    keepalive_at: Option<Instant>,
    client_liveness: Liveness,
    backend_liveness: Liveness,
}

impl Relay<'_> {
    fn poll(&mut self) -> Poll<End> {
        let metrics = self.metrics;
        let before = self.moved();
        let up = self.up.poll(metrics, self.down.is_closed());
        self.note_closed(Side::Client);
        let down = self.down.poll(metrics, self.up.is_closed());
        self.note_closed(Side::Backend);
        // Errors first: a side that has reset may have lost the bytes that it accepted last.
        for error in [up, down] {
            if let Poll::Ready(error) = error {
                return Poll::Ready(error.into());
            }
        }
        if let (true, true, Some(first)) = (
            self.up.is_closed(),
            self.down.is_closed(),
            self.closed_first,
        ) {
            return Poll::Ready(End::Closed(first));
        }
        if let Some(reason) = (self.disconnect)() {
            return Poll::Ready(End::Disconnected(reason));
        }
        if before != self.moved() {
            self.last_progress = self.up.from.event_loop().now();
        }
        self.poll_timeouts()
    }

    fn moved(&self) -> ByteCounts {
        ByteCounts {
            to_backend: self.up.moved,
            to_client: self.down.moved,
        }
    }

    fn note_closed(&mut self, side: Side) {
        let flow = match side {
            Side::Client => &self.up,
            Side::Backend => &self.down,
        };
        if self.closed_first.is_none() && flow.is_closed() {
            self.closed_first = Some(side);
            self.last_progress = flow.from.event_loop().now();
        }
    }

    fn poll_timeouts(&mut self) -> Poll<End> {
        let event_loop = self.up.from.event_loop();
        match self.keepalive_at {
            Some(at) if event_loop.poll_deadline(at).is_pending() => {}
            Some(_) => {
                self.keepalive_at = None;
                self.enable_keepalive();
            }
            None => {}
        }
        if self.keepalive_at.is_none()
            && let Some(lost) = self.poll_lost()
        {
            return Poll::Ready(End::Lost(lost));
        }
        let timeout = match self.closed_first {
            Some(_) => self.timeouts.half_close,
            None => self.timeouts.idle,
        };
        let end = || self.closed_first.map_or(End::Idle, End::HalfClosed);
        event_loop
            .poll_deadline(self.last_progress + timeout)
            .map(|()| end())
    }

    fn enable_keepalive(&self) {
        let timeouts = PeerTimeouts::from(self.timeouts);
        for stream in [self.up.from, self.down.from] {
            socket::enable_keepalive(stream, timeouts);
        }
    }

    /// The side that has bytes pending and has stopped acknowledging.
    fn poll_lost(&mut self) -> Option<Side> {
        let (client, backend) = (self.up.from, self.down.from);
        let user = self.timeouts.tcp_user;
        let client = self.client_liveness.poll(client, self.down.moved, user);
        let backend = self.backend_liveness.poll(backend, self.up.moved, user);
        let lost = |poll: Poll<()>, side| poll.is_ready().then_some(side);
        lost(client, Side::Client).or(lost(backend, Side::Backend))
    }
}

impl Drop for Relay<'_> {
    fn drop(&mut self) {
        *self.total = self.moved();
        self.client_liveness.stop(self.up.from);
        self.backend_liveness.stop(self.down.from);
    }
}

/// An error of one side's socket.
#[derive(Debug)]
struct FlowError {
    side: Side,
    error: io::Error,
}

impl From<FlowError> for End {
    fn from(failed: FlowError) -> Self {
        match failed.error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::CONNRESET | Errno::PIPE | Errno::CONNABORTED) => Self::Reset(failed.side),
            Some(
                Errno::NOBUFS
                | Errno::NOMEM
                | Errno::MFILE
                | Errno::NFILE
                | Errno::INVAL
                | Errno::BADF,
            ) => Self::Local(failed.error),
            _ => Self::Lost(failed.side),
        }
    }
}

#[cfg(test)]
mod tests;
