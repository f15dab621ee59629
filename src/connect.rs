//! Reaching a backend: the one that was picked, then others.
//!
//! Owns the order and number of tries. Knows no listener and no protocol. Invariant: at most [`MOST_BACKENDS`]
//! backends and [`MOST_TIME`] in all; the pin moves only when another backend has answered.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::metrics::ConnectFault;
use crate::pool::{Pick, PickedBy};
use crate::reactor::Stream;
use crate::socket;

/// Backends that one connection tries.
pub const MOST_BACKENDS: u32 = 3;
/// Time for all of them.
pub const MOST_TIME: Duration = Duration::from_secs(10);
/// Before a pinned backend is tried again: a service that restarts is back in a moment, and its client stays.
const PAUSE: Duration = Duration::from_millis(50);

/// Why no backend was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectError {
    /// What the last try failed with.
    Backend(ConnectFault),
    /// The client reset meanwhile.
    ClientGone,
}

/// Connects to the picked backend or to another one, and leaves `pick` with the one that answered, or was tried last.
/// `tries` counts.
///
/// # Errors
///
/// Why no backend was reached.
pub async fn connect(
    client: &Stream,
    pick: &mut Pick,
    bound: Duration,
    tries: &mut u32,
) -> Result<Stream, ConnectError> {
    let reactor = client.reactor();
    let give_up = reactor.now() + MOST_TIME;
    let mut last = None;
    for backend in 1..=MOST_BACKENDS {
        let tries_here = match pick.by() {
            PickedBy::Pin | PickedBy::Session => 2,
            PickedBy::Policy(_) | PickedBy::Backup | PickedBy::Redispatch => 1,
        };
        for try_here in 1..=tries_here {
            if try_here > 1 {
                reactor.sleep(PAUSE).await;
            }
            *tries += 1;
            let started = reactor.now();
            let fault = match try_once(client, pick, give_up.min(started + bound)).await {
                Ok(stream) => {
                    let took = reactor.now() - started;
                    pick.backend().metrics.connected(took.as_secs_f64());
                    pick.answered(last);
                    return Ok(stream);
                }
                Err(ConnectError::Backend(fault)) => fault,
                Err(ConnectError::ClientGone) => return Err(ConnectError::ClientGone),
            };
            pick.backend().metrics.connect_failed(fault);
            last = Some(fault);
            // What this machine lacks says nothing of the backend, so the client stays where it belongs.
            if fault == ConnectFault::Local || reactor.now() >= give_up {
                return Err(ConnectError::Backend(fault));
            }
        }
        let Some(fault) = last else { break };
        if backend == MOST_BACKENDS || !pick.redispatch(fault) {
            return Err(ConnectError::Backend(fault));
        }
    }
    Err(ConnectError::Backend(
        last.unwrap_or(ConnectFault::Unreachable),
    ))
}

async fn try_once(client: &Stream, pick: &Pick, deadline: Instant) -> Result<Stream, ConnectError> {
    let failed = |error: &io::Error| ConnectError::Backend(fault(error));
    let Some(address) = pick.backend().address() else {
        return Err(ConnectError::Backend(ConnectFault::Unreachable));
    };
    let stream = socket::connect(address)
        .and_then(|socket| Stream::connecting(client.reactor(), socket))
        .map_err(|error| failed(&error))?;
    let connected = poll_fn(|_| {
        // A socket that has failed is writable too.
        if stream.poll_failed().is_ready() {
            return Poll::Ready(Err(failed(&stream.error())));
        }
        if stream.poll_writable().is_ready() {
            return Poll::Ready(Ok(()));
        }
        if client.poll_failed().is_ready() {
            return Poll::Ready(Err(ConnectError::ClientGone));
        }
        let timeout = || Err(ConnectError::Backend(ConnectFault::Timeout));
        client.reactor().poll_deadline(deadline).map(|()| timeout())
    });
    connected.await.map(|()| stream)
}

fn fault(error: &io::Error) -> ConnectFault {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::CONNREFUSED) => ConnectFault::Refused,
        Some(Errno::CONNRESET | Errno::CONNABORTED | Errno::PIPE) => ConnectFault::Reset,
        Some(Errno::TIMEDOUT) => ConnectFault::Timeout,
        Some(
            Errno::MFILE
            | Errno::NFILE
            | Errno::NOBUFS
            | Errno::NOMEM
            | Errno::ADDRNOTAVAIL
            | Errno::ADDRINUSE
            | Errno::ACCESS
            | Errno::PERM
            | Errno::AGAIN
            | Errno::INVAL,
        ) => ConnectFault::Local,
        _ => ConnectFault::Unreachable,
    }
}
