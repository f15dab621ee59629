//! The worker threads: an event loop each, with a listening socket of its own for every address.
//!
//! Owns the threads and the order in which they end. Invariant: a worker ends only after its accept loops have, and
//! takes its sessions with it.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use tokio::sync::{mpsc, watch};

use crate::backend::Availability;
use crate::listener::{self, Gate, Shared};
use crate::reactor::{Alarm, Reactor};
use crate::socket::Listening;
use crate::splice::{self, Budget};

/// One socket that a worker accepts on.
pub(super) struct Assignment {
    pub(super) listening: Arc<Listening>,
    pub(super) listener: Arc<str>,
    pub(super) gate: watch::Receiver<Gate>,
}

/// The running threads.
pub(super) struct Workers {
    threads: Vec<JoinHandle<()>>,
    alarms: Vec<Arc<Alarm>>,
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
    /// Starts a worker for each list of sockets, and has them told of recalls.
    pub(super) fn start(
        assignments: Vec<Vec<Assignment>>,
        shared: &Arc<Shared>,
        availability: &Availability,
        pipes: Budget,
    ) -> io::Result<Self> {
        let (alive, ended) = mpsc::channel(1);
        let mut workers = Self {
            threads: Vec::new(),
            alarms: Vec::new(),
            ended,
        };
        for sockets in assignments {
            if let Err(error) = workers.start_one(sockets, shared, pipes, alive.clone()) {
                workers.end();
                return Err(error);
            }
        }
        for alarm in &workers.alarms {
            availability.tell_of_recalls(alarm.clone().into());
        }
        Ok(workers)
    }

    fn start_one(
        &mut self,
        sockets: Vec<Assignment>,
        shared: &Arc<Shared>,
        pipes: Budget,
        alive: mpsc::Sender<()>,
    ) -> io::Result<()> {
        let (tell, told) = std::sync::mpsc::channel();
        let shared = shared.clone();
        let thread = Builder::new()
            .name(format!("worker-{}", self.threads.len()))
            .spawn(move || {
                // An event loop belongs to the thread that made it.
                let reactor = Reactor::new();
                let _ = tell.send(
                    reactor
                        .as_ref()
                        .map(|reactor| reactor.alarm().clone())
                        .map_err(io::Error::kind),
                );
                splice::allow(pipes);
                if let Ok(reactor) = reactor {
                    work(&reactor, sockets, &shared);
                }
                drop(alive);
            })?;
        self.threads.push(thread);
        let alarm = told.recv().unwrap_or(Err(io::ErrorKind::Other))?;
        self.alarms.push(alarm);
        Ok(())
    }

    /// Where each worker is asked whether it still turns.
    pub(super) fn alarms(&self) -> Vec<Arc<Alarm>> {
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

fn work(reactor: &Reactor, sockets: Vec<Assignment>, shared: &Arc<Shared>) {
    for Assignment {
        listening,
        listener,
        gate,
    } in sockets
    {
        let (own, shared) = (reactor.clone(), shared.clone());
        reactor.spawn(listener::accept(own, listening, listener, shared, gate));
    }
    if let Err(error) = reactor.run() {
        tracing::error!(target: "lyncpin::server", %error, "a worker cannot look at its sockets");
    }
}
