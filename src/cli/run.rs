//! `run`: runs the balancer in the foreground.
//!
//! Owns the order of a start: signals, configuration, log, server. Must not know how an upgrade works, only whether this
//! process takes over from another. Invariant: a stop signal is obeyed at any time, also while files are being read.

use std::sync::Arc;

use super::failure::Failure;
use super::file::ConfigFile;
use super::first_process;
use super::signals::Signals;
use crate::admin::view::{ExplainQuery, Explanation};
use crate::config::Loaded;
use crate::config::model::Config;
use crate::handoff::PREDECESSOR;
use crate::server::{
    self, ConfigSource, Handoff, PreparedServer, Role, Server, StartError, WatchedFile,
};
use crate::system::files;
use crate::telemetry::log::{List, Log, Sink};
use crate::telemetry::metrics::{Registry, definitions};

/// `lyncpin run`
#[derive(Debug, clap::Args)]
pub(super) struct Run {
    #[command(flatten)]
    file: ConfigFile,
    /// Reload when the configuration file changes
    #[arg(long)]
    watch: bool,
    /// Log debug events as well
    #[arg(short = 'v', long)]
    verbose: bool,
}

impl Run {
    pub(super) fn run(&self) -> Result<(), Failure> {
        // First of all, because standard input may be the channel of a handoff.
        let handoff = Handoff::from_environment().map_err(|error| {
            Failure::operation("cannot take over from the old process").caused_by(&error)
        })?;
        let refusal = handoff.as_ref().map(Handoff::rejection).transpose();
        let refusal = refusal.map_err(|error| Failure::from_error(&error))?;
        let served = self.serve(handoff);
        let reason = match &served {
            Ok(Role::TakingOver) => Some("the new process was stopped".to_owned()),
            Err(failure) => Some(failure.text()),
            Ok(Role::Serving | Role::Draining | Role::Failed(_)) => None,
        };
        if let (Some(refusal), Some(reason)) = (refusal, reason) {
            refusal.send(&reason);
        }
        served.map(drop)
    }

    fn serve(&self, handoff: Option<Handoff>) -> Result<Role, Failure> {
        let finest = if self.verbose {
            tracing::Level::DEBUG
        } else {
            tracing::Level::INFO
        };
        let mut writer = None;
        let served = super::admin::block_on(async {
            // Before anything that may wait: without a handler, signals do not end process 1 of a container
            // (pid_namespaces(7)).
            let mut signals = Signals::catch()?;
            let role = match &handoff {
                Some(_) => Role::TakingOver,
                None => Role::Serving,
            };
            let (file, is_watched) = (self.file.clone(), self.watch);
            let reading = files::run_detached("configuration", move || read(&file, is_watched));
            let read = tokio::select! {
                read = reading => read,
                () = signals.stopped() => return Ok(role),
            };
            let (source, loaded) = read.map_err(|error| Failure::from_error(&error))??;
            let (log, registry, log_writer) = start_log(&loaded.config, finest)?;
            writer = Some(log_writer);
            warn_at_start(&loaded, handoff.is_some());
            // This reads files and may wait for their file systems; a stop does not wait for it.
            let preparing = files::run_detached("start", move || {
                PreparedServer::bind(handoff, loaded.config)
            });
            let prepared = tokio::select! {
                prepared = preparing => prepared,
                () = signals.stopped() => {
                    tracing::info!(target: "lyncpin::server", "stopped before the start was complete");
                    return Ok(role);
                }
            };
            let failed = |error: StartError| Failure::from_error(&error);
            let prepared = prepared.map_err(|error| Failure::from_error(&error))?;
            let server = Server::start_prepared(prepared.map_err(failed)?, log, registry, source);
            let server = server.map_err(failed)?;
            for (listener, addresses) in server.addresses() {
                tracing::info!(target: "lyncpin::server", listener = &*listener, addresses = ?List(&addresses), "bound");
            }
            serve(signals, server).await
        });
        drop(writer);
        served
    }
}

