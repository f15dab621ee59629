//! Accepting connections: one loop for each worker and bound address.
//!
//! Owns when connections are accepted, and the checks before a byte is read. Must not know names or pools. Invariants: an error
//! of this machine neither ends nor spins a loop; a connection that is rejected here is reset and counted.
//!
//! The server owns the socket. A loop registers it only while it listens and can accept: a socket that was shut down, or whose
//! queue is not emptied, is always "ready".

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rustix::io::Errno;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::net::event_loop::{AcceptReadiness, EventLoop, Stream};
use crate::net::socket::{self, ListeningSocket};
use crate::proxy::admission::{Admission, ConnectionLimits};
use crate::proxy::connection_record::ConnectionRecord;
use crate::proxy::session;
use crate::snapshot::{ActiveListener, Snapshot};
use crate::system::reserve;
use crate::telemetry::log::Log;
use crate::telemetry::metrics::{Registry, definitions};
use crate::types::outcome::Outcome;

/// The first and the longest wait after an error of this machine.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// Most connections accepted in a row before other tasks run.
const MAX_BATCH: usize = 64;
/// Seconds between two log lines about such an error.
const ERROR_LOG_INTERVAL: u64 = 10;

/// Whether the sockets of a listener listen; set by the code that opens and closes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenState {
    /// They listen; the number grows with every opening.
    Open(u64),
    /// They are shut down: connections are refused.
    Closed,
    /// The listener was removed: queued connections are accepted, then the loop ends.
    Removed,
    /// Another process has taken them over: queued connections are accepted there.
    TakenOver,
}

/// Shared by all accept loops.
pub struct ProxyContext {
    /// The configuration in force.
    pub snapshot: ArcSwap<Snapshot>,
    /// The access log.
    pub log: Arc<Log>,
    /// The counters behind `limits`.
    pub limits: Arc<ConnectionLimits>,
    /// All metrics.
    pub registry: Registry,
    /// Cancelled when the balancer stops.
    pub stop: CancellationToken,
    /// When an accept error was last logged, in seconds since `started`.
    pub accept_error_logged_at: AtomicU64,
    /// When the balancer started.
    pub started: Instant,
}

/// Accepts on one socket until it is removed or the balancer stops, then accepts the queued connections unless another process
/// has taken over. `address` is the configured one; the listener is looked up for each connection, since a reload may give the
/// address to another listener.
pub async fn accept(
    event_loop: EventLoop,
    listening: Arc<ListeningSocket>,
    address: SocketAddr,
    context: Arc<ProxyContext>,
    mut state: watch::Receiver<ListenState>,
) {
    let acceptor = Acceptor {
        event_loop,
        listening,
        address,
        context,
    };
    let mut served = None;
    loop {
        // An opening is never served twice: the socket has been shut down since.
        let opened = tokio::select! {
            () = acceptor.context.stop.cancelled() => break,
            opened = state.wait_for(|state| *state != ListenState::Closed && Some(*state) != served) => opened,
        };
        let Ok(opened @ ListenState::Open(_)) = opened.map(|opened| *opened) else {
            break;
        };
        served = Some(opened);
        acceptor.serve(opened, &mut state).await;
    }
    let queue_is_ours = match *state.borrow() {
        ListenState::Open(_) | ListenState::Removed => true,
        // A closed socket has no queue, unless another process has the socket too.
        ListenState::Closed | ListenState::TakenOver => false,
    };
    if queue_is_ours {
        // The queued connections are admitted and end together with the others.
        acceptor.accept_queued();
    }
}

/// One socket of one address.
struct Acceptor {
    event_loop: EventLoop,
    listening: Arc<ListeningSocket>,
    /// The configured address.
    address: SocketAddr,
    context: Arc<ProxyContext>,
}

impl Acceptor {
    /// Accepts during one opening, until the state changes or the balancer stops.
    async fn serve(&self, opened: ListenState, state: &mut watch::Receiver<ListenState>) {
        tokio::select! {
            biased;
            () = self.context.stop.cancelled() => {}
            // Any other state ends it: after a quick close and open only the last state is visible.
            _ = state.wait_for(|now| *now != opened) => {}
            () = self.accept_all() => {}
        }
    }

