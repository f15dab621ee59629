//! The assembly: starts, owns and ends every task.
//!
//! Owns the listening sockets, the workers, the watch over backends and the order of start and stop: what can fail
//! comes first. Knows nothing of bytes, and of names and pins what an administrator asks. Invariant: when
//! [`Server::stop`] returns, no task, thread or socket of the balancer is left.

mod admin_listeners;
mod affinity;
mod changes;
mod control;
mod descriptors;
mod draining;
mod drains;
mod explain;
mod file_worker;
mod gates;
mod handoff;
mod handover;
mod holds;
mod lingering;
mod name_prefetch;
mod patience;
mod pipes;
mod predecessors;
mod prepared;
mod reading;
mod reload;
mod reload_fault;
mod requests;
mod retiring;
mod role;
mod service;
mod sockets;
mod start_error;
mod states;
mod stores;
mod takeover;
mod telling;
mod watch;
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

use crate::admin::UpgradeError;
use crate::config::model::Config;
use crate::handoff::Program;
use crate::health::{Monitor, Resolver, WatchedPool};
use crate::proxy::acceptor::ProxyContext;
use crate::proxy::admission::ConnectionLimits;
use crate::snapshot::Snapshot;
use crate::system::files;
use crate::telemetry::log::Log;
use crate::telemetry::metrics::{Registry, definitions};
use crate::upstream::backend::{Availability, Disconnect};
pub use admin_listeners::AdminListenerError;
use admin_listeners::AdminListeners;
use control::Administration;
use descriptors::Descriptors;
pub use draining::Heard;
pub use explain::explain_offline;
use file_worker::FileWorker;
use handoff::TakeOver;
pub use handoff::{Handoff, HandoffRejection};
use lingering::LingeringBackends;
use patience::Patience;
use predecessors::Predecessors;
pub use prepared::Prepared;
use reload::{Left, Reloader};
pub use requests::{Reloads, RequestOrigin};
pub use retiring::{Ended, Retiring};
pub use role::Role;
pub use sockets::ListenError;
use sockets::Sockets;
pub use start_error::StartError;
use stores::Keeping;
pub use watch::WatchedFile;
use workers::Workers;

/// How long sessions get to write their last line after they were told to end.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// What the tasks of the control thread get to see that they are to end. None of them waits for anything that long.
const TASKS_END: Duration = Duration::from_secs(5);
/// What the last answers of the admin listeners, and then the affinity store, get. Each has a bound of its own before.
const LAST_STEPS: Duration = Duration::from_secs(11);
/// Between two sweeps of what has expired.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Expired pins removed from each shard in one sweep.
const SWEEP_MOST: usize = 2_000;

/// Where each listener is bound.
pub type Addresses = Vec<(Arc<str>, Vec<SocketAddr>)>;

/// Where the configuration comes from when it is to be read again.
#[derive(Debug)]
pub enum ConfigSource {
    /// It is not: a reload is refused.
    Nowhere,
    /// From this file.
    File(PathBuf),
    /// From a file that is looked after: a change is a reload.
    Watched(WatchedFile),
}