/// Logs the warnings of the configuration, and that a handoff was lost. The server itself warns of few descriptors, because
/// it knows how many its workers need.
fn warn_at_start(loaded: &Loaded, has_handoff: bool) {
    for lint in &loaded.lints {
        let warning = lint.as_error();
        let at = format!("{}:{}:{}", warning.file, warning.line, warning.column);
        tracing::warn!(target: "lyncpin::config", at, "{}", warning.message);
    }
    if !has_handoff && std::env::var_os(PREDECESSOR).is_some() {
        tracing::warn!(target: "lyncpin::server", "the old process died before it had transferred every socket; this process starts like a first one");
    }
}

/// Reads the configuration; also returns the source of later reloads. May wait for the file system.
fn read(file: &ConfigFile, is_watched: bool) -> Result<(ConfigSource, Loaded), Failure> {
    let path = file.find()?;
    let source = if is_watched {
        ConfigSource::Watched(WatchedFile::new(path))
    } else {
        ConfigSource::File(path)
    };
    Ok((source, file.read()?))
}

/// Starts the log of a balancer on standard error.
pub(super) fn start_log(
    config: &Config,
    finest: tracing::Level,
) -> Result<(Arc<Log>, Registry, crate::telemetry::log::Writer), Failure> {
    start_log_on(None, config, finest)
}

/// Starts the log on this file, or on standard error without one.
pub(super) fn start_log_on(
    file: Option<std::fs::File>,
    config: &Config,
    finest: tracing::Level,
) -> Result<(Arc<Log>, Registry, crate::telemetry::log::Writer), Failure> {
    let registry = Registry::default();
    let lines_lost = registry.counter(&definitions::LOG_LINES_LOST, &[]);
    let format = config.log.format;
    let started = match file {
        Some(file) => Sink::start(file.into(), format, lines_lost),
        None => Sink::stderr(format, lines_lost),
    };
    let (sink, writer) =
        started.map_err(|error| Failure::operation("cannot start the log").caused_by(&error))?;
    let log = Arc::new(Log::new(config.log, sink));
    log.install_subscriber(finest);
    Ok((log, registry, writer))
}

/// Serves until SIGTERM or SIGINT, then stops in order; a second one ends it at once. SIGHUP is a reload. SIGUSR2 is an
/// upgrade, after which this process only serves its own connections, unless it has to stay as the first process. SIGUSR1
/// does nothing. Returns the role of the process at its end.
pub(super) async fn serve(mut signals: Signals, server: Server) -> Result<Role, Failure> {
    let must_stay = first_process::must_stay();
    let reloads = server.supervisor_handle().clone();
    let role = tokio::select! {
        () = signals.stop_requested(&reloads) => {
            let role = server.role();
            let ended = server.stop(signals.stop_requested(&reloads)).await;
            // If a new process serves already, the stop applies to it too.
            if let Some(ended) = ended {
                first_process::stay_to_stop(&mut signals, ended).await?;
            }
            return Ok(role);
        }
        role = server.serving_ended() => role,
    };
    match &role {
        Role::TakingOver | Role::Serving => {}
        Role::Draining if must_stay => {
            first_process::stay(&mut signals, server.drain(true).await).await?;
        }
        Role::Draining => {
            let retiring = server.drain(false).await;
            let ended = retiring.finish(signals.stop_requested(&reloads)).await;
            ended.stop().await;
        }
        Role::Failed(reason) => {
            drop(server.stop(std::future::ready(())).await);
            let text = format!("this process did not take over: {reason}");
            return Err(Failure::operation(text));
        }
    }
    Ok(role)
}

/// Explains from the configuration alone where a client would go.
pub(super) fn explain_offline(
    config: Config,
    query: &ExplainQuery,
) -> Result<Explanation, Failure> {
    server::explain_offline(config, query).map_err(|error| Failure::from_error(&error))
}
