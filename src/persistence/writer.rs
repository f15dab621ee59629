//! The thread that writes.
//!
//! Owns when what is written. Knows neither the form of the file nor how a disk is written to. Invariants: no thread but
//! this one waits for the disk; what it has not written yet is bounded, and is at most a second old as long as the disk
//! takes it.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use metrics::{Counter, Gauge};

use super::clock::Stamp;
use super::disk::{Durability, JournalFile, NextFile};
use super::encoder::{Encoder, Shape, head};
use super::path::StorePath;
use crate::affinity::shard::Completeness;
use crate::affinity::table::Pins;
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::{Registry, definitions};
use crate::types::backend_state::AdminState;

/// Between two batches: half of what may be lost.
const TICK: Duration = Duration::from_millis(500);
/// Between two batches with nothing in them. They say until when pins have been in use.
const PULSE: Duration = Duration::from_secs(1);
/// Until the next try after a failure to write the file anew.
const RETRY: Duration = Duration::from_secs(3);
/// A disk that takes everything for so long is well again; one that is nearly full takes something now and then.
const SETTLED: Duration = Duration::from_secs(5);
/// Changes may take so many bytes beside a picture that takes fewer.
const FLOOR: u64 = 1 << 20;
/// A file that cannot be written anew may grow to so many times what it should; then nothing more is added to it.
const PATIENCE: u64 = 4;
/// Written at once, between two looks at the clock.
const PIECE: usize = 1 << 20;
/// The most that may wait while a file is written anew; then that is given up.
const WAITING_MOST: usize = 64 << 20;

/// Says what is in force.
pub(super) type SnapshotSource = Box<dyn Fn() -> Arc<Snapshot> + Send>;

/// The file as it is being added to.
struct OpenFile {
    log: JournalFile,
    encoder: Encoder,
    /// How long its picture is, without the changes since.
    picture: u64,
}

/// A backend, by its pool and its name.
type BackendName = (Arc<str>, Arc<str>);
/// What the administrator wants of it, and the deadline of that.
type WantedState = (AdminState, Option<Instant>);

/// What the thread has.
pub(super) struct StoreWriter {
    place: Arc<StorePath>,
    secret: [u8; 32],
    source: SnapshotSource,
    tables: Vec<(Arc<Pins>, Shape)>,
    /// What was last put down of each backend that is or was not `ready`.
    states: HashMap<BackendName, WantedState>,
    open: Option<OpenFile>,
    /// For the changes that follow a picture which is being written.
    following: Option<Encoder>,
    /// The file is to be written anew, whatever its length.
    due: bool,
    next_try: Instant,
    looked: Instant,
    appended: Instant,
    failing: bool,
    /// Since when it does not fail any more.
    well_since: Instant,
    shown: ShownMetrics,
    /// Nothing waits for this thread any more. It may have been waiting for the disk while another store began, and must
    /// not take that one's changes.
    abandoned: Arc<AtomicBool>,
}

/// What is shown of it.
struct ShownMetrics {
    failures: Counter,
    written: Gauge,
    bytes: Gauge,
}

impl StoreWriter {
    /// One that has nothing open yet, and writes the file anew first.
    pub(super) fn new(
        place: Arc<StorePath>,
        secret: [u8; 32],
        source: SnapshotSource,
        abandoned: Arc<AtomicBool>,
        registry: &Registry,
    ) -> Self {
        let mut keeper = Self {
            place,
            secret,
            source,
            tables: Vec::new(),
            states: HashMap::new(),
            open: None,
            following: None,
            due: true,
            next_try: Instant::now(),
            looked: Instant::now(),
            appended: Instant::now(),
            failing: false,
            well_since: Instant::now(),
            shown: ShownMetrics {
                failures: registry.counter(&definitions::AFFINITY_STORE_FAILURES, &[]),
                written: registry.gauge(&definitions::AFFINITY_STORE_LAST_WRITE, &[]),
                bytes: registry.gauge(&definitions::AFFINITY_STORE_BYTES, &[]),
            },
            abandoned,
        };
        // From here on, so that no change is missed however late the thread begins.
        keeper.follow();
        keeper
    }

