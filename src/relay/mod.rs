//! Bytes between a client and a backend, both ways, until both have closed or one thing ends it all.
//!
//! Owns the two flows, the time without progress and the verdict on how it ended. Knows no pool and no log; whether
//! the ends are closed or reset is the caller's. Invariants: bytes leave in the order in which they came; the end of
//! a stream is passed on only after its last byte; whoever is told [`End::Closed`] knows that nothing was cut.
//!
//! Timers cost nothing for each message: the one timer is armed again only when it fires. The same holds for the
//! recall: it is registered once, and each wake-up reads one atomic.

mod flow;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::backend::{Recall, Slot};
use crate::metrics::Direction;
use flow::Flow;

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
    /// This side stopped acknowledging, or the way to it broke.
    Lost(Side),
    /// No progress for `idle`.
    Idle,
    /// This side had closed, and there was no progress for `half_close`; the other side has been sent all that this
    /// one said, and its end.
    HalfClosed(Side),
    /// The backend's connections were recalled.
    Recalled(Recall),
    /// This machine lacked something.
    Local(io::Error),
}

/// Bounds of the time without progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// While both sides are open.
    pub idle: Duration,
    /// After one side has closed.
    pub half_close: Duration,
}

/// What a relay has done; it is kept outside of it, so that it is there also when the relay is dropped.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Bytes that the backend's socket took.
    pub to_backend: u64,
    /// Bytes that the client's socket took.
    pub to_client: u64,
}

/// Moves bytes until it ends, and adds them to `moved`. `rest` is what the client has sent already and the backend has
/// not got yet.
pub async fn relay(
    client: &TcpStream,
    backend: &TcpStream,
    rest: Vec<u8>,
    slot: &Slot,
    bounds: Bounds,
    moved: &mut Moved,
) -> End {
    let metrics = &slot.backend().metrics;
    let sent = *moved;
    let mut up = Flow::new(client, backend, Direction::ToBackend, rest);
    let mut down = Flow::new(backend, client, Direction::ToClient, Vec::new());
    let mut recalled = pin!(slot.recall_notice());
    let mut patience = Patience {
        bounds,
        last: Instant::now(),
        halved: false,
        timer: pin!(sleep_until(Instant::now())),
    };
    patience.timer.as_mut().reset(patience.last + bounds.idle);
    let mut first: Option<Side> = None;
    let mut armed = false;
    poll_fn(|cx| {
        if !std::mem::replace(&mut armed, true) {
            // The task does not change while the relay lives, so one poll registers its waker for good.
            let _ = recalled.as_mut().poll(cx);
            let _ = patience.timer.as_mut().poll(cx);
        }
        let before = (up.moved, down.moved);
        let ends = [(&mut up, Side::Client), (&mut down, Side::Backend)].map(|(flow, side)| {
            let end = flow.poll(cx, metrics);
            if flow.is_closed() && first.is_none() {
                first = Some(side);
            }
            end
        });
        *moved = Moved {
            to_backend: sent.to_backend + up.moved,
            to_client: sent.to_client + down.moved,
        };
        // A fault first: a side that has reset may have lost what it took last.
        for fault in ends {
            if let Poll::Ready(fault) = fault {
                return Poll::Ready(fault.into());
            }
        }
        if let (true, true, Some(first)) = (up.is_closed(), down.is_closed(), first) {
            return Poll::Ready(End::Closed(first));
        }
        if let Some(reason) = slot.recalled() {
            return Poll::Ready(End::Recalled(reason));
        }
        patience.poll(cx, before != (up.moved, down.moved), first)
    })
    .await
}

/// A fault of one side's socket.
#[derive(Debug)]
struct Fault {
    side: Side,
    error: io::Error,
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
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

/// The time without progress.
struct Patience<'a> {
    bounds: Bounds,
    last: Instant,
    /// Whether one side has closed.
    halved: bool,
    timer: Pin<&'a mut Sleep>,
}

impl Patience<'_> {
    /// `first` is the side that has closed, if one has.
    fn poll(&mut self, cx: &mut Context<'_>, progress: bool, first: Option<Side>) -> Poll<End> {
        let just_halved = first.is_some() && !self.halved;
        self.halved = first.is_some();
        if progress || just_halved {
            self.last = Instant::now();
        }
        // A timer for `idle` would come too late for `half_close`; one for `half_close` comes early at worst.
        if just_halved {
            let due = self.last + self.bound();
            self.timer.as_mut().reset(due);
        } else if !self.timer.is_elapsed() {
            return Poll::Pending;
        }
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let due = self.last + self.bound();
            if due <= Instant::now() {
                return Poll::Ready(first.map_or(End::Idle, End::HalfClosed));
            }
            self.timer.as_mut().reset(due);
        }
    }

    fn bound(&self) -> Duration {
        if self.halved {
            self.bounds.half_close
        } else {
            self.bounds.idle
        }
    }
}

#[cfg(test)]
mod tests;
