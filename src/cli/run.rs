//! `run`: the balancer in the foreground.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::Failure;
use super::file::ConfigFile;
use crate::admin::view::{ExplainQuery, Explanation};
use crate::config::model::Config;
use crate::log::{Log, Sink};
use crate::metrics::{Registry, definitions};
use crate::server::{self, Server};

/// `lyncpin run`
#[derive(Debug, clap::Args)]
pub(super) struct Run {
    #[command(flatten)]
    file: ConfigFile,
    /// Reload when the file changes (not built yet)
    #[arg(long)]
    watch: bool,
    /// Log events of level debug, too
    #[arg(short = 'v', long)]
    verbose: bool,
}

impl Run {
    pub(super) fn run(&self) -> Result<(), Failure> {
        if self.watch {
            return Err(Failure::usage("`lyncpin run --watch` is not built yet"));
        }
        let loaded = self.file.read()?;
        let finest = if self.verbose {
            tracing::Level::DEBUG
        } else {
            tracing::Level::INFO
        };
        let (log, registry, writer) = start_log(&loaded.config, finest)?;
        for lint in &loaded.lints {
            tracing::warn!(target: "lyncpin::config", "{}", lint.as_fault().message);
        }
        let served = super::ask::block_on(async {
            let server = Server::start(loaded.config, log, registry)
                .map_err(|error| Failure::from_error(&error))?;
            for (listener, addresses) in server.addresses() {
                tracing::info!(target: "lyncpin::server", listener = &**listener, ?addresses, "listens");
            }
            until_stopped(server).await
        });
        drop(writer);
        served
    }
}

/// The log of a running balancer; what is told meanwhile goes to it.
pub(super) fn start_log(
    config: &Config,
    finest: tracing::Level,
) -> Result<(Arc<Log>, Registry, crate::log::Writer), Failure> {
    let registry = Registry::default();
    let lost = registry.counter(&definitions::LOG_LINES_LOST, &[]);
    let (sink, writer) = Sink::stderr(config.log.format, lost)
        .map_err(|error| Failure::answer("cannot start the log").because(&error))?;
    let log = Arc::new(Log::new(config.log, sink));
    log.take_events(finest);
    Ok((log, registry, writer))
}

/// Serves until SIGTERM or SIGINT, then stops in order; a second one ends it at once.
pub(super) async fn until_stopped(server: Server) -> Result<(), Failure> {
    let listen = |kind| {
        signal(kind).map_err(|error| Failure::answer("cannot listen for signals").because(&error))
    };
    let mut signals = (
        listen(SignalKind::terminate())?,
        listen(SignalKind::interrupt())?,
    );
    told_to_stop(&mut signals).await;
    server.stop(told_to_stop(&mut signals)).await;
    Ok(())
}

async fn told_to_stop((terminate, interrupt): &mut (Signal, Signal)) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// What the configuration alone says of a client.
pub(super) fn explain_offline(
    config: Config,
    query: &ExplainQuery,
) -> Result<Explanation, Failure> {
    server::explain_offline(config, query).map_err(|error| Failure::from_error(&error))
}
