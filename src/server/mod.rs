//! The assembly: starts, owns and ends every task.
//!
//! Owns the listening sockets, the workers, the watch over backends and the order of start and stop: what can fail
//! comes first. Knows nothing of bytes, and of names and pins what an administrator asks. Invariant: when
//! [`Server::stop`] returns, no task, thread or socket of the balancer is left.

mod affinity;
mod changes;
mod control;
mod descriptors;
mod doors;
mod drains;
mod explain;
mod file_worker;
mod gates;
mod handover;
mod heir;
mod patience;
mod pipes;
mod prepared;
mod reading;
mod reload;
mod requests;
mod retired;
mod service;
mod sockets;
mod start_error;
mod states;
mod takeover;
mod teller;
mod watch;
mod whereabouts;
mod workers;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::Control;
use crate::backend::{Availability, Recall};
use crate::config::model::Config;
use crate::files;
use crate::health::{Monitor, Resolver, WatchedPool};
use crate::limits::Limits;
use crate::listener::Shared;
use crate::log::Log;
use crate::metrics::{Registry, definitions};
use crate::snapshot::Snapshot;
use crate::upgrade::Program;
use control::Administration;
use descriptors::Descriptors;
pub use doors::DoorFault;
use doors::Serving;
pub use explain::explain_offline;
use file_worker::FileWorker;
use heir::Elders;
pub use heir::{Heir, Refusal};
use patience::Patience;
pub use prepared::Prepared;
use reload::Reloader;
pub use requests::{Asker, Reloads};
use retired::Retired;
pub use sockets::BindFault;
use sockets::Sockets;
pub use start_error::StartError;
pub use takeover::Fate;
use takeover::{Inheritance, Keeping, Vault};
pub use watch::Watched;
use workers::Workers;

/// How long sessions get to write their last line after they were told to end.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// What the tasks of the control thread get to see that they are to end. None of them waits for anything that long.
const TASKS_END: Duration = Duration::from_secs(5);
/// What the last answers of the admin listeners, and then the affinity store, get. Each has a bound of its own before.
const LAST_STEPS: Duration = Duration::from_secs(11);
/// Between two looks for the last connection, after another process has taken over.
const ALONE_EVERY: Duration = Duration::from_millis(100);
/// Between two sweeps of what has expired.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Expired pins removed from each shard in one sweep.
const SWEEP_MOST: usize = 2_000;

/// Where each listener is bound.
pub type Addresses = Vec<(Arc<str>, Vec<SocketAddr>)>;

/// Where the configuration comes from when it is to be read again.
#[derive(Debug)]
pub enum Source {
    /// It is not: a reload is refused.
    Nowhere,
    /// From this file.
    File(PathBuf),
    /// From a file that is looked after: a change is a reload.
    Watched(Watched),
}

/// A running balancer.
pub struct Server {
    shared: Arc<Shared>,
    sockets: Arc<Sockets>,
    workers: Workers,
    tasks: TaskTracker,
    store: Vault,
    reloads: Reloads,
    /// Gives back what it owns when the balancer stops.
    reloader: JoinHandle<(Monitor, Serving)>,
    retired: Arc<Retired>,
    fate: tokio::sync::watch::Receiver<Fate>,
    elders: Elders,
}

impl Server {
    /// Binds every address, then starts everything on the current runtime and on worker threads.
    ///
    /// # Errors
    ///
    /// An address that cannot be bound, or a thread that cannot be started; nothing is left running.
    pub fn start(
        config: Config,
        log: Arc<Log>,
        registry: Registry,
        source: Source,
    ) -> Result<Self, StartError> {
        Self::start_after(None, config, log, registry, source)
    }

    /// The same in the place of another process, which serves until this one is ready. Nothing that it hands over is bound,
    /// and nothing is accepted before it says so.
    ///
    /// # Errors
    ///
    /// The same, and what is wrong with the other process.
    pub fn start_after(
        heir: Option<Heir>,
        config: Config,
        log: Arc<Log>,
        registry: Registry,
        source: Source,
    ) -> Result<Self, StartError> {
        Self::start_prepared(Prepared::new(heir, config)?, log, registry, source)
    }

