//! Accepting: one loop for each worker and bound address.
//!
//! Owns when connections are taken and what is decided before a byte is read. Knows nothing of names and pools.
//! Invariants: a fault of this machine ends no loop and spins none; what is refused here is reset and counted.
//!
//! The socket belongs to the assembly, and a loop watches it only while the gate is open and there is nothing that keeps
//! it from accepting: a socket that was shut down, or whose queue nobody takes from, is "ready" all the time.

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
use crate::net::socket::{self, Listening};
use crate::proxy::admission::{Admission, ConnectionLimits};
use crate::proxy::connection_record::ConnectionRecord;
use crate::proxy::session;
use crate::snapshot::{ActiveListener, Snapshot};
use crate::system::reserve;
use crate::telemetry::log::Log;
use crate::telemetry::metrics::{Registry, definitions};
use crate::types::outcome::Outcome;

/// The first wait after this machine lacked something, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// Connections that are accepted in a row before others have their turn.
const BATCH: usize = 64;
/// Seconds between two log lines about that.
const COMPLAINT_EVERY: u64 = 10;

/// Whether the sockets of a listener listen; told by who opens and closes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenState {
    /// They do; the number grows with every opening.
    Open(u64),
    /// They refuse.
    Closed,
    /// They are configured no more: what the kernel has queued is taken, and that is the end.
    Removed,
    /// Another process has them too and accepts now: what is queued is its own.
    Left,
}

/// What every accept loop shares.
pub struct ProxyContext {
    /// The configuration in force.
    pub snapshot: ArcSwap<Snapshot>,
    /// Where lines go.
    pub log: Arc<Log>,
    /// What counts against `limits`.
    pub limits: Arc<ConnectionLimits>,
    /// Every series.
    pub registry: Registry,
    /// Cancelled when the balancer is to stop.
    pub stop: CancellationToken,
    /// Seconds since `started` at which this machine's lack was last complained of.
    pub complained: AtomicU64,
    /// When the balancer started.
    pub started: Instant,
}

/// Accepts on one socket until it is removed or the balancer stops, then what the kernel has queued, unless another process
/// takes that. Whose connections
/// these are is asked for each of them by `address`, which is the configured one: it may become another listener's.
pub async fn accept(
    reactor: EventLoop,
    listening: Arc<Listening>,
    address: SocketAddr,
    shared: Arc<ProxyContext>,
    mut gate: watch::Receiver<ListenState>,
) {
    let door = Acceptor {
        reactor,
        listening,
        address,
        shared,
    };
    let mut served = None;
    loop {
        // The same opening is never served twice: the socket has been shut down since.
        let opened = tokio::select! {
            () = door.shared.stop.cancelled() => break,
            opened = gate.wait_for(|gate| *gate != ListenState::Closed && Some(*gate) != served) => opened,
        };
        let Ok(opened @ ListenState::Open(_)) = opened.map(|opened| *opened) else {
            break;
        };
        served = Some(opened);
        door.serve(opened, &mut gate).await;
    }
    let queue_is_ours = match *gate.borrow() {
        ListenState::Open(_) | ListenState::Removed => true,
        // One that is closed has no queue, but where another process has it still.
        ListenState::Closed | ListenState::Left => false,
    };
    if queue_is_ours {
        // Nobody waits for what is still queued: each is let in, and ends with the others.
        door.take_the_queued();
    }
}

/// One socket of one address.
struct Acceptor {
    reactor: EventLoop,
    listening: Arc<Listening>,
    /// As configured.
    address: SocketAddr,
    shared: Arc<ProxyContext>,
}

impl Acceptor {
    /// Serves one opening, until the gate moves on or the balancer stops.
    async fn serve(&self, opened: ListenState, gate: &mut watch::Receiver<ListenState>) {
        tokio::select! {
            biased;
            () = self.shared.stop.cancelled() => {}
            // Any other state ends it, for one that closed and opened in a moment shows the last of the two alone.
            _ = gate.wait_for(|now| *now != opened) => {}
            () = self.accept_all() => {}
        }
    }

