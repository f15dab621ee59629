//! The log on standard error: a line for each connection that has ended, and events of the balancer itself.
//!
//! Owns the format of a line (`line`), its fields ([`access`], [`event`]) and their types ([`fields`]), the output
//! ([`sink`]), the priority of a line in the journal (`journal`), and the last rejections ([`rejections`]). Must not know why
//! something is logged. Invariant: writing a line never waits for the reader; lines that do not fit into the buffer are lost,
//! counted and reported.

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

/// The log. Clones share its settings and its sink.
#[derive(Clone)]
pub struct Log {
    settings: Arc<ArcSwap<model::LogSettings>>,
    sink: Sink,
    rejections: RejectionLog,
}

thread_local! {
    /// A line is formatted here and then copied under the lock of the sink, so that no thread waits for another to format.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Log {
    /// A log that writes to `sink`.
    #[must_use]
    pub fn new(settings: model::LogSettings, sink: Sink) -> Self {
        Self {
            settings: Arc::new(ArcSwap::from_pointee(settings)),
            sink,
            rejections: RejectionLog::default(),
        }
    }

    /// Applies new settings, to all clones too.
    pub fn reconfigure(&self, settings: model::LogSettings) {
        self.settings.store(Arc::new(settings));
        self.sink.set_format(settings.format);
    }

    /// Whether access lines are enabled.
    #[must_use]
    pub fn is_access_enabled(&self) -> bool {
        self.settings.load().access
    }

    /// Writes the line of a connection that has ended, if access lines are enabled.
    pub fn write_access(&self, record: &AccessRecord<'_>) {
        let settings = self.settings.load();
        if settings.access {
            self.write(Level::INFO, |line| {
                record.write(settings.client_address, line);
            });
        }
    }

    /// Records a rejected connection among the last ones, whether or not access lines are enabled.
    pub fn record_rejection(&self, record: &AccessRecord<'_>) {
        self.rejections.push(|| RejectedConnection {
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

    /// The last rejections.
    #[must_use]
    pub fn rejections(&self) -> &RejectionLog {
        &self.rejections
    }

    fn write(&self, level: Level, fill: impl FnOnce(&mut Line<'_>)) {
        SCRATCH.with(|scratch| {
            // It is borrowed only if a field of a line logs while it is formatted.
            let Ok(mut scratch) = scratch.try_borrow_mut() else {
                self.sink.count_lost_line();
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
