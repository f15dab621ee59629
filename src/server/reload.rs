//! Another configuration in the same process.
//!
//! Owns the order: what can fail comes first (reading, binding, the token), what takes time next, and then everything that
//! is new comes into force between two awaits, so that no task of the control thread sees half of it and a connection
//! sees either the old snapshot or the new one. Knows no command and no HTTP. Invariants: a configuration with a fault
//! changes nothing, and who asked gets all of its faults; one reload is under way at a time; the control thread never waits
//! for the file system, and a stop does not either.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use metrics::Counter;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admin_listeners::{AdminListeners, PreparedAdminListeners};
use super::changes;
use super::descriptors::Descriptors;
use super::draining::HandedOver;
use super::file_worker::FileWorker;
use super::gates;
use super::handoff::TakeOver;
use super::lingering::LingeringBackends;
use super::name_prefetch::PrefetchedNames;
use super::predecessors::Predecessors;
use super::reading::{ReadFiles, Reading, StoreMove};
use super::reload_fault::{ReloadFailure, chain};
use super::requests::{ReloadResult, Request, RequestOrigin, Requests};
use super::role::Role;
use super::sockets::{PortSockets, Sockets};
use super::stores;
use super::workers::WorkerChannels;
use crate::admin::view::Reloaded;
use crate::admin::{Control, ReloadError, UpgradeError};
use crate::affinity::table::Secret;
use crate::config::Loaded;
use crate::config::model::Config;
use crate::handoff::Program;
use crate::health::{Monitor, Resolver, WatchedPool};
use crate::persistence::Store;
use crate::proxy::acceptor::ProxyContext;
use crate::snapshot::{PreviousSnapshot, Snapshot};
use crate::system::files;
use crate::system::reserve;
use crate::telemetry::metrics::definitions;
use crate::types::timestamp::Timestamp;
use crate::upstream::backend::Availability;

/// What comes of a reload, in the metric.
const ACCEPTED: &str = "accepted";
const REJECTED: &str = "rejected";
/// What accept loops of removed sockets get to take what is queued there.
const LAST_CALL: Duration = Duration::from_secs(2);

/// What a reload changes.
pub(super) struct Reloader {
    pub(super) shared: Arc<ProxyContext>,
    /// The configuration's file; `None` where it came from elsewhere.
    pub(super) file: Option<PathBuf>,
    pub(super) sockets: Arc<Sockets>,
    pub(super) posts: WorkerChannels,
    pub(super) descriptors: Descriptors,
    pub(super) availability: Arc<Availability>,
    pub(super) secret: Secret,
    pub(super) resolver: Resolver,
    pub(super) health: Monitor,
    pub(super) admin: AdminListeners,
    pub(super) control: Arc<dyn Control>,
    pub(super) retired: Arc<LingeringBackends>,
    /// The admin listeners that are to be served from the start.
    pub(super) doors: Option<PreparedAdminListeners>,
    /// What an upgrade starts, or why it cannot be known.
    pub(super) program: Result<Program, UpgradeError>,
    /// Where pins and states are written; this task alone opens and ends it.
    pub(super) store: Option<Store>,
    /// What this process takes over from another.
    pub(super) take_over: Option<TakeOver>,
    /// Says when the old process has let go of what only one can have.
    pub(super) let_go: Option<mpsc::UnboundedReceiver<()>>,
    pub(super) role: watch::Sender<Role>,
    pub(super) predecessors: Predecessors,
    pub(super) followed: CancellationToken,
    /// What lives until the balancer stops.
    pub(super) tasks: TaskTracker,
    pub(super) files: FileWorker,
}

/// What is left to be ended when the balancer stops or has handed over.
pub(super) struct Left {
    pub(super) health: Monitor,
    pub(super) admin: AdminListeners,
    pub(super) store: Option<Store>,
    /// Where the process that took over speaks to this one.
    pub(super) handed_over: Option<HandedOver>,
}

/// What is to be done next.
enum NextEvent {
    Request(Option<Request>),
    /// The old process has let go of what only one can have.
    LetGo,
}

/// What can fail and has not.
struct PreparedReload {
    loaded: Loaded,
    ports: Vec<PortSockets>,
    doors: PreparedAdminListeners,
    move_store: Option<StoreMove>,
}

