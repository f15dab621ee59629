//! The worker threads: one single-threaded runtime each, with a listening socket of its own for every address.
//!
//! Owns the threads and the order in which they end. Invariant: a worker ends only after its accept loops have, and
//! takes its sessions with it.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::listener::{self, Gate, Shared};
use crate::socket::Listening;

/// Task polls between two looks at the sockets, when tasks are ready all the time: few enough that a stream does not
/// keep a message waiting for long.
const EVENT_INTERVAL: u32 = 16;

/// One socket that a worker accepts on.
pub(super) struct Assignment {
    pub(super) listening: Arc<Listening>,
    pub(super) listener: Arc<str>,
    pub(super) gate: watch::Receiver<Gate>,
}

/// The running threads.
pub(super) struct Workers {
    threads: Vec<JoinHandle<()>>,
    /// Closed when the last worker has ended.
    ended: mpsc::Receiver<()>,
    kill: CancellationToken,
}

/// One per core, unless configured otherwise.
pub(super) fn count(configured: Option<NonZeroUsize>) -> usize {
    configured
        .or_else(|| std::thread::available_parallelism().ok())
        .map_or(1, NonZeroUsize::get)
}

impl Workers {
    /// Starts a worker for each list of sockets.
    pub(super) fn start(
        assignments: Vec<Vec<Assignment>>,
        shared: &Arc<Shared>,
    ) -> io::Result<Self> {
        let kill = CancellationToken::new();
        let (alive, ended) = mpsc::channel(1);
        let mut threads = Vec::new();
        for (number, sockets) in assignments.into_iter().enumerate() {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .enable_time()
                .event_interval(EVENT_INTERVAL)
                .build()?;
            let (shared, kill, alive) = (shared.clone(), kill.clone(), alive.clone());
            let thread = Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || {
                    runtime.block_on(work(sockets, shared, kill));
                    drop(runtime);
                    drop(alive);
                })?;
            threads.push(thread);
        }
        Ok(Self {
            threads,
            ended,
            kill,
        })
    }

    /// Completes when every worker has ended by itself: its loops and its sessions.
    pub(super) async fn ended(&mut self) {
        while self.ended.recv().await.is_some() {}
    }

    /// Ends what is left, sessions in the middle included, and joins the threads.
    pub(super) fn end(self) {
        self.kill.cancel();
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!(target: "lyncpin::server", "a worker panicked");
            }
        }
    }
}

async fn work(sockets: Vec<Assignment>, shared: Arc<Shared>, kill: CancellationToken) {
    let (loops, sessions) = (TaskTracker::new(), TaskTracker::new());
    for Assignment {
        listening,
        listener,
        gate,
    } in sockets
    {
        loops.spawn(listener::accept(
            listening,
            listener,
            shared.clone(),
            gate,
            sessions.clone(),
        ));
    }
    loops.close();
    loops.wait().await;
    sessions.close();
    tokio::select! {
        () = sessions.wait() => {}
        () = kill.cancelled() => {}
    }
}
