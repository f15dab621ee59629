//! The worker threads: an event loop each, with a listening socket of its own for every address.
//!
//! Owns the threads and the order in which they end. Invariant: a worker ends only after its accept loops have, and
//! takes its sessions with it.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use tokio::sync::{mpsc, watch};

use crate::net::event_loop::{EventLoop, Notifier};
use crate::net::socket::Listening;
use crate::net::splice::{self, Allowance};
use crate::proxy::acceptor::{self, ListenState, ProxyContext};
use crate::upstream::backend::Availability;

use super::sockets::PortSockets;

/// One socket that a worker accepts on.
struct Assignment {
    listening: Arc<Listening>,
    /// As configured.
    address: SocketAddr,
    gate: watch::Receiver<ListenState>,
}

/// Where workers learn of sockets.
#[derive(Clone)]
pub(super) struct WorkerChannels(Vec<mpsc::UnboundedSender<Assignment>>);

impl WorkerChannels {
    /// Socket i goes to worker i, and round again, so that none is left alone.
    pub(super) fn assign(&self, port: &PortSockets) {
        for (listening, post) in port.sockets().iter().zip(self.0.iter().cycle()) {
            let assignment = Assignment {
                listening: listening.clone(),
                address: port.configured(),
                gate: port.gate(),
            };
            // A worker that is gone has been told to end.
            let _ = post.send(assignment);
        }
    }
}

/// The running threads.
pub(super) struct Workers {
    threads: Vec<JoinHandle<()>>,
    alarms: Vec<Arc<Notifier>>,
    posts: WorkerChannels,
    /// Closed when the last worker has ended.
    ended: mpsc::Receiver<()>,
}

/// One per core, unless configured otherwise.
pub(super) fn count(configured: Option<NonZeroUsize>) -> usize {
    configured
        .or_else(|| std::thread::available_parallelism().ok())
        .map_or(1, NonZeroUsize::get)
}

impl Workers {
    /// Starts so many workers, and has them told of recalls.
    pub(super) fn start(
        count: usize,
        shared: &Arc<ProxyContext>,
        availability: &Availability,
        pipes: &Allowance,
    ) -> io::Result<Self> {
        let (alive, ended) = mpsc::channel(1);
        let mut workers = Self {
            threads: Vec::new(),
            alarms: Vec::new(),
            posts: WorkerChannels(Vec::new()),
            ended,
        };
        for _ in 0..count {
            if let Err(error) = workers.start_one(shared, pipes.clone(), alive.clone()) {
                workers.end();
                return Err(error);
            }
        }
        for alarm in &workers.alarms {
            availability.tell_of_recalls(alarm.clone().into());
        }
        Ok(workers)
    }

    /// Where they learn of sockets.
    pub(super) fn posts(&self) -> &WorkerChannels {
        &self.posts
    }

    fn start_one(
        &mut self,
        shared: &Arc<ProxyContext>,
        pipes: Allowance,
        alive: mpsc::Sender<()>,
    ) -> io::Result<()> {
        let (tell, told) = std::sync::mpsc::channel();
        let (post, sockets) = mpsc::unbounded_channel();
        let shared = shared.clone();
        let thread = Builder::new()
            .name(format!("worker-{}", self.threads.len()))
            .spawn(move || {
                // An event loop belongs to the thread that made it.
                let reactor = EventLoop::new();
                let _ = tell.send(
                    reactor
                        .as_ref()
                        .map(|reactor| reactor.alarm().clone())
                        .map_err(|error| {
                            let kind = || error.kind().into();
                            let errno = error.raw_os_error();
                            errno.map_or_else(kind, io::Error::from_raw_os_error)
                        }),
                );
                splice::allow(pipes);
                if let Ok(reactor) = reactor {
                    work(&reactor, sockets, &shared);
                }
                drop(alive);
            })?;
        self.threads.push(thread);
        self.posts.0.push(post);
        let alarm = told
            .recv()
            .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))?;
        self.alarms.push(alarm);
        Ok(())
    }

    /// Where each worker is asked whether it still turns.
    pub(super) fn alarms(&self) -> Vec<Arc<Notifier>> {
        self.alarms.clone()
    }

    /// Completes when every worker has ended by itself: its loops and its sessions.
    pub(super) async fn ended(&mut self) {
        while self.ended.recv().await.is_some() {}
    }

    /// Ends what is left, sessions in the middle included, and joins the threads.
    pub(super) fn end(self) {
        for alarm in &self.alarms {
            alarm.end();
        }
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!(target: "lyncpin::server", "a worker panicked");
            }
        }
    }
}

fn work(
    reactor: &EventLoop,
    sockets: mpsc::UnboundedReceiver<Assignment>,
    shared: &Arc<ProxyContext>,
) {
    reactor.spawn(take_sockets(reactor.clone(), sockets, shared.clone()));
    if let Err(error) = reactor.run() {
        tracing::error!(target: "lyncpin::server", %error, "a worker cannot look at its sockets");
    }
}

/// Accepts on every socket that comes, until the balancer stops; what has come by then has its queue taken, too.
async fn take_sockets(
    reactor: EventLoop,
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
            gate,
        }) = next
        else {
            return;
        };
        let (own, shared) = (reactor.clone(), shared.clone());
        reactor.spawn(acceptor::accept(own, listening, address, shared, gate));
    }
}
