//! The affinity store: pins, administrative states, and the secret for hashes of TLS sessions, across restarts.
//!
//! Owns the file of `affinity_store: { file: PATH }` and the thread that writes it. Must not know sessions; the data path
//! does not know the store. Invariants: what is read was written by this store, whole and in order, or is not used; nothing
//! about the file but its path is fatal.
//!
//! | file | owns |
//! |---|---|
//! | `frame` | the checksums that show whether a piece of the file is whole |
//! | `records`, `encoder`, `recovery` | the records, the way into frames and the way back |
//! | `clock` | the time between two processes |
//! | `path`, `load`, `disk` | the names and the lock of the file, reading it at start, writing it |
//! | `restore` | which pins and states of an old file are still valid |
//! | `writer`, `metrics` | the thread, when it writes what, and its metrics |

mod clock;
mod disk;
mod encoder;
mod frame;
mod load;
mod metrics;
mod path;
mod records;
mod recovery;
mod restore;
#[cfg(test)]
mod tests;
mod writer;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use clock::Stamp;
use load::LoadedFile;
pub use path::OpenError;
use path::StorePath;
use writer::StoreWriter;

use crate::affinity::table::Secret;
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::Registry;

/// The longest that a stop waits for the disk.
const LAST_WRITE: Duration = Duration::from_secs(10);

/// A store that has been read and is not being written yet.
pub struct OpenedStore {
    path: StorePath,
    secret: Secret,
    loaded: LoadedFile,
}

impl OpenedStore {
    /// Locks the file at `path`, which no other process may have open, and reads it.
    ///
    /// # Errors
    ///
    /// If there cannot be a file at that path. A file that cannot be read is not an error: it is set aside.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let path = StorePath::lock(path)?;
        let loaded = load::load(&path)?;
        Ok(Self {
            secret: loaded
                .secret
                .map_or_else(Secret::random, Secret::from_bytes),
            path,
            loaded,
        })
    }

    /// The secret for hashes of TLS sessions.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// The same store with another secret. The file is rewritten: nothing is appended to what was read.
    #[must_use]
    pub fn with_secret(mut self, secret: Secret) -> Self {
        self.secret = secret;
        self.loaded.good = None;
        self
    }

    /// Restores pins and states into the snapshot.
    pub fn restore(&self, snapshot: &Snapshot) {
        let now = Stamp::now();
        let contents = &self.loaded.contents;
        let restored = restore::restore(contents, snapshot, &now);
        if let Some(last) = contents.last() {
            restore::log(&restored, &self.path.file, last.elapsed(&now));
        }
    }

    /// Starts to write the snapshot that `source` returns, and its changes.
    ///
    /// # Errors
    ///
    /// If the thread cannot be started.
    pub fn start(
        self,
        source: impl Fn() -> Arc<Snapshot> + Send + 'static,
        registry: &Registry,
    ) -> Result<Store, OpenError> {
        let abandoned = Arc::new(AtomicBool::new(false));
        let writer = StoreWriter::new(
            Arc::new(self.path),
            *self.secret.bytes(),
            Box::new(source),
            abandoned.clone(),
            registry,
        );
        let (stop, stopped) = mpsc::channel();
        let good = self.loaded.good;
        let thread = Builder::new()
            .name("store".into())
            .spawn(move || writer.run(good, &stopped))
            .map_err(OpenError::Thread)?;
        Ok(Store {
            stop,
            thread,
            abandoned,
        })
    }
}

/// A store that is being written.
pub struct Store {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
    /// Set when a stop has given up waiting for the thread: it must not take changes any more.
    abandoned: Arc<AtomicBool>,
}

impl Store {
    /// Writes what is left, and releases the file for another process. Waits for the disk, but not for long.
    pub fn stop(self) {
        drop(self.stop);
        let begun = std::time::Instant::now();
        while !self.thread.is_finished() {
            if begun.elapsed() > LAST_WRITE {
                self.abandoned.store(true, Ordering::Relaxed);
                tracing::error!(target: "lyncpin::store", "affinity store: could not flush the last changes to disk within {} s", LAST_WRITE.as_secs());
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        if self.thread.join().is_err() {
            tracing::error!(target: "lyncpin::store", "affinity store: the writing thread panicked");
        }
    }
}