impl Reloader {
    /// Meets requests until the balancer stops or has handed over, and gives back what is to be stopped then.
    pub(super) async fn run(mut self, mut requests: Requests) -> Left {
        let stop = self.shared.stop.clone();
        for result in [ACCEPTED, REJECTED] {
            // Shown from the start, so that the first one is seen to be one more.
            drop(self.count(result));
        }
        let taken = stop.run_until_cancelled(self.take_over()).await;
        if let Some(Err(why)) = taken {
            tracing::error!(target: "lyncpin::server", why, "nothing is taken over");
            self.role.send_replace(Role::Failed(why));
            return self.left(None);
        }
        while let Some(next) = stop.run_until_cancelled(self.next(&mut requests)).await {
            match next {
                NextEvent::LetGo => {
                    stop.run_until_cancelled(self.take_what_is_let_go()).await;
                }
                NextEvent::Request(None) => break,
                NextEvent::Request(Some(Request::Reload(by, answer))) => {
                    let done = self.reload(&by).await;
                    // Whoever has gone meanwhile finds it in the log.
                    let _ = answer.map(|asked| asked.send(done));
                }
                NextEvent::Request(Some(Request::Upgrade(by, answer, turn))) => {
                    let done = self.upgrade(&by, &turn).await;
                    let (done, over) = match done {
                        Ok((upgraded, over)) => (Ok(upgraded), Some(over)),
                        Err(error) => (Err(error), None),
                    };
                    if over.is_none() {
                        drop(turn);
                        let _ = answer.map(|asked| asked.send(done));
                        continue;
                    }
                    turn.finish();
                    let _ = answer.map(|asked| asked.send(done));
                    // Who is being answered gets the answer; everybody else asks the new process.
                    let admin = std::mem::replace(&mut self.admin, AdminListeners::none());
                    admin.end().await;
                    self.role.send_replace(Role::Drains);
                    return self.left(over);
                }
            }
        }
        self.left(None)
    }

