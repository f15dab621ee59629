//! `run`: the balancer in the foreground.

use std::sync::Arc;

use super::failure::Failure;
use super::file::ConfigFile;
use super::first_process;
use super::signals::Signals;
use crate::admin::view::{ExplainQuery, Explanation};
use crate::config::Loaded;
use crate::config::model::Config;
use crate::handoff::PREDECESSOR;
use crate::server::{self, ConfigSource, Handoff, Prepared, Role, Server, StartError, WatchedFile};
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
        // Before anything of the process is made use of: its standard input may be a channel.
        let handoff = Handoff::from_environment().map_err(|error| {
            Failure::answer("this process was started to take over from another, and cannot")
                .because(&error)
        })?;
        let refusal = handoff.as_ref().map(Handoff::refusal).transpose();
        let refusal = refusal.map_err(|error| Failure::from_error(&error))?;
        let served = self.serve(handoff);
        let why = match &served {
            Ok(Role::TakesOver) => Some("the new process was told to stop".to_owned()),
            Err(failure) => Some(failure.text()),
            Ok(Role::Serves | Role::Drains | Role::Failed(_)) => None,
        };
        if let (Some(refusal), Some(why)) = (refusal, why) {
            refusal.tell(&why);
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
        let served = super::ask::block_on(async {
            // Before anything that may wait, and in a container nothing else ends process 1 (pid_namespaces(7)).
            let mut signals = Signals::catch()?;
            let role = match &handoff {
                Some(_) => Role::TakesOver,
                None => Role::Serves,
            };
            let (file, is_watched) = (self.file.clone(), self.watch);
            let reading = files::aside("configuration", move || read(&file, is_watched));
            let read = tokio::select! {
                read = reading => read,
                () = signals.stopped() => return Ok(role),
            };
            let (source, loaded) = read.map_err(|error| Failure::from_error(&error))??;
            let (log, registry, log_writer) = start_log(&loaded.config, finest)?;
            writer = Some(log_writer);
            // The one about descriptors is told by the server, which knows how many its workers take.
            for lint in &loaded.lints {
                let fault = lint.as_fault();
                let at = format!("{}:{}:{}", fault.file, fault.line, fault.column);
                tracing::warn!(target: "lyncpin::config", at, "{}", fault.message);
            }
            if handoff.is_none() && std::env::var_os(PREDECESSOR).is_some() {
                tracing::warn!(target: "lyncpin::server", "the old process has died before it had passed on every socket: this one starts as if it were the first");
            }
            // It reads files, and may wait for their file systems: a stop does not.
            let preparing = files::aside("start", move || Prepared::new(handoff, loaded.config));
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

/// The configuration, and where the next one comes from. It may wait for the file system.
fn read(file: &ConfigFile, is_watched: bool) -> Result<(ConfigSource, Loaded), Failure> {
    let path = file.find()?;
    let source = if is_watched {
        ConfigSource::Watched(WatchedFile::new(path))
    } else {
        ConfigSource::File(path)
    };
    Ok((source, file.read()?))
}

/// The log of a running balancer, on standard error; what is told meanwhile goes to it.
pub(super) fn start_log(
    config: &Config,
    finest: tracing::Level,
) -> Result<(Arc<Log>, Registry, crate::telemetry::log::Writer), Failure> {
    start_log_on(None, config, finest)
}

/// The same on this file, where there is one.
pub(super) fn start_log_on(
    file: Option<std::fs::File>,
    config: &Config,
    finest: tracing::Level,
) -> Result<(Arc<Log>, Registry, crate::telemetry::log::Writer), Failure> {
    let registry = Registry::default();
    let lost = registry.counter(&definitions::LOG_LINES_LOST, &[]);
    let format = config.log.format;
    let started = match file {
        Some(file) => Sink::start(file.into(), format, lost),
        None => Sink::stderr(format, lost),
    };
    let (sink, writer) =
        started.map_err(|error| Failure::answer("cannot start the log").because(&error))?;
    let log = Arc::new(Log::new(config.log, sink));
    log.take_events(finest);
    Ok((log, registry, writer))
}

/// Serves until SIGTERM or SIGINT, then stops in order; a second one ends it at once. SIGHUP is a reload, SIGUSR2 an
/// upgrade, after which this process lives on for its connections alone, unless it has to stay. SIGUSR1 does nothing. Says what it was when
/// it ended.
pub(super) async fn serve(mut signals: Signals, server: Server) -> Result<Role, Failure> {
    let stays = first_process::stays();
    let reloads = server.reloads().clone();
    let role = tokio::select! {
        () = signals.told_to_stop(&reloads) => {
            let role = server.role();
            let ended = server.stop(signals.told_to_stop(&reloads)).await;
            // The new process serves already, and is what was meant.
            if let Some(ended) = ended {
                first_process::stay_to_stop(&mut signals, ended).await?;
            }
            return Ok(role);
        }
        role = server.retires() => role,
    };
    match &role {
        Role::TakesOver | Role::Serves => {}
        Role::Drains if stays => {
            first_process::stay(&mut signals, server.retire(true).await).await?;
        }
        Role::Drains => {
            let retiring = server.retire(false).await;
            let ended = retiring.end(signals.told_to_stop(&reloads)).await;
            ended.stop().await;
        }
        Role::Failed(why) => {
            drop(server.stop(std::future::ready(())).await);
            let what = format!("this process was to take over from another, and did not: {why}");
            return Err(Failure::answer(what));
        }
    }
    Ok(role)
}

/// What the configuration alone says of a client.
pub(super) fn explain_offline(
    config: Config,
    query: &ExplainQuery,
) -> Result<Explanation, Failure> {
    server::explain_offline(config, query).map_err(|error| Failure::from_error(&error))
}
