//! The assembly: starts, owns and ends every task.
//!
//! Owns the listening sockets, the workers, the watch over backends and the order of start and stop: what can fail
//! comes first. Knows nothing of bytes, and of names and pins what an administrator asks. Invariant: when [`Server::stop`] returns, no task, thread or
//! socket of the balancer is left.

mod affinity;
mod control;
mod descriptors;
mod doors;
mod drains;
mod explain;
mod gates;
mod pipes;
mod service;
mod workers;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::view::{ExplainQuery, Explanation};
use crate::admin::{BindError, Control, ExplainError, TokenError};
use crate::backend::{Availability, Recall};
use crate::config::model::{self, Config};
use crate::health::{Monitor, Resolver, WatchedPool};
use crate::limits::Limits;
use crate::listener::{Gate, Shared};
use crate::log::Log;
use crate::metrics::{Registry, definitions};
use crate::pins::Secret;
use crate::snapshot::Snapshot;
use crate::socket::Listening;
use crate::store::{self, Store};
use control::Administration;
use doors::{Doors, Serving};
use gates::ListenerGate;
use workers::{Assignment, Workers};

/// How long sessions get to write their last line after they were told to end.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Between two sweeps of what has expired.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Expired pins removed from each shard in one sweep.
const SWEEP_MOST: usize = 2_000;