    /// Keeps until it is told to stop; then everything is in the file, if the disk takes it. Until the file has been
    /// written anew, changes are added to what is there, which is good up to `good`.
    pub(super) fn keep(mut self, good: Option<u64>, stop: &Receiver<()>) {
        // If it cannot be added to, it is written anew at once all the same.
        let log = good.and_then(|good| JournalFile::open(&self.place, good).ok());
        self.open = log.map(|log| OpenFile {
            picture: log.length(),
            encoder: Encoder::new(Stamp::now()),
            log,
        });
        loop {
            self.turn();
            match stop.recv_timeout(TICK.saturating_sub(self.looked.elapsed())) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.next_try = Instant::now();
        self.turn();
    }

    /// Puts down what has changed, and writes the file anew where that is due.
    pub(super) fn turn(&mut self) {
        if self.is_abandoned() {
            return;
        }
        self.follow();
        self.record();
        if Instant::now() >= self.next_try && self.wants_anew() {
            let place = self.place.clone();
            // Until something happens on the way that the picture lacks.
            self.due = false;
            let written = self.write_anew(&place);
            self.following = None;
            match written {
                Ok(open) => self.well(open),
                Err(error) => {
                    self.due = true;
                    self.failed(&error);
                }
            }
        }
        self.tell_if_well();
    }

    #[cfg(test)]
    pub(super) fn write_anew_now(&mut self) {
        self.due = true;
        self.turn();
    }

    /// Takes up tables that have come into force.
    fn follow(&mut self) {
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
        self.due = true;
        let shaped = |pins: &Arc<Pins>| (pins.clone(), Shape::of(&pins.settings()));
        self.tables = snapshot.groups.iter().map(shaped).collect();
    }

    /// Puts down what has changed since the last time.
    fn record(&mut self) {
        self.looked = Instant::now();
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
        for (pins, shape) in &self.tables {
            let now = pins.now();
            // Where nobody writes them down they are dropped: the next picture has what they say.
            let told = pins.take_changes(&mut |change| {
                for encoder in &mut encoders {
                    let group = encoder.group(shape);
                    encoder.change(group, &change, now);
                }
            });
            self.due |= told == Completeness::Part;
        }
        for backend in (self.source)().backends() {
            let deadline = backend.deadline().map(|deadline| deadline.at);
            let wanted = (backend.state(), deadline);
            let of = (backend.pool.clone(), backend.name.clone());
            if self
                .states
                .get(&of)
                .copied()
                .unwrap_or((AdminState::Ready, None))
                == wanted
            {
                continue;
            }
            for encoder in &mut encoders {
                put_state(encoder, &of, wanted);
            }
            self.states.insert(of, wanted);
        }
        self.append();
    }

    /// Adds what has been put down to the file.
    fn append(&mut self) {
        let Some(open) = &mut self.open else {
            return;
        };
        let lasting = if open.encoder.has_records() {
            Durability::Machine
        } else {
            Durability::Process
        };
        let bytes = open.encoder.finish();
        let quiet =
            self.appended.elapsed() < PULSE || self.tables.iter().all(|(pins, _)| is_empty(pins));
        if lasting == Durability::Process && quiet {
            return;
        }
        let appended = open.log.append(&bytes, lasting);
        let length = open.log.length();
        self.appended = Instant::now();
        match appended {
            Ok(()) => self.shown.wrote(length),
            Err(error) => {
                self.open = None;
                self.failed(&error);
            }
        }
    }

    fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    fn wants_anew(&self) -> bool {
        self.open.as_ref().is_none_or(|open| {
            let changes = open.log.length().saturating_sub(open.picture);
            self.due || changes > open.picture.max(FLOOR)
        })
    }

    /// Writes everything to a new file and puts it in the place of the old one, to which changes are added meanwhile.
    fn write_anew(&mut self, place: &StorePath) -> io::Result<OpenFile> {
        let mut draft = NextFile::begin(place)?;
        draft.write(&head(&self.secret))?;
        let (picture, encoder) = self.picture();
        self.following = Some(encoder);
        let mut length = 0;
        for piece in picture.chunks(PIECE) {
            draft.write(piece)?;
            length += piece.len() as u64;
            if self.looked.elapsed() >= TICK {
                self.record();
            }
            let waiting = self.following.as_ref().map_or(0, Encoder::waiting);
            if waiting > WAITING_MOST {
                return Err(io::Error::other(
                    "changes come faster than the disk takes them",
                ));
            }
        }
        drop(picture);
        let mut encoder = self.following.take().ok_or(io::ErrorKind::NotFound)?;
        draft.write(&encoder.finish())?;
        Ok(OpenFile {
            log: draft.finish()?,
            encoder,
            picture: length,
        })
    }

    /// Everything that there is, as frames, and what goes on with them.
    fn picture(&self) -> (Vec<u8>, Encoder) {
        let mut encoder = Encoder::new(Stamp::now());
        for (pins, shape) in &self.tables {
            encoder.begin(Stamp::now());
            let (group, now) = (encoder.group(shape), pins.now());
            pins.export(&mut |kept| encoder.set(group, &kept, now));
        }
        encoder.begin(Stamp::now());
        for (of, wanted) in &self.states {
            put_state(&mut encoder, of, *wanted);
        }
        encoder.whole();
        (encoder.finish(), encoder)
    }

    fn well(&mut self, open: OpenFile) {
        self.shown.wrote(open.log.length());
        self.open = Some(open);
        self.well_since = Instant::now();
    }

    fn tell_if_well(&mut self) {
        if self.failing && self.open.is_some() && !self.due && self.well_since.elapsed() >= SETTLED
        {
            self.failing = false;
            tracing::info!(
                target: "lyncpin::store",
                file = %self.place.file.display(),
                "affinity store: the file is written again"
            );
        }
    }

    fn failed(&mut self, error: &io::Error) {
        self.shown.failures.increment(1);
        self.well_since = Instant::now();
        self.next_try = Instant::now() + RETRY;
        let too_long =
            |open: &OpenFile| open.log.length() > (open.picture.max(FLOOR) + FLOOR) * PATIENCE;
        if self.open.as_ref().is_some_and(too_long) {
            self.open = None;
        }
        if std::mem::replace(&mut self.failing, true) {
            return;
        }
        tracing::warn!(
            target: "lyncpin::store",
            file = %self.place.file.display(),
            %error,
            "affinity store: the file cannot be written; it stays as it was, what changes is kept in memory alone, \
             and writing is tried again every few seconds"
        );
    }
}

fn put_state(encoder: &mut Encoder, (pool, backend): &BackendName, wanted: WantedState) {
    let (state, deadline) = wanted;
    let left = |deadline: Instant| {
        deadline
            .saturating_duration_since(Instant::now())
            .as_millis()
    };
    let left = deadline.map(|deadline| u64::try_from(left(deadline)).unwrap_or(u64::MAX));
    encoder.state(pool, backend, state as u8, left);
}

fn is_empty(pins: &Pins) -> bool {
    pins.len() + pins.sessions() == 0
}

impl ShownMetrics {
    fn wrote(&self, length: u64) {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        self.written.set(now.as_secs_f64());
        #[allow(clippy::cast_precision_loss, reason = "no file has 2^52 bytes")]
        self.bytes.set(length as f64);
    }
}
