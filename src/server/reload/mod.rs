//! A reload: another configuration in the same process.
//!
//! Owns the order: what can fail comes first (reading, binding, the token), then what takes time, then everything new comes
//! into force between two awaits, so that no task of the control thread sees half of it and a connection sees either the old
//! snapshot or the new one. Knows no command and no HTTP. Invariants: a configuration with an error changes nothing, and all
//! of its errors are reported to the caller; one reload runs at a time; neither the control thread nor a stop ever waits for
//! the file system.

mod changes;
mod dns_prefetch;
mod error;
pub(super) mod file_worker;
pub(super) mod lingering;
mod read;
pub(super) mod watch;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use metrics::Counter;
use tokio::time::timeout;

use super::listeners::{PortSockets, PreparedAdminListeners, listen_state};
use super::requests::{ReloadResult, RequestOrigin};
use super::running::Running;
use super::shared::SharedState;
use crate::admin::ReloadError;
use crate::admin::view::Reloaded;
use crate::config::Loaded;
use crate::config::model::Config;
use crate::health::MonitoredPool;
use crate::proxy::acceptor::ProxyContext;
use crate::snapshot::{PreviousSnapshot, Snapshot};
use crate::system::{files, reserve};
use crate::telemetry::metrics::{Registry, definitions};
use crate::types::timestamp::Timestamp;
use dns_prefetch::PrefetchedNames;
use error::{ReloadFailure, error_chain};
use read::{FilesToRead, ReadFiles, StoreMove};

/// The results of a reload in the metric.
const ACCEPTED: &str = "accepted";
const REJECTED: &str = "rejected";
/// For the accept loops of removed sockets to serve their queues.
const ACCEPT_LOOPS_END: Duration = Duration::from_secs(2);

/// Everything that can fail and has not.
struct PreparedReload {
    loaded: Loaded,
    ports: Vec<PortSockets>,
    admin: PreparedAdminListeners,
    store_move: Option<StoreMove>,
}

/// Reads the configuration file again and brings it into force; logs and counts the result.
pub(super) async fn reload(running: &mut Running, by: &RequestOrigin) -> ReloadResult {
    let (result, label) = match try_reload(running).await {
        Ok(reloaded) => {
            log_reloaded(by, &reloaded);
            (Ok(reloaded), ACCEPTED)
        }
        Err(failure) => (Err(reject(by, failure)), REJECTED),
    };
    counter(&running.state.proxy.registry, label).increment(1);
    result
}

/// Shows both results from the start, so that the first reload is seen as an increase.
pub(super) fn register_metrics(registry: &Registry) {
    for label in [ACCEPTED, REJECTED] {
        drop(counter(registry, label));
    }
}

/// Sets the time at which a configuration has come into force to now.
pub(super) fn mark_in_force(proxy: &ProxyContext) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    proxy
        .registry
        .gauge(&definitions::CONFIG_LAST_RELOAD, &[])
        .set(now.unwrap_or_default().as_secs_f64());
}

fn counter(registry: &Registry, label: &str) -> Counter {
    registry.counter(&definitions::CONFIG_RELOADS, &[label])
}

async fn try_reload(running: &mut Running) -> Result<Reloaded, ReloadFailure> {
    let state = running.state.clone();
    let stop = &state.proxy.stop;
    let stopping = || ReloadFailure::Impossible(ReloadError::Stopping);
    let prepared = stop.run_until_cancelled(prepare(running)).await;
    let PreparedReload {
        loaded,
        ports,
        admin,
        store_move,
    } = prepared.ok_or_else(stopping)??;
    let before = state.proxy.snapshot.load_full();
    let config = &loaded.config;
    let resolving = PrefetchedNames::find(config, &before, &running.resolver);
    let names = stop.run_until_cancelled(resolving).await;
    let names = names.ok_or_else(stopping)?;
    remove_sockets(&state, config).await;
    let warnings = changes::warnings(&loaded, running.descriptors.workers());
    let after = bring_into_force(running, loaded.config, &before, &names, ports);
    running.admin.replace(admin);
    if let Some(to) = store_move {
        move_store(running, to).await;
    }
    Ok(Reloaded {
        at: Timestamp(SystemTime::now()),
        changes: changes::between(&before, &after),
        warnings,
    })
}