    /// The same with what has been prepared, which waits for no file system.
    ///
    /// # Errors
    ///
    /// The same, but for what preparing says.
    pub fn start_prepared(
        prepared: Prepared,
        log: Arc<Log>,
        registry: Registry,
        source: Source,
    ) -> Result<Self, StartError> {
        let Prepared {
            mut heir,
            config,
            count,
            sockets,
            unwanted,
            doors,
            keeping,
        } = prepared;
        let descriptors = Descriptors::of(count, pipes::budget(count));
        let limits = Limits::new(
            descriptors.share(&config.limits, sockets.count()),
            config.limits.per_source,
            config.limits.new_per_source_per_second,
        );
        let availability = Arc::new(Availability::default());
        let Keeping {
            opened,
            secret,
            later,
        } = keeping;
        let snapshot = Snapshot::build(config, &registry, &availability, &secret);
        match (&mut heir, &opened) {
            (Some(heir), _) => heir.restore(&snapshot).map_err(StartError::Predecessor)?,
            (None, Some(kept)) => kept.restore(&snapshot),
            (None, None) => {}
        }
        registry
            .gauge(&definitions::BUILD_INFO, &[env!("CARGO_PKG_VERSION")])
            .set(1.0);
        let shared = Arc::new(Shared {
            snapshot: ArcSwap::from_pointee(snapshot),
            log,
            limits: Arc::new(limits),
            registry,
            stop: CancellationToken::new(),
            complained: AtomicU64::new(0),
            started: Instant::now(),
        });
        let store =
            takeover::start_store(opened, &shared, &shared.registry).map_err(StartError::Store)?;
        let store = Vault::new(store);
        reload::mark_reload(&shared);
        let (reloads, requested) = requests::pair();
        let workers = Workers::start(count, &shared, &availability, &descriptors.allowance())
            .map_err(StartError::Workers)?;
        sockets.assign(workers.posts());
        let resolver = Resolver::system();
        let health = Monitor::start(
            &Handle::current(),
            WatchedPool::all(&shared.snapshot.load()),
            resolver.clone(),
            availability.subscribe(),
        );
        let control: Arc<dyn Control> = Arc::new(Administration {
            shared: shared.clone(),
            availability: availability.clone(),
            sockets: sockets.clone(),
            reloads: reloads.clone(),
            workers: count,
            started: SystemTime::now(),
            ups_and_downs: health.record(),
        });
        let retired = Arc::new(Retired::default());
        let tasks = TaskTracker::new();
        let changes = || availability.subscribe();
        tasks.spawn(gates::keep(sockets.clone(), shared.clone(), changes()));
        tasks.spawn(drains::keep(shared.clone(), retired.clone(), changes()));
        tasks.spawn(sweep(shared.clone(), retired.clone()));
        let first = if heir.is_some() {
            Fate::Waits
        } else {
            Fate::Serves
        };
        let (tell_fate, fate) = tokio::sync::watch::channel(first);
        tasks.spawn(service::keep(
            shared.clone(),
            workers.alarms(),
            changes(),
            fate.clone(),
        ));
        let file = source.file().map(Path::to_owned);
        let source_program = program(&source);
        let elders = Elders::default();
        if let Source::Watched(watched) = source {
            tasks.spawn(watched.watch(shared.clone(), reloads.clone()));
        }
        let reloader = Reloader {
            shared: shared.clone(),
            file,
            sockets: sockets.clone(),
            posts: workers.posts().clone(),
            descriptors,
            availability,
            secret,
            resolver,
            health,
            admin: Serving::none(),
            doors: Some(doors),
            control,
            retired: retired.clone(),
            program: source_program,
            store: store.clone(),
            heir: heir.map(|heir| Inheritance {
                heir,
                unwanted,
                store: later,
                elders: elders.clone(),
            }),
            fate: tell_fate,
            files: FileWorker::default(),
        };
        let reloader = tasks.spawn(reloader.run(requested));
        tasks.close();
        Ok(Self {
            shared,
            sockets,
            workers,
            tasks,
            store,
            reloads,
            reloader,
            retired,
            fate,
            elders,
        })
    }

