//! A start: bind, restore, spawn.
//!
//! Owns the order of a start: what can fail comes first. Invariant: a start that fails leaves nothing running, and binding,
//! which may wait for a file system, does not run on the control thread.

pub(super) mod error;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::control::Administration;
use super::descriptors::Descriptors;
use super::listeners::{AdminListeners, PreparedAdminListeners, Sockets, listen_state};
use super::reload::file_worker::FileWorker;
use super::reload::lingering::LingeringBackends;
use super::reload::watch::WatchedFile;
use super::running::Running;
use super::shared::SharedState;
use super::store::start_store;
use super::supervisor::FirstStep;
use super::upgrade::handoff::Handoff;
use super::upgrade::predecessors::Predecessors;
use super::upgrade::role::Role;
use super::workers::{self, Workers};
use super::{Server, drains, reload, requests, supervisor, sweep, systemd};
use crate::admin::UpgradeError;
use crate::affinity::table::Secret;
use crate::config::model::{AffinityStore, Config};
use crate::handoff::{DrainingProcess, Program};
use crate::health::{Monitor, MonitoredPool, Resolver};
use crate::net::event_loop::Notifier;
use crate::persistence::{OpenError, OpenedStore, Store};
use crate::proxy::acceptor::ProxyContext;
use crate::proxy::admission::ConnectionLimits;
use crate::snapshot::Snapshot;
use crate::telemetry::log::Log;
use crate::telemetry::metrics::{Registry, definitions};
use crate::upstream::backend::Availability;
use error::StartError;

/// Where the configuration comes from when it is to be read again.
#[derive(Debug)]
pub enum ConfigSource {
    /// It cannot be read again: reloads are rejected.
    Nowhere,
    /// From this file.
    File(PathBuf),
    /// From a file that is watched: a change triggers a reload.
    Watched(WatchedFile),
}

/// Everything that is bound and opened before anything runs.
pub struct PreparedServer {
    handoff: Option<Handoff>,
    config: Config,
    workers: usize,
    sockets: Sockets,
    /// Inherited addresses that are not configured any more.
    unwanted: Vec<SocketAddr>,
    admin: PreparedAdminListeners,
    /// `None` also where another process still holds the store.
    store: Option<OpenedStore>,
    secret: Secret,
    /// Older processes that still have connections.
    predecessors: Vec<(DrainingProcess, OwnedFd)>,
}

/// Backends and pins as they were before the start; nothing accepts yet.
pub(super) struct RestoredServer {
    state: SharedState,
    store: Option<Store>,
    workers: usize,
    descriptors: Descriptors,
    secret: Secret,
    first: FirstStep,
}

impl PreparedServer {
    /// Binds every address and opens the files that the configuration names. This may wait for a file system, so it must
    /// not run on the control thread. Starts nothing.
    ///
    /// # Errors
    ///
    /// The first thing that cannot be bound, read or opened; the rest is closed again.
    pub fn bind(mut handoff: Option<Handoff>, config: Config) -> Result<Self, StartError> {
        let workers = workers::count(config.workers);
        let sockets = Sockets::default();
        let (mut unwanted, mut inherited) = (Vec::new(), Vec::new());
        let mut predecessors = Vec::new();
        if let Some(handoff) = &mut handoff {
            let passed = &mut handoff.passed;
            let ports = std::mem::take(&mut passed.ports);
            unwanted = sockets.adopt(&config, ports, workers);
            inherited = std::mem::take(&mut passed.admin);
            predecessors = std::mem::take(&mut passed.predecessors);
        }
        let ports = sockets
            .bind(&config, workers)
            .map_err(first(StartError::Bind))?;
        sockets.add(ports);
        let admin = PreparedAdminListeners::open(&config.admin, &[], &mut inherited)
            .map_err(first(StartError::Admin))?;
        let (store, secret) = open_store(&config, handoff.as_ref()).map_err(StartError::Store)?;
        Ok(Self {
            handoff,
            config,
            workers,
            sockets,
            unwanted,
            admin,
            store,
            secret,
            predecessors,
        })
    }

    /// Builds the snapshot, restores states and pins from the predecessor or from the store, and starts to write the store.
    pub(super) fn restore(
        mut self,
        log: Arc<Log>,
        registry: Registry,
    ) -> Result<RestoredServer, StartError> {
        let predecessors = Predecessors::default();
        predecessors
            .adopt(self.predecessors)
            .map_err(StartError::Predecessor)?;
        let descriptors = Descriptors::of(self.workers);
        let limits = connection_limits(&self.config, &descriptors, self.sockets.count());
        let availability = Arc::new(Availability::default());
        let snapshot = Snapshot::build(self.config, &registry, &availability, &self.secret);
        match (&mut self.handoff, &self.store) {
            (Some(handoff), _) => handoff
                .restore(&snapshot)
                .map_err(StartError::Predecessor)?,
            (None, Some(store)) => store.restore(&snapshot),
            (None, None) => {}
        }
        let proxy = Arc::new(ProxyContext {
            snapshot: ArcSwap::from_pointee(snapshot),
            log,
            limits: Arc::new(limits),
            registry,
            stop: CancellationToken::new(),
            accept_error_logged_at: AtomicU64::new(0),
            started: Instant::now(),
        });
        let store = self.store.map(|store| start_store(store, &proxy));
        Ok(RestoredServer {
            store: store.transpose().map_err(StartError::Store)?,
            workers: self.workers,
            descriptors,
            secret: self.secret,
            first: FirstStep {
                take_over: self.handoff.map(|handoff| (handoff, self.unwanted)),
                admin: self.admin,
            },
            state: SharedState {
                proxy,
                availability,
                sockets: self.sockets,
                lingering: LingeringBackends::default(),
                predecessors,
                tasks: TaskTracker::new(),
            },
        })
    }
}

