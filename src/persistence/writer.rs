//! The writing thread.
//!
//! Owns when what is written. Must not know the form of the file or the order of writes to the disk. Invariants: only this
//! thread waits for the disk; what it has not written yet is limited, and at most a second old as long as the disk keeps
//! up.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::clock::Stamp;
use super::disk::{Durability, JournalFile, NextFile};
use super::encoder::{Encoder, head};
use super::metrics::StoreMetrics;
use super::path::StorePath;
use super::records::StateRecord;
use crate::affinity::record::PinGroup;
use crate::affinity::shard::Completeness;
use crate::affinity::table::Pins;
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::Registry;
use crate::types::backend_state::AdminState;

/// Time between two batches: half of what may be lost.
const TICK: Duration = Duration::from_millis(500);
/// Time between two empty batches. They record until when pins were in use.
const PULSE: Duration = Duration::from_secs(1);
/// Time until the next attempt after the file could not be rewritten.
const RETRY: Duration = Duration::from_secs(3);
/// After this time without an error the disk counts as recovered: a nearly full one takes a write now and then.
const RECOVERED_AFTER: Duration = Duration::from_secs(5);
/// Changes may take this many bytes, even after a smaller checkpoint.
const LEAST_CHANGES: u64 = 1 << 20;
/// A file that cannot be rewritten may grow to this many times its normal size; then nothing more is appended to it.
const MOST_OVERSIZE: u64 = 4;
/// Bytes in one write, after which a batch may be due.
const PIECE: usize = 1 << 20;
/// The most bytes of changes that may wait while the file is rewritten; beyond that the rewrite is given up.
const WAITING_MOST: usize = 64 << 20;

/// Returns the snapshot that is in force.
pub(super) type SnapshotSource = Box<dyn Fn() -> Arc<Snapshot> + Send>;

/// The file that batches are appended to.
struct OpenFile {
    log: JournalFile,
    encoder: Encoder,
    /// Length of its checkpoint, without the changes since.
    checkpoint: u64,
}

/// The pool and the name of a backend.
type BackendName = (Arc<str>, Arc<str>);
/// The administrative state of a backend, and its deadline.
type DatedState = (AdminState, Option<Instant>);

/// The writing thread.
pub(super) struct StoreWriter {
    path: Arc<StorePath>,
    secret: [u8; 32],
    source: SnapshotSource,
    tables: Vec<(Arc<Pins>, PinGroup)>,
    /// The state last written of each backend that is or was not `ready`.
    states: HashMap<BackendName, DatedState>,
    open: Option<OpenFile>,
    /// Encodes the changes that follow a checkpoint while that is being written.
    following: Option<Encoder>,
    /// Whether the file must be rewritten, whatever its length.
    rewrite_due: bool,
    next_try: Instant,
    /// When changes were last taken.
    recorded: Instant,
    /// When a batch was last appended.
    appended: Instant,
    failing: bool,
    /// Since when no write has failed.
    working_since: Instant,
    metrics: StoreMetrics,
    /// Whether a stop has given up waiting for this thread. Another store may have started meanwhile, and this one must not
    /// take its changes.
    abandoned: Arc<AtomicBool>,
}

impl StoreWriter {
    /// A writer that has no file open yet, and rewrites the file first.
    pub(super) fn new(
        path: Arc<StorePath>,
        secret: [u8; 32],
        source: SnapshotSource,
        abandoned: Arc<AtomicBool>,
        registry: &Registry,
    ) -> Self {
        let mut writer = Self {
            path,
            secret,
            source,
            tables: Vec::new(),
            states: HashMap::new(),
            open: None,
            following: None,
            rewrite_due: true,
            next_try: Instant::now(),
            recorded: Instant::now(),
            appended: Instant::now(),
            failing: false,
            working_since: Instant::now(),
            metrics: StoreMetrics::new(registry),
            abandoned,
        };
        // Before the thread starts, so that no change is missed however late that is.
        writer.track_tables();
        writer
    }