    /// What the accept loops share.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Where each listener is bound.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        let snapshot = self.shared.snapshot.load();
        let listeners = snapshot.listeners.iter().map(|listener| &listener.config);
        listeners
            .map(|listener| (listener.name.clone(), self.sockets.bound(&listener.bind)))
            .collect()
    }

    /// Where reloads are asked for.
    #[must_use]
    pub fn reloads(&self) -> &Reloads {
        &self.reloads
    }

    /// Completes when this process is to serve no more though nobody has told it to stop; says why.
    pub async fn fate(&self) -> Fate {
        let mut fate = self.fate.clone();
        let decided = fate
            .wait_for(|fate| !matches!(fate, Fate::Waits | Fate::Serves))
            .await;
        match decided.map(|fate| fate.clone()) {
            Ok(fate) => fate,
            Err(_) => std::future::pending().await,
        }
    }

    /// Lives on for its connections after another process has taken over: until the last has ended, or for
    /// `timeouts.drain`, then resets what is left. So long as older processes live whose pins are in use, this one tells of
    /// them. `at_once` cuts that short.
    pub async fn retire(self, at_once: impl Future<Output = ()>) {
        let drain = self.shared.snapshot.load().config.timeouts.drain;
        let alone = async {
            while self.shared.limits.connections() > 0 || self.elders.count() > 0 {
                tokio::time::sleep(ALONE_EVERY).await;
            }
        };
        tokio::select! {
            () = alone => {}
            () = tokio::time::sleep(drain) => {}
            () = at_once => {}
        }
        self.stop(std::future::ready(())).await;
    }

    /// Stops: what the kernel has queued is still accepted, connections get `timeouts.shutdown` to end, then resets.
    /// `at_once` cuts that short, and whatever else is waited for.
    pub async fn stop(mut self, at_once: impl Future<Output = ()>) {
        let mut patience = Patience::new(at_once, LAST_WORDS);
        self.shared.stop.cancel();
        patience.wait(TASKS_END, self.tasks.wait()).await;
        self.sockets.let_go();
        let in_force = self.shared.snapshot.load();
        let left = self.shared.limits.connections();
        tracing::info!(target: "lyncpin::server", connections = left, "stopping");
        let shutdown = in_force.config.timeouts.shutdown;
        patience.wait(shutdown, self.workers.ended()).await;
        for backend in in_force.backends().chain(&self.retired.backends()) {
            backend.recall(Recall::Shutdown);
        }
        // Whoever has no last word within that time is dropped, which counts and logs it all the same.
        patience.wait(LAST_WORDS, self.workers.ended()).await;
        self.workers.end();
        let last_answers = async {
            // It only fails where it panicked, and then nothing is left to be stopped.
            if let Ok((health, admin)) = self.reloader.await {
                health.stop().await;
                admin.end().await;
            }
        };
        patience.wait(LAST_STEPS, last_answers).await;
        if let Some(store) = self.store.take() {
            // Last: until here connections have ended and states have changed.
            let stopping = files::aside("store stop", move || store.stop());
            if patience.wait(LAST_STEPS, stopping).await.is_none() {
                tracing::error!(target: "lyncpin::store", "affinity store: the stop did not wait for the disk; the last changes may be lost");
            }
        }
    }
}

impl Source {
    fn file(&self) -> Option<&Path> {
        match self {
            Self::Nowhere => None,
            Self::File(file) => Some(file),
            Self::Watched(watched) => Some(watched.file()),
        }
    }
}

/// What an upgrade starts: only a process that reads its configuration from a file is the same program again.
fn program(source: &Source) -> Option<Program> {
    source.file()?;
    let program = Program::of_this_process();
    program
        .inspect_err(|error| {
            tracing::warn!(target: "lyncpin::server", %error, "an upgrade will not be possible");
        })
        .ok()
}

async fn sweep(shared: Arc<Shared>, retired: Arc<Retired>) {
    let mut ticks = interval(SWEEP_EVERY);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shared.stop.cancelled() => return,
        }
        shared.limits.sweep(Instant::now());
        let snapshot = shared.snapshot.load();
        for pins in &snapshot.groups {
            pins.sweep(SWEEP_MOST);
        }
        retired.sweep(&snapshot, &shared.registry);
    }
}