/// Everything that can fail. Changes nothing that is in force.
async fn prepare(running: &Running) -> Result<PreparedReload, ReloadFailure> {
    let state = &running.state;
    let file = running.file.clone();
    let to_read = FilesToRead {
        file: file.ok_or(ReloadFailure::Impossible(ReloadError::NoFile))?,
        store: state.proxy.snapshot.load().config.affinity_store.clone(),
        secret: running.secret.clone(),
        served: running.admin.binds(),
        role: running.role.borrow().clone(),
    };
    let read = running.files.run(move |stage| to_read.read(stage)).await;
    let ReadFiles {
        loaded,
        store_move,
        admin,
        mut errors,
    } = read??;
    let bind = || {
        let workers = running.descriptors.workers();
        state.sockets.bind(&loaded.config, workers)
    };
    let mut bound = bind();
    if let Err(errors) = &bound
        && errors
            .iter()
            .any(|error| reserve::is_out_of_descriptors(error))
    {
        let _lifted = reserve::lift();
        bound = bind();
    }
    let ports = bound.unwrap_or_else(|found| {
        errors.extend(found.iter().map(|error| error_chain(error)));
        Vec::new()
    });
    match admin {
        Ok(admin) if errors.is_empty() => Ok(PreparedReload {
            loaded,
            ports,
            admin,
            store_move,
        }),
        Ok(_) => Err(ReloadFailure::Other(errors)),
        Err(found) => {
            errors.extend(found.iter().map(|error| error_chain(error)));
            Err(ReloadFailure::Other(errors))
        }
    }
}

/// Removes sockets while the old snapshot is in force: it serves what the kernel has queued there.
async fn remove_sockets(state: &SharedState, config: &Config) {
    let removed = state.sockets.remove_all_but(config);
    let ended = async {
        for accept_loops in &removed {
            accept_loops.closed().await;
        }
    };
    let _ = timeout(ACCEPT_LOOPS_END, ended).await;
}

/// Brings `config` into force, without an await.
fn bring_into_force(
    running: &Running,
    config: Config,
    before: &Arc<Snapshot>,
    names: &PrefetchedNames,
    ports: Vec<PortSockets>,
) -> Arc<Snapshot> {
    let state = &running.state;
    let proxy = &state.proxy;
    for port in &ports {
        port.assign(&running.workers);
    }
    state.sockets.add(ports);
    let limits = &config.limits;
    proxy.limits.set(
        running.descriptors.share(limits, state.sockets.count()),
        limits.per_source,
        limits.new_per_source_per_second,
    );
    proxy.log.reconfigure(config.log);
    let previous = PreviousSnapshot {
        snapshot: before,
        addresses: &|server| names.of(server),
    };
    let after = Arc::new(Snapshot::build_after(
        Some(&previous),
        config,
        &proxy.registry,
        &state.availability,
        &running.secret,
    ));
    proxy.snapshot.store(after.clone());
    listen_state::apply(state);
    running.health.update(MonitoredPool::all(&after));
    changes::release_pins(before, &after);
    state.lingering.add(before, &after);
    state.lingering.sweep(&after, &proxy.registry);
    state.availability.announce();
    mark_in_force(proxy);
    after
}

/// The old store is flushed and stopped first, within its own bound; a stop does not wait for it.
async fn move_store(running: &mut Running, to: StoreMove) {
    if let Some(old) = running.store.take() {
        let stopping = files::run_detached("store stop", move || old.stop());
        let stop = &running.state.proxy.stop;
        let _ = stop.run_until_cancelled(stopping).await;
    }
    match to {
        StoreMove::To(opened) => running.write_to(Ok(*opened)),
        StoreMove::ToMemory | StoreMove::Later => {}
    }
}

fn log_reloaded(by: &RequestOrigin, reloaded: &Reloaded) {
    for change in &reloaded.changes {
        tracing::info!(target: "lyncpin::server", "{change}");
    }
    for warning in &reloaded.warnings {
        tracing::warn!(target: "lyncpin::config", "{warning}");
    }
    tracing::info!(target: "lyncpin::server", by = by.as_str(), from = by.from(), "the configuration has been reloaded");
}

/// Logs every error, and makes the reply of them.
fn reject(by: &RequestOrigin, failure: ReloadFailure) -> ReloadError {
    let rejected = match failure {
        ReloadFailure::Config(errors) => {
            for error in &errors {
                let at = format!("{}:{}:{}", error.file, error.line, error.column);
                tracing::error!(target: "lyncpin::config", at, "{}", error.message);
            }
            ReloadError::Rejected(errors.to_string())
        }
        ReloadFailure::Other(errors) => {
            for error in &errors {
                tracing::error!(target: "lyncpin::config", "{error}");
            }
            ReloadError::Rejected(errors.join("\n"))
        }
        ReloadFailure::Impossible(error) => error,
    };
    let why = match &rejected {
        ReloadError::Rejected(_) => "the configuration has errors".to_owned(),
        other @ (ReloadError::NoFile | ReloadError::Stopping | ReloadError::UpgradeInProgress) => {
            other.to_string()
        }
    };
    tracing::error!(target: "lyncpin::server", by = by.as_str(), from = by.from(), why, "the reload is rejected, and the configuration in force stays unchanged");
    rejected
}