    /// Accepts until the socket listens no more.
    async fn accept_all(&self) {
        let mut backoff = BACKOFF.0;
        loop {
            let error = match AcceptReadiness::new(&self.reactor, &self.listening) {
                Ok(watch) => self.accept_from(&watch, &mut backoff).await,
                Err(error) => error,
            };
            if error.kind() == io::ErrorKind::InvalidInput {
                return;
            }
            // The watch is gone by now, or it would say without end that somebody waits.
            self.complain(&error);
            self.reactor.sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF.1);
        }
    }

    /// Accepts until there is an error that is not one connection's own.
    async fn accept_from(&self, watch: &AcceptReadiness, backoff: &mut Duration) -> io::Error {
        loop {
            poll_fn(|_| watch.poll_waiting()).await;
            for _ in 0..BATCH {
                match self.accept_one() {
                    Ok(true) => *backoff = BACKOFF.0,
                    Ok(false) => break,
                    Err(error) => return error,
                }
                // When this is all that happens it is one client's coming, and the call that finds nobody is spared.
                if self.reactor.is_quiet() {
                    break;
                }
            }
        }
    }

    /// `false` where nobody waits.
    fn accept_one(&self) -> io::Result<bool> {
        if reserve::is_lifted() {
            // What there is now is there for others.
            return Err(Errno::MFILE.into());
        }
        let accepted = self.listening.accept();
        match accepted.and_then(|(client, peer)| self.welcome(client, peer)) {
            Ok(()) => Ok(true),
            Err(error) if is_of_one_connection(&error) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes what the kernel still holds, without waiting; in a storm of connections that alone has an end.
    fn take_the_queued(&self) {
        for _ in 0..socket::BACKLOG {
            if !matches!(self.accept_one(), Ok(true)) {
                return;
            }
        }
    }

    fn welcome(&self, client: OwnedFd, peer: SocketAddr) -> io::Result<()> {
        let client = Stream::accepted(&self.reactor, client)?;
        let snapshot = self.shared.snapshot.load();
        let Some(listener) = snapshot.listener_at(self.address) else {
            return Ok(());
        };
        let now = self.reactor.now();
        let mut account =
            ConnectionRecord::open(listener.clone(), self.shared.log.clone(), peer, now);
        match self.admit(listener, peer.ip(), now) {
            Ok(admission) => {
                let session = session::serve(client, listener.clone(), account, admission);
                self.reactor.spawn(session);
            }
            Err(outcome) => {
                socket::reset_on_close(&client);
                drop(client);
                account.settle(outcome);
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
        self.shared.limits.admit(source, now)
    }

    fn complain(&self, error: &io::Error) {
        let reason = match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::MFILE) => "descriptors_of_process",
            Some(Errno::NFILE) => "descriptors_of_system",
            Some(Errno::NOBUFS | Errno::NOMEM) => "memory",
            _ => "other",
        };
        let snapshot = self.shared.snapshot.load();
        let listener = snapshot.listener_at(self.address);
        let listener = listener.map_or("", |listener| &*listener.config.name);
        self.shared
            .registry
            .counter(&definitions::ACCEPT_ERRORS, &[listener, reason])
            .increment(1);
        let now = self.shared.started.elapsed().as_secs() + COMPLAINT_EVERY;
        let last = self.shared.complained.load(Ordering::Relaxed);
        let due = now >= last + COMPLAINT_EVERY;
        if due
            && self
                .shared
                .complained
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            tracing::error!(
                target: "lyncpin::listener",
                listener,
                %error,
                "cannot accept; connections wait until this machine has what is lacking (limits.connections, LimitNOFILE)"
            );
        }
    }
}

/// Network errors of the new connection alone, which accept(2) says to treat like EAGAIN: there may be more.
fn is_of_one_connection(error: &io::Error) -> bool {
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