/// Why the balancer did not start.
#[derive(Debug)]
pub enum StartError {
    /// A listener's address.
    Bind {
        /// Whose address it is.
        listener: Arc<str>,
        /// Which.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The admin listener's address.
    Admin(BindError),
    /// The admin listener's token.
    Token(TokenError),
    /// The file of `affinity_store`.
    Store(store::OpenError),
    /// The worker threads.
    Workers(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind {
                listener,
                address,
                source,
            } => {
                write!(
                    f,
                    "listener {listener:?} cannot bind {address}{}",
                    advice(source)
                )
            }
            Self::Admin(error) => error.fmt(f),
            Self::Token(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::Workers(_) => f.write_str("cannot start the workers"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind { source, .. } | Self::Workers(source) => Some(source),
            Self::Admin(error) => error.source(),
            Self::Token(error) => error.source(),
            Self::Store(error) => error.source(),
        }
    }
}

fn advice(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied {
        " (ports below 1024 need the capability CAP_NET_BIND_SERVICE, or the sysctl net.ipv4.ip_unprivileged_port_start)"
    } else if error.kind() == io::ErrorKind::AddrInUse {
        " (another program, or another instance of this one, has it)"
    } else {
        ""
    }
}

/// Where each listener is bound.
pub type Addresses = Vec<(Arc<str>, Vec<SocketAddr>)>;

/// A running balancer.
pub struct Server {
    shared: Arc<Shared>,
    workers: Workers,
    tasks: TaskTracker,
    health: Monitor,
    admin: Serving,
    store: Option<Store>,
    addresses: Addresses,
    shutdown: Duration,
}

impl Server {
    /// Binds every address, then starts everything on the current runtime and on worker threads.
    ///
    /// # Errors
    ///
    /// An address that cannot be bound, or a thread that cannot be started; nothing is left running.
    pub fn start(config: Config, log: Arc<Log>, registry: Registry) -> Result<Self, StartError> {
        let workers = workers::count(config.workers);
        let bound = bind(&config, workers)?;
        let doors = Doors::open(&config.admin)?;
        let listening = bound
            .iter()
            .map(|(_, sockets)| sockets.len() * workers)
            .sum();
        let pipes = pipes::budget(workers);
        let allowed = descriptors::connections(descriptors::raise(), listening, workers, pipes);
        let most = config.limits.connections.unwrap_or(allowed);
        if most > allowed {
            tracing::warn!(
                target: "lyncpin::server",
                limit = most,
                allowed,
                "limits.connections is more than the descriptors allow: raise LimitNOFILE"
            );
        }
        let limits = Limits::new(
            most,
            config.limits.per_source,
            config.limits.new_per_source_per_second,
        );
        let availability = Arc::new(Availability::default());
        let shutdown = config.timeouts.shutdown;
        let kept = match &config.affinity_store {
            model::AffinityStore::Memory => None,
            model::AffinityStore::File(path) => {
                Some(store::Opened::open(path).map_err(StartError::Store)?)
            }
        };
        let secret = kept
            .as_ref()
            .map_or_else(Secret::random, |kept| kept.secret().clone());
        let snapshot = Snapshot::build(config, &registry, &availability, &secret);
        if let Some(kept) = &kept {
            kept.restore(&snapshot);
        }
        registry
            .gauge(&definitions::BUILD_INFO, &[env!("CARGO_PKG_VERSION")])
            .set(1.0);
        let loaded = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        registry
            .gauge(&definitions::CONFIG_LAST_RELOAD, &[])
            .set(loaded.as_secs_f64());
        let shared = Arc::new(Shared {
            snapshot: ArcSwap::from_pointee(snapshot),
            log,
            limits: Arc::new(limits),
            registry,
            stop: CancellationToken::new(),
            complained: AtomicU64::new(0),
            started: Instant::now(),
        });
        let addresses: Addresses = bound
            .iter()
            .map(|(name, sockets)| (name.clone(), addresses(sockets)))
            .collect();
        let in_force = shared.clone();
        let start = |kept: store::Opened| {
            let source = move || in_force.snapshot.load_full();
            kept.start(source, &shared.registry)
        };
        let store = kept.map(start).transpose().map_err(StartError::Store)?;
        let (gates, assignments) = assign(bound, workers);
        let threads = workers;
        let workers = Workers::start(assignments, &shared, &availability, pipes)
            .map_err(StartError::Workers)?;
        let watched = WatchedPool::all(&shared.snapshot.load());
        let health = Monitor::start(
            &Handle::current(),
            watched,
            Resolver::system(),
            availability.subscribe(),
        );
        let control: Arc<dyn Control> = Arc::new(Administration {
            shared: shared.clone(),
            availability: availability.clone(),
            addresses: addresses.clone(),
            workers: threads,
            started: SystemTime::now(),
            ups_and_downs: health.record(),
        });
        let tasks = TaskTracker::new();
        tasks.spawn(gates::keep(gates, shared.clone(), availability.subscribe()));
        tasks.spawn(drains::keep(shared.clone(), availability.subscribe()));
        tasks.spawn(sweep(shared.clone()));
        tasks.close();
        let admin = doors.serve(&control);
        tasks.spawn(service::keep(
            shared.clone(),
            workers.alarms(),
            availability.subscribe(),
        ));
        Ok(Self {
            shared,
            workers,
            tasks,
            health,
            admin,
            store,
            addresses,
            shutdown,
        })
    }

    /// What the accept loops share.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Where each listener is bound.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Stops: what the kernel has queued is still accepted, connections get `timeouts.shutdown` to end, then resets.
    /// `at_once` cuts that short.
    pub async fn stop(mut self, at_once: impl Future<Output = ()>) {
        self.shared.stop.cancel();
        self.tasks.wait().await;
        let left = self.shared.limits.connections();
        tracing::info!(target: "lyncpin::server", connections = left, "stopping");
        tokio::select! {
            () = self.workers.ended() => {}
            () = tokio::time::sleep(self.shutdown) => {}
            () = at_once => {}
        }
        for backend in self.shared.snapshot.load().backends() {
            backend.recall(Recall::Shutdown);
        }
        // Whoever has no last word within that time is dropped, which counts and logs it all the same.
        let _ = timeout(LAST_WORDS, self.workers.ended()).await;
        self.workers.end();
        self.health.stop().await;
        self.admin.end().await;
        if let Some(store) = self.store {
            // Last: until here connections have ended and states have changed.
            let _ = tokio::task::spawn_blocking(|| store.stop()).await;
        }
    }
}

/// What `config` alone says of a client: nothing is bound or checked, and no backend's health is known.
///
/// # Errors
///
/// When the question names what does not exist.
pub fn explain_offline(config: Config, query: &ExplainQuery) -> Result<Explanation, ExplainError> {
    let snapshot = Snapshot::build(
        config,
        &Registry::default(),
        &Arc::new(Availability::default()),
        &Secret::random(),
    );
    for backend in snapshot.backends() {
        // Any address will do: an unresolved name would count as down.
        let port = backend.configured.address.port;
        backend.set_address(match backend.configured.address.host {
            model::ServerHost::Address(ip) => SocketAddr::new(ip, port),
            model::ServerHost::Name(_) => SocketAddr::from(([0, 0, 0, 0], port)),
        });
    }
    let unknown = || ExplainError::UnknownListener(query.listener.clone());
    let listener = snapshot.listener(&query.listener).ok_or_else(unknown)?;
    let mut told = explain::explain(listener, query);
    told.address = told
        .address
        .filter(|address| !address.ip().is_unspecified());
    Ok(told)
}

type Bound = Vec<(Arc<str>, Vec<Vec<Arc<Listening>>>)>;

/// For each listener, for each address, a socket for each worker.
fn bind(config: &Config, workers: usize) -> Result<Bound, StartError> {
    let bind_listener = |listener: &model::Listener| {
        let mut sockets = Vec::new();
        for &address in &listener.bind {
            match Listening::bind(address, workers) {
                Ok(bound) => sockets.push(bound),
                Err(source)
                    if lacks_family(&source)
                        && is_all_of_ipv6(address)
                        && listener.bind.len() > 1 =>
                {
                    tracing::warn!(target: "lyncpin::server", listener = &*listener.name, %address, "this machine has no IPv6");
                }
                Err(source) => {
                    return Err(StartError::Bind {
                        listener: listener.name.clone(),
                        address,
                        source,
                    });
                }
            }
        }
        Ok((listener.name.clone(), sockets))
    };
    config.listeners.iter().map(bind_listener).collect()
}

/// `[::]` means every IPv6 address of the machine, and having none is worth a warning; any other address was meant.
fn is_all_of_ipv6(address: SocketAddr) -> bool {
    address.is_ipv6() && address.ip().is_unspecified()
}

fn lacks_family(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

fn addresses(sockets: &[Vec<Arc<Listening>>]) -> Vec<SocketAddr> {
    sockets
        .iter()
        .filter_map(|of_address| of_address.first())
        .map(|socket| socket.address())
        .collect()
}

/// Socket i of every address goes to worker i.
fn assign(bound: Bound, workers: usize) -> (Vec<ListenerGate>, Vec<Vec<Assignment>>) {
    let mut assignments: Vec<Vec<Assignment>> = (0..workers).map(|_| Vec::new()).collect();
    let mut gates = Vec::new();
    for (listener, addresses) in bound {
        let (state, gate) = watch::channel(Gate::Closed);
        for sockets in &addresses {
            for (worker, listening) in assignments.iter_mut().zip(sockets) {
                let (listening, listener, gate) =
                    (listening.clone(), listener.clone(), gate.clone());
                worker.push(Assignment {
                    listening,
                    listener,
                    gate,
                });
            }
        }
        gates.push(ListenerGate {
            listener,
            sockets: addresses.concat(),
            state,
        });
    }
    (gates, assignments)
}

async fn sweep(shared: Arc<Shared>) {
    let mut ticks = interval(SWEEP_EVERY);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shared.stop.cancelled() => return,
        }
        shared.limits.sweep(Instant::now());
        for pins in &shared.snapshot.load().groups {
            pins.sweep(SWEEP_MOST);
        }
    }
}