/// A running balancer.
pub struct Server {
    shared: Arc<ProxyContext>,
    sockets: Arc<Sockets>,
    workers: Workers,
    tasks: TaskTracker,
    reloads: Reloads,
    /// Gives back what it owns when the balancer stops or has handed over.
    reloader: JoinHandle<Left>,
    control: Arc<Administration>,
    retired: Arc<LingeringBackends>,
    role: tokio::sync::watch::Receiver<Role>,
    predecessors: Predecessors,
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
        source: ConfigSource,
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
        handoff: Option<Handoff>,
        config: Config,
        log: Arc<Log>,
        registry: Registry,
        source: ConfigSource,
    ) -> Result<Self, StartError> {
        Self::start_prepared(Prepared::new(handoff, config)?, log, registry, source)
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
        source: ConfigSource,
    ) -> Result<Self, StartError> {
        let Prepared {
            mut handoff,
            config,
            count,
            sockets,
            unwanted,
            doors,
            keeping,
            predecessors: older,
        } = prepared;
        let predecessors = Predecessors::default();
        predecessors.adopt(older).map_err(StartError::Predecessor)?;
        let descriptors = Descriptors::of(count, pipes::budget(count));
        let limits = ConnectionLimits::new(
            descriptors.share(&config.limits, sockets.count()),
            config.limits.per_source,
            config.limits.new_per_source_per_second,
        );
        let availability = Arc::new(Availability::default());
        let Keeping { opened, secret } = keeping;
        let snapshot = Snapshot::build(config, &registry, &availability, &secret);
        match (&mut handoff, &opened) {
            (Some(handoff), _) => handoff
                .restore(&snapshot)
                .map_err(StartError::Predecessor)?,
            (None, Some(kept)) => kept.restore(&snapshot),
            (None, None) => {}
        }
        registry
            .gauge(&definitions::BUILD_INFO, &[env!("CARGO_PKG_VERSION")])
            .set(1.0);
        let shared = Arc::new(ProxyContext {
            snapshot: ArcSwap::from_pointee(snapshot),
            log,
            limits: Arc::new(limits),
            registry,
            stop: CancellationToken::new(),
            complained: AtomicU64::new(0),
            started: Instant::now(),
        });
        let store =
            stores::start_store(opened, &shared, &shared.registry).map_err(StartError::Store)?;
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
        let control = Arc::new(Administration {
            shared: shared.clone(),
            availability: availability.clone(),
            sockets: sockets.clone(),
            reloads: reloads.clone(),
            workers: count,
            started: SystemTime::now(),
            ups_and_downs: health.record(),
            predecessors: predecessors.clone(),
        });
        let retired = Arc::new(LingeringBackends::default());
        let tasks = TaskTracker::new();
        let changes = || availability.subscribe();
        tasks.spawn(gates::keep(sockets.clone(), shared.clone(), changes()));
        tasks.spawn(drains::keep(shared.clone(), retired.clone(), changes()));
        tasks.spawn(sweep(shared.clone(), retired.clone()));
        let first = if handoff.is_some() {
            Role::TakesOver
        } else {
            Role::Serves
        };
        let (tell_role, role) = tokio::sync::watch::channel(first);
        tasks.spawn(service::keep(
            shared.clone(),
            workers.alarms(),
            changes(),
            role.clone(),
        ));
        let file = source.file().map(Path::to_owned);
        let source_program = program(&source);
        let followed = CancellationToken::new();
        if let ConfigSource::Watched(watched) = source {
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
            admin: AdminListeners::none(),
            doors: Some(doors),
            control: control.clone(),
            retired: retired.clone(),
            program: source_program,
            store,
            take_over: handoff.map(|handoff| TakeOver { handoff, unwanted }),
            let_go: None,
            role: tell_role,
            predecessors: predecessors.clone(),
            followed,
            tasks: tasks.clone(),
            files: FileWorker::default(),
        };
        let reloader = tasks.spawn(reloader.run(requested));
        tasks.close();
        Ok(Self {
            shared,
            sockets,
            workers,
            tasks,
            reloads,
            reloader,
            control,
            retired,
            role,
            predecessors,
        })
    }

    /// What the accept loops share.
    #[must_use]
    pub fn shared(&self) -> &Arc<ProxyContext> {
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

    /// What this process is now to others of the same balancer.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role.borrow().clone()
    }

    /// Completes when this process is to serve no more though nobody has told it to stop; says what it is then.
    pub async fn retires(&self) -> Role {
        let mut role = self.role.clone();
        let decided = role
            .wait_for(|role| !matches!(role, Role::TakesOver | Role::Serves))
            .await;
        match decided.map(|role| role.clone()) {
            Ok(role) => role,
            Err(_) => std::future::pending().await,
        }
    }

    /// Stops: what the kernel has queued is still accepted, connections get `timeouts.shutdown` to end, then resets; older
    /// processes are told to do the same. `at_once` cuts that short. What comes back is of a process that was told to stop
    /// while it handed over, when that could not be taken back: the new process serves.
    pub async fn stop(self, at_once: impl Future<Output = ()>) -> Option<Ended> {
        let shutdown = self.shared.snapshot.load().config.timeouts.shutdown;
        self.predecessors.stop(shutdown);
        let mut patience = Patience::new(at_once, LAST_WORDS);
        let reloader = self.end_connections(&mut patience, shutdown).await;
        // It only fails where it panicked, and then nothing is left to be stopped.
        let mut left = patience.wait(LAST_STEPS, reloader).await?.ok()?;
        let handed_over = left.handed_over.take();
        left.end(&mut patience).await;
        handed_over.map(Ended::new)
    }

    /// The same without what the reloading task gives back, which is what comes back. Connections get `shutdown` to end.
    async fn end_connections(
        mut self,
        patience: &mut Patience<'_>,
        shutdown: Duration,
    ) -> JoinHandle<Left> {
        self.shared.stop.cancel();
        patience.wait(TASKS_END, self.tasks.wait()).await;
        self.sockets.let_go();
        let in_force = self.shared.snapshot.load();
        let left = self.shared.limits.connections();
        tracing::info!(target: "lyncpin::server", connections = left, "stopping");
        patience.wait(shutdown, self.workers.ended()).await;
        for backend in in_force.backends().chain(&self.retired.backends()) {
            backend.recall(Disconnect::Shutdown);
        }
        // Whoever has no last word within that time is dropped, which counts and logs it all the same.
        patience.wait(LAST_WORDS, self.workers.ended()).await;
        self.workers.end();
        self.reloader
    }
}

impl Left {
    /// Ends what is left, when connections have ended.
    async fn end(self, patience: &mut Patience<'_>) {
        let (health, admin) = (self.health, self.admin);
        let last_answers = async {
            health.stop().await;
            admin.end().await;
        };
        patience.wait(LAST_STEPS, last_answers).await;
        if let Some(store) = self.store {
            // Last: until here connections have ended and states have changed.
            let stopping = files::aside("store stop", move || store.stop());
            if patience.wait(LAST_STEPS, stopping).await.is_none() {
                tracing::error!(target: "lyncpin::store", "affinity store: the stop did not wait for the disk; the last changes may be lost");
            }
        }
    }
}

impl ConfigSource {
    fn file(&self) -> Option<&Path> {
        match self {
            Self::Nowhere => None,
            Self::File(file) => Some(file),
            Self::Watched(watched) => Some(watched.file()),
        }
    }
}

/// What an upgrade starts: only a process that reads its configuration from a file is the same program again.
fn program(source: &ConfigSource) -> Result<Program, UpgradeError> {
    source.file().ok_or(UpgradeError::NoProgram)?;
    Program::of_this_process().map_err(|error| {
        tracing::warn!(target: "lyncpin::server", %error, "an upgrade will not be possible");
        UpgradeError::UnknownProgram(error.to_string())
    })
}

async fn sweep(shared: Arc<ProxyContext>, retired: Arc<LingeringBackends>) {
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