    /// Runs until `stop`; then everything is in the file, if the disk allows it. Until the file has been rewritten, changes
    /// are appended to the existing one, which is valid up to `good`.
    pub(super) fn run(mut self, good: Option<u64>, stop: &Receiver<()>) {
        // If it cannot be opened, that does not matter: it is rewritten at once.
        let log = good.and_then(|good| JournalFile::open(&self.path, good).ok());
        self.open = log.map(|log| OpenFile {
            checkpoint: log.length(),
            encoder: Encoder::new(Stamp::now()),
            log,
        });
        loop {
            self.turn();
            match stop.recv_timeout(TICK.saturating_sub(self.recorded.elapsed())) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.next_try = Instant::now();
        self.turn();
    }

    /// Writes what has changed, and rewrites the file if that is due.
    pub(super) fn turn(&mut self) {
        if self.is_abandoned() {
            return;
        }
        self.track_tables();
        self.record();
        if Instant::now() >= self.next_try && self.needs_rewrite() {
            let path = self.path.clone();
            // Unless something happens meanwhile that the checkpoint does not have.
            self.rewrite_due = false;
            let written = self.rewrite(&path);
            self.following = None;
            match written {
                Ok(open) => self.rewritten(open),
                Err(error) => {
                    self.rewrite_due = true;
                    self.failed(&error);
                }
            }
        }
        self.log_recovery();
    }

    #[cfg(test)]
    pub(super) fn rewrite_now(&mut self) {
        self.rewrite_due = true;
        self.turn();
    }

    /// Starts to track tables that are new in the snapshot.
    fn track_tables(&mut self) {
        let snapshot = (self.source)();
        let known = |pins: &Arc<Pins>| {
            self.tables
                .iter()
                .any(|(table, _)| Arc::ptr_eq(table, pins))
        };
        let new: Vec<&Arc<Pins>> = snapshot.groups.iter().filter(|pins| !known(pins)).collect();
        if new.is_empty() && snapshot.groups.len() == self.tables.len() {
            return;
        }
        for pins in new {
            pins.track();
        }
        self.rewrite_due = true;
        let with_group = |pins: &Arc<Pins>| (pins.clone(), pins.pin_group());
        self.tables = snapshot.groups.iter().map(with_group).collect();
    }

    /// Encodes what has changed since the last time, and appends it.
    fn record(&mut self) {
        self.recorded = Instant::now();
        if self.is_abandoned() {
            return;
        }
        let stamp = Stamp::now();
        let mut encoders: Vec<&mut Encoder> = self
            .open
            .iter_mut()
            .map(|open| &mut open.encoder)
            .chain(&mut self.following)
            .collect();
        for encoder in &mut encoders {
            encoder.begin(stamp);
        }
        for (pins, group) in &self.tables {
            // Without a file they are dropped: the next checkpoint has them.
            let taken = pins.take_changes(&mut |change| {
                for encoder in &mut encoders {
                    let group = encoder.group(group);
                    encoder.change(group, &change);
                }
            });
            self.rewrite_due |= taken == Completeness::Part;
        }
        for backend in (self.source)().backends() {
            let deadline = backend.deadline().map(|deadline| deadline.at);
            let state = (backend.state(), deadline);
            let of = (backend.pool.clone(), backend.name.clone());
            if self
                .states
                .get(&of)
                .copied()
                .unwrap_or((AdminState::Ready, None))
                == state
            {
                continue;
            }
            for encoder in &mut encoders {
                put_state(encoder, &of, state);
            }
            self.states.insert(of, state);
        }
        self.append();
    }

    /// Appends what has been encoded to the file.
    fn append(&mut self) {
        let Some(open) = &mut self.open else {
            return;
        };
        let durability = if open.encoder.has_records() {
            Durability::Machine
        } else {
            Durability::Process
        };
        let bytes = open.encoder.finish();
        let quiet =
            self.appended.elapsed() < PULSE || self.tables.iter().all(|(pins, _)| is_empty(pins));
        if durability == Durability::Process && quiet {
            return;
        }
        let appended = open.log.append(&bytes, durability);
        let length = open.log.length();
        self.appended = Instant::now();
        match appended {
            Ok(()) => self.metrics.wrote(length),
            Err(error) => {
                self.open = None;
                self.failed(&error);
            }
        }
    }

    fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    fn needs_rewrite(&self) -> bool {
        self.open.as_ref().is_none_or(|open| {
            let changes = open.log.length().saturating_sub(open.checkpoint);
            self.rewrite_due || changes > open.checkpoint.max(LEAST_CHANGES)
        })
    }

    /// Writes everything to a new file and replaces the old one by it. Meanwhile, changes are appended to the old one.
    fn rewrite(&mut self, path: &StorePath) -> io::Result<OpenFile> {
        let mut draft = NextFile::create(path)?;
        draft.write(&head(&self.secret))?;
        let (checkpoint, encoder) = self.checkpoint();
        self.following = Some(encoder);
        let mut length = 0;
        for piece in checkpoint.chunks(PIECE) {
            draft.write(piece)?;
            length += piece.len() as u64;
            if self.recorded.elapsed() >= TICK {
                self.record();
            }
            let waiting = self.following.as_ref().map_or(0, Encoder::waiting);
            if waiting > WAITING_MOST {
                return Err(io::Error::other(
                    "changes arrive faster than the disk can write them",
                ));
            }
        }
        drop(checkpoint);
        let mut encoder = self.following.take().ok_or(io::ErrorKind::NotFound)?;
        draft.write(&encoder.finish())?;
        Ok(OpenFile {
            log: draft.finish()?,
            encoder,
            checkpoint: length,
        })
    }

    /// All pins and states as frames, and the encoder for the changes that follow.
    fn checkpoint(&self) -> (Vec<u8>, Encoder) {
        let mut encoder = Encoder::new(Stamp::now());
        for (pins, group) in &self.tables {
            encoder.begin(Stamp::now());
            let group = encoder.group(group);
            pins.export(&mut |record| encoder.set(group, &record));
        }
        encoder.begin(Stamp::now());
        for (of, state) in &self.states {
            put_state(&mut encoder, of, *state);
        }
        encoder.end_checkpoint();
        (encoder.finish(), encoder)
    }

    fn rewritten(&mut self, open: OpenFile) {
        self.metrics.wrote(open.log.length());
        self.open = Some(open);
        self.working_since = Instant::now();
    }

    fn log_recovery(&mut self) {
        if self.failing
            && self.open.is_some()
            && !self.rewrite_due
            && self.working_since.elapsed() >= RECOVERED_AFTER
        {
            self.failing = false;
            tracing::info!(
                target: "lyncpin::store",
                file = %self.path.file.display(),
                "affinity store: the file can be written again"
            );
        }
    }

    fn failed(&mut self, error: &io::Error) {
        self.metrics.failures.increment(1);
        self.working_since = Instant::now();
        self.next_try = Instant::now() + RETRY;
        let is_too_long = |open: &OpenFile| {
            open.log.length() > (open.checkpoint.max(LEAST_CHANGES) + LEAST_CHANGES) * MOST_OVERSIZE
        };
        if self.open.as_ref().is_some_and(is_too_long) {
            self.open = None;
        }
        if std::mem::replace(&mut self.failing, true) {
            return;
        }
        tracing::warn!(
            target: "lyncpin::store",
            file = %self.path.file.display(),
            %error,
            "affinity store: could not write the file; it stays as it was, changes are only in memory, and writing is \
             retried every few seconds"
        );
    }
}

fn put_state(encoder: &mut Encoder, (pool, backend): &BackendName, (state, deadline): DatedState) {
    let left = |deadline: Instant| {
        deadline
            .saturating_duration_since(Instant::now())
            .as_millis()
    };
    let left = deadline.map(|deadline| u64::try_from(left(deadline)).unwrap_or(u64::MAX));
    encoder.state(&StateRecord {
        pool: pool.clone(),
        backend: backend.clone(),
        state,
        left,
    });
}

fn is_empty(pins: &Pins) -> bool {
    pins.len() + pins.sessions() == 0
}
