//! `run`: the balancer in the foreground.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::Failure;
use super::file::ConfigFile;
use crate::admin::view::{ExplainQuery, Explanation};
use crate::config::model::Config;
use crate::files;
use crate::log::{List, Log, Sink};
use crate::metrics::{Registry, definitions};
use crate::server::{
    self, Asker, Fate, Heir, Prepared, Reloads, Server, Source, StartError, Watched,
};

/// `lyncpin run`
#[derive(Debug, clap::Args)]
pub(super) struct Run {
    #[command(flatten)]
    file: ConfigFile,
    /// Reload when the file changes
    #[arg(long)]
    watch: bool,
    /// Log events of level debug, too
    #[arg(short = 'v', long)]
    verbose: bool,
}

impl Run {
    pub(super) fn run(&self) -> Result<(), Failure> {
        // Before anything of the process is made use of: its standard input may be a channel.
        let heir = Heir::from_environment().map_err(|error| {
            Failure::answer("this process was started to take over from another, and cannot")
                .because(&error)
        })?;
        let refusal = heir.as_ref().map(Heir::refusal).transpose();
        let refusal = refusal.map_err(|error| Failure::from_error(&error))?;
        let served = self.serve(heir);
        if let (Some(refusal), Err(failure)) = (refusal, &served) {
            refusal.tell(&failure.text());
        }
        served
    }

    fn serve(&self, heir: Option<Heir>) -> Result<(), Failure> {
        let file = self.file.find()?;
        let source = if self.watch {
            Source::Watched(Watched::new(file))
        } else {
            Source::File(file)
        };
        let loaded = self.file.read()?;
        let finest = if self.verbose {
            tracing::Level::DEBUG
        } else {
            tracing::Level::INFO
        };
        let (log, registry, writer) = start_log(&loaded.config, finest)?;
        // The one about descriptors is told by the server, which knows how many its workers take.
        for lint in &loaded.lints {
            let fault = lint.as_fault();
            let at = format!("{}:{}:{}", fault.file, fault.line, fault.column);
            tracing::warn!(target: "lyncpin::config", at, "{}", fault.message);
        }
        let served = super::ask::block_on(async {
            let mut signals = Signals::catch()?;
            // It reads files, and may wait for their file systems: a stop does not.
            let preparing = files::aside("start", move || Prepared::new(heir, loaded.config));
            let prepared = tokio::select! {
                prepared = preparing => prepared,
                () = signals.stopped() => {
                    tracing::info!(target: "lyncpin::server", "stopped before the start was complete");
                    return Ok(());
                }
            };
            let failed = |error: StartError| Failure::from_error(&error);
            let prepared = prepared.map_err(|error| Failure::from_error(&error))?;
            let server = Server::start_prepared(prepared.map_err(failed)?, log, registry, source);
            let server = server.map_err(failed)?;
            for (listener, addresses) in server.addresses() {
                tracing::info!(target: "lyncpin::server", listener = &*listener, addresses = ?List(&addresses), "bound");
            }
            signals.serve(server).await
        });
        drop(writer);
        served
    }
}

/// The log of a running balancer, on standard error; what is told meanwhile goes to it.
pub(super) fn start_log(
    config: &Config,
    finest: tracing::Level,
) -> Result<(Arc<Log>, Registry, crate::log::Writer), Failure> {
    start_log_on(None, config, finest)
}

/// The same on this file, where there is one.
pub(super) fn start_log_on(
    file: Option<std::fs::File>,
    config: &Config,
    finest: tracing::Level,
) -> Result<(Arc<Log>, Registry, crate::log::Writer), Failure> {
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

/// The signals that a balancer knows, caught from before it listens.
pub(super) struct Signals {
    stop: [Signal; 2],
    /// Whoever catches it gets an error of the write, and not the end of the process (setrlimit(2), RLIMIT_FSIZE).
    _file_too_large: Signal,
    /// Whoever sends it to have logs rotated, as other servers take it, ends nothing (signal(7)).
    _user1: Signal,
    hangup: Signal,
    user2: Signal,
}

impl Signals {
    /// Catches them from now on.
    pub(super) fn catch() -> Result<Self, Failure> {
        let catch = |kind| {
            signal(kind)
                .map_err(|error| Failure::answer("signals cannot be caught").because(&error))
        };
        Ok(Self {
            stop: [
                catch(SignalKind::terminate())?,
                catch(SignalKind::interrupt())?,
            ],
            _file_too_large: catch(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
            hangup: catch(SignalKind::hangup())?,
            _user1: catch(SignalKind::user_defined1())?,
            user2: catch(SignalKind::user_defined2())?,
        })
    }

    /// Serves until SIGTERM or SIGINT, then stops in order; a second one ends it at once. SIGHUP is a reload, SIGUSR2 an
    /// upgrade, after which this process lives on for its connections alone. SIGUSR1 does nothing.
    pub(super) async fn serve(mut self, server: Server) -> Result<(), Failure> {
        let reloads = server.reloads().clone();
        let fate = tokio::select! {
            () = self.told_to_stop(&reloads) => Fate::Serves,
            fate = server.fate() => fate,
        };
        match fate {
            Fate::Waits | Fate::Serves => server.stop(self.told_to_stop(&reloads)).await,
            Fate::Succeeded => server.retire(self.told_to_stop(&reloads)).await,
            Fate::Disinherited(why) => {
                server.stop(std::future::ready(())).await;
                let what =
                    format!("this process was to take over from another, and did not: {why}");
                return Err(Failure::answer(what));
            }
        }
        Ok(())
    }

    /// Completes at SIGTERM or SIGINT. The other signals wait.
    async fn stopped(&mut self) {
        let [terminate, interrupt] = &mut self.stop;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }

    async fn told_to_stop(&mut self, reloads: &Reloads) {
        let [terminate, interrupt] = &mut self.stop;
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                _ = self.hangup.recv() => reloads.request(Asker::Signal),
                _ = self.user2.recv() => reloads.request_upgrade(Asker::Signal),
            }
        }
    }
}

/// What the configuration alone says of a client.
pub(super) fn explain_offline(
    config: Config,
    query: &ExplainQuery,
) -> Result<Explanation, Failure> {
    server::explain_offline(config, query).map_err(|error| Failure::from_error(&error))
}