    async fn next(&mut self, requests: &mut Requests) -> NextEvent {
        let let_go = async {
            match &mut self.let_go {
                Some(let_go) => let_go.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            request = requests.next() => NextEvent::Request(request),
            heard = let_go => {
                if heard.is_none() {
                    self.let_go = None;
                }
                NextEvent::LetGo
            }
        }
    }

    fn left(self, handed_over: Option<HandedOver>) -> Left {
        Left {
            health: self.health,
            admin: self.admin,
            store: self.store,
            handed_over,
        }
    }

    async fn reload(&mut self, by: &RequestOrigin) -> ReloadResult {
        let answer = self.try_reload().await;
        let (answer, result) = match answer {
            Ok(reloaded) => {
                tell(by, &reloaded);
                (Ok(reloaded), ACCEPTED)
            }
            Err(fault) => (Err(reject(by, fault)), REJECTED),
        };
        self.count(result).increment(1);
        answer
    }

    fn count(&self, result: &str) -> Counter {
        let registry = &self.shared.registry;
        registry.counter(&definitions::CONFIG_RELOADS, &[result])
    }

    async fn try_reload(&mut self) -> Result<Reloaded, ReloadFailure> {
        let PreparedReload {
            loaded,
            ports,
            doors,
            move_store,
        } = {
            let stop = self.shared.stop.clone();
            let prepared = stop.run_until_cancelled(self.prepare()).await;
            prepared.ok_or(ReloadFailure::Refused(ReloadError::Stopping))??
        };
        let before = self.shared.snapshot.load_full();
        let config = &loaded.config;
        let finding = PrefetchedNames::find(config, &before, &self.resolver);
        let found = self.shared.stop.run_until_cancelled(finding).await;
        let found = found.ok_or(ReloadFailure::Refused(ReloadError::Stopping))?;
        self.remove_sockets(config).await;
        let warnings = changes::warnings(&loaded, self.descriptors.workers());
        let after = self.take(loaded.config, &before, &found, ports);
        self.admin.replace(doors, &self.control);
        if let Some(to) = move_store {
            self.move_store(to).await;
        }
        Ok(Reloaded {
            at: Timestamp(SystemTime::now()),
            changes: changes::between(&before, &after),
            warnings,
        })
    }

    /// Everything that can fail. Nothing of what is in force is touched.
    async fn prepare(&self) -> Result<PreparedReload, ReloadFailure> {
        let file = self.file.clone();
        let reading = Reading {
            file: file.ok_or(ReloadFailure::Refused(ReloadError::NoFile))?,
            store: self.shared.snapshot.load().config.affinity_store.clone(),
            secret: self.secret.clone(),
            served: self.admin.binds(),
            role: self.role.borrow().clone(),
        };
        let found = self.files.run(move |stage| reading.read(stage)).await;
        let ReadFiles {
            loaded,
            move_store,
            doors,
            mut faults,
        } = found??;
        let bind = || {
            self.sockets
                .bind(&loaded.config, self.descriptors.workers())
        };
        let mut bound = bind();
        if let Err(faults) = &bound
            && faults.iter().any(|fault| reserve::is_exhausted(fault))
        {
            let _lifted = reserve::lift();
            bound = bind();
        }
        let ports = bound.unwrap_or_else(|found| {
            faults.extend(found.iter().map(|fault| chain(fault)));
            Vec::new()
        });
        match doors {
            Ok(doors) if faults.is_empty() => Ok(PreparedReload {
                loaded,
                ports,
                doors,
                move_store,
            }),
            Ok(_) => Err(ReloadFailure::Other(faults)),
            Err(found) => {
                faults.extend(found.iter().map(|fault| chain(fault)));
                Err(ReloadFailure::Other(faults))
            }
        }
    }

    /// The old store first gets all that it lacks, within its bound; a stop waits for it no longer.
    async fn move_store(&mut self, to: StoreMove) {
        if let Some(old) = self.store.take() {
            let stopping = files::aside("store stop", move || old.stop());
            let _ = self.shared.stop.run_until_cancelled(stopping).await;
        }
        let StoreMove::To(opened) = to else {
            return;
        };
        match stores::start_store(Some(*opened), &self.shared, &self.shared.registry) {
            Ok(store) => self.store = store,
            Err(error) => {
                tracing::error!(target: "lyncpin::store", error = chain(&error), "pins and states are not written from now on");
            }
        }
    }

    /// While the old snapshot is in force: what the kernel has queued there is served by it.
    async fn remove_sockets(&self, config: &Config) {
        let ending = self.sockets.remove_all_but(config);
        let _ = timeout(LAST_CALL, async {
            for gate in &ending {
                gate.closed().await;
            }
        })
        .await;
    }

    /// Brings `config` into force, without an await.
    fn take(
        &self,
        config: Config,
        before: &Arc<Snapshot>,
        found: &PrefetchedNames,
        ports: Vec<PortSockets>,
    ) -> Arc<Snapshot> {
        let shared = &self.shared;
        for port in &ports {
            self.posts.assign(port);
        }
        self.sockets.add(ports);
        let limits = &config.limits;
        shared.limits.set(
            self.descriptors.share(limits, self.sockets.count()),
            limits.per_source,
            limits.new_per_source_per_second,
        );
        shared.log.change(config.log);
        let known = PreviousSnapshot {
            snapshot: before,
            addresses: &|server| found.of(server),
        };
        let after = Arc::new(Snapshot::build_after(
            Some(&known),
            config,
            &shared.registry,
            &self.availability,
            &self.secret,
        ));
        shared.snapshot.store(after.clone());
        gates::follow(&self.sockets, shared);
        self.health.update(WatchedPool::all(&after));
        changes::release_pins(before, &after);
        self.retired.retire(before, &after);
        self.retired.sweep(&after, &shared.registry);
        self.availability.announce();
        mark_reload(shared);
        after
    }
}

/// Shows that a configuration has come into force now.
pub(super) fn mark_reload(shared: &ProxyContext) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    shared
        .registry
        .gauge(&definitions::CONFIG_LAST_RELOAD, &[])
        .set(now.unwrap_or_default().as_secs_f64());
}

fn tell(by: &RequestOrigin, reloaded: &Reloaded) {
    for change in &reloaded.changes {
        tracing::info!(target: "lyncpin::server", "{change}");
    }
    for warning in &reloaded.warnings {
        tracing::warn!(target: "lyncpin::config", "{warning}");
    }
    tracing::info!(target: "lyncpin::server", by = by.as_str(), from = by.from(), "the configuration has been reloaded");
}

/// Logs every fault, and makes the answer of them.
fn reject(by: &RequestOrigin, fault: ReloadFailure) -> ReloadError {
    let rejected = match fault {
        ReloadFailure::File(faults) => {
            for fault in &faults {
                let at = format!("{}:{}:{}", fault.file, fault.line, fault.column);
                tracing::error!(target: "lyncpin::config", at, "{}", fault.message);
            }
            ReloadError::Rejected(faults.to_string())
        }
        ReloadFailure::Other(faults) => {
            for fault in &faults {
                tracing::error!(target: "lyncpin::config", "{fault}");
            }
            ReloadError::Rejected(faults.join("\n"))
        }
        ReloadFailure::Refused(error) => error,
    };
    let why = match &rejected {
        ReloadError::Rejected(_) => "the configuration has faults".to_owned(),
        other @ (ReloadError::NoFile | ReloadError::Stopping | ReloadError::Upgrading) => {
            other.to_string()
        }
    };
    tracing::error!(target: "lyncpin::server", by = by.as_str(), from = by.from(), why, "the reload is rejected, and the configuration before stays in force");
    rejected
}