    /// Accepts until the socket stops listening.
    async fn accept_all(&self) {
        let mut backoff = BACKOFF.0;
        loop {
            let error = match AcceptReadiness::new(&self.event_loop, &self.listening) {
                Ok(readiness) => self.accept_from(&readiness, &mut backoff).await,
                Err(error) => error,
            };
            if error.kind() == io::ErrorKind::InvalidInput {
                return;
            }
            // The socket is no longer registered here; otherwise it would be reported as ready without end.
            self.report_error(&error);
            self.event_loop.sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF.1);
        }
    }

    /// Accepts until an error that is not specific to one connection.
    async fn accept_from(&self, readiness: &AcceptReadiness, backoff: &mut Duration) -> io::Error {
        loop {
            poll_fn(|_| readiness.poll_acceptable()).await;
            for _ in 0..MAX_BATCH {
                match self.accept_one() {
                    Ok(true) => *backoff = BACKOFF.0,
                    Ok(false) => break,
                    Err(error) => return error,
                }
                // With a single event there is most likely a single connection: saves the call that would return EAGAIN.
                if self.event_loop.is_quiet() {
                    break;
                }
            }
        }
    }

    /// Accepts one connection; `false` if the queue is empty.
    fn accept_one(&self) -> io::Result<bool> {
        if reserve::is_lifted() {
            // The remaining descriptors are reserved for other uses.
            return Err(Errno::MFILE.into());
        }
        let accepted = self.listening.accept();
        match accepted.and_then(|(client, peer)| self.start_session(client, peer)) {
            Ok(()) => Ok(true),
            Err(error) if is_connection_error(&error) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Accepts the queued connections without waiting; no more than the queue can have, so that it ends even under a flood.
    fn accept_queued(&self) {
        for _ in 0..socket::BACKLOG {
            if !matches!(self.accept_one(), Ok(true)) {
                return;
            }
        }
    }

    fn start_session(&self, client: OwnedFd, peer: SocketAddr) -> io::Result<()> {
        let client = Stream::accepted(&self.event_loop, client)?;
        let snapshot = self.context.snapshot.load();
        let Some(listener) = snapshot.listener_at(self.address) else {
            return Ok(());
        };
        let now = self.event_loop.now();
        let mut record =
            ConnectionRecord::new(listener.clone(), self.context.log.clone(), peer, now);
        match self.admit(listener, peer.ip(), now) {
            Ok(admission) => {
                let session = session::serve(client, listener.clone(), record, admission);
                self.event_loop.spawn(session);
            }
            Err(outcome) => {
                socket::reset_on_close(&client);
                drop(client);
                record.finish(outcome);
            }
        }
        Ok(())
    }

    fn admit(
        &self,
        listener: &ActiveListener,
        source: IpAddr,
        now: Instant,
    ) -> Result<Admission, Outcome> {
        if !listener.admits(source) {
            return Err(Outcome::Denied);
        }
        self.context.limits.admit(source, now)
    }

    /// Counts the error, and logs it at most every [`ERROR_LOG_INTERVAL`].
    fn report_error(&self, error: &io::Error) {
        let reason = match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::MFILE) => "descriptors_of_process",
            Some(Errno::NFILE) => "descriptors_of_system",
            Some(Errno::NOBUFS | Errno::NOMEM) => "memory",
            _ => "other",
        };
        let snapshot = self.context.snapshot.load();
        let listener = snapshot.listener_at(self.address);
        let listener = listener.map_or("", |listener| &*listener.config.name);
        self.context
            .registry
            .counter(&definitions::ACCEPT_ERRORS, &[listener, reason])
            .increment(1);
        let now = self.context.started.elapsed().as_secs() + ERROR_LOG_INTERVAL;
        let last = self.context.accept_error_logged_at.load(Ordering::Relaxed);
        let due = now >= last + ERROR_LOG_INTERVAL;
        if due
            && self
                .context
                .accept_error_logged_at
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            tracing::error!(
                target: "lyncpin::listener",
                listener,
                %error,
                "cannot accept connections, retrying; check limits.connections and LimitNOFILE"
            );
        }
    }
}

/// Network errors that concern only the new connection; accept(2) says to treat them like EAGAIN, and more may be queued.
fn is_connection_error(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw_os_error),
        Some(
            Errno::CONNABORTED
                | Errno::NETDOWN
                | Errno::PROTO
                | Errno::NOPROTOOPT
                | Errno::HOSTDOWN
                | Errno::NONET
                | Errno::HOSTUNREACH
                | Errno::OPNOTSUPP
                | Errno::NETUNREACH
                | Errno::INTR
                | Errno::PERM,
        )
    )
}

#[cfg(test)]
mod tests;
