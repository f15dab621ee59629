//! What outlives the process: pins, administrative states, and the secret that hashes of TLS sessions are made with.
//!
//! Owns the file of `affinity_store: { file: PATH }` and the thread that writes it. Must not know sessions, and nothing of
//! it is on the path of a connection. Invariant: what is read was written by this store, whole and in order, or is not
//! used; nothing about the file but its place is fatal.
//!
//! | file | owns |
//! |---|---|
//! | `frame`, `bytes` | how a piece of the file is told to be whole; numbers and texts as bytes |
//! | `records`, `encoder`, `recovery` | what is kept, the way into frames and the way back |
//! | `clock` | how much time lies between two processes |
//! | `path`, `load`, `disk` | the file's names and lock, reading it at start, the order of writing |
//! | `restore` | what of an old picture still means something |
//! | `writer` | the thread: when what is written |

mod bytes;
mod clock;
mod disk;
mod encoder;
mod frame;
mod load;
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

/// How long a stop waits for the disk.
const LAST_WRITE: Duration = Duration::from_secs(10);

/// A store that has been read and is not written yet.
pub struct OpenedStore {
    place: StorePath,
    secret: Secret,
    loaded: LoadedFile,
}

impl OpenedStore {
    /// Takes the file at `path`, which no other process may have, and reads it.
    ///
    /// # Errors
    ///
    /// When there cannot be a file at that path. A file that cannot be read is no error: it is set aside.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let place = StorePath::take(path)?;
        let loaded = load::load(&place)?;
        Ok(Self {
            secret: loaded
                .secret
                .map_or_else(Secret::random, Secret::from_bytes),
            place,
            loaded,
        })
    }

    /// What hashes of TLS sessions were made with, and are to be made with.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// The same place with nothing of what was read, for what has been made with another secret.
    #[must_use]
    pub fn anew(mut self, secret: Secret) -> Self {
        self.secret = secret;
        self.loaded.good = None;
        self
    }

    /// Puts pins and states back into what is in force.
    pub fn restore(&self, snapshot: &Snapshot) {
        let now = Stamp::now();
        let contents = &self.loaded.contents;
        let restored = restore::restore(contents, snapshot, &now);
        if let Some(last) = contents.last() {
            restore::tell(&restored, &self.place.file, last.elapsed(&now));
        }
    }

    /// Begins to write what `source` says is in force.
    ///
    /// # Errors
    ///
    /// When the thread cannot be started.
    pub fn start(
        self,
        source: impl Fn() -> Arc<Snapshot> + Send + 'static,
        registry: &Registry,
    ) -> Result<Store, OpenError> {
        let abandoned = Arc::new(AtomicBool::new(false));
        let keeper = StoreWriter::new(
            Arc::new(self.place),
            *self.secret.bytes(),
            Box::new(source),
            abandoned.clone(),
            registry,
        );
        let (stop, stopped) = mpsc::channel();
        let good = self.loaded.good;
        let thread = Builder::new()
            .name("store".into())
            .spawn(move || keeper.keep(good, &stopped))
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
    /// Set when nothing waits for the thread any more: changes are another store's from then on.
    abandoned: Arc<AtomicBool>,
}

impl Store {
    /// Writes what is left, and gives the place free for another process. Waits for the disk, within bounds.
    pub fn stop(self) {
        drop(self.stop);
        let told = std::time::Instant::now();
        while !self.thread.is_finished() {
            if told.elapsed() > LAST_WRITE {
                self.abandoned.store(true, Ordering::Relaxed);
                tracing::error!(target: "lyncpin::store", "affinity store: could not flush the last changes to disk within {} s", LAST_WRITE.as_secs());
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        if self.thread.join().is_err() {
            tracing::error!(target: "lyncpin::store", "affinity store: its thread panicked");
        }
    }
}
