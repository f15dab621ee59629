//! The log on standard error: a line for each connection that has ended, and events of the balancer itself.
//!
//! Owns the form of a line (`line`), its fields ([`access`], [`event`]) and their types ([`fields`]), the way out
//! ([`sink`]), the priority of a line for the journal (`journal`), and the last refusals ([`rejections`]). Knows neither how
//! a connection ended nor why something is told. Invariant: whoever writes a line never waits for whoever reads it; a
//! line that finds no room is lost, counted, and its loss is told.

pub mod access;
pub mod event;
pub mod fields;
pub mod journal;
mod line;
pub mod rejections;
pub mod sink;

use std::cell::RefCell;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tracing::Level;

use crate::config::model;
use line::Line;

pub use access::AccessRecord;
pub use fields::List;
pub use rejections::{RejectedConnection, RejectionLog};
pub use sink::{Sink, Writer};

/// The log as configured. Clones write to the same place.
#[derive(Clone)]
pub struct Log {
    settings: Arc<ArcSwap<model::LogSettings>>,
    sink: Sink,
    refusals: RejectionLog,
}

thread_local! {
    /// A line is formed here and copied under the sink's lock, so that no thread waits for another's formatting.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Log {
    /// A log that writes to `sink` as `settings` say.
    #[must_use]
    pub fn new(settings: model::LogSettings, sink: Sink) -> Self {
        Self {
            settings: Arc::new(ArcSwap::from_pointee(settings)),
            sink,
            refusals: RejectionLog::default(),
        }
    }

    /// Writes as `settings` say from now on, and so do all clones.
    pub fn change(&self, settings: model::LogSettings) {
        self.settings.store(Arc::new(settings));
        self.sink.set_format(settings.format);
    }

    /// Whether connections get a line at all.
    #[must_use]
    pub fn wants_access(&self) -> bool {
        self.settings.load().access
    }

    /// Writes the line of a connection that has ended, if such lines are wanted.
    pub fn access(&self, record: &AccessRecord<'_>) {
        let settings = self.settings.load();
        if settings.access {
            self.write(Level::INFO, |line| {
                record.write(settings.client_address, line);
            });
        }
    }

    /// Keeps a connection that was refused among the last ones, whether or not connections get a line.
    pub fn refused(&self, record: &AccessRecord<'_>) {
        self.refusals.push(|| RejectedConnection {
            at: record.time,
            listener: record.listener.into(),
            client: record
                .shown_client(self.settings.load().client_address)
                .to_string(),
            name: record
                .name
                .map(|name| String::from_utf8_lossy(name).into_owned()),
            outcome: record.outcome,
            detail: record.detail.map(str::to_owned),
        });
    }

    /// The last refusals.
    #[must_use]
    pub fn refusals(&self) -> &RejectionLog {
        &self.refusals
    }

    fn write(&self, level: Level, fill: impl FnOnce(&mut Line<'_>)) {
        SCRATCH.with(|scratch| {
            // Taken already only if a line's own field logs while it is being formatted.
            let Ok(mut scratch) = scratch.try_borrow_mut() else {
                self.sink.lose_one();
                return;
            };
            scratch.clear();
            if self.sink.is_journal() {
                scratch.extend_from_slice(journal::prefix(level));
            }
            let mut line = Line::begin(self.settings.load().format, &mut scratch);
            fill(&mut line);
            line.end();
            self.sink.push(&scratch);
        });
    }
}