impl RestoredServer {
    /// Starts the workers, then every task on the current runtime, the supervisor last.
    pub(super) fn spawn(self, source: ConfigSource) -> Result<Server, StartError> {
        let state = Arc::new(self.state);
        set_start_metrics(&state.proxy);
        let allowance = self.descriptors.allowance();
        let workers = Workers::start(self.workers, &state.proxy, &state.availability, &allowance)
            .map_err(StartError::Workers)?;
        state.sockets.assign_all(workers.channels());
        let resolver = Resolver::system();
        let health = Monitor::start(
            &Handle::current(),
            MonitoredPool::all(&state.proxy.snapshot.load()),
            resolver.clone(),
            state.availability.subscribe(),
        );
        let (handle, requests) = requests::pair();
        let (role, role_seen) = watch::channel(self.first.role());
        let control = Administration {
            state: state.clone(),
            supervisor: handle.clone(),
            workers: self.workers,
            started: SystemTime::now(),
            health_events: health.events_handle(),
        };
        let running = Running {
            state: state.clone(),
            file: source.file().map(Path::to_owned),
            files: FileWorker::default(),
            program: program(source.file()),
            workers: workers.channels().clone(),
            descriptors: self.descriptors,
            secret: self.secret,
            resolver,
            health,
            admin: AdminListeners::new(Arc::new(control)),
            store: self.store,
            role,
            predecessor: None,
        };
        spawn_tasks(&state, workers.notifiers(), &role_seen);
        let tasks = &state.tasks;
        if let ConfigSource::Watched(watched) = source {
            tasks.spawn(watched.watch(state.proxy.clone(), handle.clone()));
        }
        let supervisor = tasks.spawn(supervisor::run(running, requests, self.first));
        tasks.close();
        Ok(Server {
            state,
            workers,
            handle,
            supervisor,
            role: role_seen,
        })
    }
}

fn connection_limits(
    config: &Config,
    descriptors: &Descriptors,
    sockets: usize,
) -> ConnectionLimits {
    let limits = &config.limits;
    ConnectionLimits::new(
        descriptors.share(limits, sockets),
        limits.per_source,
        limits.new_per_source_per_second,
    )
}

fn set_start_metrics(proxy: &ProxyContext) {
    let build = [env!("CARGO_PKG_VERSION")];
    proxy
        .registry
        .gauge(&definitions::BUILD_INFO, &build)
        .set(1.0);
    reload::mark_in_force(proxy);
}

/// The tasks that follow the state of the backends and of this process, until the balancer stops.
fn spawn_tasks(
    state: &Arc<SharedState>,
    notifiers: Vec<Arc<Notifier>>,
    role: &watch::Receiver<Role>,
) {
    let tasks = &state.tasks;
    tasks.spawn(listen_state::run(state.clone()));
    tasks.spawn(drains::run(state.clone()));
    tasks.spawn(sweep::run(state.clone()));
    tasks.spawn(systemd::run(state.clone(), notifiers, role.clone()));
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

/// The store, where one is configured, and the secret of its hashes. During an upgrade the secret is the predecessor's,
/// which may still hold the store.
fn open_store(
    config: &Config,
    handoff: Option<&Handoff>,
) -> Result<(Option<OpenedStore>, Secret), OpenError> {
    let passed = handoff.map(|handoff| handoff.passed.secret.clone());
    let opened = match &config.affinity_store {
        AffinityStore::Memory => None,
        AffinityStore::File(path) => match (OpenedStore::open(path), &passed) {
            (Err(OpenError::Held(_)), Some(_)) => None,
            (Ok(opened), Some(secret)) => Some(opened.with_secret(secret.clone())),
            (opened, _) => Some(opened?),
        },
    };
    let stored = || opened.as_ref().map(|store| store.secret().clone());
    let secret = passed.or_else(stored).unwrap_or_else(Secret::random);
    Ok((opened, secret))
}

/// The program that an upgrade starts. Only a process that reads its configuration from a file can be started again.
fn program(file: Option<&Path>) -> Result<Program, UpgradeError> {
    file.ok_or(UpgradeError::NotUpgradable)?;
    Program::of_this_process().map_err(|error| {
        tracing::warn!(target: "lyncpin::server", %error, "upgrades are not possible: the running program is unknown");
        UpgradeError::UnknownProgram(error.to_string())
    })
}

/// A start reports the first of several errors; there is at least one.
fn first<E>(make: fn(E) -> StartError) -> impl FnOnce(Vec<E>) -> StartError {
    move |mut errors| make(errors.swap_remove(0))
}
