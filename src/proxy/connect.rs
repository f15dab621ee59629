//! Reaching a backend: the one that was picked, then others.
//!
//! Owns the order and number of tries. Knows no listener and no protocol. Invariant: at most [`MOST_BACKENDS`]
//! backends and [`MOST_TIME`] in all; the pin moves only when another backend has answered, and stays where only this
//! machine had no way to its backend.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::net::event_loop::Stream;
use crate::net::socket;
use crate::telemetry::metrics::ConnectFailure;
use crate::upstream::pool::{PickedBy, Selection};

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
    Backend(ConnectFailure),
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
    pick: &mut Selection,
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
            let failed = match try_once(client, pick, give_up.min(started + bound)).await {
                Ok(stream) => {
                    let took = reactor.now() - started;
                    pick.backend().metrics.connected(took.as_secs_f64());
                    pick.answered(last);
                    return Ok(stream);
                }
                Err(failed) => failed,
            };
            let (fault, everywhere) = match failed {
                Failed::ClientGone => return Err(ConnectError::ClientGone),
                Failed::Here(fault) => (fault, false),
                Failed::Everywhere => (ConnectFailure::Local, true),
            };
            pick.backend().metrics.connect_failed(fault);
            last = Some(fault);
            if everywhere || reactor.now() >= give_up {
                return Err(ConnectError::Backend(fault));
            }
        }
        let Some(fault) = last else { break };
        if backend == MOST_BACKENDS || !pick.redispatch(fault) {
            return Err(ConnectError::Backend(fault));
        }
    }
    Err(ConnectError::Backend(
        last.unwrap_or(ConnectFailure::Unreachable),
    ))
}

/// How one try failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failed {
    /// This backend cannot be reached; another one may be.
    Here(ConnectFailure),
    /// This machine lacks what every connection takes.
    Everywhere,
    /// The client reset meanwhile.
    ClientGone,
}

async fn try_once(client: &Stream, pick: &Selection, deadline: Instant) -> Result<Stream, Failed> {
    let Some(address) = pick.backend().address() else {
        return Err(Failed::Here(ConnectFailure::Unreachable));
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
            return Poll::Ready(Err(Failed::ClientGone));
        }
        let timeout = || Err(Failed::Here(ConnectFailure::Timeout));
        client.reactor().poll_deadline(deadline).map(|()| timeout())
    });
    connected.await.map(|()| stream)
}

fn failed(error: &io::Error) -> Failed {
    Failed::Here(match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::CONNREFUSED) => ConnectFailure::Refused,
        Some(Errno::CONNRESET | Errno::CONNABORTED | Errno::PIPE) => ConnectFailure::Reset,
        Some(Errno::TIMEDOUT) => ConnectFailure::Timeout,
        // Descriptors, memory, watches of the epoll.
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::NOSPC) => {
            return Failed::Everywhere;
        }
        // No port is left to this backend, or no address; a firewall forbids this one; its family is switched off here.
        Some(
            Errno::ADDRNOTAVAIL
            | Errno::ADDRINUSE
            | Errno::ACCESS
            | Errno::PERM
            | Errno::AGAIN
            | Errno::INVAL
            | Errno::AFNOSUPPORT,
        ) => ConnectFailure::Local,
        _ => ConnectFailure::Unreachable,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_lacks_is_told_from_what_it_lacks_for_one_backend() {
        let of = |errno: Errno| failed(&errno.into());
        for errno in [Errno::ADDRNOTAVAIL, Errno::PERM, Errno::INVAL, Errno::AGAIN] {
            assert_eq!(of(errno), Failed::Here(ConnectFailure::Local));
        }
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
            assert_eq!(of(errno), Failed::Everywhere);
        }
        assert_eq!(
            of(Errno::HOSTUNREACH),
            Failed::Here(ConnectFailure::Unreachable)
        );
    }
}
