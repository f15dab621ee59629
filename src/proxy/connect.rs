//! Connecting to a backend: the one that was picked, then others.
//!
//! Owns the order and the number of attempts. Must not know listeners or protocols. Invariants: at most [`MAX_BACKENDS`]
//! backends and [`MAX_TIME`] in total; the pin moves only after another backend has accepted the connection, and stays if the
//! failure was local to this machine.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::net::event_loop::Stream;
use crate::net::socket;
use crate::telemetry::metrics::ConnectFailure;
use crate::upstream::pool::{PickedBy, Selection};

/// Most backends that one connection tries.
pub const MAX_BACKENDS: u32 = 3;
/// Time limit for all attempts together.
pub const MAX_TIME: Duration = Duration::from_secs(10);
/// Wait before the second attempt at a pinned backend: a restarting service is soon back, and then its client stays.
const RETRY_DELAY: Duration = Duration::from_millis(50);

/// Why the connection to a backend failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectError {
    /// The failure of the last attempt.
    Backend(ConnectFailure),
    /// The client reset meanwhile.
    ClientGone,
}

/// Connects to the selected backend or to another one. Afterwards `selection` has the backend that was connected to, or tried
/// last. `tries` counts the attempts.
///
/// # Errors
///
/// Why the connection failed.
pub async fn connect(
    client: &Stream,
    selection: &mut Selection,
    timeout: Duration,
    tries: &mut u32,
) -> Result<Stream, ConnectError> {
    let event_loop = client.event_loop();
    let give_up_at = event_loop.now() + MAX_TIME;
    let mut last = None;
    for backend in 1..=MAX_BACKENDS {
        let attempts = match selection.by() {
            PickedBy::Pin | PickedBy::Session => 2,
            PickedBy::Policy(_) | PickedBy::Backup | PickedBy::Redispatch => 1,
        };
        for attempt in 1..=attempts {
            if attempt > 1 {
                event_loop.sleep(RETRY_DELAY).await;
            }
            *tries += 1;
            let started = event_loop.now();
            let failed = match try_once(client, selection, give_up_at.min(started + timeout)).await
            {
                Ok(stream) => {
                    let took = event_loop.now() - started;
                    selection
                        .backend()
                        .metrics
                        .record_connect(took.as_secs_f64());
                    selection.connected(last);
                    return Ok(stream);
                }
                Err(failed) => failed,
            };
            let (failure, affects_all) = match failed {
                AttemptError::ClientGone => return Err(ConnectError::ClientGone),
                AttemptError::ThisBackend(failure) => (failure, false),
                AttemptError::AllBackends => (ConnectFailure::Local, true),
            };
            selection.backend().metrics.record_connect_failure(failure);
            last = Some(failure);
            if affects_all || event_loop.now() >= give_up_at {
                return Err(ConnectError::Backend(failure));
            }
        }
        let Some(failure) = last else { break };
        if backend == MAX_BACKENDS || !selection.redispatch(failure) {
            return Err(ConnectError::Backend(failure));
        }
    }
    Err(ConnectError::Backend(
        last.unwrap_or(ConnectFailure::Unreachable),
    ))
}

/// How one attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AttemptError {
    /// This backend cannot be connected to; another one might be.
    ThisBackend(ConnectFailure),
    /// This machine is short of something that every connection needs.
    AllBackends,
    /// The client reset meanwhile.
    ClientGone,
}

async fn try_once(
    client: &Stream,
    selection: &Selection,
    deadline: Instant,
) -> Result<Stream, AttemptError> {
    let Some(address) = selection.backend().address() else {
        return Err(AttemptError::ThisBackend(ConnectFailure::Unreachable));
    };
    let stream = socket::connect(address)
        .and_then(|socket| Stream::connecting(client.event_loop(), socket))
        .map_err(|error| attempt_error(&error))?;
    let connected = poll_fn(|_| {
        // A failed socket is writable too.
        if stream.poll_failed().is_ready() {
            return Poll::Ready(Err(attempt_error(&stream.error())));
        }
        if stream.poll_writable().is_ready() {
            return Poll::Ready(Ok(()));
        }
        if client.poll_failed().is_ready() {
            return Poll::Ready(Err(AttemptError::ClientGone));
        }
        let timeout = || Err(AttemptError::ThisBackend(ConnectFailure::Timeout));
        client
            .event_loop()
            .poll_deadline(deadline)
            .map(|()| timeout())
    });
    connected.await.map(|()| stream)
}

fn attempt_error(error: &io::Error) -> AttemptError {
    AttemptError::ThisBackend(match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::CONNREFUSED) => ConnectFailure::Refused,
        Some(Errno::CONNRESET | Errno::CONNABORTED | Errno::PIPE) => ConnectFailure::Reset,
        Some(Errno::TIMEDOUT) => ConnectFailure::Timeout,
        // Descriptors, memory, or epoll watches are short.
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::NOSPC) => {
            return AttemptError::AllBackends;
        }
        // No local port or address for this backend; a firewall rejects it; its address family is disabled here.
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
    fn a_shortage_that_affects_all_backends_is_distinguished_from_one_that_affects_this_one() {
        let of = |errno: Errno| attempt_error(&errno.into());
        for errno in [Errno::ADDRNOTAVAIL, Errno::PERM, Errno::INVAL, Errno::AGAIN] {
            assert_eq!(of(errno), AttemptError::ThisBackend(ConnectFailure::Local));
        }
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
            assert_eq!(of(errno), AttemptError::AllBackends);
        }
        assert_eq!(
            of(Errno::HOSTUNREACH),
            AttemptError::ThisBackend(ConnectFailure::Unreachable)
        );
    }
}
