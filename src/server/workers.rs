//! The worker threads: an event loop each, with a listening socket of its own for every address.
//!
//! Owns the threads and the order in which they end. Must not know which listener a socket belongs to. Invariant: a worker
//! ends after its accept loops, and its sessions end with it.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use tokio::sync::{mpsc, watch};

use crate::net::event_loop::{EventLoop, Notifier};
use crate::net::socket::ListeningSocket;
use crate::net::splice::{self, PipeAllowance};
use crate::proxy::acceptor::{self, ListenState, ProxyContext};
use crate::upstream::backend::Availability;

/// A socket for a worker to accept on.
struct Assignment {
    listening: Arc<ListeningSocket>,
    /// As configured.
    address: SocketAddr,
    state: watch::Receiver<ListenState>,
}

/// The channels on which workers get their sockets.
#[derive(Clone)]
pub(super) struct WorkerChannels(Vec<mpsc::UnboundedSender<Assignment>>);

impl WorkerChannels {
    /// Distributes the sockets of one address, bound for the configured `address`. Socket i goes to worker i modulo their
    /// number, so that each socket is served.
    pub(super) fn assign(
        &self,
        address: SocketAddr,
        sockets: &[Arc<ListeningSocket>],
        state: &watch::Sender<ListenState>,
    ) {
        for (listening, worker) in sockets.iter().zip(self.0.iter().cycle()) {
            let assignment = Assignment {
                listening: listening.clone(),
                address,
                state: state.subscribe(),
            };
            // An error means that the worker is ending.
            let _ = worker.send(assignment);
        }
    }
}

/// The running threads.
pub(super) struct Workers {
    threads: Vec<JoinHandle<()>>,
    notifiers: Vec<Arc<Notifier>>,
    channels: WorkerChannels,
    /// Closes when the last worker has ended.
    ended: mpsc::Receiver<()>,
}

/// The number of workers: one per core, unless configured otherwise.
pub(super) fn count(configured: Option<NonZeroUsize>) -> usize {
    configured
        .or_else(|| std::thread::available_parallelism().ok())
        .map_or(1, NonZeroUsize::get)
}

impl Workers {
    /// Starts `count` workers, which are notified when connections of a backend have to end.
    pub(super) fn start(
        count: usize,
        shared: &Arc<ProxyContext>,
        availability: &Availability,
        pipes: &PipeAllowance,
    ) -> io::Result<Self> {
        let (alive, ended) = mpsc::channel(1);
        let mut workers = Self {
            threads: Vec::new(),
            notifiers: Vec::new(),
            channels: WorkerChannels(Vec::new()),
            ended,
        };
        for _ in 0..count {
            if let Err(error) = workers.start_one(shared, pipes.clone(), alive.clone()) {
                workers.stop();
                return Err(error);
            }
        }
        for notifier in &workers.notifiers {
            availability.register_worker(notifier.clone().into());
        }
        Ok(workers)
    }

    /// The channels on which they get their sockets.
    pub(super) fn channels(&self) -> &WorkerChannels {
        &self.channels
    }

    fn start_one(
        &mut self,
        shared: &Arc<ProxyContext>,
        pipes: PipeAllowance,
        alive: mpsc::Sender<()>,
    ) -> io::Result<()> {
        let (started, start) = std::sync::mpsc::channel();
        let (channel, sockets) = mpsc::unbounded_channel();
        let shared = shared.clone();
        let thread = Builder::new()
            .name(format!("worker-{}", self.threads.len()))
            .spawn(move || {
                // An event loop has to be created on its thread.
                let event_loop = EventLoop::new();
                let notifier = event_loop
                    .as_ref()
                    .map(|event_loop| event_loop.notifier().clone());
                let _ = started.send(notifier.map_err(copy_error));
                splice::set_allowance(pipes);
                if let Ok(event_loop) = event_loop {
                    work(&event_loop, sockets, &shared);
                }
                drop(alive);
            })?;
        self.threads.push(thread);
        self.channels.0.push(channel);
        let notifier = start
            .recv()
            .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))?;
        self.notifiers.push(notifier);
        Ok(())
    }

    /// The notifiers of the event loops, for the watchdog.
    pub(super) fn notifiers(&self) -> Vec<Arc<Notifier>> {
        self.notifiers.clone()
    }

    /// Completes when every worker has ended on its own, with its accept loops and sessions.
    pub(super) async fn ended(&mut self) {
        while self.ended.recv().await.is_some() {}
    }

    /// Ends the remaining sessions, and joins the threads.
    pub(super) fn stop(self) {
        for notifier in &self.notifiers {
            notifier.stop();
        }
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!(target: "lyncpin::server", "a worker panicked");
            }
        }
    }
}

/// The same error for another thread.
fn copy_error(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => error.kind().into(),
    }
}

fn work(
    event_loop: &EventLoop,
    sockets: mpsc::UnboundedReceiver<Assignment>,
    shared: &Arc<ProxyContext>,
) {
    event_loop.spawn(take_sockets(event_loop.clone(), sockets, shared.clone()));
    if let Err(error) = event_loop.run() {
        tracing::error!(target: "lyncpin::server", %error, "a worker cannot poll its sockets");
    }
}

/// Accepts on every assigned socket until the balancer stops; sockets that are assigned by then have their queue served too.
async fn take_sockets(
    event_loop: EventLoop,
    mut sockets: mpsc::UnboundedReceiver<Assignment>,
    shared: Arc<ProxyContext>,
) {
    loop {
        let next = tokio::select! {
            () = shared.stop.cancelled() => sockets.try_recv().ok(),
            next = sockets.recv() => next,
        };
        let Some(Assignment {
            listening,
            address,
            state,
        }) = next
        else {
            return;
        };
        let (own, shared) = (event_loop.clone(), shared.clone());
        event_loop.spawn(acceptor::accept(own, listening, address, shared, state));
    }
}
