//! Reaching a backend: the one that was picked, then others.
//!
//! Owns the order and number of tries. Knows no listener and no protocol. Invariant: at most [`MOST_BACKENDS`]
//! backends and [`MOST_TIME`] in all; the pin moves only when another backend has answered.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};

use crate::metrics::ConnectFault;
use crate::pool::{Pick, PickedBy};
use crate::socket::{self, Patience};

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
    client: &TcpStream,
    pick: &mut Pick,
    bound: Duration,
    patience: Patience,
    tries: &mut u32,
) -> Result<TcpStream, ConnectError> {
    let give_up = Instant::now() + MOST_TIME;
    let mut last = None;
    for backend in 1..=MOST_BACKENDS {
        let tries_here = if pick.by() == PickedBy::Pin { 2 } else { 1 };
        for try_here in 1..=tries_here {
            if try_here > 1 {
                sleep(PAUSE).await;
            }
            *tries += 1;
            let started = Instant::now();
            let fault = match try_once(client, pick, give_up.min(started + bound), patience).await {
                Ok(stream) => {
                    pick.backend()
                        .metrics
                        .connected(started.elapsed().as_secs_f64());
                    pick.answered(last);
                    return Ok(stream);
                }
                Err(ConnectError::Backend(fault)) => fault,
                Err(ConnectError::ClientGone) => return Err(ConnectError::ClientGone),
            };
            pick.backend().metrics.connect_failed(fault);
            last = Some(fault);
            // What this machine lacks says nothing of the backend, so the client stays where it belongs.
            if fault == ConnectFault::Local || Instant::now() >= give_up {
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

async fn try_once(
    client: &TcpStream,
    pick: &Pick,
    deadline: Instant,
    patience: Patience,
) -> Result<TcpStream, ConnectError> {
    let Some(address) = pick.backend().address() else {
        return Err(ConnectError::Backend(ConnectFault::Unreachable));
    };
    tokio::select! {
        biased;
        connected = timeout_at(deadline, socket::connect(address, patience)) => match connected {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(ConnectError::Backend(fault(&error))),
            Err(_) => Err(ConnectError::Backend(ConnectFault::Timeout)),
        },
        _ = client.ready(Interest::ERROR) => Err(ConnectError::ClientGone),
    }
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
